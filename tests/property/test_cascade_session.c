/* SPDX-License-Identifier: MIT */
/* Sessions whose cache is a cascade, through the public API: full attention while everything fits; chunks, threads and
 * calls change no bit; a cancelled prompt stays where it came to and can go on; nothing goes back but to the start;
 * memory is the same for any context. */
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
#include "tiny/oracle.h"

static tiny_params tiny_of(void) {
    tiny_params p;
    tiny_params_init(&p);
    p.n_layer = 3;
    p.n_head = 6;
    p.n_kv_head = 2;
    p.d_head = 32;
    p.n_embd = 64;
    tiny_all_types(&p, CRIT_T_F32);
    return p;
}

static int32_t *tokens_of(uint32_t n, uint32_t n_vocab) {
    int32_t *t = malloc(n * sizeof *t);
    uint64_t seed = 4;
    assert_non_null(t);
    for (uint32_t i = 0; i < n; i++) t[i] = (int32_t)(tiny_rand(&seed) % n_vocab);
    return t;
}

static crit_session *open_session(const crit_model *m, const char *prefill, uint32_t n_ctx, uint32_t ub, uint32_t thr) {
    crit_session_params p;
    crit_session_params_init(&p);
    p.n_ctx = n_ctx;
    p.n_batch = ub;
    p.n_threads = thr;
    p.attn.mode = CRIT_ATTN_DENSE;
    p.prefill = prefill;
    crit_session *s = NULL;
    crit_error err;
    if (crit_session_open(&s, m, &p, &err)) fail_msg("%s", err.message);
    return s;
}

typedef struct rows {
    float *at;
    uint32_t n_vocab, from, n;
} rows;

static int keep_row(void *user, uint32_t pos, const float *logits, uint32_t n_vocab) {
    rows *r = user;
    assert_int_equal(pos, r->from + r->n);
    memcpy(r->at + (size_t)r->n++ * n_vocab, logits, n_vocab * sizeof *logits);
    return 0;
}

/* Reads n tokens and decodes the next `more`; the logits of all positions. */
static float *all_rows(crit_session *s, const int32_t *t, uint32_t n, uint32_t more, uint32_t n_vocab) {
    rows r = {.at = malloc((size_t)(n + more) * n_vocab * sizeof(float)), .n_vocab = n_vocab};
    crit_prefill_params p;
    crit_error err;
    assert_non_null(r.at);
    crit_prefill_params_init(&p);
    p.on_logits = keep_row;
    p.logits_user = &r;
    if (crit_prefill(s, t, n, &p, &err)) fail_msg("%s", err.message);
    for (uint32_t i = 0; i < more; i++) {
        if (crit_decode(s, t[n + i], &err)) fail_msg("%s", err.message);
        keep_row(&r, n + i, crit_logits(s), n_vocab);
    }
    return r.at;
}

/* The account of decoding: what a policy of the prompt moves while it reads is not in it, and a cache that decodes by
 * itself tells what it expects to move. */
static void accounts_are_of_decoding(void **state) {
    (void)state;
    static const char *const prefill[] = {NULL, "tokenselect:k=64,init=32,local=64,min=0", "cascade:C=64,stride=64"};
    enum { N = 700, MORE = 20 };
    tiny_params p = tiny_of();
    crit_model *m = tiny_model(&p, "auto");
    int32_t *t = tokens_of(N + MORE, p.n_vocab);
    for (int i = 0; i < 3; i++) {
        crit_session *s = open_session(m, prefill[i], N + MORE, 128, 1);
        crit_decode_stats d = {.struct_size = sizeof d};
        free(all_rows(s, t, N, MORE, p.n_vocab));
        assert_int_equal(crit_session_decode_stats(s, false, &d), CRIT_OK);
        const double moved = d.moved_bytes / d.full_bytes;
        if (!(fabs(moved / d.model - 1) < .1) || (i == 2) != (d.model < .3)) fail_msg("%d: %g, not %g", i, moved, d.model);
        crit_session_close(&s);
    }
    free(t);
    crit_model_close(&m);
}

static void what_fits_is_dense(void **state) {
    (void)state;
    for (int level = 0; level < 2; level++)
        for (tiny_rope rope = TINY_ROPE_NONE; rope <= TINY_ROPE_LLAMA3; rope++) {
            tiny_params p = tiny_of();
            p.rope = rope;
            p.arch = rope & 1 ? "qwen3" : "llama";
            if (rope == TINY_ROPE_YARN) p.rope_attn = 0.9f;
            if (rope == TINY_ROPE_LINEAR) p.n_rot = 16;
            crit_model *m = tiny_model(&p, level ? "auto" : "c");
            crit_model_info info = {.struct_size = sizeof info};
            crit_model_get_info(m, &info);
            int32_t *t = tokens_of(260, p.n_vocab);
            crit_session *a = open_session(m, NULL, 512, 128, 2);
            crit_session *b = open_session(m, "cascade:C=256,n=4,sinks=10,stride=64", 0, 128, 2);
            float *x = all_rows(a, t, 240, 20, p.n_vocab), *y = all_rows(b, t, 240, 20, p.n_vocab);
            double *want = malloc(p.n_vocab * sizeof *want), bound = m->kernels.kv_layout == CRIT_KV_F16 ? 5e-6 : 1e-2;
            assert_non_null(want);
            for (uint32_t i = 0; i < 260; i++) {
                for (uint32_t j = 0; j < p.n_vocab; j++) want[j] = (double)x[(size_t)i * p.n_vocab + j];
                double kl = oracle_kl(want, y + (size_t)i * p.n_vocab, p.n_vocab);
                if (!(kl <= 20 * bound)) fail_msg("%s: row %u: KL %g", info.cpu, i, kl);
            }
            free(t), free(x), free(y), free(want);
            crit_session_close(&a), crit_session_close(&b);
            crit_model_close(&m);
        }
}

static const char small[] = "cascade:C=64,n=4,sinks=6,stride=128,every=4";

/* Four strides and a rest, then decoded tokens. */
static void chunks_threads_and_calls(void **state) {
    (void)state;
    enum { N = 600, MORE = 9 };
    tiny_params p = tiny_of();
    crit_model *m = tiny_model(&p, "auto");
    int32_t *t = tokens_of(N + MORE, p.n_vocab);
    crit_session *s = open_session(m, small, 0, 128, 1);
    float *want = all_rows(s, t, N, MORE, p.n_vocab);
    crit_error err;
    assert_int_equal(crit_session_rewind(s, 0, &err), CRIT_OK);
    float *again = all_rows(s, t, N, MORE, p.n_vocab);
    assert_memory_equal(want, again, sizeof(float) * (N + MORE) * p.n_vocab);
    free(again);
    crit_session_close(&s);
    /* a stride of 128 is the longest chunk; one of 256 would read other keys: a longer stride with several chunks */
    const char *longer = "cascade:C=64,n=4,sinks=6,stride=300,every=4";
    s = open_session(m, longer, 0, 128, 1);
    float *parts = all_rows(s, t, N, MORE, p.n_vocab);
    crit_session_close(&s);
    s = open_session(m, longer, 0, 512, 3);
    again = all_rows(s, t, N, MORE, p.n_vocab);
    assert_memory_equal(parts, again, sizeof(float) * (N + MORE) * p.n_vocab);
    free(again), free(parts);
    crit_session_close(&s);
    /* in calls */
    s = open_session(m, small, 0, 0, 2);
    crit_prefill_params more;
    crit_prefill_params_init(&more);
    more.more = true;
    for (uint32_t at = 0; at < 500; at += 50) assert_int_equal(crit_prefill(s, t + at, 50, &more, &err), CRIT_OK);
    assert_int_equal(crit_prefill(s, t + 500, N - 500, NULL, &err), CRIT_OK);
    assert_memory_equal(want + (size_t)(N - 1) * p.n_vocab, crit_logits(s), sizeof(float) * p.n_vocab);
    for (uint32_t i = 0; i < MORE; i++) assert_int_equal(crit_decode(s, t[N + i], &err), CRIT_OK);
    assert_memory_equal(want + (size_t)(N + MORE - 1) * p.n_vocab, crit_logits(s), sizeof(float) * p.n_vocab);
    crit_session_close(&s);
    free(want), free(t);
    crit_model_close(&m);
}

typedef struct stopper {
    double at;
} stopper;
static int stop_at(void *user, double done, uint32_t total) {
    (void)total;
    return done > ((stopper *)user)->at;
}

static void what_was_read_stays(void **state) {
    (void)state;
    tiny_params p = tiny_of();
    crit_model *m = tiny_model(&p, "auto");
    int32_t *t = tokens_of(600, p.n_vocab);
    crit_error err;
    crit_prefill_params pp;
    crit_session *a = open_session(m, small, 0, 128, 2), *b = open_session(m, small, 0, 128, 2);
    crit_prefill_params_init(&pp);
    pp.progress = stop_at;
    for (uint32_t stop = 30; stop < 400; stop += 90) {
        stopper u = {stop};
        pp.progress_user = &u;
        /* The first turn goes back to an empty session. */
        assert_int_equal(crit_session_rewind(a, 0, &err), CRIT_OK);
        assert_int_equal(crit_prefill(a, t, 500, &pp, &err), CRIT_E_CANCELLED);
        assert_int_equal(crit_session_n_past(a), 0);
        assert_null(crit_logits(a));
        /* A later one stays at the last chunk it finished. */
        assert_int_equal(crit_prefill(a, t, 100, NULL, &err), CRIT_OK);
        assert_int_equal(crit_prefill(a, t + 100, 400, &pp, &err), CRIT_E_CANCELLED);
        uint32_t n = crit_session_n_past(a);
        assert_true(n >= 100 && n <= 100 + stop && n + 128 >= 100 + stop);
        assert_true(n == 100 || !crit_logits(a));
        assert_int_equal(crit_prefill(a, t + n, 500 - n, NULL, &err), CRIT_OK);
        assert_int_equal(crit_decode(a, t[500], &err), CRIT_OK);
        assert_int_equal(crit_session_rewind(b, 0, &err), CRIT_OK);
        assert_int_equal(crit_prefill(b, t, 100, NULL, &err), CRIT_OK);
        assert_int_equal(crit_prefill(b, t + 100, 400, NULL, &err), CRIT_OK);
        assert_int_equal(crit_decode(b, t[500], &err), CRIT_OK);
        assert_memory_equal(crit_logits(a), crit_logits(b), sizeof(float) * p.n_vocab);
    }
    crit_session_close(&a), crit_session_close(&b);
    free(t);
    crit_model_close(&m);
}

static int no_view(void *user, const crit_layer_view *view) {
    (void)user, (void)view;
    return 0;
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    tiny_params p = tiny_of();
    crit_model *m = tiny_model(&p, "auto");
    int32_t *t = tokens_of(200, p.n_vocab);
    crit_error err;
    crit_session_params sp;
    crit_session *s = NULL;
    crit_session_params_init(&sp);
    sp.prefill = small;
    sp.decode = "recycled";
    assert_int_equal(crit_session_open(&s, m, &sp, &err), CRIT_E_ARG);
    assert_non_null(strstr(err.message, "decodes from its own cache"));
    sp.decode = NULL;
    sp.kv = "think";
    assert_int_equal(crit_session_open(&s, m, &sp, &err), CRIT_E_ARG);
    sp.kv = NULL;
    sp.prefill = "cascade:C=65,n=4";
    assert_int_equal(crit_session_open(&s, m, &sp, &err), CRIT_E_ARG);
    assert_non_null(strstr(err.message, "C=65 is not a multiple of n=4"));
    s = open_session(m, small, 150, 0, 2);
    assert_int_equal(crit_prefill(s, t, 151, NULL, &err), CRIT_E_CONTEXT); /* where a limit is given */
    assert_int_equal(crit_session_load(s, "/nonexistent/x", &err), CRIT_E_STATE);
    assert_int_equal(crit_prefill(s, t, 100, NULL, &err), CRIT_OK);
    assert_int_equal(crit_session_save(s, "/nonexistent/x", t, 100, NULL, &err), CRIT_E_STATE);
    assert_int_equal(crit_session_rewind(s, 50, &err), CRIT_E_STATE);
    assert_non_null(strstr(err.message, "has forgotten"));
    assert_int_equal(crit_session_n_past(s), 100);
    assert_int_equal(crit_session_rewind(s, 100, &err), CRIT_OK);
    assert_int_equal(crit_session_set_decode(s, "recycled", &err), CRIT_E_ARG);
    assert_int_equal(crit_session_set_decode(s, "full", &err), CRIT_OK);
    assert_int_equal(crit_session_watch_decode(s, true, &err), CRIT_E_STATE);
    crit_batch *b = NULL;
    assert_int_equal(crit_batch_open(&b, s, NULL, &err), CRIT_E_STATE);
    assert_non_null(strstr(err.message, "cannot be shared"));
    crit_prefill_params pp;
    crit_prefill_params_init(&pp);
    pp.on_layer = no_view;
    assert_int_equal(crit_prefill(s, t, 10, &pp, &err), CRIT_E_STATE);
    assert_int_equal(crit_session_n_past(s), 100);
    assert_int_equal(crit_decode(s, t[100], &err), CRIT_OK);
    crit_session_close(&s);
    free(t);
    crit_model_close(&m);
}

/* Nothing depends on the context; the work of a token does not grow with what came before. */
static void memory_and_work_stay(void **state) {
    (void)state;
    tiny_params p = tiny_of();
    crit_model *m = tiny_model(&p, "auto");
    crit_memory a = {.struct_size = sizeof a}, b = a;
    crit_session_params sp;
    crit_error err;
    crit_session_params_init(&sp);
    sp.prefill = small;
    sp.n_threads = 2;
    sp.n_ctx = 1000;
    assert_int_equal(crit_memory_estimate(m, &sp, &a, &err), CRIT_OK);
    sp.n_ctx = 0;
    assert_int_equal(crit_memory_estimate(m, &sp, &b, &err), CRIT_OK);
    assert_int_equal(a.total_bytes, b.total_bytes);
    /* a first block, four rings in blocks of 32, the stride; K and V of 16 bits */
    assert_int_equal(b.kv_bytes, (size_t)(32 + 4 * 32 + 128) * p.n_kv_head * p.d_head * 2 * 2 * p.n_layer);
    int32_t *t = tokens_of(1280, p.n_vocab);
    crit_session *s = open_session(m, small, 0, 0, 2);
    double first = 0;
    for (uint32_t at = 0; at < 1280; at += 128) {
        crit_stats st = {.struct_size = sizeof st};
        assert_int_equal(crit_prefill(s, t + at, 128, NULL, &err), CRIT_OK);
        assert_int_equal(crit_session_stats(s, &st), CRIT_OK);
        double pairs = st.density * (at + 129 / 2.0); /* a query and head, (128 + 1) / 2 of them its own stride's */
        if (at == 128) first = pairs;
        if (at) assert_true(fabs(pairs - (6 + 64 + 129 / 2.0)) < 1e-6 && fabs(pairs - first) < 1e-6);
        assert_int_equal(st.kv_bytes, b.kv_bytes);
    }
    crit_session_close(&s);
    free(t);
    crit_model_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts_are_of_decoding),
        cmocka_unit_test(what_fits_is_dense),   cmocka_unit_test(chunks_threads_and_calls),
        cmocka_unit_test(what_was_read_stays),  cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(memory_and_work_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
