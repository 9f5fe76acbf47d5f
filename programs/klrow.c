/* SPDX-License-Identifier: MIT */
/* See klrow.h.
 *
 * With e_i = exp(p_i - max p), d_i = (p_i - max p) - (q_i - max q):  KL = sum e_i d_i / sum e_i - log sum_p + log
 * sum_q, where equal rows give exactly 0: each d_i is 0 and the sums have the same bits. */
#include "klrow.h"

#include <math.h>

double klrow_total(const klrow_sum *s) {
    double t = 0;
    for (size_t j = 0; j < KLROW_LANE; j++) t += s->lane[j];
    return t;
}

/* The next up to KLROW_BLOCK values of x, as many as there are; the rest of the block is -inf. */
static const float *block_at(const float *x, size_t i, size_t n, float *spare) {
    if (n - i >= KLROW_BLOCK) return x + i;
    for (size_t j = 0; j < KLROW_BLOCK; j++) spare[j] = j < n - i ? x[i + j] : -INFINITY;
    return spare;
}

static void find_max(const float *x, size_t n, klrow *s) {
    float spare[KLROW_BLOCK], top = -INFINITY;
    size_t at = 0; /* of the first block that holds the largest */
    for (size_t i = 0; i < n; i += KLROW_BLOCK) {
        float lane[KLROW_LANE];
        const float *b = block_at(x, i, n, spare);
        memcpy(lane, b, sizeof lane);
        for (size_t k = KLROW_LANE; k < KLROW_BLOCK; k += KLROW_LANE)
            for (size_t j = 0; j < KLROW_LANE; j++) lane[j] = b[k + j] > lane[j] ? b[k + j] : lane[j];
        for (size_t j = 0; j < KLROW_LANE; j++)
            if (lane[j] > top) {
                top = lane[j];
                at = i;
            }
    }
    while (at < n && x[at] != top) at++;
    s->max = top;
    s->best = at < n ? (uint32_t)at : 0;
}

/* y = max(x - top, KLROW_FLOOR).  A loop of its own: beside klrow_exp gcc 12 makes a branch of the maximum and then
 * vectorises neither. */
static void below(const float *x, float top, float *y) {
    for (size_t j = 0; j < KLROW_BLOCK; j++) {
        float a = x[j] - top;
        y[j] = a < KLROW_FLOOR ? KLROW_FLOOR : a;
    }
}

klrow klrow_of(const float *x, size_t n) {
    klrow s = {0};
    klrow_sum sum = {{0}};
    float spare[KLROW_BLOCK], e[KLROW_BLOCK];
    find_max(x, n, &s);
    for (size_t i = 0; i < n; i += KLROW_BLOCK) {
        const float *b = block_at(x, i, n, spare);
        below(b, s.max, e);
        for (size_t j = 0; j < KLROW_BLOCK; j++) e[j] = klrow_exp(e[j]);
        klrow_add(&sum, e);
    }
    s.sum = klrow_total(&sum);
    s.log_sum = log(s.sum);
    return s;
}

double klrow_nll(const float *x, const klrow *s, uint32_t id) {
    return (double)s->max + s->log_sum - (double)x[id];
}

double klrow_kl(const float *p, const klrow *ps, const float *q, const klrow *qs, size_t n) {
    klrow_sum sum = {{0}};
    float spare[KLROW_BLOCK], a[KLROW_BLOCK], b[KLROW_BLOCK];
    for (size_t i = 0; i < n; i += KLROW_BLOCK) {
        below(block_at(p, i, n, spare), ps->max, a);
        below(block_at(q, i, n, spare), qs->max, b);
        for (size_t j = 0; j < KLROW_BLOCK; j++) a[j] = klrow_exp(a[j]) * (a[j] - b[j]);
        klrow_add(&sum, a);
    }
    double kl = klrow_total(&sum) / ps->sum - ps->log_sum + qs->log_sum;
    return kl < 0 ? 0 : kl; /* rounding of nearly equal rows; keeps a NaN */
}
