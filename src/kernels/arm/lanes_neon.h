/* SPDX-License-Identifier: MIT */
/* Small NEON pieces that the attention and estimation kernels share: widening, transposition, and the way between rows
 * and lanes that attend_tmpl.h wants (L_*). */
#ifndef CRIT_KERNELS_LANES_NEON_H
#define CRIT_KERNELS_LANES_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#include "kernels/unroll.h"

CRIT_INLINE float32x4_t crit_load_f16(const uint16_t *x) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x)));
}

CRIT_INLINE float32x4_t crit_and_f32(float32x4_t a, uint32x4_t mask) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), mask));
}

CRIT_INLINE float32x4_t crit_clear_f32(float32x4_t a, uint32x4_t mask) { /* 0 where the mask is set */
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), mask));
}

/* r[i] lane j <-> r[j] lane i */
CRIT_INLINE void crit_transpose_4x4(float32x4_t r[4]) {
    const float32x4x2_t a = vtrnq_f32(r[0], r[1]), b = vtrnq_f32(r[2], r[3]);
    r[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    r[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    r[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    r[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

/* acc += x * y[lane].  Not vfmaq_laneq_f32: gcc 12 copies the lane into a register of its own when several products
 * use it, and reorders a tile until its accumulators spill (37 extra instructions for 96 FMLA). */
#define CRIT_FMA_LANE(acc, x, y, lane) __asm__("fmla %0.4s, %1.4s, %2.s[" #lane "]" : "+w"(acc) : "w"(x), "w"(y))

typedef float32x4_t lvec;
#define L_W               4
#define L_ZERO()          vdupq_n_f32(0)
#define L_SET1(x)         vdupq_n_f32(x)
#define L_LOAD(p)         vld1q_f32(p)
#define L_LOAD_ANY(p)     vld1q_f32(p)
#define L_STORE(p, x)     vst1q_f32(p, x)
#define L_STORE_ANY(p, x) vst1q_f32(p, x)
#define L_ADD(a, b)       vaddq_f32(a, b)
#define L_SUB(a, b)       vsubq_f32(a, b)
#define L_MUL(a, b)       vmulq_f32(a, b)
#define L_DIV(a, b)       vdivq_f32(a, b)
#define L_MAX(a, b)       vbslq_f32(vcgtq_f32(a, b), a, b) /* not FMAX: b where one is NaN or both are 0 */
#define L_MIN(a, b)       vbslq_f32(vcltq_f32(a, b), a, b) /* likewise */
#define L_FMA(a, b, c)    vfmaq_f32(c, a, b)
#define L_AND(a, b)       crit_and_f32(a, vreinterpretq_u32_f32(b))
#define L_LESS(a, b)      vreinterpretq_f32_u32(vcltq_f32(a, b))
#define L_LOAD_F16(p)     crit_load_f16(p)
#define L_LOAD_F16_TOO(p) crit_load_f16(p)
#define L_TRANSPOSE(r)    crit_transpose_4x4(r)

/* 1 / l, and 0 where l is 0. */
CRIT_INLINE lvec l_inverse(lvec l) {
    return crit_clear_f32(vdivq_f32(vdupq_n_f32(1.0f), l), vceqzq_f32(l));
}

/* x = 2^e m, m in [.71, 1.41) */
CRIT_INLINE lvec l_split(lvec x, lvec *e) {
    const int32x4_t bits = vreinterpretq_s32_f32(x);
    const int32x4_t n = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3f3504f3)), 23);
    *e = vcvtq_f32_s32(n);
    return vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(n, 23)));
}

#endif
