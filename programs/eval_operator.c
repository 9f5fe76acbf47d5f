/* SPDX-License-Identifier: MIT */
/* critiprefill eval operator: for each layer and head, how much of dense attention's weight the plan kept, against the
 * best plan of its size, and how far the result is from dense attention's.
 *
 * One prefill with the attention asked for; every layer is looked at after it has run, on the queries and keys that it
 * had.  Errors of earlier layers are in those, not in the figures: a layer is judged by itself. */
#include "eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "exact.h"
#include "files.h"
#include "image.h"
#include "jsonout.h"
#include "layerdump.h"
#include "mdtable.h"
#include "operator.h"
#include "prompt.h"
#include "rng.h"
#include "stats.h"
#include "term.h"

typedef struct job {
    const options *o;
    const variant *v;
    crit_model *model;
    crit_model_info info;
    prompt text;
    bool *wanted;    /* [n_layer] */
    head_sums *sums; /* [n_layer][n_head] */
    operator_work *work;
    layerdump *dump;
    evalout *e;
    int rc; /* of the callback */
} job;

/* One row of a table: figures of a head, or their mean. */
typedef struct figures {
    double density, mass, p5, oracle, error;
    double n_peak, n_kept, n_kept_oracle;
    double identity, of_bound;
    size_t n, n_sparse; /* heads; those with a tile that counts, which all but density is the mean of */
} figures;

/* ---- records ---- */

static void key_of(const job *j, uint32_t layer, uint32_t head, buf *key) {
    buf_fmt(key, "operator %zu %s %u %u", j->text.n, j->v->name, layer, head);
}

static double of(double sum, double n) {
    return n > 0 ? sum / n : (double)NAN;
}

static json_t *tiles(const head_sums *s) {
    json_t *list = json_array();
    for (size_t i = 0; i < s->n_tile; i++) {
        const tile_figures *t = &s->tile[i];
        json_t *x = json_object();
        json_put(x, "pos", json_integer(t->pos));
        json_put(x, "density", json_num(t->density));
        json_put(x, "mass", json_num(t->mass));
        json_put(x, "oracle", json_num(t->oracle));
        json_put(x, "error", json_num(t->error));
        json_array_append_new(list, x);
    }
    return list;
}

static json_t *record(const job *j, uint32_t layer, uint32_t head) {
    head_sums *s = &j->sums[(size_t)layer * j->info.n_head + head];
    const double mass = stats_mean(s->mass, s->n), oracle = of(s->oracle, (double)s->n);
    json_t *r = json_object();
    json_put(r, "attn", json_cstr(j->v->name));
    json_put(r, "ctx_tok", json_size(j->text.n));
    json_put(r, "layer", json_integer(layer));
    json_put(r, "head", json_integer(head));
    json_put(r, "queries", json_size(s->n));
    json_put(r, "density", json_num(of(s->all_planned, s->all_causal)));
    json_put(r, "density_sparse", json_num(of(s->planned, s->causal)));
    json_put(r, "mass_mean", json_num(mass));
    json_put(r, "mass_p5", json_num(s->n ? stats_quantile(s->mass, s->n, 0.05) : (double)NAN));
    json_put(r, "oracle_mean", json_num(oracle));
    json_put(r, "of_oracle", json_num(mass / oracle));
    json_put(r, "peaks", json_integer((json_int_t)s->n_peak));
    json_put(r, "peaks_kept", json_integer((json_int_t)s->n_kept));
    json_put(r, "peaks_kept_oracle", json_integer((json_int_t)s->n_kept_oracle));
    json_put(r, "error_mean", json_num(of(s->error, (double)s->n_error)));
    json_put(r, "error_max", json_num(s->n_error ? s->error_max : (double)NAN));
    json_put(r, "identity_max_err", json_num(s->identity));
    json_put(r, "identity_of_bound", json_num(s->of_bound));
    json_put(r, "seed", json_integer((json_int_t)j->o->sampler.seed));
    if (j->o->tiles) json_put(r, "tiles", tiles(s));
    return r;
}

static const json_t *found(const job *j, uint32_t layer, uint32_t head) {
    buf key = {0};
    key_of(j, layer, head, &key);
    const json_t *r = key.oom ? NULL : evalout_want(j->e, key.s);
    buf_free(&key);
    return r;
}

static bool all_found(const job *j) {
    for (uint32_t l = 0; l < j->info.n_layer; l++)
        for (uint32_t h = 0; j->wanted[l] && h < j->info.n_head; h++)
            if (!found(j, l, h)) return false;
    return true;
}

static int put_records(job *j) {
    int rc = EXIT_OK;
    for (uint32_t l = 0; l < j->info.n_layer; l++)
        for (uint32_t h = 0; j->wanted[l] && h < j->info.n_head && !rc; h++) {
            if (found(j, l, h)) continue;
            buf key = {0};
            key_of(j, l, h, &key);
            rc = key.oom ? fail_memory() : evalout_put(j->e, key.s, record(j, l, h));
            buf_free(&key);
        }
    return rc;
}

/* ---- the table ---- */

static double number(const json_t *r, const char *key) {
    const json_t *x = json_object_get(r, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

static figures figures_of(const json_t *r) {
    figures f = {.density = number(r, "density"),
                 .identity = number(r, "identity_max_err"),
                 .of_bound = number(r, "identity_of_bound"),
                 .n = 1};
    if (!isfinite(number(r, "mass_mean"))) return f;
    f.mass = number(r, "mass_mean");
    f.p5 = number(r, "mass_p5");
    f.oracle = number(r, "oracle_mean");
    f.error = number(r, "error_mean");
    f.n_peak = number(r, "peaks");
    f.n_kept = number(r, "peaks_kept");
    f.n_kept_oracle = number(r, "peaks_kept_oracle");
    f.n_sparse = 1;
    return f;
}

static void add_figures(figures *a, const figures *b) {
    a->density += b->density, a->mass += b->mass, a->p5 += b->p5, a->oracle += b->oracle, a->error += b->error;
    a->n_peak += b->n_peak, a->n_kept += b->n_kept, a->n_kept_oracle += b->n_kept_oracle;
    a->identity = exact_worse(a->identity, b->identity);
    a->of_bound = exact_worse(a->of_bound, b->of_bound);
    a->n += b->n, a->n_sparse += b->n_sparse;
}

typedef struct worst {
    uint32_t layer, head;
    double mass;
} worst;

static const md_col cols[] = {{"layer", 5, true},  {"density", 7, false},   {"weight kept", 11, false},
                              {"p5", 5, false},    {"best plan", 9, false}, {"of best", 7, false},
                              {"peaks", 6, false}, {"found", 5, false},     {"best plan", 9, false},
                              {"error", 7, false}, {"identity", 8, false},  {"worst head", 15, true}};
enum { N_COL = sizeof cols / sizeof *cols };

static void put_row(buf *out, const char *name, const figures *f, const worst *w, bool with_layer) {
    const double n = (double)f->n_sparse;
    size_t at = 0;
    md_cell(out, cols, N_COL, &at, "%s", name);
    md_num(out, cols, N_COL, &at, of(f->density, (double)f->n), 3, "");
    md_num(out, cols, N_COL, &at, of(f->mass, n), 4, "");
    md_num(out, cols, N_COL, &at, of(f->p5, n), 3, "");
    md_num(out, cols, N_COL, &at, of(f->oracle, n), 4, "");
    md_num(out, cols, N_COL, &at, 100 * of(f->mass, f->oracle), 1, " %");
    md_num(out, cols, N_COL, &at, f->n_peak, 0, "");
    md_num(out, cols, N_COL, &at, of(f->n_kept, f->n_peak), 3, "");
    md_num(out, cols, N_COL, &at, of(f->n_kept_oracle, f->n_peak), 3, "");
    md_num(out, cols, N_COL, &at, of(f->error, n), 4, "");
    if (isfinite(f->identity))
        md_cell(out, cols, N_COL, &at, "%.1e", f->identity);
    else
        md_cell(out, cols, N_COL, &at, "NaN");
    if (!isfinite(w->mass))
        md_cell(out, cols, N_COL, &at, "-");
    else if (with_layer)
        md_cell(out, cols, N_COL, &at, "%u.%u: %.3f", w->layer, w->head, w->mass);
    else
        md_cell(out, cols, N_COL, &at, "%u: %.3f", w->head, w->mass);
}

/* Layers, then all of them; *total: the last row's figures, *bad: the head whose identity is worst. */
static int put_table(job *j, figures *total, worst *bad) {
    buf out = {0};
    worst all = {.mass = (double)NAN};
    double worst_bound = -1;
    *total = (figures){0};
    *bad = (worst){.mass = (double)NAN};
    buf_fmt(&out, "# Plans against exact attention\n\n`%s` on %zu tokens; exact queries a tile: %u\n\n", j->v->name,
            j->text.n, j->o->n_probe);
    md_head(&out, cols, N_COL);
    for (uint32_t l = 0; l < j->info.n_layer; l++) {
        if (!j->wanted[l]) continue;
        figures sum = {0};
        worst here = {.layer = l, .mass = (double)NAN};
        for (uint32_t h = 0; h < j->info.n_head; h++) {
            const figures f = figures_of(found(j, l, h));
            add_figures(&sum, &f);
            if (f.n_sparse && !(f.mass >= here.mass)) here.head = h, here.mass = f.mass;
            if (!isnan(worst_bound) && !(f.of_bound <= worst_bound))
                worst_bound = f.of_bound, bad->layer = l, bad->head = h;
        }
        char name[16];
        snprintf(name, sizeof name, "%u", l);
        put_row(&out, name, &sum, &here, false);
        if (j->v->attn.mode == CRIT_ATTN_CRITI && l + 1 == j->info.n_layer) sum.n = 0, sum.density = 0; /* as runs do */
        add_figures(total, &sum);
        if (!isnan(here.mass) && !(here.mass >= all.mass)) all = here;
    }
    put_row(&out, "all", total, &all, true);
    buf_str(&out,
            "\nWeight kept: of dense attention's, mean over exact queries in sparse tiles; p5: exceeded by 95 % of "
            "them. Best plan: the same number of blocks,\nchosen by the exact weights of all queries of the tile. "
            "Peaks: queries whose strongest far key weighs more than 0.2; found: its block\nwas kept. "
            "Error: relative, of the output, one row a tile. "
            "Identity: largest violation of o - o_dense = (1 - p)(v_kept - v_dropped).\n");
    if (j->v->attn.skip > 0 && j->v->attn.mode == CRIT_ATTN_CRITI)
        buf_str(&out, "With skip, weight kept and peaks are the plan's, before anything of it is skipped; error and "
                      "identity are of the result.\n");
    int rc = out.oom ? fail_memory() : evalout_text(j->e, &out);
    buf_free(&out);
    return rc;
}

/* ---- pictures ---- */

static int put_map(job *j, const char *key, const char *title, double lo, const char *caption) {
    const uint32_t n_head = j->info.n_head;
    double *value = malloc((size_t)j->info.n_layer * n_head * sizeof *value);
    const char **label = calloc(j->info.n_layer, sizeof *label);
    char(*name)[12] = calloc(j->info.n_layer, sizeof *name);
    int rc = value && label && name ? EXIT_OK : fail_memory();
    size_t n = 0;
    for (uint32_t l = 0; l < j->info.n_layer && !rc; l++) {
        if (!j->wanted[l]) continue;
        for (uint32_t h = 0; h < n_head; h++) value[n * n_head + h] = number(found(j, l, h), key);
        snprintf(name[n], sizeof *name, "%u", l);
        label[n] = name[n];
        n++;
    }
    const heatmap map = {.title = title,
                         .x_title = "head",
                         .y_title = "layer",
                         .n_x = n_head,
                         .n_y = n,
                         .value = value,
                         .lo = lo,
                         .hi = 1,
                         .y_label = label,
                         .decimals = 2};
    buf png = {0};
    if (!rc) rc = heatmap_png(&map, &png);
    if (!rc) report_png(evalout_report(j->e), png.s, png.n, caption);
    buf_free(&png);
    free(value);
    free(label);
    free(name);
    return rc;
}

/* ---- the run ---- */

static int look(void *user, const crit_layer_view *view) {
    job *j = user;
    if (!j->wanted[view->layer]) return 0;
    if (j->dump) j->rc = layerdump_add(j->dump, view);
    if (!j->rc) j->rc = operator_add(j->work, view, j->sums + (size_t)view->layer * j->info.n_head);
    return j->rc;
}

static int read_text(job *j) {
    crit_error err = {0};
    crit_session *s = NULL;
    crit_prefill_params pp;
    const crit_session_params sp = variant_session(j->o, j->v, (uint32_t)j->text.n);
    crit_prefill_params_init(&pp);
    pp.progress = evalout_tick;
    pp.progress_user = j->e;
    pp.on_layer = look;
    pp.layer_user = j;
    int rc = EXIT_OK;
    if (crit_session_open(&s, j->model, &sp, &err) || crit_prefill(s, j->text.ids, j->text.n, &pp, &err))
        rc = j->rc ? j->rc : fail_with(&err);
    crit_session_close(&s);
    return rc;
}

static int measure(job *j) {
    const operator_params p = {.n_probe = j->o->n_probe,
                               .tiles = j->o->tiles,
                               .seed = j->o->sampler.seed,
                               .n_threads = options_threads(j->o),
                               .dense = j->v->attn.mode == CRIT_ATTN_DENSE,
                               .rounding = exact_rounding_of(j->info.cpu),
                               .skip = j->v->attn.mode == CRIT_ATTN_CRITI ? j->v->attn.skip : 0};
    j->sums = calloc((size_t)j->info.n_layer * j->info.n_head, sizeof *j->sums);
    int rc = j->sums ? operator_open(&j->work, &p) : fail_memory();
    if (!rc && j->o->dump) rc = layerdump_open(&j->dump, j->o->dump, j->info.n_layer);
    if (!rc) rc = read_text(j);
    if (j->dump) {
        json_t *meta = eval_config(j->o, j->model, &j->info);
        json_put(meta, "attn", json_cstr(j->v->name));
        rc = layerdump_close(&j->dump, meta, rc);
    }
    if (!rc) rc = put_records(j);
    for (size_t i = 0; j->sums && i < (size_t)j->info.n_layer * j->info.n_head; i++) head_sums_free(&j->sums[i]);
    free(j->sums);
    operator_close(&j->work);
    return rc;
}

/* The first -c tokens, or all that the model is good for. */
static int choose_text(job *j) {
    const options *o = j->o;
    const uint32_t limit = model_context(&j->info);
    if (o->n_ctx) {
        if (limit && o->n_ctx > limit && !o->force)
            return fail("%s: %u tokens are more than the %u the model was trained for (--force runs them)", o->model,
                        o->n_ctx, limit);
        const int rc = bench_text(o, j->model, o->n_ctx, &j->text);
        j->text.n = rc ? 0 : o->n_ctx;
        return rc;
    }
    buf text = {0};
    int rc = o->files.n ? text_read(o, &text) : text_own(&text);
    if (!rc) rc = prompt_tokenize(&j->text, j->model, text.s, text.n, CRIT_TOK_BOS_EOS);
    buf_free(&text);
    if (!rc && !j->text.n) return fail("%s: the text is empty", o->files.v[0]);
    if (!rc && limit && j->text.n > limit) {
        note("the first %u of %zu tokens are read: what the model was trained for", limit, j->text.n);
        j->text.n = limit;
    }
    return rc;
}

static int choose_layers(job *j) {
    j->wanted = calloc(j->info.n_layer, sizeof *j->wanted);
    if (!j->wanted) return fail_memory();
    for (size_t i = 0; i < j->o->layers.n; i++) {
        if (j->o->layers.v[i] >= j->info.n_layer)
            return fail("--layers: the model has layers 0 to %u, not %u", j->info.n_layer - 1, j->o->layers.v[i]);
        j->wanted[j->o->layers.v[i]] = true;
    }
    for (uint32_t l = 0; !j->o->layers.n && l < j->info.n_layer; l++) j->wanted[l] = true;
    return EXIT_OK;
}

static json_t *config(const job *j) {
    json_t *c = eval_config(j->o, j->model, &j->info), *layers = json_array();
    for (uint32_t l = 0; l < j->info.n_layer; l++)
        if (j->wanted[l]) json_array_append_new(layers, json_integer(l));
    json_put(c, "layers", layers);
    json_put(c, "tokens", json_size(j->text.n));
    json_put(c, "text_hash", json_hex(hash_ids(j->text.ids, j->text.n)));
    json_put(c, "probe", json_integer(j->o->n_probe));
    json_put(c, "tiles", json_boolean(j->o->tiles));
    json_put(c, "seed", json_integer((json_int_t)j->o->sampler.seed));
    return c;
}

static int run(job *j) {
    int rc = EXIT_OK;
    figures total;
    worst bad;
    evalout_work(j->e, (double)j->text.n);
    if (all_found(j) && !j->o->dump) {
        evalout_skip(j->e, (double)j->text.n);
    } else {
        rc = measure(j);
        if (!rc) evalout_step(j->e, (double)j->text.n, j->v->name);
    }
    if (!rc) rc = put_table(j, &total, &bad);
    if (!rc && j->o->html) rc = put_map(j, "density", "Density by layer and head", 0, "Density of the plans.");
    if (!rc && j->o->html)
        rc = put_map(j, "mass_mean", "Weight kept, by layer and head", 0.5,
                     "Share of dense attention's weight that the plans kept, in sparse tiles.");
    if (!rc && !(total.of_bound <= 1))
        rc =
            fail("layer %u, head %u: the result is %.3g times further from its plan's attention than rounding explains",
                 bad.layer, bad.head, total.of_bound);
    return rc;
}

int eval_operator_main(const options *o) {
    variants vs = {0};
    job j = {.o = o, .v = &vs.v[0]};
    double load_ms;
    int rc = variants_parse(&vs, o, "eval operator", o->variants ? o->variants : "criti");
    if (!rc && vs.n != 1) rc = usage("eval operator", "--attn takes one attention here");
    if (!rc) rc = model_open(o, &j.model, &j.info, &load_ms);
    if (!rc) rc = choose_layers(&j);
    if (!rc) rc = choose_text(&j);
    if (!rc) {
        rc = evalout_open(&j.e, o, "operator", config(&j));
        if (!rc) rc = run(&j);
        rc = evalout_close(&j.e, rc);
    }
    free(j.wanted);
    prompt_free(&j.text);
    crit_model_close(&j.model);
    return rc;
}
