/* SPDX-License-Identifier: MIT */
/* The rest of a layer, AVX2.  Ragged ends go through masked loads and stores, so that an element's bits do not
 * depend on its place. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/exp_poly.h"
#include "kernels/protos.h"

#define AI static inline __attribute__((always_inline))

/* Lanes below n, for the last 1..7 values. */
AI __m256i tail_mask(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
AI __m256 load_n(const float *p, size_t n) {
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, tail_mask(n));
}
AI void store_n(float *p, size_t n, __m256 v) {
    if (n >= 8)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, tail_mask(n), v);
}

/* Sums in double: the result then does not depend on how lanes were cut, to f32's last bit or so. */
void crit_rmsnorm_avx2(const float *x, const float *w, float *y, size_t n, float eps) {
    if (!n) return;
    __m256d s0 = _mm256_setzero_pd(), s1 = s0;
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = load_n(x + i, n - i);
        __m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(v)), hi = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
        s0 = _mm256_fmadd_pd(lo, lo, s0);
        s1 = _mm256_fmadd_pd(hi, hi, s1);
    }
    s0 = _mm256_add_pd(s0, s1);
    __m128d t = _mm_add_pd(_mm256_castpd256_pd128(s0), _mm256_extractf128_pd(s0, 1));
    t = _mm_add_sd(t, _mm_unpackhi_pd(t, t));
    t = _mm_add_sd(_mm_div_sd(t, _mm_set_sd((double)n)), _mm_set_sd((double)eps));
    const __m256d scale = _mm256_broadcastsd_pd(_mm_div_sd(_mm_set_sd(1.0), _mm_sqrt_sd(t, t)));
    /* scaled in double as well: 1/sqrt(eps) times a large x must not overflow before it is rounded */
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = load_n(x + i, n - i);
        __m128 lo = _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(v)), scale));
        __m128 hi = _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)), scale));
        store_n(y + i, n - i, _mm256_mul_ps(_mm256_set_m128(hi, lo), load_n(w + i, n - i)));
    }
}

void crit_rope_neox_avx2(float *x, size_t n_head, uint32_t d, uint32_t n_rot, const float *cosv, const float *sinv) {
    size_t half = n_rot / 2;
    for (size_t h = 0; h < n_head; h++) {
        float *a = x + h * d, *b = a + half;
        for (size_t i = 0; i < half; i += 8) {
            size_t n = half - i;
            __m256 p = load_n(a + i, n), q = load_n(b + i, n), c = load_n(cosv + i, n), s = load_n(sinv + i, n);
            store_n(a + i, n, _mm256_fmsub_ps(p, c, _mm256_mul_ps(q, s)));
            store_n(b + i, n, _mm256_fmadd_ps(p, s, _mm256_mul_ps(q, c)));
        }
    }
}

void crit_rope_norm_avx2(float *x, size_t n_head, uint32_t d, uint32_t n_rot, const float *cosv, const float *sinv) {
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const __m256 sign = _mm256_castsi256_ps(
        _mm256_setr_epi32((int)0x80000000u, 0, (int)0x80000000u, 0, (int)0x80000000u, 0, (int)0x80000000u, 0));
    for (size_t h = 0; h < n_head; h++) {
        float *a = x + h * d;
        for (size_t i = 0; i < n_rot; i += 8) { /* four pairs */
            size_t n = n_rot - i;
            __m128i m = _mm256_castsi256_si128(tail_mask(n < 8 ? n / 2 : 4));
            __m256 c = _mm256_castps128_ps256(_mm_maskload_ps(cosv + i / 2, m));
            __m256 s = _mm256_castps128_ps256(_mm_maskload_ps(sinv + i / 2, m));
            __m256 v = load_n(a + i, n), swap = _mm256_permute_ps(v, 0xb1);
            c = _mm256_permutevar8x32_ps(c, twice);
            s = _mm256_xor_ps(_mm256_permutevar8x32_ps(s, twice), sign);
            store_n(a + i, n, _mm256_fmadd_ps(v, c, _mm256_mul_ps(swap, s)));
        }
    }
}

/* e^x for x in [-87.3, 88.7], relative error below 2e-7: 2^n times a polynomial on [-ln2/2, ln2/2]. */
AI __m256 exp_ps(__m256 x) {
    const __m256 log2e = _mm256_set1_ps(1.44269504f), hi = _mm256_set1_ps(0.693359375f),
                 lo = _mm256_set1_ps(-2.12194440e-4f);
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, lo, _mm256_fnmadd_ps(n, hi, x));
    const __m256 p = CRIT_EXP_POLY(_mm256_set1_ps, _mm256_fmadd_ps, r);
    __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(e));
}

/* g sigmoid(g) = g / (1 + e^-g), with e^-|g| only, which cannot overflow: for g < 0 it is g e^g / (1 + e^g).
 * Below -87 e^g is a subnormal: taken as 0, an error of less than 1.1e-36. */
AI __m256 silu(__m256 g) {
    const __m256 one = _mm256_set1_ps(1.0f), zero = _mm256_setzero_ps(), sign = _mm256_set1_ps(-0.0f);
    __m256 neg = _mm256_or_ps(g, sign);
    __m256 flush = _mm256_cmp_ps(neg, _mm256_set1_ps(-87.0f), _CMP_LT_OQ);
    /* max returns its second operand for a NaN: the NaN stays in g, which multiplies everything */
    __m256 e = exp_ps(_mm256_max_ps(neg, _mm256_set1_ps(-87.0f)));
    e = _mm256_andnot_ps(flush, e);
    __m256 num = _mm256_blendv_ps(one, e, _mm256_cmp_ps(g, zero, _CMP_LT_OQ));
    __m256 v = _mm256_mul_ps(g, _mm256_div_ps(num, _mm256_add_ps(one, e)));
    /* -inf * 0 is NaN; the limit is -0 */
    return _mm256_blendv_ps(v, sign, _mm256_cmp_ps(g, _mm256_set1_ps(-200.0f), _CMP_LT_OQ));
}

void crit_silu_mul_avx2(const float *g, const float *u, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, n - i, _mm256_mul_ps(silu(load_n(g + i, n - i)), load_n(u + i, n - i)));
}

/* Sums of so many values go to double, so that the error does not grow with n. */
enum { SUM_RUN = 512 };

double crit_soft_max_avx2(float *x, size_t n, float *top) {
    const __m256 least = _mm256_set1_ps(-87.0f), none = _mm256_set1_ps(-INFINITY);
    __m256 most = none;
    float lane[8];
    for (size_t i = 0; i < n; i += 8) {
        const __m256 v = load_n(x + i, n - i);
        most = _mm256_max_ps(n - i >= 8 ? v : _mm256_blendv_ps(none, v, _mm256_castsi256_ps(tail_mask(n - i))), most);
    }
    _mm256_storeu_ps(lane, most);
    *top = -INFINITY;
    for (int i = 0; i < 8; i++) *top = lane[i] > *top ? lane[i] : *top;
    const __m256 base = _mm256_set1_ps(*top);
    double sum = 0;
    for (size_t i = 0; i < n;) {
        const size_t end = n - i > SUM_RUN ? i + SUM_RUN : n;
        __m256 part = _mm256_setzero_ps();
        for (; i < end; i += 8) {
            const __m256 v = _mm256_sub_ps(load_n(x + i, n - i), base);
            __m256 w = _mm256_and_ps(exp_ps(_mm256_max_ps(v, least)), _mm256_cmp_ps(v, least, _CMP_GE_OQ));
            if (n - i < 8) w = _mm256_and_ps(w, _mm256_castsi256_ps(tail_mask(n - i)));
            store_n(x + i, n - i, w);
            part = _mm256_add_ps(part, w);
        }
        _mm256_storeu_ps(lane, part);
        for (int j = 0; j < 8; j++) sum += (double)lane[j];
    }
    return sum;
}

void crit_add_avx2(const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 8) store_n(y + i, n - i, _mm256_add_ps(load_n(x + i, n - i), load_n(y + i, n - i)));
}

static void to_f16(const float *x, uint16_t *y, size_t n) {
    for (size_t i = 0; i < n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
}

void crit_kv_put_avx2(const float *k, size_t k_stride, const float *v, size_t v_stride, size_t at, size_t n, uint32_t d,
                      uint16_t *kblk, uint16_t *vblk) {
    for (size_t j = 0; j < n; j++) {
        to_f16(k + j * k_stride, kblk + (at + j) * d, d);
        to_f16(v + j * v_stride, vblk + (at + j) * d, d);
    }
}
