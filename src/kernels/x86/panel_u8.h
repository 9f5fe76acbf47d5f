/* SPDX-License-Identifier: MIT */
/* Decoding of quantised weight rows into GEMM panels, AVX2; for the AVX2 and AVX-512 kernels.
 *
 * A panel holds CRIT_GEMM_NR = 16 outputs of some groups of 32 inputs, as small unsigned integers:
 *   q    [group][8][16][4]  u8   the 4 inputs of one step side by side for each output
 *   s, m [group][16]        f32  w = s * (q - 2^SHIFT) + m
 * and for types whose scales cover 16 inputs
 *   sub  [group][2][16]     i16 twice in 32 bits; w = s * sub * (q - 2^SHIFT) + m16
 *   m16  [group][2][16]     f32
 * m or m16 is filled only for types that have one.  Which SHIFT belongs to which decoder stands beside it.
 * Eight rows are decoded at a time: half 0 is outputs 0-7. */
#ifndef CRIT_PANEL_U8_H
#define CRIT_PANEL_U8_H

#include "kernels/x86/panel_avx2.h"

enum { PANEL_GROUPS = 32 /* K block: 1,024 inputs, 16 KB of q, half of L1; 3 % better than 512 */ };

typedef struct panel {
    uint8_t q[PANEL_GROUPS * 512];
    float s[PANEL_GROUPS * 16];
    float m[PANEL_GROUPS * 32];
    int32_t sub[PANEL_GROUPS * 32];
} panel;

CRIT_AI void put_q(panel *p, size_t g, size_t step, size_t half, __m256i v) {
    _mm256_storeu_si256((__m256i *)(p->q + g * 512 + step * 64 + half * 32), v);
}

/* Eight rows, groups [0, ng) counted from the row pointers. */
typedef void (*decode8_fn)(const uint8_t *const *row, size_t ng, panel *p, size_t half);

/* ---- 32 values a block: d [m] [qh] qs[16], value j in the low nibble of qs[j], j + 16 in the high one ---- */

/* The four high bits of step t become bit 4 of its four bytes. */
CRIT_AI __m256i fifth_bits(__m256i qh, int t) {
    const __m256i pick =
        _mm256_add_epi8(_mm256_set1_epi8((char)(t / 2)), _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0,
                                                                           0x04040404, 0x08080808, 0x0c0c0c0c));
    const __m256i mask = _mm256_set1_epi32(t % 2 ? (int)0x80402010u : 0x08040201);
    __m256i b = _mm256_and_si256(_mm256_shuffle_epi8(qh, pick), mask);
    return _mm256_and_si256(_mm256_cmpeq_epi8(b, mask), _mm256_set1_epi8(16));
}

CRIT_AI void decode8_q45(const uint8_t *const *row, size_t ng, panel *p, size_t half, int five, int has_m) {
    const size_t bytes = 18u + (has_m ? 2 : 0) + (five ? 4 : 0), at = bytes - 16;
    for (size_t g = 0; g < ng; g++) {
        size_t off = g * bytes;
        __m256i v[4];
        rows_16(row, off + at, v);
        __m256i qh = five ? u32_of_rows(row, off + at - 4) : _mm256_setzero_si256();
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) {
            __m256i lo = lo4(v[t]), hi = hi4(v[t]);
            if (five) {
                lo = _mm256_or_si256(lo, fifth_bits(qh, t));
                hi = _mm256_or_si256(hi, fifth_bits(qh, t + 4));
            }
            put_q(p, g, (size_t)t, half, lo);
            put_q(p, g, (size_t)t + 4, half, hi);
        }
        __m256 d = f16_of_rows(row, off);
        put_f(p->s, g, half, d);
        if (has_m) {
            __m256 m = f16_of_rows(row, off + 2);
            if (five) m = _mm256_fmadd_ps(d, _mm256_set1_ps(16.0f), m);
            put_f(p->m, g, half, m);
        }
    }
}

static void decode8_q4_0(const uint8_t *const *row, size_t ng, panel *p, size_t half) { /* SHIFT 3 */
    decode8_q45(row, ng, p, half, 0, 0);
}
static void decode8_q4_1(const uint8_t *const *row, size_t ng, panel *p, size_t half) { /* no shift, m */
    decode8_q45(row, ng, p, half, 0, 1);
}
static void decode8_q5_0(const uint8_t *const *row, size_t ng, panel *p, size_t half) { /* SHIFT 4 */
    decode8_q45(row, ng, p, half, 1, 0);
}
static void decode8_q5_1(const uint8_t *const *row, size_t ng, panel *p, size_t half) { /* SHIFT 4, m + 16 d */
    decode8_q45(row, ng, p, half, 1, 1);
}

/* ---- 256 values a block, scale and minimum of 6 bits per 32: d dmin scales[12] [qh[32]] qs[128] ---- */

CRIT_AI void decode8_k45(const uint8_t *const *row, size_t ng, panel *p, size_t half, int five) {
    const size_t bytes = five ? 176 : 144;
    for (size_t g = 0; g < ng; g += 8) {
        size_t off = g / 8 * bytes, qs = off + (five ? 48u : 16u);
        __m256 d = f16_of_rows(row, off), dmin = f16_of_rows(row, off + 2);
        /* scales of groups 0-3 are 6 bits of u0, those of 4-7 a nibble of u2 and the two bits u0 left over */
        __m256i u0 = u32_of_rows(row, off + 4), u1 = u32_of_rows(row, off + 8), u2 = u32_of_rows(row, off + 12);
        const __m256i k6 = _mm256_set1_epi8(0x3f), k2 = _mm256_set1_epi8(0x30);
        __m256i sc[2] = {_mm256_and_si256(u0, k6),
                         _mm256_or_si256(lo4(u2), _mm256_and_si256(_mm256_srli_epi16(u0, 2), k2))};
        __m256i mn[2] = {_mm256_and_si256(u1, k6),
                         _mm256_or_si256(hi4(u2), _mm256_and_si256(_mm256_srli_epi16(u1, 2), k2))};
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __m256 s = _mm256_mul_ps(d, _mm256_cvtepi32_ps(byte_of(sc[j / 4], j % 4)));
            __m256 m = _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(byte_of(mn[j / 4], j % 4)));
            m = five ? _mm256_fmsub_ps(s, _mm256_set1_ps(16.0f), m) : _mm256_sub_ps(_mm256_setzero_ps(), m);
            put_f(p->s, g + (size_t)j, half, s);
            put_f(p->m, g + (size_t)j, half, m);
        }
        __m256i h[8];
        if (five) rows_32(row, off + 16, h);
        for (int j = 0; j < 4; j++) { /* 32 bytes: groups 2j and 2j+1 */
            __m256i v[8];
            rows_32(row, qs + 32u * (size_t)j, v);
#pragma GCC unroll 8
            for (int t = 0; t < 8; t++) {
                __m256i lo = lo4(v[t]), hi = hi4(v[t]);
                if (five) {
                    lo = _mm256_or_si256(lo, _mm256_slli_epi16(bits(h[t], 2 * j, 1), 4));
                    hi = _mm256_or_si256(hi, _mm256_slli_epi16(bits(h[t], 2 * j + 1, 1), 4));
                }
                put_q(p, g + 2 * (size_t)j, (size_t)t, half, lo);
                put_q(p, g + 2 * (size_t)j + 1, (size_t)t, half, hi);
            }
        }
    }
}

static void decode8_q4_k(const uint8_t *const *row, size_t ng, panel *p, size_t half) { /* no shift, m */
    decode8_k45(row, ng, p, half, 0);
}
static void decode8_q5_k(const uint8_t *const *row, size_t ng, panel *p, size_t half) { /* SHIFT 4, m */
    decode8_k45(row, ng, p, half, 1);
}

/* ---- 256 values a block, scales per 16 ---- */

/* Byte j of each dword, sign-extended, twice as int16. */
CRIT_AI __m256i sub_of(__m256i v, int j) {
    const __m256i pick =
        _mm256_add_epi8(_mm256_set1_epi8((char)j), _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0,
                                                                     0x04040404, 0x08080808, 0x0c0c0c0c));
    return _mm256_srai_epi16(_mm256_slli_epi16(_mm256_shuffle_epi8(v, pick), 8), 8);
}

CRIT_AI void put_sub(panel *p, size_t g16, size_t half, __m256i v) {
    _mm256_storeu_si256((__m256i *)(p->sub + g16 * 16 + half * 8), v);
}

/* ql[128] qh[64] scales[16] d; SHIFT 5.  A half block's byte l of qh carries bits 4-5 of values l, l+32, l+64, l+96. */
static void decode8_q6_k(const uint8_t *const *row, size_t ng, panel *p, size_t half) {
    for (size_t g = 0; g < ng; g += 8) {
        size_t off = g / 8 * 210;
        __m256i sc[4];
        rows_16(row, off + 192, sc);
        __m256 d = f16_of_rows(row, off + 208);
        for (int j = 0; j < 16; j++) put_sub(p, 2 * g + (size_t)j, half, sub_of(sc[j / 4], j % 4));
        for (size_t j = 0; j < 8; j++) put_f(p->s, g + j, half, d);
        for (size_t n = 0; n < 2; n++) {
            __m256i a[8], b[8], h[8];
            rows_32(row, off + n * 64, a);
            rows_32(row, off + n * 64 + 32, b);
            rows_32(row, off + 128 + n * 32, h);
#pragma GCC unroll 8
            for (size_t t = 0; t < 8; t++) {
                const __m256i k = _mm256_set1_epi8(0x30);
                __m256i h0 = _mm256_and_si256(_mm256_slli_epi16(h[t], 4), k);
                __m256i h1 = _mm256_and_si256(_mm256_slli_epi16(h[t], 2), k);
                __m256i h2 = _mm256_and_si256(h[t], k);
                __m256i h3 = _mm256_and_si256(_mm256_srli_epi16(h[t], 2), k);
                put_q(p, g + 4 * n, t, half, _mm256_or_si256(lo4(a[t]), h0));
                put_q(p, g + 4 * n + 1, t, half, _mm256_or_si256(lo4(b[t]), h1));
                put_q(p, g + 4 * n + 2, t, half, _mm256_or_si256(hi4(a[t]), h2));
                put_q(p, g + 4 * n + 3, t, half, _mm256_or_si256(hi4(b[t]), h3));
            }
        }
    }
}

/* hmask[32] qs[64] scales[12] d; SHIFT 2.  Bit g of hmask[l] is bit 2 of value 32 g + l. */
static void decode8_q3_k(const uint8_t *const *row, size_t ng, panel *p, size_t half) {
    for (size_t g = 0; g < ng; g += 8) {
        size_t off = g / 8 * 110;
        __m256 d = f16_of_rows(row, off + 108);
        __m256i u0 = u32_of_rows(row, off + 96), u1 = u32_of_rows(row, off + 100), u2 = u32_of_rows(row, off + 104);
        const __m256i k = _mm256_set1_epi8(0x30), k32 = _mm256_set1_epi8(32);
        __m256i sc[4] = {_mm256_or_si256(lo4(u0), _mm256_and_si256(_mm256_slli_epi16(u2, 4), k)),
                         _mm256_or_si256(lo4(u1), _mm256_and_si256(_mm256_slli_epi16(u2, 2), k)),
                         _mm256_or_si256(hi4(u0), _mm256_and_si256(u2, k)),
                         _mm256_or_si256(hi4(u1), _mm256_and_si256(_mm256_srli_epi16(u2, 2), k))};
        for (int j = 0; j < 16; j++)
            put_sub(p, 2 * g + (size_t)j, half, sub_of(_mm256_sub_epi8(sc[j / 4], k32), j % 4));
        for (size_t j = 0; j < 8; j++) put_f(p->s, g + j, half, d);
        __m256i h[8];
        rows_32(row, off, h);
        for (int n = 0; n < 2; n++) {
            __m256i v[8];
            rows_32(row, off + 32 + 32u * (size_t)n, v);
            for (int j = 0; j < 4; j++)
#pragma GCC unroll 8
                for (size_t t = 0; t < 8; t++)
                    put_q(p, g + (size_t)(4 * n + j), t, half,
                          _mm256_or_si256(bits(v[t], 2 * j, 3), _mm256_slli_epi16(bits(h[t], 4 * n + j, 1), 2)));
        }
    }
}

/* scales[16] qs[64] d dmin; no shift, m16.  A scale byte: scale in the low nibble, minimum in the high one. */
static void decode8_q2_k(const uint8_t *const *row, size_t ng, panel *p, size_t half) {
    for (size_t g = 0; g < ng; g += 8) {
        size_t off = g / 8 * 84;
        __m256 d = f16_of_rows(row, off + 80), dmin = f16_of_rows(row, off + 82);
        dmin = _mm256_sub_ps(_mm256_setzero_ps(), dmin);
        __m256i sc[4];
        rows_16(row, off, sc);
        for (int j = 0; j < 16; j++) {
            put_sub(p, 2 * g + (size_t)j, half, sub_of(lo4(sc[j / 4]), j % 4));
            put_f(p->m, 2 * g + (size_t)j, half,
                  _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(byte_of(hi4(sc[j / 4]), j % 4))));
        }
        for (size_t j = 0; j < 8; j++) put_f(p->s, g + j, half, d);
        for (int n = 0; n < 2; n++) {
            __m256i v[8];
            rows_32(row, off + 16 + 32u * (size_t)n, v);
            for (int j = 0; j < 4; j++)
#pragma GCC unroll 8
                for (size_t t = 0; t < 8; t++) put_q(p, g + (size_t)(4 * n + j), t, half, bits(v[t], 2 * j, 3));
        }
    }
}

#endif
