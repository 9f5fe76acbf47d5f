/* SPDX-License-Identifier: MIT */
/* S^T of one block with vdpbf16ps: keys are the rows of dot_bf16.h's tiles, query rows the lanes. */
#ifndef CRIT_KERNELS_X86_DOT_SCORES_H
#define CRIT_KERNELS_X86_DOT_SCORES_H

#include "kernels/x86/bf16_pack.h"
#include "kernels/x86/dot_bf16.h"

_Static_assert((int)COL == (int)DOT_LANES && (int)STRIP_COLS == (int)DOT_COLS, "a column is a vector");

/* s [n_col][32 keys][16], columns s_col apart: keys of k, rows `apart` values apart, against q [n_col][d/2][16][2]. */
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
