/* SPDX-License-Identifier: MIT */
/* The AMX level's KV packing, built for AVX2: it uses no more, but the real one is compiled with the level's flags. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "emul_amx.h"

#define crit_kv_put_amx      emul_crit_kv_put_amx
#define crit_block_stats_amx emul_crit_block_stats_amx
#include "kernels/x86/kv_amx.c"
#else
typedef int crit_emul_kv_amx_empty;
#endif
