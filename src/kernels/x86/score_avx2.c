/* SPDX-License-Identifier: MIT */
/* Estimation and selection for AVX2, and the statistics of a key block.        [alg:represent] [alg:score] [alg:select]
 *
 * Representatives are the lanes, so nothing is horizontal until share adds the columns of one block, which it does
 * after a transposition. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/f16.h"
#include "kernels/protos.h"

#include "kernels/x86/sums_avx2.h"

#define STATS_LOAD(p)  crit_load_f16(p)
#define STATS_VALUE(h) crit_f16_value(h)
#include "kernels/stats_tmpl.h"

void crit_block_stats_avx2(const uint16_t *k, size_t n_new, size_t n_old, uint32_t d, float *kmax, float *kmin,
                           float *ksum) {
    block_stats(k, n_new, n_old, d, kmax, kmin, ksum);
}

void crit_mean_rows_avx2(const float *q, size_t q_stride, size_t n_row, uint32_t d, float *rep) {
    mean_rows(q, q_stride, n_row, d, rep);
}

/* n blocks at once: one load of the representatives feeds n chains. */
CRIT_INLINE void score_blocks(const int n, const float *rt, const float *kvec, size_t d, __m256 scale, __m256 used,
                              float *z) {
    __m256 acc[8];
    CRIT_UNROLL for (int b = 0; b < n; b++) acc[b] = _mm256_setzero_ps();
    for (size_t e = 0; e < d; e++) {
        const __m256 r = _mm256_load_ps(rt + e * 8);
        CRIT_UNROLL for (int b = 0; b < n; b++) acc[b] =
            _mm256_fmadd_ps(r, _mm256_broadcast_ss(kvec + (size_t)b * d + e), acc[b]);
    }
    /* 0 times an infinite or NaN block vector is not 0, hence the mask */
    CRIT_UNROLL for (int b = 0; b < n; b++)
        _mm256_storeu_ps(z + b * 8, _mm256_and_ps(used, _mm256_mul_ps(scale, acc[b])));
}

void crit_score_avx2(const float *rep, uint32_t n_rep, const float *kvec, size_t n_blk, uint32_t d, float scale,
                     float *z) {
    float rt[CRIT_D_HEAD_MAX * 8] __attribute__((aligned(32)));
    const __m256 f = _mm256_set1_ps(scale);
    const __m256 used = _mm256_cmp_ps(_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_ps((float)n_rep), _CMP_LT_OQ);
    size_t e = 0, b = 0;
    for (; e + 8 <= d; e += 8) {
        __m256 x[8];
        CRIT_UNROLL for (size_t r = 0; r < 8; r++) x[r] =
            r < n_rep ? _mm256_loadu_ps(rep + r * d + e) : _mm256_setzero_ps();
        crit_transpose_8x8(x);
        CRIT_UNROLL for (size_t r = 0; r < 8; r++) _mm256_store_ps(rt + (e + r) * 8, x[r]);
    }
    for (; e < d; e++)
        for (size_t r = 0; r < 8; r++) rt[e * 8 + r] = r < n_rep ? rep[r * d + e] : 0.0f;
    for (; b + 8 <= n_blk; b += 8) score_blocks(8, rt, kvec + b * d, d, f, used, z + b * 8);
    for (; b < n_blk; b++) score_blocks(1, rt, kvec + b * d, d, f, used, z + b * 8);
}

/* e^x for x <= 0, exactly 1 at 0 and exactly 0 below -69 (where it is under 2^-99). */
CRIT_INLINE __m256 exp_not_positive(__m256 x) {
    const __m256 y = _mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)), big = _mm256_set1_ps(0x1.8p23f);
    const __m256 t = _mm256_add_ps(y, big), f = _mm256_sub_ps(y, _mm256_sub_ps(t, big));
    __m256 p = _mm256_set1_ps(0x1.5bba14p-10f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.3cea88p-7f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.c6b752p-5f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.ebf9bcp-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.62e42ap-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
    return _mm256_and_ps(p, _mm256_cmp_ps(x, _mm256_set1_ps(-69.0f), _CMP_NLT_UQ));
}

void crit_share_avx2(float *z, size_t n_blk, uint32_t n_rep, uint32_t n_tile, float *share, size_t stride) {
    const __m256 none = _mm256_set1_ps(-INFINITY);
    __m256 top = none, sum[4];
    for (size_t b = 0; b < n_blk; b++) top = _mm256_max_ps(_mm256_loadu_ps(z + b * 8), top);
    const __m256 empty = _mm256_cmp_ps(top, none, _CMP_EQ_OQ);
    top = _mm256_andnot_ps(empty, top);
    CRIT_UNROLL for (int i = 0; i < 4; i++) sum[i] = _mm256_setzero_ps();
    for (size_t b = 0; b < n_blk; b++) {
        const __m256 e = exp_not_positive(_mm256_sub_ps(_mm256_loadu_ps(z + b * 8), top));
        _mm256_storeu_ps(z + b * 8, e);
        switch (b % 4) { /* four sums: a quarter of the rounding, and of the latency */
        case 0:
            sum[0] = _mm256_add_ps(sum[0], e);
            break;
        case 1:
            sum[1] = _mm256_add_ps(sum[1], e);
            break;
        case 2:
            sum[2] = _mm256_add_ps(sum[2], e);
            break;
        default:
            sum[3] = _mm256_add_ps(sum[3], e);
            break;
        }
    }
    float inv[8];
    const __m256 all = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
    _mm256_storeu_ps(inv, _mm256_andnot_ps(empty, _mm256_div_ps(_mm256_set1_ps(1.0f / (float)n_rep), all)));
    for (size_t b = 0; b < n_blk; b += 8) {
        const size_t n = n_blk - b < 8 ? n_blk - b : 8;
        __m256 x[8];
        CRIT_UNROLL for (size_t i = 0; i < 8; i++) x[i] =
            i < n ? _mm256_loadu_ps(z + (b + i) * 8) : _mm256_setzero_ps();
        crit_transpose_8x8(x);
        for (size_t t = 0, r = 0; t < n_tile; t++) {
            __m256 mean = _mm256_setzero_ps();
            for (size_t to = r + n_rep; r < to; r++) mean = _mm256_fmadd_ps(x[r], _mm256_set1_ps(inv[r]), mean);
            float *out = share + t * stride + b;
            if (n == 8)
                _mm256_storeu_ps(out, mean);
            else
                memcpy(out, &mean, n * sizeof *out);
        }
    }
}

CRIT_INLINE float sum_lanes(__m256 x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

void crit_minmax_score_avx2(const float *qmid, const float *kmax, const float *kmin, size_t n_blk, uint32_t d, float w,
                            int accumulate, float *a) {
    for (size_t b = 0; b < n_blk; b++, kmax += d, kmin += d) {
        __m256 mid = _mm256_setzero_ps(), half = _mm256_setzero_ps();
        size_t i = 0;
        for (; i + 8 <= d; i += 8) {
            const __m256 q = _mm256_loadu_ps(qmid + i), hi = _mm256_loadu_ps(kmax + i), lo = _mm256_loadu_ps(kmin + i);
            mid = _mm256_fmadd_ps(q, _mm256_add_ps(hi, lo), mid);
            half = _mm256_fmadd_ps(q, _mm256_sub_ps(hi, lo), half);
        }
        float m = sum_lanes(mid), h = sum_lanes(half);
        for (; i < d; i++) m += qmid[i] * (kmax[i] + kmin[i]), h += qmid[i] * (kmax[i] - kmin[i]);
        const float v = w * 0.5f * (m + fabsf(h));
        a[b] = accumulate ? a[b] + v : v;
    }
}

size_t crit_select_above_avx2(const float *share, size_t n_blk, float thresh, uint32_t b0, uint32_t *out) {
    const __m256 t = _mm256_set1_ps(thresh);
    __m256i id = _mm256_add_epi32(_mm256_set1_epi32((int)b0), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    size_t n = 0, b = 0;
    for (; b + 8 <= n_blk; b += 8) {
        const unsigned hit = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(share + b), t, _CMP_GT_OQ));
        /* packs the ids of the hits to the front; the eight stores stay inside out[n_blk] because n <= b */
        const uint64_t bytes = _pdep_u64(hit, 0x0101010101010101u) * 0xff;
        const __m128i lanes = _mm_cvtsi64_si128((long long)_pext_u64(0x0706050403020100u, bytes));
        _mm256_storeu_si256((__m256i *)(void *)(out + n), _mm256_permutevar8x32_epi32(id, _mm256_cvtepu8_epi32(lanes)));
        n += (size_t)__builtin_popcount(hit);
        id = _mm256_add_epi32(id, _mm256_set1_epi32(8));
    }
    for (; b < n_blk; b++)
        if (share[b] > thresh) out[n++] = b0 + (uint32_t)b;
    return n;
}
