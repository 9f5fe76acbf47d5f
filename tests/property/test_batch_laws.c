/* SPDX-License-Identifier: MIT */
/* Laws of batches on synthetic models, through the public API: a sequence's logits have the same bits alone, among
 * others, in any order, shared or not, and the same up to rounding wherever it was forked; they are those of decoding
 * in the session up to rounding of the products; keys and values of what is shared exist once; a failed call changes
 * nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "critiprefill/policy.h"
#include "model/model.h"
#include "tiny_model.h"

enum { PROMPT = 210, TAIL = 40, STEPS = 24 };

static crit_model *open_model(uint32_t n_head, uint32_t n_kv_head, uint32_t d, const char *arch) {
    crit_model *m = tiny_model_of("auto", n_head, n_kv_head, d, arch);
    assert_non_null(m);
    return m;
}

static uint32_t n_vocab_of(const crit_model *m) {
    crit_model_info info = {.struct_size = sizeof info};
    assert_int_equal(crit_model_get_info(m, &info), CRIT_OK);
    return info.n_vocab;
}

/* Token t of story s: stories with the same number agree everywhere, others may agree at the start. */
static int32_t story(uint32_t s, uint32_t t, uint32_t n_vocab) {
    return (int32_t)(((uint64_t)(s + 1) * 7919 + (uint64_t)t * 104729 + (uint64_t)t * t * s) % n_vocab);
}

static crit_session *open_session(const crit_model *m, unsigned threads) {
    crit_session_params p;
    crit_session_params_init(&p);
    p.n_ctx = PROMPT + TAIL;
    p.n_threads = threads;
    crit_session *s = NULL;
    crit_error err = {0};
    int32_t ids[PROMPT];
    for (uint32_t t = 0; t < PROMPT; t++) ids[t] = story(99, t, n_vocab_of(m));
    if (crit_session_open(&s, m, &p, &err)) fail_msg("%s", err.message);
    if (crit_prefill(s, ids, PROMPT, NULL, &err)) fail_msg("%s", err.message);
    return s;
}

static crit_batch *open_batch(crit_session *s, uint32_t n_seq, bool unshared) {
    crit_batch_params p;
    crit_batch_params_init(&p);
    p.n_seq = n_seq;
    p.tail_tok = TAIL;
    p.unshared = unshared;
    crit_batch *b = NULL;
    crit_error err = {0};
    if (crit_batch_open(&b, s, &p, &err)) fail_msg("%s", err.message);
    return b;
}

/* Logits of STEPS tokens of one story decoded alone: [STEPS][n_vocab]. */
static float *alone(const crit_model *m, uint32_t which) {
    uint32_t n = n_vocab_of(m), zero = 0;
    float *rows = malloc((size_t)STEPS * n * sizeof *rows);
    assert_non_null(rows);
    crit_session *s = open_session(m, 1);
    crit_batch *b = open_batch(s, 1, false);
    for (uint32_t t = 0; t < STEPS; t++) {
        int32_t id = story(which, t, n);
        assert_int_equal(crit_batch_decode(b, &zero, &id, 1, NULL), CRIT_OK);
        memcpy(rows + (size_t)t * n, crit_batch_logits(b, 0), n * sizeof *rows);
    }
    crit_batch_close(&b);
    crit_session_close(&s);
    return rows;
}

static void same_row(const float *want, const crit_batch *b, uint32_t seq, uint32_t t, uint32_t n, const char *what) {
    if (memcmp(want + (size_t)t * n, crit_batch_logits(b, seq), n * sizeof *want))
        fail_msg("%s: sequence %u differs at token %u", what, seq, t);
}

/* A fork cuts the past into other pieces, which merge to the same up to rounding: in f32, or to bf16 with KV_BF16T.
 * There each cut rounds the soft-max weights against maxima of its own, and everything behind that is rounded to bf16
 * may round the other way: weights, and activations of q k v, output, gate and up, down, in 2 layers, and of the head:
 * 11 roundings of up to 2^-8 on either side, independent: sqrt(11) 2^-8 2 = 2.6e-2 of the size. */
static double fork_tolerance(const crit_model *m) {
    crit_model_info info = {.struct_size = sizeof info};
    assert_int_equal(crit_model_get_info(m, &info), CRIT_OK);
    return m->kernels.kv_layout == CRIT_KV_BF16T ? sqrt(11) * 0x1p-7 : 1e-4;
}

static void near_row(const float *want, const crit_batch *b, uint32_t seq, uint32_t t, uint32_t n, double tolerance) {
    double size = 0, off = 0;
    for (uint32_t j = 0; j < n; j++) {
        size = fmax(size, fabs((double)want[(size_t)t * n + j]));
        off = fmax(off, fabs((double)(want[(size_t)t * n + j] - crit_batch_logits(b, seq)[j])));
    }
    if (!(off <= tolerance * size)) fail_msg("sequence %u is %g off at token %u, of %g", seq, off, t, size);
}

static const struct {
    uint32_t n_head, n_kv_head, d;
    const char *arch;
} shapes[] = {{4, 1, 64, "llama"}, {3, 3, 64, "qwen2"}, {8, 2, 128, "qwen3"}};

static void others_change_nothing(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int unshared = 0; unshared < 2; unshared++) {
            crit_model *m = open_model(shapes[i].n_head, shapes[i].n_kv_head, shapes[i].d, shapes[i].arch);
            uint32_t n = n_vocab_of(m), seq[5];
            float *want[5];
            for (uint32_t k = 0; k < 5; k++) want[k] = alone(m, k);
            crit_session *s = open_session(m, 2);
            crit_batch *b = open_batch(s, 5, unshared);
            seq[0] = 0;
            for (uint32_t k = 1; k < 5; k++) assert_int_equal(crit_batch_fork(b, 0, &seq[k], NULL), CRIT_OK);
            for (uint32_t t = 0; t < STEPS; t++) {
                uint32_t who[5];
                int32_t ids[5];
                for (uint32_t k = 0; k < 5; k++) { /* another order each time */
                    uint32_t x = (k * 2 + t) % 5;
                    who[k] = seq[x];
                    ids[k] = story(x, t, n);
                }
                /* some steps in two calls */
                uint32_t first = t % 3 ? 5 : 2;
                assert_int_equal(crit_batch_decode(b, who, ids, first, NULL), CRIT_OK);
                if (first < 5) assert_int_equal(crit_batch_decode(b, who + 2, ids + 2, 3, NULL), CRIT_OK);
                for (uint32_t k = 0; k < 5; k++) same_row(want[k], b, seq[k], t, n, shapes[i].arch);
            }
            crit_batch_close(&b);
            crit_session_close(&s);
            for (uint32_t k = 0; k < 5; k++) free(want[k]);
            crit_model_close(&m);
        }
}

/* Stories 10, 11, 12 share their first tokens here: forks of forks. */
static int32_t branching(uint32_t s, uint32_t t, uint32_t n_vocab) {
    if (t < 6) return story(3, t, n_vocab);
    if (t < 12 && s > 0) return story(4, t, n_vocab);
    return story(5 + s, t, n_vocab);
}

static void forks_at(const char *cpu) {
    crit_model *m = tiny_model_of(cpu, 4, 2, 64, "llama");
    if (!m) return;
    const double tolerance = fork_tolerance(m);
    uint32_t n = n_vocab_of(m), seq[3] = {0, 0, 0};
    float *want[3];
    for (uint32_t k = 0; k < 3; k++) { /* each alone, from the prompt */
        crit_session *s = open_session(m, 1);
        crit_batch *b = open_batch(s, 1, false);
        want[k] = malloc((size_t)STEPS * n * sizeof(float));
        assert_non_null(want[k]);
        for (uint32_t t = 0; t < STEPS; t++) {
            int32_t id = branching(k, t, n);
            uint32_t zero = 0;
            assert_int_equal(crit_batch_decode(b, &zero, &id, 1, NULL), CRIT_OK);
            memcpy(want[k] + (size_t)t * n, crit_batch_logits(b, 0), n * sizeof(float));
        }
        crit_batch_close(&b);
        crit_session_close(&s);
    }
    crit_session *s = open_session(m, 2);
    crit_batch *b = open_batch(s, 4, false);
    size_t per_tok = crit_batch_kv_bytes(b) / PROMPT;
    for (uint32_t t = 0; t < STEPS; t++) {
        uint32_t live = t < 6 ? 1 : t < 12 ? 2 : 3;
        if (t == 6 || t == 12) {
            assert_int_equal(crit_batch_fork(b, seq[live - 2], &seq[live - 1], NULL), CRIT_OK);
            assert_memory_equal(crit_batch_logits(b, seq[live - 1]), crit_batch_logits(b, seq[live - 2]),
                                n * sizeof(float));
        }
        int32_t ids[3];
        for (uint32_t k = 0; k < live; k++) ids[k] = branching(k, t, n);
        assert_int_equal(crit_batch_decode(b, seq, ids, live, NULL), CRIT_OK);
        for (uint32_t k = 0; k < live; k++) {
            near_row(want[k], b, seq[k], t, n, tolerance);
            assert_int_equal(crit_batch_n_past(b, seq[k]), PROMPT + t + 1);
        }
    }
    /* 6 + 18 of the first, 6 + 12 of the second, 12 of the third */
    assert_int_equal(crit_batch_kv_bytes(b), per_tok * (PROMPT + 24 + 18 + 12));
    assert_int_equal(crit_batch_drop(b, seq[1], NULL), CRIT_OK); /* the six that it shares with the third stay */
    assert_int_equal(crit_batch_kv_bytes(b), per_tok * (PROMPT + 24 + 6 + 12));
    assert_null(crit_batch_logits(b, seq[1]));
    assert_int_equal(crit_batch_drop(b, seq[0], NULL), CRIT_OK);
    assert_int_equal(crit_batch_kv_bytes(b), per_tok * (PROMPT + 6 + 6 + 12));
    uint32_t again;
    assert_int_equal(crit_batch_fork(b, seq[2], &again, NULL), CRIT_OK);
    assert_int_equal(again, 0); /* the lowest number that is free */
    crit_batch_close(&b);
    crit_session_close(&s);
    for (uint32_t k = 0; k < 3; k++) free(want[k]);
    crit_model_close(&m);
}

static void forks_share_the_past(void **state) {
    (void)state;
    static const char *const levels[] = {"auto", "avx512", "avx2", "c"};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) forks_at(levels[i]);
}

static void as_in_the_session(void **state) {
    (void)state;
    crit_model *m = open_model(4, 2, 64, "llama");
    uint32_t n = n_vocab_of(m), zero = 0;
    crit_session *s = open_session(m, 2), *t = open_session(m, 2);
    crit_batch *b = open_batch(s, 3, false);
    assert_memory_equal(crit_batch_logits(b, 0), crit_logits(t), n * sizeof(float));
    for (uint32_t i = 0; i < STEPS; i++) {
        int32_t id = story(2, i, n);
        assert_int_equal(crit_batch_decode(b, &zero, &id, 1, NULL), CRIT_OK);
        assert_int_equal(crit_decode(t, id, NULL), CRIT_OK);
        double size = 0;
        for (uint32_t j = 0; j < n; j++) size = fmax(size, fabs((double)crit_logits(t)[j]));
        for (uint32_t j = 0; j < n; j++)
            assert_true(fabs((double)(crit_batch_logits(b, 0)[j] - crit_logits(t)[j])) < .05 * size);
    }
    /* the session is where it was */
    crit_batch_close(&b);
    assert_int_equal(crit_session_n_past(s), PROMPT);
    int32_t id = story(2, 0, n);
    assert_int_equal(crit_decode(s, id, NULL), CRIT_OK);
    crit_session_close(&s);
    crit_session_close(&t);
    crit_model_close(&m);
}

static void failures_change_nothing(void **state) {
    (void)state;
    crit_model *m = open_model(4, 2, 64, "llama");
    uint32_t n = n_vocab_of(m), seq[3] = {0, 1, 1}, out;
    int32_t ids[3] = {1, 2, 3}, wrong = (int32_t)n;
    crit_session *s = open_session(m, 2);
    crit_batch *b = NULL, *c = NULL;
    crit_batch_params p;
    crit_batch_params_init(&p);
    p.tail_tok = TAIL + 1;
    assert_int_equal(crit_batch_open(&b, s, &p, NULL), CRIT_E_CONTEXT);
    p.tail_tok = TAIL;
    p.n_seq = 0;
    assert_int_equal(crit_batch_open(&b, s, &p, NULL), CRIT_E_ARG);
    p.n_seq = 100000;
    assert_int_equal(crit_batch_open(&b, s, &p, NULL), CRIT_E_ARG);
    assert_null(b);
    p.n_seq = 2;
    assert_int_equal(crit_batch_open(&b, s, &p, NULL), CRIT_OK);
    assert_int_equal(crit_batch_open(&c, s, &p, NULL), CRIT_E_STATE);
    assert_int_equal(crit_decode(s, 1, NULL), CRIT_E_STATE);
    assert_int_equal(crit_prefill(s, ids, 2, NULL, NULL), CRIT_E_STATE);
    assert_int_equal(crit_session_rewind(s, 3, NULL), CRIT_E_STATE);
    assert_int_equal(crit_batch_decode(b, seq, ids, 2, NULL), CRIT_E_ARG); /* there is no 1 yet */
    assert_int_equal(crit_batch_fork(b, 0, &out, NULL), CRIT_OK);
    assert_int_equal(crit_batch_fork(b, 0, &out, NULL), CRIT_E_SPACE);
    assert_int_equal(crit_batch_decode(b, seq + 1, ids, 2, NULL), CRIT_E_ARG); /* twice */
    assert_int_equal(crit_batch_decode(b, seq, &wrong, 1, NULL), CRIT_E_ARG);
    for (uint32_t t = 0; t < TAIL; t++) assert_int_equal(crit_batch_decode(b, seq, ids, 1, NULL), CRIT_OK);
    size_t bytes = crit_batch_kv_bytes(b);
    assert_int_equal(crit_batch_decode(b, seq, ids, 2, NULL), CRIT_E_CONTEXT); /* sequence 1 has room, 0 has not */
    assert_int_equal(crit_batch_n_past(b, 1), PROMPT);
    assert_int_equal(crit_batch_kv_bytes(b), bytes);
    assert_int_equal(crit_batch_drop(b, 7, NULL), CRIT_E_ARG);
    crit_batch_close(&b);
    crit_session_close(&s);
    crit_model_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_change_nothing),
        cmocka_unit_test(forks_share_the_past),
        cmocka_unit_test(as_in_the_session),
        cmocka_unit_test(failures_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
