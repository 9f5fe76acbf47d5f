/* SPDX-License-Identifier: MIT */
/* Statistics of a key block and means of query rows in the lanes of whichever lanes_<isa>.h stands in front of this.
 * d may be any number; tails are scalar.                                                          [alg:represent]
 * STATS_LOAD(p) widens L_W keys' values of the level's 16-bit format, STATS_VALUE(h) one of them.  Macros: a function
 * that is always inlined cannot be called through a pointer, not even one known here, by a compiler told not to
 * optimise. */
#ifndef CRIT_STATS_TMPL_H
#define CRIT_STATS_TMPL_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/unroll.h"

CRIT_INLINE void block_stats(const uint16_t *k, size_t n_new, size_t n_old, size_t d, float *kmax, float *kmin,
                             float *ksum) {
    if (n_new == 0) return;
    size_t i = 0;
    for (; i + L_W <= d; i += L_W) {
        size_t t = 0;
        lvec hi, lo, sum;
        if (n_old == 0) {
            hi = lo = sum = STATS_LOAD(k + i);
            t = 1;
        } else {
            hi = L_LOAD_ANY(kmax + i), lo = L_LOAD_ANY(kmin + i), sum = L_LOAD_ANY(ksum + i);
        }
        for (; t < n_new; t++) {
            const lvec x = STATS_LOAD(k + t * d + i);
            hi = L_MAX(x, hi); /* the second operand where one is NaN or both are 0, as in C */
            lo = L_MIN(x, lo);
            sum = L_ADD(sum, x);
        }
        L_STORE_ANY(kmax + i, hi), L_STORE_ANY(kmin + i, lo), L_STORE_ANY(ksum + i, sum);
    }
    for (; i < d; i++) {
        for (size_t t = 0; t < n_new; t++) {
            const float x = STATS_VALUE(k[t * d + i]);
            const int first = n_old == 0 && t == 0;
            kmax[i] = first || x > kmax[i] ? x : kmax[i];
            kmin[i] = first || x < kmin[i] ? x : kmin[i];
            ksum[i] = first ? x : ksum[i] + x;
        }
    }
}

CRIT_INLINE void mean_rows(const float *q, size_t q_stride, size_t n_row, size_t d, float *rep) {
    const lvec n = L_SET1((float)n_row);
    size_t i = 0;
    for (; i + L_W <= d; i += L_W) {
        lvec s = L_LOAD_ANY(q + i);
        for (size_t r = 1; r < n_row; r++) s = L_ADD(s, L_LOAD_ANY(q + r * q_stride + i));
        L_STORE_ANY(rep + i, L_DIV(s, n));
    }
    for (; i < d; i++) {
        float s = q[i];
        for (size_t r = 1; r < n_row; r++) s += q[r * q_stride + i];
        rep[i] = s / (float)n_row;
    }
}

#endif
