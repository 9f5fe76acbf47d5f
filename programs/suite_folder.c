/* SPDX-License-Identifier: MIT */
/* See suite_folder.h. */
#include "suite_folder.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "files.h"
#include "jsonout.h"
#include "klset.h"
#include "term.h"

/* DIR/POLICY+TASK[/FILE], the folder made if it is not there. */
static int path_of(const suite *s, const char *dir, size_t i_policy, size_t i_task, const char *file, buf *out) {
    buf_fmt(out, "%s/%s+%s", dir, s->policy[i_policy].name, s->task[i_task].name);
    if (out->oom) return fail_memory();
    if (mkdir(out->s, 0777) && errno != EEXIST) return fail("%s: %s", out->s, strerror(errno));
    buf_fmt(out, "/%s", file);
    return out->oom ? fail_memory() : EXIT_OK;
}

static void put_time(time_t t, char out[32]) {
    struct tm tm;
    if (!gmtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm)) *out = 0;
}

int suite_folder_log(const suite *s, const char *dir, size_t i_policy, size_t i_task, const char *line) {
    buf path = {0};
    char when[32];
    int rc = path_of(s, dir, i_policy, i_task, "log.txt", &path);
    FILE *f = rc ? NULL : fopen(path.s, "a");
    put_time(time(NULL), when);
    if (!rc && (!f || fprintf(f, "%s %s\n", when, line) < 0)) rc = fail("%s: %s", path.s, strerror(errno));
    if (f && fclose(f) && !rc) rc = fail("%s: %s", path.s, strerror(errno));
    buf_free(&path);
    return rc;
}

static void put_line(buf *out, const json_t *j, size_t flags) {
    char *text = json_dumps(j, JSON_REAL_PRECISION(9) | flags);
    if (text)
        buf_str(out, text);
    else
        out->oom = true;
    buf_str(out, "\n");
    free(text);
}

static int write_json(const suite *s, const char *dir, size_t i_policy, size_t i_task, const char *file, json_t *j) {
    buf path = {0}, text = {0};
    int rc = path_of(s, dir, i_policy, i_task, file, &path);
    put_line(&text, j, JSON_INDENT(2));
    if (!rc) rc = file_write(path.s, &text);
    buf_free(&path);
    buf_free(&text);
    json_decref(j);
    return rc;
}

/* Records of the run, and of them the first and last time. */
static int write_raw(const suite *s, const char *dir, const evalout *e, size_t i_policy, size_t i_task, size_t *n,
                     double *first, double *last) {
    buf path = {0}, text = {0};
    suite_at one;
    uint64_t number;
    int rc = path_of(s, dir, i_policy, i_task, "raw_results.jsonl", &path);
    *n = 0;
    *first = *last = (double)NAN;
    buf_str(&text, "");
    for (size_t i = 0; suite_step(s, (suite_at){i_task, SUITE_ALL, SUITE_ALL}, &i, &one, &number);) {
        const json_t *r = suite_find(s, e, i_policy, one, number);
        if (!r) continue;
        put_line(&text, r, JSON_COMPACT);
        *first = fmin(*first, record_num(r, "at"));
        *last = fmax(*last, record_num(r, "at"));
        ++*n;
    }
    if (!rc) rc = file_write(path.s, &text);
    buf_free(&path);
    buf_free(&text);
    return rc;
}

static int add_processed(const suite *s, const evalout *e, size_t i_policy, suite_at at, const char *what, uint32_t x,
                         json_t *list) {
    suite_figures f;
    int rc = suite_figures_of(s, e, i_policy, at, &f);
    if (rc || !f.n) return rc;
    json_t *j = suite_figures_json(s, at, &f), *with = json_object();
    json_put(with, what, json_integer(x));
    json_object_update(with, j);
    json_decref(j);
    json_array_append_new(list, with);
    return EXIT_OK;
}

static json_t *processed(const suite *s, const evalout *e, size_t i_policy, size_t i_task, int *rc) {
    const suite_task *t = &s->task[i_task];
    const suite_at all = {i_task, SUITE_ALL, SUITE_ALL};
    suite_figures f;
    json_t *j = json_object(), *by_ctx = json_array(), *by_depth = json_array();
    *rc = suite_figures_of(s, e, i_policy, all, &f);
    if (!*rc) json_put(j, "overall", suite_figures_json(s, all, &f));
    for (size_t c = 0; c < t->ctx.n && !*rc; c++)
        *rc = add_processed(s, e, i_policy, (suite_at){i_task, c, SUITE_ALL}, "ctx_tok", t->ctx.v[c], by_ctx);
    for (size_t d = 0; d < t->depth.n && !*rc; d++)
        *rc = add_processed(s, e, i_policy, (suite_at){i_task, SUITE_ALL, d}, "depth", t->depth.v[d], by_depth);
    json_put(j, "by_ctx", by_ctx);
    json_put(j, "by_depth", by_depth);
    return j;
}

/* The policy's texts at each length, as they were used. */
static json_t *setups(const suite *s, size_t i_policy, size_t i_task, int *rc) {
    const suite_task *t = &s->task[i_task];
    json_t *list = json_array();
    for (size_t c = 0; c < t->ctx.n && !*rc; c++) {
        suite_setup u;
        *rc = suite_setup_of(s, &s->policy[i_policy], t->ctx.v[c], &u);
        if (!*rc)
            json_array_append_new(list, json_pack("{s:I,s:s,s:s,s:s}", "ctx_tok", (json_int_t)t->ctx.v[c], "attn",
                                                  u.attn.name, "decode", u.decode, "kv", u.kv));
    }
    return list;
}

static json_t *when(double at) {
    char text[32] = "";
    if (isfinite(at)) put_time((time_t)at, text);
    return *text ? json_cstr(text) : json_null();
}

int suite_folder_write(const suite *s, const char *dir, const evalout *e, const json_t *config, size_t i_policy,
                       size_t i_task) {
    const suite_task *t = &s->task[i_task];
    size_t n = 0, want = t->n_sample * suite_n_depth(t) * t->ctx.n;
    double first, last;
    int rc = write_raw(s, dir, e, i_policy, i_task, &n, &first, &last);
    if (!rc) rc = write_json(s, dir, i_policy, i_task, "policy_config.json", json_incref(s->policy[i_policy].entry));
    if (!rc) rc = write_json(s, dir, i_policy, i_task, "task_config.json", json_incref(t->entry));
    if (rc) return rc;
    json_t *out = json_object(), *m = json_deep_copy(config);
    json_put(m, "records", json_size(n));
    json_put(m, "complete", json_boolean(n == want));
    json_put(m, "first_record", when(first));
    json_put(m, "last_record", when(last));
    json_put(m, "full", json_cstr(s->policy[0].name));
    json_put(out, "management", m);
    json_put(out, "setups", setups(s, i_policy, i_task, &rc));
    json_put(out, "processed_results", processed(s, e, i_policy, i_task, &rc));
    if (!rc) return write_json(s, dir, i_policy, i_task, "output_config.json", out);
    json_decref(out);
    return rc;
}
