/* SPDX-License-Identifier: MIT */
/* block_lse with vdpbf16ps once more, on AVX2, as emul_crit_*. */
#if defined(__x86_64__)
#include "emul_attend_bf16.h"

#define crit_block_lse_avx512bf16 emul_crit_block_lse_avx512bf16
#include "kernels/x86/block_lse_avx512bf16.c"
#else
typedef int crit_emul_block_lse_bf16_empty;
#endif
