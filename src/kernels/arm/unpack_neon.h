/* SPDX-License-Identifier: MIT */
/* Quantised blocks to signed bytes, NEON; for gemm and gemv.
 *
 * SDOT multiplies signed by signed, so weights are used with their offset taken off (q - 8, q - 16, q - 32, ..) and no
 * correction by the activations' sums is left; types with a minimum keep their unsigned q, below 128 anyway.
 * A group is 32 inputs: v[0] inputs 0-15, v[1] 16-31. */
#ifndef CRIT_UNPACK_NEON_H
#define CRIT_UNPACK_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "kernels/unroll.h"

CRIT_INLINE uint32_t load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

CRIT_INLINE uint16_t load_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

CRIT_INLINE float f16_at(const uint8_t *p) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(load_u16(p)))), 0);
}

CRIT_INLINE int8x16_t as_s8(uint8x16_t v) {
    return vreinterpretq_s8_u8(v);
}
CRIT_INLINE uint8x16_t lo4(uint8x16_t v) {
    return vandq_u8(v, vdupq_n_u8(15));
}
CRIT_INLINE uint8x16_t hi4(uint8x16_t v) {
    return vshrq_n_u8(v, 4);
}
/* (v >> shift) & mask; shift is constant once unrolled */
CRIT_INLINE uint8x16_t bits(uint8x16_t v, int shift, int mask) {
    return vandq_u8(vshlq_u8(v, vdupq_n_s8((signed char)-shift)), vdupq_n_u8((uint8_t)mask));
}

/* ---- 32 values a block: [qh] qs[16], value j in the low nibble of qs[j], j + 16 in the high one ---- */

CRIT_INLINE void unpack_nibbles(const uint8_t *qs, int offset, int8x16_t v[2]) {
    const uint8x16_t x = vld1q_u8(qs);
    v[0] = as_s8(lo4(x)), v[1] = as_s8(hi4(x));
    if (offset)
        v[0] = vsubq_s8(v[0], vdupq_n_s8((signed char)offset)), v[1] = vsubq_s8(v[1], vdupq_n_s8((signed char)offset));
}

/* Bit 4 of value i is bit i of qh; signed: 16 is taken off, which sets the high nibble where the bit is clear. */
CRIT_INLINE void unpack_q5(const uint8_t *qs, uint32_t qh, int is_signed, int8x16_t v[2]) {
    static const uint8_t which[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1},
                         bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t x = vld1q_u8(qs), h = vreinterpretq_u8_u32(vdupq_n_u32(qh)), w = vld1q_u8(which);
    const uint8x16_t h0 = vtstq_u8(vqtbl1q_u8(h, w), vld1q_u8(bit));
    const uint8x16_t h1 = vtstq_u8(vqtbl1q_u8(h, vaddq_u8(w, vdupq_n_u8(2))), vld1q_u8(bit));
    const uint8x16_t high = vdupq_n_u8(is_signed ? 0xf0 : 0x10);
    v[0] = as_s8(vorrq_u8(lo4(x), is_signed ? vbicq_u8(high, h0) : vandq_u8(high, h0)));
    v[1] = as_s8(vorrq_u8(hi4(x), is_signed ? vbicq_u8(high, h1) : vandq_u8(high, h1)));
}

CRIT_INLINE void unpack_q8(const uint8_t *q, int8x16_t v[2]) {
    v[0] = as_s8(vld1q_u8(q)), v[1] = as_s8(vld1q_u8(q + 16));
}

CRIT_INLINE void unpack_iq4(const uint8_t *qs, int8x16_t v[2]) {
    static const int8_t value[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    const uint8x16_t x = vld1q_u8(qs);
    const int8x16_t t = vld1q_s8(value);
    v[0] = vqtbl1q_s8(t, lo4(x)), v[1] = vqtbl1q_s8(t, hi4(x));
}

/* The eight signed scales of an IQ4_XS block: d scales_h scales_l[4]. */
CRIT_INLINE void iq4_xs_scales(const uint8_t *w, int32x4_t s[2]) {
    static const int32_t by2[8] = {0, -2, -4, -6, -8, -10, -12, -14}, by4[8] = {0, -4, -8, -12, -16, -20, -24, -28};
    const uint32x4_t h = vdupq_n_u32(load_u16(w + 2)), l = vdupq_n_u32(load_u32(w + 4));
    CRIT_UNROLL for (int i = 0; i < 2; i++) {
        const uint32x4_t hi = vandq_u32(vshlq_u32(h, vld1q_s32(by2 + 4 * i)), vdupq_n_u32(3));
        const uint32x4_t lo = vandq_u32(vshlq_u32(l, vld1q_s32(by4 + 4 * i)), vdupq_n_u32(15));
        s[i] = vsubq_s32(vreinterpretq_s32_u32(vorrq_u32(vshlq_n_u32(hi, 4), lo)), vdupq_n_s32(32));
    }
}

/* ---- 256 values a block; group g of its eight ---- */

/* Q4_K, Q5_K: 32 bytes hold groups 2j (low nibbles) and 2j + 1; qh (Q5_K) bit g of byte l is bit 4 of value l. */
CRIT_INLINE void unpack_k45(const uint8_t *qs, const uint8_t *qh, int g, int8x16_t v[2]) {
    CRIT_UNROLL for (int i = 0; i < 2; i++) {
        const uint8x16_t x = vld1q_u8(qs + 32 * (g / 2) + 16 * i);
        uint8x16_t q = g % 2 ? hi4(x) : lo4(x);
        if (qh) q = vorrq_u8(q, vshlq_n_u8(bits(vld1q_u8(qh + 16 * i), g, 1), 4));
        v[i] = as_s8(q);
    }
}

/* Their eight scales and minima of 6 bits: those of groups 0-3 are 6 bits of the first and the second four bytes, those
 * of 4-7 a nibble of the last four and the two bits the first ones left over. */
CRIT_INLINE void k45_scales(const uint8_t *sc, uint8x8_t *scale, uint8x8_t *min) {
    const uint32_t u0 = load_u32(sc), u1 = load_u32(sc + 4), u2 = load_u32(sc + 8);
    const uint64_t hi_s = (u2 & 0x0f0f0f0f) | (u0 >> 2 & 0x30303030);
    const uint64_t hi_m = (u2 >> 4 & 0x0f0f0f0f) | (u1 >> 2 & 0x30303030);
    *scale = vcreate_u8((u0 & 0x3f3f3f3f) | hi_s << 32);
    *min = vcreate_u8((u1 & 0x3f3f3f3f) | hi_m << 32);
}

/* Q6_K, minus 32: ql[128] qh[64]; of each half block, byte l of qh carries bits 4-5 of values l, l+32, l+64, l+96. */
CRIT_INLINE void unpack_q6(const uint8_t *w, int g, int8x16_t v[2]) {
    CRIT_UNROLL for (int i = 0; i < 2; i++) {
        const uint8x16_t x = vld1q_u8(w + 64 * (g / 4) + 32 * (g % 2) + 16 * i);
        const uint8x16_t h = bits(vld1q_u8(w + 128 + 32 * (g / 4) + 16 * i), 2 * (g % 4), 3);
        const uint8x16_t q = vorrq_u8(g % 4 < 2 ? lo4(x) : hi4(x), vshlq_n_u8(h, 4));
        v[i] = vsubq_s8(as_s8(q), vdupq_n_s8(32));
    }
}

/* Q3_K, minus 4: hmask[32] qs[64]; bit g of hmask[l] is bit 2 of value 32 g + l. */
CRIT_INLINE void unpack_q3(const uint8_t *w, int g, int8x16_t v[2]) {
    CRIT_UNROLL for (int i = 0; i < 2; i++) {
        const uint8x16_t q = bits(vld1q_u8(w + 32 + 32 * (g / 4) + 16 * i), 2 * (g % 4), 3);
        const uint8x16_t h = bits(vld1q_u8(w + 16 * i), g, 1);
        v[i] = vsubq_s8(as_s8(vorrq_u8(q, vshlq_n_u8(h, 2))), vdupq_n_s8(4));
    }
}

CRIT_INLINE int8x16_t q3_scales(const uint8_t *sc) {
    const uint32_t u0 = load_u32(sc), u1 = load_u32(sc + 4), u2 = load_u32(sc + 8), k4 = 0x0f0f0f0f, k2 = 0x30303030;
    const uint64_t a = (u0 & k4) | (u2 << 4 & k2), b = (u1 & k4) | (u2 << 2 & k2);
    const uint64_t c = (u0 >> 4 & k4) | (u2 & k2), d = (u1 >> 4 & k4) | (u2 >> 2 & k2);
    return vsubq_s8(vcombine_s8(vcreate_s8(a | b << 32), vcreate_s8(c | d << 32)), vdupq_n_s8(32));
}

/* Q2_K: scales[16] qs[64] d dmin; a scale byte holds the scale in its low nibble, the minimum in the high one. */
CRIT_INLINE void unpack_q2(const uint8_t *w, int g, int8x16_t v[2]) {
    CRIT_UNROLL for (int i = 0; i < 2; i++) v[i] =
        as_s8(bits(vld1q_u8(w + 16 + 32 * (g / 4) + 16 * i), 2 * (g % 4), 3));
}

/* Sixteen bytes -> int32 */
CRIT_INLINE void widen_s8(int8x16_t x, int32x4_t y[4]) {
    const int16x8_t lo = vmovl_s8(vget_low_s8(x)), hi = vmovl_high_s8(x);
    y[0] = vmovl_s16(vget_low_s16(lo)), y[1] = vmovl_high_s16(lo);
    y[2] = vmovl_s16(vget_low_s16(hi)), y[3] = vmovl_high_s16(hi);
}

CRIT_INLINE void widen_u8(uint8x8_t x, float32x4_t y[2]) {
    const uint16x8_t h = vmovl_u8(x);
    y[0] = vcvtq_f32_u32(vmovl_u16(vget_low_u16(h))), y[1] = vcvtq_f32_u32(vmovl_high_u16(h));
}

#endif
