/* SPDX-License-Identifier: MIT */
/* What lies in attend's scratch, in floats, the same for every level so that one size fits all.
 *
 * A level walks the parts in this order; each is a multiple of 64 bytes because d is a multiple of 8 and rows are
 * padded to the longest strip.  Widths per row: AVX2 packs 128 rows into strips of 32, AVX-512 into strips of 64. */
#ifndef CRIT_KERNELS_ATTEND_SCRATCH_H
#define CRIT_KERNELS_ATTEND_SCRATCH_H

#include "kernels/kernels.h"

#define CRIT_ATTEND_KEYS      (CRIT_ATTEND_GROUP * CRIT_BLK_LEN)
#define CRIT_ATTEND_STRIP_MAX 64 /* rows of the widest strip of any level */

static inline size_t crit_attend_scratch_floats(uint32_t d) {
    return 2 * (size_t)CRIT_TILE_LEN * d                      /* Q^T and O^T */
           + 2 * (size_t)CRIT_ATTEND_KEYS * d                 /* K and V of one group, widened */
           + (size_t)CRIT_ATTEND_KEYS * CRIT_ATTEND_STRIP_MAX /* S, then P, of one strip */
           + 3 * (size_t)CRIT_TILE_LEN; /* exponent reference, sum and maximum of each row */
}

#endif
