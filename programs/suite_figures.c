/* SPDX-License-Identifier: MIT */
/* See suite_figures.h.  Differences are paired, sample by sample; perplexities are compared as mean log likelihoods. */
#include "suite_figures.h"

#include <math.h>
#include <stdlib.h>

#include "jsonout.h"
#include "klset.h"
#include "rng.h"
#include "stats.h"
#include "task_table.h"
#include "term.h"

void suite_key(const suite *s, size_t i_policy, suite_at at, uint64_t number, buf *out) {
    const suite_task *t = &s->task[at.task];
    const uint64_t both[] = {t->hash, t->setup[i_policy][at.ctx]};
    unsigned char b[sizeof both];
    for (size_t i = 0; i < sizeof b; i++) b[i] = (unsigned char)(both[i / 8] >> (8 * (i % 8)));
    buf_fmt(out, "%s %s %u ", s->policy[i_policy].name, t->name, t->ctx.v[at.ctx]);
    if (t->depth.n) buf_fmt(out, "%u/", t->depth.v[at.depth]);
    buf_fmt(out, "%llu %016llx", (unsigned long long)number, (unsigned long long)hash_bytes(HASH_START, b, sizeof b));
}

const json_t *suite_find(const suite *s, const evalout *e, size_t i_policy, suite_at at, uint64_t number) {
    buf key = {0};
    suite_key(s, i_policy, at, number, &key);
    const json_t *j = key.oom ? NULL : evalout_find(e, key.s);
    buf_free(&key);
    return j;
}

bool suite_step(const suite *s, suite_at at, size_t *i, suite_at *one, uint64_t *number) {
    const suite_task *t = &s->task[at.task];
    const size_t n_ctx = at.ctx == SUITE_ALL ? t->ctx.n : 1, n_depth = at.depth == SUITE_ALL ? suite_n_depth(t) : 1;
    const size_t per_ctx = t->n_sample * n_depth;
    if (*i >= n_ctx * per_ctx) return false;
    *one = (suite_at){at.task, at.ctx == SUITE_ALL ? *i / per_ctx : at.ctx,
                      at.depth == SUITE_ALL ? *i % n_depth : at.depth};
    *number = *i % per_ctx / n_depth;
    ++*i;
    return true;
}

typedef struct sums {
    size_t n, n_pair, n_text, n_of_text; /* n_of_text: pairs of the last text */
    double value, piece, top1, density, moved, full, kv_share;
    size_t n_first, n_step;
    double *first, *step; /* [n_first], [n_step] times */
    double *diff;         /* [n_text] this value less full attention's, mean over a text's depths */
} sums;

static void add(suite_figures *f, sums *s, const json_t *r, const json_t *full, const char *what) {
    const double tok = record_num(r, "decode_tok"), kv = record_num(r, "peak_kv_bytes");
    s->n++;
    s->value += record_num(r, what);
    s->piece += record_num(r, "common");
    s->top1 += record_num(r, "top1");
    s->density += record_num(r, "density");
    s->first[s->n_first++] = record_num(r, "ttft_ms");
    if (tok > 0) {
        s->step[s->n_step++] = record_num(r, "ms_per_tok");
        s->moved += record_num(r, "moved_bytes");
        s->full += record_num(r, "full_bytes");
    }
    f->peak_kv_bytes = fmax(f->peak_kv_bytes, kv);
    if (!full) return;
    const double diff = record_num(r, what) - record_num(full, what);
    if (s->n_of_text++ == 0) s->diff[s->n_text++] = 0;
    s->diff[s->n_text - 1] += (diff - s->diff[s->n_text - 1]) / (double)s->n_of_text;
    s->n_pair++;
    s->kv_share += kv / record_num(full, "peak_kv_bytes");
    grid_kept(full, r, &f->asked, &f->kept);
}

int suite_figures_of(const suite *s, const evalout *e, size_t i_policy, suite_at at, suite_figures *out) {
    const bool ppl = !s->task[at.task].t;
    suite_at one, last = {0, SUITE_ALL, 0};
    uint64_t number, last_number = 0;
    size_t room = 0;
    *out = (suite_figures){.n = 0};
    for (size_t i = 0; suite_step(s, at, &i, &one, &number);) room++;
    double *all = malloc(3 * (room + 1) * sizeof *all);
    if (!all) return fail_memory();
    sums x = {.diff = all, .first = all + room + 1, .step = all + 2 * (room + 1)};
    for (size_t i = 0; suite_step(s, at, &i, &one, &number);) {
        const json_t *r = suite_find(s, e, i_policy, one, number);
        if (one.ctx != last.ctx || number != last_number) x.n_of_text = 0; /* depths of a text stand together */
        last = one, last_number = number;
        if (r) add(out, &x, r, suite_find(s, e, 0, one, number), ppl ? "nll" : "score");
    }
    const double n = (double)x.n;
    out->n = x.n;
    out->score = ppl ? exp(x.value / n) : x.value / n;
    out->piece = x.piece / n;
    out->top1 = x.top1 / n;
    out->density = x.density / n;
    out->ttft_ms = stats_quantile(x.first, x.n_first, .5);
    out->ms_per_tok = stats_quantile(x.step, x.n_step, .5);
    out->moved = x.moved / x.full;
    out->kept_bytes = x.kv_share / (double)x.n_pair;
    out->diff = stats_mean(x.diff, x.n_text);
    stats_bootstrap(x.diff, x.n_text, s->seed, &out->lo, &out->hi);
    if (ppl) {
        out->diff = expm1(out->diff);
        out->lo = expm1(out->lo);
        out->hi = expm1(out->hi);
        out->asked = out->kept = (double)NAN;
    }
    free(all);
    return EXIT_OK;
}

json_t *suite_figures_json(const suite *s, suite_at at, const suite_figures *f) {
    const bool ppl = !s->task[at.task].t;
    json_t *j = json_object();
    json_put(j, "n", json_size(f->n));
    json_put(j, ppl ? "ppl" : "score", json_num(f->score));
    json_put(j, ppl ? "ppl_change" : "difference", json_num(f->diff));
    json_put(j, "interval", json_pack("[o,o]", json_num(f->lo), json_num(f->hi)));
    if (ppl) {
        json_put(j, "top1", json_num(f->top1));
    } else {
        json_put(j, "found_by_full", json_num(f->asked));
        json_put(j, "kept_of_them", json_num(f->kept));
    }
    if (isfinite(f->piece)) json_put(j, "piece", json_num(f->piece));
    json_put(j, "density", json_num(f->density));
    json_put(j, "ttft_ms", json_num(f->ttft_ms));
    json_put(j, "ms_per_tok", json_num(f->ms_per_tok));
    json_put(j, "moved_of_full", json_num(f->moved));
    json_put(j, "compression_moved", json_num(1 / f->moved));
    json_put(j, "peak_kv_bytes", json_num(f->peak_kv_bytes));
    json_put(j, "peak_kv_of_full", json_num(f->kept_bytes));
    json_put(j, "compression_kept", json_num(1 / f->kept_bytes));
    return j;
}
