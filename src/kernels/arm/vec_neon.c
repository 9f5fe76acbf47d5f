/* SPDX-License-Identifier: MIT */
/* The rest of a layer, NEON.  Ragged ends go through a vector on the stack, so that an element's bits do not depend on
 * its place. */
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels/protos.h"
#include "kernels/unroll.h"

CRIT_INLINE float32x4_t load_n(const float *p, size_t n) {
    if (n >= 4) return vld1q_f32(p);
    float t[4] = {0};
    memcpy(t, (const void *)p, n * sizeof *t);
    return vld1q_f32(t);
}
CRIT_INLINE void store_n(float *p, size_t n, float32x4_t v) {
    if (n >= 4) {
        vst1q_f32(p, v);
        return;
    }
    float t[4];
    vst1q_f32(t, v);
    memcpy((void *)p, t, n * sizeof *t);
}

/* Sums in double: the result then does not depend on how lanes were cut, to f32's last bit or so. */
void crit_rmsnorm_neon(const float *x, const float *w, float *y, size_t n, float eps) {
    if (!n) return;
    float64x2_t s0 = vdupq_n_f64(0), s1 = s0;
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t v = load_n(x + i, n - i);
        const float64x2_t lo = vcvt_f64_f32(vget_low_f32(v)), hi = vcvt_high_f64_f32(v);
        s0 = vfmaq_f64(s0, lo, lo);
        s1 = vfmaq_f64(s1, hi, hi);
    }
    const float64x1_t mean = vdup_n_f64(vaddvq_f64(vaddq_f64(s0, s1)) / (double)n + (double)eps);
    const double scale = 1.0 / vget_lane_f64(vsqrt_f64(mean), 0);
    /* scaled in double as well: 1/sqrt(eps) times a large x must not overflow before it is rounded */
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t v = load_n(x + i, n - i);
        const float32x2_t lo = vcvt_f32_f64(vmulq_n_f64(vcvt_f64_f32(vget_low_f32(v)), scale));
        const float32x4_t all = vcvt_high_f32_f64(lo, vmulq_n_f64(vcvt_high_f64_f32(v), scale));
        store_n(y + i, n - i, vmulq_f32(all, load_n(w + i, n - i)));
    }
}

void crit_rope_neox_neon(float *x, size_t n_head, uint32_t d, uint32_t n_rot, const float *cosv, const float *sinv) {
    const size_t half = n_rot / 2;
    for (size_t h = 0; h < n_head; h++) {
        float *a = x + h * d, *b = a + half;
        for (size_t i = 0; i < half; i += 4) {
            const size_t n = half - i;
            const float32x4_t p = load_n(a + i, n), q = load_n(b + i, n), c = load_n(cosv + i, n),
                              s = load_n(sinv + i, n);
            store_n(a + i, n, vfmsq_f32(vmulq_f32(p, c), q, s));
            store_n(b + i, n, vfmaq_f32(vmulq_f32(q, c), p, s));
        }
    }
}

void crit_rope_norm_neon(float *x, size_t n_head, uint32_t d, uint32_t n_rot, const float *cosv, const float *sinv) {
    const size_t half = n_rot / 2;
    for (size_t h = 0; h < n_head; h++) {
        float *a = x + h * d;
        for (size_t i = 0; i < half; i += 4) { /* four pairs */
            const size_t n = half - i;
            const float32x4_t c = load_n(cosv + i, n), s = load_n(sinv + i, n);
            float t[8] = {0};
            if (n < 4) memcpy(t, (const void *)(a + 2 * i), 2 * n * sizeof *t);
            float32x4x2_t v = vld2q_f32(n < 4 ? t : a + 2 * i);
            const float32x4_t p = v.val[0], q = v.val[1];
            v.val[0] = vfmsq_f32(vmulq_f32(p, c), q, s);
            v.val[1] = vfmaq_f32(vmulq_f32(q, c), p, s);
            vst2q_f32(n < 4 ? t : a + 2 * i, v);
            if (n < 4) memcpy((void *)(a + 2 * i), t, 2 * n * sizeof *t);
        }
    }
}

/* e^x for x in [-87.3, 88.7], relative error below 2e-7: 2^n times a polynomial of degree 6 on [-ln2/2, ln2/2]
 * (Taylor: the next term is 1.2e-7 at the ends). */
CRIT_INLINE float32x4_t exp_f32(float32x4_t x) {
    const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
    const float32x4_t r =
        vfmsq_f32(vfmsq_f32(x, n, vdupq_n_f32(0.693359375f)), n, vdupq_n_f32(-2.12194440e-4f)); /* x - n ln 2 */
    float32x4_t p = vdupq_n_f32(1.0f / 720);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 120), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 24), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 6), p, r);
    p = vfmaq_f32(vdupq_n_f32(0.5f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    const int32x4_t e = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
    return vmulq_f32(p, vreinterpretq_f32_s32(e));
}

/* g sigmoid(g) = g / (1 + e^-g), with e^-|g| only, which cannot overflow: for g < 0 it is g e^g / (1 + e^g).
 * Below -87 e^g is a subnormal: taken as 0, an error of less than 1.1e-36. */
CRIT_INLINE float32x4_t silu(float32x4_t g) {
    const float32x4_t one = vdupq_n_f32(1.0f), least = vdupq_n_f32(-87.0f), neg = vnegq_f32(vabsq_f32(g));
    /* a NaN stays in g, which multiplies everything */
    float32x4_t e = exp_f32(vmaxnmq_f32(neg, least));
    e = vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(e), vcltq_f32(neg, least)));
    const float32x4_t num = vbslq_f32(vcltzq_f32(g), e, one);
    const float32x4_t v = vmulq_f32(g, vdivq_f32(num, vaddq_f32(one, e)));
    /* -inf * 0 is NaN; the limit is -0 */
    return vbslq_f32(vcltq_f32(g, vdupq_n_f32(-200.0f)), vdupq_n_f32(-0.0f), v);
}

void crit_silu_mul_neon(const float *g, const float *u, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 4)
        store_n(y + i, n - i, vmulq_f32(silu(load_n(g + i, n - i)), load_n(u + i, n - i)));
}

/* Sums of so many values go to double, so that the error does not grow with n. */
enum { SUM_RUN = 256 };

double crit_soft_max_neon(float *x, size_t n, float *top) {
    const float32x4_t least = vdupq_n_f32(-87.0f);
    *top = -INFINITY;
    size_t whole = n & ~(size_t)3;
    float32x4_t most = vdupq_n_f32(-INFINITY);
    for (size_t i = 0; i < whole; i += 4) most = vmaxq_f32(most, vld1q_f32(x + i));
    *top = vmaxvq_f32(most);
    for (size_t i = whole; i < n; i++) *top = x[i] > *top ? x[i] : *top;
    const float32x4_t base = vdupq_n_f32(*top);
    double sum = 0;
    for (size_t i = 0; i < n;) {
        const size_t end = n - i > SUM_RUN ? i + SUM_RUN : n;
        float32x4_t part = vdupq_n_f32(0);
        for (; i < end; i += 4) {
            const float32x4_t v = vsubq_f32(load_n(x + i, n - i), base);
            /* false for the NaN of -inf - -inf */
            uint32x4_t some = vcgeq_f32(v, least);
            if (n - i < 4) {
                const uint32_t in[4] = {~0u, n - i > 1 ? ~0u : 0, n - i > 2 ? ~0u : 0, 0};
                some = vandq_u32(some, vld1q_u32(in));
            }
            const float32x4_t w =
                vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(exp_f32(vmaxnmq_f32(v, least))), some));
            store_n(x + i, n - i, w);
            part = vaddq_f32(part, w);
        }
        sum += (double)vgetq_lane_f32(part, 0) + (double)vgetq_lane_f32(part, 1) + (double)vgetq_lane_f32(part, 2) +
               (double)vgetq_lane_f32(part, 3);
    }
    return sum;
}

void crit_add_neon(const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 4) store_n(y + i, n - i, vaddq_f32(load_n(x + i, n - i), load_n(y + i, n - i)));
}

CRIT_INLINE void to_f16(const float *x, uint16_t *y, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        const float16x4_t lo = vcvt_f16_f32(vld1q_f32(x + i));
        vst1q_u16(y + i, vreinterpretq_u16_f16(vcvt_high_f16_f32(lo, vld1q_f32(x + i + 4))));
    }
}

void crit_kv_put_neon(const float *k, size_t k_stride, const float *v, size_t v_stride, size_t at, size_t n, uint32_t d,
                      uint16_t *kblk, uint16_t *vblk) {
    for (size_t j = 0; j < n; j++) {
        to_f16(k + j * k_stride, kblk + (at + j) * d, d);
        to_f16(v + j * v_stride, vblk + (at + j) * d, d);
    }
}
