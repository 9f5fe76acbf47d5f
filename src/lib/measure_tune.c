/* SPDX-License-Identifier: MIT */
/* Constants of the machine: the products' rate by chunk length, and what a pair, a block and a tile cost. */
#include <math.h>
#include <stdio.h>

#include "lib/measure_impl.h"
#include "sparse/sparse.h"

enum { N_CHUNK = 5 };

static crit_status chunk_rows(meas *m, const crit_shape *s, crit_error *err) {
    static const size_t rows[N_CHUNK] = {128, 256, 512, 1024, 2048};
    size_t n = m->p.quick ? 2 : N_CHUNK;
    double best[N_CHUNK], flop[N_CHUNK];
    meas_layer *l;
    crit_status st = meas_layer_open(&l, m, s, rows[n - 1], err);
    /* In turn, so that a machine that slows down for a while does not look like a bad chunk length. */
    uint64_t t0 = crit_now_ns();
    for (int round = 0; round < 3 && !st; round++) {
        for (size_t i = 0; i < n; i++) {
            meas_layer_times t;
            meas_layer_time(l, rows[i], &t);
            best[i] = round ? fmin(best[i], t.linear_s) : t.linear_s;
            flop[i] = t.flop;
        }
        if (m->p.quick || crit_now_ns() - t0 > 10000000000u) break;
    }
    for (size_t i = 0; i < n && !st && !m->cancelled; i++) {
        char name[16];
        snprintf(name, sizeof name, "%zu", rows[i]);
        crit_measure_row r = {.group = "chunk",
                              .name = name,
                              .isa = crit_cpu_level_name(m->kt.cpu),
                              .shape = "rows, one layer",
                              .n_threads = crit_pool_size(m->pool),
                              .seconds = best[i],
                              .flop = flop[i],
                              .share = MEAS_NEVER,
                              .efficiency = MEAS_NEVER};
        meas_row(m, r);
    }
    meas_layer_close(&l);
    return st;
}

typedef struct cost_work {
    meas *m;
    crit_kv kv;
    float *q, *out, *z, *share, *rep, *probe;
    uint32_t *ids;
    uint8_t *want;
    unsigned char *ready;
    crit_attend_args a;
    uint32_t n_free, pos;
} cost_work;

static void run_attend(void *arg) {
    cost_work *w = arg;
    meas_attend(&w->m->kt, &w->a, w->ids + 4096, w->m->scratch);
}
/* All tiles of a span. */
static void run_estimate(void *arg) {
    cost_work *w = arg;
    const crit_kernels *kt = &w->m->kt;
    uint32_t n_free[CRIT_SPAN_TILES], d = w->kv.d;
    for (uint32_t t = 0; t < CRIT_SPAN_TILES; t++) {
        uint32_t row = t * CRIT_TILE_LEN;
        crit_represent_means(kt, w->q + (size_t)row * d, d, w->pos + row, CRIT_TILE_LEN, d,
                             w->rep + (size_t)t * CRIT_TILE_REPS * d);
        n_free[t] = w->n_free;
    }
    crit_score_share(kt, &w->kv, 0, w->rep, CRIT_SPAN_TILES, n_free, w->a.scale, w->z, w->share, w->n_free);
    for (uint32_t t = 0; t < CRIT_SPAN_TILES; t++)
        (void)kt->select_above(w->share + t * w->n_free, w->n_free, 1.0f / (float)w->n_free, CRIT_SINK_BLK,
                               w->ids + 4096);
}
static void run_calibrate(void *arg) {
    cost_work *w = arg;
    meas_probes(&w->m->kt, &w->kv, 0, w->q, CRIT_LSE_ROWS, w->pos, w->ready, w->n_free, w->share, w->probe,
                w->m->scratch);
}

static void cost_row(meas *m, const char *what, uint32_t d, double seconds, double efficiency) {
    char name[48];
    snprintf(name, sizeof name, "%s d=%u", what, d);
    meas_row(m, (crit_measure_row){.group = "cost",
                                   .name = name,
                                   .isa = crit_cpu_level_name(m->kt.cpu),
                                   .seconds = fmax(seconds, 0),
                                   .share = MEAS_NEVER,
                                   .efficiency = efficiency});
}

/* Lines through two lengths: the slope is what one more block costs, the rest what a tile costs. */
static void costs_of(cost_work *w, uint32_t n_key) {
    meas *m = w->m;
    uint32_t d = w->kv.d, n_blk = n_key / CRIT_BLK_LEN, own = CRIT_ATTEND_ROWS / CRIT_BLK_LEN, few = n_blk / 16;
    w->pos = n_key - CRIT_ATTEND_ROWS;
    w->a = (crit_attend_args){.q = w->q,
                              .q_stride = d,
                              .k = crit_kv_k(&w->kv, 0),
                              .v = crit_kv_v(&w->kv, 0),
                              .blk = w->ids,
                              .out = w->out,
                              .out_stride = d,
                              .n_key = n_key,
                              .pos0 = w->pos,
                              .scale = 1.0f / sqrtf((float)d),
                              .n_row = CRIT_ATTEND_ROWS,
                              .d = d,
                              .causal = 1,
                              .ready = w->ready};
    double t[2], e[2];
    for (int i = 0; i < 2; i++) {
        size_t first;
        w->a.want = i ? NULL : w->want;
        w->a.n_blk = i ? meas_list(&m->rng, w->pos, CRIT_ATTEND_ROWS, n_blk, w->ids, &first)
                       : meas_span_list(&m->rng, w->pos, CRIT_ATTEND_ROWS, few, w->ids, w->want, &first);
        w->a.n_far = first;
        w->n_free = i ? n_blk - 2 * own - 1 : few;
        t[i] = meas_cpu_time(m, run_attend, w);
        e[i] = meas_cpu_time(m, run_estimate, w) / CRIT_SPAN_TILES;
    }
    double blocks = (double)(n_blk - 2 * own - 1 - few), pairs = blocks * CRIT_BLK_LEN * CRIT_ATTEND_ROWS;
    double pair = (t[1] - t[0]) / pairs, block = (e[1] - e[0]) / blocks;
    double near_pairs =
        (double)(few + 1 + own) * CRIT_BLK_LEN * CRIT_ATTEND_ROWS + CRIT_ATTEND_ROWS * (CRIT_ATTEND_ROWS + 1) / 2.0;
    double all_pairs = near_pairs + pairs, dense = t[1] / all_pairs, sparse = t[0] / near_pairs;
    cost_row(m, "attend pair", d, pair, MEAS_NEVER);
    cost_row(m, "attend sparse", d, sparse, dense / sparse);
    cost_row(m, "attend tile", d, t[0] - pair * near_pairs, MEAS_NEVER);
    cost_row(m, "estimate block", d, block, MEAS_NEVER);
    cost_row(m, "estimate tile", d, e[0] - block * few, MEAS_NEVER);
    cost_row(m, "calibrate block", d, meas_cpu_time(m, run_calibrate, w) / n_blk * 8 / CRIT_LSE_ROWS, MEAS_NEVER);
}

static crit_status cost_rows(meas *m, crit_error *err) {
    uint32_t n_key = m->p.quick || m->kt.cpu == 0 ? 2048 : 16384;
    crit_status st = CRIT_OK;
    for (uint32_t d = 64; d <= 128 && !st && !m->cancelled; d += 64) {
        cost_work w = {.m = m,
                       .q = crit_malloc(CRIT_ATTEND_ROWS * d, 4),
                       .out = crit_malloc(CRIT_ATTEND_ROWS * d, 4),
                       .z = crit_malloc(8192 * CRIT_REP_MAX, 4),
                       .share = crit_malloc(8192, 4),
                       .rep = crit_malloc(CRIT_REP_MAX * d, 4),
                       .probe = crit_malloc(2 * 512 * CRIT_LSE_ROWS, 4),
                       .ids = crit_malloc(8192, 4),
                       .want = crit_malloc(8192, 1)};
        st = meas_fill_kv(m, &w.kv, 1, d, n_key, err);
        if (!st) w.ready = meas_ready(m, &w.kv, n_key);
        if (!st && w.q && w.out && w.z && w.share && w.rep && w.probe && w.ids && w.want) {
            meas_normal(m, w.q, CRIT_ATTEND_ROWS * d);
            costs_of(&w, n_key);
        } else if (!st)
            st = meas_no_memory(err);
        crit_kv_clear(&w.kv);
        crit_free(w.q);
        crit_free(w.out);
        crit_free(w.z);
        crit_free(w.share);
        crit_free(w.rep);
        crit_free(w.probe);
        crit_free(w.ids);
        crit_free(w.want);
        crit_free(w.ready);
    }
    return st;
}

crit_status crit_measure_tune(const crit_measure_params *params, const crit_shape *shape, crit_measure_fn fn,
                              void *user, crit_error *err) {
    meas m;
    if (!fn || !shape) return crit_fail(err, CRIT_E_ARG, "crit_measure_tune: shape and fn are required");
    crit_status st = meas_open(&m, params, fn, user, err);
    if (!st) st = chunk_rows(&m, shape, err);
    if (!st && !m.cancelled) st = cost_rows(&m, err);
    if (!st) st = meas_status(&m, err);
    meas_close(&m);
    return st;
}
