/* SPDX-License-Identifier: MIT */
/* Statistics of samples: quantiles by hand, bootstrap intervals against what is known of the normal distribution. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "stats.h"

static uint64_t state;

static double uniform(void) { /* (0, 1) */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(state >> 11) + 0.5) * 0x1p-53;
}

static double normal(void) { /* Box and Muller */
    double u = uniform(), v = uniform();
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static void means_and_quantiles(void **s) {
    (void)s;
    double x[] = {4, 1, 3, 2}, one[] = {7}, hole[] = {1, (double)NAN, 0};
    assert_true(stats_mean(x, 4) == 2.5);
    assert_true(isnan(stats_mean(x, 0)));
    assert_true(stats_quantile(x, 4, 0.5) == 2.5);
    assert_true(x[0] == 1 && x[3] == 4); /* sorted */
    assert_true(stats_quantile(x, 4, 0) == 1 && stats_quantile(x, 4, 1) == 4);
    assert_true(fabs(stats_quantile(x, 4, 0.9) - 3.7) < 1e-12);
    assert_true(stats_quantile(one, 1, 0.99) == 7);
    assert_true(isnan(stats_quantile(x, 0, 0.5)));
    assert_true(isnan(stats_quantile(hole, 3, 0.5))); /* a hole in the data is not passed over */
}

static void small_samples(void **s) {
    (void)s;
    double lo, hi, x[] = {3, 3, 3};
    stats_bootstrap(x, 0, 1, &lo, &hi);
    assert_true(isnan(lo) && isnan(hi));
    stats_bootstrap(x, 1, 1, &lo, &hi);
    assert_true(isnan(lo) && isnan(hi)); /* one says nothing of others */
    stats_bootstrap(x, 3, 1, &lo, &hi);
    assert_true(lo == 3 && hi == 3);
    x[1] = (double)NAN;
    stats_bootstrap(x, 3, 1, &lo, &hi);
    assert_true(isnan(hi));
}

static void the_seed_decides(void **s) {
    (void)s;
    double x[40], lo[3], hi[3];
    state = 5;
    for (int i = 0; i < 40; i++) x[i] = normal();
    stats_bootstrap(x, 40, 11, &lo[0], &hi[0]);
    stats_bootstrap(x, 40, 11, &lo[1], &hi[1]);
    stats_bootstrap(x, 40, 12, &lo[2], &hi[2]);
    assert_true(lo[0] == lo[1] && hi[0] == hi[1]);
    assert_true(lo[0] != lo[2] || hi[0] != hi[2]);
}

/* Groups count alike, however many values they have: the interval holds the mean of their means, and is as wide as the
 * normal has it. */
static void groups_count_alike(void **s) {
    (void)s;
    const size_t n[] = {300, 0, 20};
    double x[320], lo, hi, var[2] = {0}, m[2];
    state = 9;
    for (int i = 0; i < 320; i++) x[i] = i < 300 ? normal() : 10 + 3 * normal();
    m[0] = stats_mean(x, 300), m[1] = stats_mean(x + 300, 20);
    for (int i = 0; i < 320; i++) var[i >= 300] += (x[i] - m[i >= 300]) * (x[i] - m[i >= 300]);
    const double half = 1.959964 * sqrt(var[0] / (300. * 300) + var[1] / (20. * 20)) / 2, mid = (m[0] + m[1]) / 2;
    stats_bootstrap_groups(x, n, 3, 4, &lo, &hi);
    assert_true(fabs(lo - (mid - half)) < .12 * half && fabs(hi - (mid + half)) < .12 * half);
    const size_t one[] = {319, 1};
    stats_bootstrap_groups(x, one, 2, 4, &lo, &hi);
    assert_true(isnan(lo) && isnan(hi));
}

/* The mean of n resampled values is nearly normal with the sample's own deviation: mean -+ 1.96 sd / sqrt(n). */
static void ends_are_where_the_normal_has_them(void **s) {
    (void)s;
    enum { N = 400 };
    double x[N], lo, hi;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        state = seed;
        for (int i = 0; i < N; i++) x[i] = 10 + 2 * normal();
        double m = stats_mean(x, N), var = 0;
        for (int i = 0; i < N; i++) var += (x[i] - m) * (x[i] - m) / N;
        double half = 1.959964 * sqrt(var / N);
        stats_bootstrap(x, N, seed, &lo, &hi);
        /* an end from 4,000 resamples is off by about 3 % of the half-width (a standard deviation 2.3 %) */
        assert_true(fabs(lo - (m - half)) < 0.1 * half);
        assert_true(fabs(hi - (m + half)) < 0.1 * half);
    }
}

/* Of 400 intervals around the mean of 60 values about 94 % hold the truth (95 %, less the bias of a percentile
 * interval at that length): 376 expected, standard deviation 4.7. */
static void intervals_cover_the_truth(void **s) {
    (void)s;
    enum { N = 60, TRIES = 400 };
    double x[N], lo, hi;
    int n_hold = 0, n_below = 0, n_above = 0;
    state = 77;
    for (int t = 0; t < TRIES; t++) {
        for (int i = 0; i < N; i++) x[i] = 1 + 3 * normal();
        stats_bootstrap(x, N, (uint64_t)t, &lo, &hi);
        n_hold += lo <= 1 && 1 <= hi;
        n_below += hi < 1;
        n_above += lo > 1;
    }
    assert_in_range(n_hold, 358, 394);
    assert_in_range(n_below, 2, 28);
    assert_in_range(n_above, 2, 28);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_and_quantiles),       cmocka_unit_test(small_samples),
        cmocka_unit_test(the_seed_decides),          cmocka_unit_test(ends_are_where_the_normal_has_them),
        cmocka_unit_test(intervals_cover_the_truth), cmocka_unit_test(groups_count_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
