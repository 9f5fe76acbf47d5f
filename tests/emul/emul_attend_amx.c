/* SPDX-License-Identifier: MIT */
/* The AMX level's attention once more, on AVX2 and an emulated tile file, as emul_crit_*; and its start-up check. */
#if defined(__x86_64__)
#include "emul_attend_bf16.h"

#include "emul_amx.h"

#define crit_attend_amx    emul_attend
#define crit_block_lse_amx emul_block_lse
#define crit_amx_works     emul_crit_amx_works
#include "kernels/x86/attend_amx.c"
#include "kernels/x86/block_lse_amx.c"
#include "kernels/x86/check_amx.c"
#undef crit_attend_amx
#undef crit_block_lse_amx

/* The kernels leave the caller's thread without tile state. */
extern __typeof__(*(crit_attend_fn)0) emul_crit_attend_amx;
extern __typeof__(*(crit_block_lse_fn)0) emul_crit_block_lse_amx;
void emul_crit_attend_amx(const crit_attend_args *a, void *scratch) {
    emul_attend(a, scratch);
    emul_tile_need(!emul_tf.ready);
}
void emul_crit_block_lse_amx(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, const void *ready,
                             size_t n_key, uint32_t d, float scale, float *lse, float *top, size_t stride,
                             void *scratch) {
    emul_block_lse(q, q_stride, n_row, k, ready, n_key, d, scale, lse, top, stride, scratch);
    emul_tile_need(!emul_tf.ready);
}
#else
typedef int crit_emul_attend_amx_empty;
#endif
