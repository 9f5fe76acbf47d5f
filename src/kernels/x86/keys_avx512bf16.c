/* SPDX-License-Identifier: MIT */
/* key_scores and mix_values on KV_BF16T: K is bf16, V transposed bf16.
 *
 * Scores are those of keys_tmpl.h with other loads; values are turned, eight of d for a block's keys, into rows that
 * every query row then reads. */
#include <string.h>

#include "kernels/protos.h"
#include "kernels/x86/bf16.h"
#include "kernels/x86/sums_avx2.h"

#include "kernels/keys_tmpl.h"

#define SCORES(nr) KEY_SCORES_ROWS(bf16_load, nr)
KEYS_EACH(SCORES)

void crit_key_scores_avx512bf16(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, size_t n_key,
                                uint32_t d, float scale, float *s, size_t s_stride) {
    switch (n_row) { KEYS_EACH(KEY_SCORES_CASE) }
}

/* Values [0, 8) of n keys of a block, v at the first one's column, for all rows. */
CRIT_INLINE void mix_columns(const int nr, const float *p, size_t p_stride, const uint16_t *v, size_t n, float *o,
                             size_t o_stride) {
    __m256 x[CRIT_BLK_LEN], acc[CRIT_REP_MAX];
    CRIT_UNROLL for (int j = 0; j < CRIT_BLK_LEN; j += 8) {
        CRIT_UNROLL for (int e = 0; e < 8; e++) x[j + e] = bf16_load(v + e * CRIT_BLK_LEN + j);
        crit_transpose_8x8(x + j);
    }
    CRIT_UNROLL for (int r = 0; r < nr; r++) acc[r] = _mm256_loadu_ps(o + (size_t)r * o_stride);
    for (size_t j = 0; j < n; j++) /* keys behind n may be NaN: they are turned with the others and not used */
        CRIT_UNROLL for (int r = 0; r < nr; r++) acc[r] =
            _mm256_fmadd_ps(_mm256_set1_ps(p[(size_t)r * p_stride + j]), x[j], acc[r]);
    CRIT_UNROLL for (int r = 0; r < nr; r++) _mm256_storeu_ps(o + (size_t)r * o_stride, acc[r]);
}

#define MIX(nr)                                                                                                        \
    static __attribute__((noinline)) void mix_values_##nr(const float *p, size_t p_stride, const uint16_t *v,          \
                                                          size_t n_key, size_t d, float *o, size_t o_stride) {         \
        for (size_t j = 0; j < n_key; j += CRIT_BLK_LEN)                                                               \
            for (size_t e = 0; e < d; e += 8)                                                                          \
                mix_columns(nr, p + j, p_stride, v + j * d + e * CRIT_BLK_LEN,                                         \
                            n_key - j < CRIT_BLK_LEN ? n_key - j : CRIT_BLK_LEN, o + e, o_stride);                     \
    }
KEYS_EACH(MIX)

void crit_mix_values_avx512bf16(const float *p, size_t p_stride, uint32_t n_row, const uint16_t *v, size_t n_key,
                                uint32_t d, float *o, size_t o_stride) {
    switch (n_row) { KEYS_EACH(MIX_VALUES_CASE) }
}
