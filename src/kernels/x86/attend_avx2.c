/* SPDX-License-Identifier: MIT */
/* attend and block_lse for AVX2 + FMA + F16C: strips of 32 rows.  The algorithm is in attend_tmpl.h, that of
 * decoding in attend_few.h. */
#include "kernels/protos.h"
#include "kernels/x86/attend_vec_avx2.h"
#include "kernels/x86/lanes_avx2.h"

/* 12 accumulators, 3 broadcasts and a load fill the 16 registers: 7 loads for 12 FMA.  Narrower strips take more keys.
 */
#define STRIP_NV   4
#define TILE_N(nv) ((nv) == 4 ? 3 : (nv) == 3 ? 4 : (nv) == 2 ? 6 : 8)
#define TILE_R(nv) ((nv) == 4 ? 2 : (nv) == 3 ? 4 : (nv) == 2 ? 4 : 8)

#include "kernels/attend_tmpl.h"
#include "kernels/x86/attend_few.h"

enum { FEW_ROWS = 8, FEW_ROWS_MAX = 24 }; /* some more rows: once for each eight, measured faster than strips */

void crit_attend_avx2(const crit_attend_args *a, void *scratch) {
    if (a->causal || a->n_row > FEW_ROWS_MAX || a->n_far || a->want) {
        attend(a, scratch);
        return;
    }
    crit_attend_args few = *a;
    for (uint32_t r = 0; r < a->n_row; r += FEW_ROWS) {
        few.q = a->q + r * a->q_stride;
        few.out = a->out + r * a->out_stride;
        few.lse = a->lse ? a->lse + r : NULL;
        few.n_row = a->n_row - r < FEW_ROWS ? a->n_row - r : FEW_ROWS;
        attend_few(&few, scratch);
    }
}

void crit_block_lse_avx2(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, const void *ready,
                         size_t n_key, uint32_t d, float scale, float *lse, float *top, size_t stride, void *scratch) {
    block_lse(q, q_stride, n_row, k, ready, n_key, d, scale, lse, top, stride, scratch);
}
