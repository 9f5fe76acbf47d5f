/* SPDX-License-Identifier: MIT */
/* Executes a plan: one work item per (query head, tile), the kernel does the rest.            [alg:attend] */
#include "sparse/sparse.h"

/* A list for the kernel. */
typedef struct list {
    const uint32_t *ids;
    const uint8_t *want; /* NULL = every tile wants all */
    size_t n, n_far;
    bool dense;
} list;

/* The entries of tiles [t0, t1), ascending, and which tiles want each. */
static list merged(const crit_plan *p, uint32_t head, uint32_t t0, uint32_t t1, uint32_t *ids, uint8_t *want) {
    const crit_plan_row_t *row = crit_plan_at(p, head, t0);
    uint32_t at[CRIT_SPAN_TILES] = {0}, n_tile = t1 - t0;
    list u = {.ids = ids, .want = want, .dense = row->dense};
    for (;;) {
        uint32_t least = UINT32_MAX;
        unsigned bits = 0;
        for (uint32_t t = 0; t < n_tile; t++)
            if (at[t] < row[t].n && row[t].ids[at[t]] < least) least = row[t].ids[at[t]];
        if (least == UINT32_MAX) return u;
        for (uint32_t t = 0; t < n_tile; t++)
            if (at[t] < row[t].n && row[t].ids[at[t]] == least) {
                u.n_far += !bits && at[t] < row[t].n_far; /* far from one is far from all tiles of the span */
                bits |= 1u << t;
                at[t]++;
            }
        ids[u.n] = least;
        want[u.n++] = (uint8_t)bits;
    }
}

static void attend_tiles(const crit_attend_job *a, uint32_t head, uint32_t t0, uint32_t t1, const list *l,
                         void *scratch) {
    crit_plan *p = a->plan;
    const crit_plan_job *job = a->job;
    uint32_t kv_head = head / (p->n_head / p->n_kv_head), pos = crit_plan_tile_pos(p, t0);
    size_t at = pos - p->pos0;
    crit_attend_args k = {
        .q = job->q + at * job->q_stride + (size_t)head * p->d,
        .q_stride = job->q_stride,
        .k = crit_kv_k(job->kv, kv_head),
        .v = crit_kv_v(job->kv, kv_head),
        .blk = l->ids,
        .want = l->want,
        .n_blk = l->n,
        .out = a->out + at * a->out_stride + (size_t)head * p->d,
        .out_stride = a->out_stride,
        .pos0 = pos,
        .n_key = (size_t)p->pos0 + p->n_tok,
        .scale = p->scale,
        .n_row = crit_plan_tile_pos(p, t1 - 1) + crit_plan_tile_rows(p, t1 - 1) - pos,
        .d = p->d,
        .causal = 1,
        .n_far = l->n_far,
        .ready = crit_plan_ready(p, kv_head),
    };
    uint64_t n_skip = 0;
    if (!l->dense && p->params.mode == CRIT_ATTN_CRITI) {
        k.skip = p->params.skip;
        k.n_skip = &n_skip;
    }
    p->kernels->attend(&k, scratch);
    if (n_skip) p->n_skip += n_skip;
}

/* The tiles [t0, ...) before end that go into one call. */
static uint32_t call_end(const crit_plan *p, uint32_t head, uint32_t t0, uint32_t end, bool *mixed) {
    const crit_plan_row_t *row = crit_plan_at(p, head, 0);
    uint32_t t = t0 + 1;
    /* Tiles that share a list: each one's is the first part of the next one's. */
    while (t < end && row[t].ids == row[t0].ids) t++;
    /* Tiles of other lists share the widening of K and V; not where [alg:skip] treats them differently, nor where a
     * level has keys made ready: then full groups of a tile's own are faster (doc/KERNELS.md). */
    const bool any = p->params.mode == CRIT_ATTN_CRITI && crit_plan_tile_pos(p, t0) % CRIT_TILE_LEN == 0 &&
                     !p->kernels->attend_ready;
    const uint32_t shared = t;
    while (any && t < end && (p->params.skip <= 0 || row[t].dense == row[t0].dense)) t++;
    *mixed = t > shared;
    return t;
}

static void attend_item(void *arg, size_t item, unsigned worker) {
    const crit_attend_job *a = arg;
    crit_plan *p = a->plan;
    /* Last tiles first: they are the longest, so the threads finish together.  Heads of a group are neighbours and
     * find their keys in the cache. */
    uint32_t head = (uint32_t)(item % p->n_head), tile = p->n_tile - 1 - (uint32_t)(item / p->n_head), t0, t1, end;
    bool mixed;
    crit_plan_span_of(p, tile, &t0, &end);
    while ((t1 = call_end(p, head, t0, end, &mixed)) <= tile) t0 = t1;
    if (t0 < tile) return; /* the call is its first tile's */
    const crit_plan_row_t *last = crit_plan_at(p, head, t1 - 1);
    list l = {.ids = last->ids, .n = last->n, .n_far = last->n_far, .dense = last->dense};
    void *scratch = p->scratch + worker * p->scratch_slice;
    if (mixed) {
        uint32_t *ids;
        uint8_t *want;
        crit_plan_scratch_list(p, worker, &ids, &want);
        l = merged(p, head, t0, t1, ids, want);
    }
    attend_tiles(a, head, t0, t1, &l, scratch);
}

enum { READY_BLKS = 16 };

static void ready_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const crit_attend_job *a = arg;
    const crit_plan *p = a->plan;
    const uint32_t kv_head = (uint32_t)(item % p->n_kv_head);
    const size_t blk = item / p->n_kv_head * READY_BLKS, key = blk * CRIT_BLK_LEN, end = (size_t)p->pos0 + p->n_tok;
    const size_t n = end - key < READY_BLKS * CRIT_BLK_LEN ? end - key : READY_BLKS * CRIT_BLK_LEN;
    const crit_kv *kv = a->job->kv;
    p->kernels->attend_ready(crit_kv_k(kv, kv_head) + key * p->d, crit_kv_v(kv, kv_head) + key * p->d, n, p->d,
                             crit_plan_ready(p, kv_head) + blk * CRIT_READY_BYTES(p->d));
}

crit_stage crit_plan_ready_stage(crit_attend_job *a) {
    const crit_plan *p = a->plan;
    const size_t n_blk = ((size_t)p->pos0 + p->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    const size_t n = p->use_ready && !p->is_ready ? (n_blk + READY_BLKS - 1) / READY_BLKS * p->n_kv_head : 0;
    return (crit_stage){.n_item = n, .task = ready_item, .arg = a};
}

crit_stage crit_plan_attend_stage(crit_attend_job *a) {
    return (crit_stage){.n_item = (size_t)a->plan->n_head * a->plan->n_tile, .task = attend_item, .arg = a};
}
