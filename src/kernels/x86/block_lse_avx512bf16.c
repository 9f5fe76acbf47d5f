/* SPDX-License-Identifier: MIT */
/* block_lse with vdpbf16ps: the products of block_lse_bf16_tmpl.h in lanes.                        [alg:calibrate] */
#include "kernels/protos.h"
#include "kernels/x86/dot_scores.h"

#define WIDE(d) (d)
#define BEGIN()
#define END()

static void scores(int n_col, const uint16_t *q, const uint16_t *k, const uint16_t *k1, size_t d, float *s) {
    for (; k; k = k1, k1 = NULL, s += BLK * COL) {
        if (n_col == 1)
            dot_scores(1, q, k, d, d, s, 0);
        else
            dot_scores(2, q, k, d, d, s, KEYS * COL);
    }
}

#include "kernels/x86/block_lse_bf16_tmpl.h"

void crit_block_lse_avx512bf16(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, const void *ready,
                               size_t n_key, uint32_t d, float scale, float *lse, float *best, size_t stride,
                               void *scratch) {
    (void)ready;
    block_lse(q, q_stride, n_row, k, n_key, d, scale, lse, best, stride, scratch);
}
