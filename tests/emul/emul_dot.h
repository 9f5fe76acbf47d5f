/* SPDX-License-Identifier: MIT */
/* vdpbf16ps on eight lanes, in AVX2: include it behind emul_attend.h or emul_gemm.h. */
#ifndef CRIT_TESTS_EMUL_DOT_H
#define CRIT_TESTS_EMUL_DOT_H

/* As documented: two FMAs, the upper values of the pairs first; subnormals are 0, in and out. */
EMUL __m256 emul_normal(__m256 x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    const __m256 tiny = _mm256_cmp_ps(_mm256_andnot_ps(sign, x), _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ);
    return _mm256_blendv_ps(x, _mm256_and_ps(sign, x), tiny);
}
EMUL __m256 emul_dot_8(__m256 sum, __m256i a, __m256i b) {
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    __m256 x[2] = {_mm256_castsi256_ps(_mm256_and_si256(a, high)), _mm256_castsi256_ps(_mm256_slli_epi32(a, 16))};
    __m256 y[2] = {_mm256_castsi256_ps(_mm256_and_si256(b, high)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
    sum = emul_normal(sum);
    for (int i = 0; i < 2; i++) sum = emul_normal(_mm256_fmadd_ps(emul_normal(x[i]), emul_normal(y[i]), sum));
    return sum;
}

#endif
