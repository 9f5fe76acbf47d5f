/* SPDX-License-Identifier: MIT */
/* The AVX-512 gemm kernels of float weights, compiled for AVX2 with emulated intrinsics and named emul_<kernel>. */
#include "emul_gemm.h"

#define crit_gemm_f32_avx512  emul_crit_gemm_f32_avx512
#define crit_gemm_f16_avx512  emul_crit_gemm_f16_avx512
#define crit_gemm_bf16_avx512 emul_crit_gemm_bf16_avx512

#include "kernels/x86/gemm_f32_avx512.c"
