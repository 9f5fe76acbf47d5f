/* SPDX-License-Identifier: MIT */
/* critiprefill bench --batch: several sequences behind one prompt, which is read once a step for all of them, against
 * reading it for each.  With a model, whole steps; with --shape, one layer's attention. */
#include <math.h>
#include <stdlib.h>

#include "bench.h"
#include "critiprefill/policy.h"
#include "jsonout.h"
#include "mdtable.h"
#include "term.h"

enum { TAIL_TOK = 64, MAX_COL = 10 };

typedef struct row {
    const char *shape; /* NULL = the model */
    uint32_t n_tok, n_seq;
    double ms, attend_ms, separate_ms, separate_attend_ms; /* a step */
    double kv_bytes, separate_bytes;
    double error; /* largest difference, against the largest result */
    double share; /* of the f32 peak; NaN for a model */
} row;

static const md_col cols[] = {{"tokens", 6, false},          {"sequences", 9, false},
                              {"step ms", 8, false},         {"attention ms", 12, false},
                              {"each alone, ms", 14, false}, {"attention ms", 12, false},
                              {"attention x", 11, false},    {"tokens/s", 8, false},
                              {"KV MB", 8, false},           {"each its own, MB", 16, false}};
static const md_col shape_cols[] = {
    {"shape", 12, true},      {"tokens", 6, false},          {"sequences", 9, false},
    {"layer ms", 8, false},   {"each alone, ms", 14, false}, {"attention x", 11, false},
    {"of peak", 7, false},    {"KV MB a layer", 13, false},  {"each its own, MB", 16, false},
    {"difference", 10, false}};
enum { N_COL = sizeof cols / sizeof *cols, N_SHAPE_COL = sizeof shape_cols / sizeof *shape_cols };

static int head(const options *o) {
    buf out = {0};
    if (o->format == FORMAT_MD) md_head(&out, o->shapes ? shape_cols : cols, o->shapes ? N_SHAPE_COL : N_COL);
    if (o->format == FORMAT_CSV)
        buf_str(&out, "shape,ctx_tok,n_seq,step_ms,attend_ms,separate_ms,separate_attend_ms,attend_ratio,kv_bytes,"
                      "separate_bytes,error,share\n");
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static double ratio(const row *r) {
    return r->separate_attend_ms / r->attend_ms;
}

static void put_md(buf *out, const row *r) {
    size_t at = 0;
    if (r->shape) {
        md_cell(out, shape_cols, N_SHAPE_COL, &at, "%s", r->shape);
        md_cell(out, shape_cols, N_SHAPE_COL, &at, "%u", r->n_tok);
        md_cell(out, shape_cols, N_SHAPE_COL, &at, "%u", r->n_seq);
        md_num(out, shape_cols, N_SHAPE_COL, &at, r->attend_ms, 2, "");
        md_num(out, shape_cols, N_SHAPE_COL, &at, r->separate_attend_ms, 2, "");
        md_num(out, shape_cols, N_SHAPE_COL, &at, ratio(r), 2, "x");
        md_num(out, shape_cols, N_SHAPE_COL, &at, 100 * r->share, 0, " %");
        md_num(out, shape_cols, N_SHAPE_COL, &at, r->kv_bytes / 1e6, 1, "");
        md_num(out, shape_cols, N_SHAPE_COL, &at, r->separate_bytes / 1e6, 1, "");
        md_cell(out, shape_cols, N_SHAPE_COL, &at, "%.1e", r->error);
        return;
    }
    md_cell(out, cols, N_COL, &at, "%u", r->n_tok);
    md_cell(out, cols, N_COL, &at, "%u", r->n_seq);
    md_num(out, cols, N_COL, &at, r->ms, 2, "");
    md_num(out, cols, N_COL, &at, r->attend_ms, 2, "");
    md_num(out, cols, N_COL, &at, r->separate_ms, 2, "");
    md_num(out, cols, N_COL, &at, r->separate_attend_ms, 2, "");
    md_num(out, cols, N_COL, &at, ratio(r), 2, "x");
    md_num(out, cols, N_COL, &at, per_second(r->n_seq, r->ms), 1, "");
    md_num(out, cols, N_COL, &at, r->kv_bytes / 1e6, 1, "");
    md_num(out, cols, N_COL, &at, r->separate_bytes / 1e6, 1, "");
}

static int print_row(const options *o, json_t *rows, const row *r) {
    double x[] = {r->ms,    r->attend_ms, r->separate_ms,    r->separate_attend_ms,
                  ratio(r), r->kv_bytes,  r->separate_bytes, r->error,
                  r->share};
    static const char *const keys[] = {"step_ms",      "attend_ms", "separate_ms",    "separate_attend_ms",
                                       "attend_ratio", "kv_bytes",  "separate_bytes", "error",
                                       "share"};
    enum { N = sizeof x / sizeof *x };
    buf out = {0};
    if (o->format == FORMAT_MD) put_md(&out, r);
    if (o->format == FORMAT_CSV) {
        buf_fmt(&out, "%s,%u,%u", r->shape ? r->shape : "", r->n_tok, r->n_seq);
        for (int i = 0; i < N; i++) {
            buf_str(&out, ",");
            if (isfinite(x[i])) buf_fmt(&out, "%.9g", x[i]);
        }
        buf_str(&out, "\n");
    }
    if (o->format == FORMAT_JSON) {
        json_t *j = json_object();
        json_put(j, "shape", r->shape ? json_cstr(r->shape) : json_null());
        json_put(j, "ctx_tok", json_integer(r->n_tok));
        json_put(j, "n_seq", json_integer(r->n_seq));
        for (int i = 0; i < N; i++) json_put(j, keys[i], json_num(x[i]));
        json_array_append_new(rows, j);
    }
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

/* ---- shapes ---- */

static int shape_rows(const options *o, json_t *rows) {
    u32_list ctx = o->ctx.n ? o->ctx : (u32_list){{8192}, 1};
    crit_measure_params p = bench_measure_params(o);
    crit_error err = {0};
    const named_shape *k;
    int rc = EXIT_OK;
    for (const char *at = o->shapes; !rc && (k = bench_next_shape(&at, &rc));)
        for (size_t i = 0; i < ctx.n && !rc; i++)
            for (size_t n = 0; n < o->batch.n && !rc; n++) {
                crit_batch_measure b;
                crit_batch_measure_init(&b);
                b.shape = k->shape;
                b.n_tok = ctx.v[i];
                b.n_seq = o->batch.v[n];
                b.tail_tok = TAIL_TOK;
                if (crit_measure_batch(&p, &b, &err)) return fail_with(&err);
                if (term_interrupted()) return EXIT_INTERRUPTED;
                row r = {.shape = k->name,
                         .n_tok = b.n_tok,
                         .n_seq = b.n_seq,
                         .ms = 1e3 * b.shared_s,
                         .attend_ms = 1e3 * b.shared_s,
                         .separate_ms = 1e3 * b.separate_s,
                         .separate_attend_ms = 1e3 * b.separate_s,
                         .kv_bytes = b.kv_bytes,
                         .separate_bytes = b.separate_bytes,
                         .error = b.error,
                         .share = b.share};
                rc = print_row(o, rows, &r);
            }
    return rc;
}

/* ---- a model ---- */

typedef struct group {
    const options *o;
    crit_model *model;
    crit_model_info info;
    prompt text;
    uint32_t n_step;
} group;

/* Decodes n_step tokens of n_seq sequences, each from its own place of the text; the last logits into rows. */
static int steps(const group *g, crit_session *s, uint32_t n_seq, bool unshared, double *ms, double *attend_ms,
                 size_t *kv_bytes, float *rows) {
    crit_error err = {0};
    crit_batch *b = NULL;
    crit_batch_params p;
    crit_batch_params_init(&p);
    p.n_seq = n_seq;
    p.tail_tok = g->n_step;
    p.unshared = unshared;
    uint32_t *seq = calloc(n_seq, sizeof *seq);
    int32_t *ids = calloc(n_seq, sizeof *ids);
    int rc = seq && ids ? EXIT_OK : fail_memory();
    if (!rc && crit_batch_open(&b, s, &p, &err)) rc = fail_with(&err);
    for (uint32_t i = 1; i < n_seq && !rc; i++)
        if (crit_batch_fork(b, 0, &seq[i], &err)) rc = fail_with(&err);
    for (uint32_t t = 0; t < g->n_step && !rc; t++) {
        for (uint32_t i = 0; i < n_seq; i++) ids[i] = g->text.ids[((size_t)i * 37 + t) % g->text.n];
        if (crit_batch_decode(b, seq, ids, n_seq, &err)) rc = fail_with(&err);
        if (!rc && term_interrupted()) rc = EXIT_INTERRUPTED;
    }
    if (!rc) {
        crit_batch_times(b, ms, attend_ms);
        *ms /= g->n_step;
        *attend_ms /= g->n_step;
        *kv_bytes = crit_batch_kv_bytes(b);
        for (uint32_t i = 0; i < n_seq; i++)
            for (uint32_t k = 0; k < g->info.n_vocab; k++)
                rows[(size_t)i * g->info.n_vocab + k] = crit_batch_logits(b, seq[i])[k];
    }
    crit_batch_close(&b);
    free(seq);
    free(ids);
    return rc;
}

static int one_size(const group *g, crit_session *s, uint32_t n_tok, uint32_t n_seq, json_t *rows) {
    size_t n_rep = g->o->n_rep, n_value = (size_t)n_seq * g->info.n_vocab, bytes = 0;
    double *t = calloc(4 * n_rep, sizeof *t);
    float *logits[2] = {malloc(n_value * sizeof(float)), malloc(n_value * sizeof(float))};
    int rc = t && logits[0] && logits[1] ? EXIT_OK : fail_memory();
    for (size_t r = 0; r < n_rep && !rc; r++)
        for (int way = 1; way >= 0 && !rc; way--)
            rc = steps(g, s, n_seq, way, &t[(2 * (size_t)way) * n_rep + r], &t[(2 * (size_t)way + 1) * n_rep + r],
                       &bytes, logits[way]);
    if (!rc) {
        float size = 0, off = 0;
        for (size_t i = 0; i < n_value; i++) {
            float x = fabsf(logits[1][i]), dx = fabsf(logits[0][i] - logits[1][i]);
            size = x > size ? x : size;
            off = dx > off ? dx : off;
        }
        double per_tok = (double)bytes / (n_tok + (double)n_seq * g->n_step);
        row x = {.n_tok = n_tok,
                 .n_seq = n_seq,
                 .ms = bench_median(t, n_rep),
                 .attend_ms = bench_median(t + n_rep, n_rep),
                 .separate_ms = bench_median(t + 2 * n_rep, n_rep),
                 .separate_attend_ms = bench_median(t + 3 * n_rep, n_rep),
                 .kv_bytes = (double)bytes,
                 .separate_bytes = per_tok * n_seq * ((double)n_tok + g->n_step),
                 .error = (double)off / (double)size,
                 .share = (double)NAN};
        rc = print_row(g->o, rows, &x);
    }
    free(t);
    free(logits[0]);
    free(logits[1]);
    return rc;
}

static int model_rows(const options *o, json_t *rows) {
    group g = {.o = o, .n_step = o->n_predict < 1 ? 32 : (uint32_t)o->n_predict};
    u32_list ctx = o->ctx.n ? o->ctx : (u32_list){{4096}, 1};
    uint32_t longest = 0;
    double ms;
    crit_error err = {0};
    for (size_t i = 0; i < ctx.n; i++) longest = ctx.v[i] > longest ? ctx.v[i] : longest;
    int rc = model_open(o, &g.model, &g.info, &ms);
    uint32_t train = rc ? 0 : model_context(&g.info);
    if (!rc && train && longest + g.n_step > train && !o->force)
        rc = fail("%s: %u tokens and %u to decode are more than the %u the model was trained for (--force runs them)",
                  o->model, longest, g.n_step, train);
    if (!rc) rc = bench_text(o, g.model, longest, &g.text);
    for (size_t i = 0; i < ctx.n && !rc; i++) {
        crit_session *s = NULL;
        crit_session_params sp = session_params(o, o->modes.v[o->modes.n - 1], ctx.v[i] + g.n_step);
        if (crit_session_open(&s, g.model, &sp, &err) || crit_prefill(s, g.text.ids, ctx.v[i], NULL, &err))
            rc = fail_with(&err);
        for (size_t n = 0; n < o->batch.n && !rc; n++) rc = one_size(&g, s, ctx.v[i], o->batch.v[n], rows);
        crit_session_close(&s);
    }
    prompt_free(&g.text);
    crit_model_close(&g.model);
    return rc;
}

int bench_batch_main(const options *o) {
    json_t *rows = json_array();
    int rc = head(o);
    if (!rc) rc = o->shapes ? shape_rows(o, rows) : model_rows(o, rows);
    if (!rc && o->format == FORMAT_JSON) {
        json_t *j = json_object();
        json_put(j, "level", json_cstr(o->cpu ? cpu_names[o->cpu] : crit_cpu_name()));
        json_put(j, "threads", json_integer(options_threads(o)));
        json_put(j, "results", json_incref(rows));
        rc = json_print(j);
    }
    json_decref(rows);
    return rc;
}
