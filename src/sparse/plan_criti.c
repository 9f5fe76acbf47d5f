/* SPDX-License-Identifier: MIT */
/* The plan of our rule: shares, probes, what each head's threshold is, lists; then the probes judge them. */
#include <math.h>
#include <string.h>

#include "sparse/plan_parts.h"

#define CRIT_CAL_FROM 512 /* earlier probes say little: they have hardly any far keys */

/* Blocks before it are far from the tile; 0 when the tile has none. */
static uint32_t first_local(const crit_plan *p, uint32_t tile) {
    return crit_first_near((p->tile0 + tile) * CRIT_TILE_LEN);
}

/* How many probes of the chunk lie before a position. */
static uint32_t probes_before(const crit_plan *p, uint32_t pos) {
    uint32_t n = 0;
    while (n < p->n_probe && p->probe_at[n] < pos) n++;
    return n;
}

/* How many lie in the tile; *first: the first one's index in p->probes. */
static uint32_t tile_probes(const crit_plan *p, uint32_t tile, uint32_t *first) {
    uint32_t pos = crit_plan_tile_pos(p, tile), a = probes_before(p, pos);
    if (first) *first = a;
    return probes_before(p, pos + crit_plan_tile_rows(p, tile)) - a;
}

/* The prompt's end, where the question stands as a rule. */
static bool tile_is_last(const crit_plan *p, const crit_plan_job *job, uint32_t tile) {
    uint64_t total = (uint64_t)p->pos0 + p->n_tok + job->n_rest,
             tile_end = (uint64_t)crit_plan_tile_pos(p, tile) + crit_plan_tile_rows(p, tile);
    return tile_end + p->params.last_tok > total;
}

static bool criti_tile_is_dense(const crit_plan *p, const crit_plan_job *job, uint32_t tile) {
    return job->dense || (p->tile0 + tile) * CRIT_TILE_LEN < p->params.dense_until ||
           first_local(p, tile) <= CRIT_SINK_BLK || (p->params.last_theta <= 0 && tile_is_last(p, job, tile)) ||
           !crit_cost_estimate_pays(&p->cost, crit_plan_tile_rows(p, tile));
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

/* What the tile's queries really give each far block, sinks apart, on average.                     [alg:oracle] */
static void oracle_shares(const crit_plan *p, const crit_plan_job *job, uint32_t head, uint32_t tile,
                          const plan_scratch *s) {
    uint32_t pos[CRIT_LSE_ROWS], n_row = crit_plan_tile_rows(p, tile), n_free = n_free_of(p, tile);
    float lse[CRIT_LSE_ROWS], *share = share_of(p, head, tile);
    for (uint32_t r = 0; r < n_row; r++) {
        pos[r] = crit_plan_tile_pos(p, tile) + r;
        memcpy(s->rep + (size_t)r * p->d, job->q + (size_t)(pos[r] - p->pos0) * job->q_stride + (size_t)head * p->d,
               p->d * sizeof *s->rep);
    }
    const uint32_t kv_head = head / (p->n_head / p->n_kv_head);
    crit_probe_weights(p->kernels, job->kv, kv_head, s->rep, n_row, pos, p->scale, crit_plan_ready(p, kv_head),
                       s->attend, s->mass, s->top, p->stride, lse);
    memset(share, 0, n_free * sizeof *share);
    for (uint32_t r = 0; r < n_row; r++) {
        const float *mass = s->mass + (size_t)r * p->stride;
        const float inv = (float)(1 / (n_row * crit_rest_of(mass)));
        for (uint32_t f = 0; f < n_free; f++) share[f] += inv * mass[CRIT_SINK_BLK + f];
    }
}

/* Shares of one head's tiles in a span, into the slots that their ids will take. */
static void share_item(void *arg, size_t item, unsigned worker) {
    plan_task *a = arg;
    crit_plan *p = a->p;
    uint32_t head = (uint32_t)(item % p->n_head), t0, t1, n_free[CRIT_SPAN_TILES];
    bool wanted = false;
    crit_plan_span(p, (uint32_t)(item / p->n_head), &t0, &t1);
    while (t0 < t1 && !n_free_of(p, t0)) t0++;
    for (uint32_t t = t0; t < t1; t++) wanted |= !criti_tile_is_dense(p, a->job, t) || tile_probes(p, t, NULL) > 0;
    if (!wanted) return;
    plan_scratch s = crit_plan_scratch(p, worker);
    for (uint32_t t = t0; t < t1 && p->params.oracle; t++) oracle_shares(p, a->job, head, t, &s);
    if (p->params.oracle) return;
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
    plan_task *a = arg;
    crit_plan *p = a->p;
    uint32_t n_group = p->n_head / p->n_kv_head, n_part = (uint32_t)probe_parts(p);
    uint32_t kv_head = (uint32_t)(item / n_part), row0 = (uint32_t)(item % n_part) * CRIT_LSE_ROWS;
    uint32_t left = p->n_probe * n_group - row0, n = left < CRIT_LSE_ROWS ? left : CRIT_LSE_ROWS, pos[CRIT_LSE_ROWS];
    float lse[CRIT_LSE_ROWS], *mass = mass_of(p, 0, kv_head * n_group) + row0 * p->stride;
    plan_scratch s = crit_plan_scratch(p, worker);
    for (uint32_t r = 0; r < n; r++) {
        pos[r] = p->probe_at[(row0 + r) / n_group];
        memcpy(s.rep + (size_t)r * p->d,
               a->job->q + (size_t)(pos[r] - p->pos0) * a->job->q_stride +
                   (size_t)(kv_head * n_group + (row0 + r) % n_group) * p->d,
               p->d * sizeof *s.rep);
    }
    crit_probe_weights(p->kernels, a->job->kv, kv_head, s.rep, n, pos, p->scale, crit_plan_ready(p, kv_head), s.attend,
                       mass, s.top, p->stride, lse);
    for (uint32_t r = 0; r < n; r++) {
        uint32_t head = kv_head * n_group + (row0 + r) % n_group, tile = pos[r] / CRIT_TILE_LEN - p->tile0;
        crit_probe_judge(&p->probes[(size_t)((row0 + r) / n_group) * p->n_head + head], mass + r * p->stride,
                         s.top + r * p->stride, lse[r], share_of(p, head, tile), n_free_of(p, tile), p->params.power);
        p->probes[(size_t)((row0 + r) / n_group) * p->n_head + head].mark.n_row =
            (uint8_t)(crit_plan_tile_pos(p, tile) + crit_plan_tile_rows(p, tile) - pos[r]);
    }
}

/* The probes of a tile looked at again with its plan.                                             [alg:check] */
static void check_tile(crit_plan *p, uint32_t head, uint32_t tile) {
    const crit_plan_row_t *row = crit_plan_at(p, head, tile);
    uint32_t i, n = tile_probes(p, tile, &i);
    for (n += i; i < n; i++) {
        crit_probe *pr = &p->probes[(size_t)i * p->n_head + head];
        const float *mass = mass_of(p, i, head);
        uint32_t last = p->probe_at[i] / CRIT_BLK_LEN;
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
    return &p->gains[(size_t)probes_before(p, pos) * p->n_head + head];
}

static void criti_item(void *arg, size_t item, unsigned worker) {
    plan_task *a = arg;
    crit_plan *p = a->p;
    const crit_attn_params *o = &p->params;
    uint32_t head = (uint32_t)(item % p->n_head), tile = (uint32_t)(item / p->n_head);
    uint32_t pos = crit_plan_tile_pos(p, tile), n_row = crit_plan_tile_rows(p, tile), end = pos + n_row - 1;
    const crit_gain *gain = gain_before(p, head, pos);
    if (criti_tile_is_dense(p, a->job, tile) || !gain->n_probe) {
        crit_plan_dense_row(p, head, tile);
        return;
    }
    plan_scratch s = crit_plan_scratch(p, worker);
    uint32_t local = first_local(p, tile), last = end / CRIT_BLK_LEN, n_free = local - CRIT_SINK_BLK;
    uint32_t *ids = slot_of(p, head, tile), n = 0;
    memcpy(s.share, share_of(p, head, tile), n_free * sizeof *s.share);
    for (uint32_t b = 0; b < CRIT_SINK_BLK; b++) ids[n++] = b;
    /* theta and lookup are in units of a block's even share of all blocks up to here.  DEVIATION: the design divides by
     * the blocks of the whole prompt, which a stream does not know. */
    const bool is_last = tile_is_last(p, a->job, tile);
    const float theta = is_last ? fminf(o->theta, o->last_theta) : o->theta, least = theta / (float)(last + 1);
    float thresh;
    if (o->oracle)
        thresh = least;
    else if (o->power > 0)
        thresh = crit_gain_threshold(
            gain, &(crit_gain_want){o->power, least, o->lookup / (float)(last + 1), o->p_mass, o->recall}, n_free);
    else
        thresh = gain->sigma > 0 ? (float)((double)least * gain->n_probe / gain->sigma) : INFINITY;
    size_t kept;
    if (theta <= 0 || thresh <= 0)
        kept = crit_select_top(s.share, n_free, n_free, CRIT_SINK_BLK, s.keys, ids + n);
    else
        kept = p->kernels->select_above(s.share, n_free, thresh, CRIT_SINK_BLK, ids + n);
    size_t floor_blk = ((size_t)o->min_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN,
           cap_blk = o->max_tok && !is_last ? o->max_tok / CRIT_BLK_LEN : n_free;
    if (kept < floor_blk)
        kept = crit_select_top(s.share, n_free, floor_blk, CRIT_SINK_BLK, s.keys, ids + n);
    else if (kept > cap_blk)
        kept = crit_select_top(s.share, n_free, cap_blk, CRIT_SINK_BLK, s.keys, ids + n);
    /* A cap is a promise: what it left out stays out. */
    bool capped = n_free > cap_blk;
    if (!capped && o->skip <= 0 && crit_cost_dense_wins(&p->cost, kept, n_free)) {
        crit_plan_dense_row(p, head, tile);
    } else {
        uint32_t n_far = n += (uint32_t)kept, near = crit_plan_first_near(p, tile);
        while (n_far && ids[n_far - 1] >= near) n_far--;
        for (uint32_t b = local; b <= last; b++) ids[n++] = b;
        *crit_plan_at(p, head, tile) = (crit_plan_row_t){.ids = ids, .n = n, .n_far = n_far};
    }
    check_tile(p, head, tile);
}

/* Estimate, calibrate, select, check: what the calling thread does between the parallel parts is linear in probes. */
crit_status crit_plan_criti(crit_plan *p, const crit_plan_job *job, crit_calib *calib, crit_error *err) {
    plan_task a = {.p = p, .job = job};
    uint32_t end = p->pos0 + p->n_tok, step = p->params.probe;
    crit_status st = crit_calib_reserve(calib, p->n_head, step, end, err);
    if (st) return st;
    uint32_t from = p->pos0 > CRIT_CAL_FROM ? p->pos0 : CRIT_CAL_FROM;
    if (!crit_plan_grow(&p->probe_at, &p->n_probe_at_cap, p->n_tok / step + 1, sizeof *p->probe_at))
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for calibration");
    for (uint64_t e = (from + step - 1) / step; e * step < end; e++)
        if (crit_probe_weight(e, step)) p->probe_at[p->n_probe++] = (uint32_t)(e * step);
    size_t n = (size_t)p->n_probe * p->n_head;
    if (!crit_plan_grow(&p->probes, &p->n_probes_cap, n, sizeof *p->probes) ||
        !crit_plan_grow(&p->probe_mass, &p->n_probe_mass_cap, n * p->stride, sizeof *p->probe_mass) ||
        !crit_plan_grow(&p->gains, &p->n_gains_cap, n + p->n_head, sizeof *p->gains))
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for calibration");
    /* Probes read the keys that attention will read. */
    uint64_t t0 = crit_now_ns();
    crit_attend_job attend = {.plan = p, .job = job};
    crit_stage ready = crit_plan_ready_stage(&attend);
    if (ready.n_item) crit_pool_run_stages(p->pool, &ready, 1);
    p->is_ready = true;
    p->ready_ns += crit_now_ns() - t0;
    crit_stage stages[] = {{.n_item = (size_t)p->n_head * crit_plan_n_span(p), .task = share_item, .arg = &a},
                           {.n_item = p->n_kv_head * probe_parts(p), .task = probe_item, .arg = &a}};
    crit_pool_run_stages(p->pool, stages, 2);
    if (crit_pool_stopped(p->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    memcpy(p->gains, calib->total, p->n_head * sizeof *p->gains);
    for (uint32_t i = 0; i < p->n_probe; i++) {
        /* Positions that have none (early ones, decoded tokens) have empty entries. */
        while (calib->n < p->probe_at[i] / step) crit_calib_push(calib, NULL);
        crit_calib_push(calib, p->probes + (size_t)i * p->n_head);
        memcpy(p->gains + (size_t)(i + 1) * p->n_head, calib->total, p->n_head * sizeof *p->gains);
    }
    crit_pool_run(p->pool, (size_t)p->n_head * p->n_tile, criti_item, &a);
    if (crit_pool_stopped(p->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    for (size_t i = 0; i < n; i++) {
        const crit_probe *pr = &p->probes[i];
        if (!pr->judged) continue;
        const uint32_t weight = crit_probe_weight(p->probe_at[i / p->n_head] / step, step);
        const bool look_up = pr->peak > CRIT_PEAK_WEIGHT;
        p->check.n += weight;
        p->check.mass += weight * (double)pr->kept;
        p->check.n_peak += look_up ? weight : 0;
        p->check.peak_kept += look_up && pr->peak_kept ? weight : 0;
        p->check.n_look_up += look_up;
    }
    return CRIT_OK;
}
