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

/* Natural logarithm of 8 normal numbers, 3e-8 relative beside the rounding; exactly 0 at 1, NaN for NaN. */
CRIT_INLINE __m256 crit_log_8(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i e =
        _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23); /* x = 2^e m, m in [.71, 1.41) */
    const __m256 m = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(e, 23)));
    const __m256 f = _mm256_sub_ps(m, _mm256_set1_ps(1.0f)), f2 = _mm256_mul_ps(f, f);
    __m256 p = _mm256_set1_ps(0x1.645eb8p-4f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(-0x1.2432bep-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.317458p-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(-0x1.538248p-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.98d7f2p-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(-0x1.000382p-2f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.5556d8p-2f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(p, f), f2, _mm256_mul_ps(_mm256_set1_ps(-0.5f), f2));
    p = _mm256_fmadd_ps(_mm256_cvtepi32_ps(e), _mm256_set1_ps(0x1.62e430p-1f), _mm256_add_ps(f, p));
    return _mm256_add_ps(p, _mm256_sub_ps(x, x));
}

#endif
