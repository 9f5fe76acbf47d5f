/* SPDX-License-Identifier: MIT */
/* critiprefill eval suite: every policy of a configuration with every task of it.
 *
 * DIR/results.jsonl is the queue's memory: a line for each sample of a task with a policy, written when it is done.  A
 * suite that is started again takes what stands there and measures the rest; since a record depends on nothing but its
 * own settings, which are in its key, the outcome is that of one run.  A changed policy or task is measured anew by
 * itself.  Policies take turns in being first, so that a machine that slows down slows all of them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "eval.h"
#include "jsonout.h"
#include "klset.h"
#include "suite_cell.h"
#include "suite_figures.h"
#include "suite_folder.h"
#include "suite_report.h"
#include "term.h"

typedef struct queue {
    options o; /* with what the configuration says */
    suite *s;
    suite_bench bench;
    task_env env;
    sample sample;
    prompt text;    /* of the perplexity task under way */
    json_t *config; /* what every record depends on */
    char *dir, *html;
    char label[200];
} queue;

static int count_tokens(void *user, const sample *s, size_t *n) {
    queue *q = user;
    int rc = task_prompt(&q->o, q->bench.model, s, &q->bench.prompt);
    *n = q->bench.prompt.n;
    return rc;
}

/* ---- samples ---- */

/* Where the window of sample number i begins among n + 1 places: 0, 1/2, 1/4, 3/4, ... of the way, whatever the number
 * of samples. */
static size_t window_start(uint64_t i, size_t n) {
    double at = 0;
    for (double half = .5; i; i >>= 1, half /= 2) at += half * (double)(i & 1);
    return (size_t)(at * (double)n);
}

static int make_window(queue *q, const suite_task *t, uint32_t ctx, uint64_t number) {
    prompt *p = &q->bench.prompt;
    const size_t n = (size_t)ctx + 1; /* the last token is predicted and not read */
    int rc = EXIT_OK;
    if (q->text.n < n) return fail("%s: %zu tokens are too few for a window of %zu", t->path, q->text.n, n);
    int32_t *ids = realloc(p->ids, n * sizeof *ids);
    if (!ids) return fail_memory();
    p->ids = ids;
    memcpy(ids, q->text.ids + window_start(number, q->text.n - n), n * sizeof *ids);
    const int32_t bos = eval_bos(q->bench.model, &rc);
    if (bos >= 0) ids[0] = bos;
    p->n = ctx - t->n_score;
    q->bench.n_next = t->n_score;
    return rc;
}

static int make_sample(queue *q, const suite_task *t, uint32_t ctx, uint32_t *size, bool *sized, uint64_t number) {
    q->bench.serial++;
    if (!t->t) return make_window(q, t, ctx, number);
    int rc = *sized ? EXIT_OK : task_fit(t->t, &q->env, size);
    *sized = true;
    if (!rc) rc = task_make(t->t, &q->env, *size, number, &q->sample);
    return rc ? rc : task_prompt(&q->o, q->bench.model, &q->sample, &q->bench.prompt);
}

static json_t *head(const queue *q, size_t i_policy, suite_at at, uint64_t number) {
    const suite_task *t = &q->s->task[at.task];
    const suite_policy *p = &q->s->policy[i_policy];
    json_t *j = json_object();
    json_put(j, "task", json_cstr(t->name));
    json_put(j, "policy", json_cstr(p->name));
    json_put(j, "seed", json_integer((json_int_t)q->s->seed));
    json_put(j, "sample", json_integer((json_int_t)number));
    json_put(j, "ctx_tok", json_integer(t->ctx.v[at.ctx]));
    json_put(j, "depth",
             t->depth.n ? json_integer(t->depth.v[at.depth]) : json_num(t->t ? q->sample.depth : (double)NAN));
    json_put(j, "ratio", p->ratio > 0 ? json_num(p->ratio) : json_null());
    return j;
}

static int put_log(const queue *q, size_t i_policy, suite_at at, const json_t *j) {
    const bool ppl = !q->s->task[at.task].t;
    buf line = {0};
    buf_fmt(
        &line,
        "%u tokens, sample %.0f, depth %.4g: %s %.4g, %.2f s to the first token, %.2f ms a token, %.3f of the bytes",
        q->s->task[at.task].ctx.v[at.ctx], record_num(j, "sample"), record_num(j, "depth"), ppl ? "ppl" : "score",
        record_num(j, ppl ? "ppl" : "score"), record_num(j, "ttft_ms") / 1e3, record_num(j, "ms_per_tok"),
        record_num(j, "moved_bytes") / record_num(j, "full_bytes"));
    int rc = line.oom ? fail_memory() : suite_folder_log(q->s, q->dir, i_policy, at.task, line.s);
    buf_free(&line);
    return rc;
}

static int measure(queue *q, size_t i_policy, suite_at at, uint64_t number, const char *key) {
    const suite_task *t = &q->s->task[at.task];
    json_t *j = head(q, i_policy, at, number);
    snprintf(q->label, sizeof q->label, "%s %u, sample %llu, %s", t->name, t->ctx.v[at.ctx], (unsigned long long)number,
             q->s->policy[i_policy].name);
    evalout_step(q->bench.out, t->ctx.v[at.ctx], q->label);
    int rc = suite_cell(&q->bench, i_policy, t->t ? &q->sample : NULL, j);
    if (rc) {
        json_decref(j);
        return rc;
    }
    json_put(j, "at", json_integer((json_int_t)time(NULL)));
    rc = evalout_put(q->bench.out, key, json_incref(j));
    if (!rc) rc = put_log(q, i_policy, at, j);
    json_decref(j);
    return rc;
}

/* One sample with every policy. */
static int one_sample(queue *q, suite_at at, uint64_t number, uint32_t *size, bool *sized) {
    const suite *s = q->s;
    const suite_task *t = &s->task[at.task];
    bool made = false;
    int rc = EXIT_OK;
    q->env.depth = t->depth.n ? (double)t->depth.v[at.depth] : -1;
    for (size_t k = 0; k < s->n_policy && !rc; k++) {
        const size_t p = (k + (size_t)(number + at.depth)) % s->n_policy;
        buf key = {0};
        suite_key(s, p, at, number, &key);
        if (key.oom) return fail_memory();
        if (evalout_want(q->bench.out, key.s)) {
            evalout_skip(q->bench.out, t->ctx.v[at.ctx]);
        } else {
            if (!made) rc = make_sample(q, t, t->ctx.v[at.ctx], size, sized, number);
            made = true;
            if (!rc) rc = measure(q, p, at, number, key.s);
            if (!rc && term_interrupted()) rc = EXIT_INTERRUPTED;
        }
        buf_free(&key);
    }
    return rc;
}

/* ---- tasks ---- */

static int one_length(queue *q, size_t i_task, size_t i_ctx) {
    const suite_task *t = &q->s->task[i_task];
    uint32_t size = 0;
    bool sized = false;
    q->env.ctx = t->ctx.v[i_ctx];
    int rc = suite_length(&q->bench, t->ctx.v[i_ctx]);
    for (uint64_t i = 0; i < t->n_sample && !rc; i++)
        for (size_t d = 0; d < suite_n_depth(t) && !rc; d++)
            rc = one_sample(q, (suite_at){i_task, i_ctx, d}, i, &size, &sized);
    suite_close(&q->bench);
    return rc;
}

static int set_task(queue *q, size_t i_task) {
    const suite_task *t = &q->s->task[i_task];
    q->env.question = t->question;
    q->env.n_digit = t->n_digit;
    q->env.bench = t->bench;
    q->bench.ask.common = t->t && t->t->kind & CMD_PASSKEY;
    q->text.n = 0;
    return t->t ? EXIT_OK : prompt_tokenize(&q->text, q->bench.model, t->text.s, t->text.n, 0);
}

static int one_task(queue *q, size_t i_task) {
    const suite_task *t = &q->s->task[i_task];
    int rc = set_task(q, i_task);
    for (size_t c = 0; c < t->ctx.n && !rc; c++) rc = one_length(q, i_task, c);
    /* also of what was stopped: folders hold what there is */
    for (size_t p = 0; p < q->s->n_policy && (!rc || rc == EXIT_INTERRUPTED); p++) {
        int bad = suite_folder_write(q->s, q->dir, q->bench.out, q->config, p, i_task);
        if (bad && !rc) rc = bad;
        if (bad) break;
    }
    return rc;
}

/* ---- all ---- */

/* What a task far down the queue would fail of is told before the first one is measured. */
static int check_lengths(queue *q) {
    int rc = EXIT_OK;
    for (size_t t = 0; t < q->s->n_task && !rc; t++) {
        const suite_task *x = &q->s->task[t];
        rc = set_task(q, t);
        for (size_t c = 0; c < x->ctx.n && !rc; c++) {
            uint32_t size;
            q->env.ctx = x->ctx.v[c];
            q->env.depth = x->depth.n ? (double)x->depth.v[0] : -1;
            rc = eval_check_length(&q->o, &q->bench.info, x->ctx.v[c]);
            if (!rc) rc = x->t ? task_fit(x->t, &q->env, &size) : make_window(q, x, x->ctx.v[c], 0);
        }
    }
    return rc;
}

/* Where things go, by the configuration's name. */
static int set_paths(queue *q) {
    const char *slash = strrchr(q->s->file, '/'), *base = slash ? slash + 1 : q->s->file;
    size_t n = strlen(base);
    buf dir = {0}, html = {0};
    if (n > 5 && !strcmp(base + n - 5, ".json")) n -= 5;
    if (q->o.out_dir)
        buf_str(&dir, q->o.out_dir);
    else
        buf_fmt(&dir, "%.*s%s", (int)n, base, base[n] ? "" : "-out");
    if (q->o.html)
        buf_str(&html, q->o.html);
    else
        buf_fmt(&html, "%s/report.html", dir.oom ? "" : dir.s);
    q->dir = dir.s;
    q->html = html.s;
    q->o.out_dir = q->dir;
    return dir.oom || html.oom ? fail_memory() : EXIT_OK;
}

static int open_queue(queue *q) {
    crit_error err = {0};
    double ms, work = 0;
    suite_bench *b = &q->bench;
    int rc = model_open(&q->o, &b->model, &b->info, &ms);
    q->env = (task_env){.seed = q->s->seed, .count = count_tokens, .user = q};
    if (!rc) rc = check_lengths(q);
    if (!rc && crit_sampler_open(&b->ask.sampler, b->model, NULL, &err)) rc = fail_with(&err);
    if (rc) return rc;
    q->config = eval_config(&q->o, b->model, &b->info);
    json_object_del(q->config, "files");
    json_put(q->config, "chat", json_boolean(q->s->chat));
    json_put(q->config, "read_once", json_boolean(q->s->read_once));
    rc = evalout_open(&b->out, &q->o, "suite", json_deep_copy(q->config));
    if (rc) return rc;
    q->o.html = q->html; /* only now: its folder may be new */
    for (size_t t = 0; t < q->s->n_task; t++)
        for (size_t c = 0; c < q->s->task[t].ctx.n; c++)
            work += (double)q->s->task[t].n_sample * (double)(suite_n_depth(&q->s->task[t]) * q->s->n_policy) *
                    q->s->task[t].ctx.v[c];
    evalout_work(b->out, work);
    b->o = &q->o;
    b->s = q->s;
    b->ask = (asker){&q->o, b->model, b->info.n_vocab, b->ask.sampler, b->out, false};
    return EXIT_OK;
}

static int report_all(queue *q) {
    buf subject = {0};
    const char *slash = strrchr(q->o.model, '/');
    buf_fmt(&subject, "%s, %s, %u threads", slash ? slash + 1 : q->o.model, q->bench.info.cpu, options_threads(&q->o));
    int rc = subject.oom ? fail_memory() : suite_report(q->s, q->bench.out, subject.s);
    buf_free(&subject);
    return rc;
}

static void close_queue(queue *q) {
    suite_close(&q->bench);
    crit_sampler_close(&q->bench.ask.sampler);
    sample_free(&q->sample);
    prompt_free(&q->bench.prompt);
    prompt_free(&q->text);
    crit_model_close(&q->bench.model);
    json_decref(q->config);
    free(q->dir);
    free(q->html);
}

int eval_suite_main(const options *o) {
    queue *q = calloc(1, sizeof *q);
    suite *s = calloc(1, sizeof *s);
    int rc = q && s ? suite_read(s, o) : fail_memory();
    if (!rc) {
        q->s = s;
        q->o = *o;
        q->o.chat = s->chat;
        if (!o->model) q->o.model = s->model;
        if (s->has_seed) q->o.sampler.seed = s->seed;
        s->seed = q->o.sampler.seed;
        s->o = &q->o;
        rc = q->o.model ? set_paths(q) : usage("eval suite", "no model given (-m FILE, or \"model\" in %s)", s->file);
    }
    if (!rc) rc = open_queue(q);
    for (size_t t = 0; !rc && t < s->n_task; t++) rc = one_task(q, t);
    if (!rc) rc = report_all(q);
    if (q) rc = evalout_close(&q->bench.out, rc);
    if (q) close_queue(q);
    if (s) suite_free(s);
    free(q);
    free(s);
    return rc;
}
