/* SPDX-License-Identifier: MIT */
/* The AVX-512 VNNI gemm kernels, compiled for AVX2 with emulated intrinsics and named emul_<kernel>. */
#include "emul_gemm.h"

#define crit_gemm_q4_0_avx512vnni   emul_crit_gemm_q4_0_avx512vnni
#define crit_gemm_q4_1_avx512vnni   emul_crit_gemm_q4_1_avx512vnni
#define crit_gemm_q5_0_avx512vnni   emul_crit_gemm_q5_0_avx512vnni
#define crit_gemm_q5_1_avx512vnni   emul_crit_gemm_q5_1_avx512vnni
#define crit_gemm_q8_0_avx512vnni   emul_crit_gemm_q8_0_avx512vnni
#define crit_gemm_iq4_nl_avx512vnni emul_crit_gemm_iq4_nl_avx512vnni
#define crit_gemm_iq4_xs_avx512vnni emul_crit_gemm_iq4_xs_avx512vnni
#define crit_gemm_q4_k_avx512vnni   emul_crit_gemm_q4_k_avx512vnni
#define crit_gemm_q5_k_avx512vnni   emul_crit_gemm_q5_k_avx512vnni
#define crit_gemm_q6_k_avx512vnni   emul_crit_gemm_q6_k_avx512vnni
#define crit_gemm_q3_k_avx512vnni   emul_crit_gemm_q3_k_avx512vnni
#define crit_gemm_q2_k_avx512vnni   emul_crit_gemm_q2_k_avx512vnni

#include "kernels/x86/gemm_avx512vnni.c"
