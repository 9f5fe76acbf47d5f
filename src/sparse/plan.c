/* SPDX-License-Identifier: MIT */
/* Builds the plan of one layer and chunk: which KV blocks each (query head, tile) reads.
 *
 * Owns the order of the stages and their memory; the stages themselves are in the other files.  A row that is dense
 * points at the shared list 0, 1, 2, ...; a sparse row owns a slot of `stride` ids.  Everything a row holds depends on
 * positions up to its tile's end only (and, through n_rest, on where the prompt ends). */
#include "sparse/sparse.h"

#include <math.h>
#include <string.h>

#define CRIT_CAL_FROM 512 /* earlier probes say little: they have hardly any far keys */

crit_status crit_attn_params_check(const crit_attn_params *p, crit_error *err) {
    if (p->mode != CRIT_ATTN_CRITI && p->mode != CRIT_ATTN_DENSE && p->mode != CRIT_ATTN_PAPER)
        return crit_fail(err, CRIT_E_ARG, "unknown attention mode %d", (int)p->mode);
    if (!(p->theta >= 0 && p->theta <= 100)) return crit_fail(err, CRIT_E_ARG, "theta is not in [0, 100]");
    if (!(p->power >= 0 && p->power <= 4)) return crit_fail(err, CRIT_E_ARG, "power is not in [0, 4]");
    if (!(p->p_mass >= 0 && p->p_mass <= 1)) return crit_fail(err, CRIT_E_ARG, "p_mass is not in [0, 1]");
    if (!(p->recall >= 0 && p->recall <= 1)) return crit_fail(err, CRIT_E_ARG, "recall is not in [0, 1]");
    if (p->probe < 16 || p->probe > 4096) return crit_fail(err, CRIT_E_ARG, "probe %u is not in 16..4096", p->probe);
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
    return p->mode == CRIT_ATTN_DENSE ? 0 : p->mode == CRIT_ATTN_PAPER ? p->seg_len : p->dense_last;
}

static size_t scratch_slice(uint32_t d, size_t n_blk, uint32_t n_group) {
    size_t bytes = crit_attend_scratch_bytes(d);
    bytes += n_blk * ((CRIT_REP_MAX + CRIT_LSE_ROWS + 1) * sizeof(float) + sizeof(uint64_t));
    bytes += (size_t)(n_group > CRIT_LSE_ROWS ? n_group : CRIT_LSE_ROWS) * d * sizeof(float);
    return (bytes + 8 * CRIT_ALIGN) & ~(size_t)(CRIT_ALIGN - 1);
}

static uint32_t max_tiles(uint32_t n_tok) {
    return n_tok / CRIT_TILE_LEN + 2;
}

size_t crit_plan_estimate_bytes(const crit_attn_params *p, uint32_t n_head, uint32_t n_kv_head, uint32_t d,
                                uint32_t n_batch, uint32_t n_ctx, unsigned n_thread) {
    size_t n_blk = n_ctx / CRIT_BLK_LEN + 1, rows = (size_t)n_head * max_tiles(n_batch);
    size_t bytes = rows * sizeof(crit_plan_row_t) + n_blk * sizeof(uint32_t);
    if (p->mode != CRIT_ATTN_DENSE) bytes += rows * n_blk * sizeof(uint32_t);
    if (p->mode == CRIT_ATTN_CRITI) {
        size_t n_probe = n_batch / p->probe + 2;
        bytes += n_probe * n_head * (n_blk * sizeof(float) + sizeof(crit_probe) + sizeof(crit_gain));
    }
    if (p->mode == CRIT_ATTN_PAPER) bytes += (size_t)(n_batch / p->seg_len + 2) * n_kv_head * n_blk * sizeof(float);
    return bytes + n_thread * scratch_slice(d, n_blk, n_head / n_kv_head);
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
    return CRIT_OK;
}

void crit_plan_clear(crit_plan *p) {
    crit_free(p->rows);
    crit_free(p->slots);
    crit_free(p->all);
    crit_free(p->fused);
    crit_free(p->scratch);
    crit_free(p->probes);
    crit_free(p->probe_mass);
    crit_free(p->gains);
    crit_calib_clear(&p->own_calib);
    memset(p, 0, sizeof *p);
}

/* Grows an array that need not keep its contents. */
static bool grow(void *arr, size_t *cap, size_t need, size_t size) {
    void **a = arr;
    if (need <= *cap) return true;
    crit_free(*a);
    *a = crit_malloc(need, size);
    *cap = *a ? need : 0;
    return *a != NULL;
}

static crit_status reserve(crit_plan *p, bool sparse, crit_error *err) {
    size_t n_blk = ((size_t)p->pos0 + p->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    /* By eighths above 64 blocks, so that a stream of chunks does not allocate for every one. */
    size_t step = n_blk > 512 ? 256 : 64, n_blk_up = (n_blk + step - 1) / step * step;
    size_t n_rows = (size_t)p->n_head * p->n_tile, had = p->n_all;
    bool ok =
        grow(&p->rows, &p->n_rows_cap, n_rows, sizeof *p->rows) && grow(&p->all, &p->n_all, n_blk_up, sizeof *p->all);
    if (ok && p->n_all != had)
        for (size_t i = 0; i < p->n_all; i++) p->all[i] = (uint32_t)i;
    p->stride = n_blk_up;
    if (ok && sparse) ok = grow(&p->slots, &p->n_slots_cap, n_rows * p->stride, sizeof *p->slots);
    size_t slice = scratch_slice(p->d, n_blk_up, p->n_head / p->n_kv_head);
    if (ok && slice > p->scratch_slice) {
        ok = grow(&p->scratch, &p->n_scratch, slice * crit_pool_size(p->pool), 1);
        p->scratch_slice = ok ? slice : 0;
    }
    return ok ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory for an attention plan of %zu blocks", n_blk);
}

/* A thread's scratch, carved in the order of scratch_slice. */
typedef struct scratch {
    void *attend;
    float *z, *top, *share, *rep; /* [n_blk][8], [CRIT_LSE_ROWS][n_blk], [n_blk], [max(CRIT_LSE_ROWS, group)][d] */
    uint64_t *keys;
} scratch;

static scratch scratch_of(const crit_plan *p, unsigned worker) {
    unsigned char *at = p->scratch + worker * p->scratch_slice;
    scratch s;
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
    return s;
}

void crit_plan_scratch_list(const crit_plan *p, unsigned worker, uint32_t **ids, uint8_t **want) {
    scratch s = scratch_of(p, worker);
    *ids = (uint32_t *)(void *)s.z;
    *want = (uint8_t *)s.keys;
}

/* ---- rows ---- */

typedef struct row_arg {
    crit_plan *p;
    const crit_plan_job *job;
    const crit_calib *calib;
} row_arg;

/* Blocks before it are far from the tile; 0 when the tile has none. */
static uint32_t first_local(const crit_plan *p, uint32_t tile) {
    return crit_first_near((p->tile0 + tile) * CRIT_TILE_LEN);
}

/* Blocks before it are visited last, in every mode, so that a plan of all blocks has the bits of a dense one; by span,
 * so that dense tiles can go together. */
static uint32_t first_near(const crit_plan *p, uint32_t tile) {
    return crit_first_near((p->tile0 + tile) / CRIT_SPAN_TILES * CRIT_ATTEND_ROWS);
}

static void dense_row(crit_plan *p, uint32_t head, uint32_t tile) {
    uint32_t last = crit_plan_tile_pos(p, tile) + crit_plan_tile_rows(p, tile) - 1;
    *crit_plan_at(p, head, tile) =
        (crit_plan_row_t){.ids = p->all, .n = last / CRIT_BLK_LEN + 1, .n_far = first_near(p, tile), .dense = true};
}

/* How many probes of the chunk lie in the tile; *first: the first one's index in p->probes. */
static uint32_t tile_probes(const crit_plan *p, uint32_t tile, uint32_t *first) {
    uint32_t step = p->params.probe, pos = crit_plan_tile_pos(p, tile), end = pos + crit_plan_tile_rows(p, tile);
    uint32_t a = (pos + step - 1) / step, b = (end + step - 1) / step;
    if (a < p->probe0) a = p->probe0;
    if (b > p->probe0 + p->n_probe) b = p->probe0 + p->n_probe;
    if (first) *first = a - p->probe0;
    return b > a ? b - a : 0;
}

static bool criti_tile_is_dense(const crit_plan *p, const crit_plan_job *job, uint32_t tile) {
    uint32_t grid = (p->tile0 + tile) * CRIT_TILE_LEN, pos = crit_plan_tile_pos(p, tile);
    uint64_t total = (uint64_t)p->pos0 + p->n_tok + job->n_rest,
             tile_end = (uint64_t)pos + crit_plan_tile_rows(p, tile);
    return job->dense || grid < p->params.dense_until || first_local(p, tile) <= CRIT_SINK_BLK ||
           tile_end + p->params.dense_last > total || !crit_cost_estimate_pays(&p->cost, crit_plan_tile_rows(p, tile));
}

/* Far blocks of a tile that a plan may leave out. */
static uint32_t n_free_of(const crit_plan *p, uint32_t tile) {
    uint32_t local = first_local(p, tile);
    return local > CRIT_SINK_BLK ? local - CRIT_SINK_BLK : 0;
}

static uint32_t *slot_of(const crit_plan *p, uint32_t head, uint32_t tile) {
    return p->slots + ((size_t)head * p->n_tile + tile) * p->stride;
}

static float *share_of(const crit_plan *p, uint32_t head, uint32_t tile) {
    return (float *)(void *)slot_of(p, head, tile);
}

/* Shares of one head's tiles in a span, into the slots that their ids will take. */
static void share_item(void *arg, size_t item, unsigned worker) {
    row_arg *a = arg;
    crit_plan *p = a->p;
    uint32_t head = (uint32_t)(item % p->n_head), t0, t1, n_free[CRIT_SPAN_TILES];
    bool wanted = false;
    crit_plan_span(p, (uint32_t)(item / p->n_head), &t0, &t1);
    while (t0 < t1 && !n_free_of(p, t0)) t0++;
    for (uint32_t t = t0; t < t1; t++) wanted |= !criti_tile_is_dense(p, a->job, t) || tile_probes(p, t, NULL) > 0;
    if (!wanted) return;
    scratch s = scratch_of(p, worker);
    for (uint32_t t = t0; t < t1; t++) {
        uint32_t pos = crit_plan_tile_pos(p, t);
        const float *q = a->job->q + (size_t)(pos - p->pos0) * a->job->q_stride + (size_t)head * p->d;
        crit_represent_means(p->kernels, q, a->job->q_stride, pos, crit_plan_tile_rows(p, t), p->d,
                             s.rep + (size_t)(t - t0) * CRIT_TILE_REPS * p->d);
        n_free[t - t0] = n_free_of(p, t);
    }
    crit_score_share(p->kernels, a->job->kv, head / (p->n_head / p->n_kv_head), s.rep, t1 - t0, n_free, p->scale, s.z,
                     share_of(p, head, t0), p->stride);
}

static float *mass_of(const crit_plan *p, uint32_t probe, uint32_t head) {
    size_t n_group = p->n_head / p->n_kv_head, kv_head = head / n_group;
    return p->probe_mass + ((kv_head * p->n_probe + probe) * n_group + head % n_group) * p->stride;
}

static size_t probe_parts(const crit_plan *p) {
    return ((size_t)p->n_probe * (p->n_head / p->n_kv_head) + CRIT_LSE_ROWS - 1) / CRIT_LSE_ROWS;
}

/* Up to CRIT_LSE_ROWS of the (probe, head) rows of one KV head.                               [alg:calibrate] */
static void probe_item(void *arg, size_t item, unsigned worker) {
    row_arg *a = arg;
    crit_plan *p = a->p;
    uint32_t n_group = p->n_head / p->n_kv_head, n_part = (uint32_t)probe_parts(p);
    uint32_t kv_head = (uint32_t)(item / n_part), row0 = (uint32_t)(item % n_part) * CRIT_LSE_ROWS;
    uint32_t left = p->n_probe * n_group - row0, n = left < CRIT_LSE_ROWS ? left : CRIT_LSE_ROWS, pos[CRIT_LSE_ROWS];
    float lse[CRIT_LSE_ROWS], *mass = mass_of(p, 0, kv_head * n_group) + row0 * p->stride;
    scratch s = scratch_of(p, worker);
    for (uint32_t r = 0; r < n; r++) {
        pos[r] = (p->probe0 + (row0 + r) / n_group) * p->params.probe;
        memcpy(s.rep + (size_t)r * p->d,
               a->job->q + (size_t)(pos[r] - p->pos0) * a->job->q_stride +
                   (size_t)(kv_head * n_group + (row0 + r) % n_group) * p->d,
               p->d * sizeof *s.rep);
    }
    crit_probe_weights(p->kernels, a->job->kv, kv_head, s.rep, n, pos, p->scale, s.attend, mass, s.top, p->stride, lse);
    for (uint32_t r = 0; r < n; r++) {
        uint32_t head = kv_head * n_group + (row0 + r) % n_group, tile = pos[r] / CRIT_TILE_LEN - p->tile0;
        crit_probe_judge(&p->probes[(size_t)((row0 + r) / n_group) * p->n_head + head], mass + r * p->stride,
                         s.top + r * p->stride, lse[r], share_of(p, head, tile), n_free_of(p, tile), p->params.power);
    }
}

/* The probes of a tile looked at again with its plan.                                             [alg:check] */
static void check_tile(crit_plan *p, uint32_t head, uint32_t tile) {
    const crit_plan_row_t *row = crit_plan_at(p, head, tile);
    uint32_t i, n = tile_probes(p, tile, &i);
    for (n += i; i < n; i++) {
        crit_probe *pr = &p->probes[(size_t)i * p->n_head + head];
        const float *mass = mass_of(p, i, head);
        uint32_t last = (p->probe0 + i) * p->params.probe / CRIT_BLK_LEN;
        double kept = 0;
        pr->peak_kept = row->dense;
        for (uint32_t j = 0; j < row->n && row->ids[j] <= last && !row->dense; j++) {
            kept += (double)mass[row->ids[j]];
            pr->peak_kept |= row->ids[j] == pr->peak_blk;
        }
        pr->kept = row->dense ? 1 : (float)kept;
        pr->judged = true;
    }
}

/* What the probes before position pos of the chunk add up to: a tile's plan does not know its own probes, so that these
 * can judge it. */
static const crit_gain *gain_before(const crit_plan *p, uint32_t head, uint32_t pos) {
    uint32_t n = (pos + p->params.probe - 1) / p->params.probe;
    n = n <= p->probe0 ? 0 : n - p->probe0 > p->n_probe ? p->n_probe : n - p->probe0;
    return &p->gains[(size_t)n * p->n_head + head];
}

static void criti_item(void *arg, size_t item, unsigned worker) {
    row_arg *a = arg;
    crit_plan *p = a->p;
    const crit_attn_params *o = &p->params;
    uint32_t head = (uint32_t)(item % p->n_head), tile = (uint32_t)(item / p->n_head);
    uint32_t pos = crit_plan_tile_pos(p, tile), n_row = crit_plan_tile_rows(p, tile), end = pos + n_row - 1;
    const crit_gain *gain = gain_before(p, head, pos);
    if (criti_tile_is_dense(p, a->job, tile) || !gain->n_probe) {
        dense_row(p, head, tile);
        return;
    }
    scratch s = scratch_of(p, worker);
    uint32_t local = first_local(p, tile), last = end / CRIT_BLK_LEN, n_free = local - CRIT_SINK_BLK;
    uint32_t *ids = slot_of(p, head, tile), n = 0;
    memcpy(s.share, share_of(p, head, tile), n_free * sizeof *s.share);
    for (uint32_t b = 0; b < CRIT_SINK_BLK; b++) ids[n++] = b;
    /* theta is in units of a block's even share of all blocks up to here.  DEVIATION: the design divides by the blocks
     * of the whole prompt, which a stream does not know. */
    float least = o->theta / (float)(last + 1), thresh;
    if (o->power > 0)
        thresh = crit_gain_threshold(gain, o->power, least, 1 - o->p_mass, 1 - o->recall, n_free);
    else
        thresh = gain->sigma > 0 ? (float)((double)least * gain->n_probe / gain->sigma) : INFINITY;
    size_t kept;
    if (o->theta <= 0 || thresh <= 0)
        kept = crit_select_top(s.share, n_free, n_free, CRIT_SINK_BLK, s.keys, ids + n);
    else
        kept = p->kernels->select_above(s.share, n_free, thresh, CRIT_SINK_BLK, ids + n);
    size_t floor_blk = (o->min_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN, cap_blk = o->max_tok / CRIT_BLK_LEN;
    if (kept < floor_blk)
        kept = crit_select_top(s.share, n_free, floor_blk, CRIT_SINK_BLK, s.keys, ids + n);
    else if (o->max_tok && kept > cap_blk)
        kept = crit_select_top(s.share, n_free, cap_blk, CRIT_SINK_BLK, s.keys, ids + n);
    /* A cap is a promise: what it left out stays out. */
    bool capped = o->max_tok && n_free > cap_blk;
    if (!capped && o->skip <= 0 && crit_cost_dense_wins(&p->cost, kept, n_free)) {
        dense_row(p, head, tile);
    } else {
        uint32_t n_far = n += (uint32_t)kept, near = first_near(p, tile);
        while (n_far && ids[n_far - 1] >= near) n_far--;
        for (uint32_t b = local; b <= last; b++) ids[n++] = b;
        *crit_plan_at(p, head, tile) = (crit_plan_row_t){.ids = ids, .n = n, .n_far = n_far};
    }
    check_tile(p, head, tile);
}

/* Estimate, calibrate, select, check: what the calling thread does between the parallel parts is linear in probes. */
static crit_status criti_plan(crit_plan *p, row_arg *a, crit_calib *calib, crit_error *err) {
    uint32_t end = p->pos0 + p->n_tok, step = p->params.probe;
    crit_status st = crit_calib_reserve(calib, p->n_head, step, end, err);
    if (st) return st;
    uint32_t from = p->pos0 > CRIT_CAL_FROM ? p->pos0 : CRIT_CAL_FROM;
    p->probe0 = (from + step - 1) / step;
    p->n_probe = (size_t)p->probe0 * step < end ? (end - 1) / step - p->probe0 + 1 : 0;
    size_t n = (size_t)p->n_probe * p->n_head;
    if (!grow(&p->probes, &p->n_probes_cap, n, sizeof *p->probes) ||
        !grow(&p->probe_mass, &p->n_probe_mass_cap, n * p->stride, sizeof *p->probe_mass) ||
        !grow(&p->gains, &p->n_gains_cap, n + p->n_head, sizeof *p->gains))
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for calibration");
    crit_stage stages[] = {{.n_item = (size_t)p->n_head * crit_plan_n_span(p), .task = share_item, .arg = a},
                           {.n_item = p->n_kv_head * probe_parts(p), .task = probe_item, .arg = a}};
    crit_pool_run_stages(p->pool, stages, 2);
    if (crit_pool_stopped(p->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    /* Positions that had none (early ones, decoded tokens) have empty entries. */
    while (p->n_probe && calib->n < p->probe0) crit_calib_push(calib, NULL);
    memcpy(p->gains, calib->total, p->n_head * sizeof *p->gains);
    for (uint32_t i = 0; i < p->n_probe; i++) {
        crit_calib_push(calib, p->probes + (size_t)i * p->n_head);
        memcpy(p->gains + (size_t)(i + 1) * p->n_head, calib->total, p->n_head * sizeof *p->gains);
    }
    crit_pool_run(p->pool, (size_t)p->n_head * p->n_tile, criti_item, a);
    if (crit_pool_stopped(p->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    for (size_t i = 0; i < n; i++) {
        const crit_probe *pr = &p->probes[i];
        if (!pr->judged) continue;
        p->check.n++;
        p->check.mass += (double)pr->kept;
        p->check.n_peak += pr->peak > CRIT_PEAK_WEIGHT;
        p->check.peak_kept += pr->peak > CRIT_PEAK_WEIGHT && pr->peak_kept;
    }
    return CRIT_OK;
}

/* One list per (KV head, segment); its own blocks stand last, so each tile's list is a prefix of it. */
static void paper_item(void *arg, size_t item, unsigned worker) {
    row_arg *a = arg;
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
    if (a->job->dense || grid < o->threshold || last_seg || n_cand == 0) {
        for (uint32_t h = kv_head * n_group; h < (kv_head + 1) * n_group; h++)
            for (uint32_t t = t0; t < t1; t++) dense_row(p, h, t);
        return;
    }
    scratch s = scratch_of(p, worker);
    for (uint32_t g = 0; g < n_group; g++)
        crit_represent_mid(a->job->q + (size_t)(pos - p->pos0) * a->job->q_stride +
                               ((size_t)kv_head * n_group + g) * p->d,
                           a->job->q_stride, stop - pos, p->d, s.rep + (size_t)g * p->d);
    crit_score_paper(p->kernels, a->job->kv, kv_head, s.rep, n_group, n_cand, s.share);
    const crit_plan *prev = a->job->prev;
    size_t at = (size_t)s_rel * p->n_kv_head + kv_head;
    bool fuse =
        prev && prev->fused && prev->seg0 == p->seg0 && prev->n_seg == p->n_seg && prev->n_kv_head == p->n_kv_head;
    float *fused = p->fused + at * p->stride;
    crit_fuse(fused, fuse ? prev->fused + at * prev->stride : NULL, s.share, n_cand, o->alpha);

    uint32_t *ids = p->slots + ((size_t)kv_head * n_group * p->n_tile + t0) * p->stride;
    uint32_t n = (uint32_t)crit_select_top(fused, n_cand, o->budget_tok / CRIT_BLK_LEN, 0, s.keys, ids);
    for (uint32_t b = n_cand; b <= (stop - 1) / CRIT_BLK_LEN; b++) ids[n + b - n_cand] = b;
    for (uint32_t t = t0; t < t1; t++) {
        uint32_t last = (crit_plan_tile_pos(p, t) + crit_plan_tile_rows(p, t) - 1) / CRIT_BLK_LEN;
        crit_plan_row_t row = {.ids = ids, .n = n + last - n_cand + 1};
        for (uint32_t near = first_near(p, t); row.n_far < row.n && ids[row.n_far] < near;) row.n_far++;
        for (uint32_t h = kv_head * n_group; h < (kv_head + 1) * n_group; h++) *crit_plan_at(p, h, t) = row;
    }
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
    uint64_t t0 = crit_now_ns();
    p->pos0 = job->pos0;
    p->n_tok = job->n_tok;
    p->scale = job->scale;
    p->tile0 = p->pos0 / CRIT_TILE_LEN;
    p->n_tile = (p->pos0 + p->n_tok - 1) / CRIT_TILE_LEN - p->tile0 + 1;
    crit_attn mode = job->dense ? CRIT_ATTN_DENSE : p->params.mode;
    crit_status st = reserve(p, mode != CRIT_ATTN_DENSE, err);
    if (st) return st;

    row_arg a = {p, job, calib};
    p->n_probe = 0;
    if (mode == CRIT_ATTN_CRITI) {
        st = criti_plan(p, &a, calib, err);
        if (st) return st;
    } else if (mode == CRIT_ATTN_PAPER) {
        p->seg0 = p->pos0 / p->params.seg_len;
        p->n_seg = (p->pos0 + p->n_tok - 1) / p->params.seg_len - p->seg0 + 1;
        if (!grow(&p->fused, &p->n_fused_cap, p->n_seg * p->n_kv_head * p->stride, sizeof *p->fused))
            return crit_fail(err, CRIT_E_NOMEM, "out of memory for the scores of a chunk");
        crit_pool_run(p->pool, (size_t)p->n_kv_head * p->n_seg, paper_item, &a);
    } else {
        for (uint32_t h = 0; h < p->n_head; h++)
            for (uint32_t t = 0; t < p->n_tile; t++) dense_row(p, h, t);
    }

    /* A stopped pool leaves rows unwritten. */
    if (crit_pool_stopped(p->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    p->pairs = 0;
    for (uint32_t h = 0; h < p->n_head; h++)
        for (uint32_t t = 0; t < p->n_tile; t++) p->pairs += row_pairs(p, h, t);
    double n = p->n_tok;
    p->pairs_causal = p->n_head * (n * ((double)p->pos0 + 1) + 0.5 * n * (n - 1));
    p->estimate_ns += crit_now_ns() - t0;
    return CRIT_OK;
}
