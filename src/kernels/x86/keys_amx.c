/* SPDX-License-Identifier: MIT */
/* key_scores of the AMX level: on tiles where d fills them, else in the lanes of keys_avx512bf16.c.
 *
 * Eight rows of q leave half a tile empty, so q goes there in parts: the 24 bits of an f32 are those of three bf16, and
 * S^T = K Q^T is the sum of three columns.  Products are then as exact as those of f32, and K is read as it lies. */
#include <string.h>

#include "kernels/protos.h"
#include "kernels/x86/amx.h"

enum { COL = 16, PARTS = 3 };

/* x as bf16 in the upper halves of the lanes, and what is left of it. */
CRIT_INLINE __m256i next_part(__m256 *x) {
    const __m256i high = _mm256_and_si256(bf16_high(*x), _mm256_set1_epi32((int)0xffff0000u));
    *x = _mm256_sub_ps(*x, _mm256_castsi256_ps(high));
    return high;
}

/* qt [2][d/2][COL][2]: parts 0 and 1 of row r in columns r and 8 + r of the first half, part 2 in the second. */
static void pack_parts(const float *q, size_t q_stride, uint32_t n_row, size_t d, uint16_t *qt) {
    memset(qt, 0, 2 * d * COL * sizeof *qt);
    for (size_t r = 0; r < n_row; r++)
        for (size_t e = 0; e < d; e += 8) {
            __m256 x = _mm256_loadu_ps(q + r * q_stride + e);
            for (size_t p = 0; p < PARTS; p++) {
                uint32_t pair[8];
                const __m256i high = next_part(&x); /* odd lanes get the even one before them below */
                _mm256_storeu_si256((__m256i *)(void *)pair,
                                    _mm256_or_si256(high, _mm256_srli_epi64(_mm256_slli_epi64(high, 32), 16)));
                uint16_t *to = qt + p / 2 * d * COL + (e / 2 * COL + p % 2 * 8 + r) * 2;
                for (size_t i = 0; i < 4; i++) memcpy(to + i * COL * 2, pair + 2 * i + 1, sizeof *pair);
            }
        }
}

/* Asks for the next n lines of keys, a few at a time as in ahead.h, up to their end; returns where to go on. */
CRIT_INLINE const char *ask(const char *at, const char *to, size_t n) {
    for (; n && at < to; n--, at += 64) __builtin_prefetch(at, 0, 2);
    return at;
}

static void scores_on_tiles(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, size_t n_key, size_t d,
                            float scale, float *s, size_t s_stride) {
    enum { KEYS = 2 * AMX_ROWS };
    uint16_t qt[2 * CRIT_D_HEAD_MAX * COL] __attribute__((aligned(64))), pad[KEYS * CRIT_D_HEAD_MAX];
    float sum[4 * AMX_ROWS * COL] __attribute__((aligned(64)));
    const char *end = (const char *)(k + n_key * d), *ahead = ask((const char *)k, end, 2 * d); /* lines of KEYS: d */
    pack_parts(q, q_stride, n_row, d, qt);
    amx_begin();
    for (size_t j = 0; j < n_key; j += KEYS) {
        const size_t n = n_key - j < KEYS ? n_key - j : KEYS;
        const uint16_t *at = k + j * d;
        if (n < KEYS) {
            memcpy(pad, at, n * d * sizeof *pad);
            memset(pad + n * d, 0, (KEYS - n) * d * sizeof *pad);
            at = pad;
        }
        amx_scores(qt, at, d, sum, 2 * AMX_ROWS * COL, AMX_ROWS * COL);
        for (size_t g = 0; g < n; g += 8) {
            ahead = ask(ahead, end, d / 4);
            const float *a = sum + g / AMX_ROWS * 2 * AMX_ROWS * COL + g % AMX_ROWS * COL, *b = a + AMX_ROWS * COL;
            __m256 x[8];
            CRIT_UNROLL for (int i = 0; i < 8; i++) {
                const __m256 low = _mm256_add_ps(_mm256_load_ps(a + i * COL + 8), _mm256_load_ps(b + i * COL));
                x[i] = _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_add_ps(_mm256_load_ps(a + i * COL), low));
            }
            crit_transpose_8x8(x);
            CRIT_UNROLL for (uint32_t r = 0; r < 8; r++) {
                float *to = s + r * s_stride + j + g;
                if (r >= n_row) continue;
                if (n - g >= 8)
                    _mm256_storeu_ps(to, x[r]);
                else
                    memcpy(to, &x[r], (n - g) * sizeof *to);
            }
        }
    }
    amx_end();
}

void crit_key_scores_amx(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, size_t n_key, uint32_t d,
                         float scale, float *s, size_t s_stride) {
    if (d % AMX_DEPTH == 0)
        scores_on_tiles(q, q_stride, n_row, k, n_key, d, scale, s, s_stride);
    else
        crit_key_scores_avx512bf16(q, q_stride, n_row, k, n_key, d, scale, s, s_stride);
}
