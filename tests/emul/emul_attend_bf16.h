/* SPDX-License-Identifier: MIT */
/* What attention on KV_BF16T uses beside emul_attend.h: its soft-max, and vdpbf16ps. */
#ifndef CRIT_TESTS_EMUL_ATTEND_BF16_H
#define CRIT_TESTS_EMUL_ATTEND_BF16_H

#include <math.h>
#include <string.h>

#include "emul_attend.h"

/* As documented: two FMAs, the upper values of the pairs first; subnormals are 0, in and out. */
EMUL __m256 emul_normal(__m256 x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    const __m256 tiny = _mm256_cmp_ps(_mm256_andnot_ps(sign, x), _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ);
    return _mm256_blendv_ps(x, _mm256_and_ps(sign, x), tiny);
}
EMUL __m256 emul_dot_8(__m256 sum, __m256i a, __m256i b) {
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    __m256 x[2] = {_mm256_castsi256_ps(_mm256_and_si256(a, high)), _mm256_castsi256_ps(_mm256_slli_epi32(a, 16))};
    __m256 y[2] = {_mm256_castsi256_ps(_mm256_and_si256(b, high)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
    sum = emul_normal(sum);
    for (int i = 0; i < 2; i++) sum = emul_normal(_mm256_fmadd_ps(emul_normal(x[i]), emul_normal(y[i]), sum));
    return sum;
}
EMUL emul_f512 emul_dot(emul_f512 sum, emul_i512 a, emul_i512 b) {
    return (emul_f512){emul_dot_8(sum.lo, a.lo, b.lo), emul_dot_8(sum.hi, a.hi, b.hi)};
}
#define DOT_BF16 emul_dot

EMUL emul_f512 emul_zero_unless(unsigned k, emul_f512 a) {
    return emul_blend(k, emul_set1(0), a);
}
EMUL emul_i512 emul_and_i(emul_i512 a, emul_i512 b) {
    return emul_bits(emul_and(emul_float(a), emul_float(b)));
}
EMUL emul_i512 emul_or_i(emul_i512 a, emul_i512 b) {
    return emul_bits(emul_or(emul_float(a), emul_float(b)));
}
EMUL void emul_store_i(void *p, emul_i512 a) {
    emul_store(p, emul_float(a));
}
EMUL emul_i512 emul_load_i(const void *p) {
    return emul_bits(emul_load(p));
}
EMUL emul_i512 emul_words(unsigned k, emul_i512 a, emul_i512 b) { /* b's where k says so */
    uint16_t x[32], y[32];
    memcpy(x, &a, 64), memcpy(y, &b, 64);
    for (int i = 0; i < 32; i++) x[i] = k >> i & 1 ? y[i] : x[i];
    memcpy(&a, x, 64);
    return a;
}
EMUL emul_i512 emul_logic(emul_i512 a, emul_i512 b, emul_i512 c, unsigned how) { /* bit 4a + 2b + c of how */
    uint32_t x[16], y[16], z[16];
    memcpy(x, &a, 64), memcpy(y, &b, 64), memcpy(z, &c, 64);
    for (int i = 0; i < 16; i++) {
        uint32_t r = 0;
        for (unsigned n = 0; n < 8; n++)
            if (how >> n & 1) r |= (n & 4 ? x[i] : ~x[i]) & (n & 2 ? y[i] : ~y[i]) & (n & 1 ? z[i] : ~z[i]);
        x[i] = r;
    }
    memcpy(&a, x, 64);
    return a;
}
EMUL emul_i512 emul_lookup(emul_i512 low, emul_i512 index, emul_i512 high) { /* bytes of a table of 128 */
    uint8_t table[128], at[64];
    memcpy(table, &low, 64), memcpy(table + 64, &high, 64), memcpy(at, &index, 64);
    for (int i = 0; i < 64; i++) at[i] = table[at[i] & 127];
    memcpy(&low, at, 64);
    return low;
}
EMUL emul_f512 emul_round(emul_f512 x, int how) { /* to multiples of 2^-n, nearest even; how is n << 4 */
    float v[16];
    memcpy(v, &x, 64);
    for (int i = 0; i < 16; i++)
        if (fabsf(v[i]) < 0x1p23f) v[i] = ldexpf(rintf(ldexpf(v[i], how >> 4)), -(how >> 4));
    memcpy(&x, v, 64);
    return x;
}

#undef _mm512_roundscale_ps
#undef _mm512_ternarylogic_epi32
#undef _mm512_insertf32x8
#undef _mm512_shuffle_f32x4
#define _mm512_castps256_ps512(a)        ((emul_f512){a, a})
#define _mm512_insertf32x8(a, b, half)   ((emul_f512){(a).lo, b})
#define _mm512_shuffle_f32x4(a, b, swap) ((emul_f512){(a).hi, (b).lo})
#define __m512i                          emul_i512
#define _mm512_mask_max_ps(src, k, a, b) emul_blend(k, src, emul_max(a, b))
#define _mm512_maskz_sub_ps(k, a, b)     emul_zero_unless(k, emul_sub(a, b))
#define _mm512_maskz_mov_ps              emul_zero_unless
#define _mm512_maskz_mov_epi32(k, a)     emul_bits(emul_zero_unless(k, emul_float(a)))
#define _mm512_mask_add_ps(src, k, a, b) emul_blend(k, src, emul_add(a, b))
#define _mm512_and_si512                 emul_and_i
#define _mm512_setzero_si512()           emul_set1_i32(0)
#define _mm512_load_si512                emul_load_i
#define _mm512_mask_blend_epi16          emul_words
#define _mm512_ternarylogic_epi32        emul_logic
#define _mm512_permutex2var_epi8         emul_lookup
#define _mm512_roundscale_ps             emul_round
#define _mm512_or_si512                  emul_or_i
#define _mm512_abs_ps(a)                 emul_and(a, emul_float(emul_set1_i32(0x7fffffff)))
#define _mm512_store_si512               emul_store_i

#endif
