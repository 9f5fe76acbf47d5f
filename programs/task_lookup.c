/* SPDX-License-Identifier: MIT */
/* Many keys with a number each between the lines of prose and code, then a question for every one with its answer
 * behind it.  The text is read, not generated: an answer counts when each of its tokens was the likeliest given the
 * right ones before it.  So one prefill gives some thirty look-ups, and shows what happens to those whose questions
 * stand where attention is sparse: before the dense last part, or, with --question middle, far from it. */
#include "tasks.h"

#include <stdio.h>
#include <stdlib.h>

#include "essay.h"
#include "prose.h"
#include "words.h"

enum { ESSAY_WORDS = 60, KEY_TOK = 128 }; /* words of an essay a unit; context that asks for one key more */

typedef struct pairs {
    char key[LOOKUP_MAX][48], value[LOOKUP_MAX][12];
    uint32_t order[LOOKUP_MAX]; /* of the questions */
    uint32_t n;
} pairs;

static bool draw_pairs(const task_env *env, rng *r, pairs *p) {
    size_t n_noun = words_noun.n, n_all = words_adjective.n * n_noun;
    uint32_t *pick = malloc(n_all * sizeof *pick);
    if (!pick) return false;
    p->n = env->ctx / KEY_TOK;
    if (p->n < 4) p->n = 4;
    if (p->n > LOOKUP_MAX) p->n = LOOKUP_MAX;
    rng_pick(r, pick, n_all, p->n);
    for (uint32_t i = 0; i < p->n; i++) {
        uint64_t low = 10000;
        for (uint64_t more = rng_below(r, 4); more > 0; more--) low *= 10; /* five to eight digits */
        snprintf(p->key[i], sizeof p->key[i], "%s-%s", words_adjective.w[pick[i] / n_noun],
                 words_noun.w[pick[i] % n_noun]);
        snprintf(p->value[i], sizeof p->value[i], "%u", (unsigned)(low + rng_below(r, 9 * low)));
        p->order[i] = i;
    }
    free(pick);
    rng_shuffle(r, p->order, p->n);
    return true;
}

/* Unit i of the filler: a paragraph of the essay, else a paragraph of prose or some code. */
static void put_unit(rng *r, const sentence_list *essay, uint32_t i, uint32_t n, buf *out) {
    if (essay->n) {
        size_t from = essay->n * i / n, to = essay->n * (i + 1) / n;
        for (size_t k = from; k < to; k++) {
            buf_add(out, essay->s[k].s, essay->s[k].n);
            buf_str(out, k + 1 < to ? " " : "\n");
        }
    } else if (rng_below(r, 5) < 2) {
        prose_code(r, out);
    } else {
        prose_paragraph(r, out);
    }
}

static void put_questions(const pairs *p, sample *s) {
    buf_str(&s->text, "\nThe keys of the text and their numbers:\n");
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t k = p->order[i];
        buf_fmt(&s->text, "Question: What is the number of %s?\nAnswer: ", p->key[k]);
        s->value[i].at = s->text.n;
        buf_str(&s->text, p->value[k]);
        s->value[i].len = s->text.n - s->value[i].at;
        buf_str(&s->text, "\n");
        sample_ref(s, p->value[k]);
    }
    s->n_value = p->n;
}

static void build_lookup(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    (void)t;
    pairs p;
    sentence_list essay = {0};
    uint32_t at[LOOKUP_MAX], next = 0, front = env->question == QUESTION_MIDDLE ? size * 3 / 5 : size;
    if (!draw_pairs(env, r, &p) || (env->essay && !essay_sentences(env->essay, (size_t)size * ESSAY_WORDS, &essay))) {
        s->text.oom = true;
        essay_free(&essay);
        return;
    }
    for (uint32_t i = 0; i < p.n; i++) { /* ascending, by insertion: a few */
        uint32_t x = (uint32_t)rng_below(r, front), k = i;
        for (; k > 0 && at[k - 1] > x; k--) at[k] = at[k - 1];
        at[k] = x;
    }
    buf_str(&s->text, "Keys with a number each stand between the lines of the following text. You will be asked for "
                      "all of them.\n\n");
    for (uint32_t i = 0; i < size; i++) {
        if (i == front) put_questions(&p, s);
        for (; next < p.n && at[next] == i; next++) buf_fmt(&s->text, "%s: %s\n", p.key[next], p.value[next]);
        put_unit(r, &essay, i, size, &s->text);
    }
    if (front == size) put_questions(&p, s);
    essay_free(&essay);
}

const task tasks_lookup[] = {
    {"lookup", CMD_LOOKUP, SCORE_FORCED, 0, 0, 2, NULL, false, false, NULL, build_lookup, NULL},
    {.name = NULL}};
