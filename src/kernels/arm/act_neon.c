/* SPDX-License-Identifier: MIT */
/* Packing of int8 activations, NEON: the same bits as kernels/c/act.c for every input. */
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels/act.h"
#include "kernels/protos.h"
#include "kernels/unroll.h"

/* Loads a group (zeros behind n_in) and returns its scale as group_scale does; inv 0 means: all integers are 0. */
CRIT_INLINE float load_group(const float *x, size_t n_in, size_t g, float32x4_t v[8], float *inv) {
    const size_t k0 = g * CRIT_ACT_LEN, n = n_in - k0;
    float t[CRIT_ACT_LEN] = {0};
    if (n < CRIT_ACT_LEN) memcpy(t, (const char *)x + k0 * sizeof *t, n * sizeof *t);
    const float *src = n < CRIT_ACT_LEN ? t : x + k0;
    /* as integers, magnitudes order like floats and infinity and NaN are the largest */
    uint32x4_t m = vdupq_n_u32(0);
    CRIT_UNROLL for (size_t i = 0; i < 8; i++) {
        v[i] = vld1q_f32(src + 4 * i);
        m = vmaxq_u32(m, vreinterpretq_u32_f32(vabsq_f32(v[i])));
    }
    const uint32_t bits = vmaxvq_u32(m);
    float amax;
    memcpy(&amax, &bits, sizeof amax);
    *inv = 0;
    if (bits >= 0x7f800000) return NAN;
    if (amax < CRIT_ACT_TINY) return 0;
    const float s = amax / 127.0f;
    *inv = 1.0f / s;
    return s;
}

CRIT_INLINE int16x8_t quantise(float32x4_t a, float32x4_t b, float inv) {
    const int32x4_t lo = vcvtnq_s32_f32(vmulq_n_f32(a, inv)), hi = vcvtnq_s32_f32(vmulq_n_f32(b, inv));
    return vqmovn_high_s32(vqmovn_s32(lo), hi);
}

void crit_act_pack_i8_neon(const float *x, size_t n_in, void *dst) {
    size_t g = 0;
    for (; g * CRIT_ACT_LEN < n_in; g++) {
        float32x4_t v[8];
        float inv;
        crit_act_i8 a;
        a.s = load_group(x, n_in, g, v, &inv);
        CRIT_UNROLL for (int h = 0; h < 2; h++) {
            int8x16_t q = vdupq_n_s8(0);
            if (inv > 0)
                q = vqmovn_high_s16(vqmovn_s16(quantise(v[4 * h], v[4 * h + 1], inv)),
                                    quantise(v[4 * h + 2], v[4 * h + 3], inv));
            vst1q_s8(a.q + 16 * h, q);
            /* sums of pairs; the even ones are the first two inputs of a step, the odd ones the last two */
            const int16x8_t pair = vpaddlq_s8(q);
            a.lane_half[h][0] = vaddvq_s16(vuzp1q_s16(pair, vdupq_n_s16(0)));
            a.lane_half[h][1] = vaddvq_s16(vuzp2q_s16(pair, vdupq_n_s16(0)));
            a.start_half[h] = -128 * (a.lane_half[h][0] + a.lane_half[h][1]);
        }
        for (int j = 0; j < 2; j++) a.lane[j] = (int16_t)(a.lane_half[0][j] + a.lane_half[1][j]);
        a.sum = a.s * (float)(a.lane[0] + a.lane[1]);
        a.start = a.start_half[0] + a.start_half[1];
        memcpy((char *)dst + g * sizeof a, &a, sizeof a);
    }
    const size_t bytes = g * CRIT_ACT_I8_BYTES;
    memset((char *)dst + bytes, 0, crit_act_row_bytes(CRIT_ACT_I8, n_in) - bytes);
}
