/* SPDX-License-Identifier: MIT */
/* critiprefill bench --shape: a layer measured at the shape of a model, and the whole prefill projected from it. */
#include <math.h>
#include <string.h>

#include "bench.h"
#include "jsonout.h"
#include "mdtable.h"
#include "term.h"

static const md_col cols[] = {
    {"shape", 12, true},           {"tokens", 6, false},      {"attention", 9, true},    {"density", 7, false},
    {"layer attend s", 14, false}, {"GFLOP/s", 7, false},     {"attend x", 8, false},    {"products s", 16, false},
    {"attend s", 16, false},       {"estimate s", 14, false}, {"RoPE, KV s", 14, false}, {"once s", 12, false},
    {"prefill s", 10, false},      {"tokens/s", 8, false},    {"speed-up", 8, false},    {"measured", 8, false}};
enum { N_COL = sizeof cols / sizeof *cols };

/* The projection's terms, seconds of the whole prefill. */
typedef struct terms {
    double products, attend, estimate, rest, once, total;
} terms;

static terms terms_of(const crit_shape *s, const crit_shape_times *t, const crit_shape_attn *a) {
    double before = s->n_layer - 1.0;
    terms x = {.attend = before * a->attend_s,
               .estimate = before * a->estimate_s,
               .rest = s->n_layer * t->rest_s,
               .once = t->embed_s + t->vocab_s,
               .total = a->total_s};
    x.products = x.total - x.attend - x.estimate - x.rest - x.once;
    return x;
}

static void put_term(buf *out, size_t *at, double s, double total) {
    md_cell(out, cols, N_COL, at, s < 0.1 ? "%.4f (%.0f %%)" : "%.2f (%.0f %%)", s, 100 * s / total);
}

typedef struct line {
    const char *shape, *attn, *type;
    uint32_t n_tok;
    const crit_shape *s;
    const crit_shape_times *t;
    const crit_shape_attn *a;
} line;

static double attend_speed_up(const line *l) {
    return l->t->dense.measured ? l->t->dense.attend_s / (l->a->attend_s + l->a->estimate_s) : (double)NAN;
}
static double speed_up(const line *l) {
    return l->t->dense.measured ? l->t->dense.total_s / l->a->total_s : (double)NAN;
}

static void put_md(buf *out, const line *l) {
    terms x = terms_of(l->s, l->t, l->a);
    size_t at = 0;
    md_cell(out, cols, N_COL, &at, "%s", l->shape);
    md_cell(out, cols, N_COL, &at, "%u", l->n_tok);
    md_cell(out, cols, N_COL, &at, "%s", l->attn);
    md_num(out, cols, N_COL, &at, l->a->density, 3, "");
    md_num(out, cols, N_COL, &at, l->a->attend_s, 3, "");
    md_num(out, cols, N_COL, &at, l->a->flop / l->a->attend_s * 1e-9, 0, "");
    md_num(out, cols, N_COL, &at, attend_speed_up(l), 2, "x");
    put_term(out, &at, x.products, x.total);
    put_term(out, &at, x.attend, x.total);
    put_term(out, &at, x.estimate, x.total);
    put_term(out, &at, x.rest, x.total);
    put_term(out, &at, x.once, x.total);
    md_num(out, cols, N_COL, &at, x.total, 2, "");
    md_num(out, cols, N_COL, &at, l->n_tok / x.total, 1, "");
    md_num(out, cols, N_COL, &at, speed_up(l), 2, "x");
    md_num(out, cols, N_COL, &at, 100.0 * l->a->n_item_measured / l->t->n_item, 1, " %");
}

enum { N_FIGURE = 19 };
static const char *const names[N_FIGURE] = {"threads",          "density",      "layer_linear_s", "layer_attend_s",
                                            "layer_estimate_s", "layer_rest_s", "embed_s",        "vocab_s",
                                            "products_s",       "attend_s",     "estimate_s",     "rest_s",
                                            "prefill_s",        "tok_per_s",    "linear_gflops",  "attend_gflops",
                                            "attend_speed_up",  "speed_up",     "measured_share"};

static void figures(const line *l, double f[N_FIGURE]) {
    terms x = terms_of(l->s, l->t, l->a);
    const crit_shape_times *t = l->t;
    const crit_shape_attn *a = l->a;
    double v[N_FIGURE] = {t->n_threads,
                          a->density,
                          t->linear_s,
                          a->attend_s,
                          a->estimate_s,
                          t->rest_s,
                          t->embed_s,
                          t->vocab_s,
                          x.products,
                          x.attend,
                          x.estimate,
                          x.rest,
                          x.total,
                          l->n_tok / x.total,
                          t->linear_flop / t->linear_s * 1e-9,
                          a->flop / a->attend_s * 1e-9,
                          attend_speed_up(l),
                          speed_up(l),
                          (double)a->n_item_measured / t->n_item};
    memcpy(f, v, sizeof v);
}

static void put_csv(buf *out, const line *l) {
    double f[N_FIGURE];
    figures(l, f);
    buf_fmt(out, "%s,%s,%u,%s", l->shape, l->type, l->n_tok, l->attn);
    for (int i = 0; i < N_FIGURE; i++) {
        buf_str(out, ",");
        if (isfinite(f[i])) buf_fmt(out, "%.6g", f[i]);
    }
    buf_str(out, "\n");
}

static json_t *line_json(const line *l) {
    double f[N_FIGURE];
    json_t *j = json_object();
    figures(l, f);
    json_put(j, "shape", json_cstr(l->shape));
    json_put(j, "type", json_cstr(l->type));
    json_put(j, "ctx_tok", json_integer(l->n_tok));
    json_put(j, "attn", json_cstr(l->attn));
    for (int i = 0; i < N_FIGURE; i++) json_put(j, names[i], json_num(f[i]));
    return j;
}

static int print_line(const options *o, json_t *rows, const line *l) {
    buf out = {0};
    if (o->format == FORMAT_MD) put_md(&out, l);
    if (o->format == FORMAT_CSV) put_csv(&out, l);
    if (o->format == FORMAT_JSON) json_array_append_new(rows, line_json(l));
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static int head(const options *o) {
    buf out = {0};
    if (o->format == FORMAT_MD) md_head(&out, cols, N_COL);
    if (o->format == FORMAT_CSV) {
        buf_str(&out, "shape,type,ctx_tok,attn");
        for (int i = 0; i < N_FIGURE; i++) buf_fmt(&out, ",%s", names[i]);
        buf_str(&out, "\n");
    }
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

/* What criti planned on a 0.5B model and this project's own texts (SPEED.md, section 16); beyond 16K nobody has
 * measured: the last step's trend goes on. */
static double usual_density(uint32_t n_tok) {
    static const double tok[] = {2048, 4096, 8192, 16384}, density[] = {.706, .506, .413, .359};
    int i = 1;
    while (i < 3 && n_tok > tok[i]) i++;
    double x = (log2(n_tok) - log2(tok[i - 1])) / (log2(tok[i]) - log2(tok[i - 1]));
    double d = density[i - 1] * pow(density[i] / density[i - 1], x);
    return d > 1 ? 1 : d;
}

/* *headed: the table has its head, which waits for the first measurement: one that is refused prints nothing. */
static int one_length(const options *o, const named_shape *n, uint32_t n_tok, bool *headed, json_t *rows) {
    bool dense = false, sparse = false;
    for (size_t m = 0; m < o->modes.n; m++) {
        dense = dense || o->modes.v[m] == CRIT_ATTN_DENSE;
        sparse = sparse || o->modes.v[m] == CRIT_ATTN_CRITI;
    }
    crit_error err = {0};
    crit_measure_params p = bench_measure_params(o);
    crit_shape_params s;
    crit_shape_params_init(&s);
    s.shape = n->shape;
    if (o->type) s.shape.type = o->type;
    s.n_tok = n_tok;
    s.n_batch = o->n_batch;
    s.dense = dense;
    if (sparse) s.density = o->density > 0 ? (double)o->density : usual_density(n_tok);
    if (sparse && o->density <= 0)
        note("%s, %u tokens: density %.3f, %s (--density sets another)", n->name, n_tok, s.density,
             n_tok > 16384 ? "the trend of a 0.5B model's figures up to 16,384 tokens carried on"
                           : "as measured on a 0.5B model, SPEED.md section 16");
    crit_shape_times t = {.struct_size = sizeof t};
    if (crit_measure_shape(&p, &s, &t, &err)) return fail_with(&err);
    if (term_interrupted()) return EXIT_INTERRUPTED;
    const crit_shape_attn *both[2] = {&t.dense, &t.sparse};
    static const char *const attn[2] = {"dense", "criti"};
    int rc = *headed ? EXIT_OK : head(o);
    *headed = true;
    for (int i = 0; i < 2 && !rc; i++) {
        if (!both[i]->measured) continue;
        line l = {n->name, attn[i], s.shape.type, n_tok, &n->shape, &t, both[i]};
        rc = print_line(o, rows, &l);
    }
    uint32_t n_item = dense ? t.dense.n_item_measured : t.sparse.n_item_measured;
    if (!rc && n_item < t.n_item)
        note("%s, %u tokens: attention measured on %u of a layer's %u tiles and heads, one chunk of products; %.1f s",
             n->name, n_tok, n_item, t.n_item, t.measured_s);
    return rc;
}

/* The shape called s[0..n), or NULL after a line on stderr. */
static const named_shape *find_shape(const char *s, size_t n) {
    for (const named_shape *k = named_shapes; k->name; k++)
        if (strlen(k->name) == n && !memcmp(k->name, s, n)) return k;
    buf all = {0};
    for (const named_shape *k = named_shapes; k->name; k++) buf_fmt(&all, "%s%s", all.n ? ", " : "", k->name);
    usage("bench", "--shape: '%.*s' is not one of %s", (int)n, s, all.oom ? "" : all.s);
    buf_free(&all);
    return NULL;
}

const named_shape *bench_next_shape(const char **at, int *rc) {
    if (!*at) return NULL;
    size_t n = strcspn(*at, ",");
    const named_shape *k = find_shape(*at, n);
    *rc = k ? EXIT_OK : EXIT_USAGE;
    *at = (*at)[n] ? *at + n + 1 : NULL;
    return k;
}

static int list_shapes(void) {
    buf out = {0};
    for (const named_shape *k = named_shapes; k->name; k++)
        buf_fmt(&out, "%-14s %u layers, %u wide, %u in the FFN, %u heads on %u of %u, vocabulary %u, %s\n", k->name,
                k->shape.n_layer, k->shape.n_embd, k->shape.n_ff, k->shape.n_head, k->shape.n_kv_head, k->shape.d_head,
                k->shape.n_vocab, k->shape.type);
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

int bench_shape_main(const options *o) {
    if (!strcmp(o->shapes, "list")) return list_shapes();
    int rc = EXIT_OK;
    for (size_t m = 0; m < o->modes.n; m++)
        if (o->modes.v[m] != CRIT_ATTN_DENSE && o->modes.v[m] != CRIT_ATTN_CRITI)
            return usage("bench", "--shape: --attn takes dense and criti");
    for (const char *at = o->shapes; bench_next_shape(&at, &rc);) {
    } /* all names before the first measurement */
    if (rc) return rc;
    u32_list ctx = o->ctx.n ? o->ctx : (u32_list){{32768}, 1};
    for (size_t i = 0; i < ctx.n; i++)
        if (ctx.v[i] > 1u << 20) return usage("bench", "--shape: -c goes up to %u", 1u << 20);
    json_t *rows = json_array();
    bool headed = false;
    const named_shape *k;
    for (const char *at = o->shapes; !rc && (k = bench_next_shape(&at, &rc));)
        for (size_t i = 0; i < ctx.n && !rc; i++) rc = one_length(o, k, ctx.v[i], &headed, rows);
    if (!rc && o->format == FORMAT_JSON) {
        json_t *j = json_object();
        json_put(j, "level", json_cstr(o->cpu ? cpu_names[o->cpu] : crit_cpu_name()));
        json_put(j, "results", json_incref(rows));
        rc = json_print(j);
    }
    json_decref(rows);
    return rc;
}

const named_shape *bench_find_shape(const char *names_text) {
    int rc = EXIT_OK;
    return bench_next_shape(&names_text, &rc);
}
