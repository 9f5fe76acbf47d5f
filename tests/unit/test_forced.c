/* SPDX-License-Identifier: MIT */
/* Values read in a prompt: which tokens they are with tokenizers of both kinds, and what counts as found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "forced.h"
#include "tiny/tiny.h"

enum { N_VALUE = 3, N_VOCAB = 320 };
static const char *const values[N_VALUE] = {"48213", "90075518", "777777"};

typedef struct world {
    crit_model *model;
    sample s;
    prompt p;
    forced f;
} world;

static void open_world(world *w, tiny_tok tok) {
    const char *dir = getenv("CRIT_TEST_TMP");
    char path[512];
    tiny_params tp;
    crit_error err;
    size_t n = 0;
    *w = (world){.s = {.how = SCORE_FORCED}};
    snprintf(path, sizeof path, "%s/forced-%d.gguf", dir ? dir : "/tmp", (int)getpid());
    tiny_params_init(&tp);
    tp.n_vocab = N_VOCAB;
    tp.tok = tok;
    assert_int_equal(tiny_write(path, &tp), 0);
    if (crit_model_open(&w->model, path, NULL, &err)) fail_msg("%s", err.message);
    unlink(path);
    for (int i = 0; i < N_VALUE; i++) {
        buf_fmt(&w->s.text, "%sthe number of key %d\nAnswer: ", i ? "\n" : "", i);
        w->s.value[i].at = w->s.text.n;
        buf_str(&w->s.text, values[i]);
        w->s.value[i].len = strlen(values[i]);
    }
    buf_str(&w->s.text, "\n");
    w->s.n_value = N_VALUE;
    crit_tokenize(w->model, w->s.text.s, w->s.text.n, CRIT_TOK_BOS_EOS, NULL, 0, &n, &err);
    w->p.ids = malloc(n * sizeof *w->p.ids);
    assert_non_null(w->p.ids);
    assert_int_equal(crit_tokenize(w->model, w->s.text.s, w->s.text.n, CRIT_TOK_BOS_EOS, w->p.ids, n, &w->p.n, &err),
                     0);
    assert_int_equal(forced_open(&w->f, w->model, &w->s, &w->p), 0);
}

static void close_world(world *w) {
    forced_free(&w->f);
    free(w->p.ids);
    buf_free(&w->s.text);
    crit_model_close(&w->model);
}

/* Rows that know the next token, but for one. */
static void feed(world *w, uint32_t from, uint32_t wrong) {
    float row[N_VOCAB];
    for (uint32_t pos = from; pos < w->p.n; pos++) {
        for (int i = 0; i < N_VOCAB; i++) row[i] = (float)(i % 7);
        if (pos + 1 < w->p.n && pos != wrong) row[w->p.ids[pos + 1]] = 9;
        assert_int_equal(forced_row(&w->f, pos, row, N_VOCAB), 0);
    }
}

static void spans(void **state) {
    (void)state;
    for (tiny_tok tok = TINY_TOK_GPT2; tok <= TINY_TOK_LLAMA; tok++) {
        world w;
        open_world(&w, tok);
        for (size_t v = 0; v < N_VALUE; v++) {
            char text[64] = "";
            size_t n = 0;
            for (size_t t = 1; t < w.p.n; t++)
                if (w.f.value_of[t - 1] == v + 1)
                    n += crit_token_bytes(w.model, w.p.ids[t], false, text + n, sizeof text - 1 - n);
            /* a blank may belong to the first of its tokens */
            assert_string_equal(text + (text[0] == ' '), values[v]);
            assert_true(w.f.n_row[v] > 0 && w.f.value_of[w.f.begin[v]] == v + 1);
            assert_true(w.f.begin[v] == 0 || w.f.value_of[w.f.begin[v] - 1] != v + 1);
        }
        assert_int_equal(w.f.first, w.f.begin[0]);
        assert_true(w.f.value_of[w.f.last] == N_VALUE);
        close_world(&w);
    }
}

static json_t *score(world *w, uint32_t last_tok) {
    json_t *j = json_object();
    assert_int_equal(forced_complete(&w->f, &w->s), 0);
    forced_score(&w->f, &w->s, last_tok, j);
    return j;
}

static json_int_t number(const json_t *j, const char *key) {
    return json_integer_value(json_object_get(j, key));
}

static void found_and_missed(void **state) {
    (void)state;
    world w;
    open_world(&w, TINY_TOK_GPT2);
    feed(&w, w.f.first, UINT32_MAX);
    json_t *j = score(&w, 0);
    assert_string_equal(json_string_value(json_object_get(j, "found")), "111");
    assert_string_equal(json_string_value(json_object_get(j, "output")), "48213\n90075518\n777777");
    assert_true(json_real_value(json_object_get(j, "score")) == 1);
    assert_true(number(j, "n_tail") == 0 && number(j, "n_sparse") == 3 && number(j, "found_sparse") == 3);
    json_decref(j);
    close_world(&w);

    open_world(&w, TINY_TOK_GPT2); /* the last token of one value is not the likeliest */
    feed(&w, w.f.first, w.f.begin[1] + w.f.n_row[1] - 1);
    j = score(&w, (uint32_t)w.p.n - w.f.begin[1]);
    assert_string_equal(json_string_value(json_object_get(j, "found")), "101");
    const char *said = json_string_value(json_object_get(j, "output"));
    assert_true(!strncmp(said, "48213\n9007551", 13) && !strstr(said, values[1]) && strstr(said, "\n777777"));
    assert_true(number(j, "n_tail") == 2 && number(j, "found_tail") == 1);
    assert_true(number(j, "n_sparse") == 1 && number(j, "found_sparse") == 1);
    json_decref(j);
    j = score(&w, (uint32_t)w.p.n - w.f.begin[1] - 1); /* it begins just before the tail */
    assert_true(number(j, "n_tail") == 1 && number(j, "n_sparse") == 2);
    json_decref(j);
    close_world(&w);
}

static void what_is_wrong(void **state) {
    (void)state;
    world w;
    open_world(&w, TINY_TOK_GPT2); /* a row is missing */
    feed(&w, w.f.first + 1, UINT32_MAX);
    assert_int_equal(forced_complete(&w.f, &w.s), 1);
    close_world(&w);
    open_world(&w, TINY_TOK_GPT2); /* tokens of another text */
    buf_str(&w.s.text, "more");
    forced_free(&w.f);
    assert_int_equal(forced_open(&w.f, w.model, &w.s, &w.p), 1);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(spans), cmocka_unit_test(found_and_missed),
                                       cmocka_unit_test(what_is_wrong)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
