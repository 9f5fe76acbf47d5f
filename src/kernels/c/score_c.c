/* SPDX-License-Identifier: MIT */
/* Estimation and selection, the references, and the statistics of a key block.   [alg:represent] [alg:score]
 * [alg:select]
 *
 * Sums that feed one result are in double; what the contract says bit for bit (block_stats, select_above) is in f32
 * and in the order given there. */
#include <math.h>

#include "kernels/f16.h"
#include "kernels/protos.h"

void crit_block_stats_c(const uint16_t *k, size_t n_new, size_t n_old, uint32_t d, float *kmax, float *kmin,
                        float *ksum) {
    for (size_t t = 0; t < n_new; t++) {
        for (uint32_t i = 0; i < d; i++) {
            const float x = crit_f16_value(k[t * d + i]);
            const int first = n_old == 0 && t == 0;
            kmax[i] = first || x > kmax[i] ? x : kmax[i];
            kmin[i] = first || x < kmin[i] ? x : kmin[i];
            ksum[i] = first ? x : ksum[i] + x;
        }
    }
}

void crit_mean_rows_c(const float *q, size_t q_stride, size_t n_row, uint32_t d, float *rep) {
    for (uint32_t i = 0; i < d; i++) {
        double s = 0;
        for (size_t r = 0; r < n_row; r++) s += (double)q[r * q_stride + i];
        rep[i] = (float)(s / (double)n_row);
    }
}

void crit_score_c(const float *rep, uint32_t n_rep, const float *kvec, size_t n_blk, uint32_t d, float scale,
                  float *z) {
    for (size_t b = 0; b < n_blk; b++) {
        for (uint32_t r = 0; r < CRIT_REP_MAX; r++) {
            double s = 0;
            if (r < n_rep)
                for (uint32_t i = 0; i < d; i++) s += (double)rep[(size_t)r * d + i] * (double)kvec[b * d + i];
            z[b * CRIT_REP_MAX + r] = (float)((double)scale * s);
        }
    }
}

void crit_share_c(float *z, size_t n_blk, uint32_t n_rep, uint32_t n_tile, float *share, size_t stride) {
    for (uint32_t r = 0; r < n_rep * n_tile; r++) {
        float *out = share + r / n_rep * stride;
        for (size_t b = 0; b < n_blk && r % n_rep == 0; b++) out[b] = 0;
        double top = -(double)INFINITY, sum = 0;
        for (size_t b = 0; b < n_blk; b++) top = fmax(top, (double)z[b * CRIT_REP_MAX + r]);
        if (isinf(top) && top < 0) continue;
        for (size_t b = 0; b < n_blk; b++) sum += exp((double)z[b * CRIT_REP_MAX + r] - top);
        for (size_t b = 0; b < n_blk; b++)
            out[b] += (float)(exp((double)z[b * CRIT_REP_MAX + r] - top) / (sum * (double)n_rep));
    }
}

void crit_minmax_score_c(const float *qmid, const float *kmax, const float *kmin, size_t n_blk, uint32_t d, float w,
                         int accumulate, float *a) {
    for (size_t b = 0; b < n_blk; b++) {
        double mid = 0, half = 0;
        for (uint32_t i = 0; i < d; i++) {
            const double hi = (double)kmax[b * d + i], lo = (double)kmin[b * d + i];
            mid += (double)qmid[i] * (hi + lo);
            half += (double)qmid[i] * (hi - lo);
        }
        const float v = (float)((double)w * 0.5 * (mid + fabs(half)));
        a[b] = accumulate ? a[b] + v : v;
    }
}

size_t crit_select_above_c(const float *share, size_t n_blk, float thresh, uint32_t b0, uint32_t *out) {
    size_t n = 0;
    for (size_t b = 0; b < n_blk; b++)
        if (share[b] > thresh) out[n++] = b0 + (uint32_t)b;
    return n;
}
