/* SPDX-License-Identifier: MIT */
/* vec_avx512.c once more, on AVX2, as emul_crit_*. */
#if defined(__x86_64__)
#include "emul_attend.h"

#define crit_silu_mul_avx512 emul_crit_silu_mul_avx512
#define crit_soft_max_avx512 emul_crit_soft_max_avx512
#include "kernels/x86/vec_avx512.c"
#else
typedef int crit_emul_vec_empty;
#endif
