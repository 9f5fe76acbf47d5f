/* SPDX-License-Identifier: MIT */
/* Products of bf16 pairs with vdpbf16ps, for processors that run it at twice the rate of f32 FMA.
 *
 * A tile is 8 rows x 2 vectors of 16 lanes: 16 chains of additions, and one broadcast serves two products.  The rows'
 * pairs lie side by side in memory and are broadcast, the other operand stands in the lanes.  Subnormals count as 0, in
 * and out. */
#ifndef CRIT_KERNELS_X86_DOT_BF16_H
#define CRIT_KERNELS_X86_DOT_BF16_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/unroll.h"

#ifndef DOT_BF16 /* tests/emul has structs for vectors */
#define DOT_BF16(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#endif

enum { DOT_ROWS = 8, DOT_LANES = 16, DOT_COLS = 2 };

/* The pair of values at x in every lane. */
CRIT_INLINE __m512i dot_pair(const uint16_t *x) {
    int pair;
    memcpy(&pair, x, sizeof pair);
    return _mm512_set1_epi32(pair);
}

/* acc[c][i] += pairs of row i at x, `apart` values from row to row, times pairs [n / 2][16][2] of column c at y, y_col
 * from column to column; n values of each row. */
CRIT_INLINE void dot_tile(const int n_col, const uint16_t *x, size_t apart, const uint16_t *y, size_t y_col, size_t n,
                          __m512 (*acc)[DOT_ROWS]) {
    for (size_t e = 0; e < n; e += 2) {
        __m512i b[DOT_COLS];
        CRIT_UNROLL for (int c = 0; c < n_col; c++) b[c] = _mm512_load_si512(y + (size_t)c * y_col + e * DOT_LANES);
        CRIT_UNROLL for (size_t i = 0; i < DOT_ROWS; i++) {
            const __m512i a = dot_pair(x + i * apart + e);
            CRIT_UNROLL for (int c = 0; c < n_col; c++) acc[c][i] = DOT_BF16(acc[c][i], a, b[c]);
        }
    }
}

#endif
