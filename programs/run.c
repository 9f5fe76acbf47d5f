/* SPDX-License-Identifier: MIT */
/* critiprefill run: read a prompt, answer; with --compare once more with dense attention.
 *
 * The two readings run one after the other in sessions of their own, so that memory holds one KV store at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "commands.h"
#include "critiprefill/policy.h"
#include "jsonout.h"
#include "mdtable.h"
#include "files.h"
#include "prompt.h"
#include "term.h"

typedef struct run {
    const options *o;
    crit_model *model;
    crit_model_info info;
    prompt text;
    size_t n_prefix; /* of its tokens in the snapshot */
    crit_snapshot_info prefix;
    double load_ms, text_ms; /* model; tokens */
    answer main, dense;
    agree agree;
} run;

static void put_timings(json_t *j, const run *r, const answer *a) {
    json_put(j, "prompt_n", json_size(r->text.n - r->n_prefix));
    json_put(j, "prompt_ms", json_num(a->prompt_ms));
    json_put(j, "prompt_per_second", json_num(per_second((double)(r->text.n - r->n_prefix), a->prompt_ms)));
    json_put(j, "predicted_n", json_size(a->n));
    json_put(j, "predicted_ms", json_num(a->answer_ms));
    json_put(j, "predicted_per_second", json_num(per_second((double)a->n_decode, a->answer_ms)));
    json_put(j, "load_ms", json_num(r->load_ms));
    json_put(j, "ttft_ms", json_num(r->text_ms + a->first_ms));
    json_put(j, "peak_rss_bytes", json_size(a->peak_rss_bytes));
    json_put(j, "kv_bytes", json_size(a->stats.kv_bytes));
}

static json_t *attn_json(const answer *a, const char *mode) {
    json_t *j = json_object();
    json_put(j, "mode", json_cstr(mode));
    json_put(j, "density", json_num(a->stats.density));
    json_put(j, "estimate_ms", json_num(a->stats.estimate_ms));
    json_put(j, "attend_ms", json_num(a->stats.attend_ms));
    json_put(j, "gemm_ms", json_num(a->stats.gemm_ms));
    json_put(j, "serial_ms", json_num(a->stats.serial_ms));
    json_put(j, "stages", json_integer((json_int_t)a->stats.n_stage));
    json_put(j, "items", json_integer((json_int_t)a->stats.n_item));
    json_put(j, "skipped", json_num(a->stats.skipped));
    json_put(j, "mass_measured", json_num(a->stats.mass_measured));
    json_put(j, "peak_recall_measured", json_num(a->stats.peak_recall_measured));
    json_put(j, "peaks_measured", json_integer((json_int_t)a->stats.n_peak_measured));
    return j;
}

static json_t *answer_json(const run *r, const answer *a, uint32_t mode) {
    json_t *j = json_object(), *ids = json_array();
    json_put(j, "text", json_text(a->text.n ? a->text.s : "", a->text.n));
    for (size_t i = 0; i < a->n; i++) json_array_append_new(ids, json_integer(a->ids[i]));
    json_put(j, "tokens", ids);
    put_timings(j, r, a);
    json_put(j, "attn", attn_json(a, mode_name(r->o, mode)));
    return j;
}

/* Several answers, each under a line of its own. */
static int print_answers(const run *r) {
    buf out = {0};
    const answer *a = &r->main;
    for (size_t i = 0; i < a->n_answer; i++) {
        const buf *t = &a->all[i].text;
        buf_fmt(&out, "--- answer %zu of %zu\n", i + 1, a->n_answer);
        if (t->n) buf_add(&out, t->s, t->n);
        if (t->n && t->s[t->n - 1] != '\n') buf_str(&out, "\n");
    }
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static void put_answers(json_t *j, const answer *a) {
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_answer; i++) {
        const one_answer *x = &a->all[i];
        json_t *one = json_object(), *ids = json_array();
        for (size_t k = 0; k < x->n; k++) json_array_append_new(ids, json_integer(x->ids[k]));
        json_put(one, "text", json_text(x->text.n ? x->text.s : "", x->text.n));
        json_put(one, "tokens", ids);
        json_array_append_new(list, one);
    }
    json_put(j, "samples", list);
    json_put(j, "batch_kv_bytes", json_size(a->batch_kv_bytes));
}

static bool same_text(const run *r) {
    return r->main.text.n == r->dense.text.n &&
           (!r->main.text.n || !memcmp(r->main.text.s, r->dense.text.s, r->main.text.n));
}

static json_t *decode_json(const crit_decode_stats *d) {
    json_t *j = json_object();
    json_put(j, "steps", json_integer((json_int_t)d->n_tok));
    json_put(j, "attend_ms", json_num(d->attend_ms));
    json_put(j, "moved_of_full", json_num(d->full_bytes > 0 ? d->moved_bytes / d->full_bytes : (double)NAN));
    json_put(j, "expected", json_num(d->model));
    return j;
}

static json_t *prefix_json(const run *r) {
    json_t *j = json_object();
    json_put(j, "file", json_cstr(r->o->prefix));
    json_put(j, "n", json_size(r->n_prefix));
    json_put(j, "load_ms", json_num(r->main.prefix_ms));
    json_put(j, "policy", json_cstr(r->prefix.policy));
    return j;
}

static int print_json(const run *r) {
    json_t *j = answer_json(r, &r->main, r->o->modes.v[0]);
    json_put(j, "model", json_cstr(r->o->model));
    json_put(j, "cpu", json_cstr(r->info.cpu));
    json_put(j, "threads", json_integer(options_threads(r->o)));
    if (r->main.n_answer) put_answers(j, &r->main);
    if (r->o->decode) json_put(j, "decode", json_cstr(r->o->decode));
    if (r->o->kv) {
        json_put(j, "kv", json_cstr(r->o->kv));
        json_put(j, "key_channels", json_integer(r->main.stats.n_channel));
    }
    if (r->o->decode) json_put(j, "decode_stats", decode_json(&r->main.decode));
    if (r->o->prefix) json_put(j, "prefix", prefix_json(r));
    if (r->o->compare) {
        json_put(j, "dense", answer_json(r, &r->dense, CRIT_ATTN_DENSE));
        json_t *g = json_object();
        json_put(g, "top1", json_num(agree_top1(&r->agree)));
        json_put(g, "kl_mean", json_num(agree_kl_mean(&r->agree)));
        json_put(g, "kl_max", json_num(agree_kl_max(&r->agree)));
        json_put(g, "text_equal", json_boolean(same_text(r)));
        json_put(j, "agree", g);
    }
    return json_print(j);
}

static void compare_row(const run *r, buf *out, const md_col *cols, size_t n, const answer *a, uint32_t mode) {
    size_t at = 0;
    const crit_stats *s = &a->stats;
    md_cell(out, cols, n, &at, "%s", mode_name(r->o, mode));
    md_num(out, cols, n, &at, a->prompt_ms / 1e3, 2, "");
    md_num(out, cols, n, &at, per_second((double)r->text.n, a->prompt_ms), 0, "");
    md_num(out, cols, n, &at, 100 * (s->estimate_ms + s->attend_ms) / s->prefill_ms, 0, " %");
    md_num(out, cols, n, &at, s->density, 3, "");
    md_num(out, cols, n, &at, r->dense.prompt_ms / a->prompt_ms, 2, "x");
}

/* The table behind the answer, and whether both answers agree. */
static int print_compare(const run *r) {
    static const md_col cols[] = {{"mode", 5, true},      {"prefill s", 9, false},
                                  {"tokens/s", 8, false}, {"attention share", 15, false},
                                  {"density", 7, false},  {"speed-up", 8, false}};
    enum { N_COL = sizeof cols / sizeof *cols };
    buf out = {0};
    buf_str(&out, "\n");
    md_head(&out, cols, N_COL);
    compare_row(r, &out, cols, N_COL, &r->dense, CRIT_ATTN_DENSE);
    compare_row(r, &out, cols, N_COL, &r->main, r->o->modes.v[0]);
    size_t n = 0;
    while (n < r->main.n && n < r->dense.n && r->main.ids[n] == r->dense.ids[n]) n++;
    buf_str(&out, "\n");
    if (same_text(r))
        buf_fmt(&out, "Both answers are the same (%zu tokens).", r->main.n);
    else
        buf_fmt(&out, "The answers differ after %zu equal tokens.", n);
    buf_fmt(&out, " Next-token agreement over the last %u prompt positions: top-1 %.1f %%, KL mean %.2g, max %.2g.\n",
            r->agree.n, 100 * agree_top1(&r->agree), agree_kl_mean(&r->agree), agree_kl_max(&r->agree));
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static void summary(const run *r, const answer *a, uint32_t mode) {
    char speed[48] = "";
    if (a->n_decode) snprintf(speed, sizeof speed, " at %.1f tokens/s", per_second((double)a->n_decode, a->answer_ms));
    size_t n = r->text.n - r->n_prefix;
    if (r->o->prefix) note("%s: %zu tokens in %.2f s", r->o->prefix, r->n_prefix, a->prefix_ms / 1e3);
    note("%s: %zu prompt tokens in %.2f s (%.0f tokens/s, attention density %.2f), %zu generated%s",
         mode_name(r->o, mode), n, a->prompt_ms / 1e3, n ? per_second((double)n, a->prompt_ms) : 0,
         n ? a->stats.density : 0, a->n, speed);
    if (r->o->decode && a->decode.full_bytes > 0)
        note("%s: attention of the answer moved %.0f %% of all keys and values", r->o->decode,
             100 * a->decode.moved_bytes / a->decode.full_bytes);
}

/* Touches every weight, so that the first of two readings compared does not pay alone for reading the file. */
static int warm_up(const question *q) {
    prompt few = {q->text->ids, q->text->n < 16 ? q->text->n : 16};
    crit_session_params sp = *q->session;
    sp.n_ctx = 128;
    question w = *q;
    w.text = &few;
    w.fit = (fit){sp.n_ctx, 0};
    w.session = &sp;
    w.stream = w.bar = false;
    w.agree = NULL;
    w.n_answer = 1;
    w.min_recall = 0;
    answer a;
    int rc = answer_run(&w, &a);
    answer_free(&a);
    return rc;
}

/* The snapshot's tokens, and what was read now behind them, on a line of its own. */
static int read_behind_prefix(run *r, const buf *text) {
    const options *o = r->o;
    crit_error err = {0};
    r->prefix = (crit_snapshot_info){.struct_size = sizeof r->prefix};
    if (crit_snapshot_read_info(r->model, o->prefix, &r->prefix, NULL, 0, &err)) return fail_with(&err);
    if (r->prefix.mark != (o->chat ? PREFIX_CHAT : 0))
        return fail("%s: was made with%s --chat, which has to be said here as well as there", o->prefix,
                    o->chat ? "out" : "");
    r->n_prefix = r->text.n = r->prefix.n_tok;
    r->text.ids = malloc(r->n_prefix * sizeof *r->text.ids);
    if (!r->text.ids) return fail_memory();
    if (crit_snapshot_read_info(r->model, o->prefix, &r->prefix, r->text.ids, r->n_prefix, &err))
        return fail_with(&err);
    char last[256];
    size_t n = crit_token_bytes(r->model, r->text.ids[r->n_prefix - 1], false, last, sizeof last);
    bool ended = n && n <= sizeof last && last[n - 1] == '\n';
    buf line = {0};
    if (text->n && !ended) buf_str(&line, "\n");
    if (text->n) buf_add(&line, text->s, text->n);
    int rc = line.oom  ? fail_memory()
             : o->chat ? prompt_chat_end(&r->text, r->model, line.n ? line.s : "", line.n)
             : line.n  ? prompt_tokenize(&r->text, r->model, line.s, line.n, 0)
                       : EXIT_OK;
    buf_free(&line);
    return rc;
}

static int read_prompt(run *r, const buf *text) {
    double t = now_ms();
    int rc = r->o->prefix ? read_behind_prefix(r, text)
             : r->o->chat ? prompt_chat(&r->text, r->model, r->o->system, text->s, text->n)
                          : prompt_tokenize(&r->text, r->model, text->s, text->n, CRIT_TOK_BOS_EOS);
    r->text_ms = now_ms() - t;
    if (!rc && !r->text.n) rc = fail("the prompt is empty: the text has no tokens");
    return rc;
}

static int answer_all(run *r) {
    const options *o = r->o;
    uint32_t mode = o->modes.v[0];
    question q = {.model = r->model, .text = &r->text, .sampler = &o->sampler};
    int rc = prompt_fit(&r->text, o, &r->info, &q.fit);
    if (rc) return rc;
    crit_session_params sp = session_params(o, mode, q.fit.n_ctx);
    q.session = &sp;
    q.prefix = o->prefix;
    q.n_prefix = r->n_prefix;
    q.n_answer = o->n_answer;
    if (o->n_answer > 1) { /* a step of all answers is a chunk, however short the prompt or -ub; 0 is 256 and more */
        if (sp.n_ctx < o->n_answer) sp.n_ctx = o->n_answer;
        if (sp.n_batch ? sp.n_batch < o->n_answer : o->n_answer > 256) sp.n_batch = o->n_answer;
    }
    q.stream = !o->json && o->n_answer == 1;
    q.bar = !o->no_progress;
    q.min_recall = (double)o->min_recall;
    if (o->compare) {
        if (!agree_init(&r->agree, r->text.n, r->info.n_vocab, false)) return fail_memory();
        rc = warm_up(&q);
        if (rc) return rc;
        q.agree = &r->agree;
    }
    rc = answer_run(&q, &r->main);
    if (rc) return rc;
    if (!o->json && !o->no_progress) summary(r, &r->main, mode);
    if (o->compare) {
        sp = session_params(o, CRIT_ATTN_DENSE, q.fit.n_ctx);
        q.stream = false;
        q.min_recall = 0;
        agree_next(&r->agree);
        rc = answer_run(&q, &r->dense);
        if (rc) return rc;
        if (!o->json && !same_text(r))
            fprintf(stderr, "dense attention answers: %s\n", r->dense.text.n ? r->dense.text.s : "");
    }
    if (o->json) return print_json(r);
    if (r->main.n_answer) return print_answers(r);
    return o->compare ? print_compare(r) : EXIT_OK;
}

int run_main(const options *o) {
    run r = {.o = o};
    buf text = {0};
    int rc = text_read(o, &text);
    if (!rc && !text.n && !o->prefix) rc = fail("%s: the prompt is empty", text_name(o));
    if (!rc) rc = model_open(o, &r.model, &r.info, &r.load_ms);
    if (!rc) rc = prompt_may_fit(o, r.model, &r.info, text.n);
    if (!rc) rc = read_prompt(&r, &text);
    buf_free(&text);
    if (!rc) rc = answer_all(&r);
    answer_free(&r.main);
    answer_free(&r.dense);
    agree_free(&r.agree);
    prompt_free(&r.text);
    crit_model_close(&r.model);
    return rc;
}
