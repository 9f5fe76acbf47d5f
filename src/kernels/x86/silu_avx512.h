/* SPDX-License-Identifier: MIT */
/* e^x and SiLU of 16 values, AVX-512 F: for rows (vec_avx512.c) and for products that end in one (gemm_amx.c). */
#ifndef CRIT_KERNELS_X86_SILU_AVX512_H
#define CRIT_KERNELS_X86_SILU_AVX512_H

#include <immintrin.h>

#include "kernels/exp_poly.h"
#include "kernels/unroll.h"

/* 2^23 + 2^22: x + MAGIC has round(x) in its low bits, and shifted up by 23 they are an exponent to add. */
#define MAGIC 0x1.8p+23f

/* e^x for x in [-87, 0], relative error below 2e-7; as exp_ps of vec_avx2.c. */
CRIT_INLINE __m512 exp_ps(__m512 x) {
    const __m512 t = _mm512_fmadd_ps(x, _mm512_set1_ps(1.44269504f), _mm512_set1_ps(MAGIC));
    const __m512 n = _mm512_sub_ps(t, _mm512_set1_ps(MAGIC));
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0.693359375f), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), r);
    const __m512 p = CRIT_EXP_POLY(_mm512_set1_ps, _mm512_fmadd_ps, r);
    /* n >= -126, and there p > 1.4: the sum is never subnormal */
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}

/* As silu of vec_avx2.c: e^-|g| only, 0 below -87; a NaN stays in g, which multiplies everything. */
CRIT_INLINE __m512 silu(__m512 g) {
    const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps(), sign = _mm512_set1_ps(-0.0f);
    const __m512 least = _mm512_set1_ps(-87.0f), neg = _mm512_or_ps(g, sign);
    __m512 e = exp_ps(_mm512_max_ps(neg, least));
    e = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(neg, least, _CMP_LT_OQ), e, zero);
    const __m512 num = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(g, zero, _CMP_LT_OQ), one, e);
    const __m512 v = _mm512_mul_ps(g, _mm512_div_ps(num, _mm512_add_ps(one, e)));
    /* -inf * 0 is NaN; the limit is -0 */
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(g, _mm512_set1_ps(-200.0f), _CMP_LT_OQ), v, sign);
}

#undef MAGIC

#endif
