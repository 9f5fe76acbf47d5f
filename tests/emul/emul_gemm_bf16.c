/* SPDX-License-Identifier: MIT */
/* Products of float weights with vdpbf16ps, on AVX2 and emulated AVX-512, as emul_<kernel>. */
#include <math.h>

#include "emul_bf16.h"

/* As documented: two FMAs, the upper values of the pairs first; subnormals are 0, in and out. */
EMUL float emul_normal(float x) {
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}
EMUL float emul_value(int32_t pair, int upper) {
    const uint32_t bits = upper ? (uint32_t)pair & 0xffff0000u : (uint32_t)pair << 16;
    float x;
    memcpy(&x, &bits, 4);
    return emul_normal(x);
}
EMUL emul_f512 emul_dot(emul_f512 sum, emul_i512 a, emul_i512 b) {
    EACH {
        float x = emul_normal(sum.v[i]);
        for (int h = 1; h >= 0; h--) x = emul_normal(fmaf(emul_value(a.v[i], h), emul_value(b.v[i], h), x));
        sum.v[i] = x;
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
