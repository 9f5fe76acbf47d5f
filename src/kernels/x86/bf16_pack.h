/* SPDX-License-Identifier: MIT */
/* What attend and block_lse on KV_BF16T share: operands as products of bf16 pairs want them, and 2^x in f32.
 *
 * Scores are transposed, S^T = K Q^T: K is read as it lies in the store, 16 query rows are a column of tiles or the
 * lanes of a vector. */
#ifndef CRIT_KERNELS_X86_BF16_PACK_H
#define CRIT_KERNELS_X86_BF16_PACK_H

#include <math.h>
#include <string.h>

#include "kernels/attend_scratch.h"
#include "kernels/x86/bf16.h"

enum { BLK = CRIT_BLK_LEN, KEYS = CRIT_ATTEND_KEYS, GROUP = CRIT_ATTEND_GROUP };
enum { COL = 16, STRIP_COLS = 2, STRIP = COL * STRIP_COLS }; /* rows of a column, of a strip */

#define LOG2E 0x1.715476p+0f

CRIT_INLINE size_t size_min(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Up to 16 rows of q -> [w/2][16][2] bf16, scaled; values from d to w and rows from n_row on are 0. */
static void pack_q(const float *q, size_t q_stride, size_t n_row, size_t d, size_t w, float scale, uint16_t *qt) {
    const __m256 f = _mm256_set1_ps(scale);
    memset(qt + d * COL, 0, (w - d) * COL * sizeof *qt);
    for (size_t r = 0; r < COL; r += 8) {
        for (size_t e = 0; e < d; e += 8) {
            __m256 x[8];
            CRIT_UNROLL for (size_t i = 0; i < 8; i++) x[i] =
                r + i < n_row ? _mm256_mul_ps(f, _mm256_loadu_ps(q + (r + i) * q_stride + e)) : _mm256_setzero_ps();
            crit_transpose_8x8(x);
            CRIT_UNROLL for (size_t i = 0; i < 8; i += 2)
                _mm256_store_si256((__m256i *)(void *)(qt + (e + i) * COL + 2 * r), bf16_pairs(x[i], x[i + 1]));
        }
    }
}

/* K row-major, 32 rows of d -> of w values. */
static void pad_k(const uint16_t *k, size_t d, size_t w, uint16_t *to) {
    for (size_t j = 0; j < BLK; j++, k += d, to += w) {
        memcpy(to, k, d * sizeof *to);
        memset(to + d, 0, (w - d) * sizeof *to);
    }
}

/* 2^x for -100 <= x <= 0 (below: 2^-100), exactly 1 at 0, relative error 1.7e-7.  NaN stays NaN. */
CRIT_INLINE __m512 exp2_neg(__m512 x) {
    const __m512 magic = _mm512_set1_ps(0x1.8p+23f);
    x = _mm512_max_ps(_mm512_set1_ps(-100.0f), x);
    const __m512 t = _mm512_add_ps(x, magic), f = _mm512_sub_ps(x, _mm512_sub_ps(t, magic));
    __m512 p = _mm512_set1_ps(0x1.5bba14p-10f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.3cea88p-7f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.c6b752p-5f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.ebf9bcp-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.62e42ap-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}

#endif
