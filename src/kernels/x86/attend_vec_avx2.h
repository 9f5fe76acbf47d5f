/* SPDX-License-Identifier: MIT */
/* The vector type of attend_tmpl.h for AVX2. */
#ifndef CRIT_KERNELS_ATTEND_VEC_AVX2_H
#define CRIT_KERNELS_ATTEND_VEC_AVX2_H

#include <immintrin.h>

typedef __m256 vec;
#define V_W                        8
#define V_ZERO()                   _mm256_setzero_ps()
#define V_SET1(x)                  _mm256_set1_ps(x)
#define V_LOAD(p)                  _mm256_load_ps(p)
#define V_STORE(p, x)              _mm256_store_ps(p, x)
#define V_ADD(a, b)                _mm256_add_ps(a, b)
#define V_SUB(a, b)                _mm256_sub_ps(a, b)
#define V_MUL(a, b)                _mm256_mul_ps(a, b)
#define V_FMA(a, b, c)             _mm256_fmadd_ps(a, b, c)
#define V_MAX(a, b)                _mm256_max_ps(a, b)     /* b where one is NaN */
#define V_AT_LEAST(floor, x)       _mm256_max_ps(floor, x) /* NaN where x is NaN */
#define V_OR(a, b)                 _mm256_or_ps(a, b)
#define V_AND(a, b)                _mm256_and_ps(a, b)
#define V_GE(a, b)                 _mm256_cmp_ps(a, b, _CMP_GE_OQ) /* all ones or zeros per lane */
#define V_COUNT(mask)              (size_t) __builtin_popcount((unsigned)_mm256_movemask_ps(mask))
#define V_ANY_BITS(a, bits)        (!_mm256_testz_si256(_mm256_castps_si256(a), _mm256_set1_epi32(bits)))
#define V_SELECT_GT(a, b, yes, no) _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_GT_OQ))
/* p * 2^n, n in the low bits of t */
#define V_ADD_EXPONENT(p, t)                                                                                           \
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)))

#endif
