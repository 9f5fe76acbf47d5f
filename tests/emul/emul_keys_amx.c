/* SPDX-License-Identifier: MIT */
/* key_scores of the AMX level on an emulated tile file, as emul_crit_*. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "emul_amx.h"

#define crit_key_scores_amx        emul_crit_key_scores_amx
#define crit_key_scores_avx512bf16 emul_crit_key_scores_avx512bf16
#include "kernels/x86/keys_amx.c"
#else
typedef int crit_emul_keys_amx_empty;
#endif
