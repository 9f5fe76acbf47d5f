/* SPDX-License-Identifier: MIT */
/* critiprefill bench: prefill and decode speed on real text, every mode on the same tokens.
 *
 * Modes take turns within a length (A B A B), so that a machine that slows down slows all of them; medians are shown.
 * Dense runs first when it is asked for: it is the yardstick for speed-up and agreement. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "commands.h"
#include "files.h"
#include "jsonout.h"
#include "mdtable.h"
#include "plot.h"
#include "term.h"

/* What one run gives; the columns of the CSV, in its order. */
enum {
    PREFILL_S,
    TOK_PER_S,
    ESTIMATE_S,
    ATTEND_S,
    GEMM_S,
    DENSITY,
    DECODE_TOK_PER_S,
    KV_BYTES,
    PEAK_RSS_BYTES,
    N_FIGURE
};
static const char *const figure_names[N_FIGURE] = {"prefill_s",        "tok_per_s", "estimate_s",
                                                   "attend_s",         "gemm_s",    "density",
                                                   "decode_tok_per_s", "kv_bytes",  "peak_rss_bytes"};

typedef struct result {
    uint32_t n_tok;
    const char *attn;
    double figure[N_FIGURE];                 /* medians; NaN where nothing was measured */
    double speed_up;                         /* against dense; NaN without */
    double top1, kl_mean, kl_max, last_top1; /* likewise, and NaN for dense itself */
} result;

_Static_assert((int)PLOT_MAX_LINE >= (int)MAX_MODE, "a line each");

typedef struct bench {
    const options *o;
    crit_model *model;
    crit_model_info info;
    prompt text; /* the longest prompt; the others are its starts */
    u32_list modes, ctx;
    uint32_t n_predict;
    json_t *rows;
    plot_line line[MAX_MODE];
} bench;

static const md_col md_cols[] = {{"tokens", 6, false},    {"attention", 9, true},
                                 {"prefill s", 9, false}, {"tokens/s", 8, false},
                                 {"speed-up", 8, false},  {"estimate s", 10, false},
                                 {"attend s", 8, false},  {"gemm s", 7, false},
                                 {"density", 7, false},   {"decode tokens/s", 15, false},
                                 {"KV MB", 6, false},     {"peak RSS MB", 11, false},
                                 {"top-1", 7, false},     {"KL", 8, false},
                                 {"last token", 10, true}};
enum { N_COL = sizeof md_cols / sizeof *md_cols };

/* ---- text ---- */

int bench_text(const options *o, const crit_model *model, uint32_t longest, prompt *out) {
    buf text = {0};
    bool own = o->files.n == 0;
    int rc = own ? text_own(&text) : text_read(o, &text);
    if (!rc && !text.n) rc = fail("%s: the text is empty", o->files.v[0]);
    /* Of a huge file only the start is needed; a token seldom has more than 16 bytes. */
    size_t start = (size_t)longest * 16 + 4096;
    if (!rc) rc = prompt_tokenize(out, model, text.s, text.n < start ? text.n : start, CRIT_TOK_BOS_EOS);
    if (!rc && out->n < longest && text.n > start) {
        out->n = 0;
        rc = prompt_tokenize(out, model, text.s, text.n, CRIT_TOK_BOS_EOS);
    }
    size_t once = out->n;
    if (!rc && !once) rc = fail("the text has no tokens");
    while (!rc && out->n < longest) rc = prompt_tokenize(out, model, text.s, text.n, 0);
    if (!rc && longest > once) note("the text has %zu tokens: repeated to fill %u", once, longest);
    if (!rc && own) note("text: critiprefill's own documents and sources");
    buf_free(&text);
    return rc;
}

/* The lengths asked for; of the default ones those the model was trained for. */
static int choose_lengths(bench *b, uint32_t *longest) {
    static const uint32_t usual[] = {2048, 4096, 8192};
    uint32_t train = model_context(&b->info);
    b->ctx = b->o->ctx;
    for (size_t i = 0; i < b->ctx.n; i++)
        if (train && b->ctx.v[i] > train && !b->o->force && !modes_stream(b->o) && !modes_within(b->o, train))
            return fail("%s: %u tokens are more than the %u the model was trained for (--force runs them)", b->o->model,
                        b->ctx.v[i], train);
    for (size_t i = 0; !b->o->ctx.n && i < 3; i++) {
        if (train && usual[i] > train)
            note("%u tokens left out: the model was trained for %u", usual[i], train);
        else
            b->ctx.v[b->ctx.n++] = usual[i];
    }
    if (!b->ctx.n) return fail("%s: trained for %u tokens only; name a length with -c", b->o->model, train);
    for (size_t i = 0; i < b->ctx.n; i++)
        if (b->ctx.v[i] > *longest) *longest = b->ctx.v[i];
    return EXIT_OK;
}

/* ---- one length ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *x, size_t n) {
    qsort(x, n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static void figures_of(const answer *a, uint32_t n_tok, double f[N_FIGURE]) {
    f[PREFILL_S] = a->prompt_ms / 1e3;
    f[TOK_PER_S] = per_second(n_tok, a->prompt_ms);
    f[ESTIMATE_S] = a->stats.estimate_ms / 1e3;
    f[ATTEND_S] = a->stats.attend_ms / 1e3;
    f[GEMM_S] = a->stats.gemm_ms / 1e3;
    f[DENSITY] = a->stats.density;
    f[DECODE_TOK_PER_S] = per_second((double)a->n_decode, a->answer_ms);
    f[KV_BYTES] = (double)a->stats.kv_bytes;
    f[PEAK_RSS_BYTES] = (double)a->peak_rss_bytes;
}

int bench_once(const options *o, const crit_model *model, const prompt *text, uint32_t mode, uint32_t n_tok,
               uint32_t n_predict, agree *g, answer *a) {
    prompt p = {text->ids, n_tok};
    crit_session_params sp = session_params(o, mode, n_tok + n_predict);
    question q = {.model = model,
                  .text = &p,
                  .fit = {n_tok + n_predict, n_predict},
                  .session = &sp,
                  .sampler = &o->sampler,
                  .to_the_end = true,
                  .bar = !o->no_progress,
                  .agree = g};
    return answer_run(&q, a);
}

/* One run of one mode on the first n_tok tokens; agree may be NULL. */
static int measure(const bench *b, uint32_t mode, uint32_t n_tok, uint32_t n_predict, agree *g, double f[N_FIGURE]) {
    answer a;
    int rc = bench_once(b->o, b->model, &b->text, mode, n_tok, n_predict, g, &a);
    if (!rc) figures_of(&a, n_tok, f);
    answer_free(&a);
    return rc;
}

/* All modes and repetitions of one length into res[mode]; runs holds [mode][figure][rep]. */
static int measure_length(const bench *b, uint32_t n_tok, double *runs, result *res) {
    size_t n_mode = b->modes.n, n_rep = b->o->n_rep;
    bool quality = b->modes.v[0] == CRIT_ATTN_DENSE && n_mode > 1 && b->o->format != FORMAT_CSV;
    agree g = {0};
    int rc = EXIT_OK;
    if (quality && !agree_init(&g, n_tok, b->info.n_vocab, true)) return fail_memory();
    for (size_t r = 0; r < n_rep && !rc; r++)
        for (size_t m = 0; m < n_mode && !rc; m++) {
            /* Every run computes the same logits, so that the times compare; the last run's figures are kept. */
            double f[N_FIGURE];
            if (m == 0)
                g.stored = false;
            else
                agree_next(&g);
            rc = measure(b, b->modes.v[m], n_tok, b->n_predict, quality ? &g : NULL, f);
            if (rc) break;
            for (size_t i = 0; i < N_FIGURE; i++) runs[(m * N_FIGURE + i) * n_rep + r] = f[i];
            bool compared = quality && m > 0;
            res[m] = (result){.n_tok = n_tok,
                              .attn = mode_name(b->o, b->modes.v[m]),
                              .top1 = compared ? agree_top1(&g) : (double)NAN,
                              .kl_mean = compared ? agree_kl_mean(&g) : (double)NAN,
                              .kl_max = compared ? agree_kl_max(&g) : (double)NAN,
                              .last_top1 = compared ? g.last_top1 : (double)NAN};
        }
    for (size_t m = 0; m < n_mode && !rc; m++) {
        for (size_t i = 0; i < N_FIGURE; i++) res[m].figure[i] = bench_median(runs + (m * N_FIGURE + i) * n_rep, n_rep);
        /* Of an even number of runs the median rate is not that of the median time, which speed-ups are of. */
        res[m].figure[TOK_PER_S] = per_second(n_tok, 1e3 * res[m].figure[PREFILL_S]);
        res[m].speed_up =
            b->modes.v[0] == CRIT_ATTN_DENSE ? res[0].figure[PREFILL_S] / res[m].figure[PREFILL_S] : (double)NAN;
    }
    agree_free(&g);
    return rc;
}

/* ---- output ---- */

static void put_md(buf *out, const result *r) {
    size_t at = 0;
    const double *f = r->figure;
    md_cell(out, md_cols, N_COL, &at, "%u", r->n_tok);
    md_cell(out, md_cols, N_COL, &at, "%s", r->attn);
    md_num(out, md_cols, N_COL, &at, f[PREFILL_S], 2, "");
    md_num(out, md_cols, N_COL, &at, f[TOK_PER_S], 0, "");
    md_num(out, md_cols, N_COL, &at, r->speed_up, 2, "x");
    md_num(out, md_cols, N_COL, &at, f[ESTIMATE_S], 2, "");
    md_num(out, md_cols, N_COL, &at, f[ATTEND_S], 2, "");
    md_num(out, md_cols, N_COL, &at, f[GEMM_S], 2, "");
    md_num(out, md_cols, N_COL, &at, f[DENSITY], 3, "");
    md_num(out, md_cols, N_COL, &at, f[DECODE_TOK_PER_S], 1, "");
    md_num(out, md_cols, N_COL, &at, f[KV_BYTES] / 1e6, 1, "");
    md_num(out, md_cols, N_COL, &at, f[PEAK_RSS_BYTES] / 1e6, 0, "");
    md_num(out, md_cols, N_COL, &at, 100 * r->top1, 1, " %");
    md_num(out, md_cols, N_COL, &at, r->kl_mean, 5, "");
    md_cell(out, md_cols, N_COL, &at, "%s", isnan(r->last_top1) ? "-" : r->last_top1 > 0 ? "same" : "differs");
}

static bool is_bytes(size_t i) {
    return i == KV_BYTES || i == PEAK_RSS_BYTES;
}

static void put_csv(buf *out, const result *r) {
    const char *quote = strchr(r->attn, ',') ? "\"" : ""; /* a policy's options */
    buf_fmt(out, "%u,%s%s%s", r->n_tok, quote, r->attn, quote);
    for (size_t i = 0; i < N_FIGURE; i++) {
        buf_str(out, ",");
        if (is_bytes(i))
            buf_fmt(out, "%.0f", r->figure[i]);
        else if (isfinite(r->figure[i]))
            buf_fmt(out, "%.6g", r->figure[i]);
    }
    buf_str(out, "\n");
}

static json_t *result_json(const result *r) {
    json_t *j = json_object();
    json_put(j, "ctx_tok", json_integer(r->n_tok));
    json_put(j, "attn", json_cstr(r->attn));
    for (size_t i = 0; i < N_FIGURE; i++)
        json_put(j, figure_names[i], is_bytes(i) ? json_size((size_t)r->figure[i]) : json_num(r->figure[i]));
    json_put(j, "speed_up", json_num(r->speed_up));
    json_put(j, "top1", json_num(r->top1));
    json_put(j, "kl_mean", json_num(r->kl_mean));
    json_put(j, "kl_max", json_num(r->kl_max));
    json_put(j, "last_top1", isnan(r->last_top1) ? json_null() : json_boolean(r->last_top1 > 0));
    return j;
}

static int print_head(const bench *b) {
    buf out = {0};
    if (b->o->format == FORMAT_MD) md_head(&out, md_cols, N_COL);
    if (b->o->format == FORMAT_CSV) {
        buf_str(&out, "ctx_tok,attn");
        for (size_t i = 0; i < N_FIGURE; i++) buf_fmt(&out, ",%s", figure_names[i]);
        buf_str(&out, "\n");
    }
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static int print_results(bench *b, const result *res) {
    buf out = {0};
    for (size_t m = 0; m < b->modes.n; m++) {
        plot_line *l = &b->line[m];
        l->x[l->n] = res[m].n_tok;
        l->y[l->n++] = res[m].figure[TOK_PER_S];
        if (b->o->format == FORMAT_MD) put_md(&out, &res[m]);
        if (b->o->format == FORMAT_CSV) put_csv(&out, &res[m]);
        if (b->o->format == FORMAT_JSON) json_array_append_new(b->rows, result_json(&res[m]));
    }
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

/* Tokens read at a time by the longest prompt's session. */
static uint32_t chunk_tokens(const bench *b) {
    crit_memory m = {.struct_size = sizeof m};
    uint32_t longest = 0;
    for (size_t i = 0; i < b->ctx.n; i++)
        if (b->ctx.v[i] > longest) longest = b->ctx.v[i];
    crit_session_params p = session_params(b->o, b->modes.v[0], longest + b->n_predict);
    return crit_memory_estimate(b->model, &p, &m, NULL) ? b->o->n_batch : m.n_batch;
}

static int finish(bench *b) {
    if (b->o->format == FORMAT_JSON) {
        json_t *j = json_object();
        json_put(j, "model", json_cstr(b->o->model));
        json_put(j, "cpu", json_cstr(b->info.cpu));
        json_put(j, "threads", json_integer(options_threads(b->o)));
        json_put(j, "n_batch", json_integer(chunk_tokens(b)));
        json_put(j, "repetitions", json_integer(b->o->n_rep));
        json_put(j, "results", json_incref(b->rows));
        int rc = json_print(j);
        if (rc) return rc;
    }
    if (!b->o->plot) return EXIT_OK;
    buf svg = {0}, title = {0};
    buf_fmt(&title, "%s, %s, %u threads", b->info.name[0] ? b->info.name : b->info.arch, b->info.cpu,
            options_threads(b->o));
    plot_svg(&svg, title.oom ? "" : title.s, b->line, b->modes.n);
    int rc = file_write(b->o->plot, &svg);
    buf_free(&svg);
    buf_free(&title);
    return rc;
}

/* ---- */

/* Better now than after the measurement. */
int bench_check_plot(const char *path) {
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof dir) return fail("%s: %s", path, strerror(ENAMETOOLONG));
    memcpy(dir, path, n);
    dir[n] = 0;
    return access(slash ? n ? dir : "/" : ".", W_OK) == 0 ? EXIT_OK : fail("%s: %s", path, strerror(errno));
}

static int measure_all(bench *b) {
    double warm[N_FIGURE];
    double *runs = calloc(MAX_MODE * N_FIGURE * (size_t)b->o->n_rep, sizeof *runs);
    if (!runs) return fail_memory();
    /* Brings the weights into memory, so that the first run does not pay for it alone. */
    int rc = measure(b, b->modes.v[0], b->text.n < 16 ? (uint32_t)b->text.n : 16, 1, NULL, warm);
    if (!rc) rc = print_head(b);
    for (size_t i = 0; i < b->ctx.n && !rc; i++) {
        result res[MAX_MODE];
        rc = measure_length(b, b->ctx.v[i], runs, res);
        if (!rc) rc = print_results(b, res);
    }
    if (!rc) rc = finish(b);
    free(runs);
    return rc;
}

static int prompts_main(const options *o) {
    bench b = {
        .o = o, .modes = o->modes, .rows = json_array(), .n_predict = o->n_predict < 0 ? 32 : (uint32_t)o->n_predict};
    uint32_t longest = 0;
    for (size_t m = 1; m < b.modes.n; m++)
        if (b.modes.v[m] == CRIT_ATTN_DENSE) {
            memmove(b.modes.v + 1, b.modes.v, m * sizeof *b.modes.v);
            b.modes.v[0] = CRIT_ATTN_DENSE;
        }
    for (size_t m = 0; m < b.modes.n; m++) b.line[m].name = mode_name(o, b.modes.v[m]);
    double ms;
    int rc = o->plot ? bench_check_plot(o->plot) : EXIT_OK;
    if (!rc) rc = model_open(o, &b.model, &b.info, &ms);
    if (!rc) rc = choose_lengths(&b, &longest);
    if (!rc) rc = bench_text(o, b.model, longest, &b.text);
    if (!rc) rc = measure_all(&b);
    json_decref(b.rows);
    prompt_free(&b.text);
    crit_model_close(&b.model);
    return rc;
}

int bench_main(const options *o) {
    if (o->peak || o->kernels) return bench_kernels_main(o);
    if (o->tune) return bench_tune_main(o);
    if (o->batch.n) return bench_batch_main(o);
    if (o->shapes) return bench_shape_main(o);
    if (o->vs) return bench_vs_main(o);
    if (o->decode) return bench_decode_main(o);
    return prompts_main(o);
}
