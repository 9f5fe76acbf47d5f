/* SPDX-License-Identifier: MIT */
/* The tasks of a suite, with the files some of them need. */
#include <stdio.h>
#include <string.h>

#include "files.h"
#include "jsonout.h"
#include "rng.h"
#include "suite_config.h"
#include "task_qa.h"
#include "term.h"

enum { MAX_CTX = 1 << 24, MIN_CTX = 64 };

/* What some of the tasks take beside task, name, ctx, samples and comment. */
enum { TAKES_QUESTION = 1, TAKES_DEPTHS = 2, TAKES_DIGITS = 4, TAKES_FILE = 8, TAKES_TOKENS = 16 };
static const struct {
    const char *key;
    unsigned bit;
} extra[] = {{"question", TAKES_QUESTION},
             {"depths", TAKES_DEPTHS},
             {"digits", TAKES_DIGITS},
             {"file", TAKES_FILE},
             {"tokens", TAKES_TOKENS}};
enum { N_EXTRA = sizeof extra / sizeof *extra };

static unsigned takes(const suite_task *t) {
    if (!t->t) return TAKES_FILE | TAKES_TOKENS;
    unsigned bits = TAKES_QUESTION;
    if (t->t->kind & (CMD_NEEDLE | CMD_PASSKEY | CMD_COPY)) bits |= TAKES_DEPTHS;
    if (t->t->kind & CMD_PASSKEY) bits |= TAKES_DIGITS;
    if (t->t->kind & CMD_LONGBENCH) bits |= TAKES_FILE;
    return bits;
}

/* Tasks that are answered by decoding and need no text from outside but the one file of longbench. */
static bool suits(const task *t) {
    return t->how != SCORE_FORCED && !t->needs;
}

static int find_task(const suite *s, suite_task *t) {
    const char *name = suite_text(t->entry, "task");
    const task *x;
    buf list = {0};
    if (!strcmp(name, "ppl")) return EXIT_OK;
    for (size_t i = 0; (x = task_at(i)); i++)
        if (suits(x) && !strcmp(x->name, name)) {
            t->t = x;
            return EXIT_OK;
        }
    for (size_t i = 0; (x = task_at(i)); i++)
        if (suits(x)) buf_fmt(&list, "%s, ", x->name);
    buf_str(&list, "ppl");
    int rc = list.oom ? fail_memory() : suite_wrong(s, t->place, "task: '%.40s' is none of %s", name, list.s);
    buf_free(&list);
    return rc;
}

/* A number or a list of different ones. */
static int read_list(const suite *s, const suite_task *t, const char *key, uint32_t lo, uint32_t hi, u32_list *out) {
    const json_t *x = json_object_get(t->entry, key);
    const size_t n = json_is_array(x) ? json_array_size(x) : 1, cap = sizeof out->v / sizeof *out->v;
    if (!x) return EXIT_OK;
    if (n == 0 || n > cap) return suite_wrong(s, t->place, "%s: 1 to %zu numbers are wanted", key, cap);
    out->n = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_is_array(x) ? json_array_get(x, i) : x;
        const json_int_t v = json_integer_value(e);
        if (!json_is_integer(e) || v < lo || v > hi)
            return suite_wrong(s, t->place, "%s: whole numbers from %u to %u are wanted", key, lo, hi);
        for (size_t k = 0; k < out->n; k++)
            if (out->v[k] == (uint32_t)v) return suite_wrong(s, t->place, "%s: %u is named twice", key, out->v[k]);
        out->v[out->n++] = (uint32_t)v;
    }
    return EXIT_OK;
}

static int read_question(const suite *s, suite_task *t) {
    static const char *const where[] = {"last", "first", "both"}; /* QUESTION_LAST, ... */
    const json_t *x = json_object_get(t->entry, "question");
    if (!x) return EXIT_OK;
    for (uint32_t i = 0; i < sizeof where / sizeof *where; i++)
        if (!strcmp(suite_text(t->entry, "question"), where[i])) {
            t->question = i;
            return EXIT_OK;
        }
    return suite_wrong(s, t->place, "question: last, first or both is wanted");
}

/* The file as far as it is known without a model. */
static int read_file(const suite *s, suite_task *t) {
    buf text = {0};
    const char *name = suite_text(t->entry, "file");
    if (!*name) return suite_wrong(s, t->place, "file: %s needs one", suite_text(t->entry, "task"));
    t->path = suite_path(s, name);
    int rc = t->path ? file_read(t->path, &text) : fail_memory();
    if (!rc && (!text.n || strspn(text.s, " \t\r\n") == text.n)) rc = fail("%s: the text is empty", t->path);
    if (!rc) t->hash = hash_bytes(t->hash, text.s, text.n);
    if (!rc && t->t) {
        t->bench = json_array();
        rc = longbench_lines(t->path, &text, t->bench);
    } else if (!rc) {
        t->text = text;
        return EXIT_OK;
    }
    buf_free(&text);
    return rc;
}

/* "passkey64-first" where nothing else is said. */
static int set_name(suite *s, suite_task *t) {
    const char *given = suite_text(t->entry, "name");
    static const char *const tail[] = {"", "-first", "-both"};
    int n;
    if (json_object_get(t->entry, "name") && !*given) return suite_wrong(s, t->place, "name: a text is wanted");
    if (*given)
        n = snprintf(t->name, sizeof t->name, "%s", given);
    else if (t->t && t->t->kind & CMD_PASSKEY)
        n = snprintf(t->name, sizeof t->name, "passkey%u%s", t->n_digit, tail[t->question]);
    else
        n = snprintf(t->name, sizeof t->name, "%s%s", suite_text(t->entry, "task"), tail[t->question]);
    if (n >= (int)sizeof t->name || !suite_name_good(t->name))
        return suite_wrong(s, t->place, "name: '%.40s' is not 1 to %d of a-z A-Z 0-9 . _ -", t->name,
                           SUITE_NAME_CAP - 1);
    for (const suite_task *x = s->task; x < t; x++)
        if (!strcmp(x->name, t->name))
            return suite_wrong(s, t->place, "the name '%s' is taken by %s; give this one a \"name\"", t->name,
                               x->place);
    return EXIT_OK;
}

static void hash_settings(const suite *s, suite_task *t) {
    const uint32_t x[] = {t->question, t->n_digit, t->n_score, s->chat, s->read_once};
    unsigned char b[4 * sizeof x / sizeof *x];
    for (size_t i = 0; i < sizeof b; i++) b[i] = (unsigned char)(x[i / 4] >> (8 * (i % 4)));
    const char *kind = suite_text(t->entry, "task");
    t->hash = hash_bytes(HASH_START, kind, strlen(kind) + 1);
    t->hash = hash_bytes(t->hash, b, sizeof b);
}

static int read_entry(suite *s, suite_task *t) {
    const char *known[N_EXTRA + 6] = {"comment", "task", "name", "ctx", "samples"};
    size_t n_known = 5;
    if (!json_is_object(t->entry)) return suite_wrong(s, t->place, "an object is wanted");
    int rc = find_task(s, t);
    if (rc) return rc;
    for (size_t i = 0; i < N_EXTRA; i++)
        if (takes(t) & extra[i].bit) known[n_known++] = extra[i].key;
    rc = suite_keys(s, t->place, t->entry, known);
    if (!rc) rc = read_list(s, t, "ctx", MIN_CTX, MAX_CTX, &t->ctx);
    if (!rc) rc = read_list(s, t, "depths", 0, 100, &t->depth);
    if (!rc) rc = suite_u32(s, t->place, "samples", t->entry, 1, 100000, &t->n_sample);
    if (!rc) rc = suite_u32(s, t->place, "digits", t->entry, 1, 256, &t->n_digit);
    if (!rc) rc = suite_u32(s, t->place, "tokens", t->entry, 1, 1 << 20, &t->n_score);
    if (!rc) rc = read_question(s, t);
    if (!rc) rc = set_name(s, t);
    if (rc) return rc;
    for (size_t i = 0; i < t->ctx.n && !t->t; i++)
        if (t->ctx.v[i] < t->n_score + MIN_CTX / 2)
            return suite_wrong(s, t->place, "ctx: %u tokens leave no prompt before %u to score", t->ctx.v[i],
                               t->n_score);
    hash_settings(s, t);
    if (takes(t) & TAKES_FILE) rc = read_file(s, t);
    if (!rc && t->bench && json_array_size(t->bench) < t->n_sample) {
        note("%s: the file has %zu samples", t->path, json_array_size(t->bench));
        t->n_sample = (uint32_t)json_array_size(t->bench);
    }
    return rc;
}

int suite_read_tasks(suite *s) {
    json_t *list = json_object_get(s->root, "tasks"), *entry;
    size_t i;
    int rc = EXIT_OK;
    if (!json_array_size(list)) return suite_wrong(s, "tasks", "a list of one task and more is wanted");
    if (json_array_size(list) > SUITE_MAX_TASK) return suite_wrong(s, "tasks", "more than %d of them", SUITE_MAX_TASK);
    json_array_foreach(list, i, entry) {
        suite_task *t = &s->task[s->n_task++];
        t->entry = json_incref(entry);
        t->n_sample = 5;
        t->n_digit = 7;
        t->n_score = 128;
        t->ctx = (u32_list){{4096}, 1};
        snprintf(t->place, sizeof t->place, "tasks[%zu]", i);
        if (!rc) rc = read_entry(s, t);
        if (rc) break;
        if (t->t && t->t->kind & CMD_NEEDLE && !t->depth.n) t->depth = (u32_list){{0, 25, 50, 75, 100}, 5};
    }
    return rc;
}
