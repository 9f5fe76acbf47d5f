/* SPDX-License-Identifier: MIT */
/* Small AVX2 pieces that the attention and estimation kernels share: transposition, widening, logarithm. */
#ifndef CRIT_KERNELS_LANES_AVX2_H
#define CRIT_KERNELS_LANES_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#include "kernels/unroll.h"

/* As crit_load_f16 for finite values, subnormal ones too, but on other ports: in turns they take half the time. */
CRIT_INLINE __m256 crit_load_f16_by_bits(const uint16_t *x) {
    const __m256i wide = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)x));
    const __m256i moved = _mm256_and_si256(_mm256_slli_epi32(wide, 13), _mm256_set1_epi32((int)0x8fffffffu));
    return _mm256_mul_ps(_mm256_castsi256_ps(moved), _mm256_set1_ps(0x1p112f));
}

CRIT_INLINE __m256 crit_load_f16(const uint16_t *x) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)x));
}

/* r[i] lane j <-> r[j] lane i */
CRIT_INLINE void crit_transpose_8x8(__m256 r[8]) {
    __m256 a[8], b[8];
    CRIT_UNROLL for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    CRIT_UNROLL for (int i = 0; i < 2; i++) {
        b[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
        b[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0xee);
        b[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
        b[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xee);
    }
    CRIT_UNROLL for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

/* ---- what attend_tmpl.h wants of every instruction set: rows and lanes meet in squares of L_W x L_W values ---- */

typedef __m256 lvec;
#define L_W               8
#define L_ZERO()          _mm256_setzero_ps()
#define L_SET1(x)         _mm256_set1_ps(x)
#define L_LOAD(p)         _mm256_load_ps(p)
#define L_LOAD_ANY(p)     _mm256_loadu_ps(p)
#define L_STORE(p, x)     _mm256_store_ps(p, x)
#define L_STORE_ANY(p, x) _mm256_storeu_ps(p, x)
#define L_ADD(a, b)       _mm256_add_ps(a, b)
#define L_SUB(a, b)       _mm256_sub_ps(a, b)
#define L_MUL(a, b)       _mm256_mul_ps(a, b)
#define L_DIV(a, b)       _mm256_div_ps(a, b)
#define L_MAX(a, b)       _mm256_max_ps(a, b) /* b where one is NaN or both are 0 */
#define L_MIN(a, b)       _mm256_min_ps(a, b) /* likewise */
#define L_FMA(a, b, c)    _mm256_fmadd_ps(a, b, c)
#define L_AND(a, b)       _mm256_and_ps(a, b)
#define L_LESS(a, b)      _mm256_cmp_ps(a, b, _CMP_LT_OQ)
#define L_LOAD_F16(p)     crit_load_f16(p)
#define L_LOAD_F16_TOO(p) crit_load_f16_by_bits(p)
#define L_TRANSPOSE(r)    crit_transpose_8x8(r)

/* 1 / l, and 0 where l is 0. */
CRIT_INLINE lvec l_inverse(lvec l) {
    return _mm256_andnot_ps(_mm256_cmp_ps(l, _mm256_setzero_ps(), _CMP_EQ_OQ), _mm256_div_ps(_mm256_set1_ps(1.0f), l));
}

/* x = 2^e m, m in [.71, 1.41) */
CRIT_INLINE lvec l_split(lvec x, lvec *e) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i n = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23);
    *e = _mm256_cvtepi32_ps(n);
    return _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(n, 23)));
}

#endif
