/* SPDX-License-Identifier: MIT */
/* RULER's eight needle tasks: lines "One of the special magic numbers for KEY is: VALUE." hidden in noise, in an essay,
 * or among other such lines.  Templates are RULER's (NVIDIA, Apache-2.0), words and random numbers our own. */
#include "tasks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "essay.h"

enum { MAX_KEY = 4, MAX_VALUE = 4, MAX_NEEDLE = 4, N_DEPTH = 40 };
typedef enum kind { NUMBERS, WORDS, UUIDS } kind;
typedef enum hay { NOISE, ESSAY, NEEDLES } hay;

typedef struct niah {
    hay hay;
    kind key, value;
    uint32_t n_key, n_value, n_query;
} niah;

static const char *const plural[] = {"numbers", "words", "uuids"};
static const char *const singular[] = {"number", "word", "uuid"};

typedef struct text64 {
    char s[64];
} text64;

static text64 draw(rng *r, kind k) {
    text64 t;
    buf b = {0};
    if (k == UUIDS) draw_uuid(r, t.s);
    if (k == NUMBERS) buf_fmt(&b, "%u", (unsigned)(1000000 + rng_below(r, 9000000)));
    if (k == WORDS) draw_key(r, &b);
    if (k != UUIDS) {
        size_t n = b.n < sizeof t.s ? b.n : sizeof t.s - 1;
        memcpy(t.s, b.s ? b.s : "", n);
        t.s[n] = 0;
    }
    buf_free(&b);
    return t;
}

typedef struct needles {
    text64 key[MAX_KEY], value[MAX_KEY][MAX_VALUE];
    uint32_t order[MAX_NEEDLE]; /* key * n_value + value */
    uint32_t n, n_key;
} needles;

static void put_needle(buf *out, const niah *t, const char *key, const char *value) {
    buf_fmt(out, "One of the special magic %s for %s is: %s.", plural[t->value], key, value);
}

static void put_ordered(buf *out, const niah *t, const needles *x, uint32_t i) {
    uint32_t k = x->order[i] / t->n_value, v = x->order[i] % t->n_value;
    put_needle(out, t, x->key[k].s, x->value[k][v].s);
}

static void draw_needles(rng *r, const niah *t, needles *x) {
    x->n_key = t->n_key > t->n_query ? t->n_key : t->n_query;
    x->n = x->n_key * t->n_value;
    for (uint32_t k = 0; k < x->n_key; k++) {
        bool again;
        do {
            x->key[k] = draw(r, t->key);
            again = false;
            for (uint32_t j = 0; j < k; j++) again |= !strcmp(x->key[j].s, x->key[k].s);
        } while (again);
        for (uint32_t v = 0; v < t->n_value; v++) x->value[k][v] = draw(r, t->value);
    }
    for (uint32_t i = 0; i < x->n; i++) x->order[i] = i;
    rng_shuffle(r, x->order, x->n);
}

static bool is_key(const needles *x, const char *key) {
    for (uint32_t k = 0; k < x->n_key; k++)
        if (!strcmp(x->key[k].s, key)) return true;
    return false;
}

/* size lines of noise or of other needles, ours among them. */
static void among_lines(const niah *t, const needles *x, uint32_t size, rng *r, buf *out, double *depth) {
    uint32_t at[MAX_NEEDLE], next = 0;
    if (!draw_places(r, size, x->n, at)) {
        out->oom = true;
        return;
    }
    *depth = 100.0 * at[0] / size;
    for (uint32_t i = 0; i < size; i++) {
        if (i) buf_str(out, "\n");
        if (next < x->n && at[next] == i) {
            put_ordered(out, t, x, next++);
            buf_str(out, "\n");
        }
        if (t->hay == NOISE) {
            buf_str(out, noise_line);
        } else {
            text64 key;
            do key = draw(r, t->key);
            while (is_key(x, key.s));
            put_needle(out, t, key.s, draw(r, t->value).s);
        }
    }
}

static text64 cut(const char *s, const char *end) {
    text64 t = {""};
    size_t n = (size_t)(end - s);
    memcpy(t.s, s, n < sizeof t.s ? n : sizeof t.s - 1);
    return t;
}

/* What is asked for becomes the needle on that line of text's n, or the next one whose key stands on no other. */
static void ask_line(const buf *text, uint32_t line, uint32_t n, needles *x, double *depth) {
    const text64 own = x->key[0];
    const char *at = text->s;
    bool again = true;
    for (uint32_t i = 0; i < line; i++) at = strchr(at, '\n') + 1;
    for (uint32_t i = 0; again && i < n; i++) {
        const char *key = strstr(at, " for "), *is = strstr(key, " is: "), *end = strchr(is, '.');
        const text64 mark = cut(key, is + 1);
        x->key[0] = cut(key + strlen(" for "), is);
        x->value[0][0] = cut(is + strlen(" is: "), end);
        *depth = 100.0 * (double)(at - text->s) / (double)text->n;
        again = !strcmp(x->key[0].s, own.s) || strstr(text->s, mark.s) != key || strstr(is, mark.s);
        at = end[1] ? end + 2 : text->s;
    }
}

/* The essay's first size words, needles between its sentences at some of 40 even depths. */
static void in_essay(const task_env *env, const niah *t, const needles *x, uint32_t size, rng *r, buf *out,
                     double *depth) {
    uint32_t pick[N_DEPTH], at[MAX_NEEDLE], next = 0;
    sentence_list list = {0};
    if (!essay_sentences(env->essay, size, &list)) out->oom = true;
    rng_pick(r, pick, N_DEPTH, x->n);
    for (uint32_t i = 0; i < x->n; i++) { /* insertion sort of a few */
        uint32_t p = (uint32_t)lround(pick[i] * 100.0 / (N_DEPTH - 1)), k = i;
        for (; k > 0 && at[k - 1] > p; k--) at[k] = at[k - 1];
        at[k] = p;
    }
    *depth = at[0];
    for (size_t i = 0; i <= list.n; i++) {
        for (; next < x->n && list.n * at[next] / 100 == i; next++) {
            if (out->n) buf_str(out, " ");
            put_ordered(out, t, x, next);
        }
        if (i == list.n) break;
        if (out->n) buf_str(out, " ");
        buf_add(out, list.s[i].s, list.s[i].n);
    }
    essay_free(&list);
}

static void build_niah(const task_env *env, const task *it, uint32_t size, rng *r, sample *s) {
    const niah *t = it->spec;
    needles x;
    buf context = {0}, query = {0}, question = {0};
    uint32_t asked[MAX_KEY];
    bool one = t->n_query * t->n_value == 1;
    double depth = (double)NAN;
    draw_needles(r, t, &x);
    rng_pick(r, asked, x.n_key, t->n_query);
    if (t->hay == ESSAY)
        in_essay(env, t, &x, size, r, &context, &depth);
    else
        among_lines(t, &x, size, r, &context, &depth);
    if (s->asked && !context.oom) ask_line(&context, sample_line(env, it, s, size, size), size + 1, &x, &depth);
    if (x.n == 1) s->depth = depth;
    for (uint32_t q = 0; q < t->n_query; q++) {
        const char *sep = q == 0 ? "" : q + 1 == t->n_query ? ", and " : ", ";
        buf_fmt(&query, "%s%s", sep, x.key[asked[q]].s);
        for (uint32_t v = 0; v < t->n_value; v++) sample_ref(s, x.value[asked[q]][v].s);
    }

    const char *what = one ? singular[t->value] : plural[t->value];
    buf head = {0};
    buf_fmt(&head,
            "%s special magic %s %s hidden within the following text. Make sure to memorize it. I will quiz you about "
            "the %s afterwards.\n",
            one ? "A" : "Some", what, one ? "is" : "are", what);
    buf_fmt(&question, "What %s the special magic %s for %s mentioned in the provided text?", one ? "is" : "are all",
            what, query.s ? query.s : "");
    if (!head.oom) sample_compose(s, head.s, &context, "\n", &question, env->question);
    s->names = true;
    buf_fmt(&s->prefix, " The special magic %s for %s mentioned in the provided text %s", what, query.s ? query.s : "",
            one ? "is" : "are");
    s->text.oom |= query.oom | head.oom;
    buf_free(&context);
    buf_free(&query);
    buf_free(&question);
    buf_free(&head);
}

#define NIAH(name, needs, min, hay, key, value, nk, nv, nq)                                                            \
    {                                                                                                                  \
        name, CMD_RULER, SCORE_ALL, 128, needs, min, NULL, false, (hay) == NEEDLES, NULL, build_niah, &(const niah) {  \
            hay, key, value, nk, nv, nq                                                                                \
        }                                                                                                              \
    }
const task tasks_niah[] = {NIAH("niah_single_1", 0, 1, NOISE, WORDS, NUMBERS, 1, 1, 1),
                           NIAH("niah_single_2", NEEDS_ESSAY, 50, ESSAY, WORDS, NUMBERS, 1, 1, 1),
                           NIAH("niah_single_3", NEEDS_ESSAY, 50, ESSAY, WORDS, UUIDS, 1, 1, 1),
                           NIAH("niah_multikey_1", NEEDS_ESSAY, 50, ESSAY, WORDS, NUMBERS, 4, 1, 1),
                           NIAH("niah_multikey_2", 0, 1, NEEDLES, WORDS, NUMBERS, 1, 1, 1),
                           NIAH("niah_multikey_3", 0, 1, NEEDLES, UUIDS, UUIDS, 1, 1, 1),
                           NIAH("niah_multivalue", NEEDS_ESSAY, 50, ESSAY, WORDS, NUMBERS, 1, 4, 1),
                           NIAH("niah_multiquery", NEEDS_ESSAY, 50, ESSAY, WORDS, NUMBERS, 4, 1, 4),
                           {.name = NULL}};
