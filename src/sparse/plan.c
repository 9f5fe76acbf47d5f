/* SPDX-License-Identifier: MIT */
/* Builds the plan of one layer and chunk: which KV blocks each (query head, tile) reads.
 *
 * Owns the order of the stages and their memory; the stages themselves are in the other files.  A row that is dense
 * points at the shared list 0, 1, 2, ...; a sparse row owns a slot of `stride` ids.  Everything a row holds depends on
 * positions up to its tile's end only (and, through n_rest, on where the prompt ends). */
#include "sparse/plan_parts.h"

#include <string.h>

crit_status crit_attn_params_check(const crit_attn_params *p, crit_error *err) {
    if (p->mode != CRIT_ATTN_CRITI && p->mode != CRIT_ATTN_DENSE && p->mode != CRIT_ATTN_PAPER)
        return crit_fail(err, CRIT_E_ARG, "unknown attention mode %d", (int)p->mode);
    if (!(p->theta >= 0 && p->theta <= 100)) return crit_fail(err, CRIT_E_ARG, "theta is not in [0, 100]");
    if (!(p->power >= 0 && p->power <= 4)) return crit_fail(err, CRIT_E_ARG, "power is not in [0, 4]");
    if (!(p->p_mass >= 0 && p->p_mass <= 1)) return crit_fail(err, CRIT_E_ARG, "p_mass is not in [0, 1]");
    if (!(p->lookup >= 0 && p->lookup <= 100)) return crit_fail(err, CRIT_E_ARG, "lookup is not in [0, 100]");
    if (!(p->recall >= 0 && p->recall <= 1)) return crit_fail(err, CRIT_E_ARG, "recall is not in [0, 1]");
    if (p->probe < 16 || p->probe > 4096) return crit_fail(err, CRIT_E_ARG, "probe %u is not in 16..4096", p->probe);
    if (p->oracle > 1) return crit_fail(err, CRIT_E_ARG, "oracle %u is not 0 or 1", p->oracle);
    if (!(p->last_theta >= 0 && p->last_theta <= 100))
        return crit_fail(err, CRIT_E_ARG, "last_theta is not in [0, 100]");
    if (!(p->skip >= 0 && p->skip <= 100)) return crit_fail(err, CRIT_E_ARG, "skip is not in [0, 100]");
    if (p->max_tok && p->max_tok < p->min_tok) return crit_fail(err, CRIT_E_ARG, "max_tok is below min_tok");
    if (p->seg_len == 0 || p->seg_len % CRIT_ATTEND_ROWS || p->seg_len > 4096)
        return crit_fail(err, CRIT_E_ARG, "seg_len %u is not a multiple of %d in %d..4096", p->seg_len,
                         CRIT_ATTEND_ROWS, CRIT_ATTEND_ROWS);
    if (!(p->alpha >= 0 && p->alpha <= 1)) return crit_fail(err, CRIT_E_ARG, "alpha is not in [0, 1]");
    return CRIT_OK;
}

uint32_t crit_attn_align(const crit_attn_params *p) {
    return p->mode == CRIT_ATTN_PAPER ? p->seg_len : CRIT_ATTEND_ROWS;
}

uint32_t crit_attn_tail(const crit_attn_params *p) {
    return p->mode == CRIT_ATTN_DENSE ? 0 : p->mode == CRIT_ATTN_PAPER ? p->seg_len : p->last_tok;
}

/* Rows of plan_scratch.rep. */
static size_t rep_rows(uint32_t n_group) {
    return n_group > CRIT_LSE_ROWS ? n_group : CRIT_LSE_ROWS;
}

static size_t scratch_slice(const crit_attn_params *o, uint32_t d, size_t n_blk, uint32_t n_group) {
    size_t bytes = crit_attend_scratch_bytes(d);
    bytes += n_blk * ((CRIT_REP_MAX + CRIT_LSE_ROWS + 1) * sizeof(float) + sizeof(uint64_t));
    if (o->oracle) bytes += n_blk * CRIT_LSE_ROWS * sizeof(float);
    bytes += rep_rows(n_group) * d * sizeof(float);
    return (bytes + 8 * CRIT_ALIGN) & ~(size_t)(CRIT_ALIGN - 1);
}

static uint32_t max_tiles(uint32_t n_tok) {
    return n_tok / CRIT_TILE_LEN + 2;
}

/* By eighths above 64 blocks, so that a stream of chunks does not allocate for every one. */
static size_t stride_of(size_t n_blk) {
    const size_t step = n_blk > 512 ? 256 : 64;
    return (n_blk + step - 1) / step * step;
}

/* Whether making K and V ready once is less work than what calls would do each: one does it for the blocks of a head
 * and tile, a third of all or less where that matters. */
static bool ready_pays(const crit_kernels *kt, uint32_t n_head, uint32_t n_kv_head, uint32_t n_tile) {
    return kt->attend_ready && n_head / n_kv_head * n_tile > 3;
}

size_t crit_plan_estimate_bytes(const crit_kernels *kt, const crit_attn_params *p, uint32_t n_head, uint32_t n_kv_head,
                                uint32_t d, uint32_t n_batch, uint32_t n_ctx, unsigned n_thread) {
    size_t n_blk = n_ctx / CRIT_BLK_LEN + 1, rows = (size_t)n_head * max_tiles(n_batch);
    size_t bytes = rows * sizeof(crit_plan_row_t) + n_blk * sizeof(uint32_t);
    if (ready_pays(kt, n_head, n_kv_head, max_tiles(n_batch)))
        bytes += n_kv_head * stride_of(n_blk) * CRIT_READY_BYTES(d);
    if (p->mode != CRIT_ATTN_DENSE) bytes += rows * n_blk * sizeof(uint32_t);
    if (p->mode == CRIT_ATTN_CRITI) {
        size_t n_probe = n_batch / p->probe + 2;
        bytes += n_probe * n_head * (n_blk * sizeof(float) + sizeof(crit_probe) + sizeof(crit_gain));
        bytes += n_probe * sizeof(uint32_t);
    }
    if (p->mode == CRIT_ATTN_PAPER) bytes += (size_t)(n_batch / p->seg_len + 2) * n_kv_head * n_blk * sizeof(float);
    return bytes + n_thread * scratch_slice(p, d, n_blk, n_head / n_kv_head);
}

crit_status crit_plan_init(crit_plan *p, crit_pool *pool, const crit_kernels *kernels, uint32_t n_head,
                           uint32_t n_kv_head, uint32_t d, const crit_attn_params *params, crit_error *err) {
    memset(p, 0, sizeof *p);
    crit_status st = crit_attn_params_check(params, err);
    if (st) return st;
    if (n_kv_head == 0 || n_head == 0 || n_head % n_kv_head)
        return crit_fail(err, CRIT_E_ARG, "%u query heads on %u KV heads", n_head, n_kv_head);
    if (d == 0 || d % 8 || d > CRIT_D_HEAD_MAX)
        return crit_fail(err, CRIT_E_ARG, "d_head %u is not a multiple of 8 in 8..%d", d, CRIT_D_HEAD_MAX);
    p->pool = pool;
    p->kernels = kernels;
    p->params = *params;
    p->cost = crit_cost_of(kernels->cpu);
    p->n_head = n_head;
    p->n_kv_head = n_kv_head;
    p->d = d;
    p->ready = &p->own_ready;
    return CRIT_OK;
}

void crit_plan_clear(crit_plan *p) {
    crit_free(p->rows);
    crit_free(p->slots);
    crit_free(p->all);
    crit_free(p->fused);
    crit_unmap(p->own_ready.at, p->own_ready.cap);
    crit_free(p->scratch);
    crit_free(p->probes);
    crit_free(p->probe_at);
    crit_free(p->probe_mass);
    crit_free(p->gains);
    crit_calib_clear(&p->own_calib);
    memset(p, 0, sizeof *p);
}

size_t crit_plan_used_bytes(const crit_plan *p) {
    const crit_calib *c = &p->own_calib;
    size_t bytes = p->n_rows_cap * sizeof *p->rows + (p->n_slots_cap + p->n_all) * sizeof(uint32_t);
    bytes += (p->n_fused_cap + p->n_probe_mass_cap) * sizeof(float) + p->own_ready.cap + p->n_scratch;
    bytes += p->n_probes_cap * sizeof *p->probes + p->n_probe_at_cap * sizeof *p->probe_at;
    bytes += p->n_gains_cap * sizeof *p->gains + (size_t)c->cap * c->n_head * sizeof *c->marks;
    return bytes + (c->total ? c->n_head * sizeof *c->total : 0);
}

bool crit_plan_grow(void *arr, size_t *cap, size_t need, size_t size) {
    void **a = arr;
    if (need <= *cap) return true;
    crit_free(*a);
    *a = crit_malloc(need, size);
    *cap = *a ? need : 0;
    return *a != NULL;
}

/* The old room goes when the new one is there: other plans, built already, may still be run with it. */
static bool reserve_ready(crit_ready_room *r, size_t bytes) {
    if (bytes <= r->cap) return true;
    unsigned char *at = crit_map(bytes);
    if (!at) return false;
    crit_unmap(r->at, r->cap);
    r->at = at;
    r->cap = bytes;
    return true;
}

static crit_status reserve(crit_plan *p, bool sparse, crit_error *err) {
    size_t n_blk = ((size_t)p->pos0 + p->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    size_t n_blk_up = stride_of(n_blk);
    size_t n_rows = (size_t)p->n_head * p->n_tile, had = p->n_all;
    bool ok = crit_plan_grow(&p->rows, &p->n_rows_cap, n_rows, sizeof *p->rows) &&
              crit_plan_grow(&p->all, &p->n_all, n_blk_up, sizeof *p->all);
    if (ok && p->n_all != had)
        for (size_t i = 0; i < p->n_all; i++) p->all[i] = (uint32_t)i;
    p->stride = n_blk_up;
    if (ok && sparse) ok = crit_plan_grow(&p->slots, &p->n_slots_cap, n_rows * p->stride, sizeof *p->slots);
    p->use_ready = ready_pays(p->kernels, p->n_head, p->n_kv_head, p->n_tile);
    if (ok && p->use_ready) ok = reserve_ready(p->ready, p->n_kv_head * p->stride * CRIT_READY_BYTES(p->d));
    size_t slice = scratch_slice(&p->params, p->d, n_blk_up, p->n_head / p->n_kv_head);
    if (ok && slice > p->scratch_slice) {
        ok = crit_plan_grow(&p->scratch, &p->n_scratch, slice * crit_pool_size(p->pool), 1);
        p->scratch_slice = ok ? slice : 0;
    }
    return ok ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory for an attention plan of %zu blocks", n_blk);
}

plan_scratch crit_plan_scratch(const crit_plan *p, unsigned worker) {
    unsigned char *at = p->scratch + worker * p->scratch_slice;
    plan_scratch s;
    s.attend = at;
    at += (crit_attend_scratch_bytes(p->d) + CRIT_ALIGN - 1) & ~(size_t)(CRIT_ALIGN - 1);
    s.z = (float *)at;
    at += p->stride * CRIT_REP_MAX * sizeof(float);
    s.top = (float *)at;
    at += p->stride * CRIT_LSE_ROWS * sizeof(float);
    s.keys = (uint64_t *)at;
    at += p->stride * sizeof(uint64_t);
    s.share = (float *)at;
    at += p->stride * sizeof(float);
    s.rep = (float *)at;
    at += rep_rows(p->n_head / p->n_kv_head) * p->d * sizeof(float);
    s.mass = p->params.oracle ? (float *)at : NULL;
    return s;
}

void crit_plan_scratch_list(const crit_plan *p, unsigned worker, uint32_t **ids, uint8_t **want) {
    plan_scratch s = crit_plan_scratch(p, worker);
    *ids = (uint32_t *)(void *)s.z;
    *want = (uint8_t *)s.keys;
}

/* Visible pairs of a row's list: whole blocks before the tile, then the causal triangle of its own. */
static double row_pairs(const crit_plan *p, uint32_t head, uint32_t tile) {
    const crit_plan_row_t *row = crit_plan_at(p, head, tile);
    uint32_t pos = crit_plan_tile_pos(p, tile), n_row = crit_plan_tile_rows(p, tile), own = pos / CRIT_BLK_LEN,
             n = row->n;
    while (n && row->ids[n - 1] >= own) n--;
    double first = (double)pos - (double)own * CRIT_BLK_LEN + 1;
    return (double)n * CRIT_BLK_LEN * n_row + n_row * first + 0.5 * n_row * (n_row - 1.0);
}

crit_status crit_plan_make(crit_plan *p, const crit_plan_job *job, crit_calib *calib, crit_error *err) {
    uint64_t t0 = crit_now_ns(), before = p->ready_ns;
    p->pos0 = job->pos0;
    p->n_tok = job->n_tok;
    p->scale = job->scale;
    p->tile0 = p->pos0 / CRIT_TILE_LEN;
    p->n_tile = (p->pos0 + p->n_tok - 1) / CRIT_TILE_LEN - p->tile0 + 1;
    crit_attn mode = job->dense ? CRIT_ATTN_DENSE : p->params.mode;
    crit_status st = reserve(p, mode != CRIT_ATTN_DENSE, err);
    if (st) return st;

    p->n_probe = 0;
    p->is_ready = false;
    if (mode == CRIT_ATTN_CRITI)
        st = crit_plan_criti(p, job, calib, err);
    else if (mode == CRIT_ATTN_PAPER)
        st = crit_plan_paper(p, job, err);
    else
        for (uint32_t h = 0; h < p->n_head; h++)
            for (uint32_t t = 0; t < p->n_tile; t++) crit_plan_dense_row(p, h, t);
    if (st) return st;

    /* A stopped pool leaves rows unwritten. */
    if (crit_pool_stopped(p->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    p->pairs = 0;
    for (uint32_t h = 0; h < p->n_head; h++)
        for (uint32_t t = 0; t < p->n_tile; t++) p->pairs += row_pairs(p, h, t);
    double n = p->n_tok;
    p->pairs_causal = p->n_head * (n * ((double)p->pos0 + 1) + 0.5 * n * (n - 1));
    p->estimate_ns += crit_now_ns() - t0 - (p->ready_ns - before);
    return CRIT_OK;
}
