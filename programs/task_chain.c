/* SPDX-License-Identifier: MIT */
/* A chain of keys: lines in prose, in any order, each of which names the key behind a key.  The question gives the
 * first key of a chain and asks for all that follow, in such sentences: each says what is to be looked up next, which
 * is not known when the prompt has been read.  Other chains stand beside it; no key is in two places of them. */
#include "tasks.h"

#include <stdlib.h>

#include "prose.h"
#include "words.h"

enum { N_CHAIN = 4, N_LINK = 8, N_LINE = N_CHAIN * N_LINK, N_KEY = N_CHAIN * (N_LINK + 1), ANSWER_TOK = N_LINK * 18 };

static void put_key(buf *out, uint32_t pick) {
    buf_fmt(out, "%s-%s", words_adjective.w[pick / words_noun.n], words_noun.w[pick % words_noun.n]);
}

/* Line i of N_LINE: link i % N_LINK of chain i / N_LINK. */
static void put_line(buf *out, const uint32_t *key, uint32_t i) {
    const uint32_t *from = key + i / N_LINK * (N_LINK + 1) + i % N_LINK;
    buf_str(out, "\nThe key after ");
    put_key(out, from[0]);
    buf_str(out, " is ");
    put_key(out, from[1]);
    buf_str(out, ".\n");
}

static void put_context(rng *r, const uint32_t *key, uint32_t size, buf *out) {
    uint32_t line[N_LINE], at[N_LINE], next = 0;
    for (uint32_t i = 0; i < N_LINE; i++) line[i] = i;
    rng_shuffle(r, line, N_LINE);
    if (!draw_places(r, size + N_LINE, N_LINE, at)) {
        out->oom = true;
        return;
    }
    for (uint32_t i = 0; i < size + N_LINE; i++) {
        if (next < N_LINE && at[next] == i) {
            put_line(out, key, line[next++]);
            continue;
        }
        prose_sentence(r, out);
        buf_str(out, " ");
    }
}

static void build_chain(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    (void)t;
    const size_t n_all = words_adjective.n * words_noun.n;
    uint32_t *key = malloc(n_all * sizeof *key);
    buf context = {0}, question = {0}, name = {0};
    if (!key) {
        s->text.oom = true;
        return;
    }
    rng_pick(r, key, n_all, N_KEY);
    put_context(r, key, size, &context);
    buf_str(&question, "Question: Which keys come after ");
    put_key(&question, key[0]);
    buf_fmt(&question, "? Name the next %d, each in a sentence as in the text.", N_LINK);
    sample_compose(s,
                   "Lines that name the key after a key stand in the following text. You will be asked to follow them "
                   "from key to key.\n\n",
                   &context, "\n\n", &question, env->question);
    s->names = true;
    buf_str(&s->prefix, " Answer: The key after ");
    put_key(&s->prefix, key[0]);
    buf_str(&s->prefix, " is");
    for (uint32_t i = 1; i <= N_LINK; i++) {
        name.n = 0;
        put_key(&name, key[i]);
        if (!name.oom) sample_ref(s, name.s);
    }
    s->text.oom = s->text.oom || name.oom || context.oom || question.oom;
    free(key);
    buf_free(&context);
    buf_free(&question);
    buf_free(&name);
}

const task tasks_chain[] = {
    {"chain", CMD_CHAIN, SCORE_ORDER, ANSWER_TOK, 0, 1, NULL, false, false, NULL, build_chain, NULL},
    {.name = NULL}};
