/* SPDX-License-Identifier: MIT */
/* Sampling: greedy and its ties, NaN, each filter by what it excludes, shares of the draw, the seed, the penalty. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "text/sample.h"

static crit_sampler *open_with(uint32_t n, const crit_sampler_params *p) {
    crit_sampler *s;
    crit_error err;
    if (crit_sampler_make(&s, n, p, &err)) fail_msg("%s", err.message);
    return s;
}

/* No filter at all, temp 1. */
static crit_sampler_params open_params(void) {
    crit_sampler_params p;
    crit_sampler_params_init(&p);
    p.temp = 1;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    return p;
}

static void greedy(void **state) {
    (void)state;
    crit_sampler *s = open_with(5, NULL);
    assert_int_equal(crit_sample(s, (float[]){1, 3, 2, 3, 0}), 1); /* the lower id of equals */
    assert_int_equal(crit_sample(s, (float[]){NAN, -1, NAN, -2, NAN}), 1);
    assert_int_equal(crit_sample(s, (float[]){-INFINITY, NAN, -INFINITY, NAN, NAN}), 0);
    assert_int_equal(crit_sample(s, (float[]){NAN, 0, INFINITY, 5, INFINITY}), 2);
    assert_int_equal(crit_sample(s, (float[]){NAN, NAN, NAN, NAN, NAN}), -1);
    crit_sampler_close(&s);
    crit_sampler_close(&s);
    crit_sampler_close(NULL);
}

/* How often each of n ids comes in 20000 draws. */
static void count(const crit_sampler_params *p, const float *logits, uint32_t n, unsigned *hits) {
    crit_sampler *s = open_with(n, p);
    for (uint32_t i = 0; i < n; i++) hits[i] = 0;
    for (int i = 0; i < 20000; i++) {
        int32_t id = crit_sample(s, logits);
        assert_in_range(id, 0, n - 1);
        hits[id]++;
    }
    crit_sampler_close(&s);
}

static void shares(void **state) {
    (void)state;
    const float logits[5] = {logf(1), logf(4), NAN, logf(2), logf(1)}; /* 1/8 1/2 - 1/4 1/8 */
    unsigned h[5];
    crit_sampler_params p = open_params();
    count(&p, logits, 5, h);
    /* six standard deviations of the binomial */
    assert_in_range(h[0], 2500 - 281, 2500 + 281);
    assert_in_range(h[1], 10000 - 425, 10000 + 425);
    assert_int_equal(h[2], 0);
    assert_in_range(h[3], 5000 - 368, 5000 + 368);
    p.temp = 0.5f; /* squares: 1 16 4 1 of 22 */
    count(&p, logits, 5, h);
    assert_in_range(h[1], 14545 - 378, 14545 + 378);
}

static void filters(void **state) {
    (void)state;
    const float logits[5] = {logf(1), logf(4), NAN, logf(2), logf(1)};
    unsigned h[5];
    crit_sampler_params p = open_params();
    p.top_k = 3; /* of the two with 1/8 the lower id */
    count(&p, logits, 5, h);
    assert_true(h[0] && h[1] && h[3] && !h[4]);
    p = open_params();
    p.top_p = 0.7f; /* 1/2 is not enough, 3/4 is */
    count(&p, logits, 5, h);
    assert_true(!h[0] && h[1] && h[3] && !h[4]);
    p.top_p = 0;
    count(&p, logits, 5, h);
    assert_int_equal(h[1], 20000);
    p = open_params();
    p.min_p = 0.3f; /* of the best share */
    count(&p, logits, 5, h);
    assert_true(!h[0] && h[1] && h[3] && !h[4]);
    p = open_params();
    count(&p, (float[]){INFINITY, 3, INFINITY, -INFINITY, NAN}, 5, h);
    assert_true(h[0] && !h[1] && h[2] && !h[3] && !h[4]);
    count(&p, (float[]){NAN, -INFINITY, 0, -INFINITY, 1}, 5, h);
    assert_true(h[2] && h[4] && h[2] + h[4] == 20000);
}

/* top_k by heap picks what a full sort would. */
static void top_k_is_exact(void **state) {
    (void)state;
    enum { N = 3000 };
    float *logits = malloc(N * sizeof *logits);
    assert_non_null(logits);
    uint32_t x = 12345;
    for (int i = 0; i < N; i++) {
        x = x * 1664525u + 1013904223u;
        logits[i] = (float)(x >> 22); /* many ties */
    }
    crit_sampler_params p = open_params();
    p.temp = 1e6f; /* all nearly alike */
    for (uint32_t k = 1; k < 60; k += 7) {
        p.top_k = k;
        crit_sampler *s = open_with(N, &p);
        for (int i = 0; i < 300; i++) {
            int32_t id = crit_sample(s, logits);
            uint32_t ahead = 0;
            for (int32_t j = 0; j < N; j++) ahead += logits[j] > logits[id] || (logits[j] == logits[id] && j < id);
            assert_true(ahead < k);
        }
        crit_sampler_close(&s);
    }
    free(logits);
}

static void seeds(void **state) {
    (void)state;
    float logits[64] = {0};
    crit_sampler_params p = open_params();
    int32_t first[50], same = 0;
    for (int run = 0; run < 3; run++) {
        p.seed = run == 2 ? 8 : 7;
        crit_sampler *s = open_with(64, &p);
        for (int i = 0; i < 50; i++) {
            int32_t id = crit_sample(s, logits);
            if (run == 0) first[i] = id;
            if (run == 1) assert_int_equal(id, first[i]);
            if (run == 2) same += id == first[i];
        }
        crit_sampler_close(&s);
    }
    assert_true(same < 20);
}

static void penalty(void **state) {
    (void)state;
    crit_sampler_params p;
    crit_sampler_params_init(&p);
    p.repeat_penalty = 2;
    p.repeat_last_n = 2;
    crit_sampler *s = open_with(4, &p);
    const float logits[4] = {4, 3, 2.5f, -1};
    assert_int_equal(crit_sample(s, logits), 0);
    assert_int_equal(crit_sample(s, logits), 1); /* 2 3 2.5 */
    assert_int_equal(crit_sample(s, logits), 2); /* 2 1.5 2.5 */
    assert_int_equal(crit_sample(s, logits), 0); /* 0 is forgotten: 4 1.5 1.25 */
    crit_sampler_close(&s);
    s = open_with(2, &p);
    assert_int_equal(crit_sample(s, (float[]){-1, -1.5f}), 0);
    assert_int_equal(crit_sample(s, (float[]){-1, -1.5f}), 1); /* below zero it multiplies */
    crit_sampler_close(&s);
}

static void bad_params(void **state) {
    (void)state;
    crit_sampler_params ok, p;
    crit_sampler_params_init(&ok);
    crit_sampler *s;
    crit_error err;
    p = ok, p.struct_size = 3;
    assert_int_equal(crit_sampler_make(&s, 4, &p, &err), CRIT_E_ARG);
    p = ok, p.temp = NAN;
    assert_int_equal(crit_sampler_make(&s, 4, &p, &err), CRIT_E_ARG);
    p = ok, p.top_p = 1.5f;
    assert_int_equal(crit_sampler_make(&s, 4, &p, &err), CRIT_E_ARG);
    p = ok, p.min_p = -1;
    assert_int_equal(crit_sampler_make(&s, 4, &p, &err), CRIT_E_ARG);
    p = ok, p.repeat_penalty = 0;
    assert_int_equal(crit_sampler_make(&s, 4, &p, NULL), CRIT_E_ARG);
    assert_null(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(greedy),    cmocka_unit_test(shares),
                                       cmocka_unit_test(filters),   cmocka_unit_test(top_k_is_exact),
                                       cmocka_unit_test(seeds),     cmocka_unit_test(penalty),
                                       cmocka_unit_test(bad_params)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
