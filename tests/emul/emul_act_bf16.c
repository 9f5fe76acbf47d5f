/* SPDX-License-Identifier: MIT */
/* Packing to bf16, compiled for AVX2 with emulated intrinsics and named emul_<kernel>. */
#include "emul_bf16.h"

#define crit_act_pack_bf16_avx512bf16 emul_crit_act_pack_bf16_avx512bf16

#include "kernels/x86/act_avx512bf16.c"
