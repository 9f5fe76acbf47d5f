/* SPDX-License-Identifier: MIT */
/* See stats.h. */
#include "stats.h"

#include <math.h>
#include <stdlib.h>

enum { N_DRAW = 4000 }; /* resamples: the ends of a 95 % interval are the 100th from each side */

double stats_mean(const double *x, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++) s += x[i];
    return n ? s / (double)n : (double)NAN;
}

/* Ascending, NaN behind everything else. */
static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y)) return !!isnan(x) - !!isnan(y);
    return (x > y) - (x < y);
}

static double sorted_quantile(const double *x, size_t n, double p) {
    if (n == 0 || isnan(x[n - 1])) return (double)NAN;
    double at = p * (double)(n - 1), whole = floor(at);
    size_t i = whole > 0 ? (size_t)whole : 0;
    if (i + 1 >= n) return x[n - 1];
    return x[i] + (at - whole) * (x[i + 1] - x[i]);
}

double stats_quantile(double *x, size_t n, double p) {
    if (n) qsort(x, n, sizeof *x, by_value);
    return sorted_quantile(x, n, p);
}

/* SplitMix64. */
static uint64_t next(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void stats_bootstrap(const double *x, size_t n, uint64_t seed, double *lo, double *hi) {
    stats_bootstrap_groups(x, &n, 1, seed, lo, hi);
}

void stats_bootstrap_groups(const double *x, const size_t *n, size_t n_group, uint64_t seed, double *lo, double *hi) {
    static const double tail = 0.025;
    size_t n_some = 0;
    *lo = *hi = (double)NAN;
    for (size_t g = 0; g < n_group; g++) {
        if (n[g] == 1 || n[g] > UINT32_MAX) return;
        n_some += n[g] > 0;
    }
    double *mean = n_some ? malloc(N_DRAW * sizeof *mean) : NULL;
    if (!mean) return;
    for (size_t r = 0; r < N_DRAW; r++) {
        const double *at = x;
        mean[r] = 0;
        for (size_t g = 0; g < n_group; at += n[g++]) {
            double s = 0;
            for (size_t i = 0; i < n[g]; i++) s += at[(next(&seed) >> 32) * (uint64_t)n[g] >> 32];
            if (n[g]) mean[r] += s / (double)n[g] / (double)n_some;
        }
    }
    qsort(mean, N_DRAW, sizeof *mean, by_value);
    *lo = sorted_quantile(mean, N_DRAW, tail);
    *hi = sorted_quantile(mean, N_DRAW, 1 - tail);
    free(mean);
}
