/* SPDX-License-Identifier: MIT */
/* Rounding to bf16 and widening, eight values at a time, for the levels whose K and V are KV_BF16T. */
#ifndef CRIT_KERNELS_X86_BF16_H
#define CRIT_KERNELS_X86_BF16_H

#include <immintrin.h>
#include <stdint.h>

#include "kernels/x86/lanes_avx2.h"

/* bf16 of 8 values in the upper halves of the lanes: to nearest even, subnormals too; NaN stays NaN.  The lower halves
 * hold nothing of use.  In integers: the conversion instructions take subnormals for 0. */
CRIT_INLINE __m256i bf16_high(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i even = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(even), _mm256_castsi256_ps(quiet), nan));
}
/* a in the lower halves, b in the upper ones. */
CRIT_INLINE __m256i bf16_pairs(__m256 a, __m256 b) {
    return _mm256_blend_epi16(_mm256_srli_epi32(bf16_high(a), 16), bf16_high(b), 0xaa);
}
CRIT_INLINE __m128i bf16_8(__m256 x) {
    const __m256i w = _mm256_srli_epi32(bf16_high(x), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
}

CRIT_INLINE __m256 bf16_load(const uint16_t *x) {
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)x);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

#endif
