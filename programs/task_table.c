/* SPDX-License-Identifier: MIT */
/* See task_table.h.  Differences are paired: mean over samples of (this - first), with a bootstrap interval; two means
 * side by side would hide how alike the samples are. */
#include "task_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "image.h"
#include "mdtable.h"
#include "stats.h"
#include "term.h"

size_t grid_n_depth(const task_grid *g) {
    return g->depth.n ? g->depth.n : 1;
}

void grid_key(const task_grid *g, size_t i_task, uint32_t ctx, size_t depth, uint64_t number, size_t i_attn, buf *out) {
    buf_fmt(out, "%s %u ", g->task[i_task]->name, ctx);
    if (g->depth.n) buf_fmt(out, "%u/", g->depth.v[depth]);
    buf_fmt(out, "%llu %s", (unsigned long long)number, g->vs.v[i_attn].name);
}

static const json_t *record(const task_grid *g, const evalout *e, size_t i_task, uint32_t ctx, size_t depth,
                            uint64_t number, size_t i_attn) {
    buf key = {0};
    grid_key(g, i_task, ctx, depth, number, i_attn, &key);
    const json_t *j = key.oom ? NULL : evalout_find(e, key.s);
    buf_free(&key);
    return j;
}

static double num(const json_t *j, const char *key) {
    const json_t *x = json_object_get(j, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

/* ---- sums over samples ---- */

typedef struct sums {
    size_t n;
    double score, density, seconds, common; /* sums over n */
    double first_seconds, pair_seconds;     /* over pairs */
    double asked, kept;                     /* what the first variant found; of that, what this one did */
    double found_tail, n_tail, found_sparse, n_sparse;
    double *diff;  /* [n_text] this score - the first variant's, mean over the questions and depths of a text: they are
                      not independent */
    size_t n_text, n_of_text; /* pairs of the last text */
} sums;

void grid_kept(const json_t *first, const json_t *this, double *asked, double *kept) {
    const char *a = json_string_value(json_object_get(first, "found"));
    const char *b = json_string_value(json_object_get(this, "found"));
    if (a && b) {
        for (size_t i = 0; a[i] && b[i]; i++) {
            *asked += a[i] == '1';
            *kept += a[i] == '1' && b[i] == '1';
        }
    } else {
        double x = num(first, "score"), y = num(this, "score");
        *asked += x;
        *kept += y < x ? y : x;
    }
}

static void add_sample(sums *s, const json_t *first, const json_t *this) {
    s->n++;
    s->score += num(this, "score");
    s->density += num(this, "density");
    s->seconds += num(this, "prefill_s");
    s->common += num(this, "common");
    s->found_tail += num(this, "found_tail");
    s->n_tail += num(this, "n_tail");
    s->found_sparse += num(this, "found_sparse");
    s->n_sparse += num(this, "n_sparse");
    if (!first) return;
    const double diff = num(this, "score") - num(first, "score");
    if (s->n_of_text++ == 0) s->diff[s->n_text++] = 0;
    s->diff[s->n_text - 1] += (diff - s->diff[s->n_text - 1]) / (double)s->n_of_text;
    s->first_seconds += num(first, "prefill_s");
    s->pair_seconds += num(this, "prefill_s");
    grid_kept(first, this, &s->asked, &s->kept);
}

/* Adds one task at one length; s->diff has room for all its samples. */
static void add_task(const task_grid *g, const evalout *e, size_t i_task, uint32_t ctx, size_t i_attn, sums *s) {
    for (uint64_t i = 0; i < g->n_sample[i_task]; i++) {
        if (i % task_n_question(g->task[i_task], g->o->n_question) == 0) s->n_of_text = 0;
        for (size_t d = 0; d < grid_n_depth(g); d++) { /* a sample hides the same in the same text at every depth */
            const json_t *j = record(g, e, i_task, ctx, d, i, i_attn);
            if (j) add_sample(s, record(g, e, i_task, ctx, d, i, 0), j);
        }
    }
}

/* ---- table ---- */

enum { N_BASE = 11, MAX_COL = N_BASE + 2 };

typedef struct columns {
    md_col c[MAX_COL];
    size_t n;
    bool common, places;
} columns;

static columns choose_columns(const task_grid *g) {
    static const md_col base[N_BASE] = {
        {"task", 15, true},    {"tokens", 6, false},      {"attention", 9, true},       {"n", 4, false},
        {"score", 6, false},   {"difference", 10, false}, {"95 % interval", 15, false}, {"kept", 9, false},
        {"density", 7, false}, {"prefill s", 9, false},   {"speed-up", 8, false}};
    columns out = {.n = N_BASE, .common = g->o->kind == CMD_PASSKEY, .places = g->o->kind == CMD_LOOKUP};
    memcpy(out.c, base, sizeof base);
    if (out.common) out.c[out.n++] = (md_col){"longest piece", 13, false};
    if (out.places) {
        out.c[out.n++] = (md_col){"at the end", 10, false};
        out.c[out.n++] = (md_col){"before it", 9, false};
    }
    return out;
}

/* of_task: texts of each task, whose means' mean is diff. */
static void put_row(const task_grid *g, const columns *c, const char *name, uint32_t ctx, size_t i_attn, const sums *s,
                    const size_t *of_task, double mean, double diff, buf *out) {
    size_t at = 0;
    double lo, hi, n = (double)s->n;
    stats_bootstrap_groups(s->diff, of_task, g->n_task, g->o->sampler.seed, &lo, &hi);
    md_cell(out, c->c, c->n, &at, "%s", name);
    md_cell(out, c->c, c->n, &at, "%u", ctx);
    md_cell(out, c->c, c->n, &at, "%s", g->vs.v[i_attn].name);
    md_cell(out, c->c, c->n, &at, "%zu", s->n);
    md_num(out, c->c, c->n, &at, 100 * mean, 1, "");
    if (i_attn == 0) {
        for (int i = 0; i < 3; i++) md_cell(out, c->c, c->n, &at, NULL);
    } else {
        md_num(out, c->c, c->n, &at, 100 * diff, 1, "");
        if (isfinite(lo) && isfinite(hi))
            md_cell(out, c->c, c->n, &at, "%.1f to %.1f", 100 * lo, 100 * hi);
        else
            md_cell(out, c->c, c->n, &at, NULL);
        md_cell(out, c->c, c->n, &at, "%.4g of %.4g", s->kept, s->asked);
    }
    md_num(out, c->c, c->n, &at, s->density / n, 3, "");
    md_num(out, c->c, c->n, &at, s->seconds / n, 2, "");
    md_num(out, c->c, c->n, &at, i_attn ? s->first_seconds / s->pair_seconds : 1, 2, "x");
    if (c->common) md_num(out, c->c, c->n, &at, 100 * s->common / n, 1, " %");
    if (c->places) {
        md_cell(out, c->c, c->n, &at, "%.0f of %.0f", s->found_tail, s->n_tail);
        md_cell(out, c->c, c->n, &at, "%.0f of %.0f", s->found_sparse, s->n_sparse);
    }
}

static double mean_of(const double *x, size_t n) {
    return n ? stats_mean(x, n) : (double)NAN;
}

/* Rows of one task, or (i_task == n_task) of the mean over all of them: tasks count alike, whatever their samples. */
static int put_task(const task_grid *g, evalout *e, const columns *c, uint32_t ctx, size_t i_task, buf *out) {
    bool all = i_task == g->n_task;
    uint64_t room = 0;
    for (size_t t = 0; t < g->n_task; t++)
        if (all || t == i_task) room += g->n_sample[t] * grid_n_depth(g);
    double *diff = malloc(((size_t)room + 1) * sizeof *diff);
    if (!diff) return fail_memory();
    for (size_t v = 0; v < g->vs.n; v++) {
        size_t of_task[sizeof g->task / sizeof *g->task] = {0};
        sums s = {.diff = diff};
        double mean = 0, change = 0;
        size_t n_mean = 0;
        for (size_t t = 0; t < g->n_task; t++) {
            if (!all && t != i_task) continue;
            size_t n = s.n, n_text = s.n_text;
            double before = s.score;
            add_task(g, e, t, ctx, v, &s);
            if (s.n == n) continue;
            mean += (s.score - before) / (double)(s.n - n);
            of_task[t] = s.n_text - n_text;
            change += mean_of(diff + n_text, of_task[t]);
            n_mean++;
        }
        if (s.n)
            put_row(g, c, all ? "mean" : g->task[i_task]->name, ctx, v, &s, of_task, mean / (double)n_mean,
                    change / (double)n_mean, out);
    }
    free(diff);
    return EXIT_OK;
}

/* Scores by depth and length, where they fit a screen. */
static void put_depths(const task_grid *g, const evalout *e, buf *out) {
    enum { MAX_WIDE = 12 };
    md_col cols[MAX_WIDE + 1] = {{"depth", 6, false}};
    char names[MAX_WIDE][96];
    size_t n = g->ctx.n * g->vs.n, at = 0;
    if (!g->depth.n || n > MAX_WIDE) return;
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%u %.80s", g->ctx.v[i / g->vs.n], g->vs.v[i % g->vs.n].name);
        cols[i + 1] = (md_col){names[i], 6, false};
    }
    buf_str(out, "\n");
    md_head(out, cols, n + 1);
    for (size_t d = 0; d < g->depth.n; d++) {
        md_cell(out, cols, n + 1, &at, "%u %%", g->depth.v[d]);
        for (size_t i = 0; i < n; i++) {
            double sum = 0;
            size_t k = 0;
            for (uint64_t s = 0; s < g->n_sample[0]; s++) {
                const json_t *j = record(g, e, 0, g->ctx.v[i / g->vs.n], d, s, i % g->vs.n);
                sum += j ? num(j, "score") : 0;
                k += j != NULL;
            }
            md_num(out, cols, n + 1, &at, k ? 100 * sum / (double)k : (double)NAN, 0, "");
        }
    }
}

int grid_tables(const task_grid *g, evalout *e) {
    columns c = choose_columns(g);
    buf out = {0};
    int rc = EXIT_OK;
    md_head(&out, c.c, c.n);
    for (size_t i = 0; i < g->ctx.n; i++)
        for (size_t t = 0; t < g->n_task + (g->n_task > 1) && !rc; t++) rc = put_task(g, e, &c, g->ctx.v[i], t, &out);
    put_depths(g, e, &out);
    if (g->vs.n > 1)
        buf_fmt(
            &out,
            "\nScores of 100.  Difference: mean over the same samples of this score less that of %s.  Kept: what was "
            "found of what %s found.\n",
            g->vs.v[0].name, g->vs.v[0].name);
    if (g->o->n_question > 1 || g->depth.n > 1)
        buf_str(&out, "Intervals: over texts, where samples share one; none below two texts.\n");
    if (!rc) rc = out.oom ? fail_memory() : evalout_text(e, &out);
    buf_free(&out);
    return rc;
}

/* ---- heat maps ---- */

static int one_picture(const task_grid *g, evalout *e, size_t v, double *value, const char *const *x,
                       const char *const *y) {
    buf png = {0}, path = {0}, title = {0};
    for (size_t d = 0; d < g->depth.n; d++)
        for (size_t i = 0; i < g->ctx.n; i++) {
            double sum = 0;
            size_t n = 0;
            for (uint64_t s = 0; s < g->n_sample[0]; s++) {
                const json_t *j = record(g, e, 0, g->ctx.v[i], d, s, v);
                sum += j ? num(j, "score") : 0;
                n += j != NULL;
            }
            value[d * g->ctx.n + i] = n ? 100 * sum / (double)n : (double)NAN;
        }
    buf_fmt(&title, "%s, %s", g->task[0]->name, g->vs.v[v].name);
    heatmap h = {.title = title.oom ? "" : title.s,
                 .x_title = "tokens",
                 .y_title = "depth",
                 .n_x = g->ctx.n,
                 .n_y = g->depth.n,
                 .value = value,
                 .lo = 0,
                 .hi = 100,
                 .x_label = x,
                 .y_label = y,
                 .unit = "% found",
                 .decimals = 0};
    int rc = heatmap_png(&h, &png);
    if (!rc && g->o->html) report_png(evalout_report(e), png.s, png.n, h.title);
    if (!rc && g->o->out_dir) {
        char name[96];
        snprintf(name, sizeof name, "%s", g->vs.v[v].name);
        for (char *p = name; *p; p++) /* "criti:theta=0.4" is no name for a file everywhere */
            if (*p == ':' || *p == '=') *p = '-';
        buf_fmt(&path, "%s/%s-%s.png", g->o->out_dir, g->task[0]->name, name);
        rc = path.oom ? fail_memory() : file_write(path.s, &png);
    }
    buf_free(&png);
    buf_free(&path);
    buf_free(&title);
    return rc;
}

int grid_pictures(const task_grid *g, evalout *e) {
    if (!g->depth.n || (!g->o->html && !g->o->out_dir)) return EXIT_OK;
    enum { LABEL = 16, MAX = sizeof g->ctx.v / sizeof *g->ctx.v };
    char xs[MAX][LABEL], ys[MAX][LABEL];
    const char *x[MAX], *y[MAX];
    double value[MAX * MAX];
    for (size_t i = 0; i < g->ctx.n; i++) {
        snprintf(xs[i], LABEL, "%u", g->ctx.v[i]);
        x[i] = xs[i];
    }
    for (size_t d = 0; d < g->depth.n; d++) {
        snprintf(ys[d], LABEL, "%u %%", g->depth.v[d]);
        y[d] = ys[d];
    }
    int rc = EXIT_OK;
    for (size_t v = 0; v < g->vs.n && !rc; v++) rc = one_picture(g, e, v, value, x, y);
    return rc;
}
