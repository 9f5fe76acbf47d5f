/* SPDX-License-Identifier: MIT */
/* block_lse on products of bf16 pairs: scores of two blocks at a time, then log-sum-exp down the columns.
 *                                                                                                  [alg:calibrate]
 * The file in front defines WIDE, BEGIN and END as for attend_bf16_tmpl.h, and
 *   scores(n_col, q, k, k1, d, s): S of block k and, unless it is NULL, k1, into s [n_col][2][BLK][COL]; rows of K
 *     are d values, q [n_col][d/2][16][2]. */
#ifndef CRIT_KERNELS_X86_BLOCK_LSE_BF16_TMPL_H
#define CRIT_KERNELS_X86_BLOCK_LSE_BF16_TMPL_H

#include "kernels/lanes_log.h"

#define LN2 0x1.62e430p-1f

/* Log-sum-exp and maximum of nb slabs' columns, a slab [BLK][COL], the slabs' chains side by side. */
CRIT_INLINE void lse_slabs(const int nb, const float *s, float *lse, float *best) {
    __m512 m[2], l[2][2];
    CRIT_UNROLL for (int b = 0; b < nb; b++) {
        m[b] = _mm512_load_ps(s + b * BLK * COL);
        l[b][0] = l[b][1] = _mm512_setzero_ps();
    }
    for (size_t j = 1; j < BLK; j++) {
        CRIT_UNROLL for (int b = 0; b < nb; b++) m[b] = _mm512_max_ps(_mm512_load_ps(s + (b * BLK + j) * COL), m[b]);
    }
    for (size_t j = 0; j < BLK; j += 2) {
        CRIT_UNROLL for (size_t i = 0; i < 2; i++) {
            CRIT_UNROLL for (int b = 0; b < nb; b++) l[b][i] =
                _mm512_add_ps(l[b][i], exp2_neg(_mm512_sub_ps(_mm512_load_ps(s + (b * BLK + j + i) * COL), m[b])));
        }
    }
    CRIT_UNROLL for (int b = 0; b < nb; b++) {
        float *at = lse + b * COL;
        const __m512 top = _mm512_mul_ps(m[b], _mm512_set1_ps(LN2));
        _mm512_store_ps(at, _mm512_add_ps(l[b][0], l[b][1]));
        CRIT_UNROLL for (int h = 0; h < COL; h += 8) _mm256_store_ps(at + h, l_log(_mm256_load_ps(at + h)));
        _mm512_store_ps(at, _mm512_fmadd_ps(m[b], _mm512_set1_ps(LN2), _mm512_load_ps(at)));
        _mm512_store_ps(best + b * COL, top);
    }
}

/* What n_blk (1 or 2) blocks say of up to 16 rows, s [2][BLK][COL]. */
static void put_lse(const float *s, size_t n_blk, size_t n_row, float *lse, float *best, size_t stride) {
    float x[2][2 * COL] __attribute__((aligned(64)));
    if (n_blk == 2)
        lse_slabs(2, s, x[0], x[1]);
    else
        lse_slabs(1, s, x[0], x[1]);
    for (size_t r = 0; r < n_row; r++)
        for (size_t b = 0; b < n_blk; b++)
            lse[r * stride + b] = x[0][b * COL + r], best[r * stride + b] = x[1][b * COL + r];
}

static void block_lse(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, size_t n_key, uint32_t d,
                      float scale, float *lse, float *best, size_t stride, void *scratch) {
    const size_t w = WIDE(d);
    float *s = scratch;
    uint16_t *qt = (uint16_t *)(void *)(s + STRIP_COLS * KEYS * COL), *k_copy = qt + STRIP * w;
    const int n_col = n_row > COL ? 2 : 1;
    for (size_t c = 0; c < (size_t)n_col; c++)
        pack_q(q + c * COL * q_stride, q_stride, size_min(n_row - c * COL, COL), d, w, scale * LOG2E, qt + c * COL * w);
    BEGIN();
    for (size_t base = 0; base < n_key; base += KEYS, lse += GROUP, best += GROUP) {
        const size_t n = size_min(n_key - base, KEYS), n_blk = n > BLK ? 2 : 1;
        const uint16_t *at = k + base * d, *at1 = n_blk == 2 ? at + BLK * d : NULL;
        if (w != d) {
            pad_k(at, d, w, k_copy);
            at = k_copy;
            if (at1) {
                pad_k(at1, d, w, k_copy + BLK * w);
                at1 = k_copy + BLK * w;
            }
        }
        scores(n_col, qt, at, at1, w, s);
        for (size_t c = 0; c < (size_t)n_col; c++) {
            float *slab = s + c * KEYS * COL;
            for (size_t j = n; j < n_blk * BLK; j++) _mm512_store_ps(slab + j * COL, _mm512_set1_ps(-INFINITY));
            put_lse(slab, n_blk, size_min(n_row - c * COL, COL), lse + c * COL * stride, best + c * COL * stride,
                    stride);
        }
    }
    END();
}

#endif
