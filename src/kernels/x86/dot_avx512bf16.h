/* SPDX-License-Identifier: MIT */
/* Products of bf16 pairs with vdpbf16ps, for processors that run it at twice the rate of f32 FMA.
 *
 * A lane is a query row.  Pairs of K's values, or of a row of V^T, lie side by side in the store and are broadcast;
 * those of Q and P stand in the lanes.  Tiles are 8 keys (or values of V) x two vectors of rows: 16 chains of
 * additions, and one broadcast serves two products.  Subnormals count as 0, in and out. */
#ifndef CRIT_KERNELS_X86_DOT_AVX512BF16_H
#define CRIT_KERNELS_X86_DOT_AVX512BF16_H

#include "kernels/x86/bf16_pack.h"

#ifndef DOT_BF16 /* tests/emul has structs for vectors */
#define DOT_BF16(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#endif

enum { DOT_ROWS = 8 };

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
        __m512i b[STRIP_COLS];
        CRIT_UNROLL for (int c = 0; c < n_col; c++) b[c] = _mm512_load_si512(y + (size_t)c * y_col + e * COL);
        CRIT_UNROLL for (size_t i = 0; i < DOT_ROWS; i++) {
            const __m512i a = dot_pair(x + i * apart + e);
            CRIT_UNROLL for (int c = 0; c < n_col; c++) acc[c][i] = DOT_BF16(acc[c][i], a, b[c]);
        }
    }
}

/* S of one block as attend_bf16_tmpl.h wants it. */
CRIT_INLINE void dot_scores(const int n_col, const uint16_t *q, const uint16_t *k, size_t apart, size_t d, float *s,
                            size_t s_col) {
    for (size_t j = 0; j < BLK; j += DOT_ROWS) {
        __m512 acc[STRIP_COLS][DOT_ROWS];
        CRIT_UNROLL for (int c = 0; c < n_col; c++) {
            CRIT_UNROLL for (int i = 0; i < DOT_ROWS; i++) acc[c][i] = _mm512_setzero_ps();
        }
        dot_tile(n_col, k + j * apart, apart, q, COL * d, d, acc);
        CRIT_UNROLL for (int c = 0; c < n_col; c++) {
            CRIT_UNROLL for (size_t i = 0; i < DOT_ROWS; i++)
                _mm512_store_ps(s + (size_t)c * s_col + (j + i) * COL, acc[c][i]);
        }
    }
}

#endif
