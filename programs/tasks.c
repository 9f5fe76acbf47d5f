/* SPDX-License-Identifier: MIT */
/* See tasks.h.  A size is found on a sample of its own, by doubling and bisection; samples that come out longer give up
 * what they have too much (RULER: 25 lines or 500 words at a time, which may be half of a short text). */
#include "tasks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "term.h"
#include "words.h"

#define SIZING_SAMPLE UINT64_MAX

const char noise_line[] = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

static const task *const all_tasks[] = {tasks_hidden, tasks_lookup,    tasks_niah, tasks_ruler,
                                        tasks_qa,     tasks_longbench, tasks_chain};

const task *task_at(size_t i) {
    for (size_t k = 0; k < sizeof all_tasks / sizeof *all_tasks; k++)
        for (const task *t = all_tasks[k]; t->name; t++)
            if (i-- == 0) return t;
    return NULL;
}

const task *task_find(unsigned kind, const char *name) {
    const task *t;
    for (size_t i = 0; (t = task_at(i)); i++)
        if ((t->kind & kind) && !strcmp(t->name, name)) return t;
    return NULL;
}

uint64_t task_n_sample(const task *t, const task_env *env) {
    if (t->kind == CMD_LONGBENCH) return json_array_size(env->bench);
    if (t->needs & NEEDS_SQUAD) return json_array_size(json_object_get(env->squad, "questions"));
    if (t->needs & NEEDS_HOTPOT) return json_array_size(json_object_get(env->hotpot, "questions"));
    return UINT64_MAX;
}

/* ---- samples ---- */

void sample_free(sample *s) {
    buf_free(&s->text);
    buf_free(&s->prefix);
    buf_free(&s->ref);
}

refs sample_refs(const sample *s) {
    return (refs){s->ref.s, s->n_ref};
}

void sample_ref(sample *s, const char *text) {
    buf_add(&s->ref, text, strlen(text) + 1);
    s->n_ref++;
}

static void add(buf *out, const buf *b) {
    buf_add(out, b->s, b->n);
    out->oom |= b->oom;
}

void sample_compose(sample *s, const char *head, const buf *context, const char *gap, const buf *question,
                    uint32_t where) {
    buf_str(&s->text, head);
    if (where == QUESTION_FIRST || where == QUESTION_BOTH) {
        add(&s->text, question);
        buf_str(&s->text, "\n\n");
    }
    add(&s->text, context);
    buf_str(&s->text, gap);
    if (where != QUESTION_FIRST) add(&s->text, question);
}

/* ---- what generators draw ---- */

void draw_uuid(rng *r, char out[UUID_LEN + 1]) {
    static const char hex[] = "0123456789abcdef";
    uint64_t x[2] = {rng_next(r), rng_next(r)};
    x[0] = (x[0] & ~UINT64_C(0xf000)) | 0x4000;               /* version */
    x[1] = (x[1] & ~(UINT64_C(3) << 62)) | UINT64_C(2) << 62; /* variant */
    for (int i = 0, k = 0; i < UUID_LEN; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        out[i] = dash ? '-' : hex[x[k / 16] >> (60 - k % 16 * 4) & 15];
        k += !dash;
    }
    out[UUID_LEN] = 0;
}

const char *draw_word(rng *r) {
    return words_noun.w[rng_below(r, words_noun.n)];
}

void draw_key(rng *r, buf *out) {
    const char *a = words_adjective.w[rng_below(r, words_adjective.n)];
    buf_fmt(out, "%s-%s", a, draw_word(r));
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

bool draw_places(rng *r, uint32_t n, uint32_t n_needle, uint32_t *out) {
    uint32_t *x = malloc((size_t)n * sizeof *x);
    if (!x) return false;
    rng_pick(r, x, n, n_needle);
    memcpy(out, x, n_needle * sizeof *out);
    free(x);
    qsort(out, n_needle, sizeof *out, ascending);
    return true;
}

/* ---- sizes ---- */

uint32_t task_n_question(const task *t, uint32_t n) {
    return t->many && n ? n : 1;
}

static uint64_t text_of(const task *t, const task_env *env, uint64_t number) {
    return number == SIZING_SAMPLE ? number : number / task_n_question(t, env->n_question);
}

uint32_t sample_line(const task_env *env, const task *t, const sample *s, uint32_t n, uint32_t own) {
    uint32_t line[QUESTION_MAX] = {own};
    char name[64];
    rng r; /* not the text's: that is to be the same whatever is asked */
    snprintf(name, sizeof name, "%s, questions", t->name);
    rng_stream(&r, name, env->seed, env->ctx, text_of(t, env, s->number));
    for (uint32_t q = 1; q <= s->asked; q++) {
        bool again = true;
        while (again) {
            line[q] = (uint32_t)rng_below(&r, n);
            again = false;
            for (uint32_t i = 0; i < q && q < n; i++) again |= line[i] == line[q];
        }
    }
    return line[s->asked];
}

enum { OWN_WORDS_TOK = 64 }; /* for the beginning of an answer that the model makes itself */

static int build(const task *t, const task_env *env, uint32_t size, uint64_t number, sample *s) {
    rng r;
    rng_stream(&r, t->name, env->seed, env->ctx, text_of(t, env, number));
    s->number = number;
    s->asked = number == SIZING_SAMPLE ? 0 : (uint32_t)(number % task_n_question(t, env->n_question));
    s->text.n = s->prefix.n = s->ref.n = s->n_ref = s->n_value = 0;
    if (!buf_room(&s->text, 1) || !buf_room(&s->prefix, 1) || !buf_room(&s->ref, 1)) return fail_memory();
    s->text.s[0] = s->prefix.s[0] = s->ref.s[0] = 0;
    s->depth = (double)NAN;
    s->n_predict = t->n_predict;
    s->how = t->how;
    s->names = false;
    t->build(env, t, size, &r, s);
    if (env->question == QUESTION_FIRST && s->names) {
        s->prefix.n = 0;
        buf_str(&s->prefix, " Answer:");
        s->n_predict += OWN_WORDS_TOK;
    }
    return s->text.oom || s->prefix.oom || s->ref.oom ? fail_memory() : EXIT_OK;
}

/* Makes the sample and counts how many tokens it has too many; <= 0: it fits with its answer. */
static int excess(const task *t, const task_env *env, uint32_t size, uint64_t number, sample *s, int64_t *over,
                  size_t *n_tok) {
    int rc = build(t, env, size, number, s);
    if (!rc) rc = env->count(env->user, s, n_tok);
    if (!rc) *over = (int64_t)*n_tok + s->n_predict - env->ctx;
    return rc;
}

static int too_short(const task *t, const task_env *env) {
    return fail("%s: %u tokens are too few for the smallest sample; name a larger -c", t->name, env->ctx);
}

static int largest(const task *t, const task_env *env, uint64_t number, sample *s, uint32_t *size) {
    uint32_t max = t->max_size ? t->max_size(env, number) : UINT32_MAX / 2, good = t->min_size, bad = 0;
    int64_t over = 0;
    size_t n;
    int rc = excess(t, env, good, number, s, &over, &n);
    if (!rc && over > 0) return too_short(t, env);
    for (uint32_t more = 8; !rc && !bad && good < max; more *= 2) {
        uint32_t want = max - good < more ? max : good + more;
        rc = excess(t, env, want, number, s, &over, &n);
        if (over > 0)
            bad = want;
        else
            good = want;
    }
    while (!rc && bad && bad - good > 1) {
        uint32_t want = good + (bad - good) / 2;
        rc = excess(t, env, want, number, s, &over, &n);
        if (over > 0)
            bad = want;
        else
            good = want;
    }
    *size = good;
    return rc;
}

int task_fit(const task *t, task_env *env, uint32_t *size) {
    sample s = {0};
    int rc = t->prepare ? t->prepare(env) : EXIT_OK;
    if (!rc && !t->sized_each) rc = largest(t, env, SIZING_SAMPLE, &s, size);
    sample_free(&s);
    return rc;
}

static bool is_sized(const task *t, const task_env *env, uint32_t asked, uint64_t text, const sample *s) {
    return s->sized.t == t && s->sized.text == text && s->sized.asked == asked && s->sized.seed == env->seed &&
           s->sized.ctx == env->ctx && s->sized.question == env->question && s->sized.n_question == env->n_question;
}

int task_make(const task *t, const task_env *env, uint32_t size, uint64_t number, sample *s) {
    /* Questions that share a text share its size: all of them have to fit. */
    const uint64_t n_alike = task_n_question(t, env->n_question), first = number - number % n_alike;
    const uint32_t asked = size;
    if (n_alike > 1 && is_sized(t, env, asked, first, s)) return build(t, env, s->sized.size, number, s);
    s->sized.t = NULL;
    int rc = t->sized_each ? largest(t, env, number, s, &size) : EXIT_OK;
    for (uint64_t i = first; !rc && i < first + n_alike;) {
        int64_t over = 0;
        size_t n = 0;
        rc = excess(t, env, size, i, s, &over, &n);
        if (rc || over <= 0) {
            i++;
            continue;
        }
        uint64_t cut = (uint64_t)over * size / n; /* units share the tokens nearly evenly */
        if (!cut) cut = 1;
        if (size <= t->min_size) return too_short(t, env);
        size = size - t->min_size < cut ? t->min_size : size - (uint32_t)cut;
        i = first;
    }
    if (rc) return rc;
    s->sized.t = t, s->sized.seed = env->seed, s->sized.text = first, s->sized.ctx = env->ctx;
    s->sized.question = env->question, s->sized.n_question = env->n_question;
    s->sized.asked = asked, s->sized.size = size;
    return s->number != number ? build(t, env, size, number, s) : EXIT_OK;
}
