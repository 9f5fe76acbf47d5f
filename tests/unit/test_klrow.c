/* SPDX-License-Identifier: MIT */
/* Rows of logits as distributions, held against the same in double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "klrow.h"

static const size_t lengths[] = {1, 2, 15, 16, 17, 255, 256, 257, 511, 1000, 49152};
enum { N_LENGTH = sizeof lengths / sizeof *lengths };

static uint64_t state;

static double uniform(void) { /* [0, 1) */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

/* Of exactly n floats, so that a sanitizer sees what is read behind them. */
static float *row(size_t n, double spread) {
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = (float)(spread * (uniform() + uniform() + uniform() - 1.5) + 3);
    return x;
}

static double oracle_lse(const float *x, size_t n) {
    double max = (double)x[0], s = 0;
    for (size_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
    for (size_t i = 0; i < n; i++) s += exp((double)x[i] - max);
    return max + log(s);
}

static double oracle_kl(const float *p, const float *q, size_t n) {
    double lp = oracle_lse(p, n), lq = oracle_lse(q, n), kl = 0;
    for (size_t i = 0; i < n; i++) kl += exp((double)p[i] - lp) * ((double)p[i] - lp - ((double)q[i] - lq));
    return kl;
}

static void exp_is_within_its_bound(void **s) {
    (void)s;
    double worst = 0;
    for (double x = (double)KLROW_FLOOR; x <= 0; x += 0.00037) {
        double want = exp((double)(float)x), got = (double)klrow_exp((float)x);
        worst = fmax(worst, fabs(got / want - 1));
    }
    assert_true(worst < 1.5e-7);
    assert_true(klrow_exp(0) == 1.0f);
    assert_true(klrow_exp(KLROW_FLOOR) > 0);
}

static void norms_equal_the_oracle(void **s) {
    (void)s;
    state = 1;
    for (size_t k = 0; k < N_LENGTH; k++) {
        size_t n = lengths[k];
        float *x = row(n, 12);
        klrow r = klrow_of(x, n);
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (x[i] > x[best]) best = i;
        assert_int_equal(r.best, best);
        assert_true(r.max == x[best]);
        double lse = oracle_lse(x, n);
        assert_true(fabs((double)r.max + r.log_sum - lse) < 1e-6);
        assert_true(fabs(klrow_nll(x, &r, (uint32_t)(n / 2)) - (lse - (double)x[n / 2])) < 1e-6);
        free(x);
    }
}

static void the_first_of_equal_tokens_is_best(void **s) {
    (void)s;
    float x[600];
    for (size_t i = 0; i < 600; i++) x[i] = i == 301 || i == 302 || i == 590 ? 2.0f : -1.0f;
    assert_int_equal(klrow_of(x, 600).best, 301);
    for (size_t i = 0; i < 600; i++) x[i] = -3.0f;
    assert_int_equal(klrow_of(x, 600).best, 0);
    assert_true(fabs(klrow_of(x, 600).log_sum - log(600)) < 1e-6);
}

static void kl_equals_the_oracle(void **s) {
    (void)s;
    static const double noise[] = {1e-3, 0.1, 3};
    state = 2;
    for (size_t k = 0; k < N_LENGTH; k++)
        for (size_t j = 0; j < sizeof noise / sizeof *noise; j++) {
            size_t n = lengths[k];
            float *p = row(n, 10), *q = malloc(n * sizeof *q);
            assert_non_null(q);
            for (size_t i = 0; i < n; i++) q[i] = (float)((double)p[i] + noise[j] * (uniform() - 0.5));
            klrow ps = klrow_of(p, n), qs = klrow_of(q, n);
            double want = oracle_kl(p, q, n), got = klrow_kl(p, &ps, q, &qs, n);
            /* the float differences and exponentials are good to 1.5e-7 of a difference of at most noise */
            assert_true(fabs(got - want) < 3e-7 * (1 + noise[j]) + 1e-6 * want);
            assert_true(got >= 0);
            free(p);
            free(q);
        }
}

static void equal_rows_have_no_divergence(void **s) {
    (void)s;
    state = 3;
    for (size_t k = 0; k < N_LENGTH; k++) {
        size_t n = lengths[k];
        float *p = row(n, 20), *q = malloc(n * sizeof *q);
        assert_non_null(q);
        memcpy(q, p, n * sizeof *q);
        klrow ps = klrow_of(p, n), qs = klrow_of(q, n);
        double kl = klrow_kl(p, &ps, q, &qs, n);
        assert_true(kl == 0.0 && ps.log_sum == qs.log_sum && ps.best == qs.best);
        free(p);
        free(q);
    }
}

static void special_values(void **s) {
    (void)s;
    float p[300], q[300];
    for (size_t i = 0; i < 300; i++) p[i] = q[i] = (float)(i % 7);
    p[10] = q[20] = -INFINITY;
    klrow ps = klrow_of(p, 300), qs = klrow_of(q, 300);
    double kl = klrow_kl(p, &ps, q, &qs, 300);
    assert_true(isfinite(kl) && kl > 0);
    q[30] = NAN;
    qs = klrow_of(q, 300);
    assert_true(isnan(klrow_kl(p, &ps, q, &qs, 300)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_its_bound),           cmocka_unit_test(norms_equal_the_oracle),
        cmocka_unit_test(the_first_of_equal_tokens_is_best), cmocka_unit_test(kl_equals_the_oracle),
        cmocka_unit_test(equal_rows_have_no_divergence),     cmocka_unit_test(special_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
