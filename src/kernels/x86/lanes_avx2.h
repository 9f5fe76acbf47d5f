/* SPDX-License-Identifier: MIT */
/* Small AVX2 pieces that the attention and estimation kernels share: inlining, unrolling, transposition, widening.
 *
 * Register tiles are arrays with constant bounds; they stay in registers only when every loop over them is unrolled
 * completely, hence CRIT_UNROLL (bounds up to 8) on each. */
#ifndef CRIT_KERNELS_LANES_AVX2_H
#define CRIT_KERNELS_LANES_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define CRIT_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define CRIT_UNROLL   _Pragma("clang loop unroll(full)")
#define CRIT_UNROLL_4 _Pragma("clang loop unroll_count(4)")
#else
#define CRIT_UNROLL   _Pragma("GCC unroll 8")
#define CRIT_UNROLL_4 _Pragma("GCC unroll 4")
#endif

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

#endif
