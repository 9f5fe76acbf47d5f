/* SPDX-License-Identifier: MIT */
/* Packing, scores and values of KV_BF16T, built for AVX2: they use no more, but the real ones are compiled with their
 * levels' flags. */
#if defined(__x86_64__)
#include <immintrin.h>

#define crit_kv_put_avx512bf16      emul_crit_kv_put_avx512bf16
#define crit_block_stats_avx512bf16 emul_crit_block_stats_avx512bf16
#define crit_key_scores_avx512bf16  emul_crit_key_scores_avx512bf16
#define crit_mix_values_avx512bf16  emul_crit_mix_values_avx512bf16
#include "kernels/x86/kv_avx512bf16.c"

#include "kernels/x86/keys_avx512bf16.c"
#else
typedef int crit_emul_kv_bf16_empty;
#endif
