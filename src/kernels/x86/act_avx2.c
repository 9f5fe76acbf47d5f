/* SPDX-License-Identifier: MIT */
/* Packing of activations, AVX2: the same bits as kernels/c/act.c for every input. */
#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels/act.h"
#include "kernels/protos.h"

#define AI static inline __attribute__((always_inline))

/* Loads a group (zeros behind n_in) and returns its scale as group_scale does; inv 0 means: all integers are 0. */
AI float load_group(const float *x, size_t n_in, size_t g, float qmax, __m256 v[4], float *inv) {
    size_t k0 = g * CRIT_ACT_LEN;
    if (n_in - k0 >= CRIT_ACT_LEN)
        for (size_t i = 0; i < 4; i++) v[i] = _mm256_loadu_ps(x + k0 + 8 * i);
    else {
        float t[CRIT_ACT_LEN] = {0};
        memcpy(t, (const char *)x + k0 * sizeof *t, (n_in - k0) * sizeof *t);
        for (size_t i = 0; i < 4; i++) v[i] = _mm256_loadu_ps(t + 8 * i);
    }
    /* as integers, magnitudes order like floats and infinity and NaN are the largest */
    const __m256i mag = _mm256_set1_epi32(0x7fffffff);
    __m256i a = _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(v[0]), mag),
                                 _mm256_and_si256(_mm256_castps_si256(v[1]), mag));
    __m256i b = _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(v[2]), mag),
                                 _mm256_and_si256(_mm256_castps_si256(v[3]), mag));
    a = _mm256_max_epi32(a, b);
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    int bits = _mm_cvtsi128_si32(m);
    float amax;
    memcpy(&amax, &bits, sizeof amax);
    *inv = 0;
    if (bits >= 0x7f800000) return NAN;
    if (amax < CRIT_ACT_TINY) return 0;
    float s = amax / qmax;
    *inv = 1.0f / s;
    return s;
}

AI __m256i quantise(__m256 v, float inv) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(v, _mm256_set1_ps(inv)));
}

/* The record leaves in vectors: put together on the stack, its copy waited for the stores of its fields. */
void crit_act_pack_i8_avx2(const float *x, size_t n_in, void *dst) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), one8 = _mm256_set1_epi8(1);
    size_t g = 0;
    for (; g * CRIT_ACT_LEN < n_in; g++) {
        __m256 v[4];
        float inv;
        const __m128 s = _mm_set1_ps(load_group(x, n_in, g, 127.0f, v, &inv));
        __m256i q = _mm256_setzero_si256();
        if (inv > 0) {
            __m256i lo = _mm256_packs_epi32(quantise(v[0], inv), quantise(v[1], inv));
            __m256i hi = _mm256_packs_epi32(quantise(v[2], inv), quantise(v[3], inv));
            q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(lo, hi), order);
        }
        /* pair sums, then dwords hold the (first two, last two) lanes of one step; four steps a half */
        __m256i t = _mm256_maddubs_epi16(one8, q);
        t = _mm256_add_epi16(t, _mm256_shuffle_epi32(t, 0x4e));
        t = _mm256_add_epi16(t, _mm256_shuffle_epi32(t, 0xb1));
        const __m128i h0 = _mm256_castsi256_si128(t), h1 = _mm256_extracti128_si256(t, 1), both = _mm_add_epi16(h0, h1);
        const __m128i sums = _mm_madd_epi16(_mm_blend_epi32(_mm_blend_epi32(both, h0, 4), h1, 8), _mm_set1_epi16(1));
        /* sums and start: of all, of all, of the halves */
        const __m128i start = _mm_sub_epi32(_mm_setzero_si128(), _mm_slli_epi32(sums, 7));
        const __m128i lanes = _mm_blend_epi32(_mm_blend_epi32(h0, h1, 2),
                                              _mm_blend_epi32(both, _mm_shuffle_epi32(start, 0), 8), 12);
        const __m128 scaled = _mm_blend_ps(_mm_mul_ps(s, _mm_cvtepi32_ps(sums)), s, 1);
        char *to = (char *)dst + g * CRIT_ACT_I8_BYTES;
        _mm256_storeu_si256((__m256i *)(void *)(to + offsetof(crit_act_i8, q)), q);
        _mm_storeu_ps((float *)(void *)(to + offsetof(crit_act_i8, s)),
                      _mm_blend_ps(scaled, _mm_castsi128_ps(start), 12));
        _mm_storeu_si128((__m128i *)(void *)(to + offsetof(crit_act_i8, lane_half)), lanes);
    }
    size_t bytes = g * CRIT_ACT_I8_BYTES;
    memset((char *)dst + bytes, 0, crit_act_row_bytes(CRIT_ACT_I8, n_in) - bytes);
}

void crit_act_pack_i16_avx2(const float *x, size_t n_in, void *dst) {
    size_t g = 0;
    for (; g * CRIT_ACT_LEN < n_in; g++) {
        __m256 v[4];
        float inv;
        float s = load_group(x, n_in, g, (float)CRIT_ACT_I16_MAX, v, &inv);
        __m256i q0 = _mm256_setzero_si256(), q1 = q0;
        if (inv > 0) {
            q0 = _mm256_packs_epi32(quantise(v[0], inv), quantise(v[1], inv));
            q1 = _mm256_packs_epi32(quantise(v[2], inv), quantise(v[3], inv));
            q0 = _mm256_permute4x64_epi64(q0, 0xd8);
            q1 = _mm256_permute4x64_epi64(q1, 0xd8);
        }
        char *d = (char *)dst + g * CRIT_ACT_I16_BYTES;
        _mm256_storeu_si256((__m256i *)d, q0);
        _mm256_storeu_si256((__m256i *)(d + 32), q1);
        memcpy(d + 64, &s, sizeof s);
    }
    size_t bytes = g * CRIT_ACT_I16_BYTES;
    memset((char *)dst + bytes, 0, crit_act_row_bytes(CRIT_ACT_I16, n_in) - bytes);
}
