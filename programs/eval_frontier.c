/* SPDX-License-Identifier: MIT */
/* critiprefill eval frontier: many settings against dense attention on the same texts, and which of them no other
 * beats.  Figures of several texts are averaged, a length at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "files.h"
#include "frontier_plot.h"
#include "klset.h"
#include "mdtable.h"
#include "term.h"

#define USUAL_SWEEP "theta=0.1,0.2,0.4,0.7,1.1,1.6"

typedef struct row {
    const char *name;
    uint32_t ctx_tok;
    size_t n;                                                                                              /* texts */
    double kl, kl_last, kl_sparse, top1, density, prefill_s, prefill_dense_s, attention_s, dense_attend_s; /* sums */
} row;

static const md_col cols[] = {{"tokens", 6, false},    {"attention", 28, true},    {"density", 7, false},
                              {"KL mean", 9, false},   {"KL last", 9, false},      {"KL sparse", 9, false},
                              {"top-1", 8, false},     {"attention s", 11, false}, {"of dense", 8, false},
                              {"prefill s", 9, false}, {"speed-up", 8, false},     {"best for", 13, true}};
enum { N_COL = sizeof cols / sizeof *cols };

static row *row_of(row *rows, size_t *n, const char *name, uint32_t ctx_tok) {
    for (size_t i = 0; i < *n; i++)
        if (rows[i].ctx_tok == ctx_tok && !strcmp(rows[i].name, name)) return &rows[i];
    rows[*n] = (row){.name = name, .ctx_tok = ctx_tok};
    return &rows[(*n)++];
}

static size_t gather(const evalout *e, row *rows) {
    size_t n = 0;
    for (size_t i = 0; i < evalout_n(e); i++) {
        const json_t *r = evalout_at(e, i);
        row *w = row_of(rows, &n, record_str(r, "attn"), (uint32_t)record_num(r, "ctx_tok"));
        w->n++;
        w->kl += record_num(r, "kl_mean");
        w->kl_last += record_num(r, "kl_last");
        w->kl_sparse += record_num(r, "kl_sparse");
        w->top1 += record_num(r, "top1");
        w->density += record_num(r, "density");
        w->prefill_s += record_num(r, "prefill_s");
        w->prefill_dense_s += record_num(r, "prefill_dense_s");
        w->attention_s += record_num(r, "attend_s") + record_num(r, "estimate_s");
        w->dense_attend_s += record_num(r, "dense_attend_s");
    }
    return n;
}

/* By length, then by density. */
static int by_cost(const void *a, const void *b) {
    const row *x = a, *y = b;
    if (x->ctx_tok != y->ctx_tok) return (x->ctx_tok > y->ctx_tok) - (x->ctx_tok < y->ctx_tok);
    double dx = x->density / (double)x->n, dy = y->density / (double)y->n;
    return dx != dy ? (dx > dy) - (dx < dy) : strcmp(x->name, y->name);
}

static void put_row(buf *out, const row *r, const frontier_point *p) {
    size_t at = 0;
    const double n = (double)r->n;
    const char *best = p->best[FRONTIER_DENSITY] ? p->best[FRONTIER_TIME] ? "density, time" : "density"
                       : p->best[FRONTIER_TIME]  ? "time"
                                                 : "";
    md_cell(out, cols, N_COL, &at, "%u", r->ctx_tok);
    md_cell(out, cols, N_COL, &at, "%s", r->name);
    md_num(out, cols, N_COL, &at, p->cost[FRONTIER_DENSITY], 3, "");
    md_num(out, cols, N_COL, &at, p->kl, 6, "");
    md_num(out, cols, N_COL, &at, r->kl_last / n, 6, "");
    md_num(out, cols, N_COL, &at, r->kl_sparse / n, 6, "");
    md_num(out, cols, N_COL, &at, 100 * r->top1 / n, 2, " %");
    md_num(out, cols, N_COL, &at, r->attention_s / n, 2, "");
    md_num(out, cols, N_COL, &at, p->cost[FRONTIER_TIME], 3, "");
    md_num(out, cols, N_COL, &at, r->prefill_s / n, 2, "");
    md_num(out, cols, N_COL, &at, r->prefill_dense_s / r->prefill_s, 2, "x");
    md_cell(out, cols, N_COL, &at, "%s", best);
}

static int put_plot(klset *s, const frontier_point *p, size_t n) {
    buf svg = {0}, title = {0}, caption = {0};
    klset_title(s, &title);
    frontier_svg(&svg, title.oom ? "" : title.s, p, n);
    buf_fmt(&caption, "KL from dense attention against its cost, mean of %zu text%s", s->n_text,
            s->n_text > 1 ? "s" : "");
    int rc = svg.oom || caption.oom ? fail_memory() : EXIT_OK;
    if (!rc) report_svg(evalout_report(s->out), svg.s, caption.s);
    if (!rc && s->o->plot) rc = file_write(s->o->plot, &svg);
    buf_free(&svg);
    buf_free(&title);
    buf_free(&caption);
    return rc;
}

/* What the table has, and which rows no other beats. */
static int put_csv(const klset *s, const row *rows, const frontier_point *p, size_t n) {
    buf out = {0};
    buf_str(&out, "ctx_tok,attn,texts,density,kl_mean,kl_last,kl_sparse,top1,attention_s,of_dense,prefill_s,speed_up,"
                  "best_density,best_time\n");
    for (size_t i = 0; i < n; i++) {
        const row *r = &rows[i];
        const double k = (double)r->n;
        const char *quote = strchr(r->name, ',') ? "\"" : ""; /* a policy's options */
        buf_fmt(&out, "%u,%s%s%s,%zu,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%d,%d\n", r->ctx_tok, quote, r->name,
                quote, r->n, p[i].cost[FRONTIER_DENSITY], p[i].kl, r->kl_last / k, r->kl_sparse / k, r->top1 / k,
                r->attention_s / k, p[i].cost[FRONTIER_TIME], r->prefill_s / k, r->prefill_dense_s / r->prefill_s,
                p[i].best[FRONTIER_DENSITY], p[i].best[FRONTIER_TIME]);
    }
    int rc = file_write(s->o->csv, &out);
    buf_free(&out);
    return rc;
}

static int show(klset *s) {
    buf out = {0};
    const size_t cap = evalout_n(s->out);
    row *rows = calloc(cap ? cap : 1, sizeof *rows);
    frontier_point *points = calloc(cap ? cap : 1, sizeof *points);
    int rc = rows && points ? EXIT_OK : fail_memory();
    if (!rc) {
        const size_t n = gather(s->out, rows);
        qsort(rows, n, sizeof *rows, by_cost);
        for (size_t i = 0; i < n; i++) {
            const row *r = &rows[i];
            points[i] = (frontier_point){.name = r->name, .ctx_tok = r->ctx_tok, .kl = r->kl / (double)r->n};
            points[i].cost[FRONTIER_DENSITY] = r->density / (double)r->n;
            points[i].cost[FRONTIER_TIME] = r->attention_s / r->dense_attend_s;
        }
        frontier_mark(points, n);
        md_head(&out, cols, N_COL);
        for (size_t i = 0; i < n; i++) put_row(&out, &rows[i], &points[i]);
        rc = evalout_text(s->out, &out);
        if (!rc && (s->o->plot || s->o->html)) rc = put_plot(s, points, n);
        if (!rc && s->o->csv) rc = put_csv(s, rows, points, n);
    }
    free(rows);
    free(points);
    buf_free(&out);
    return rc;
}

int eval_frontier_main(const options *o) {
    variants list = {0};
    klset s;
    int rc = variants_parse(&list, o, "eval frontier", o->variants ? o->variants : "criti,paper");
    if (!rc) rc = variants_sweep(&list, o, "eval frontier", o->sweep ? o->sweep : USUAL_SWEEP);
    if (!rc && o->plot) rc = bench_check_plot(o->plot);
    if (!rc && o->csv) rc = bench_check_plot(o->csv);
    if (rc) return rc;
    rc = klset_open(&s, o, "frontier", &list);
    if (!rc) rc = klset_measure(&s);
    if (!rc) rc = show(&s);
    return klset_close(&s, rc);
}
