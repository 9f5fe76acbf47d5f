/* SPDX-License-Identifier: MIT */
/* attend_avx512.c once more, on AVX2, as emul_crit_*: checkasm runs it next to the real one. */
#if defined(__x86_64__)
#include "emul_attend.h"

#define crit_attend_avx512    emul_crit_attend_avx512
#define crit_block_lse_avx512 emul_crit_block_lse_avx512
#include "kernels/x86/attend_avx512.c"
#else
typedef int crit_emul_attend_empty;
#endif
