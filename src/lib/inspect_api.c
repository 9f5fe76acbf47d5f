/* SPDX-License-Identifier: MIT */
/* inspect.h: exact weights of a layer's queries, from the KV store and queries that attention itself read. */
#include "critiprefill/inspect.h"

#include "sparse/sparse.h"

crit_status crit_view_kv(const crit_layer_view *view, uint32_t kv_head, uint32_t pos, uint32_t n, float *k, float *v,
                         crit_error *err) {
    if (!view || kv_head >= view->n_kv_head) return crit_fail(err, CRIT_E_ARG, "crit_view_kv: no such KV head");
    if ((uint64_t)pos + n > view->kv->n_tok)
        return crit_fail(err, CRIT_E_ARG, "crit_view_kv: the store holds %u tokens", view->kv->n_tok);
    crit_kv_get(view->kv, kv_head, pos, n, k, v);
    return CRIT_OK;
}

uint32_t crit_view_n_blk(const crit_layer_view *view) {
    return (view->pos0 + view->n_tok - 1) / CRIT_BLK_LEN + 1;
}

typedef struct weights_arg {
    const crit_layer_view *view;
    const uint32_t *pos;
    float *mass, *peak;
    uint32_t n_pos, n_blk, n_part;
    unsigned char *scratch;
    size_t slice;
} weights_arg;

static void weights_item(void *arg, size_t item, unsigned worker) {
    const weights_arg *a = arg;
    const crit_layer_view *v = a->view;
    uint32_t n_group = v->n_head / v->n_kv_head, g0 = (uint32_t)(item % a->n_part) * CRIT_REP_MAX,
             kv_head = (uint32_t)(item / a->n_part % v->n_kv_head), i = (uint32_t)(item / a->n_part / v->n_kv_head);
    uint32_t n = n_group - g0 < CRIT_REP_MAX ? n_group - g0 : CRIT_REP_MAX, head = kv_head * n_group + g0;
    uint32_t pos = a->pos[i], own = pos / CRIT_BLK_LEN + 1;
    float *lse = (float *)(a->scratch + worker * a->slice), *top = lse + (size_t)a->n_blk * CRIT_REP_MAX;
    float *mass[CRIT_REP_MAX], *peak[CRIT_REP_MAX];
    for (uint32_t r = 0; r < n; r++) {
        size_t at = ((size_t)(head + r) * a->n_pos + i) * a->n_blk;
        mass[r] = a->mass + at;
        peak[r] = a->peak ? a->peak + at : NULL;
        for (uint32_t b = own; b < a->n_blk; b++) {
            mass[r][b] = 0;
            if (peak[r]) peak[r][b] = 0;
        }
    }
    crit_probe_weights(v->plan->kernels, v->kv, kv_head,
                       v->q + (size_t)(pos - v->pos0) * v->q_stride + (size_t)head * v->d_head, v->d_head, n, pos,
                       v->scale, lse, top, top + (size_t)a->n_blk * CRIT_REP_MAX, mass, a->peak ? peak : NULL);
}

crit_status crit_view_weights(const crit_layer_view *view, const uint32_t *pos, uint32_t n_pos, float *mass,
                              float *peak, crit_error *err) {
    if (!view || !mass || (n_pos && !pos)) return crit_fail(err, CRIT_E_ARG, "crit_view_weights: bad argument");
    for (uint32_t i = 0; i < n_pos; i++)
        if (pos[i] < view->pos0 || pos[i] - view->pos0 >= view->n_tok)
            return crit_fail(err, CRIT_E_ARG, "crit_view_weights: position %u is not in the chunk", pos[i]);
    weights_arg a = {.view = view, .pos = pos, .mass = mass, .peak = peak, .n_pos = n_pos};
    a.n_blk = crit_view_n_blk(view);
    a.n_part = (view->n_head / view->n_kv_head + CRIT_REP_MAX - 1) / CRIT_REP_MAX;
    a.slice =
        (2 * (size_t)a.n_blk * CRIT_REP_MAX * sizeof(float) + crit_attend_scratch_bytes(view->d_head) + CRIT_ALIGN) &
        ~(size_t)(CRIT_ALIGN - 1);
    a.scratch = crit_malloc(crit_pool_size(view->plan->pool), a.slice);
    if (!a.scratch) return crit_fail(err, CRIT_E_NOMEM, "out of memory for exact weights");
    crit_pool_run(view->plan->pool, (size_t)n_pos * view->n_kv_head * a.n_part, weights_item, &a);
    crit_free(a.scratch);
    return crit_pool_stopped(view->plan->pool) ? crit_fail(err, CRIT_E_CANCELLED, "cancelled") : CRIT_OK;
}
