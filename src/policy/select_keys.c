/* SPDX-License-Identifier: MIT */
/* See select_keys.h.  Scores by ranges of keys, soft-max by query head, the rest by KV head: what an item computes does
 * not depend on the number of threads. */
#include "policy/select_keys.h"

#include <math.h>
#include <string.h>

#include "kv/narrow.h"
#include "sparse/sparse.h"

enum { SCORE_KEYS = 1024 }; /* keys a work item scores */

static size_t stride_of(const crit_decode_env *e) {
    return ((size_t)e->n_ctx + 15) & ~(size_t)15;
}

size_t crit_key_picker_bytes(const crit_decode_env *e) {
    return stride_of(e) * (e->n_head * sizeof(float) + e->n_kv_head * (2 * sizeof(float) + sizeof(uint64_t)));
}

void crit_key_picker_clear(crit_key_picker *p) {
    crit_free(p->weight);
    crit_free(p->best);
    crit_free(p->smooth);
    crit_free(p->order);
    memset(p, 0, sizeof *p);
}

crit_status crit_key_picker_init(crit_key_picker *p, const crit_decode_env *e, crit_error *err) {
    p->stride = stride_of(e);
    p->weight = crit_malloc(p->stride * e->n_head, sizeof *p->weight);
    p->best = crit_malloc(p->stride * e->n_kv_head, sizeof *p->best);
    p->smooth = crit_malloc(p->stride * e->n_kv_head, sizeof *p->smooth);
    p->order = crit_malloc(p->stride * e->n_kv_head, sizeof *p->order);
    if (p->weight && p->best && p->smooth && p->order) return CRIT_OK;
    crit_key_picker_clear(p);
    return crit_fail(err, CRIT_E_NOMEM, "out of memory for the scores of %u keys", e->n_ctx);
}

typedef struct weights_arg {
    const crit_decode_env *e;
    const crit_kv *kv;
    uint32_t from, to;
    const float *q;
    float scale;
    float *weight;
    size_t stride;
} weights_arg;

/* Narrow keys [from, from + n): their scores are those of rows that are 0 elsewhere. */
static void narrow_scores(const crit_decode_env *e, const crit_kv *kv, uint32_t head, uint32_t from, uint32_t n,
                          const float *q, float scale, float *s, size_t stride) {
    float own[CRIT_REP_MAX * CRIT_D_HEAD_MAX];
    uint32_t dk = kv->narrow->dk;
    for (uint32_t g = 0; g < e->n_group; g += CRIT_REP_MAX) {
        uint32_t n_row = e->n_group - g < CRIT_REP_MAX ? e->n_group - g : CRIT_REP_MAX;
        crit_narrow_query(kv, head, q + (size_t)g * e->d, e->d, n_row, own);
        e->kernels->key_scores(own, dk, n_row, crit_narrow_k(kv, head) + (size_t)from * dk, n, dk, scale,
                               s + g * stride, stride);
    }
}

void crit_kv_scores(const crit_decode_env *e, const crit_kv *kv, uint32_t head, uint32_t from, uint32_t n,
                    const float *q, float scale, float *s, size_t stride) {
    uint32_t n_narrow = kv->n_narrow <= from ? 0 : kv->n_narrow - from < n ? kv->n_narrow - from : n;
    if (n_narrow) narrow_scores(e, kv, head, from, n_narrow, q, scale, s, stride);
    for (uint32_t g = 0; g < e->n_group && n_narrow < n; g += CRIT_REP_MAX)
        e->kernels->key_scores(q + (size_t)g * e->d, e->d,
                               e->n_group - g < CRIT_REP_MAX ? e->n_group - g : CRIT_REP_MAX,
                               crit_kv_k(kv, head) + (size_t)(from + n_narrow) * e->d, n - n_narrow, e->d, scale,
                               s + g * stride + n_narrow, stride);
}

double crit_keys_bytes(const crit_decode_env *e, const crit_kv *kv, uint32_t from, uint32_t to) {
    uint32_t n = to - from, n_narrow = kv->n_narrow <= from ? 0 : (kv->n_narrow < to ? kv->n_narrow : to) - from;
    double width = n_narrow ? (double)n_narrow * kv->narrow->dk : 0;
    return (double)sizeof(uint16_t) * (width + (double)(n - n_narrow) * e->d) * e->n_kv_head;
}

static void score_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const weights_arg *a = arg;
    const crit_decode_env *e = a->e;
    uint32_t head = (uint32_t)(item % e->n_kv_head), from = a->from + (uint32_t)(item / e->n_kv_head) * SCORE_KEYS;
    uint32_t n = a->to - from < SCORE_KEYS ? a->to - from : SCORE_KEYS;
    size_t row = (size_t)head * e->n_group;
    crit_kv_scores(e, a->kv, head, from, n, a->q + row * e->d, a->scale, a->weight + row * a->stride + (from - a->from),
                   a->stride);
}

static void soft_max_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const weights_arg *a = arg;
    float *w = a->weight + head * a->stride, top;
    size_t n = a->to - a->from;
    float inv = (float)(1 / a->e->kernels->soft_max(w, n, &top));
    for (size_t j = 0; j < n; j++) w[j] *= inv;
}

void crit_key_weights(crit_decode_env *e, const crit_kv *kv, uint32_t from, uint32_t to, const float *q, float scale,
                      float *weight, size_t stride) {
    weights_arg a = {e, kv, from, to, q, scale, weight, stride};
    uint32_t n = to - from;
    e->moved_bytes += crit_keys_bytes(e, kv, from, to);
    crit_stage stage[] = {
        {.n_item = (size_t)((n + SCORE_KEYS - 1) / SCORE_KEYS) * e->n_kv_head, .task = score_item, .arg = &a},
        {.n_item = e->n_head, .task = soft_max_item, .arg = &a}};
    crit_pool_run_stages(e->pool, stage, 2);
}

typedef struct pick_arg {
    const crit_key_picker *p;
    const crit_pick *k;
} pick_arg;

/* pool is small, and most maxima are one comparison away. */
void crit_max_pool(const float *x, uint32_t n, uint32_t pool, float *out) {
    uint32_t before = pool / 2, after = pool - 1 - before, at = 0;
    for (uint32_t j = 0; j < n; j++) {
        uint32_t lo = j < before ? 0 : j - before, hi = n - 1 - j < after ? n - 1 : j + after;
        if (j == 0 || at < lo) {
            at = lo;
            for (uint32_t i = lo + 1; i <= hi; i++)
                if (x[i] > x[at]) at = i;
        } else if (x[hi] > x[at]) {
            at = hi;
        }
        out[j] = x[at];
    }
}

static void pick_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const pick_arg *a = arg;
    const crit_pick *k = a->k;
    const crit_decode_env *e = k->env;
    float *best = a->p->best + head * a->p->stride, *smooth = a->p->smooth + head * a->p->stride;
    for (uint32_t g = 0; g < e->n_group; g++) {
        const float *w = a->p->weight + (head * e->n_group + g) * a->p->stride;
        for (uint32_t j = 0; j < k->n_tok; j++) best[j] = g == 0 || w[j] > best[j] ? w[j] : best[j];
    }
    const float *by = best;
    if (k->pool > 1) {
        crit_max_pool(best, k->n_tok, k->pool, smooth);
        by = smooth;
    }
    uint32_t *pos = k->pos + head * k->stride;
    crit_select_top(by, k->n_tok, k->n_best, 0, a->p->order + head * a->p->stride, pos);
    for (uint32_t i = 0; i < k->n_best; i++) k->weight[head * k->stride + i] = by[pos[i]];
}

void crit_key_picker_run(crit_key_picker *p, const crit_pick *k) {
    crit_key_weights(k->env, k->kv, 0, k->n_tok, k->q, k->env->scale, p->weight, p->stride);
    pick_arg a = {p, k};
    crit_pool_run(k->env->pool, k->env->n_kv_head, pick_item, &a);
}

double crit_cosine(const float *a, const float *b, size_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

enum { FILL_KEYS = 256 }; /* of a work item */

typedef struct fill_arg {
    crit_slab *s;
    const crit_kv *kv;
    const uint32_t *pos;
    size_t stride;
    uint32_t n, slot;
} fill_arg;

static void fill_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const fill_arg *a = arg;
    size_t n_part = (a->n + FILL_KEYS - 1) / FILL_KEYS, head = item / n_part, from = item % n_part * FILL_KEYS;
    const uint32_t *pos = a->pos + head * a->stride;
    for (size_t i = from; i < a->n && i < from + FILL_KEYS; i++)
        crit_slab_copy(a->s, (uint32_t)head, a->slot + (uint32_t)i, a->kv, pos[i]);
}

void crit_slab_fill(crit_slab *s, crit_decode_env *e, const crit_kv *kv, const uint32_t *pos, size_t stride, uint32_t n,
                    uint32_t slot) {
    fill_arg a = {s, kv, pos, stride, n, slot};
    e->moved_bytes += 4.0 * sizeof(uint16_t) * n * e->d * e->n_kv_head; /* read and written */
    crit_pool_run(e->pool, (size_t)e->n_kv_head * ((n + FILL_KEYS - 1) / FILL_KEYS), fill_item, &a);
}
