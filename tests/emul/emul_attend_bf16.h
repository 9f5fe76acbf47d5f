/* SPDX-License-Identifier: MIT */
/* What attention on KV_BF16T uses beside emul_attend.h: its soft-max, and vdpbf16ps. */
#ifndef CRIT_TESTS_EMUL_ATTEND_BF16_H
#define CRIT_TESTS_EMUL_ATTEND_BF16_H

#include <math.h>
#include <string.h>

#include "emul_attend.h"

#include "emul_dot.h"

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
