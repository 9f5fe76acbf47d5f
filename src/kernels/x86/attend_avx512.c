/* SPDX-License-Identifier: MIT */
/* attend and block_lse for AVX-512 F and DQ: strips of 64 rows.  The algorithm is in attend_tmpl.h. */
#include "kernels/protos.h"
#include "kernels/x86/lanes_avx2.h"

typedef __m512 vec;
#define V_W                        16
#define V_ZERO()                   _mm512_setzero_ps()
#define V_SET1(x)                  _mm512_set1_ps(x)
#define V_LOAD(p)                  _mm512_load_ps(p)
#define V_STORE(p, x)              _mm512_store_ps(p, x)
#define V_ADD(a, b)                _mm512_add_ps(a, b)
#define V_SUB(a, b)                _mm512_sub_ps(a, b)
#define V_MUL(a, b)                _mm512_mul_ps(a, b)
#define V_FMA(a, b, c)             _mm512_fmadd_ps(a, b, c)
#define V_MAX(a, b)                _mm512_max_ps(a, b)     /* b where one is NaN */
#define V_AT_LEAST(floor, x)       _mm512_max_ps(floor, x) /* NaN where x is NaN */
#define V_OR(a, b)                 _mm512_or_ps(a, b)
#define V_AND(a, b)                _mm512_and_ps(a, b)
#define V_GE(a, b)                 _mm512_castsi512_ps(_mm512_movm_epi32(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ)))
#define V_COUNT(mask)              (size_t) __builtin_popcount(_mm512_movepi32_mask(_mm512_castps_si512(mask)))
#define V_ANY_BITS(a, bits)        (_mm512_test_epi32_mask(_mm512_castps_si512(a), _mm512_set1_epi32(bits)) != 0)
#define V_SELECT_GT(a, b, yes, no) _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), no, yes)
/* p * 2^n, n in the low bits of t */
#define V_ADD_EXPONENT(p, t)                                                                                           \
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)))

/* 24 accumulators, 6 broadcasts and a load out of 32 registers. */
#define STRIP_NV   4
#define TILE_N(nv) ((nv) >= 3 ? 6 : 8)
#define TILE_R(nv) 4

#include "kernels/attend_tmpl.h"

void crit_attend_avx512(const crit_attend_args *a, void *scratch) {
    if (!a->causal && a->n_row <= 8 && a->n_far == 0 && !a->want)
        crit_attend_avx2(a, scratch); /* half a vector of rows; the bits are the same */
    else
        attend(a, scratch);
}

void crit_block_lse_avx512(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, const void *ready,
                           size_t n_key, uint32_t d, float scale, float *lse, float *top, size_t stride,
                           void *scratch) {
    block_lse(q, q_stride, n_row, k, ready, n_key, d, scale, lse, top, stride, scratch);
}
