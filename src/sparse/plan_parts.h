/* SPDX-License-Identifier: MIT */
/* What plan.c, plan_criti.c and plan_paper.c share: a plan being built. */
#ifndef CRIT_PLAN_PARTS_H
#define CRIT_PLAN_PARTS_H

#include "sparse/sparse.h"

/* A thread's scratch, carved in the order of plan.c's scratch_slice. */
typedef struct plan_scratch {
    void *attend;
    float *z, *top, *share, *rep; /* [n_blk][8], [CRIT_LSE_ROWS][n_blk], [n_blk], [max(CRIT_LSE_ROWS, group)][d] */
    float *mass;                  /* [CRIT_TILE_LEN][n_blk], with params.oracle only */
    uint64_t *keys;
} plan_scratch;
plan_scratch crit_plan_scratch(const crit_plan *p, unsigned worker);

typedef struct plan_task {
    crit_plan *p;
    const crit_plan_job *job;
    const crit_plan *prev; /* paper: whose scores are fused with */
} plan_task;

/* Grows an array that need not keep its contents. */
bool crit_plan_grow(void *arr, size_t *cap, size_t need, size_t size);

/* Blocks before it are visited last, in every mode, so that a plan of all blocks has the bits of a dense one; by span,
 * so that dense tiles can go together. */
static inline uint32_t crit_plan_first_near(const crit_plan *p, uint32_t tile) {
    return crit_first_near((p->tile0 + tile) / CRIT_SPAN_TILES * CRIT_ATTEND_ROWS);
}

static inline void crit_plan_dense_row(crit_plan *p, uint32_t head, uint32_t tile) {
    uint32_t last = crit_plan_tile_pos(p, tile) + crit_plan_tile_rows(p, tile) - 1;
    *crit_plan_at(p, head, tile) = (crit_plan_row_t){
        .ids = p->all, .n = last / CRIT_BLK_LEN + 1, .n_far = crit_plan_first_near(p, tile), .dense = true};
}

/* Of our rule, and of the published one.  calib is the layer's and is extended. */
crit_status crit_plan_criti(crit_plan *p, const crit_plan_job *job, crit_calib *calib, crit_error *err);
crit_status crit_plan_paper(crit_plan *p, const crit_plan_job *job, crit_error *err);

#endif
