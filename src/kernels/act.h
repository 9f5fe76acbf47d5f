/* SPDX-License-Identifier: MIT */
/* Packed activations: what act_pack writes and gemm and gemv read.  Private to the kernels and checkasm.
 *
 * I8: one 64-byte record per 32 values, so that one pointer per row serves everything.  The sums exist because
 * weights are s*q + m with unsigned q: m meets sum, and an offset 2^n of q is taken off in the 16-bit lanes of
 * maddubs, where (q - 2^n) a stays within int16 although q a does not (see x86/gemm_u8_avx2.c).
 * I16: one 68-byte record per 32 values.  BF16: 16 bits a value, zeros to a multiple of 32, tiles of
 * CRIT_ACT_TILE rows (kernels.h).  F32: the row itself. */
#ifndef CRIT_KERNELS_ACT_H
#define CRIT_KERNELS_ACT_H

#include <stdint.h>

#include "kernels/kernels.h"

enum { CRIT_ACT_LEN = CRIT_ACT_STEP, CRIT_ACT_I8_BYTES = 64, CRIT_ACT_I16_BYTES = 68 };

typedef struct crit_act_i8 {
    int8_t q[32]; /* x = s q,  |q| <= 127 */
    float s;
    float sum;               /* s * (q0 + ... + q31) */
    float sum_half[2];       /* the same over q0..q15 and q16..q31 */
    int16_t lane_half[2][2]; /* per half: sums of q[i] with i mod 4 < 2, and of the others */
    int16_t lane[2];         /* both halves */
    int16_t pad[2];
} crit_act_i8;

typedef struct crit_act_i16 {
    int16_t q[32]; /* x = s q,  |q| <= CRIT_ACT_I16_MAX */
    float s;
} crit_act_i16;

/* bf16: 32 values of one row; the same step of the tile's other rows stands beside it */
#define CRIT_ACT_STEP_BYTES (CRIT_ACT_LEN * sizeof(uint16_t))

/* 15 bits and a sign: 32 products with 8-bit weights stay below 2^28, so int32 sums cannot overflow. */
#define CRIT_ACT_I16_MAX 32767

/* Groups whose largest magnitude is below this pack to zeros: its reciprocal scale would overflow. */
#define CRIT_ACT_TINY 0x1p-100f

_Static_assert(sizeof(crit_act_i8) == CRIT_ACT_I8_BYTES, "one cache line");
_Static_assert(sizeof(crit_act_i16) == CRIT_ACT_I16_BYTES, "no padding");

#endif
