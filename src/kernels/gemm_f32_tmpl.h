/* SPDX-License-Identifier: MIT */
/* The loops of a product on float weights around a register tile of MR x 16: included once by gemm_f32_<isa>.c.
 *
 * The includer brings KC inputs a panel, MR = 6, panel_f32 { w [KC][16], c [MR][16] }, decode_panel, tile(rows, ...),
 * and panel_rows, tile_begin and tile_end of its level. */
#include <string.h>

#include "kernels/unroll.h"

typedef void (*tile_fn)(const float *w, const uint8_t *a, size_t row_bytes, size_t nk, float *c);
#define TILE(n)                                                                                                        \
    static void tile_##n(const float *w, const uint8_t *a, size_t row_bytes, size_t nk, float *c) {                    \
        tile(n, w, a, row_bytes, nk, c);                                                                               \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
_Static_assert(MR == 6, "a tile for every number of rows");

CRIT_INLINE void gemm_float(const crit_gemm_args *a, size_t n0, size_t n1, panel_f32 *p, crit_type type) {
    static const tile_fn tiles[MR] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};
    const size_t row_bytes = crit_act_row_bytes(CRIT_ACT_F32, a->n_in);
    memset((void *)p->c, 0, sizeof p->c);
    for (size_t n = n0; n < n1; n += CRIT_GEMM_NR) {
        const size_t nv = n1 - n < CRIT_GEMM_NR ? n1 - n : CRIT_GEMM_NR;
        const uint8_t *row[CRIT_GEMM_NR];
        panel_rows(a, n, nv, row);
        for (size_t k = 0; k < a->n_in; k += KC) {
            const size_t nk = a->n_in - k < KC ? a->n_in - k : KC;
            decode_panel(row, k, nk, p->w, type);
            for (size_t r = 0; r < a->n_row; r += MR) {
                const size_t nr = a->n_row - r < MR ? a->n_row - r : MR;
                tile_begin(a, p->c, r, nr, n, nv, k == 0);
                tiles[nr - 1](p->w, (const uint8_t *)a->act + r * row_bytes + k * 4, row_bytes, nk, p->c);
                tile_end(a, p->c, r, nr, n, nv);
            }
        }
    }
}
