/* SPDX-License-Identifier: MIT */
/* inspect.h: exact weights of a layer's queries, from the KV store and queries that attention itself read. */
#include "critiprefill/inspect.h"

#include <math.h>
#include <string.h>

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

/* One position, up to CRIT_LSE_ROWS heads of a KV head. */
static void weights_item(void *arg, size_t item, unsigned worker) {
    const weights_arg *a = arg;
    const crit_layer_view *v = a->view;
    uint32_t n_group = v->n_head / v->n_kv_head, g0 = (uint32_t)(item % a->n_part) * CRIT_LSE_ROWS,
             kv_head = (uint32_t)(item / a->n_part % v->n_kv_head), i = (uint32_t)(item / a->n_part / v->n_kv_head);
    uint32_t n = n_group - g0 < CRIT_LSE_ROWS ? n_group - g0 : CRIT_LSE_ROWS, head = kv_head * n_group + g0;
    uint32_t own = a->pos[i] / CRIT_BLK_LEN + 1, pos[CRIT_LSE_ROWS], d = v->d_head;
    float lse[CRIT_LSE_ROWS], *mass = (float *)(void *)(a->scratch + worker * a->slice);
    float *top = mass + (size_t)a->n_blk * CRIT_LSE_ROWS, *q = top + (size_t)a->n_blk * CRIT_LSE_ROWS;
    memcpy(q, v->q + (size_t)(a->pos[i] - v->pos0) * v->q_stride + (size_t)head * d, (size_t)n * d * sizeof *q);
    for (uint32_t r = 0; r < n; r++) pos[r] = a->pos[i];
    crit_probe_weights(v->plan->kernels, v->kv, kv_head, q, n, pos, v->scale, NULL, q + (size_t)CRIT_LSE_ROWS * d, mass,
                       top, a->n_blk, lse);
    for (uint32_t r = 0; r < n; r++) {
        size_t at = ((size_t)(head + r) * a->n_pos + i) * a->n_blk, row = (size_t)r * a->n_blk;
        for (uint32_t b = 0; b < a->n_blk; b++) a->mass[at + b] = b < own ? mass[row + b] : 0;
        for (uint32_t b = 0; a->peak && b < a->n_blk; b++) a->peak[at + b] = b < own ? expf(top[row + b] - lse[r]) : 0;
    }
}

crit_status crit_view_weights(const crit_layer_view *view, const uint32_t *pos, uint32_t n_pos, float *mass,
                              float *peak, crit_error *err) {
    if (!view || !mass || (n_pos && !pos)) return crit_fail(err, CRIT_E_ARG, "crit_view_weights: bad argument");
    for (uint32_t i = 0; i < n_pos; i++)
        if (pos[i] < view->pos0 || pos[i] - view->pos0 >= view->n_tok)
            return crit_fail(err, CRIT_E_ARG, "crit_view_weights: position %u is not in the chunk", pos[i]);
    weights_arg a = {.view = view, .pos = pos, .mass = mass, .peak = peak, .n_pos = n_pos};
    a.n_blk = crit_view_n_blk(view);
    a.n_part = (view->n_head / view->n_kv_head + CRIT_LSE_ROWS - 1) / CRIT_LSE_ROWS;
    a.slice = CRIT_LSE_ROWS * (2 * (size_t)a.n_blk + view->d_head) * sizeof(float); /* a multiple of CRIT_ALIGN */
    a.slice += (crit_attend_scratch_bytes(view->d_head) + CRIT_ALIGN - 1) & ~(size_t)(CRIT_ALIGN - 1);
    a.scratch = crit_malloc(crit_pool_size(view->plan->pool), a.slice);
    if (!a.scratch) return crit_fail(err, CRIT_E_NOMEM, "out of memory for exact weights");
    crit_pool_run(view->plan->pool, (size_t)n_pos * view->n_kv_head * a.n_part, weights_item, &a);
    crit_free(a.scratch);
    return crit_pool_stopped(view->plan->pool) ? crit_fail(err, CRIT_E_CANCELLED, "cancelled") : CRIT_OK;
}
