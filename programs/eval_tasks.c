/* SPDX-License-Identifier: MIT */
/* critiprefill eval needle, passkey, kv, lines, chain, copy, lookup, ruler, longbench: samples made, read with every
 * attention in turn, answered, scored.
 *
 * A length's sessions, one an attention, stay open over its samples where memory allows.  Attentions take turns in
 * being first, so that a machine that slows down slows all of them. */
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "files.h"
#include "jsonout.h"
#include "rng.h"
#include "task_answer.h"
#include "task_qa.h"
#include "task_table.h"
#include "term.h"

enum { WARM_UP_TOK = 16, AGAIN_TOK = 640 };

typedef struct runner {
    const options *o;
    const char *name; /* of the command */
    crit_model *model;
    crit_model_info info;
    task_grid grid;
    task_env env;
    buf essay;
    json_t *squad, *hotpot, *bench;
    uint64_t squad_hash, hotpot_hash;
    json_t *bench_hash; /* of each file */
    asker ask;
    evalout *out;
    reader reader[VARIANT_MAX];
    bool warm;
    bool one_open; /* memory holds one session at a time */
    sample sample;
    prompt prompt;
    char label[160]; /* of the step under way */
} runner;

static const char *kind_name(unsigned kind) {
    return kind == CMD_RULER       ? "ruler"
           : kind == CMD_LONGBENCH ? "longbench"
           : kind == CMD_LOOKUP    ? "lookup"
           : kind == CMD_LINES     ? "lines"
           : kind == CMD_CHAIN     ? "chain"
           : kind == CMD_COPY      ? "copy"
           : kind == CMD_KV        ? "kv"
           : kind == CMD_PASSKEY   ? "passkey"
                                   : "needle";
}

/* ---- what is asked for ---- */

static int add_task(runner *r, const task *t) {
    task_grid *g = &r->grid;
    for (size_t i = 0; i < g->n_task; i++)
        if (g->task[i] == t) return usage(r->name, "--tasks: %s is named twice", t->name);
    g->task[g->n_task++] = t;
    return EXIT_OK;
}

static int check_needs(const runner *r, const task *t) {
    const options *o = r->o;
    if ((t->needs & NEEDS_ESSAY) && !o->essay) return usage(r->name, "%s needs prose: --essay FILE", t->name);
    if ((t->needs & NEEDS_SQUAD) && !o->squad) return usage(r->name, "%s needs SQuAD: --squad FILE", t->name);
    if ((t->needs & NEEDS_HOTPOT) && !o->hotpot) return usage(r->name, "%s needs HotpotQA: --hotpot FILE", t->name);
    return EXIT_OK;
}

/* The tasks of this kind: those named, all, or those that need no file that is not there. */
static int choose_tasks(runner *r) {
    const options *o = r->o;
    const char *list = o->tasks;
    const task *t;
    int rc = EXIT_OK;
    if (!list || !strcmp(list, "all")) {
        for (size_t i = 0; (t = task_at(i)) && !rc; i++) {
            if (t->kind != o->kind) continue;
            bool ready = !((t->needs & NEEDS_ESSAY) && !o->essay) && !((t->needs & NEEDS_SQUAD) && !o->squad) &&
                         !((t->needs & NEEDS_HOTPOT) && !o->hotpot);
            if (list) rc = check_needs(r, t);
            if (!rc && ready) rc = add_task(r, t);
        }
        return rc;
    }
    for (const char *s = list; !rc;) {
        char name[32];
        size_t n = strcspn(s, ",");
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), s);
        t = task_find(o->kind, name);
        rc =
            t ? check_needs(r, t)
              : usage(r->name, "--tasks: '%.*s' is none of niah_single_1 ... niah_multiquery, vt, cwe, fwe, qa_1, qa_2",
                      (int)(n < 40 ? n : 40), s);
        if (!rc) rc = add_task(r, t);
        if (!s[n]) break;
        s += n + 1;
    }
    return rc;
}

static int choose(runner *r) {
    const options *o = r->o;
    task_grid *g = &r->grid;
    if (o->kind == CMD_LOOKUP && o->question != QUESTION_LAST && o->question != QUESTION_MIDDLE)
        return usage(r->name, "--question: the questions of lookup stand last or in the middle");
    if (o->kind == CMD_LOOKUP && o->chat)
        return usage(r->name, "--chat: lookup is no conversation, its answers are read");
    int rc = variants_parse(&g->vs, o, r->name, o->variants ? o->variants : "dense,criti,paper");
    for (size_t i = 0; i < g->vs.n && !rc; i++)
        for (size_t k = 0; k < i && !rc; k++)
            if (!strcmp(g->vs.v[i].name, g->vs.v[k].name))
                rc = usage(r->name, "--attn: %s is named twice", g->vs.v[i].name);
    if (!rc) rc = choose_tasks(r);
    g->o = o;
    g->ctx = o->ctx.n ? o->ctx : (u32_list){{4096}, 1};
    g->depth = o->depths;
    if (o->kind == CMD_NEEDLE && !o->depths.n) g->depth = (u32_list){{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, 11};
    for (size_t i = 0; i < g->ctx.n && !rc; i++)
        for (size_t k = 0; k < i && !rc; k++)
            if (g->ctx.v[i] == g->ctx.v[k]) rc = usage(r->name, "-c: %u is named twice", g->ctx.v[i]);
    for (size_t i = 0; i < g->depth.n && !rc; i++)
        for (size_t k = 0; k < i && !rc; k++)
            if (g->depth.v[i] == g->depth.v[k]) rc = usage(r->name, "--depths: %u is named twice", g->depth.v[i]);
    return rc;
}

static int load_json(const char *path, int (*parse)(const char *, const buf *, json_t **), json_t **out,
                     uint64_t *hash) {
    buf text = {0};
    int rc = path ? file_read(path, &text) : EXIT_OK;
    if (!rc && path) rc = parse(path, &text, out);
    *hash = hash_bytes(HASH_START, text.s, text.n);
    buf_free(&text);
    return rc;
}

static int load_files(runner *r) {
    const options *o = r->o;
    int rc = o->essay ? file_read(o->essay, &r->essay) : EXIT_OK;
    if (!rc && o->essay && (!r->essay.n || strspn(r->essay.s, " \t\r\n") == r->essay.n))
        rc = fail("%s: the text is empty", o->essay);
    if (!rc) rc = load_json(o->squad, qa_squad, &r->squad, &r->squad_hash);
    if (!rc) rc = load_json(o->hotpot, qa_hotpot, &r->hotpot, &r->hotpot_hash);
    for (size_t i = 0; i < o->files.n && !rc && o->kind == CMD_LONGBENCH; i++) {
        buf text = {0};
        rc = file_read(o->files.v[i], &text);
        if (!rc) rc = longbench_lines(o->files.v[i], &text, r->bench);
        if (!rc) json_array_append_new(r->bench_hash, json_hex(hash_bytes(HASH_START, text.s, text.n)));
        buf_free(&text);
    }
    return rc;
}

static int check_lengths(const runner *r) {
    uint32_t train = model_context(&r->info);
    for (size_t i = 0; i < r->grid.ctx.n; i++)
        if (train && r->grid.ctx.v[i] > train && !r->o->force && !variants_stream(&r->grid.vs))
            return fail("%s: %u tokens are more than the %u the model was trained for (--force runs them)", r->o->model,
                        r->grid.ctx.v[i], train);
    return EXIT_OK;
}

static int count_tokens(void *user, const sample *s, size_t *n) {
    runner *r = user;
    int rc = task_prompt(r->o, r->model, s, &r->prompt);
    *n = r->prompt.n;
    return rc;
}

/* ---- one length ---- */

static void close_sessions(runner *r) {
    for (size_t v = 0; v < r->grid.vs.n; v++) reader_close(&r->reader[v]);
}

/* Do the sessions of all attentions fit at this length, with a fifth of the memory to spare? */
static bool fit_together(const runner *r) {
    double need = 0;
    for (size_t v = 0; v < r->grid.vs.n; v++) {
        crit_memory m = {.struct_size = sizeof m};
        crit_session_params sp = variant_session(r->o, &r->grid.vs.v[v], r->env.ctx);
        if (crit_memory_estimate(r->model, &sp, &m, NULL)) return true; /* opening tells what is wrong */
        need += (double)(m.total_bytes - m.weights_bytes) + (v ? 0.0 : (double)m.weights_bytes);
        if (m.available_bytes && need > .8 * (double)m.available_bytes) return false;
    }
    return true;
}

static int open_session(runner *r, size_t v) {
    crit_error err = {0};
    if (r->reader[v].session) return EXIT_OK;
    if (r->one_open) close_sessions(r);
    crit_session_params sp = variant_session(r->o, &r->grid.vs.v[v], r->env.ctx);
    if (crit_session_open(&r->reader[v].session, r->model, &sp, &err)) return fail_with(&err);
    if (r->warm) return EXIT_OK;
    /* Touches every weight, so that the first reading does not pay alone for the file. */
    size_t n = r->prompt.n < WARM_UP_TOK ? r->prompt.n : WARM_UP_TOK;
    if (crit_prefill(r->reader[v].session, r->prompt.ids, n, NULL, &err)) return fail_with(&err);
    r->warm = true;
    return EXIT_OK;
}

/* Of one record, in tokens to read: further questions of a text go on near its end, some AGAIN_TOK before it. */
static double work_of(const runner *r, size_t t, uint32_t ctx, uint64_t number) {
    return number % task_n_question(r->grid.task[t], r->o->n_question) && ctx > AGAIN_TOK ? AGAIN_TOK : ctx;
}

static int put_record(runner *r, size_t t, size_t d, size_t v, const char *key) {
    const variant *var = &r->grid.vs.v[v];
    const sample *s = &r->sample;
    json_t *j = NULL, *all;
    snprintf(r->label, sizeof r->label, "%s %u, sample %llu, %s", r->grid.task[t]->name, r->env.ctx,
             (unsigned long long)s->number, var->name);
    evalout_step(r->out, work_of(r, t, r->env.ctx, s->number), r->label);
    int rc = open_session(r, v);
    if (!rc) rc = task_answer(&r->ask, &r->reader[v], var, s, &r->prompt, &j);
    if (rc) return rc;
    all = json_object();
    json_put(all, "task", json_cstr(r->grid.task[t]->name));
    json_put(all, "seed", json_integer((json_int_t)r->o->sampler.seed));
    json_put(all, "sample", json_integer((json_int_t)s->number));
    json_put(all, "ctx_tok", json_integer(r->env.ctx));
    json_put(all, "depth", r->grid.depth.n ? json_integer(r->grid.depth.v[d]) : json_num(s->depth));
    json_put(all, "attn", json_cstr(var->name));
    json_object_update(all, j);
    json_decref(j);
    return evalout_put(r->out, key, all);
}

/* One sample with every attention; size is found when the first sample is needed. */
static int one_sample(runner *r, size_t t, size_t d, uint64_t number, uint32_t *size, bool *sized) {
    const task_grid *g = &r->grid;
    bool made = false;
    int rc = EXIT_OK;
    r->env.depth = g->depth.n ? (double)g->depth.v[d] : -1;
    for (size_t k = 0; k < g->vs.n && !rc; k++) {
        size_t v = (k + (size_t)(number + d)) % g->vs.n;
        buf key = {0};
        grid_key(g, t, r->env.ctx, d, number, v, &key);
        if (key.oom) return fail_memory();
        if (evalout_want(r->out, key.s)) {
            evalout_skip(r->out, work_of(r, t, r->env.ctx, number));
        } else {
            if (!*sized) rc = task_fit(g->task[t], &r->env, size);
            *sized = true;
            if (!rc && !made) rc = task_make(g->task[t], &r->env, *size, number, &r->sample);
            if (!rc && !made) rc = task_prompt(r->o, r->model, &r->sample, &r->prompt);
            made = true;
            if (!rc) rc = put_record(r, t, d, v, key.s);
            if (!rc && term_interrupted()) rc = EXIT_INTERRUPTED;
        }
        buf_free(&key);
    }
    return rc;
}

static int one_length(runner *r, uint32_t ctx) {
    const task_grid *g = &r->grid;
    int rc = EXIT_OK;
    r->env.ctx = ctx;
    r->one_open = !fit_together(r);
    for (size_t t = 0; t < g->n_task && !rc; t++) {
        uint32_t size = 0;
        bool sized = false;
        for (uint64_t i = 0; i < g->n_sample[t] && !rc; i++)
            for (size_t d = 0; d < grid_n_depth(g) && !rc; d++) rc = one_sample(r, t, d, i, &size, &sized);
    }
    close_sessions(r);
    return rc;
}

/* ---- all ---- */

/* What a record depends on beside its key. */
static json_t *config(const runner *r) {
    static const char *const where[] = {"last", "first", "both", "middle"};
    const options *o = r->o;
    json_t *j = eval_config(o, r->model, &r->info);
    buf attn = {0};
    options_attn(&attn, &o->attn, CRIT_ATTN_CRITI);
    buf_str(&attn, " ");
    options_attn(&attn, &o->attn, CRIT_ATTN_PAPER);
    json_put(j, "seed", json_integer((json_int_t)o->sampler.seed));
    json_put(j, "question", json_cstr(where[o->question]));
    json_put(j, "chat", json_boolean(o->chat));
    json_put(j, "attn_opt", json_cstr(attn.oom ? "" : attn.s));
    json_put(j, "n_batch", json_integer(o->n_batch));
    if (o->n_question > 1) json_put(j, "questions", json_integer(o->n_question));
    if (o->kind == CMD_PASSKEY) json_put(j, "digits", json_integer(o->n_digit));
    if (o->essay) json_put(j, "essay", json_hex(hash_bytes(HASH_START, r->essay.s, r->essay.n)));
    if (o->squad) json_put(j, "squad", json_hex(r->squad_hash));
    if (o->hotpot) json_put(j, "hotpot", json_hex(r->hotpot_hash));
    json_put(j, "files", json_incref(r->bench_hash));
    buf_free(&attn);
    return j;
}

static int measure(runner *r) {
    task_grid *g = &r->grid;
    const options *o = r->o;
    double work = 0;
    for (size_t t = 0; t < g->n_task; t++) {
        uint64_t n = task_n_sample(g->task[t], &r->env);
        if (n < o->n_sample) note("%s: the file has %llu samples", g->task[t]->name, (unsigned long long)n);
        g->n_sample[t] = n < o->n_sample ? n : o->n_sample;
        for (size_t i = 0; i < g->ctx.n; i++)
            for (uint64_t k = 0; k < g->n_sample[t]; k++)
                work += (double)(grid_n_depth(g) * g->vs.n) * work_of(r, t, g->ctx.v[i], k);
    }
    int rc = evalout_open(&r->out, o, kind_name(o->kind), config(r));
    if (!rc) evalout_work(r->out, work);
    r->ask = (asker){o, r->model, r->info.n_vocab, r->ask.sampler, r->out, o->kind == CMD_PASSKEY};
    for (size_t i = 0; i < g->ctx.n && !rc; i++) rc = one_length(r, g->ctx.v[i]);
    if (!rc) rc = grid_tables(g, r->out);
    if (!rc) rc = grid_pictures(g, r->out);
    return evalout_close(&r->out, rc);
}

int eval_tasks_main(const options *o) {
    char name[32];
    runner r = {.o = o, .name = name};
    crit_error err = {0};
    double ms;
    snprintf(name, sizeof name, "eval %s", kind_name(o->kind));
    r.bench = json_array();
    r.bench_hash = json_array();
    int rc = choose(&r);
    if (!rc) rc = load_files(&r);
    if (!rc) rc = model_open(o, &r.model, &r.info, &ms);
    if (!rc) rc = check_lengths(&r);
    if (!rc && crit_sampler_open(&r.ask.sampler, r.model, NULL, &err)) rc = fail_with(&err);
    r.env = (task_env){.seed = o->sampler.seed,
                       .question = o->question,
                       .n_digit = o->n_digit,
                       .n_question = o->n_question,
                       .essay = o->essay ? &r.essay : NULL,
                       .squad = r.squad,
                       .hotpot = r.hotpot,
                       .bench = r.bench,
                       .count = count_tokens,
                       .user = &r};
    if (!rc) rc = measure(&r);
    close_sessions(&r);
    crit_sampler_close(&r.ask.sampler);
    sample_free(&r.sample);
    prompt_free(&r.prompt);
    buf_free(&r.essay);
    json_decref(r.squad);
    json_decref(r.hotpot);
    json_decref(r.bench);
    json_decref(r.bench_hash);
    crit_model_close(&r.model);
    return rc;
}
