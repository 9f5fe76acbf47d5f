/* SPDX-License-Identifier: MIT */
/* key_scores and mix_values of the AMX level, built for AVX2: they use no more, but the real ones are compiled with the
 * level's flags. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "emul_amx.h"

#define crit_key_scores_amx emul_crit_key_scores_amx
#define crit_mix_values_amx emul_crit_mix_values_amx
#include "kernels/x86/keys_amx.c"
#else
typedef int crit_emul_keys_amx_empty;
#endif
