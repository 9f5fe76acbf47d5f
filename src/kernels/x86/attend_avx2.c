/* SPDX-License-Identifier: MIT */
/* attend and block_lse for AVX2 + FMA + F16C: strips of 32 rows.  The algorithm is in attend_tmpl.h, that of
 * decoding in attend_few.h. */
#include "kernels/protos.h"
#include "kernels/x86/lanes_avx2.h"

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

/* 12 accumulators, 3 broadcasts and a load fill the 16 registers: 7 loads for 12 FMA.  Narrower strips take more keys.
 */
#define STRIP_NV   4
#define TILE_N(nv) ((nv) == 4 ? 3 : (nv) == 3 ? 4 : (nv) == 2 ? 6 : 8)
#define TILE_R(nv) ((nv) == 4 ? 2 : (nv) == 3 ? 4 : (nv) == 2 ? 4 : 8)

#include "kernels/attend_tmpl.h"
#include "kernels/x86/attend_few.h"

enum { FEW_ROWS = 8, FEW_ROWS_MAX = 24 }; /* some more rows: once for each eight, measured faster than strips */

void crit_attend_avx2(const crit_attend_args *a, void *scratch) {
    if (a->causal || a->n_row > FEW_ROWS_MAX || a->n_far || a->want) {
        attend(a, scratch);
        return;
    }
    crit_attend_args few = *a;
    for (uint32_t r = 0; r < a->n_row; r += FEW_ROWS) {
        few.q = a->q + r * a->q_stride;
        few.out = a->out + r * a->out_stride;
        few.lse = a->lse ? a->lse + r : NULL;
        few.n_row = a->n_row - r < FEW_ROWS ? a->n_row - r : FEW_ROWS;
        attend_few(&few, scratch);
    }
}

void crit_block_lse_avx2(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, size_t n_key, uint32_t d,
                         float scale, float *lse, float *top, size_t stride, void *scratch) {
    block_lse(q, q_stride, n_row, k, n_key, d, scale, lse, top, stride, scratch);
}
