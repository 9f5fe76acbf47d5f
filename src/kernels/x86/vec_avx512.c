/* SPDX-License-Identifier: MIT */
/* The rest of a layer, AVX-512 F: what AVX2 is not fast enough for once products run on tiles.  A SiLU of 16 values
 * costs one exp and one quotient; with AVX2 it was 6 % of a prefill on AMX. */
#include <immintrin.h>
#include <math.h>

#include "kernels/protos.h"
#include "kernels/x86/silu_avx512.h"

CRIT_INLINE __mmask16 lanes_of(size_t n) {
    return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
}

void crit_silu_mul_avx512(const float *g, const float *u, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 in = lanes_of(n - i);
        const __m512 v = silu(_mm512_maskz_loadu_ps(in, g + i));
        _mm512_mask_storeu_ps(y + i, in, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(in, u + i)));
    }
}

/* Sums of so many values go to double, so that the error does not grow with n. */
enum { SUM_RUN = 1024 };

double crit_soft_max_avx512(float *x, size_t n, float *top) {
    const __m512 least = _mm512_set1_ps(-87.0f), none = _mm512_set1_ps(-INFINITY);
    __m512 most = none;
    float lane[16];
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 in = lanes_of(n - i);
        most = _mm512_max_ps(_mm512_mask_blend_ps(in, none, _mm512_maskz_loadu_ps(in, x + i)), most);
    }
    _mm512_mask_storeu_ps(lane, 0xffff, most);
    *top = -INFINITY;
    for (int i = 0; i < 16; i++) *top = lane[i] > *top ? lane[i] : *top;
    const __m512 base = _mm512_set1_ps(*top), zero = _mm512_setzero_ps();
    double sum = 0;
    for (size_t i = 0; i < n;) {
        const size_t end = n - i > SUM_RUN ? i + SUM_RUN : n;
        __m512 part = zero;
        for (; i < end; i += 16) {
            const __mmask16 in = lanes_of(n - i);
            const __m512 v = _mm512_sub_ps(_mm512_maskz_loadu_ps(in, x + i), base);
            const __mmask16 some = in & _mm512_cmp_ps_mask(v, least, _CMP_GE_OQ);
            const __m512 w = _mm512_mask_blend_ps(some, zero, exp_ps(_mm512_max_ps(v, least)));
            _mm512_mask_storeu_ps(x + i, in, w);
            part = _mm512_add_ps(part, w);
        }
        _mm512_mask_storeu_ps(lane, 0xffff, part);
        for (int j = 0; j < 16; j++) sum += (double)lane[j];
    }
    return sum;
}
