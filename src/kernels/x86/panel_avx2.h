/* SPDX-License-Identifier: MIT */
/* Loads and transpositions for decoding quantised rows, AVX2; shared by the AVX2 and AVX-512 kernels. */
#ifndef CRIT_PANEL_AVX2_H
#define CRIT_PANEL_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define CRIT_AI static inline __attribute__((always_inline))

CRIT_AI uint32_t load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

CRIT_AI uint16_t load_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

CRIT_AI __m256i load_256(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

/* One f16 at the same offset of eight rows. */
CRIT_AI __m256 f16_of_rows(const uint8_t *const *row, size_t off) {
    __m128i v = _mm_cvtsi32_si128(load_u16(row[0] + off));
    v = _mm_insert_epi16(v, load_u16(row[1] + off), 1);
    v = _mm_insert_epi16(v, load_u16(row[2] + off), 2);
    v = _mm_insert_epi16(v, load_u16(row[3] + off), 3);
    v = _mm_insert_epi16(v, load_u16(row[4] + off), 4);
    v = _mm_insert_epi16(v, load_u16(row[5] + off), 5);
    v = _mm_insert_epi16(v, load_u16(row[6] + off), 6);
    v = _mm_insert_epi16(v, load_u16(row[7] + off), 7);
    return _mm256_cvtph_ps(v);
}

CRIT_AI __m256i u32_of_rows(const uint8_t *const *row, size_t off) {
    return _mm256_setr_epi32((int)load_u32(row[0] + off), (int)load_u32(row[1] + off), (int)load_u32(row[2] + off),
                             (int)load_u32(row[3] + off), (int)load_u32(row[4] + off), (int)load_u32(row[5] + off),
                             (int)load_u32(row[6] + off), (int)load_u32(row[7] + off));
}

/* 16 bytes of eight rows -> v[t] = dword t of each row. */
CRIT_AI void rows_16(const uint8_t *const *row, size_t off, __m256i v[4]) {
#define PAIR(i)                                                                                                        \
    _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(row[i] + off))),                  \
                            _mm_loadu_si128((const __m128i *)(row[(i) + 4] + off)), 1)
    __m256i a = PAIR(0), b = PAIR(1), c = PAIR(2), d = PAIR(3);
#undef PAIR
    __m256i ab0 = _mm256_unpacklo_epi32(a, b), ab1 = _mm256_unpackhi_epi32(a, b);
    __m256i cd0 = _mm256_unpacklo_epi32(c, d), cd1 = _mm256_unpackhi_epi32(c, d);
    v[0] = _mm256_unpacklo_epi64(ab0, cd0);
    v[1] = _mm256_unpackhi_epi64(ab0, cd0);
    v[2] = _mm256_unpacklo_epi64(ab1, cd1);
    v[3] = _mm256_unpackhi_epi64(ab1, cd1);
}

CRIT_AI void rows_32(const uint8_t *const *row, size_t off, __m256i v[8]) {
    rows_16(row, off, v);
    rows_16(row, off + 16, v + 4);
}

CRIT_AI void put_f(float *dst, size_t g, size_t half, __m256 v) {
    _mm256_storeu_ps(dst + g * 16 + half * 8, v);
}

CRIT_AI __m256i lo4(__m256i v) {
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}
CRIT_AI __m256i hi4(__m256i v) {
    return lo4(_mm256_srli_epi16(v, 4));
}
CRIT_AI __m256i bits(__m256i v, int shift, int mask) {
    return _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128(shift)), _mm256_set1_epi8((char)mask));
}

/* Byte j of each dword, zero-extended. */
CRIT_AI __m256i byte_of(__m256i v, int j) {
    return _mm256_and_si256(_mm256_srl_epi32(v, _mm_cvtsi32_si128(8 * j)), _mm256_set1_epi32(255));
}

/* ---- the 16 values of IQ4_NL and IQ4_XS, and the eight signed scales of an IQ4_XS block: d scales_h scales_l[4] ----
 */

#define CRIT_IQ4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113

CRIT_AI __m256i iq4_xs_scales(const uint8_t *w) {
    __m256i h = _mm256_srlv_epi32(_mm256_set1_epi32(load_u16(w + 2)), _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
    __m256i l =
        _mm256_srlv_epi32(_mm256_set1_epi32((int)load_u32(w + 4)), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    h = _mm256_slli_epi32(_mm256_and_si256(h, _mm256_set1_epi32(3)), 4);
    l = _mm256_and_si256(l, _mm256_set1_epi32(15));
    return _mm256_sub_epi32(_mm256_or_si256(h, l), _mm256_set1_epi32(32));
}

/* Scale of group j of the block at off, d times the group's own, for eight rows. */
CRIT_AI void iq4_xs_scales_of_rows(const uint8_t *const *row, size_t off, __m256 scale[8]) {
    const __m256 d = f16_of_rows(row, off);
    int32_t s[8][8];
    for (size_t r = 0; r < 8; r++) _mm256_storeu_si256((__m256i *)s[r], iq4_xs_scales(row[r] + off));
    for (size_t j = 0; j < 8; j++)
        scale[j] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_setr_epi32(s[0][j], s[1][j], s[2][j], s[3][j], s[4][j],
                                                                         s[5][j], s[6][j], s[7][j])));
}

/* A product by one row asks for the next weights of its row: the hardware stops at 4 KB pages. */
CRIT_AI void fetch_ahead(const uint8_t *w, const size_t bytes) {
    _Pragma("GCC unroll 5") for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)w + 2048 + i, _MM_HINT_T0);
}

#endif
