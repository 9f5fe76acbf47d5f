/* SPDX-License-Identifier: MIT */
/* Executes a plan: one work item per (query head, span), the kernel does the rest.            [alg:attend] */
#include "sparse/sparse.h"

/* Tiles [t0, t1) of one head, whose lists are the first part of the last one's. */
static void attend_tiles(const crit_attend_job *a, uint32_t head, uint32_t t0, uint32_t t1, void *scratch) {
    crit_plan *p = a->plan;
    const crit_plan_job *job = a->job;
    const crit_plan_row_t *row = crit_plan_at(p, head, t1 - 1);
    uint32_t kv_head = head / (p->n_head / p->n_kv_head), pos = crit_plan_tile_pos(p, t0);
    size_t at = pos - p->pos0;
    crit_attend_args k = {
        .q = job->q + at * job->q_stride + (size_t)head * p->d,
        .q_stride = job->q_stride,
        .k = crit_kv_k(job->kv, kv_head),
        .v = crit_kv_v(job->kv, kv_head),
        .blk = row->ids,
        .n_blk = row->n,
        .out = a->out + at * a->out_stride + (size_t)head * p->d,
        .out_stride = a->out_stride,
        .pos0 = pos,
        .n_key = (size_t)p->pos0 + p->n_tok,
        .scale = p->scale,
        .n_row = crit_plan_tile_pos(p, t1 - 1) + crit_plan_tile_rows(p, t1 - 1) - pos,
        .d = p->d,
        .causal = 1,
        .n_far = row->n_far,
    };
    uint64_t n_skip = 0;
    if (!row->dense && p->params.mode == CRIT_ATTN_CRITI) {
        k.skip = p->params.skip;
        k.n_skip = &n_skip;
    }
    p->kernels->attend(&k, scratch);
    if (n_skip) p->n_skip += n_skip;
}

static void attend_item(void *arg, size_t item, unsigned worker) {
    const crit_attend_job *a = arg;
    crit_plan *p = a->plan;
    /* Last spans first: they are the longest, so the threads finish together.  Heads of a group are neighbours and
     * find their keys in the cache. */
    uint32_t head = (uint32_t)(item % p->n_head), span = crit_plan_n_span(p) - 1 - (uint32_t)(item / p->n_head);
    uint32_t t, end;
    for (crit_plan_span(p, span, &t, &end); t < end;) {
        uint32_t t0 = t++;
        while (t < end && crit_plan_at(p, head, t)->ids == crit_plan_at(p, head, t0)->ids) t++;
        attend_tiles(a, head, t0, t, p->scratch + worker * p->scratch_slice);
    }
}

crit_stage crit_plan_attend_stage(crit_attend_job *a) {
    return (crit_stage){.n_item = (size_t)a->plan->n_head * crit_plan_n_span(a->plan), .task = attend_item, .arg = a};
}
