/* SPDX-License-Identifier: MIT */
/* Products of float weights with vdpbf16ps, on AVX2 and emulated AVX-512, as emul_<kernel>. */
#include "emul_bf16.h"

#include "emul_dot.h"

EMUL emul_f512 emul_dot(emul_f512 sum, emul_i512 a, emul_i512 b) {
    for (int h = 0; h < 16; h += 8) {
        const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(a.v + h));
        const __m256i y = _mm256_loadu_si256((const __m256i *)(const void *)(b.v + h));
        _mm256_storeu_ps(sum.v + h, emul_dot_8(_mm256_loadu_ps(sum.v + h), x, y));
    }
    return sum;
}
EMUL emul_i512 emul_load_i(const void *p) {
    emul_i512 r;
    if ((uintptr_t)p % 64) __builtin_trap();
    memcpy(&r, p, sizeof r);
    return r;
}
#define DOT_BF16          emul_dot
#define _mm512_load_si512 emul_load_i

#define crit_gemm_f32_avx512bf16  emul_crit_gemm_f32_avx512bf16
#define crit_gemm_f16_avx512bf16  emul_crit_gemm_f16_avx512bf16
#define crit_gemm_bf16_avx512bf16 emul_crit_gemm_bf16_avx512bf16
#include "kernels/x86/gemm_avx512bf16.c"
