/* SPDX-License-Identifier: MIT */
/* Float weights (F32, F16, BF16) as f32: loads, and panels of [input][16 outputs]. */
#ifndef CRIT_PANEL_F32_H
#define CRIT_PANEL_F32_H

#include "kernels/kernels.h"
#include "kernels/x86/panel_avx2.h"

/* n <= 8 weights at p, exact, 0 behind */
CRIT_AI __m256 load_w(const uint8_t *p, size_t n, crit_type type) {
    if (type == CRIT_T_F32) {
        if (n >= 8) return _mm256_loadu_ps((const float *)(const void *)p);
        float t[8] = {0};
        memcpy(t, p, n * 4);
        return _mm256_loadu_ps(t);
    }
    __m128i h;
    if (n >= 8)
        h = _mm_loadu_si128((const __m128i *)p);
    else {
        uint16_t t[8] = {0};
        memcpy(t, p, n * 2);
        h = _mm_loadu_si128((const __m128i *)t);
    }
    if (type == CRIT_T_F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* Inputs [k0, k0 + nk) of eight rows -> dst[k][16 outputs], transposed eight by eight; writes up to the next multiple
 * of eight inputs, zeros behind the row. */
CRIT_AI void decode8_f32(const uint8_t *const *row, size_t k0, size_t nk, float *dst, crit_type type) {
    const size_t bytes = type == CRIT_T_F32 ? 4 : 2;
    for (size_t k = 0; k < nk; k += 8) {
        __m256 v[8], t[8];
        for (size_t r = 0; r < 8; r++) v[r] = load_w(row[r] + (k0 + k) * bytes, nk - k, type);
        for (size_t i = 0; i < 4; i++) { /* pairs of rows, then quads, then halves */
            t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
        }
        for (size_t i = 0; i < 2; i++) {
            v[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
            v[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
            v[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
            v[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
        }
        for (size_t i = 0; i < 4; i++) {
            t[i] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x20);
            t[i + 4] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x31);
        }
        for (size_t i = 0; i < 8; i++) _mm256_storeu_ps(dst + (k + i) * CRIT_GEMM_NR, t[i]);
    }
}

#endif
