/* SPDX-License-Identifier: MIT */
/* What the NEON GEMM drivers share: row pointers of a panel, and moving the f32 tile between out and scratch.
 *
 * A tile starts from what out holds (a later K block, or accumulate) or from 0, plus the bias once, so an element's
 * additions run in the order of K whatever the tile's shape. */
#ifndef CRIT_TILE_NEON_H
#define CRIT_TILE_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/unroll.h"

/* A ragged panel repeats its last row; the columns are dropped. */
CRIT_INLINE void panel_rows(const crit_gemm_args *a, size_t n, size_t nv, const uint8_t *row[CRIT_GEMM_NR]) {
    for (size_t j = 0; j < CRIT_GEMM_NR; j++)
        row[j] = (const uint8_t *)a->w + (n + (j < nv ? j : nv - 1)) * a->w_row_bytes;
}

/* c [n_row][16]; columns from nv on keep what they hold, which no one reads. */
CRIT_INLINE void tile_begin(const crit_gemm_args *a, float *c, size_t r0, size_t n_row, size_t n, size_t nv,
                            int first) {
    const int old = !first || a->accumulate, biased = first && a->bias;
    for (size_t r = 0; r < n_row; r++, c += CRIT_GEMM_NR) {
        const float *o = a->out + (r0 + r) * a->out_stride + n;
        if (nv == CRIT_GEMM_NR) {
            CRIT_UNROLL for (size_t j = 0; j < CRIT_GEMM_NR; j += 4) {
                float32x4_t v = old ? vld1q_f32(o + j) : vdupq_n_f32(0);
                if (biased) v = vaddq_f32(v, vld1q_f32(a->bias + n + j));
                vst1q_f32(c + j, v);
            }
            continue;
        }
        for (size_t j = 0; j < nv; j++) {
            const float v = old ? o[j] : 0.0f;
            c[j] = biased ? v + a->bias[n + j] : v;
        }
    }
}

CRIT_INLINE void tile_end(const crit_gemm_args *a, const float *c, size_t r0, size_t n_row, size_t n, size_t nv) {
    for (size_t r = 0; r < n_row; r++)
        memcpy((void *)(a->out + (r0 + r) * a->out_stride + n), c + r * CRIT_GEMM_NR, nv * sizeof *c);
}

#endif
