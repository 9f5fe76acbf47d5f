/* SPDX-License-Identifier: MIT */
/* critiprefill bench --tune: the chunk length that serves a shape best, and the machine's constants for the cost model.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "jsonout.h"
#include "mdtable.h"
#include "prompt.h"
#include "term.h"

static const md_col cols[] = {{"-ub", 6, false}, {"GFLOP/s", 8, false}, {"of best", 7, false}};
static const md_col cost_cols[] = {{"d", 4, false},
                                   {"attend pair ns", 14, false},
                                   {"sparse list ns", 14, false},
                                   {"attend tile ns", 14, false},
                                   {"estimate block ns", 17, false},
                                   {"estimate tile ns", 16, false},
                                   {"calibrate block ns (8 heads)", 28, false},
                                   {"efficiency", 10, false}};
enum { N_COST_COL = sizeof cost_cols / sizeof *cost_cols };
enum { N_COL = 3, MAX_CHUNK = 8, N_COST = 6 };

typedef struct tune {
    const options *o;
    uint32_t chunk[MAX_CHUNK];
    double rate[MAX_CHUNK];
    size_t n;
    double cost[N_COST][2]; /* by what and d = 64, 128; seconds */
    double efficiency[2];   /* of a sparse list, by d */
    uint32_t n_threads;
    int rc;
} tune;

enum { PAIR, SPARSE, TILE, BLOCK, EST_TILE, CALIBRATE };
static const char *const costs[N_COST] = {"attend pair",    "attend sparse", "attend tile",
                                          "estimate block", "estimate tile", "calibrate block"};

static int on_row(void *user, const crit_measure_row *r) {
    tune *t = user;
    if (!strcmp(r->group, "chunk") && t->n < MAX_CHUNK) {
        t->chunk[t->n] = (uint32_t)strtoul(r->name, NULL, 10);
        t->rate[t->n++] = r->rate;
        t->n_threads = r->n_threads;
    }
    for (int i = 0; i < N_COST && !strcmp(r->group, "cost"); i++)
        for (int d = 0; d < 2; d++) {
            char name[48];
            snprintf(name, sizeof name, "%s d=%d", costs[i], 64 << d);
            if (strcmp(name, r->name)) continue;
            t->cost[i][d] = r->seconds;
            if (i == SPARSE) t->efficiency[d] = r->efficiency;
        }
    if (term_interrupted()) t->rc = EXIT_INTERRUPTED;
    return t->rc;
}

/* The layers' shape of a model, and the type most of its matrices' bytes are of. */
static int model_shape(const options *o, crit_shape *s, char type[16]) {
    crit_model *model = NULL;
    crit_model_info info;
    double ms;
    int rc = model_open(o, &model, &info, &ms);
    if (rc) return rc;
    *s = (crit_shape){.n_layer = info.n_layer,
                      .n_embd = info.n_embd,
                      .n_ff = info.n_ff,
                      .n_head = info.n_head,
                      .n_kv_head = info.n_kv_head,
                      .d_head = info.d_head,
                      .n_vocab = info.n_vocab};
    struct {
        const char *type;
        size_t bytes;
    } sum[32] = {{NULL, 0}};
    const char *name, *ty;
    size_t len, bytes, best = 0;
    uint64_t dims[4];
    for (size_t i = 0; crit_model_tensor(model, i, &name, &len, &ty, dims, &bytes); i++) {
        if (len < 4 || memcmp(name, "blk.", 4)) continue;
        size_t k = 0;
        while (k < 31 && sum[k].type && strcmp(sum[k].type, ty)) k++;
        sum[k].type = ty;
        sum[k].bytes += bytes;
        if (sum[k].bytes > sum[best].bytes) best = k;
    }
    snprintf(type, 16, "%s", sum[best].type ? sum[best].type : "F32");
    s->type = type;
    crit_model_close(&model);
    return EXIT_OK;
}

static size_t best_of(const tune *t) {
    size_t best = 0;
    for (size_t i = 1; i < t->n; i++)
        if (t->rate[i] > t->rate[best]) best = i;
    /* Longer chunks cost memory: the shortest within 2 % of the best. */
    for (size_t i = 0; i < best; i++)
        if (t->rate[i] >= 0.98 * t->rate[best]) return i;
    return best;
}

static void put_text(buf *out, const tune *t, const crit_shape *s) {
    const char *level = t->o->cpu ? cpu_names[t->o->cpu] : crit_cpu_name();
    size_t best = best_of(t);
    double top = 0;
    for (size_t i = 0; i < t->n; i++) top = fmax(top, t->rate[i]);
    md_head(out, cols, N_COL);
    for (size_t i = 0; i < t->n; i++) {
        size_t at = 0;
        md_cell(out, cols, N_COL, &at, "%u", t->chunk[i]);
        md_num(out, cols, N_COL, &at, t->rate[i] * 1e-9, 1, "");
        md_num(out, cols, N_COL, &at, 100 * t->rate[i] / top, 0, " %");
    }
    buf_fmt(out, "\nBest chunk for one layer's %s products on %u threads: -ub %u\n", s->type, t->n_threads,
            t->chunk[best]);
    buf_str(out, "\n");
    md_head(out, cost_cols, N_COST_COL);
    for (int d = 0; d < 2; d++) {
        size_t at = 0;
        md_cell(out, cost_cols, N_COST_COL, &at, "%d", 64 << d);
        for (int i = 0; i < N_COST; i++)
            md_cell(out, cost_cols, N_COST_COL, &at, t->cost[i][d] < 1e-7 ? "%.2f" : "%.0f", t->cost[i][d] * 1e9);
        md_num(out, cost_cols, N_COST_COL, &at, t->efficiency[d], 2, "");
    }
    /* A tile's estimate: its blocks, and its share of calibrating: one query of 8 heads for every fourth tile. */
    buf_fmt(out, "\nAs the row of level %s in src/sparse/cost.c (the dearer of both d):\n", level);
    double pair = 0, block = 0, efficiency = 1;
    for (int d = 0; d < 2; d++) {
        pair = fmax(pair, t->cost[PAIR][d] * 1e9 / (64 << d));
        block = fmax(block, (t->cost[BLOCK][d] + t->cost[CALIBRATE][d] / 32) * 1e9 / (64 << d));
        efficiency = fmin(efficiency, t->efficiency[d]);
    }
    buf_fmt(out, "{%.4ff, %.2ff, %.2ff, %u}\n", pair, block, efficiency, t->chunk[best]);
}

static json_t *tune_json(const tune *t, const crit_shape *s) {
    json_t *j = json_object(), *chunks = json_array(), *list = json_array();
    for (size_t i = 0; i < t->n; i++) {
        json_t *c = json_object();
        json_put(c, "n_batch", json_integer(t->chunk[i]));
        json_put(c, "gflops", json_num(t->rate[i] * 1e-9));
        json_array_append_new(chunks, c);
    }
    static const char *const keys[N_COST] = {"attend_ns_per_pair",   "attend_ns_per_sparse_pair",
                                             "attend_ns_per_tile",   "estimate_ns_per_block",
                                             "estimate_ns_per_tile", "calibrate_ns_per_block"};
    for (int d = 0; d < 2; d++) {
        json_t *c = json_object();
        json_put(c, "d_head", json_integer(64 << d));
        for (int i = 0; i < N_COST; i++) json_put(c, keys[i], json_num(t->cost[i][d] * 1e9));
        json_put(c, "efficiency", json_num(t->efficiency[d]));
        json_array_append_new(list, c);
    }
    json_put(j, "level", json_cstr(t->o->cpu ? cpu_names[t->o->cpu] : crit_cpu_name()));
    json_put(j, "type", json_cstr(s->type));
    json_put(j, "threads", json_integer(t->n_threads));
    json_put(j, "chunks", chunks);
    json_put(j, "best_n_batch", json_integer(t->chunk[best_of(t)]));
    json_put(j, "costs", list);
    return j;
}

static void put_csv(buf *out, const tune *t) {
    buf_str(out, "what,d_head,n_batch,value,unit\n");
    for (size_t i = 0; i < t->n; i++) buf_fmt(out, "products,,%u,%.6g,GFLOP/s\n", t->chunk[i], t->rate[i] * 1e-9);
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < N_COST; i++) buf_fmt(out, "%s,%d,,%.6g,ns\n", costs[i], 64 << d, t->cost[i][d] * 1e9);
}

int bench_tune_main(const options *o) {
    tune t = {.o = o};
    crit_shape s;
    char type[16];
    crit_error err = {0};
    crit_measure_params p = bench_measure_params(o);
    if (o->shapes) {
        if (strchr(o->shapes, ',')) return usage("bench", "--tune takes one shape");
        const named_shape *k = bench_find_shape(o->shapes);
        if (!k) return EXIT_USAGE;
        s = k->shape;
        if (o->type) s.type = o->type;
    } else {
        int rc = model_shape(o, &s, type);
        if (rc) return rc;
    }
    if (crit_measure_tune(&p, &s, on_row, &t, &err)) return t.rc ? t.rc : fail_with(&err);
    if (o->format == FORMAT_JSON) return json_print(tune_json(&t, &s));
    buf out = {0};
    if (o->format == FORMAT_CSV)
        put_csv(&out, &t);
    else
        put_text(&out, &t, &s);
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}
