/* SPDX-License-Identifier: MIT */
/* See suite_report.h.  First what everything comes to: a row a policy, a column a task.  Then each task by itself, with
 * what its answers cost, a curve of both for each length, and maps by depth. */
#include "suite_report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "image.h"
#include "mdtable.h"
#include "suite_plot.h"
#include "term.h"

static const md_col cols[] = {{"tokens", 6, false},      {"policy", 18, true},      {"n", 3, false},
                              {"score", 7, false},       {"difference", 10, false}, {"95 % interval", 16, false},
                              {"kept", 9, false},        {"piece", 6, false},       {"asked x", 7, false},
                              {"moved x", 7, false},     {"kept x", 6, false},      {"peak KV MB", 10, false},
                              {"s to first", 10, false}, {"ms a token", 10, false}, {"density", 7, false}};
enum { N_COL = sizeof cols / sizeof *cols };

static bool is_ppl(const suite *s, size_t i_task) {
    return !s->task[i_task].t;
}

static double percent(const suite *s, size_t i_task, double score) {
    return is_ppl(s, i_task) ? score : 100 * score;
}

/* ---- all of it ---- */

static int put_summary(const suite *s, const evalout *e, buf *out) {
    md_col c[SUITE_MAX_TASK + 3] = {{"policy", 18, true}};
    const size_t n = s->n_task + 3;
    size_t at = 0;
    for (size_t t = 0; t < s->n_task; t++) c[t + 1] = (md_col){s->task[t].name, 6, false};
    c[n - 2] = (md_col){"moved x", 7, false};
    c[n - 1] = (md_col){"ms a token", 10, false};
    md_head(out, c, n);
    for (size_t p = 0; p < s->n_policy; p++) {
        double moved = 0, ms = 0, n_ms = 0;
        md_cell(out, c, n, &at, "%s", s->policy[p].name);
        for (size_t t = 0; t < s->n_task; t++) {
            suite_figures f;
            int rc = suite_figures_of(s, e, p, (suite_at){t, SUITE_ALL, SUITE_ALL}, &f);
            if (rc) return rc;
            md_num(out, c, n, &at, percent(s, t, f.score), is_ppl(s, t) ? 3 : 1, "");
            if (!isfinite(f.moved)) continue;
            moved += f.moved;
            ms += f.ms_per_tok;
            n_ms++;
        }
        md_num(out, c, n, &at, n_ms / moved, 2, "");
        md_num(out, c, n, &at, ms / n_ms, 2, "");
    }
    return EXIT_OK;
}

/* ---- one task ---- */

static void put_row(const suite *s, size_t i_task, uint32_t ctx, size_t p, const suite_figures *f, buf *out) {
    const bool ppl = is_ppl(s, i_task);
    size_t at = 0;
    md_cell(out, cols, N_COL, &at, "%u", ctx);
    md_cell(out, cols, N_COL, &at, "%s", s->policy[p].name);
    md_cell(out, cols, N_COL, &at, "%zu", f->n);
    md_num(out, cols, N_COL, &at, percent(s, i_task, f->score), ppl ? 4 : 1, "");
    if (p == 0) {
        for (int i = 0; i < 3; i++) md_cell(out, cols, N_COL, &at, NULL);
    } else {
        md_num(out, cols, N_COL, &at, 100 * f->diff, ppl ? 2 : 1, ppl ? " %" : "");
        if (isfinite(f->lo) && isfinite(f->hi))
            md_cell(out, cols, N_COL, &at, ppl ? "%.2f to %.2f %%" : "%.1f to %.1f", 100 * f->lo, 100 * f->hi);
        else
            md_cell(out, cols, N_COL, &at, NULL);
        if (ppl)
            md_cell(out, cols, N_COL, &at, NULL);
        else
            md_cell(out, cols, N_COL, &at, "%.4g of %.4g", f->kept, f->asked);
    }
    md_num(out, cols, N_COL, &at, 100 * f->piece, 1, "");
    md_num(out, cols, N_COL, &at, s->policy[p].ratio > 0 ? s->policy[p].ratio : (double)NAN, 0, "");
    md_num(out, cols, N_COL, &at, 1 / f->moved, 2, "");
    md_num(out, cols, N_COL, &at, 1 / f->kept_bytes, 2, "");
    md_num(out, cols, N_COL, &at, f->peak_kv_bytes / 1e6, 1, "");
    md_num(out, cols, N_COL, &at, f->ttft_ms / 1e3, 2, "");
    md_num(out, cols, N_COL, &at, f->ms_per_tok, 2, "");
    md_num(out, cols, N_COL, &at, f->density, 3, "");
}

static int put_table(const suite *s, const evalout *e, size_t i_task, buf *out) {
    const suite_task *t = &s->task[i_task];
    md_head(out, cols, N_COL);
    for (size_t c = 0; c < t->ctx.n; c++)
        for (size_t p = 0; p < s->n_policy; p++) {
            suite_figures f;
            int rc = suite_figures_of(s, e, p, (suite_at){i_task, c, SUITE_ALL}, &f);
            if (rc) return rc;
            if (f.n) put_row(s, i_task, t->ctx.v[c], p, &f, out);
        }
    return EXIT_OK;
}

static int put_curve(const suite *s, evalout *e, size_t i_task, size_t ctx) {
    suite_point p[SUITE_MAX_POLICY];
    buf svg = {0}, title = {0};
    int rc = EXIT_OK;
    for (size_t i = 0; i < s->n_policy && !rc; i++) {
        suite_figures f;
        rc = suite_figures_of(s, e, i, (suite_at){i_task, ctx, SUITE_ALL}, &f);
        p[i] = (suite_point){.name = s->policy[i].name,
                             .family = s->policy[i].family,
                             .full = i == 0,
                             .y = percent(s, i_task, f.score),
                             .cost = {f.moved, f.ms_per_tok, f.ttft_ms / 1e3}};
    }
    buf_fmt(&title, "%s, %u tokens: quality against bytes and against time", s->task[i_task].name,
            s->task[i_task].ctx.v[ctx]);
    if (!rc) suite_svg(&svg, title.oom ? "" : title.s, is_ppl(s, i_task), p, s->n_policy);
    if (!rc) rc = svg.oom || title.oom ? fail_memory() : EXIT_OK;
    if (!rc) report_svg(evalout_report(e), svg.s, title.s);
    buf_free(&svg);
    buf_free(&title);
    return rc;
}

/* Lengths across, depths down. */
static int put_map(const suite *s, evalout *e, size_t i_task, size_t p) {
    enum { LABEL = 16, MAX = SUITE_MAX_CTX };
    const suite_task *t = &s->task[i_task];
    char xs[MAX][LABEL], ys[MAX][LABEL];
    const char *x[MAX], *y[MAX];
    double value[MAX * MAX];
    buf png = {0}, title = {0};
    for (size_t c = 0; c < t->ctx.n; c++) {
        snprintf(xs[c], LABEL, "%u", t->ctx.v[c]);
        x[c] = xs[c];
    }
    int rc = EXIT_OK;
    for (size_t d = 0; d < t->depth.n && !rc; d++) {
        snprintf(ys[d], LABEL, "%u %%", t->depth.v[d]);
        y[d] = ys[d];
        for (size_t c = 0; c < t->ctx.n && !rc; c++) {
            suite_figures f;
            rc = suite_figures_of(s, e, p, (suite_at){i_task, c, d}, &f);
            value[d * t->ctx.n + c] = f.n ? 100 * f.score : (double)NAN;
        }
    }
    buf_fmt(&title, "%s, %s", t->name, s->policy[p].name);
    const heatmap h = {.title = title.oom ? "" : title.s,
                       .x_title = "tokens",
                       .y_title = "depth",
                       .n_x = t->ctx.n,
                       .n_y = t->depth.n,
                       .value = value,
                       .lo = 0,
                       .hi = 100,
                       .x_label = x,
                       .y_label = y,
                       .unit = "score, %",
                       .decimals = 0};
    if (!rc) rc = heatmap_png(&h, &png);
    if (!rc) report_png(evalout_report(e), png.s, png.n, h.title);
    buf_free(&png);
    buf_free(&title);
    return rc;
}

static int put_task(const suite *s, evalout *e, size_t i_task) {
    const suite_task *t = &s->task[i_task];
    buf out = {0};
    buf_fmt(&out, "\n## %s\n\n", t->name);
    int rc = put_table(s, e, i_task, &out);
    if (!rc) rc = evalout_text(e, &out);
    for (size_t c = 0; c < t->ctx.n && !rc; c++) rc = put_curve(s, e, i_task, c);
    for (size_t p = 0; p < s->n_policy && t->depth.n && !rc; p++) rc = put_map(s, e, i_task, p);
    buf_free(&out);
    return rc;
}

static const char legend[] =
    "\nScores of 100; of perplexity tasks the perplexity. Difference: mean over the same samples of a score less that "
    "of full attention, which is the first row; of perplexities their change. Kept: what was found of what full "
    "attention found. Piece: of a passkey, the longest piece of it in the answer. Asked x: the ratio a policy was "
    "written for. Measured: moved x, bytes of keys and values that full attention reads a step over those that were "
    "read and copied; kept x, its bytes of storage over those in use at the end of the answer, what the policy keeps "
    "beside them included. Times are medians. Density: of the prompt's attention.\n";

int suite_report(const suite *s, evalout *e, const char *subject) {
    buf out = {0};
    buf_fmt(&out, "# Suite: %s\n\n", subject);
    int rc = put_summary(s, e, &out);
    buf_str(&out, legend);
    if (!rc) rc = evalout_text(e, &out);
    for (size_t t = 0; t < s->n_task && !rc; t++) rc = put_task(s, e, t);
    buf_free(&out);
    return rc;
}
