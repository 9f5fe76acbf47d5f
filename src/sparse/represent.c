/* SPDX-License-Identifier: MIT */
/* Cheap stand-ins for the queries of a tile or segment.                                    [alg:represent] */
#include <string.h>

#include "sparse/sparse.h"

void crit_represent_means(const crit_kernels *kt, const float *q, size_t q_stride, uint32_t pos, uint32_t n_row,
                          uint32_t d, float *rep) {
    /* Groups lie on the absolute grid: a tile that a turn enters in the middle has fewer, and a short first one. */
    uint32_t n = 0;
    for (uint32_t r = 0; r < n_row;) {
        uint32_t left = CRIT_REP_LEN - (pos + r) % CRIT_REP_LEN, len = left < n_row - r ? left : n_row - r;
        kt->mean_rows(q + r * q_stride, q_stride, len, d, rep + (size_t)n++ * d);
        r += len;
    }
    if (n == 1) memcpy(rep + d, rep, d * sizeof *rep);
}

void crit_represent_mid(const float *q, size_t q_stride, uint32_t n_row, uint32_t d, float *qmid) {
    for (uint32_t i = 0; i < d; i++) {
        float hi = q[i], lo = q[i];
        for (uint32_t r = 1; r < n_row; r++) {
            float x = q[r * q_stride + i];
            hi = x > hi ? x : hi;
            lo = x < lo ? x : lo;
        }
        qmid[i] = 0.5f * (hi + lo);
    }
}
