/* SPDX-License-Identifier: MIT */
/* Options and memory of SubGen: what subgen.c works on.  A context too short for clusters to gain anything gets none.
 */
#include "policy/subgen.h"

#include <string.h>

static const char *const modes[] = {"kcenter", "stream", NULL};
const crit_policy_option crit_subgen_options[CRIT_SUBGEN_OPTIONS] = {
    {"mode", "how the prompt's keys are kept", CRIT_SUBGEN_KCENTER, 0, 1, true, modes},
    {"sinks", "first keys that stay exact, up to the end of a block of 32", 64, 0, 1 << 20, true, NULL},
    {"window", "recent keys that stay exact", 512, 32, 1 << 24, true, NULL},
    {"k", "kcenter: centres, for each KV head", 1024, 1, 1 << 24, true, NULL},
    {"correct", "kcenter: 1 = a centre weighs as many keys as its cluster has", 0, 0, 1, true, NULL},
    {"m", "stream: most clusters, for each KV head", 512, 2, 1 << 20, true, NULL},
    {"t", "stream: sampled keys of each cluster", 4, 1, 1024, true, NULL},
    {"s", "stream: sampled keys and values", 1024, 1, 1 << 20, true, NULL},
    {"delta", "stream: a key farther from all clusters makes one; 0 = the radius of m / 4 centres", 0, 0, 1e30, false,
     NULL},
    {"seed", "stream: of its chances", 1, 0, 4294967295.0, true, NULL},
};

double crit_subgen_stream_rows(const crit_policy_values *o) {
    double m = o->v[CRIT_SUBGEN_DELTA] > 0 ? o->v[CRIT_SUBGEN_M] : o->v[CRIT_SUBGEN_M] / 2;
    return (m * (o->v[CRIT_SUBGEN_T] + 1) + 2 * o->v[CRIT_SUBGEN_S]) / 2;
}

bool crit_subgen_span(const crit_policy_values *o, uint32_t n_tok, uint32_t *lo, uint32_t *hi) {
    uint32_t window = crit_subgen_opt(o, CRIT_SUBGEN_WINDOW);
    *lo = (crit_subgen_opt(o, CRIT_SUBGEN_SINKS) + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN * CRIT_BLK_LEN;
    *hi = n_tok > window ? (n_tok - window) / CRIT_BLK_LEN * CRIT_BLK_LEN : 0;
    if (*hi <= *lo) return false;
    /* Measured break-even: a centre costs 1.25 times what a key of full attention does, a row that counts more than
     * once 2.5 times (doc/POLICIES.md). */
    if (crit_subgen_opt(o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_STREAM) return *hi - *lo > 2.5 * crit_subgen_stream_rows(o);
    return *hi - *lo > (crit_subgen_opt(o, CRIT_SUBGEN_CORRECT) ? 2.5 : 1.25) * o->v[CRIT_SUBGEN_K];
}

static crit_sketch_shape shape_of(const crit_decode_env *e, const crit_policy_values *o) {
    return (crit_sketch_shape){e->n_kv_head, e->d, crit_subgen_opt(o, CRIT_SUBGEN_M), crit_subgen_opt(o, CRIT_SUBGEN_T),
                               crit_subgen_opt(o, CRIT_SUBGEN_S)};
}

/* Rows that count more than once; 0 = there are none. */
static uint32_t weighted_rows(const crit_policy_values *o) {
    if (crit_subgen_opt(o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_KCENTER)
        return crit_subgen_opt(o, CRIT_SUBGEN_CORRECT) ? crit_subgen_opt(o, CRIT_SUBGEN_K) : 0;
    return crit_subgen_opt(o, CRIT_SUBGEN_M) * crit_subgen_opt(o, CRIT_SUBGEN_T) + crit_subgen_opt(o, CRIT_SUBGEN_S);
}

/* Keys whose centres are looked for at a time. */
static uint32_t finder_keys(const crit_decode_env *e, const crit_policy_values *o) {
    if (crit_subgen_opt(o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_KCENTER) return e->n_ctx;
    if (o->v[CRIT_SUBGEN_DELTA] > 0) return 0;
    return crit_subgen_opt(o, CRIT_SUBGEN_M) < e->n_ctx / 4 ? 4 * crit_subgen_opt(o, CRIT_SUBGEN_M) : e->n_ctx;
}

size_t crit_subgen_bytes(const crit_decode_env *e, const crit_policy_values *o) {
    uint32_t lo, hi, n_find = finder_keys(e, o);
    size_t per_layer = sizeof(crit_subgen_layer), own = 0;
    bool fits = true;
    if (!crit_subgen_span(o, e->n_ctx, &lo, &hi)) return sizeof(crit_subgen) + e->n_layer * sizeof(crit_subgen_layer);
    if (crit_subgen_opt(o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_KCENTER) {
        fits = crit_slab_map_bytes(e->n_kv_head, e->d, crit_subgen_opt(o, CRIT_SUBGEN_K), &own);
        own += (size_t)e->n_kv_head * crit_subgen_opt(o, CRIT_SUBGEN_K) * 2 * sizeof(uint32_t);
    } else {
        crit_sketch_shape a = shape_of(e, o);
        fits = crit_sketch_bytes(&a, &own);
    }
    if (!fits || own > SIZE_MAX / 4 / e->n_layer) return SIZE_MAX / 2;
    size_t n = sizeof(crit_subgen) + e->n_layer * (per_layer + own) +
               e->n_kv_head * (sizeof(float) + sizeof(crit_weighted_rows));
    if (n_find) n += crit_kcenter_bytes(e->n_kv_head, e->d, n_find);
    if (n_find && crit_subgen_opt(o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_STREAM)
        n += (size_t)e->n_kv_head *
             ((size_t)n_find * e->d * sizeof(uint16_t) + crit_subgen_opt(o, CRIT_SUBGEN_M) * sizeof(uint32_t));
    return n + (weighted_rows(o) ? crit_weighted_bytes(e, weighted_rows(o)) : 0);
}

void crit_subgen_close(void *state) {
    crit_subgen *g = state;
    if (!g) return;
    for (uint32_t i = 0; g->layers && i < g->n_layer; i++) {
        crit_slab_clear(&g->layers[i].slab);
        crit_free(g->layers[i].center);
        crit_free(g->layers[i].size);
        crit_sketch_clear(&g->layers[i].sketch);
    }
    crit_free(g->layers);
    crit_kcenter_clear(&g->finder);
    crit_free(g->sample);
    crit_free(g->center);
    crit_free(g->radius);
    crit_weighted_clear(&g->weighted);
    crit_free(g->rows);
    crit_free(g);
}

static crit_status open_layer(const crit_subgen *g, crit_subgen_layer *l, const crit_decode_env *e, crit_error *err) {
    if (crit_subgen_opt(&g->o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_STREAM) {
        crit_sketch_shape a = shape_of(e, &g->o);
        return crit_sketch_init(&l->sketch, e->kernels, &a, err);
    }
    size_t n = (size_t)e->n_kv_head * crit_subgen_opt(&g->o, CRIT_SUBGEN_K);
    l->center = crit_malloc(n, sizeof *l->center);
    l->size = crit_malloc(n, sizeof *l->size);
    if (!l->center || !l->size) return crit_fail(err, CRIT_E_NOMEM, "out of memory for centres");
    return crit_slab_init(&l->slab, e->kernels, e->n_kv_head, e->d, crit_subgen_opt(&g->o, CRIT_SUBGEN_K), err);
}

static crit_status open_shared(crit_subgen *g, const crit_decode_env *e, crit_error *err) {
    uint32_t n_find = finder_keys(e, &g->o);
    bool sampled = n_find && crit_subgen_opt(&g->o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_STREAM;
    g->radius = crit_malloc(e->n_kv_head, sizeof *g->radius);
    g->rows = crit_calloc(e->n_kv_head, sizeof *g->rows);
    if (sampled) {
        g->n_sample = n_find;
        g->sample = crit_malloc((size_t)e->n_kv_head * n_find, e->d * sizeof *g->sample);
        g->center = crit_malloc((size_t)e->n_kv_head * crit_subgen_opt(&g->o, CRIT_SUBGEN_M), sizeof *g->center);
    }
    if (!g->radius || !g->rows || (sampled && (!g->sample || !g->center)))
        return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    crit_status st = n_find ? crit_kcenter_init(&g->finder, e->n_kv_head, e->d, n_find, err) : CRIT_OK;
    if (!st && weighted_rows(&g->o)) st = crit_weighted_init(&g->weighted, e, weighted_rows(&g->o), err);
    return st;
}

crit_status crit_subgen_open(void **out, const crit_decode_env *e, const crit_policy_values *o, crit_error *err) {
    crit_subgen *g = crit_calloc(1, sizeof *g);
    if (!g) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    g->n_layer = e->n_layer;
    g->n_kv_head = e->n_kv_head;
    g->o = *o;
    g->layers = crit_calloc(e->n_layer, sizeof *g->layers);
    crit_status st = g->layers ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory");
    uint32_t lo, hi;
    if (!st && crit_subgen_span(o, e->n_ctx, &lo, &hi)) { /* else nothing of it is ever used */
        st = open_shared(g, e, err);
        for (uint32_t i = 0; i < e->n_layer && !st; i++) st = open_layer(g, &g->layers[i], e, err);
    }
    if (st) {
        crit_subgen_close(g);
        return st;
    }
    *out = g;
    return CRIT_OK;
}
