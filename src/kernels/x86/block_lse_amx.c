/* SPDX-License-Identifier: MIT */
/* block_lse on AMX tiles: the products of block_lse_bf16_tmpl.h.                                   [alg:calibrate] */
#include "kernels/protos.h"
#include "kernels/x86/amx.h"
#include "kernels/x86/bf16_pack.h"

#define WIDE(d) whole_tiles(d)
#define BEGIN() amx_begin()
#define END()   amx_end()

/* S of two blocks for one column of rows, so that four chains of products are in flight; k1 may be k. */
static void qk_pair(const uint16_t *q, const uint16_t *k, const uint16_t *k1, size_t d, float *s) {
    const long row = (long)(d * sizeof *k);
    AMX_FENCE();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t e = 0; e < d; e += AMX_DEPTH) {
        _tile_loadd(6, q + e * COL, AMX_BYTES);
        _tile_loadd(4, k + e, row);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, k + 16 * d + e, row);
        _tile_dpbf16ps(1, 5, 6);
        _tile_loadd(4, k1 + e, row);
        _tile_dpbf16ps(2, 4, 6);
        _tile_loadd(5, k1 + 16 * d + e, row);
        _tile_dpbf16ps(3, 5, 6);
    }
    _tile_stored(0, s, AMX_BYTES);
    _tile_stored(1, s + 16 * COL, AMX_BYTES);
    _tile_stored(2, s + 32 * COL, AMX_BYTES);
    _tile_stored(3, s + 48 * COL, AMX_BYTES);
}

static void scores(int n_col, const uint16_t *q, const uint16_t *k, const uint16_t *k1, size_t d, float *s) {
    if (n_col == 1) {
        qk_pair(q, k, k1 ? k1 : k, d, s);
    } else {
        amx_scores(q, k, d, s, AMX_ROWS * COL, KEYS * COL);
        if (k1) amx_scores(q, k1, d, s + BLK * COL, AMX_ROWS * COL, KEYS * COL);
    }
}

#include "kernels/x86/block_lse_bf16_tmpl.h"

void crit_block_lse_amx(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, const void *ready,
                        size_t n_key, uint32_t d, float scale, float *lse, float *best, size_t stride, void *scratch) {
    (void)ready;
    block_lse(q, q_stride, n_row, k, n_key, d, scale, lse, best, stride, scratch);
}
