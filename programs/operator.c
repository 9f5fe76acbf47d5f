/* SPDX-License-Identifier: MIT */
/* See operator.h.  Weights come tile by tile, so that a long chunk needs no more memory than one tile; the exact
 * outputs go by KV head, whose keys and values are unpacked once. */
#include "operator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exact.h"
#include "probe.h"
#include "spread.h"
#include "term.h"

enum {
    TILE = CRIT_VIEW_TILE_LEN,
    BLK = CRIT_VIEW_BLK_LEN,
    N_EXACT = 1 /* outputs in double a tile: each costs as much as a row of dense attention */
};
static const float PEAK = 0.2f;

typedef struct weighed {
    double mass;
    uint32_t blk;
} weighed;

struct operator_work {
    operator_params p;
    float *mass, *peak; /* [n_head][row of the tile][n_blk] */
    size_t mass_cap;
    unsigned char *kept; /* [n_head][n_blk] of one tile */
    unsigned char *best; /* [n_blk] the oracle's */
    weighed *order;      /* [n_blk] */
    bool *counts;        /* [n_tile] */
    size_t kept_cap, best_cap, order_cap, counts_cap;
};

int operator_open(operator_work **out, const operator_params *p) {
    *out = calloc(1, sizeof **out);
    if (!*out) return fail_memory();
    (*out)->p = *p;
    return EXIT_OK;
}

void operator_close(operator_work **work) {
    operator_work *w = *work;
    if (!w) return;
    free(w->mass);
    free(w->peak);
    free(w->kept);
    free(w->best);
    free(w->order);
    free(w->counts);
    free(w);
    *work = NULL;
}

/* Room for n items of size bytes; contents are not kept. */
static void *room(void *old, size_t *cap, size_t n, size_t size) {
    if (n <= *cap && old) return old;
    free(old);
    *cap = n;
    return malloc((n + 1) * size);
}

/* ---- plans and pairs ---- */

static bool some_head_drops(operator_work *w, const crit_layer_view *v, const view_tile *t, head_sums *sums) {
    bool drops = false;
    for (uint32_t h = 0; h < v->n_head; h++) {
        double pairs = 0;
        probe_kept(v, t, h, w->kept);
        for (uint32_t b = 0; b < t->n_blk; b++) {
            if (w->kept[b])
                pairs += probe_block_pairs(t, b);
            else
                drops = true;
        }
        sums[h].all_planned += pairs;
        sums[h].all_causal += probe_pairs(t);
    }
    return drops;
}

/* ---- weights ---- */

void head_sums_free(head_sums *s) {
    free(s->mass);
    free(s->tile);
}

static int by_mass(const void *a, const void *b) {
    const weighed *x = a, *y = b;
    if (x->mass != y->mass) return x->mass < y->mass ? 1 : -1;
    return x->blk < y->blk ? -1 : x->blk > y->blk;
}

/* The best n free blocks by the weight that all queries of the tile put on them, since a plan serves all; else what the
 * plan keeps. */
static void choose_best(operator_work *w, const view_tile *t, const float *mass, size_t n_blk,
                        const unsigned char *kept, uint32_t n) {
    memcpy(w->best, kept, t->n_blk);
    for (uint32_t b = t->first_free; b < t->end_free; b++) {
        weighed *x = &w->order[b - t->first_free];
        *x = (weighed){0, b};
        for (uint32_t r = 0; r < t->n; r++) x->mass += (double)mass[r * n_blk + b];
        w->best[b] = 0;
    }
    qsort(w->order, t->end_free - t->first_free, sizeof *w->order, by_mass);
    for (uint32_t i = 0; i < n; i++) w->best[w->order[i].blk] = 1;
}

/* Room for one more behind n items of size bytes; NULL: none, and old stays. */
static void *one_more(void *old, size_t n, size_t *cap, size_t size) {
    if (n < *cap) return old;
    void *more = realloc(old, (n ? 2 * n : 64) * size);
    if (more) *cap = n ? 2 * n : 64;
    return more;
}

static bool push_mass(head_sums *s, double x) {
    double *m = one_more(s->mass, s->n, &s->cap, sizeof *m);
    if (!m) return false;
    s->mass = m;
    s->mass[s->n++] = x;
    return true;
}

static bool push_tile(head_sums *s, const tile_figures *f) {
    tile_figures *t = one_more(s->tile, s->n_tile, &s->tile_cap, sizeof *t);
    if (!t) return false;
    s->tile = t;
    s->tile[s->n_tile++] = *f;
    return true;
}

/* One exact query of one head. */
static bool add_query(const operator_work *w, const view_tile *t, const float *mass, const float *peak,
                      const unsigned char *kept, head_sums *s, tile_figures *f) {
    double p = 0, best = 0;
    for (uint32_t b = 0; b < t->n_blk; b++) {
        if (kept[b]) p += (double)mass[b];
        if (w->best[b]) best += (double)mass[b];
    }
    uint32_t top = t->first_free;
    for (uint32_t b = t->first_free; b < t->end_free; b++)
        if (peak[b] > peak[top]) top = b;
    if (top < t->end_free && peak[top] > PEAK) {
        s->n_peak++;
        s->n_kept += kept[top];
        s->n_kept_oracle += w->best[top];
    }
    s->oracle += best;
    f->mass += p, f->oracle += best;
    return push_mass(s, p);
}

static int add_tile(operator_work *w, const crit_layer_view *v, const view_tile *t, head_sums *sums) {
    crit_error err = {0};
    uint32_t all[TILE], pos[TILE];
    const uint32_t n_pos = probe_positions(t, w->p.n_probe, w->p.seed, pos);
    const size_t n_blk = crit_view_n_blk(v), n = v->n_head * t->n * n_blk;
    for (uint32_t i = 0; i < t->n; i++) all[i] = t->pos + i;
    size_t peak_cap = w->mass_cap;
    w->mass = room(w->mass, &w->mass_cap, n, sizeof *w->mass);
    w->peak = room(w->peak, &peak_cap, n, sizeof *w->peak);
    w->order = room(w->order, &w->order_cap, n_blk, sizeof *w->order);
    if (!w->mass || !w->peak || !w->order) return fail_memory();
    if (crit_view_weights(v, all, t->n, w->mass, w->peak, &err)) return fail_with(&err);
    for (uint32_t h = 0; h < v->n_head; h++) {
        const float *mass = w->mass + h * t->n * n_blk, *peak = w->peak + h * t->n * n_blk;
        const uint32_t n_free = probe_kept(v, t, h, w->kept);
        head_sums *s = &sums[h];
        tile_figures f = {.pos = t->pos, .error = (double)NAN};
        double planned = 0;
        choose_best(w, t, mass, n_blk, w->kept, n_free);
        for (uint32_t i = 0; i < n_pos; i++) {
            const size_t at = (pos[i] - t->pos) * n_blk;
            if (!add_query(w, t, mass + at, peak + at, w->kept, s, &f)) return fail_memory();
        }
        for (uint32_t b = 0; b < t->n_blk; b++)
            if (w->kept[b]) planned += probe_block_pairs(t, b);
        s->planned += planned;
        s->causal += probe_pairs(t);
        f.density = planned / probe_pairs(t);
        f.mass /= n_pos, f.oracle /= n_pos;
        if (w->p.tiles && !push_tile(s, &f)) return fail_memory();
    }
    return EXIT_OK;
}

/* ---- outputs ---- */

typedef struct outputs {
    const operator_work *w;
    const crit_layer_view *v;
    const float *k, *v_rows;
    const double *k_norm, *v_max; /* [n_key] largest of keys up to there */
    uint32_t head0, n_group, n_tile;
    double *work;        /* [worker][stride] */
    unsigned char *kept; /* [worker][n_blk] */
    size_t stride, n_blk;
    exact_result *result; /* [n_tile][N_EXACT][n_group]; mass < 0: no such row */
} outputs;

static void one_output(void *ctx, size_t item, unsigned worker) {
    const outputs *x = ctx;
    const crit_layer_view *v = x->v;
    const uint32_t h = x->head0 + (uint32_t)(item % x->n_group), e = (uint32_t)(item / x->n_group % N_EXACT);
    const view_tile t = view_tile_at(v, (uint32_t)(item / x->n_group / N_EXACT));
    uint32_t pos[N_EXACT];
    x->result[item].mass = -1;
    if (e >= probe_positions(&t, N_EXACT, x->w->p.seed + 1, pos)) return;
    const size_t row = pos[e] - v->pos0;
    unsigned char *kept = x->kept + worker * x->n_blk;
    probe_kept(v, &t, h, kept);
    const exact_query q = {.q = v->q + row * v->q_stride + (size_t)h * v->d_head,
                           .k = x->k,
                           .v = x->v_rows,
                           .n_key = pos[e] + 1,
                           .d = v->d_head,
                           .scale = v->scale,
                           .kept = kept,
                           .out = v->out + row * v->out_stride + (size_t)h * v->d_head,
                           .k_norm = x->k_norm[pos[e]],
                           .v_max = x->v_max[pos[e]],
                           .rounding = x->w->p.rounding,
                           .skip = x->w->p.skip,
                           .end_far = t.end_free};
    exact_attention(&q, x->work + worker * x->stride, &x->result[item]);
}

static void add_output(const exact_result *r, bool counts, head_sums *s) {
    if (r->mass < 0) return;
    s->identity = exact_worse(s->identity, r->identity);
    s->of_bound = exact_worse(s->of_bound, r->of_bound);
    if (!counts) return;
    s->error += r->error;
    s->error_max = fmax(s->error_max, r->error);
    if (s->n_error < s->n_tile) s->tile[s->n_error].error = r->error; /* one a tile, in their order */
    s->n_error++;
}

/* Running maxima of |k_j| and |v_ji| over the keys. */
static void largest(const float *k, const float *v, uint32_t n, uint32_t d, double *k_norm, double *v_max) {
    double kn = 0, vm = 0;
    for (uint32_t j = 0; j < n; j++) {
        double s = 0;
        for (uint32_t i = 0; i < d; i++) {
            const double x = (double)k[(size_t)j * d + i];
            s += x * x;
            vm = fmax(vm, fabs((double)v[(size_t)j * d + i]));
        }
        kn = fmax(kn, sqrt(s));
        k_norm[j] = kn;
        v_max[j] = vm;
    }
}

static int add_outputs(operator_work *w, const crit_layer_view *v, head_sums *sums) {
    crit_error err = {0};
    const uint32_t n_key = v->pos0 + v->n_tok, d = v->d_head;
    outputs x = {.w = w, .v = v, .n_group = v->n_head / v->n_kv_head, .n_tile = view_n_tile(v)};
    const size_t n_item = (size_t)x.n_tile * N_EXACT * x.n_group;
    const unsigned n_thread = w->p.n_threads < SPREAD_MAX ? w->p.n_threads : SPREAD_MAX;
    x.stride = n_key + 3 * (size_t)d + 8;
    x.n_blk = crit_view_n_blk(v);
    float *kv = malloc(2 * (size_t)n_key * d * sizeof *kv);
    double *max = malloc(2 * (size_t)n_key * sizeof *max);
    x.work = malloc(n_thread * x.stride * sizeof *x.work);
    x.kept = malloc(n_thread * x.n_blk);
    x.result = malloc(n_item * sizeof *x.result);
    int rc = kv && max && x.work && x.kept && x.result ? EXIT_OK : fail_memory();
    for (uint32_t g = 0; g < v->n_kv_head && !rc; g++) {
        float *v_rows = kv + (size_t)n_key * d;
        if (crit_view_kv(v, g, 0, n_key, kv, v_rows, &err)) {
            rc = fail_with(&err);
            break;
        }
        largest(kv, v_rows, n_key, d, max, max + n_key);
        x.k = kv, x.v_rows = v_rows, x.k_norm = max, x.v_max = max + n_key;
        x.head0 = g * x.n_group;
        spread(n_thread, n_item, one_output, &x);
        for (size_t i = 0; i < n_item; i++)
            add_output(&x.result[i], w->counts[i / x.n_group / N_EXACT], &sums[x.head0 + i % x.n_group]);
    }
    free(kv);
    free(max);
    free(x.work);
    free(x.kept);
    free(x.result);
    return rc;
}

int operator_add(operator_work *w, const crit_layer_view *v, head_sums *sums) {
    const uint32_t n_tile = view_n_tile(v);
    const size_t n_blk = crit_view_n_blk(v);
    w->kept = room(w->kept, &w->kept_cap, n_blk, 1);
    w->best = room(w->best, &w->best_cap, n_blk, 1);
    w->counts = room(w->counts, &w->counts_cap, n_tile, sizeof *w->counts);
    if (!w->kept || !w->best || !w->counts) return fail_memory();
    int rc = EXIT_OK;
    for (uint32_t i = 0; i < n_tile && !rc; i++) {
        const view_tile t = view_tile_at(v, i);
        const bool drops = some_head_drops(w, v, &t, sums);
        w->counts[i] = t.end_free > t.first_free && (drops || w->p.dense);
        if (w->counts[i]) rc = add_tile(w, v, &t, sums);
    }
    return rc ? rc : add_outputs(w, v, sums);
}
