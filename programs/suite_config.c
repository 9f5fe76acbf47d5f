/* SPDX-License-Identifier: MIT */
/* See suite_config.h: the file itself, and what its parts share.  Policies are read by suite_policy.c, tasks by
 * suite_task.c. */
#include "suite_config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "jsonout.h"
#include "term.h"

int suite_wrong(const suite *s, const char *place, const char *fmt, ...) {
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return *place ? fail("%s: %s: %s", s->file, place, what) : fail("%s: %s", s->file, what);
}

int suite_keys(const suite *s, const char *place, const json_t *obj, const char *const *known) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)obj, key, value) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key)) i++;
        if (!known[i]) return suite_wrong(s, place, "unknown key '%.40s'", key);
        if (!strcmp(key, "comment") && !json_is_string(value))
            return suite_wrong(s, place, "comment: a text is wanted");
    }
    return EXIT_OK;
}

bool suite_name_good(const char *name) {
    const size_t n = strlen(name);
    return n > 0 && n < SUITE_NAME_CAP && *name != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

int suite_u32(const suite *s, const char *place, const char *key, const json_t *obj, uint32_t lo, uint32_t hi,
              uint32_t *out) {
    const json_t *x = json_object_get(obj, key);
    if (!x) return EXIT_OK;
    if (!json_is_integer(x) || json_integer_value(x) < lo || json_integer_value(x) > hi)
        return suite_wrong(s, place, "%s: a whole number from %u to %u is wanted", key, lo, hi);
    *out = (uint32_t)json_integer_value(x);
    return EXIT_OK;
}

const char *suite_text(const json_t *obj, const char *key) {
    const char *text = json_string_value(json_object_get(obj, key));
    return text ? text : "";
}

char *suite_path(const suite *s, const char *path) {
    const char *slash = strrchr(s->file, '/');
    buf b = {0};
    if (*path == '/' || !slash)
        buf_str(&b, path);
    else
        buf_fmt(&b, "%.*s%s", (int)(slash + 1 - s->file), s->file, path);
    if (!b.oom) return b.s;
    buf_free(&b);
    return NULL;
}

size_t suite_n_depth(const suite_task *t) {
    return t->depth.n ? t->depth.n : 1;
}

static int read_flag(const suite *s, const char *key, bool *out) {
    const json_t *x = json_object_get(s->root, key);
    if (x && !json_is_boolean(x)) return suite_wrong(s, "", "%s: true or false is wanted", key);
    if (x) *out = json_is_true(x);
    return EXIT_OK;
}

static int read_top(suite *s) {
    static const char *const known[] = {"comment", "model", "seed", "chat", "read_once", "policies", "tasks", NULL};
    const json_t *model = json_object_get(s->root, "model"), *seed = json_object_get(s->root, "seed");
    int rc = suite_keys(s, "", s->root, known);
    if (!rc) rc = read_flag(s, "chat", &s->chat);
    if (!rc) rc = read_flag(s, "read_once", &s->read_once);
    if (!rc && model && (!json_is_string(model) || !*json_string_value(model)))
        rc = suite_wrong(s, "", "model: the name of a file is wanted");
    if (!rc && seed && (!json_is_integer(seed) || json_integer_value(seed) < 0))
        rc = suite_wrong(s, "", "seed: a whole number of 0 and more is wanted");
    if (rc) return rc;
    s->has_seed = seed != NULL;
    s->seed = s->has_seed ? (uint64_t)json_integer_value(seed) : 0;
    if (model && !(s->model = suite_path(s, json_string_value(model)))) return fail_memory();
    return EXIT_OK;
}

int suite_read(suite *s, const options *o) {
    buf text = {0};
    json_error_t e;
    s->file = o->config;
    s->o = o;
    int rc = file_read(s->file, &text);
    if (!rc && strspn(text.s, " \t\r\n") == text.n) rc = suite_wrong(s, "", "the file is empty");
    if (!rc) {
        s->root = json_loadb(text.s, text.n, JSON_REJECT_DUPLICATES, &e);
        if (!s->root) rc = fail("%s: line %d, column %d: %s", s->file, e.line, e.column, e.text);
    }
    if (!rc && !json_is_object(s->root)) rc = suite_wrong(s, "", "an object with policies and tasks is wanted");
    if (!rc) rc = read_top(s);
    if (!rc) rc = suite_read_tasks(s); /* first: policies are computed for their lengths */
    if (!rc) rc = suite_read_policies(s);
    buf_free(&text);
    return rc;
}

void suite_free(suite *s) {
    for (size_t i = 0; i < s->n_policy; i++) json_decref(s->policy[i].entry);
    for (size_t i = 0; i < s->n_task; i++) {
        json_decref(s->task[i].entry);
        json_decref(s->task[i].bench);
        buf_free(&s->task[i].text);
        free(s->task[i].path);
    }
    json_decref(s->root);
    free(s->model);
}
