/* SPDX-License-Identifier: MIT */
/* Estimation and selection for NEON, and the statistics of a key block.        [alg:represent] [alg:score] [alg:select]
 *
 * As score_avx2.c: representatives in lanes (two vectors), nothing horizontal until share adds the eight columns of a
 * block, which it does after a transposition.  d may be any number here; tails are scalar. */
#include <math.h>
#include <string.h>

#include "kernels/f16.h"
#include "kernels/protos.h"

#include "kernels/arm/lanes_neon.h"

#define STATS_LOAD(p)  crit_load_f16(p)
#define STATS_VALUE(h) crit_f16_value(h)
#include "kernels/stats_tmpl.h"

void crit_block_stats_neon(const uint16_t *k, size_t n_new, size_t n_old, uint32_t d, float *kmax, float *kmin,
                           float *ksum) {
    block_stats(k, n_new, n_old, d, kmax, kmin, ksum);
}

void crit_mean_rows_neon(const float *q, size_t q_stride, size_t n_row, uint32_t d, float *rep) {
    mean_rows(q, q_stride, n_row, d, rep);
}

/* n blocks at once: sixteen chains hide the latency, a load of four values of a block feeds eight FMAs. */
#define SCORE_STEP(l)                                                                                                  \
    {                                                                                                                  \
        const float32x4_t r0 = vld1q_f32(rt + (i + l) * 8), r1 = vld1q_f32(rt + (i + l) * 8 + 4);                      \
        CRIT_UNROLL for (int b = 0; b < n; b++) {                                                                      \
            CRIT_FMA_LANE(acc[b][0], r0, k[b], l);                                                                     \
            CRIT_FMA_LANE(acc[b][1], r1, k[b], l);                                                                     \
        }                                                                                                              \
    }
CRIT_INLINE void score_blocks(const int n, const float *rt, const float *kvec, size_t d, float scale, float *z) {
    float32x4_t acc[8][2], k[8];
    size_t i = 0;
    CRIT_UNROLL for (int b = 0; b < n; b++) acc[b][0] = acc[b][1] = vdupq_n_f32(0);
    for (; i + 4 <= d; i += 4) {
        CRIT_UNROLL for (int b = 0; b < n; b++) k[b] = vld1q_f32(kvec + (size_t)b * d + i);
        SCORE_STEP(0)
        SCORE_STEP(1)
        SCORE_STEP(2)
        SCORE_STEP(3)
    }
    for (; i < d; i++) {
        CRIT_UNROLL for (int b = 0; b < n; b++) k[b] = vdupq_n_f32(kvec[(size_t)b * d + i]);
        SCORE_STEP(0)
    }
    CRIT_UNROLL for (int b = 0; b < n; b++) {
        vst1q_f32(z + b * 8, vmulq_n_f32(acc[b][0], scale));
        vst1q_f32(z + b * 8 + 4, vmulq_n_f32(acc[b][1], scale));
    }
}

void crit_score_neon(const float *rep, uint32_t n_rep, const float *kvec, size_t n_blk, uint32_t d, float scale,
                     float *z) {
    float rt[CRIT_D_HEAD_MAX * 8];
    size_t e = 0;
    for (; e + 4 <= d; e += 4) {
        for (size_t h = 0; h < 8; h += 4) {
            float32x4_t x[4];
            CRIT_UNROLL for (size_t r = 0; r < 4; r++) x[r] =
                h + r < n_rep ? vld1q_f32(rep + (h + r) * d + e) : vdupq_n_f32(0);
            crit_transpose_4x4(x);
            CRIT_UNROLL for (size_t r = 0; r < 4; r++) vst1q_f32(rt + (e + r) * 8 + h, x[r]);
        }
    }
    for (; e < d; e++)
        for (size_t r = 0; r < 8; r++) rt[e * 8 + r] = r < n_rep ? rep[r * d + e] : 0.0f;

    size_t b = 0;
    for (; b + 8 <= n_blk; b += 8) score_blocks(8, rt, kvec + b * d, d, scale, z + b * 8);
    for (; b < n_blk; b++) score_blocks(1, rt, kvec + b * d, d, scale, z + b * 8);
    /* 0 times an infinite or NaN block vector is not 0 */
    if (n_rep < 8)
        for (b = 0; b < n_blk; b++) memset(z + b * 8 + n_rep, 0, (8 - n_rep) * sizeof *z);
}

/* e^x for x <= 0, exactly 1 at 0 and exactly 0 below -69 (where it is under 2^-99). */
CRIT_INLINE float32x4_t exp_not_positive(float32x4_t x) {
    const float32x4_t y = vmulq_n_f32(x, 0x1.715476p+0f), big = vdupq_n_f32(0x1.8p23f);
    const float32x4_t t = vaddq_f32(y, big), f = vsubq_f32(y, vsubq_f32(t, big));
    float32x4_t p = vdupq_n_f32(0x1.5bba14p-10f);
    p = vfmaq_f32(vdupq_n_f32(0x1.3cea88p-7f), p, f);
    p = vfmaq_f32(vdupq_n_f32(0x1.c6b752p-5f), p, f);
    p = vfmaq_f32(vdupq_n_f32(0x1.ebf9bcp-3f), p, f);
    p = vfmaq_f32(vdupq_n_f32(0x1.62e42ap-1f), p, f);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, f);
    p = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vreinterpretq_s32_f32(t), 23)));
    return crit_clear_f32(p, vcltq_f32(x, vdupq_n_f32(-69.0f)));
}

void crit_share_neon(float *z, size_t n_blk, uint32_t n_rep, uint32_t n_tile, float *share, size_t stride) {
    float inv[8];
    for (size_t h = 0; h < 8; h += 4) {
        const float32x4_t none = vdupq_n_f32(-INFINITY);
        float32x4_t top = none, sum[4];
        for (size_t b = 0; b < n_blk; b++) top = vmaxnmq_f32(vld1q_f32(z + b * 8 + h), top);
        const uint32x4_t empty = vceqq_f32(top, none);
        top = crit_clear_f32(top, empty);
        CRIT_UNROLL for (int i = 0; i < 4; i++) sum[i] = vdupq_n_f32(0);
        for (size_t b = 0; b < n_blk; b += 4) { /* four sums: a quarter of the rounding, and of the latency */
            CRIT_UNROLL for (size_t i = 0; i < 4; i++) if (b + i < n_blk) {
                float *at = z + (b + i) * 8 + h;
                const float32x4_t e = exp_not_positive(vsubq_f32(vld1q_f32(at), top));
                vst1q_f32(at, e);
                sum[i] = vaddq_f32(sum[i], e);
            }
        }
        const float32x4_t all = vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3]));
        vst1q_f32(inv + h, crit_clear_f32(vdivq_f32(vdupq_n_f32(1.0f / (float)n_rep), all), empty));
    }
    for (size_t b = 0; b < n_blk; b += 4) {
        const size_t n = n_blk - b < 4 ? n_blk - b : 4;
        float32x4_t x[8];
        CRIT_UNROLL for (size_t i = 0; i < 8; i++) x[i] =
            i % 4 < n ? vld1q_f32(z + (b + i % 4) * 8 + i / 4 * 4) : vdupq_n_f32(0);
        crit_transpose_4x4(x);
        crit_transpose_4x4(x + 4);
        for (size_t t = 0, r = 0; t < n_tile; t++) {
            float32x4_t mean = vdupq_n_f32(0);
            for (size_t to = r + n_rep; r < to; r++) mean = vfmaq_n_f32(mean, x[r], inv[r]);
            float *out = share + t * stride + b;
            if (n == 4)
                vst1q_f32(out, mean);
            else {
                float last[4];
                vst1q_f32(last, mean);
                memcpy((void *)out, last, n * sizeof *out);
            }
        }
    }
}

void crit_minmax_score_neon(const float *qmid, const float *kmax, const float *kmin, size_t n_blk, uint32_t d, float w,
                            int accumulate, float *a) {
    for (size_t b = 0; b < n_blk; b++, kmax += d, kmin += d) {
        float32x4_t mid[2], half[2];
        mid[0] = mid[1] = half[0] = half[1] = vdupq_n_f32(0);
        size_t i = 0;
        for (; i + 8 <= d; i += 8) {
            CRIT_UNROLL for (size_t j = 0; j < 2; j++) {
                const float32x4_t q = vld1q_f32(qmid + i + 4 * j), hi = vld1q_f32(kmax + i + 4 * j),
                                  lo = vld1q_f32(kmin + i + 4 * j);
                mid[j] = vfmaq_f32(mid[j], q, vaddq_f32(hi, lo));
                half[j] = vfmaq_f32(half[j], q, vsubq_f32(hi, lo));
            }
        }
        float m = vaddvq_f32(vaddq_f32(mid[0], mid[1])), h = vaddvq_f32(vaddq_f32(half[0], half[1]));
        for (; i < d; i++) m += qmid[i] * (kmax[i] + kmin[i]), h += qmid[i] * (kmax[i] - kmin[i]);
        const float v = w * 0.5f * (m + fabsf(h));
        a[b] = accumulate ? a[b] + v : v;
    }
}

/* Byte positions that bring the lanes of a 4-bit mask to the front; lanes behind them do not matter. */
#define LANE(i) 4 * (i), 4 * (i) + 1, 4 * (i) + 2, 4 * (i) + 3
#define LANES(a, b, c, d)                                                                                              \
    { LANE(a), LANE(b), LANE(c), LANE(d) }
static const uint8_t to_front[16][16] = {LANES(0, 0, 0, 0), LANES(0, 0, 0, 0), LANES(1, 0, 0, 0), LANES(0, 1, 0, 0),
                                         LANES(2, 0, 0, 0), LANES(0, 2, 0, 0), LANES(1, 2, 0, 0), LANES(0, 1, 2, 0),
                                         LANES(3, 0, 0, 0), LANES(0, 3, 0, 0), LANES(1, 3, 0, 0), LANES(0, 1, 3, 0),
                                         LANES(2, 3, 0, 0), LANES(0, 2, 3, 0), LANES(1, 2, 3, 0), LANES(0, 1, 2, 3)};

size_t crit_select_above_neon(const float *share, size_t n_blk, float thresh, uint32_t b0, uint32_t *out) {
    static const uint32_t bit[4] = {1, 2, 4, 8}, step[4] = {0, 1, 2, 3};
    const float32x4_t t = vdupq_n_f32(thresh);
    const uint32x4_t bits = vld1q_u32(bit);
    uint32x4_t id = vaddq_u32(vdupq_n_u32(b0), vld1q_u32(step));
    size_t n = 0, b = 0;
    for (; b + 4 <= n_blk; b += 4) {
        const uint32_t hit = vaddvq_u32(vandq_u32(vcgtq_f32(vld1q_f32(share + b), t), bits));
        /* the four stores stay inside out[n_blk] because n <= b */
        vst1q_u32(out + n, vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(id), vld1q_u8(to_front[hit]))));
        n += (size_t)__builtin_popcount(hit);
        id = vaddq_u32(id, vdupq_n_u32(4));
    }
    for (; b < n_blk; b++)
        if (share[b] > thresh) out[n++] = b0 + (uint32_t)b;
    return n;
}
