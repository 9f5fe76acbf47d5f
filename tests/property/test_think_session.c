/* SPDX-License-Identifier: MIT */
/* Laws of ThinK in a session, on synthetic models: nothing dropped is nothing changed, to the bit; neither threads nor
 * chunks show; a second prompt, forks and decoding read the same keys; a cancelled prompt leaves everything as it was;
 * what was dropped is told. */
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
#include "tiny_model.h"

enum { PROMPT = 257, ANSWER = 20, SECOND = 90, CTX = 512 };
#define THINK "think:lambda=0.6,from=0"

static uint32_t n_vocab_of(const crit_model *m) {
    crit_model_info info = {.struct_size = sizeof info};
    assert_int_equal(crit_model_get_info(m, &info), CRIT_OK);
    return info.n_vocab;
}

static const struct {
    uint32_t n_head, n_kv_head, d;
    const char *arch;
} shapes[] = {{4, 1, 64, "llama"}, {3, 3, 64, "qwen2"}, {8, 2, 128, "qwen3"}};
enum { N_SHAPE = sizeof shapes / sizeof *shapes };

/* The timeline's tokens: a prompt, an answer, a second prompt, and more. */
static int32_t ids[CTX];
static void make_ids(const crit_model *m) {
    for (uint32_t t = 0; t < CTX; t++) ids[t] = (int32_t)((t * 104729u + t * t * 31u + 7) % n_vocab_of(m));
}

static crit_session *open_session(const crit_model *m, const char *kv, const char *decode, unsigned threads,
                                  uint32_t n_batch) {
    crit_session_params p;
    crit_session_params_init(&p);
    p.n_ctx = CTX;
    p.n_threads = threads;
    p.n_batch = n_batch;
    p.kv = kv;
    p.decode = decode;
    crit_session *s = NULL;
    crit_error err = {0};
    make_ids(m);
    if (crit_session_open(&s, m, &p, &err)) fail_msg("%s", err.message);
    return s;
}

static void read_to(crit_session *s, uint32_t end) {
    crit_error err = {0};
    uint32_t at = crit_session_n_past(s);
    if (crit_prefill(s, ids + at, end - at, NULL, &err)) fail_msg("%s", err.message);
}
static void decode_to(crit_session *s, uint32_t end) {
    while (crit_session_n_past(s) < end) assert_int_equal(crit_decode(s, ids[crit_session_n_past(s)], NULL), CRIT_OK);
}

static void same_logits(const crit_model *m, const crit_session *a, const crit_session *b, const char *what) {
    if (memcmp(crit_logits(a), crit_logits(b), n_vocab_of(m) * sizeof(float))) fail_msg("%s: logits differ", what);
}

/* Largest difference, of the largest logit. */
static double apart(const crit_model *m, const float *a, const float *b) {
    double size = 0, off = 0;
    for (uint32_t j = 0; j < n_vocab_of(m); j++) {
        size = fmax(size, fabs((double)b[j]));
        off = fmax(off, fabs((double)(a[j] - b[j])));
    }
    return off / size;
}

static void nothing_dropped_changes_no_bit(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SHAPE; i++) {
        crit_model *m = tiny_model_of("auto", shapes[i].n_head, shapes[i].n_kv_head, shapes[i].d, shapes[i].arch);
        crit_session *s = open_session(m, "think:lambda=0,from=0", NULL, 2, 0), *f = open_session(m, NULL, NULL, 2, 0);
        for (int turn = 0; turn < 2; turn++) {
            uint32_t end = turn ? PROMPT + ANSWER + SECOND : PROMPT;
            read_to(s, end);
            read_to(f, end);
            same_logits(m, s, f, "a prompt");
            decode_to(s, end + ANSWER);
            decode_to(f, end + ANSWER);
            same_logits(m, s, f, "an answer");
        }
        crit_session_close(&s);
        crit_session_close(&f);
        crit_model_close(&m);
    }
}

static void cuts_of_the_work_do_not_show(void **state) {
    (void)state;
    static const char *const decode[] = {NULL, "recycled:K=64,S=7"};
    for (size_t i = 0; i < 2 * N_SHAPE; i++) {
        crit_model *m =
            tiny_model_of("auto", shapes[i / 2].n_head, shapes[i / 2].n_kv_head, shapes[i / 2].d, shapes[i / 2].arch);
        crit_session *s[4];
        static const uint32_t n_batch[] = {512, 256, 512, 128};
        for (unsigned k = 0; k < 4; k++) s[k] = open_session(m, THINK, decode[i % 2], k + 1, n_batch[k]);
        for (unsigned k = 0; k < 4; k++) { /* the prompt's last chunk would be one token with 256 and 128 */
            read_to(s[k], PROMPT);
            decode_to(s[k], PROMPT + ANSWER);
            read_to(s[k], PROMPT + ANSWER + SECOND);
            decode_to(s[k], PROMPT + ANSWER + SECOND + ANSWER);
        }
        same_logits(m, s[0], s[1], "chunks");
        same_logits(m, s[0], s[2], "threads");
        same_logits(m, s[0], s[3], "chunks as short as they get");
        for (unsigned k = 0; k < 4; k++) crit_session_close(&s[k]);
        crit_model_close(&m);
    }
}

/* Tokens read as a prompt and tokens decoded see the same narrow keys; full ones give something else. */
static void prompts_read_what_decoding_reads(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SHAPE; i++) {
        crit_model *m = tiny_model_of("auto", shapes[i].n_head, shapes[i].n_kv_head, shapes[i].d, shapes[i].arch);
        crit_session *s[3];
        for (int k = 0; k < 3; k++) {
            s[k] = open_session(m, k < 2 ? THINK : NULL, NULL, 2, 0);
            read_to(s[k], PROMPT);
        }
        same_logits(m, s[0], s[2], "the prompt itself");
        read_to(s[0], PROMPT + 9);
        decode_to(s[1], PROMPT + 9);
        read_to(s[2], PROMPT + 9);
        double same = apart(m, crit_logits(s[0]), crit_logits(s[1]));
        double other = apart(m, crit_logits(s[2]), crit_logits(s[1]));
        /* as decoding in a batch, whose products round as those of a prompt do */
        if (!(same < .05)) fail_msg("%s: a second prompt and decoding are %g apart", shapes[i].arch, same);
        if (!(other > 2 * same)) fail_msg("%s: %g to full keys, %g to narrow ones", shapes[i].arch, other, same);
        for (int k = 0; k < 3; k++) crit_session_close(&s[k]);
        crit_model_close(&m);
    }
}

static void rewinds(void **state) {
    (void)state;
    crit_model *m = tiny_model_of("auto", 8, 2, 128, "qwen3");
    uint32_t n = n_vocab_of(m);
    crit_session *s = open_session(m, THINK, NULL, 2, 0);
    float *want = malloc(2 * n * sizeof *want);
    assert_non_null(want);
    read_to(s, PROMPT);
    decode_to(s, PROMPT + ANSWER);
    memcpy(want, crit_logits(s), n * sizeof *want);
    assert_int_equal(crit_session_rewind(s, PROMPT, NULL), CRIT_OK);
    decode_to(s, PROMPT + ANSWER);
    assert_memory_equal(want, crit_logits(s), n * sizeof *want);
    /* into the narrow part: the same keys, cut into other pieces */
    assert_int_equal(crit_session_rewind(s, 150, NULL), CRIT_OK);
    decode_to(s, 160);
    memcpy(want, crit_logits(s), n * sizeof *want);
    assert_int_equal(crit_session_rewind(s, 150, NULL), CRIT_OK);
    read_to(s, 160);
    assert_true(apart(m, crit_logits(s), want) < .05);
    crit_stats st = {.struct_size = sizeof st};
    assert_int_equal(crit_session_stats(s, &st), CRIT_OK);
    assert_int_equal(st.n_channel, 56);
    /* to the start: a prompt as if it were the first */
    crit_session *f = open_session(m, THINK, NULL, 2, 0);
    assert_int_equal(crit_session_rewind(s, 0, NULL), CRIT_OK);
    for (uint32_t k = 0; k < 2; k++) {
        read_to(k ? s : f, 200);
        decode_to(k ? s : f, 220);
    }
    same_logits(m, s, f, "from the start");
    free(want);
    crit_session_close(&s);
    crit_session_close(&f);
    crit_model_close(&m);
}

static void forks_read_it(void **state) {
    (void)state;
    crit_model *m = tiny_model_of("auto", 4, 2, 64, "llama");
    crit_session *s = open_session(m, THINK, NULL, 2, 0), *t = open_session(m, THINK, NULL, 2, 0),
                 *f = open_session(m, NULL, NULL, 2, 0);
    read_to(s, PROMPT);
    read_to(t, PROMPT);
    read_to(f, PROMPT);
    crit_batch_params p;
    crit_batch_params_init(&p);
    p.n_seq = 12; /* more rows than a tile of queries */
    p.tail_tok = ANSWER;
    crit_batch *b = NULL, *whole = NULL;
    uint32_t seq[12] = {0};
    int32_t tok[12];
    assert_int_equal(crit_batch_open(&b, s, &p, NULL), CRIT_OK);
    assert_int_equal(crit_batch_open(&whole, f, &p, NULL), CRIT_OK);
    assert_true(crit_batch_kv_bytes(b) < crit_batch_kv_bytes(whole));
    for (int k = 1; k < 12; k++) assert_int_equal(crit_batch_fork(b, 0, &seq[k], NULL), CRIT_OK);
    for (uint32_t i = 0; i < ANSWER; i++) {
        for (int k = 0; k < 12; k++) tok[k] = k == 3 ? ids[PROMPT + i] : (int32_t)(i + (uint32_t)k);
        assert_int_equal(crit_batch_decode(b, seq, tok, 12, NULL), CRIT_OK);
        decode_to(t, PROMPT + i + 1);
        assert_true(apart(m, crit_batch_logits(b, seq[3]), crit_logits(t)) < .05);
    }
    crit_batch_close(&b);
    crit_batch_close(&whole);
    crit_session_close(&s);
    crit_session_close(&t);
    crit_session_close(&f);
    crit_model_close(&m);
}

/* ---- cancelling ---- */

typedef struct countdown {
    int left;
} countdown;
static int stop_at(void *user, double done, uint32_t total) {
    (void)done, (void)total;
    countdown *c = user;
    return c->left-- == 0;
}

static void a_cancelled_prompt_leaves_no_trace(void **state) {
    (void)state;
    crit_model *m = tiny_model_of("auto", 4, 1, 64, "llama");
    for (int at = 0; at < 6; at++) {
        crit_session *s = open_session(m, THINK, NULL, 2, 256), *f = open_session(m, THINK, NULL, 2, 256);
        crit_session *both[] = {s, f};
        for (int k = 0; k < 2; k++) {
            read_to(both[k], PROMPT);
            decode_to(both[k], PROMPT + ANSWER);
        }
        crit_prefill_params p;
        crit_prefill_params_init(&p);
        countdown c = {at};
        p.progress = stop_at;
        p.progress_user = &c;
        crit_status st = crit_prefill(s, ids + PROMPT + ANSWER, SECOND, &p, NULL);
        if (st) {
            assert_int_equal(st, CRIT_E_CANCELLED);
            assert_int_equal(crit_session_n_past(s), PROMPT + ANSWER);
        } else { /* there were not so many calls */
            assert_int_equal(crit_session_rewind(f, PROMPT + ANSWER, NULL), CRIT_OK);
            read_to(f, PROMPT + ANSWER + SECOND);
        }
        for (int k = 0; k < 2; k++) decode_to(both[k], PROMPT + ANSWER + SECOND + 5);
        same_logits(m, s, f, "behind a cancelled prompt");
        crit_session_close(&s);
        crit_session_close(&f);
        assert_true(st || at > 1); /* two layers, each with a call */
    }
    crit_model_close(&m);
}

static void tells_what_it_does(void **state) {
    (void)state;
    crit_model *m = tiny_model_of("auto", 8, 2, 128, "qwen3");
    static const char *const kv[] = {NULL, THINK, "think:lambda=0.6,from=0,when=never"};
    crit_stats st[3];
    crit_memory mem[3];
    for (int k = 0; k < 3; k++) {
        crit_session *s = open_session(m, kv[k], NULL, 1, 0);
        crit_session_params p;
        crit_session_params_init(&p);
        p.n_ctx = CTX;
        p.kv = kv[k];
        st[k].struct_size = sizeof st[k];
        mem[k].struct_size = sizeof mem[k];
        read_to(s, PROMPT);
        assert_int_equal(crit_session_stats(s, &st[k]), CRIT_OK);
        assert_int_equal(crit_memory_estimate(m, &p, &mem[k], NULL), CRIT_OK);
        decode_to(s, PROMPT + 1);
        crit_decode_stats d = {.struct_size = sizeof d};
        assert_int_equal(crit_session_decode_stats(s, false, &d), CRIT_OK);
        assert_true(k ? d.model < 0.8 : d.model == 1.0);
        assert_true(k ? d.moved_bytes < .9 * d.full_bytes : d.moved_bytes == d.full_bytes);
        crit_session_close(&s);
    }
    /* 224 keys of 2 heads in 2 layers: 56 of 128 channels, 2 bytes each */
    assert_int_equal(st[0].n_channel, 128);
    assert_int_equal(st[1].n_channel, 56);
    assert_int_equal(st[0].kv_bytes - st[1].kv_bytes, (size_t)224 * 2 * 2 * (128 - 56) * 2);
    assert_int_equal(st[2].kv_bytes - st[0].kv_bytes, (size_t)224 * 2 * 2 * 56 * 2);
    assert_true(mem[0].policy_bytes == 0 && mem[1].policy_bytes > 0 && mem[2].policy_bytes > mem[1].policy_bytes);
    assert_true(mem[1].total_bytes == mem[0].total_bytes + mem[1].policy_bytes);
    crit_model_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_dropped_changes_no_bit),
        cmocka_unit_test(cuts_of_the_work_do_not_show),
        cmocka_unit_test(prompts_read_what_decoding_reads),
        cmocka_unit_test(rewinds),
        cmocka_unit_test(forks_read_it),
        cmocka_unit_test(a_cancelled_prompt_leaves_no_trace),
        cmocka_unit_test(tells_what_it_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
