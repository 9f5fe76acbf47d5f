/* SPDX-License-Identifier: MIT */
/* What the kernels of the AMX level share: one tile configuration, and fences around tiles.
 *
 * All eight tiles are 16 rows of 64 bytes, always: shapes that are not multiples of a tile are padded with zeros in
 * memory, so there is one configuration and no way to load or multiply the wrong shape.  A call configures at its
 * start and releases at its end, so that a caller's thread is left without tile state.
 *
 * A tile product A B with tdpbf16ps: A row-major [16][32 values], B in pairs [16][16 columns][2], the sum [16][16] f32.
 * Subnormals count as 0 there, in and out. */
#ifndef CRIT_KERNELS_X86_AMX_H
#define CRIT_KERNELS_X86_AMX_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/x86/bf16.h"

enum { AMX_ROWS = 16, AMX_BYTES = 64, AMX_DEPTH = 32 /* bf16 values a row */ };

/* gcc's tile loads and its _tile_loadconfig do not say that they read memory: without this, stores before them are
 * moved behind them or dropped (gcc 12, -O3). */
#define AMX_FENCE() __asm__ volatile("" ::: "memory")

/* Values a row has once it is filled up to whole tiles. */
CRIT_INLINE size_t whole_tiles(size_t d) {
    return (d + AMX_DEPTH - 1) / AMX_DEPTH * AMX_DEPTH;
}

CRIT_INLINE void amx_begin(void) {
    struct {
        uint8_t palette, start_row, zero[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } cfg __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) cfg.colsb[i] = AMX_BYTES, cfg.rows[i] = AMX_ROWS;
    __asm__ volatile("" ::"r"(&cfg) : "memory");
    _tile_loadconfig(&cfg);
}
CRIT_INLINE void amx_end(void) {
    AMX_FENCE();
    _tile_release();
}

/* S^T of 32 keys for 32 query rows: k rows of d values, d apart; q [2][d / 2][16][2], two columns of tiles.  s: tiles
 * [16 keys][16 rows], the second 16 keys `half` and the second 16 rows `col` elements further on. */
CRIT_INLINE void amx_scores(const uint16_t *q, const uint16_t *k, size_t d, float *s, size_t half, size_t col) {
    const uint16_t *k1 = k + AMX_ROWS * d, *q1 = q + 16 * d;
    const long row = (long)(d * sizeof *k);
    AMX_FENCE();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t e = 0; e < d; e += AMX_DEPTH) {
        _tile_loadd(4, k + e, row);
        _tile_loadd(6, q + e * 16, AMX_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, q1 + e * 16, AMX_BYTES);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, k1 + e, row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, s, AMX_BYTES);
    _tile_stored(1, s + col, AMX_BYTES);
    _tile_stored(2, s + half, AMX_BYTES);
    _tile_stored(3, s + half + col, AMX_BYTES);
}

#endif
