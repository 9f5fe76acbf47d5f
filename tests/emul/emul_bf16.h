/* SPDX-License-Identifier: MIT */
/* The AVX-512 intrinsics that the bf16 packing and GEMM, and the SiLU at its end, use beside those of emul_gemm.h, lane
 * by lane in plain C. */
#ifndef CRIT_TESTS_EMUL_BF16_H
#define CRIT_TESTS_EMUL_BF16_H

#include "emul_gemm.h"

EMUL void emul_storeu_i(void *p, emul_i512 x) {
    memcpy(p, &x, sizeof x);
}
EMUL emul_i512 emul_and_i(emul_i512 a, emul_i512 b) {
    EACH a.v[i] &= b.v[i];
    return a;
}
EMUL emul_i512 emul_srli(emul_i512 a, unsigned n) {
    EACH a.v[i] = (int32_t)((uint32_t)a.v[i] >> n);
    return a;
}
EMUL emul_i512 emul_srai(emul_i512 a, unsigned n) {
    EACH a.v[i] = a.v[i] >> n;
    return a;
}
EMUL emul_f512 emul_cvtph(__m256i h) {
    uint16_t u[16];
    _mm256_storeu_si256((__m256i *)u, h);
    emul_f512 r;
    EACH r.v[i] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(u[i])));
    return r;
}
EMUL emul_i512 emul_permute_words(emul_i512 idx, emul_i512 a) {
    uint16_t i16[32], w[32], r[32];
    memcpy(i16, &idx, 64), memcpy(w, &a, 64);
    for (int i = 0; i < 32; i++) r[i] = w[i16[i] & 31];
    memcpy(&a, r, 64);
    return a;
}

/* As documented: nearest even whatever MXCSR says, subnormals are 0 of their sign, NaN becomes quiet. */
EMUL uint16_t emul_bf16(float x) {
    uint32_t b;
    memcpy(&b, &x, 4);
    const uint32_t sign = b & 0x80000000u, mag = b & 0x7fffffffu;
    if (mag > 0x7f800000u) return (uint16_t)((b | 0x400000u) >> 16);
    if (mag < 0x00800000u) return (uint16_t)(sign >> 16);
    const uint32_t low = mag & 0xffffu, up = mag >> 16;
    return (uint16_t)(sign >> 16 | (up + (low > 0x8000u || (low == 0x8000u && up % 2))));
}
EMUL emul_i512 emul_cvtne2(emul_f512 hi, emul_f512 lo) {
    uint16_t w[32];
    EACH w[i] = emul_bf16(lo.v[i]), w[i + 16] = emul_bf16(hi.v[i]);
    emul_i512 r;
    memcpy(&r, w, 64);
    return r;
}

#define EMUL_F(name, expr)                                                                                             \
    EMUL emul_f512 name(emul_f512 a, emul_f512 b) {                                                                    \
        EACH {                                                                                                         \
            const float x = a.v[i], y = b.v[i];                                                                        \
            a.v[i] = expr;                                                                                             \
        }                                                                                                              \
        return a;                                                                                                      \
    }
EMUL_F(emul_add, x + y)
EMUL_F(emul_sub, x - y)
EMUL_F(emul_div, x / y)
EMUL_F(emul_max, x > y ? x : y)
EMUL emul_i512 emul_bits(emul_f512 a) {
    emul_i512 r;
    memcpy(&r, &a, sizeof r);
    return r;
}
EMUL emul_f512 emul_float(emul_i512 a) {
    emul_f512 r;
    memcpy(&r, &a, sizeof r);
    return r;
}
EMUL emul_f512 emul_or_f(emul_f512 a, emul_f512 b) {
    emul_i512 x = emul_bits(a), y = emul_bits(b);
    EACH x.v[i] |= y.v[i];
    return emul_float(x);
}
EMUL emul_i512 emul_add_i32(emul_i512 a, emul_i512 b) {
    EACH a.v[i] = (int32_t)((uint32_t)a.v[i] + (uint32_t)b.v[i]);
    return a;
}
EMUL emul_i512 emul_slli(emul_i512 a, unsigned n) {
    EACH a.v[i] = (int32_t)((uint32_t)a.v[i] << n);
    return a;
}
EMUL uint16_t emul_less(emul_f512 a, emul_f512 b, int how) {
    uint16_t m = 0;
    if (how != _CMP_LT_OQ) __builtin_trap();
    EACH m |= (uint16_t)((a.v[i] < b.v[i]) << i);
    return m;
}
EMUL emul_f512 emul_blend(unsigned m, emul_f512 a, emul_f512 b) {
    EACH a.v[i] = m >> i & 1 ? b.v[i] : a.v[i];
    return a;
}

#undef _mm512_srli_epi32
#undef _mm512_slli_epi32
#undef _mm512_cmp_ps_mask
#define _mm512_setzero_ps()           emul_set1_f(0)
#define _mm512_add_ps                 emul_add
#define _mm512_sub_ps                 emul_sub
#define _mm512_div_ps                 emul_div
#define _mm512_max_ps                 emul_max
#define _mm512_or_ps                  emul_or_f
#define _mm512_castps_si512           emul_bits
#define _mm512_castsi512_ps           emul_float
#define _mm512_add_epi32              emul_add_i32
#define _mm512_slli_epi32             emul_slli
#define _mm512_mask_blend_ps          emul_blend
#define _mm512_cmp_ps_mask(a, b, how) emul_less(a, b, how)
#undef _mm512_srai_epi32
#define _mm512_storeu_si512      emul_storeu_i
#define _mm512_and_si512         emul_and_i
#define _mm512_srli_epi32        emul_srli
#define _mm512_srai_epi32        emul_srai
#define _mm512_cvtph_ps          emul_cvtph
#define _mm512_permutexvar_epi16 emul_permute_words
#define _mm512_cvtne2ps_pbh      emul_cvtne2
#define BF16_BITS(v)             (v)

#endif
