/* SPDX-License-Identifier: MIT */
/* See tokenselect.h.  A head's vote is its soft-max over the candidates; the votes of all heads are added up.
 * Query head h votes by KV head h / n_group. */
#include <math.h>
#include <string.h>

#include "policy/select_keys.h"
#include "policy/tokenselect.h"
#include "sparse/sparse.h"

enum { VOTE_KEYS = 2048 }; /* of a work item */

const char *const crit_vote_words[] = {"plain", "scaled", NULL};

crit_vote_rule crit_vote_rule_of(const crit_policy_values *o) {
    return (crit_vote_rule){.n_pick = (uint32_t)o->v[CRIT_VOTE_K],
                            .n_init = (uint32_t)o->v[CRIT_VOTE_INIT],
                            .n_local = (uint32_t)o->v[CRIT_VOTE_LOCAL],
                            .pool = (uint32_t)o->v[CRIT_VOTE_POOL],
                            .scaled = o->v[CRIT_VOTE_SCALE] > 0};
}

static size_t stride_of(const crit_decode_env *e) {
    return ((size_t)e->n_ctx + 15) & ~(size_t)15;
}

size_t crit_voters_bytes(const crit_decode_env *e) {
    return stride_of(e) * ((e->n_head + 2) * sizeof(float) + sizeof(uint64_t));
}

void crit_voters_clear(crit_voters *v) {
    crit_free(v->weight);
    crit_free(v->vote);
    crit_free(v->smooth);
    crit_free(v->order);
    memset(v, 0, sizeof *v);
}

crit_status crit_voters_init(crit_voters *v, const crit_decode_env *e, crit_error *err) {
    v->stride = stride_of(e);
    v->weight = crit_malloc(v->stride * e->n_head, sizeof *v->weight);
    v->vote = crit_malloc(v->stride, sizeof *v->vote);
    v->smooth = crit_malloc(v->stride, sizeof *v->smooth);
    v->order = crit_malloc(v->stride, sizeof *v->order);
    if (v->weight && v->vote && v->smooth && v->order) return CRIT_OK;
    crit_voters_clear(v);
    return crit_fail(err, CRIT_E_NOMEM, "out of memory for the votes on %u keys", e->n_ctx);
}

typedef struct sum_arg {
    const crit_voters *v;
    uint32_t n, n_head;
} sum_arg;

static void sum_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const sum_arg *a = arg;
    size_t from = item * VOTE_KEYS, n = a->n - from < VOTE_KEYS ? a->n - from : VOTE_KEYS;
    float *vote = a->v->vote + from;
    for (uint32_t h = 0; h < a->n_head; h++) {
        const float *w = a->v->weight + h * a->v->stride + from;
        for (size_t j = 0; j < n; j++) vote[j] = h ? vote[j] + w[j] : w[j];
    }
}

void crit_voters_run(crit_voters *v, crit_decode_env *e, const crit_vote_rule *r, const crit_kv *kv, uint32_t from,
                     uint32_t to, const float *q, uint32_t *pos) {
    const float *by = v->vote;
    sum_arg a = {v, to - from, e->n_head};
    crit_key_weights(e, kv, from, to, q, r->scaled ? e->scale : 1.0f, v->weight, v->stride);
    crit_pool_run(e->pool, (a.n + VOTE_KEYS - 1) / VOTE_KEYS, sum_item, &a);
    if (r->pool > 1) {
        crit_max_pool(v->vote, a.n, r->pool, v->smooth);
        by = v->smooth;
    }
    crit_select_top(by, a.n, r->n_pick, from, v->order, pos);
}
