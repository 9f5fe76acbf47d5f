/* SPDX-License-Identifier: MIT */
/* The plan of the published rule: one list a segment and KV head. */
#include <string.h>

#include "sparse/plan_parts.h"

static float *fused_of(const crit_plan *p, uint32_t seg, uint32_t kv_head) {
    return p->fused + ((size_t)(seg - p->fused_seg0) * p->n_kv_head + kv_head) * p->stride;
}

/* One list per (KV head, segment); its own blocks stand last, so each tile's list is a prefix of it. */
static void paper_item(void *arg, size_t item, unsigned worker) {
    plan_task *a = arg;
    crit_plan *p = a->p;
    const crit_attn_params *o = &p->params;
    uint32_t kv_head = (uint32_t)(item % p->n_kv_head), s_rel = (uint32_t)(item / p->n_kv_head);
    uint32_t n_group = p->n_head / p->n_kv_head, tiles = o->seg_len / CRIT_TILE_LEN;
    uint32_t grid = (p->seg0 + s_rel) * o->seg_len, end = p->pos0 + p->n_tok;
    uint32_t pos = grid < p->pos0 ? p->pos0 : grid, stop = grid + o->seg_len < end ? grid + o->seg_len : end;
    uint32_t t0 = grid / CRIT_TILE_LEN < p->tile0 ? 0 : grid / CRIT_TILE_LEN - p->tile0;
    uint32_t t1 = (p->seg0 + s_rel + 1) * tiles - p->tile0;
    if (t1 > p->n_tile) t1 = p->n_tile;
    bool last_seg = stop == end && a->job->n_rest == 0;
    uint32_t n_cand = grid / CRIT_BLK_LEN;
    float *fused = fused_of(p, p->seg0 + s_rel, kv_head);
    if (a->job->dense || grid < o->threshold || last_seg || n_cand == 0) {
        /* A layer for which it is not dense fuses with nothing. */
        memset(fused, 0, n_cand * sizeof *fused);
        for (uint32_t h = kv_head * n_group; h < (kv_head + 1) * n_group; h++)
            for (uint32_t t = t0; t < t1; t++) crit_plan_dense_row(p, h, t);
        return;
    }
    plan_scratch s = crit_plan_scratch(p, worker);
    for (uint32_t g = 0; g < n_group; g++)
        crit_represent_mid(a->job->q + (size_t)(pos - p->pos0) * a->job->q_stride +
                               ((size_t)kv_head * n_group + g) * p->d,
                           a->job->q_stride, stop - pos, p->d, s.rep + (size_t)g * p->d);
    crit_score_paper(p->kernels, a->job->kv, kv_head, s.rep, n_group, n_cand, s.share);
    crit_fuse(fused, a->prev ? fused_of(a->prev, p->seg0 + s_rel, kv_head) : NULL, s.share, n_cand, o->alpha);

    uint32_t *ids = p->slots + ((size_t)kv_head * n_group * p->n_tile + t0) * p->stride;
    uint32_t n = (uint32_t)crit_select_top(fused, n_cand, o->budget_tok / CRIT_BLK_LEN, 0, s.keys, ids);
    for (uint32_t b = n_cand; b <= (stop - 1) / CRIT_BLK_LEN; b++) ids[n + b - n_cand] = b;
    for (uint32_t t = t0; t < t1; t++) {
        uint32_t last = (crit_plan_tile_pos(p, t) + crit_plan_tile_rows(p, t) - 1) / CRIT_BLK_LEN;
        crit_plan_row_t row = {.ids = ids, .n = n + last - n_cand + 1};
        for (uint32_t near = crit_plan_first_near(p, t); row.n_far < row.n && ids[row.n_far] < near;) row.n_far++;
        for (uint32_t h = kv_head * n_group; h < (kv_head + 1) * n_group; h++) *crit_plan_at(p, h, t) = row;
    }
}

crit_status crit_plan_paper(crit_plan *p, const crit_plan_job *job, crit_error *err) {
    const crit_plan *prev = job->prev;
    const uint32_t seg0 = p->pos0 / p->params.seg_len, end = (p->pos0 + p->n_tok - 1) / p->params.seg_len + 1;
    const bool fuse = prev && prev->fused && prev->n_kv_head == p->n_kv_head && seg0 >= prev->fused_seg0 &&
                      end <= prev->fused_seg0 + prev->n_fused_seg;
    plan_task a = {p, job, fuse ? prev : NULL};
    p->seg0 = seg0;
    p->n_seg = end - seg0;
    if (!fuse || prev != p) { /* else in place: the last layer may begin behind the chunk's first segment */
        p->fused_seg0 = seg0;
        p->n_fused_seg = p->n_seg;
        if (!crit_plan_grow(&p->fused, &p->n_fused_cap, p->n_seg * p->n_kv_head * p->stride, sizeof *p->fused))
            return crit_fail(err, CRIT_E_NOMEM, "out of memory for the scores of a chunk");
    }
    crit_pool_run(p->pool, (size_t)p->n_kv_head * p->n_seg, paper_item, &a);
    return CRIT_OK;
}
