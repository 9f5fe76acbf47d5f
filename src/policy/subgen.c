/* SPDX-License-Identifier: MIT */
/* SubGen (arXiv 2402.06082): the prompt's keys as clusters.  Two ways:
 *
 *   kcenter   what the paper's experiments do: k centres of the prompt's keys, found once by greedy k-center, are kept
 *             with their values beside the first keys and the recent ones; soft-max over what is kept
 *   stream    what the paper's theorem is about: the sketch of subgen_stream.h, which gets every token that leaves the
 *             recent window, and estimates soft-max's denominator and numerator
 *
 * Positions [lo, hi) are clustered; the first `sinks` and the last `window` of the prompt stay exact, to whole blocks,
 * and so does what comes behind it (stream: the last `window` then).  The two parts merge by log-sum-exp.
 * DEVIATION: the KV store underneath stays complete, as with every policy of decoding here: what is saved is bytes
 * read, not memory.  First keys kept exactly, what `correct` adds to kcenter's centres, and the bound on the length of
 * stream's estimate are ours. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/subgen.h"

/* ---- the prompt has been read ---- */

typedef struct copying {
    const crit_subgen *g;
    crit_subgen_layer *l;
    const crit_kv *kv;
    uint32_t from, to; /* tokens */
} copying;

enum { COPY_KEYS = 256 };

static void copy_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const copying *a = arg;
    size_t k = crit_subgen_opt(&a->g->o, CRIT_SUBGEN_K), n_part = (k + COPY_KEYS - 1) / COPY_KEYS, head = item / n_part;
    uint32_t *center = a->l->center + head * k;
    for (size_t i = item % n_part * COPY_KEYS, end = i + COPY_KEYS; i < end && i < k; i++) {
        center[i] += a->from;
        crit_slab_copy(&a->l->slab, (uint32_t)head, (uint32_t)i, a->kv, center[i]);
    }
}

static size_t head_values(const crit_kv *kv) {
    return (size_t)kv->n_blk_cap * CRIT_BLK_LEN * kv->d;
}

static crit_status find_centers(crit_subgen *g, crit_decode_env *e, crit_subgen_layer *l, const crit_kv *kv,
                                uint32_t lo, uint32_t hi, crit_error *err) {
    uint32_t k = crit_subgen_opt(&g->o, CRIT_SUBGEN_K);
    l->hi = 0;
    const crit_kcenter_job job = {.pool = e->pool,
                                  .kernels = e->kernels,
                                  .k = crit_kv_k(kv, 0) + (size_t)lo * e->d,
                                  .head_stride = head_values(kv),
                                  .n_key = hi - lo,
                                  .n_center = k,
                                  .center = l->center,
                                  .size = l->size,
                                  .stride = k,
                                  .radius = g->radius};
    crit_status st = crit_kcenter_run(&g->finder, &job, err);
    if (st) return st;
    copying a = {g, l, kv, lo, hi};
    crit_pool_run(e->pool, (size_t)e->n_kv_head * ((k + COPY_KEYS - 1) / COPY_KEYS), copy_item, &a);
    if (crit_pool_stopped(e->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    l->lo = lo;
    l->hi = hi;
    return CRIT_OK;
}

/* delta [n_kv_head] from keys of the prompt at even distances: with the radius of m / 4 centres the clusters of a
 * stream, which takes keys as they come, stay well below m: where keys are about equally far from each other, as those
 * of real heads are, doubling delta leaves a cluster or two. */
static crit_status choose_delta(crit_subgen *g, crit_decode_env *e, const crit_kv *kv, uint32_t lo, uint32_t hi,
                                crit_error *err) {
    for (uint32_t h = 0; h < e->n_kv_head; h++) g->radius[h] = (float)g->o.v[CRIT_SUBGEN_DELTA];
    if (g->o.v[CRIT_SUBGEN_DELTA] > 0) return CRIT_OK;
    uint32_t n = hi - lo < g->n_sample ? hi - lo : g->n_sample, k = crit_subgen_opt(&g->o, CRIT_SUBGEN_M) / 4 + 1;
    for (uint32_t h = 0; h < e->n_kv_head; h++)
        for (uint32_t i = 0; i < n; i++) {
            size_t pos = lo + (size_t)((uint64_t)i * (hi - lo) / n);
            memcpy(g->sample + ((size_t)h * g->n_sample + i) * e->d, crit_kv_k(kv, h) + pos * e->d,
                   e->d * sizeof *g->sample);
        }
    const crit_kcenter_job job = {.pool = e->pool,
                                  .kernels = e->kernels,
                                  .k = g->sample,
                                  .head_stride = (size_t)g->n_sample * e->d,
                                  .n_key = n,
                                  .n_center = k < (n + 1) / 2 ? k : (n + 1) / 2,
                                  .center = g->center,
                                  .stride = crit_subgen_opt(&g->o, CRIT_SUBGEN_M),
                                  .radius = g->radius};
    return crit_kcenter_run(&g->finder, &job, err);
}

static void feed_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const copying *a = arg;
    crit_sketch_feed(&a->l->sketch, (uint32_t)head, a->kv, a->from, a->to);
}

static void feed(const crit_subgen *g, crit_decode_env *e, crit_subgen_layer *l, const crit_kv *kv, uint32_t hi) {
    copying a = {g, l, kv, l->hi, hi};
    crit_pool_run(e->pool, e->n_kv_head, feed_item, &a);
    l->hi = hi;
}

/* A later prompt goes on with the sketch of the earlier ones. */
static crit_status read_stream(crit_subgen *g, crit_decode_env *e, uint32_t layer_id, const crit_kv *kv, uint32_t lo,
                               uint32_t hi, crit_error *err) {
    crit_subgen_layer *l = &g->layers[layer_id];
    if (l->hi == 0) {
        crit_status st = choose_delta(g, e, kv, lo, hi, err);
        if (st) return st;
        crit_sketch_start(&l->sketch, (uint64_t)g->o.v[CRIT_SUBGEN_SEED], layer_id, g->radius);
        l->lo = l->hi = lo;
    }
    if (hi > l->hi) feed(g, e, l, kv, hi);
    if (!crit_pool_stopped(e->pool)) return CRIT_OK;
    l->hi = 0; /* some heads may lack tokens */
    return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
}

/* Bytes are not counted here: this is the prompt's cost, and so is its time. */
static crit_status prompt(void *state, crit_decode_env *e, uint32_t layer_id, const crit_kv *kv, const float *q,
                          size_t q_stride, uint32_t n_q, crit_error *err) {
    (void)q, (void)q_stride, (void)n_q;
    crit_subgen *g = state;
    crit_subgen_layer *l = &g->layers[layer_id];
    uint32_t lo, hi;
    if (!crit_subgen_span(&g->o, kv->n_tok, &lo, &hi)) {
        l->hi = 0;
        return CRIT_OK;
    }
    if (crit_subgen_opt(&g->o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_STREAM)
        return read_stream(g, e, layer_id, kv, lo, hi, err);
    return find_centers(g, e, l, kv, lo, hi, err);
}

/* ---- steps ---- */

static void center_rows(const crit_subgen *g, const crit_subgen_layer *l) {
    uint32_t k = crit_subgen_opt(&g->o, CRIT_SUBGEN_K);
    for (uint32_t h = 0; h < g->n_kv_head; h++)
        g->rows[h] = (crit_weighted_rows){.sum_k = l->slab.k + h * crit_slab_head(&l->slab),
                                          .count = l->size + (size_t)h * k,
                                          .n_sum = k,
                                          .n_per = 1,
                                          .mix_v = l->slab.v + h * crit_slab_head(&l->slab),
                                          .n_mix = k,
                                          .v_max = (double)INFINITY};
}

static void sketch_rows(const crit_subgen *g, const crit_subgen_layer *l) {
    const crit_sketch *s = &l->sketch;
    const crit_sketch_shape *a = &s->shape;
    for (uint32_t h = 0; h < g->n_kv_head; h++)
        g->rows[h] = (crit_weighted_rows){.sum_k = s->slot + (size_t)h * a->m * a->t * a->d,
                                          .count = s->count + (size_t)h * a->m,
                                          .n_sum = s->head[h].n_cluster * a->t,
                                          .n_per = a->t,
                                          .mix_k = s->sample.k + h * crit_slab_head(&s->sample),
                                          .mix_v = s->sample.v + h * crit_slab_head(&s->sample),
                                          .n_mix = s->head[h].mu > 0 ? a->s : 0,
                                          .mix_w = s->inv + (size_t)h * a->s,
                                          .mix_scale = s->head[h].mu / a->s,
                                          .v_max = sqrt(s->head[h].v_max2)};
}

/* Exact keys, and centres that count once. */
static crit_status cut_pieces(const crit_subgen *g, const crit_subgen_layer *l, const crit_decode_job *job,
                              bool centers, crit_pieces *p, crit_error *err) {
    crit_decode_env *e = job->env;
    uint32_t near = (job->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN - l->hi / CRIT_BLK_LEN, far = l->lo / CRIT_BLK_LEN,
             k = crit_subgen_opt(&g->o, CRIT_SUBGEN_K), own = (k + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    *p = (crit_pieces){.env = e, .q = job->q, .n_row = e->n_group, .out = job->out};
    p->piece = crit_malloc((size_t)crit_pieces_of(near) + crit_pieces_of(far) + crit_pieces_of(own), sizeof *p->piece);
    if (!p->piece) return crit_fail(err, CRIT_E_NOMEM, "out of memory for attention");
    const uint16_t *k0 = crit_kv_k(job->kv, 0), *v0 = crit_kv_v(job->kv, 0);
    uint32_t n = crit_pieces_cut(p->piece, k0, v0, head_values(job->kv), e->all_blk, far, l->lo, 0, e->n_group);
    n += crit_pieces_cut(p->piece + n, k0, v0, head_values(job->kv), e->all_blk + l->hi / CRIT_BLK_LEN, near,
                         job->n_tok, 0, e->n_group);
    if (centers)
        n += crit_pieces_cut(p->piece + n, l->slab.k, l->slab.v, crit_slab_head(&l->slab), e->all_blk, own, k, 0,
                             e->n_group);
    p->n_piece = n;
    crit_status st = crit_pieces_prepare(p, err);
    if (st) crit_free(p->piece);
    return st;
}

/* What left the window goes into the sketch. */
static void let_in(const crit_subgen *g, const crit_decode_job *job, crit_subgen_layer *l) {
    crit_decode_env *e = job->env;
    uint32_t lo, hi;
    if (!crit_subgen_span(&g->o, job->n_tok, &lo, &hi) || hi <= l->hi) return;
    for (uint32_t h = 0; h < e->n_kv_head; h++)
        e->moved_bytes += sizeof(uint16_t) * (double)e->d * (l->sketch.head[h].n_cluster + 2.0) * (hi - l->hi);
    feed(g, e, l, job->kv, hi);
}

static crit_status decode(void *state, const crit_decode_job *job, crit_error *err) {
    crit_subgen *g = state;
    crit_subgen_layer *l = &g->layers[job->layer];
    bool stream = crit_subgen_opt(&g->o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_STREAM,
         correct = !stream && crit_subgen_opt(&g->o, CRIT_SUBGEN_CORRECT);
    l->whole = l->hi == 0;
    if (l->whole) return crit_full_decode(job, err);
    if (stream) let_in(g, job, l);
    crit_pieces p;
    crit_status st = cut_pieces(g, l, job, !stream && !correct, &p, err);
    if (st) return st;
    if (stream) sketch_rows(g, l);
    if (correct) center_rows(g, l);
    if (stream || correct)
        crit_weighted_run(&g->weighted, g->rows, &p);
    else
        crit_pieces_run(&p);
    crit_free(p.piece);
    return CRIT_OK;
}

static void cut(void *state, uint32_t n_tok) {
    crit_subgen *g = state;
    for (uint32_t i = 0; i < g->n_layer; i++)
        if (g->layers[i].hi > n_tok) g->layers[i].hi = 0;
}

static int by_position(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The different ones of n positions in [lo, hi), into out [hi - lo], whatever n is. */
static uint32_t distinct(const uint32_t *src, uint32_t n, uint32_t lo, uint32_t hi, uint32_t *out) {
    memset(out, 0, (hi - lo) * sizeof *out);
    for (uint32_t i = 0; i < n; i++) out[src[i] - lo] = 1;
    uint32_t n_out = 0;
    for (uint32_t i = 0; i < hi - lo; i++)
        if (out[i]) out[n_out++] = lo + i;
    return n_out;
}

/* Exact keys, and the centres; of a sketch, the positions of the sampled values: what it knows of keys alone is not
 * among them. */
static uint32_t kept(const void *state, uint32_t layer_id, uint32_t kv_head, uint32_t n_tok, uint32_t *pos) {
    const crit_subgen *g = state;
    const crit_subgen_layer *l = &g->layers[layer_id];
    uint32_t n = 0, first, k = crit_subgen_opt(&g->o, CRIT_SUBGEN_K), s = crit_subgen_opt(&g->o, CRIT_SUBGEN_S);
    if (l->whole || l->hi == 0) {
        for (; n < n_tok; n++) pos[n] = n;
        return n;
    }
    for (; n < l->lo; n++) pos[n] = n;
    first = n;
    if (crit_subgen_opt(&g->o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_KCENTER) {
        memcpy(pos + n, l->center + (size_t)kv_head * k, k * sizeof *pos);
        n += k;
    } else if (l->sketch.head[kv_head].mu > 0) {
        n += distinct(l->sketch.src + (size_t)kv_head * s, s, l->lo, l->hi, pos + n);
    }
    qsort(pos + first, n - first, sizeof *pos, by_position);
    for (uint32_t i = l->hi; i < n_tok; i++) pos[n++] = i;
    return n;
}

/* m t + 2 s of the paper with the clusters that there are, the representatives that the step's token is held against,
 * and the exact keys. */
static double traffic(const void *state, const crit_decode_env *e, const crit_policy_values *o, uint32_t n_tok) {
    const crit_subgen *g = state;
    double rows = 0; /* keys and values, of all layers and heads */
    for (uint32_t i = 0; i < g->n_layer; i++) {
        const crit_subgen_layer *l = &g->layers[i];
        double exact = l->hi ? l->lo + (double)(n_tok - l->hi) : n_tok;
        rows += exact * e->n_kv_head;
        if (l->hi && crit_subgen_opt(o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_KCENTER)
            rows += o->v[CRIT_SUBGEN_K] * e->n_kv_head;
        else if (l->hi)
            for (uint32_t h = 0; h < e->n_kv_head; h++)
                rows += l->sketch.head[h].n_cluster * (o->v[CRIT_SUBGEN_T] + 1) / 2 + o->v[CRIT_SUBGEN_S];
    }
    return rows / ((double)e->n_kv_head * g->n_layer * n_tok);
}

const crit_policy crit_policy_subgen = {
    .name = "subgen",
    .summary = "experimental: clusters of the prompt's keys, by centres or by a streaming sketch",
    .source = "SubGen, arXiv 2402.06082",
    .combines = "any prefill",
    .place = CRIT_POLICY_DECODE,
    .options = crit_subgen_options,
    .n_option = CRIT_SUBGEN_OPTIONS,
    .bytes = crit_subgen_bytes,
    .open = crit_subgen_open,
    .close = crit_subgen_close,
    .n_query = 1, /* only to be told of the prompt's end */
    .prompt = prompt,
    .decode = decode,
    .cut = cut,
    .kept = kept,
    .traffic = traffic,
};
