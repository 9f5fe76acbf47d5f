/* SPDX-License-Identifier: MIT */
/* The thread pool: every item once, stages in order, stopping, the account; and the cost model's decisions. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core.h"
#include "sparse/sparse.h"

enum { N = 300 };

typedef struct shared {
    atomic_uint ran[3][N];
    atomic_uint ended[3]; /* items of each stage that have ended */
    atomic_uint early;    /* items that began before the stage in front of theirs had ended */
    size_t n_item[3];
} shared;

typedef struct stage_arg {
    shared *s;
    unsigned stage;
} stage_arg;

static void item(void *arg, size_t i, unsigned worker) {
    (void)worker;
    stage_arg *a = arg;
    for (unsigned k = 0; k < a->stage; k++)
        if (atomic_load(&a->s->ended[k]) != a->s->n_item[k]) atomic_fetch_add(&a->s->early, 1);
    for (volatile unsigned spin = (unsigned)(i * 37 % 200); spin; spin--) {
    }
    atomic_fetch_add(&a->s->ran[a->stage][i], 1);
    atomic_fetch_add(&a->s->ended[a->stage], 1);
}

static void stages_in_order(void **state) {
    (void)state;
    static const size_t shapes[][3] = {{N, N, N}, {1, N, 1}, {0, 7, N}, {3, 0, 5}, {N, 0, 0}, {1, 1, 1}, {0, 0, 0}};
    for (unsigned threads = 1; threads <= 7; threads += 3) {
        crit_pool *p = NULL;
        assert_int_equal(crit_pool_open(&p, threads, threads == 4, NULL), CRIT_OK);
        uint64_t n_item = 0;
        for (size_t rep = 0; rep < 40; rep++)
            for (size_t c = 0; c < sizeof shapes / sizeof *shapes; c++) {
                shared s = {.early = 0};
                stage_arg a[3];
                crit_stage st[3];
                for (unsigned k = 0; k < 3; k++) {
                    a[k] = (stage_arg){&s, k};
                    s.n_item[k] = shapes[c][k];
                    st[k] = (crit_stage){.n_item = shapes[c][k], .task = item, .arg = &a[k]};
                    n_item += shapes[c][k];
                }
                const uint64_t t0 = crit_now_ns();
                crit_pool_run_stages(p, st, 3);
                assert_int_equal(s.early, 0);
                for (unsigned k = 0; k < 3; k++)
                    for (size_t i = 0; i < N; i++) assert_int_equal(s.ran[k][i], i < shapes[c][k]);
                assert_true(t0 <= st[0].end_ns && st[0].end_ns <= st[1].end_ns && st[1].end_ns <= st[2].end_ns);
                assert_true(st[2].end_ns <= crit_now_ns());
            }
        const crit_pool_count n = crit_pool_counts(p);
        assert_int_equal(n.n_item, n_item);
        assert_int_equal(n.n_run, 40 * 7);
        assert_int_equal(n.n_stage, 40 * 14); /* stages with items */
        crit_pool_close(&p);
        assert_null(p);
    }
}

static int stop_now(void *arg) {
    (void)arg;
    return 1;
}

static void wait_for_poll(void *arg, size_t i, unsigned worker) {
    (void)i, (void)worker;
    atomic_fetch_add((atomic_uint *)arg, 1);
    const uint64_t t0 = crit_now_ns();
    while (crit_now_ns() - t0 < 2000000) {
    }
}

/* A stopped pool leaves items out but comes back, also with threads waiting between stages. */
static void stopping(void **state) {
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads++) {
        crit_pool *p = NULL;
        atomic_uint ran = 0;
        assert_int_equal(crit_pool_open(&p, threads, false, NULL), CRIT_OK);
        crit_pool_set_poll(p, stop_now, NULL);
        crit_stage st[2] = {{.n_item = 500, .task = wait_for_poll, .arg = &ran},
                            {.n_item = 500, .task = wait_for_poll, .arg = &ran}};
        crit_pool_run_stages(p, st, 2);
        assert_true(crit_pool_stopped(p));
        assert_in_range(ran, 1, 999);
        const unsigned before = ran;
        crit_pool_run(p, 5, wait_for_poll, &ran);
        assert_int_equal(ran, before);
        crit_pool_set_poll(p, NULL, NULL);
        crit_pool_run(p, 5, wait_for_poll, &ran);
        assert_int_equal(ran, before + 5);
        crit_pool_close(&p);
    }
}

static void look_at_signals(void *arg, size_t i, unsigned worker) {
    (void)i;
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    if (worker) {
        const bool right = sigismember(&now, SIGINT) == 1 && sigismember(&now, SIGALRM) == 1 &&
                           sigismember(&now, SIGSEGV) == 0 && sigismember(&now, SIGBUS) == 0;
        atomic_fetch_add((atomic_uint *)arg, right ? 1 : 1000000);
    }
    atomic_uint ran = 0;
    wait_for_poll(&ran, i, worker);
}

/* Workers take no signal of the application, but a fault of their own reaches its handler. */
static void signals(void **state) {
    (void)state;
    crit_pool *p = NULL;
    atomic_uint seen = 0;
    assert_int_equal(crit_pool_open(&p, 3, false, NULL), CRIT_OK);
    while (!seen) crit_pool_run(p, 20, look_at_signals, &seen);
    assert_in_range(seen, 1, 999999);
    crit_pool_close(&p);
    assert_int_equal(crit_pool_open(&p, CRIT_THREADS_MAX + 1, false, NULL), CRIT_E_ARG);
}

static void costs(void **state) {
    (void)state;
    static const unsigned masks[] = {0, CRIT_CPU_AVX2, CRIT_CPU_AVX2 | CRIT_CPU_AVX512, CRIT_CPU_ALL, CRIT_CPU_NEON};
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        const crit_cost c = crit_cost_of(masks[i]);
        assert_true(c.attend_ns > 0 && c.estimate_ns > 0 && c.efficiency > 0.5f && c.efficiency <= 1);
        assert_true(crit_cost_estimate_pays(&c, CRIT_TILE_LEN)); /* or the level would never be sparse */
        assert_true(crit_cost_dense_wins(&c, 100, 100));
        assert_false(crit_cost_dense_wins(&c, 50, 100));
        /* A tile that keeps nothing to itself costs more than dense when the estimate is dear. */
        const crit_cost dear = {c.attend_ns, 1e6f * c.attend_ns, 1, 512};
        assert_false(crit_cost_estimate_pays(&dear, CRIT_TILE_LEN));
        assert_int_equal(crit_cost_chunk(&c, 1, 32), c.chunk_tok);
        assert_true(crit_cost_chunk(&c, 64, 14) >= 2048 && crit_cost_chunk(&c, 1024, 1) == 4096);
        assert_int_equal(crit_cost_chunk(&c, 64, 14) % CRIT_TILE_LEN, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(stages_in_order), cmocka_unit_test(stopping),
                                       cmocka_unit_test(signals), cmocka_unit_test(costs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
