/* SPDX-License-Identifier: MIT */
/* One row times quantised weights, NEON with SDOT: streams the file's rows once, in order.
 *
 * A group costs unpacking, two SDOT, one conversion and one FMLA; f16 scales are converted four at a time, and the
 * minimum terms are a second small dot product over groups (minima against the activations' sums), as is the offset of
 * Q4_0, where it is cheaper than subtracting 8 from every weight.  The activations' scales and sums are therefore
 * gathered once per call into contiguous arrays. */
#include "kernels/act.h"
#include "kernels/arm/unpack_neon.h"
#include "kernels/protos.h"

enum { CHUNK = 1024 }; /* groups whose scales lie on the stack: 32,768 inputs, 12 KB */

typedef struct side {
    float s[CHUNK];       /* zero behind the last group, to a multiple of 8 */
    float sum[2 * CHUNK]; /* of groups, or of halves for types with scales per 16 */
} side;

/* acc: lanes to be added up, two chains; low: sum of minimum * sum products, weighted at the end */
typedef struct partial {
    float32x4_t acc[2], low;
} partial;

/* f16 values at p, p + stride, ..: nb <= 4 of them, 0 behind. */
CRIT_INLINE float32x4_t f16_strided(const uint8_t *p, size_t stride, size_t nb) {
    uint16x4_t h = vdup_n_u16(0);
    if (nb > 0) h = vset_lane_u16(load_u16(p), h, 0);
    if (nb > 1) h = vset_lane_u16(load_u16(p + stride), h, 1);
    if (nb > 2) h = vset_lane_u16(load_u16(p + 2 * stride), h, 2);
    if (nb > 3) h = vset_lane_u16(load_u16(p + 3 * stride), h, 3);
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}

/* Four inputs' products of a group a lane. */
CRIT_INLINE int32x4_t dot(const int8x16_t v[2], const uint8_t *a) {
    const int8_t *x = (const int8_t *)a;
    return vdotq_s32(vdotq_s32(vdupq_n_s32(0), v[0], vld1q_s8(x)), v[1], vld1q_s8(x + 16));
}
/* The same with the halves weighted by the sub-scales k0 and k1. */
CRIT_INLINE int32x4_t dot_halves(const int8x16_t v[2], const uint8_t *a, int32_t k0, int32_t k1) {
    const int8_t *x = (const int8_t *)a;
    const int32x4_t lo = vdotq_s32(vdupq_n_s32(0), v[0], vld1q_s8(x));
    return vmlaq_n_s32(vmulq_n_s32(lo, k0), vdotq_s32(vdupq_n_s32(0), v[1], vld1q_s8(x + 16)), k1);
}
CRIT_INLINE void add(partial *p, size_t g, int32x4_t sum, float scale) {
    p->acc[g & 1] = vfmaq_n_f32(p->acc[g & 1], vcvtq_f32_s32(sum), scale);
}

CRIT_INLINE void prefetch(const uint8_t *w, size_t bytes) { /* about 2 KB ahead, a line at a time */
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(w + 2048 + i, 0, 3);
}

/* nb <= 4 blocks of 32: [d] [m] [qh] q */
CRIT_INLINE void batch_32(const uint8_t *w, size_t nb, const uint8_t *a, const float *s, const float *sum, partial *p,
                          crit_type type, size_t bytes) {
    const int has_m = type == CRIT_T_Q4_1 || type == CRIT_T_Q5_1;
    const float32x4_t d = f16_strided(w, bytes, nb);
    float ds[4];
    vst1q_f32(ds, vmulq_f32(d, vld1q_f32(s)));
    if (has_m) p->low = vfmaq_f32(p->low, f16_strided(w + 2, bytes, nb), vld1q_f32(sum));
    if (type == CRIT_T_Q4_0) p->low = vfmaq_f32(p->low, d, vld1q_f32(sum));
    prefetch(w, 4 * bytes);
    CRIT_UNROLL for (size_t i = 0; i < 4; i++) {
        int8x16_t v[2];
        const uint8_t *b = w + i * bytes;
        if (i >= nb) break;
        if (type == CRIT_T_Q4_0) unpack_nibbles(b + 2, 0, v);
        if (type == CRIT_T_Q4_1) unpack_nibbles(b + 4, 0, v);
        if (type == CRIT_T_Q5_0) unpack_q5(b + 6, load_u32(b + 2), 1, v);
        if (type == CRIT_T_Q5_1) unpack_q5(b + 8, load_u32(b + 4), 0, v);
        if (type == CRIT_T_Q8_0) unpack_q8(b + 2, v);
        if (type == CRIT_T_IQ4_NL) unpack_iq4(b + 2, v);
        add(p, i, dot(v, a + i * CRIT_ACT_I8_BYTES), ds[i]);
    }
}

CRIT_INLINE void scale_8(float ds[8], const float32x4_t f[2], float d, const float *s) {
    for (int i = 0; i < 2; i++) vst1q_f32(ds + 4 * i, vmulq_f32(vmulq_n_f32(f[i], d), vld1q_f32(s + 4 * i)));
}

CRIT_INLINE void batch_k45(const uint8_t *w, const uint8_t *a, const float *s, const float *sum, partial *p, int five) {
    uint8x8_t scale, min;
    float32x4_t f[2];
    float ds[8];
    k45_scales(w + 4, &scale, &min);
    widen_u8(scale, f);
    scale_8(ds, f, f16_at(w), s);
    widen_u8(min, f);
    const float dmin = f16_at(w + 2);
    for (int i = 0; i < 2; i++) p->low = vfmaq_f32(p->low, vmulq_n_f32(f[i], dmin), vld1q_f32(sum + 4 * i));
    prefetch(w, 144);
    CRIT_UNROLL for (int g = 0; g < 8; g++) {
        int8x16_t v[2];
        unpack_k45(w + (five ? 48 : 16), five ? w + 16 : NULL, g, v);
        add(p, (size_t)g, dot(v, a + g * CRIT_ACT_I8_BYTES), ds[g]);
    }
}

CRIT_INLINE void batch_iq4_xs(const uint8_t *w, const uint8_t *a, const float *s, partial *p) {
    int32x4_t sc[2];
    float ds[8];
    iq4_xs_scales(w, sc);
    const float32x4_t f[2] = {vcvtq_f32_s32(sc[0]), vcvtq_f32_s32(sc[1])};
    scale_8(ds, f, f16_at(w), s);
    prefetch(w, 136);
    CRIT_UNROLL for (int g = 0; g < 8; g++) {
        int8x16_t v[2];
        unpack_iq4(w + 8 + 16 * g, v);
        add(p, (size_t)g, dot(v, a + g * CRIT_ACT_I8_BYTES), ds[g]);
    }
}

/* Q6_K, Q3_K, Q2_K: sub-scales per 16. */
CRIT_INLINE void batch_halves(const uint8_t *w, const uint8_t *a, const float *s, const float *sum, partial *p,
                              crit_type type) {
    int32x4_t wide[4];
    int32_t sub[16];
    float ds[8];
    float d;
    if (type == CRIT_T_Q6_K) {
        d = f16_at(w + 208);
        widen_s8(as_s8(vld1q_u8(w + 192)), wide);
        prefetch(w, 210);
    } else if (type == CRIT_T_Q3_K) {
        d = f16_at(w + 108);
        widen_s8(q3_scales(w + 96), wide);
        prefetch(w, 110);
    } else {
        d = f16_at(w + 80);
        const float dmin = f16_at(w + 82);
        const uint8x16_t sm = vld1q_u8(w);
        widen_s8(as_s8(hi4(sm)), wide);
        for (int i = 0; i < 4; i++)
            p->low = vfmaq_f32(p->low, vmulq_n_f32(vcvtq_f32_s32(wide[i]), dmin), vld1q_f32(sum + 4 * i));
        widen_s8(as_s8(lo4(sm)), wide);
        prefetch(w, 84);
    }
    for (int i = 0; i < 4; i++) vst1q_s32(sub + 4 * i, wide[i]);
    for (int i = 0; i < 2; i++) vst1q_f32(ds + 4 * i, vmulq_n_f32(vld1q_f32(s + 4 * i), d));
    CRIT_UNROLL for (int g = 0; g < 8; g++) {
        int8x16_t v[2];
        if (type == CRIT_T_Q6_K) unpack_q6(w, g, v);
        if (type == CRIT_T_Q3_K) unpack_q3(w, g, v);
        if (type == CRIT_T_Q2_K) unpack_q2(w, g, v);
        add(p, (size_t)g, dot_halves(v, a + g * CRIT_ACT_I8_BYTES, sub[2 * g], sub[2 * g + 1]), ds[g]);
    }
}

/* Scales and sums of ng groups of the activation row. */
static void gather(side *v, const uint8_t *act, size_t ng, int halves) {
    const size_t pad = (ng + 7) / 8 * 8;
    for (size_t g = 0; g < ng; g++, act += CRIT_ACT_I8_BYTES) {
        memcpy((void *)&v->s[g], act + offsetof(crit_act_i8, s), 4);
        if (halves)
            crit_act_half_sums(act, &v->sum[2 * g]);
        else
            memcpy((void *)&v->sum[g], act + offsetof(crit_act_i8, sum), 4);
    }
    for (size_t g = ng; g < pad; g++) v->s[g] = v->sum[g] = 0;
}

CRIT_INLINE void batch(crit_type type, size_t bytes, const uint8_t *w, size_t nb, const uint8_t *a, const float *s,
                       const float *sum, partial *p) {
    if (type == CRIT_T_Q4_K || type == CRIT_T_Q5_K)
        batch_k45(w, a, s, sum, p, type == CRIT_T_Q5_K);
    else if (type == CRIT_T_IQ4_XS)
        batch_iq4_xs(w, a, s, p);
    else if (type == CRIT_T_Q6_K || type == CRIT_T_Q3_K || type == CRIT_T_Q2_K)
        batch_halves(w, a, s, sum, p, type);
    else
        batch_32(w, nb, a, s, sum, p, type, bytes);
}

/* blk: groups a block; fold: factor of the low sums. */
CRIT_INLINE void gemv(const crit_gemm_args *a, size_t n0, size_t n1, crit_type type, size_t blk, size_t bytes,
                      float fold) {
    const size_t n_grp = a->n_in / CRIT_ACT_LEN, step = blk == 1 ? 4 : 8;
    const int halves = type == CRIT_T_Q6_K || type == CRIT_T_Q3_K || type == CRIT_T_Q2_K;
    side v;
    if (n0 >= n1) return;
    for (size_t g0 = 0; g0 < n_grp; g0 += CHUNK) {
        const size_t ng = n_grp - g0 < CHUNK ? n_grp - g0 : CHUNK, k = halves ? 2 : 1;
        const uint8_t *act = (const uint8_t *)a->act + g0 * CRIT_ACT_I8_BYTES;
        gather(&v, act, ng, halves);
        for (size_t n = n0; n < n1; n++) {
            const uint8_t *row = (const uint8_t *)a->w + n * a->w_row_bytes + g0 / blk * bytes;
            partial p = {{vdupq_n_f32(0), vdupq_n_f32(0)}, vdupq_n_f32(0)};
            size_t g = 0;
            for (; g + step <= ng; g += step)
                batch(type, bytes, row + g / blk * bytes, step, act + g * CRIT_ACT_I8_BYTES, v.s + g, v.sum + k * g,
                      &p);
            if (blk == 1 && g < ng)
                batch(type, bytes, row + g * bytes, ng - g, act + g * CRIT_ACT_I8_BYTES, v.s + g, v.sum + g, &p);
            float o = vaddvq_f32(vaddq_f32(p.acc[0], p.acc[1]));
            if (fold != 0) o += fold * vaddvq_f32(p.low);
            if (g0 > 0 || a->accumulate) o += a->out[n];
            if (g0 == 0 && a->bias) o += a->bias[n];
            a->out[n] = o;
        }
    }
}

#define GEMV(name, type, blk, bytes, fold)                                                                             \
    void crit_gemv_##name##_neon(const crit_gemm_args *a, size_t n0, size_t n1) {                                      \
        gemv(a, n0, n1, type, blk, bytes, fold);                                                                       \
    }
GEMV(q4_0, CRIT_T_Q4_0, 1, 18, -8.0f)
GEMV(q4_1, CRIT_T_Q4_1, 1, 20, 1.0f)
GEMV(q5_0, CRIT_T_Q5_0, 1, 22, 0.0f)
GEMV(q5_1, CRIT_T_Q5_1, 1, 24, 1.0f)
GEMV(q8_0, CRIT_T_Q8_0, 1, 34, 0.0f)
GEMV(iq4_nl, CRIT_T_IQ4_NL, 1, 18, 0.0f)
GEMV(iq4_xs, CRIT_T_IQ4_XS, 8, 136, 0.0f)
GEMV(q4_k, CRIT_T_Q4_K, 8, 144, -1.0f)
GEMV(q5_k, CRIT_T_Q5_K, 8, 176, -1.0f)
GEMV(q6_k, CRIT_T_Q6_K, 8, 210, 0.0f)
GEMV(q3_k, CRIT_T_Q3_K, 8, 110, 0.0f)
GEMV(q2_k, CRIT_T_Q2_K, 8, 84, -1.0f)
