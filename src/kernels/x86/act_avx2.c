/* SPDX-License-Identifier: MIT */
/* Packing of activations, AVX2: the same bits as kernels/c/act.c for every input. */
#include <immintrin.h>
#include <math.h>
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

AI int16_t low(int v) {
    return (int16_t)v;
}

void crit_act_pack_i8_avx2(const float *x, size_t n_in, void *dst) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), one8 = _mm256_set1_epi8(1);
    size_t g = 0;
    for (; g * CRIT_ACT_LEN < n_in; g++) {
        __m256 v[4];
        float inv;
        crit_act_i8 a;
        memset(a.pad, 0, sizeof a.pad);
        a.s = load_group(x, n_in, g, 127.0f, v, &inv);
        __m256i q = _mm256_setzero_si256();
        if (inv > 0) {
            __m256i lo = _mm256_packs_epi32(quantise(v[0], inv), quantise(v[1], inv));
            __m256i hi = _mm256_packs_epi32(quantise(v[2], inv), quantise(v[3], inv));
            q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(lo, hi), order);
        }
        _mm256_storeu_si256((__m256i *)a.q, q);
        /* pair sums, then dwords hold the (first two, last two) lanes of one step; four steps a half */
        __m256i t = _mm256_maddubs_epi16(one8, q);
        t = _mm256_add_epi16(t, _mm256_shuffle_epi32(t, 0x4e));
        t = _mm256_add_epi16(t, _mm256_shuffle_epi32(t, 0xb1));
        int h0 = _mm256_extract_epi32(t, 0), h1 = _mm256_extract_epi32(t, 4);
        int l00 = low(h0), l01 = h0 >> 16, l10 = low(h1), l11 = h1 >> 16;
        memcpy(a.lane_half[0], &h0, 4);
        memcpy(a.lane_half[1], &h1, 4);
        a.lane[0] = (int16_t)(l00 + l10);
        a.lane[1] = (int16_t)(l01 + l11);
        a.sum_half[0] = a.s * (float)(l00 + l01);
        a.sum_half[1] = a.s * (float)(l10 + l11);
        a.sum = a.s * (float)(l00 + l01 + l10 + l11);
        memcpy((char *)dst + g * sizeof a, &a, sizeof a);
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
