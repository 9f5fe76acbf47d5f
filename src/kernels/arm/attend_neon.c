/* SPDX-License-Identifier: MIT */
/* attend and block_lse for AArch64 NEON: strips of 16 rows.  The algorithm is in attend_tmpl.h.
 *
 * FMLA takes one lane of a register as its second factor, so K and V elements are loaded four at a time and never
 * broadcast: QK walks four values of d per step, PV four or eight values of one key. */
#include "kernels/arm/lanes_neon.h"
#include "kernels/attend_scratch.h"
#include "kernels/protos.h"

typedef float32x4_t vec;
#define V_W                        4
#define V_ZERO()                   vdupq_n_f32(0)
#define V_SET1(x)                  vdupq_n_f32(x)
#define V_LOAD(p)                  vld1q_f32(p)
#define V_STORE(p, x)              vst1q_f32(p, x)
#define V_ADD(a, b)                vaddq_f32(a, b)
#define V_SUB(a, b)                vsubq_f32(a, b)
#define V_MUL(a, b)                vmulq_f32(a, b)
#define V_FMA(a, b, c)             vfmaq_f32(c, a, b)
#define V_MAX(a, b)                vmaxnmq_f32(a, b)   /* the other one where one is NaN */
#define V_AT_LEAST(floor, x)       vmaxq_f32(floor, x) /* NaN where x is NaN */
#define V_OR(a, b)                 vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)))
#define V_AND(a, b)                crit_and_f32(a, vreinterpretq_u32_f32(b))
#define V_GE(a, b)                 vreinterpretq_f32_u32(vcgeq_f32(a, b)) /* all ones or zeros per lane */
#define V_COUNT(mask)              (size_t) vaddvq_u32(vshrq_n_u32(vreinterpretq_u32_f32(mask), 31))
#define V_ANY_BITS(a, bits)        (vmaxvq_u32(vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(bits))) != 0)
#define V_SELECT_GT(a, b, yes, no) vbslq_f32(vcgtq_f32(a, b), yes, no)
/* p * 2^n, n in the low bits of t */
#define V_ADD_EXPONENT(p, t)                                                                                           \
    vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vreinterpretq_s32_f32(t), 23)))

/* 24 accumulators, 6 keys and a load out of 32 registers: 22 loads for 96 FMAs. */
#define STRIP_NV         4
#define TILE_N(nv)       ((nv) >= 3 ? 6 : 8)
#define TILE_R(nv)       4
#define PV_TILE(nv)      ((nv) == 4 ? 4 : 8) /* values of d; divides 8, the width of V's panels */
#define ATTEND_OWN_TILES 1

/* s[j][row] = q[row].k[j] - m[row] for kt keys; minus_m [nv*V_W].  d is a multiple of 4. */
#define QK_STEP(l)                                                                                                     \
    CRIT_UNROLL for (int v = 0; v < nv; v++) {                                                                         \
        const vec q = V_LOAD(qt + ((i + l) * (size_t)nv + (size_t)v) * V_W);                                           \
        CRIT_KEEP_ORDER();                                                                                             \
        CRIT_UNROLL for (int j = 0; j < kt; j++) CRIT_FMA_LANE(acc[j][v], q, b[j], l);                                 \
    }
CRIT_INLINE void qk_tile(const int nv, const int kt, const float *qt, const float *k, size_t d, const float *minus_m,
                         float *s) {
    vec acc[8][4];
    CRIT_UNROLL for (int v = 0; v < nv; v++) {
        const vec m = V_LOAD(minus_m + v * V_W);
        CRIT_UNROLL for (int j = 0; j < kt; j++) acc[j][v] = m;
    }
    for (size_t i = 0; i < d; i += 4) {
        vec b[8];
        CRIT_UNROLL for (int j = 0; j < kt; j++) b[j] = V_LOAD(k + (size_t)j * d + i);
        QK_STEP(0)
        QK_STEP(1)
        QK_STEP(2)
        QK_STEP(3)
    }
    CRIT_UNROLL for (int j = 0; j < kt; j++) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) V_STORE(s + (j * nv + v) * V_W, acc[j][v]);
    }
}

/* o[e][row] += sum_j p[j][row] v[j][e] for dt values of d from e on; v in panels of 8 values. */
#define PV_STEP(h, l) CRIT_UNROLL for (int v = 0; v < nv; v++) CRIT_FMA_LANE(acc[4 * h + l][v], x[v], b[h], l);
CRIT_INLINE void pv_tile(const int nv, const int dt, const float *p, const float *vp, size_t e, size_t n_key,
                         float *o) {
    vec acc[8][4];
    const float *col = vp + e / 8 * (CRIT_ATTEND_KEYS * 8) + e % 8;
    CRIT_UNROLL for (int j = 0; j < dt; j++) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) acc[j][v] = V_LOAD(o + (j * nv + v) * V_W);
    }
    for (size_t i = 0; i < n_key; i++) {
        vec b[2], x[4];
        CRIT_UNROLL for (int h = 0; h < dt / 4; h++) b[h] = V_LOAD(col + i * 8 + 4 * h);
        CRIT_UNROLL for (int v = 0; v < nv; v++) x[v] = V_LOAD(p + (i * (size_t)nv + (size_t)v) * V_W);
        PV_STEP(0, 0)
        PV_STEP(0, 1)
        PV_STEP(0, 2)
        PV_STEP(0, 3)
        if (dt == 8) {
            PV_STEP(1, 0)
            PV_STEP(1, 1)
            PV_STEP(1, 2)
            PV_STEP(1, 3)
        }
    }
    CRIT_UNROLL for (int j = 0; j < dt; j++) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) V_STORE(o + (j * nv + v) * V_W, acc[j][v]);
    }
}

CRIT_INLINE void pv(const int nv, const float *p, const float *vp, size_t n_key, size_t d, float *o) {
    for (size_t e = 0; e < d; e += PV_TILE(nv)) pv_tile(nv, PV_TILE(nv), p, vp, e, n_key, o + e * (size_t)nv * V_W);
}

#include "kernels/attend_tmpl.h"

void crit_attend_neon(const crit_attend_args *a, void *scratch) {
    attend(a, scratch);
}

void crit_block_lse_neon(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, const void *ready,
                         size_t n_key, uint32_t d, float scale, float *lse, float *top, size_t stride, void *scratch) {
    block_lse(q, q_stride, n_row, k, ready, n_key, d, scale, lse, top, stride, scratch);
}
