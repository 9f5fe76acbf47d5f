/* SPDX-License-Identifier: MIT */
/* The AVX-512 VNNI gemv kernels, compiled for AVX2 with emulated intrinsics and named emul_<kernel>. */
#include "emul_gemm.h"

#define crit_gemv_q8_0_avx512vnni   emul_crit_gemv_q8_0_avx512vnni
#define crit_gemv_iq4_nl_avx512vnni emul_crit_gemv_iq4_nl_avx512vnni
#define crit_gemv_iq4_xs_avx512vnni emul_crit_gemv_iq4_xs_avx512vnni

#include "kernels/x86/gemv_avx512vnni.c"
