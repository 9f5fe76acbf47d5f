/* SPDX-License-Identifier: MIT */
/* What lies in attend's scratch; crit_attend_scratch_bytes is the larger of the two sizes here, so that one fits all.
 *
 * A level of the vector kind walks the parts in this order; each is a multiple of 64 bytes because d is a multiple of 8
 * and rows are padded to the longest strip.  Widths per row: AVX2 packs 128 rows into strips of 32, AVX-512 into strips
 * of 64. */
#ifndef CRIT_KERNELS_ATTEND_SCRATCH_H
#define CRIT_KERNELS_ATTEND_SCRATCH_H

#include "kernels/kernels.h"

#define CRIT_ATTEND_KEYS      (CRIT_ATTEND_GROUP * CRIT_BLK_LEN)
#define CRIT_ATTEND_STRIP_MAX 64 /* rows of the widest strip of any level */

static inline size_t crit_attend_scratch_floats(uint32_t d) {
    return 2 * (size_t)CRIT_ATTEND_ROWS * d                   /* Q^T and O^T */
           + 2 * (size_t)CRIT_ATTEND_KEYS * d                 /* K and V of one group, widened */
           + (size_t)CRIT_ATTEND_KEYS * CRIT_ATTEND_STRIP_MAX /* S, then P, of one strip */
           + 3 * (size_t)CRIT_ATTEND_ROWS;                    /* exponent reference, sum and maximum of each row */
}

/* A level of KV_BF16T pads d to whole tiles at most and keeps no widened K and V, but P of several groups
 * (attend_bf16_tmpl.h). */
#define CRIT_ATTEND_BF16_PEND 8 /* blocks whose P waits for P V */

static inline size_t crit_attend_bf16_scratch_bytes(uint32_t d) {
    const size_t wide = ((size_t)d + 31) / 32 * 32;
    return CRIT_ATTEND_ROWS * wide * (2 + 4)                      /* Q bf16, O^T f32 */
           + CRIT_ATTEND_GROUP * CRIT_BLK_LEN * wide * 2 * 2      /* K and V of one group, padded */
           + (size_t)CRIT_ATTEND_KEYS * 32 * 4                    /* S of 32 rows */
           + (size_t)CRIT_ATTEND_BF16_PEND * CRIT_BLK_LEN * 32 * 2 /* P of 32 rows, bf16 */
           + 3 * CRIT_ATTEND_ROWS * 4;                            /* exponent reference, sum and maximum of each row */
}

#endif
