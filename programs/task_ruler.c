/* SPDX-License-Identifier: MIT */
/* RULER's variable tracking (vt), common words (cwe) and frequent words (fwe).  Templates are RULER's (NVIDIA,
 * Apache-2.0), words and random numbers our own.  vt and cwe are shown one worked example. */
#include "tasks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "words.h"

/* ---- vt ---- */

enum { N_VAR = 5, EXAMPLE_TOK = 500, EXAMPLE_MAX_LINE = 64 };

typedef struct chain {
    char name[N_VAR][8];
    unsigned value;
} chain;

static void draw_chain(rng *r, size_t n_letter, chain *c) {
    for (size_t i = 0; i < N_VAR; i++) {
        bool again;
        do {
            for (size_t k = 0; k < n_letter; k++) c->name[i][k] = (char)('A' + rng_below(r, 26));
            c->name[i][n_letter] = 0;
            again = false;
            for (size_t j = 0; j < i; j++) again |= !strcmp(c->name[j], c->name[i]);
        } while (again);
    }
    c->value = (unsigned)(10000 + rng_below(r, 89999));
}

static void put_chain_task(rng *r, const chain *c, uint32_t n_line, uint32_t where, sample *s) {
    uint32_t at[N_VAR], next = 0;
    buf context = {0}, question = {0};
    if (!draw_places(r, n_line, N_VAR, at)) s->text.oom = true;
    for (uint32_t i = 0; i < n_line && !s->text.oom; i++) {
        if (next < N_VAR && at[next] == i) {
            if (next == 0)
                buf_fmt(&context, "VAR %s = %u\n", c->name[0], c->value);
            else
                buf_fmt(&context, "VAR %s = VAR %s \n", c->name[next], c->name[next - 1]);
            next++;
        }
        buf_fmt(&context, i + 1 < n_line ? "%s\n" : "%s", noise_line);
    }
    buf_fmt(&question, "Question: Find all variables that are assigned the value %u in the text above.", c->value);
    sample_compose(s, "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n",
                   &context, "\n", &question, where);
    s->names = true;
    buf_fmt(
        &s->prefix,
        " Answer: According to the chain(s) of variable assignment in the text above, %d variables are assigned the "
        "value %u, they are: ",
        N_VAR, c->value);
    buf_free(&context);
    buf_free(&question);
}

/* The worked example alone, its answer behind it. */
static void put_chain_example(rng *r, uint32_t n_line, sample *s) {
    chain c;
    draw_chain(r, 3, &c);
    put_chain_task(r, &c, n_line, QUESTION_LAST, s);
    buf_add(&s->text, s->prefix.s, s->prefix.n);
    for (size_t i = 0; i < N_VAR; i++) buf_fmt(&s->text, "%s%s", i ? " " : "", c.name[i]);
    buf_str(&s->text, "\n");
    s->prefix.n = 0;
    if (s->prefix.s) s->prefix.s[0] = 0;
}

/* How many lines make an example of some 500 tokens. */
static int prepare_vt(task_env *env) {
    int rc = 0;
    sample s = {0};
    for (uint32_t n = N_VAR; n <= EXAMPLE_MAX_LINE && !rc; n++) {
        size_t n_tok = 0;
        rng r;
        rng_stream(&r, "vt example", env->seed, env->ctx, 0);
        s.text.n = 0;
        put_chain_example(&r, n, &s);
        rc = env->count(env->user, &s, &n_tok);
        if (n > N_VAR && n_tok > EXAMPLE_TOK) break; /* the smallest is taken as it is */
        env->n_example = n;
    }
    sample_free(&s);
    return rc;
}

static void build_vt(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    (void)t;
    chain c;
    put_chain_example(r, env->n_example, s);
    buf_str(&s->text, "\n");
    draw_chain(r, 5, &c);
    put_chain_task(r, &c, size, env->question, s);
    for (size_t i = 0; i < N_VAR; i++) sample_ref(s, c.name[i]);
}

/* ---- cwe ---- */

enum { N_COMMON = 10 };

/* Word i of those to draw from: the lists', or, where they do not suffice, two nouns in one ("lampgarden"). */
static void put_word(buf *out, bool pairs, uint32_t i) {
    if (!pairs) {
        buf_str(out, words_any(i));
        return;
    }
    uint32_t n = (uint32_t)words_noun.n;
    buf_str(out, words_noun.w[i / n]);
    buf_str(out, words_noun.w[i % n]);
}

static const char cwe_head[] = "Below is a numbered list of words. In these words, some appear more often than others. "
                               "Memorize the ones that appear most often.\n";
static const char cwe_answer[] = " Answer: The top 10 words that appear most often in the list are:";

/* n different words, the first ten n_common times, the others n_rare times; words [N_COMMON] out. */
static void put_common_task(rng *r, uint32_t n, uint32_t n_common, uint32_t n_rare, uint32_t where, sample *s,
                            buf words[N_COMMON]) {
    bool pairs = n > words_any_n();
    size_t n_all = pairs ? words_noun.n * words_noun.n : words_any_n();
    size_t n_list = (size_t)N_COMMON * n_common + (size_t)(n > N_COMMON ? n - N_COMMON : 0) * n_rare;
    if (n > n_all) n = (uint32_t)n_all;
    uint32_t *all = malloc(n_all * sizeof *all), *list = malloc(n_list * sizeof *list);
    buf context = {0}, question = {0};
    if (!all || !list) s->text.oom = true;
    if (!s->text.oom) {
        size_t k = 0;
        rng_pick(r, all, n_all, n);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t times = i < N_COMMON ? n_common : n_rare; times > 0; times--) list[k++] = all[i];
        rng_shuffle(r, list, k);
        for (size_t i = 0; i < k; i++) {
            buf_fmt(&context, i ? " %zu. " : "%zu. ", i + 1);
            put_word(&context, pairs, list[i]);
        }
        for (uint32_t i = 0; i < N_COMMON; i++) put_word(&words[i], pairs, all[i]);
    }
    buf_str(&question, "Question: What are the 10 most common words in the above list?");
    sample_compose(s, cwe_head, &context, "\n", &question, where);
    free(all);
    free(list);
    buf_free(&context);
    buf_free(&question);
}

static void free_words(buf *words) {
    for (int i = 0; i < N_COMMON; i++) buf_free(&words[i]);
}

static void build_cwe(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    (void)t;
    bool small = env->ctx < 4096;
    buf words[N_COMMON] = {{0}};
    put_common_task(r, small ? 20 : 40, small ? 3 : 10, small ? 1 : 3, QUESTION_LAST, s, words);
    buf_str(&s->text, cwe_answer);
    for (int i = 0; i < N_COMMON; i++) buf_fmt(&s->text, " %d. %s", i + 1, words[i].s ? words[i].s : "");
    free_words(words);
    buf_str(&s->text, "\n");
    put_common_task(r, size, small ? 6 : 30, small ? 1 : 3, env->question, s, words);
    buf_str(&s->prefix, cwe_answer);
    for (int i = 0; i < N_COMMON; i++) sample_ref(s, words[i].s ? words[i].s : "");
    free_words(words);
}

/* ---- fwe ---- */

enum { WORD_LEN = 6, FWE_ASKED = 3 };
static const double zeta2 = 1.6449340668482264;

typedef struct coded {
    char s[WORD_LEN + 1];
} coded;

static int by_text(const void *a, const void *b) {
    return strcmp(a, b);
}

/* n different words, in random order, the first being the dots. */
static void draw_coded(rng *r, coded *v, size_t n) {
    size_t have = 0;
    while (have < n) {
        for (size_t i = have; i < n; i++) {
            for (int k = 0; k < WORD_LEN; k++) v[i].s[k] = (char)('a' + rng_below(r, 26));
            v[i].s[WORD_LEN] = 0;
        }
        qsort(v, n, sizeof *v, by_text);
        have = 1;
        for (size_t i = 1; i < n; i++)
            if (strcmp(v[i].s, v[have - 1].s)) v[have++] = v[i];
    }
    for (size_t i = n; i > 1; i--) {
        size_t k = (size_t)rng_below(r, i);
        coded t = v[i - 1];
        v[i - 1] = v[k];
        v[k] = t;
    }
    strcpy(v[0].s, "...");
}

/* Words of a text of this size: RULER's begins at a sixth of the length and grows by a 32nd of it; below, for tokens
 * shorter than that, a 32nd each. */
static uint32_t coded_words(uint32_t max, uint32_t size) {
    uint32_t step = max / 32 ? max / 32 : 1;
    return size < 6 ? size * step : max / 6 + (size - 5) * step;
}

static void build_fwe(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    uint32_t max = env->ctx > t->n_predict ? env->ctx - t->n_predict : 1, n_word = coded_words(max, size);
    uint32_t n_vocab = max / 50 > FWE_ASKED + 1 ? max / 50 : FWE_ASKED + 1;
    coded *v = malloc(n_vocab * sizeof *v);
    uint32_t *list = malloc(((size_t)n_word + 1) * sizeof *list);
    size_t n = 0;
    buf context = {0}, question = {0};
    if (!v || !list) s->text.oom = true;
    if (!s->text.oom) {
        draw_coded(r, v, n_vocab);
        for (uint32_t k = 1; k <= n_vocab; k++) {
            uint32_t times = (uint32_t)(n_word / ((double)k * k * zeta2));
            for (; times > 0 && n < n_word; times--) list[n++] = k - 1;
        }
        rng_shuffle(r, list, n);
        for (size_t i = 0; i < n; i++) buf_fmt(&context, i ? " %s" : "%s", v[list[i]].s);
        for (int i = 1; i <= FWE_ASKED; i++) sample_ref(s, v[i].s);
    }
    buf_str(&question, "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three "
                       "most frequently appeared words in the above coded text?");
    sample_compose(s,
                   "Read the following coded text and track the frequency of each coded word. Find the three most "
                   "frequently appeared coded words. ",
                   &context, "\n", &question, env->question);
    buf_str(&s->prefix, " Answer: According to the coded text above, the three most frequently appeared words are:");
    free(v);
    free(list);
    buf_free(&context);
    buf_free(&question);
}

const task tasks_ruler[] = {{"vt", CMD_RULER, SCORE_ALL, 30, 0, N_VAR, NULL, false, false, prepare_vt, build_vt, NULL},
                            {"cwe", CMD_RULER, SCORE_ALL, 120, 0, N_COMMON, NULL, false, false, NULL, build_cwe, NULL},
                            {"fwe", CMD_RULER, SCORE_ALL, 50, 0, 3, NULL, false, false, NULL, build_fwe, NULL},
                            {.name = NULL}};
