/* SPDX-License-Identifier: MIT */
/* One thing hidden, one question: a sentence in prose (needle), digits in noise (passkey), a pair of a JSON object
 * (kv), a numbered line (lines), a random string in prose whose first pieces the answer begins with (copy). */
#include "tasks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "prose.h"
#include "words.h"

/* The place of the needle among n + 1: by the depth asked for, else drawn.  Drawn in any case, so that what follows is
 * the same at every depth. */
static uint32_t place(const task_env *env, rng *r, uint32_t n, sample *s) {
    double drawn = (double)rng_below(r, 1001) / 10;
    s->depth = env->depth < 0 ? drawn : env->depth;
    return (uint32_t)llround(n * s->depth / 100);
}

/* ---- needle ---- */

static void build_needle(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    (void)t;
    const char *a = words_adjective.w[rng_below(r, words_adjective.n)], *n = draw_word(r);
    char code[16];
    buf context = {0}, question = {0};
    snprintf(code, sizeof code, "%u", (unsigned)(10000 + rng_below(r, 90000)));
    uint32_t at = place(env, r, size, s);
    for (uint32_t i = 0; i < size + 1; i++) { /* sentences, one of them the needle */
        if (i) buf_str(&context, i % 5 ? " " : "\n");
        if (i == at)
            buf_fmt(&context, "The access code of the %s %s is %s.", a, n, code);
        else
            prose_sentence(r, &context);
    }
    buf_fmt(&question, "Question: What is the access code of the %s %s?", a, n);
    sample_compose(
        s, "One sentence of the following text tells an access code. Read all of it, for you will be asked.\n\n",
        &context, "\n\n", &question, env->question);
    s->names = true;
    buf_fmt(&s->prefix, " Answer: The access code of the %s %s is", a, n);
    sample_ref(s, code);
    buf_free(&context);
    buf_free(&question);
}

/* ---- passkey ---- */

static void build_passkey(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    (void)t;
    buf key = {0}, context = {0}, question = {0};
    for (uint32_t i = 0; i < env->n_digit; i++) /* no zero in front: it would not be a number */
        buf_fmt(&key, "%u", (unsigned)(i ? rng_below(r, 10) : 1 + rng_below(r, 9)));
    if (!buf_room(&key, 0)) s->text.oom = true;
    uint32_t at = place(env, r, size, s);
    for (uint32_t i = 0; i <= size && !s->text.oom; i++) {
        if (i == at) buf_fmt(&context, "The pass key is %s. Remember it. %s is the pass key.\n", key.s, key.s);
        if (i < size) buf_fmt(&context, "%s\n", noise_line);
    }
    buf_str(&question, "What is the pass key?");
    sample_compose(s,
                   "There is a pass key hidden in the following text, and much that does not matter. Find the pass key "
                   "and memorize it. I will quiz you about it afterwards.\n\n",
                   &context, "\n", &question, env->question);
    buf_str(&s->prefix, " The pass key is");
    if (key.s) sample_ref(s, key.s);
    s->n_predict = env->n_digit + 8; /* no tokenizer needs more than a token a digit */
    buf_free(&key);
    buf_free(&context);
    buf_free(&question);
}

/* ---- kv ---- */

static void build_kv(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    char key[UUID_LEN + 1], value[UUID_LEN + 1], asked[UUID_LEN + 1] = "";
    buf context = {0}, question = {0};
    uint32_t at = sample_line(env, t, s, size, (uint32_t)rng_below(r, size));
    for (uint32_t i = 0; i < size; i++) {
        draw_uuid(r, key);
        draw_uuid(r, value);
        buf_fmt(&context, "%s\"%s\": \"%s\"%s", i ? " " : "{", key, value, i + 1 < size ? ",\n" : "}");
        if (i != at) continue;
        snprintf(asked, sizeof asked, "%s", key);
        sample_ref(s, value);
    }
    s->depth = 100.0 * at / size;
    buf_fmt(&question, "Question: What is the value of the key \"%s\"?", asked);
    sample_compose(s, "Here is a JSON object. You will be asked for one of its values.\n\n", &context, "\n\n",
                   &question, env->question);
    s->names = true;
    buf_fmt(&s->prefix, " Answer: The value of the key \"%s\" is \"", asked);
    buf_free(&context);
    buf_free(&question);
}

/* ---- lines ---- */

static void build_lines(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    size_t n_noun = words_noun.n, n_all = words_adjective.n * n_noun;
    uint32_t *pick = malloc(n_all * sizeof *pick), at = (uint32_t)rng_below(r, size), n = size;
    buf context = {0}, question = {0}, name = {0};
    if (!pick) s->text.oom = true;
    if (n > n_all) n = (uint32_t)n_all;
    at = sample_line(env, t, s, n, at);
    if (pick) rng_pick(r, pick, n_all, n);
    for (uint32_t i = 0; i < n && pick; i++) {
        char number[16];
        snprintf(number, sizeof number, "%u", (unsigned)(10000 + rng_below(r, 90000)));
        const char *a = words_adjective.w[pick[i] / n_noun], *b = words_noun.w[pick[i] % n_noun];
        buf_fmt(&context, "line %s-%s: REGISTER_CONTENT is <%s>\n", a, b, number);
        if (i != at) continue;
        buf_fmt(&name, "%s-%s", a, b);
        sample_ref(s, number);
    }
    free(pick);
    s->depth = 100.0 * at / size;
    const char *asked = name.s ? name.s : "";
    buf_fmt(&question, "Question: What is the REGISTER_CONTENT of line %s?", asked);
    sample_compose(s, "Below are lines with names and a number each. You will be asked for the number of one line.\n\n",
                   &context, "\n", &question, env->question);
    s->names = true;
    buf_fmt(&s->prefix, " Answer: The REGISTER_CONTENT of line %s is <", asked);
    buf_free(&context);
    buf_free(&question);
    buf_free(&name);
}

/* ---- copy ---- */

enum { N_GROUP = 16, GROUP_LEN = 4, N_GIVEN = 2 };

/* Copying asks for nothing but looking up what stood behind the same pieces before, a step after a step. */
static void build_copy(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    (void)t;
    static const char digit[] = "0123456789abcdef";
    char string[N_GROUP * (GROUP_LEN + 1)];
    buf context = {0}, question = {0};
    for (size_t i = 0; i < sizeof string; i++)
        string[i] = i % (GROUP_LEN + 1) == GROUP_LEN ? ' ' : digit[rng_below(r, 16)];
    string[sizeof string - 1] = 0;
    const char *rest = string + N_GIVEN * (GROUP_LEN + 1);
    uint32_t at = place(env, r, size, s);
    for (uint32_t i = 0; i < size + 1; i++) {
        if (i) buf_str(&context, i % 5 ? " " : "\n");
        if (i == at)
            buf_fmt(&context, "The string to keep is %s.", string);
        else
            prose_sentence(r, &context);
    }
    buf_str(&question, "Question: What is the string to keep?");
    sample_compose(s, "Somewhere in the following text stands a string to keep. You will be asked for it.\n\n",
                   &context, "\n\n", &question, env->question);
    buf_fmt(&s->prefix, " Answer: The string to keep is %.*s", (int)(rest - 1 - string), string);
    sample_ref(s, rest);
    s->n_predict = (uint32_t)(sizeof string - (size_t)(rest - string)); /* no more than a token a character */
    buf_free(&context);
    buf_free(&question);
}

const task tasks_hidden[] = {
    {"needle", CMD_NEEDLE, SCORE_ALL, 16, 0, 1, NULL, false, false, NULL, build_needle, NULL},
    {"passkey", CMD_PASSKEY, SCORE_ALL, 0, 0, 1, NULL, false, false, NULL, build_passkey, NULL},
    {"kv", CMD_KV, SCORE_ALL, 48, 0, 1, NULL, false, true, NULL, build_kv, NULL},
    {"lines", CMD_LINES, SCORE_ALL, 12, 0, 1, NULL, false, true, NULL, build_lines, NULL},
    {"copy", CMD_COPY, SCORE_PIECE, 0, 0, 1, NULL, false, false, NULL, build_copy, NULL},
    {.name = NULL}};
