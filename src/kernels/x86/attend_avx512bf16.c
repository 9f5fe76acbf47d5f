/* SPDX-License-Identifier: MIT */
/* attend with vdpbf16ps: the products of attend_bf16_tmpl.h in lanes. */
#include "kernels/protos.h"
#include "kernels/x86/bf16_weights.h"
#include "kernels/x86/dot_scores.h"

enum { AHEAD_QK = 32, AHEAD_PV = 4 }; /* lines asked for after 32 values of d, after a tile of a block; see ahead.h */

#define WIDE(d) (d)
#define BEGIN()
#define END()

static void qk(int n_col, const uint16_t *q, const uint16_t *k, size_t apart, size_t d, float *s, list_ahead *f) {
    if (n_col == 1)
        dot_scores(1, q, k, apart, d, s, 0);
    else
        dot_scores(2, q, k, apart, d, s, KEYS * COL);
    for (size_t e = 0; e < d; e += 32) ahead_lines(f, AHEAD_QK);
}

CRIT_INLINE void mix(const int n_col, const uint16_t *p, const uint16_t *const *v, size_t n_blk, size_t d, float *o,
                     list_ahead *f) {
    for (size_t e = 0; e < d; e += DOT_ROWS, o += DOT_ROWS * COL) {
        __m512 acc[STRIP_COLS][DOT_ROWS];
        CRIT_UNROLL for (int c = 0; c < n_col; c++) {
            CRIT_UNROLL for (size_t i = 0; i < DOT_ROWS; i++)
                acc[c][i] = _mm512_load_ps(o + ((size_t)c * d + i) * COL);
        }
        for (size_t b = 0; b < n_blk; b++) {
            dot_tile(n_col, v[b] + e * BLK, BLK, p + b * STRIP_COLS * P_TILE, P_TILE, BLK, acc);
            ahead_lines(f, AHEAD_PV);
        }
        CRIT_UNROLL for (int c = 0; c < n_col; c++) {
            CRIT_UNROLL for (size_t i = 0; i < DOT_ROWS; i++)
                _mm512_store_ps(o + ((size_t)c * d + i) * COL, acc[c][i]);
        }
    }
}

static void pv(int n_col, const uint16_t *p, const uint16_t *const *v, size_t n_blk, size_t d, float *o,
               list_ahead *f) {
    if (n_col == 1)
        mix(1, p, v, n_blk, d, o, f);
    else
        mix(2, p, v, n_blk, d, o, f);
}

#include "kernels/x86/attend_bf16_tmpl.h"

void crit_attend_avx512bf16(const crit_attend_args *a, void *scratch) {
    attend(a, scratch);
}
