/* SPDX-License-Identifier: MIT */
/* What keys_tmpl.h wants of AVX2: sums across lanes, and register tiles for 16 registers. */
#ifndef CRIT_KERNELS_SUMS_AVX2_H
#define CRIT_KERNELS_SUMS_AVX2_H

#include "kernels/x86/lanes_avx2.h"

/* out[i] = ((x0 + x2) + (x1 + x3)) + ((x4 + x6) + (x5 + x7)) of x = v[i] */
CRIT_INLINE void l_sums(const __m256 v[8], float *out) {
    __m256 a[4], b[2];
    CRIT_UNROLL for (int i = 0; i < 4; i++) a[i] =
        _mm256_add_ps(_mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]), _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    CRIT_UNROLL for (int i = 0; i < 2; i++) b[i] =
        _mm256_add_ps(_mm256_shuffle_ps(a[2 * i], a[2 * i + 1], 0x44), _mm256_shuffle_ps(a[2 * i], a[2 * i + 1], 0xee));
    _mm256_storeu_ps(out,
                     _mm256_add_ps(_mm256_permute2f128_ps(b[0], b[1], 0x20), _mm256_permute2f128_ps(b[0], b[1], 0x31)));
}

#define MIX_E(nr)  ((nr) == 1 ? 8 : (nr) <= 3 ? 4 : 2)
#define MIX_R      4
#define KEYS_AHEAD 2048

#endif
