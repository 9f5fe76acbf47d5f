/* SPDX-License-Identifier: MIT */
/* Packed activations: what act_pack writes and gemm and gemv read.  Private to the kernels and checkasm.
 *
 * I8: one 64-byte record per 32 values, so that one pointer per row serves everything.  The sums exist because
 * weights are s*q + m with unsigned q: m meets sum; an offset 2^n of q is taken off in the 16-bit lanes of maddubs,
 * where (q - 2^n) a stays within int16 although q a does not (see x86/gemm_u8_avx2.c); and where products are summed
 * in 32 bits, weights are stored with 128 added and the sum begins at start, which costs no instruction.
 * I16: one 68-byte record per 32 values.  BF16: 16 bits a value, zeros to a multiple of 32, tiles of
 * CRIT_ACT_TILE rows (kernels.h).  F32: the row itself. */
#ifndef CRIT_KERNELS_ACT_H
#define CRIT_KERNELS_ACT_H

#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

enum { CRIT_ACT_LEN = CRIT_ACT_STEP, CRIT_ACT_I8_BYTES = 64, CRIT_ACT_I16_BYTES = 68 };

typedef struct crit_act_i8 {
    int8_t q[32]; /* x = s q,  |q| <= 127 */
    float s;
    float sum;               /* s * (q0 + ... + q31) */
    int32_t start_half[2];   /* -128 * (q0 + ... + q15), -128 * (q16 + ... + q31) */
    int16_t lane_half[2][2]; /* per half: sums of q[i] with i mod 4 < 2, and of the others */
    int16_t lane[2];         /* both halves */
    int32_t start;           /* -128 * (q0 + ... + q31) */
} crit_act_i8;

/* What turns s * start_half into the sum of a half's values; a power of two, so nothing is rounded. */
#define CRIT_ACT_START_UNIT (-0x1p-7f)

/* The two sums of halves of a packed record. */
static inline void crit_act_half_sums(const uint8_t *record, float sum[2]) {
    crit_act_i8 a;
    memcpy(&a, record, sizeof a);
    for (int h = 0; h < 2; h++) sum[h] = a.s * CRIT_ACT_START_UNIT * (float)a.start_half[h];
}

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
