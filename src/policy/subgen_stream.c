/* SPDX-License-Identifier: MIT */
/* See subgen_stream.h.  A key's nearest representative comes from a product over all of them, whether it is within
 * delta from a distance in double.  Which of a row of slots are replaced with a chance of p each is found by jumps from
 * one to the next (the gaps are geometric), not by a coin for each. */
#include <math.h>
#include <string.h>

#include "policy/kcenter.h"
#include "policy/subgen_stream.h"

enum { FEED = CRIT_BLK_LEN }; /* tokens unpacked at a time */

/* ---- memory ---- */

bool crit_sketch_bytes(const crit_sketch_shape *a, size_t *bytes) {
    size_t m = (size_t)a->n_kv_head * a->m, s = (size_t)a->n_kv_head * a->s, slots, slab;
    if (!crit_mul_size(m, ((size_t)a->t + 1) * a->d * sizeof(uint16_t), &slots) ||
        !crit_slab_map_bytes(a->n_kv_head, a->d, a->s, &slab) || !crit_add_size(slots, slab, bytes))
        return false;
    *bytes += a->n_kv_head * sizeof(crit_sketch_head) + m * (sizeof(double) + sizeof(uint32_t) + sizeof(float)) +
              s * (sizeof(float) + sizeof(uint32_t));
    return true;
}

void crit_sketch_clear(crit_sketch *k) {
    crit_free(k->head);
    crit_free(k->rep);
    crit_free(k->slot);
    crit_free(k->norm);
    crit_free(k->count);
    crit_slab_clear(&k->sample);
    crit_free(k->inv);
    crit_free(k->src);
    crit_free(k->dot);
    memset(k, 0, sizeof *k);
}

crit_status crit_sketch_init(crit_sketch *k, const crit_kernels *kernels, const crit_sketch_shape *a, crit_error *err) {
    size_t h = a->n_kv_head, row = (size_t)a->d * sizeof(uint16_t);
    *k = (crit_sketch){.kernels = kernels,
                       .shape = *a,
                       .head = crit_calloc(h, sizeof *k->head),
                       .rep = crit_malloc(h * a->m, row),
                       .slot = crit_malloc(h * a->m, row * a->t),
                       .norm = crit_malloc(h * a->m, sizeof *k->norm),
                       .count = crit_malloc(h * a->m, sizeof *k->count),
                       .inv = crit_malloc(h * a->s, sizeof *k->inv),
                       .src = crit_malloc(h * a->s, sizeof *k->src),
                       .dot = crit_malloc(h * a->m, sizeof *k->dot)};
    crit_status st = crit_slab_init(&k->sample, kernels, a->n_kv_head, a->d, a->s, err);
    if (!st && (!k->head || !k->rep || !k->slot || !k->norm || !k->count || !k->inv || !k->src || !k->dot))
        st = crit_fail(err, CRIT_E_NOMEM, "out of memory for %u clusters of %u keys", a->m, a->t);
    if (st) crit_sketch_clear(k);
    return st;
}

/* ---- chance: xorshift64*, seeded by a hash of seed, layer and head ---- */

static uint64_t mix64(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* In (0, 1). */
static double chance(uint64_t *rng) {
    *rng ^= *rng >> 12;
    *rng ^= *rng << 25;
    *rng ^= *rng >> 27;
    return ((double)(*rng * 0x2545f4914f6cdd1du >> 11) + .5) * 0x1p-53;
}

/* Of `n` trials with chance p each, the next success at or behind `at`; n = none. */
static uint32_t next_success(uint64_t *rng, double p, uint32_t at, uint32_t n) {
    if (p >= 1 || at >= n) return at;
    double gap = floor(log(chance(rng)) / log1p(-p)); /* p = 0: infinite */
    return gap < n - at ? at + (uint32_t)gap : n;
}

void crit_sketch_start(crit_sketch *k, uint64_t seed, uint32_t layer, const float *delta) {
    for (uint32_t h = 0; h < k->shape.n_kv_head; h++) {
        uint64_t rng = mix64(mix64(seed + 0x9e3779b97f4a7c15u) + ((uint64_t)layer << 32) + h);
        k->head[h] = (crit_sketch_head){
            .delta = (double)delta[h], .radius = (double)delta[h], .rng = rng ? rng : 0x9e3779b97f4a7c15u};
    }
}

/* ---- clusters ---- */

typedef struct clusters {
    uint32_t d, t;
    uint16_t *rep, *slot;
    double *norm;
    uint32_t *count;
    float *dot;
} clusters;

static clusters clusters_of(crit_sketch *k, uint32_t head) {
    const crit_sketch_shape *a = &k->shape;
    size_t m = (size_t)head * a->m;
    return (clusters){.d = a->d,
                      .t = a->t,
                      .rep = k->rep + m * a->d,
                      .slot = k->slot + m * a->t * a->d,
                      .norm = k->norm + m,
                      .count = k->count + m,
                      .dot = k->dot + m};
}

/* The nearest of n > 0 representatives to x; *dist from values in double. */
static uint32_t nearest(const crit_kernels *kernels, const clusters *c, uint32_t n, const float *x, double *dist) {
    kernels->key_scores(x, c->d, 1, c->rep, n, c->d, 1, c->dot, n);
    uint32_t best = 0;
    double least = (double)INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        double far = c->norm[i] - 2 * (double)c->dot[i];
        if (far < least) {
            least = far;
            best = i;
        }
    }
    float y[CRIT_D_HEAD_MAX];
    crit_key_f32(kernels, c->rep + (size_t)best * c->d, c->d, y);
    for (uint32_t i = 0; i < c->d; i++) sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    *dist = sqrt(sum);
    return best;
}

static void copy_key(const clusters *c, uint16_t *to, const uint16_t *from) {
    memcpy(to, from, c->d * sizeof *to);
}

/* Cluster j into i < j.  Slot by slot a fair draw from both, so that each stays a uniform sample of all their keys. */
static void merge(const clusters *c, uint32_t i, uint32_t j, uint64_t *rng) {
    size_t size = (size_t)c->t * c->d;
    c->count[i] += c->count[j];
    double p = (double)c->count[j] / (double)c->count[i];
    for (uint32_t r = next_success(rng, p, 0, c->t); r < c->t; r = next_success(rng, p, r + 1, c->t))
        copy_key(c, c->slot + i * size + (size_t)r * c->d, c->slot + j * size + (size_t)r * c->d);
}

static void move(const clusters *c, uint32_t to, uint32_t from) {
    size_t size = (size_t)c->t * c->d;
    if (to == from) return;
    copy_key(c, c->rep + (size_t)to * c->d, c->rep + (size_t)from * c->d);
    memcpy(c->slot + to * size, c->slot + from * size, size * sizeof *c->slot);
    c->norm[to] = c->norm[from];
    c->count[to] = c->count[from];
}

/* The least distance between two representatives. */
static double closest(const crit_kernels *kernels, const clusters *c, uint32_t n) {
    double least = (double)INFINITY, dist;
    float x[CRIT_D_HEAD_MAX];
    for (uint32_t j = 1; j < n; j++) {
        crit_key_f32(kernels, c->rep + (size_t)j * c->d, c->d, x);
        nearest(kernels, c, j, x, &dist);
        if (dist < least) least = dist;
    }
    return least;
}

/* Doubles delta until clusters merge.  A key then is within delta of its old representative's new one, which adds up to
 * less than 2 delta however often it happens. */
static void make_room(crit_sketch *k, crit_sketch_head *h, const clusters *c) {
    float x[CRIT_D_HEAD_MAX];
    while (h->n_cluster == k->shape.m) {
        h->delta = h->delta > 0 ? 2 * h->delta : closest(k->kernels, c, h->n_cluster);
        h->n_doubled++;
        uint32_t kept = 0;
        for (uint32_t j = 0; j < h->n_cluster; j++) {
            double dist = (double)INFINITY;
            uint32_t i = 0;
            crit_key_f32(k->kernels, c->rep + (size_t)j * c->d, c->d, x);
            if (kept) i = nearest(k->kernels, c, kept, x, &dist);
            if (dist > h->delta) /* NaN merges: this must end */
                move(c, kept++, j);
            else
                merge(c, i, j, &h->rng);
        }
        h->radius += h->delta;
        h->n_cluster = kept;
    }
}

static void count_key(crit_sketch *k, crit_sketch_head *h, const clusters *c, const uint16_t *row, const float *x) {
    double dist = (double)INFINITY;
    uint32_t i = 0;
    if (h->n_cluster) i = nearest(k->kernels, c, h->n_cluster, x, &dist);
    if (dist > h->delta && h->n_cluster == k->shape.m) {
        make_room(k, h, c);
        i = nearest(k->kernels, c, h->n_cluster, x, &dist);
    }
    uint16_t *slot = c->slot + (size_t)(dist > h->delta ? h->n_cluster : i) * c->t * c->d;
    if (dist > h->delta) {
        i = h->n_cluster++;
        copy_key(c, c->rep + (size_t)i * c->d, row);
        for (uint32_t r = 0; r < c->t; r++) copy_key(c, slot + (size_t)r * c->d, row);
        c->count[i] = 1;
        c->norm[i] = 0;
        for (uint32_t j = 0; j < c->d; j++) c->norm[i] += (double)x[j] * (double)x[j];
        return;
    }
    double p = 1.0 / ++c->count[i];
    for (uint32_t r = next_success(&h->rng, p, 0, c->t); r < c->t; r = next_success(&h->rng, p, r + 1, c->t))
        copy_key(c, slot + (size_t)r * c->d, row);
}

/* ---- samples ---- */

static void sample_value(crit_sketch *k, crit_sketch_head *h, uint32_t head, const crit_kv *kv, uint32_t pos,
                         const float *v) {
    uint32_t s = k->shape.s;
    double norm = 0;
    for (uint32_t i = 0; i < k->shape.d; i++) norm += (double)v[i] * (double)v[i];
    if (!(norm > 1e-30)) return; /* adds nothing to the sum that f32 could show, and has no chance */
    h->mu += norm;
    if (norm > h->v_max2) h->v_max2 = norm;
    double p = norm / h->mu;
    for (uint32_t r = next_success(&h->rng, p, 0, s); r < s; r = next_success(&h->rng, p, r + 1, s)) {
        crit_slab_copy(&k->sample, head, r, kv, pos);
        k->inv[(size_t)head * s + r] = (float)(1 / norm);
        k->src[(size_t)head * s + r] = pos;
    }
}

void crit_sketch_feed(crit_sketch *k, uint32_t head, const crit_kv *kv, uint32_t from, uint32_t to) {
    crit_sketch_head *h = &k->head[head];
    const clusters c = clusters_of(k, head);
    float x[FEED * CRIT_D_HEAD_MAX], v[FEED * CRIT_D_HEAD_MAX];
    size_t d = k->shape.d;
    for (uint32_t at = from; at < to; at += FEED) {
        uint32_t n = to - at < FEED ? to - at : FEED;
        crit_kv_get(kv, head, at, n, x, v);
        for (uint32_t j = 0; j < n; j++) {
            count_key(k, h, &c, crit_kv_k(kv, head) + (size_t)(at + j) * d, x + j * d);
            sample_value(k, h, head, kv, at + j, v + j * d);
        }
    }
}
