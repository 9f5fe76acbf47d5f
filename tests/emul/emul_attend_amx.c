/* SPDX-License-Identifier: MIT */
/* The AMX level's attention once more, on AVX2 and an emulated tile file, as emul_crit_*; and its start-up check. */
#if defined(__x86_64__)
#include "emul_attend.h"

#include "emul_amx.h"

EMUL emul_f512 emul_zero_unless(unsigned k, emul_f512 a) {
    return emul_blend(k, emul_set1(0), a);
}
EMUL emul_i512 emul_and_i32(unsigned k, emul_i512 a, emul_i512 b) {
    return emul_bits(emul_zero_unless(k, emul_and(emul_float(a), emul_float(b))));
}
EMUL emul_i512 emul_or_i(emul_i512 a, emul_i512 b) {
    return emul_bits(emul_or(emul_float(a), emul_float(b)));
}
EMUL void emul_store_i(void *p, emul_i512 a) {
    emul_store(p, emul_float(a));
}

#undef _mm512_srli_epi32
#undef _mm512_insertf32x8
#undef _mm512_shuffle_f32x4
#define _mm512_castps256_ps512(a)        ((emul_f512){a, a})
#define _mm512_insertf32x8(a, b, half)   ((emul_f512){(a).lo, b})
#define _mm512_shuffle_f32x4(a, b, swap) ((emul_f512){(a).hi, (b).lo})
#define __m512i                          emul_i512
#define _mm512_mask_max_ps(src, k, a, b) emul_blend(k, src, emul_max(a, b))
#define _mm512_maskz_sub_ps(k, a, b)     emul_zero_unless(k, emul_sub(a, b))
#define _mm512_maskz_mov_ps              emul_zero_unless
#define _mm512_maskz_and_epi32           emul_and_i32
#define _mm512_or_si512                  emul_or_i
#define _mm512_srli_epi32(a, n)          ((emul_i512){_mm256_srli_epi32((a).lo, n), _mm256_srli_epi32((a).hi, n)})
#define _mm512_abs_ps(a)                 emul_float(emul_and_i32(0xffff, emul_bits(a), emul_set1_i32(0x7fffffff)))
#define _mm512_store_si512               emul_store_i

#define crit_attend_amx    emul_attend
#define crit_block_lse_amx emul_block_lse
#define crit_amx_works     emul_crit_amx_works
#include "kernels/x86/attend_amx.c"
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
void emul_crit_block_lse_amx(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, size_t n_key,
                             uint32_t d, float scale, float *lse, float *top, size_t stride, void *scratch) {
    emul_block_lse(q, q_stride, n_row, k, n_key, d, scale, lse, top, stride, scratch);
    emul_tile_need(!emul_tf.ready);
}
#else
typedef int crit_emul_attend_amx_empty;
#endif
