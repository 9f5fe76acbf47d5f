/* SPDX-License-Identifier: MIT */
/* What a prefill costs at a shape, without a model: one layer's products, and its attention over lists of a planned
 * density.
 *
 * All keys of one layer are there.  Of the work items, (query head, tile), as many are run as the budget allows: tiles
 * evenly spread over the positions, each standing for its stretch, so that lists that grow with the position are
 * weighed right; dense tiles of a sparse plan are stretches of their own.  An item's lists and queries are its own, so
 * caches see what a prefill's would.  Dense and sparse take turns within an item. */
#include <math.h>
#include <string.h>

#include "lib/measure_impl.h"
#include "sparse/sparse.h"

enum { DENSE_UNTIL = 1024, SPREAD = 16 };

void crit_shape_params_init(crit_shape_params *p) {
    *p = (crit_shape_params){.struct_size = sizeof *p, .dense = true, .budget_s = 10};
}

typedef struct sample {
    uint32_t tile, head;
    double weight;                        /* items it stands for */
    double dense_s, sparse_s, estimate_s; /* of one item */
} sample;

typedef struct job {
    meas *m;
    const crit_shape_params *p;
    crit_kv kv;
    uint32_t n_tile, n_blk;
    double far_share; /* of a sparse tile's far blocks */
    sample *samples;
    size_t n_sample;
    unsigned char *mem; /* a slice per thread */
    size_t slice;
    unsigned char *ready; /* see meas_ready */
    double ready_s;       /* to make it, one thread */
} job;

/* ---- the plan ---- */

static uint32_t rows_in(const job *j, uint32_t tile) {
    uint32_t at = tile * CRIT_ATTEND_ROWS;
    return j->p->n_tok - at < CRIT_ATTEND_ROWS ? j->p->n_tok - at : CRIT_ATTEND_ROWS;
}

static bool dense_tile(uint32_t tile) {
    return tile * CRIT_ATTEND_ROWS < DENSE_UNTIL;
}

/* Blocks between the sink and the local ones. */
static double far_blocks(uint32_t tile) {
    uint32_t own = tile * (CRIT_ATTEND_ROWS / CRIT_BLK_LEN);
    return own > CRIT_LOCAL_BLK + CRIT_SINK_BLK ? own - CRIT_LOCAL_BLK - CRIT_SINK_BLK : 0;
}

static size_t kept_blocks(const job *j, uint32_t tile) {
    return (size_t)(far_blocks(tile) * j->far_share + 0.5);
}

/* The share of far blocks that gives the density asked for; returns the density of the lists that come of it. */
static double choose_share(job *j) {
    double all = 0, far = 0, kept = 0;
    for (uint32_t t = 0; t < j->n_tile; t++) {
        double n = rows_in(j, t);
        all += n * ((double)t * CRIT_ATTEND_ROWS + 1) + n * (n - 1) / 2;
        if (!dense_tile(t)) far += n * CRIT_BLK_LEN * far_blocks(t);
    }
    double share = far > 0 ? (j->p->density * all - (all - far)) / far : 0;
    j->far_share = share < 0 ? 0 : share > 1 ? 1 : share;
    for (uint32_t t = 0; t < j->n_tile; t++)
        if (!dense_tile(t)) kept += (double)rows_in(j, t) * CRIT_BLK_LEN * (double)kept_blocks(j, t);
    return (all - far + kept) / all;
}

static double causal_pairs(const job *j) {
    double n = j->p->n_tok;
    return n * (n + 1) / 2;
}

/* ---- one item ---- */

typedef struct buffers {
    float *q, *out, *z, *share, *rep, *probe; /* share: of a span; probe: weights and scores */
    uint32_t *ids, *own; /* lists of a span, of a tile */
    uint8_t *want;
} buffers;

static unsigned char *carve(unsigned char **at, size_t bytes) {
    unsigned char *p = *at;
    *at += (bytes + CRIT_ALIGN - 1) & ~(size_t)(CRIT_ALIGN - 1);
    return p;
}

/* The size of a slice when base is NULL's stand-in 0. */
static size_t layout(const job *j, unsigned char *base, buffers *b) {
    size_t d = j->p->shape.d_head, tile = CRIT_ATTEND_ROWS * d * sizeof(float), n = j->n_blk;
    unsigned char *at = base;
    b->q = (float *)carve(&at, tile);
    b->out = (float *)carve(&at, tile);
    b->z = (float *)carve(&at, n * CRIT_REP_MAX * sizeof(float));
    b->share = (float *)carve(&at, CRIT_SPAN_TILES * n * sizeof(float));
    b->rep = (float *)carve(&at, CRIT_REP_MAX * d * sizeof(float));
    b->probe = (float *)carve(&at, 2 * n * CRIT_LSE_ROWS * sizeof(float));
    b->ids = (uint32_t *)carve(&at, n * sizeof(uint32_t));
    b->own = (uint32_t *)carve(&at, n * sizeof(uint32_t));
    b->want = carve(&at, n);
    return (size_t)(at - base);
}

/* n_far blocks for all rows or, by_tile, for each tile. */
static double attend_list(job *j, const sample *s, const buffers *b, size_t n_far, bool by_tile, void *scratch) {
    uint32_t pos = s->tile * CRIT_ATTEND_ROWS, d = j->kv.d, n_row = rows_in(j, s->tile);
    uint32_t kv_head = s->head / (j->p->shape.n_head / j->p->shape.n_kv_head);
    uint64_t rng = ((uint64_t)s->tile << 20 | s->head) * 2654435769u + 88172645463325252u;
    size_t first, n = by_tile ? meas_span_list(&rng, pos, n_row, n_far, b->ids, b->want, &first)
                              : meas_list(&rng, pos, n_row, n_far, b->ids, &first);
    crit_attend_args a = {.q = b->q,
                          .q_stride = d,
                          .k = crit_kv_k(&j->kv, kv_head),
                          .v = crit_kv_v(&j->kv, kv_head),
                          .blk = b->ids,
                          .want = by_tile ? b->want : NULL,
                          .n_blk = n,
                          .out = b->out,
                          .out_stride = d,
                          .pos0 = pos,
                          .n_key = j->p->n_tok,
                          .scale = 1.0f / sqrtf((float)d),
                          .n_row = n_row,
                          .d = d,
                          .causal = 1,
                          .n_far = first,
                          .ready = j->ready ? j->ready + kv_head * j->n_blk * CRIT_READY_BYTES(d) : NULL};
    double t0 = meas_thread_seconds();
    meas_attend(&j->m->kt, &a, b->own, scratch);
    return meas_thread_seconds() - t0;
}

/* The stages of sparse/plan_criti.c over the tiles of one span; calibration by its share: one probe per so many
 * positions. */
static double estimate_span(job *j, const sample *s, const buffers *b, void *scratch) {
    const crit_shape *sh = &j->p->shape;
    const crit_kernels *kt = &j->m->kt;
    uint32_t pos = s->tile * CRIT_ATTEND_ROWS, kv_head = s->head / (sh->n_head / sh->n_kv_head), n_tile = 0;
    uint32_t n_free = (uint32_t)far_blocks(s->tile), each[CRIT_SPAN_TILES], d = sh->d_head;
    if (n_free == 0) return 0;
    crit_attn_params o;
    crit_attn_params_init(&o);
    double t0 = meas_thread_seconds();
    for (uint32_t r = 0; r < rows_in(j, s->tile); r += CRIT_TILE_LEN) {
        uint32_t n_row = rows_in(j, s->tile) - r < CRIT_TILE_LEN ? rows_in(j, s->tile) - r : CRIT_TILE_LEN;
        crit_represent_means(kt, b->q + (size_t)r * d, d, pos + r, n_row, d,
                             b->rep + (size_t)n_tile * CRIT_TILE_REPS * d);
        each[n_tile++] = n_free;
    }
    crit_score_share(kt, &j->kv, kv_head, b->rep, n_tile, each, 1.0f / sqrtf((float)d), b->z, b->share, j->n_blk);
    for (uint32_t t = 0; t < n_tile; t++)
        (void)kt->select_above(b->share + t * j->n_blk, n_free, 1.0f / (float)n_free, CRIT_SINK_BLK, b->ids);
    double t1 = meas_thread_seconds();
    meas_probes(kt, &j->kv, kv_head, b->q, CRIT_LSE_ROWS, pos,
                j->ready ? j->ready + kv_head * j->n_blk * CRIT_READY_BYTES(d) : NULL, n_free, b->share, b->probe,
                scratch);
    double t2 = meas_thread_seconds();
    return t1 - t0 + (t2 - t1) / CRIT_LSE_ROWS * CRIT_ATTEND_ROWS / o.probe / crit_probe_every(pos);
}

static void sample_item(void *arg, size_t item, unsigned worker) {
    job *j = arg;
    sample *s = &j->samples[j->n_sample - 1 - item]; /* longest first */
    void *scratch = j->m->scratch + worker * j->m->scratch_slice;
    buffers b;
    layout(j, j->mem + worker * j->slice, &b);
    /* Another head's queries: the same values in another order, which costs nothing to make. */
    float first = b.q[0];
    size_t n = (size_t)CRIT_ATTEND_ROWS * j->kv.d;
    memmove(b.q, b.q + 1, (n - 1) * sizeof *b.q);
    b.q[n - 1] = first;
    if (j->p->dense) s->dense_s = attend_list(j, s, &b, j->n_blk, false, scratch);
    if (j->p->density <= 0) return;
    bool dense = dense_tile(s->tile);
    s->sparse_s = attend_list(j, s, &b, dense ? j->n_blk : kept_blocks(j, s->tile), !dense, scratch);
    if (!dense) s->estimate_s = estimate_span(j, s, &b, scratch);
}

/* ---- which items ---- */

/* n_pick tiles of [t0, t1) on n_head heads; false: out of memory. */
static bool pick(job *j, uint32_t t0, uint32_t t1, size_t n_pick, uint32_t n_head) {
    size_t n = t1 - t0;
    if (n_pick > n) n_pick = n;
    if (n == 0) return true;
    sample *more = crit_malloc(j->n_sample + n_pick * n_head, sizeof *more);
    if (!more) return false;
    if (j->n_sample) memcpy(more, j->samples, j->n_sample * sizeof *more);
    crit_free(j->samples);
    j->samples = more;
    for (size_t i = 0; i < n_pick; i++) {
        size_t a = i * n / n_pick, b = (i + 1) * n / n_pick;
        for (uint32_t h = 0; h < n_head; h++)
            j->samples[j->n_sample++] = (sample){.tile = t0 + (uint32_t)((a + b - 1) / 2),
                                                 .head = (uint32_t)((uint64_t)h * j->p->shape.n_head / n_head),
                                                 .weight = (double)(b - a) * j->p->shape.n_head / n_head};
    }
    return true;
}

static bool choose_samples(job *j) {
    buffers b;
    layout(j, j->mem, &b);
    sample probe = {.tile = j->n_tile - 1};
    double t = attend_list(j, &probe, &b, j->n_blk, false, j->m->scratch); /* the longest item */
    t = fmin(t, attend_list(j, &probe, &b, j->n_blk, false, j->m->scratch));
    double each = t / 2 * ((j->p->dense ? 1 : 0) + j->p->density * 1.2);
    uint32_t n_head = j->p->shape.n_head, n_tile = j->n_tile;
    double can = j->p->budget_s * crit_pool_size(j->m->pool) / fmax(each, 1e-9);
    if (j->m->p.quick) can = 8;
    uint32_t a = 0;
    while (a < n_tile && dense_tile(a)) a++;
    if (can >= (double)n_tile * n_head) return pick(j, 0, n_tile, n_tile, n_head);
    size_t per_head = (size_t)(can / SPREAD);
    uint32_t heads = per_head < 1 ? 1 : per_head < n_head ? (uint32_t)per_head : n_head;
    size_t tiles = (size_t)(can / heads);
    if (tiles < 4) tiles = 4;
    size_t ends = tiles > 8 ? 2 : 1;
    return pick(j, 0, a, ends, heads) && pick(j, a, n_tile, tiles - ends, heads);
}

/* ---- */

static void sum_up(const job *j, const meas_layer_times *lt, double chunks, crit_shape_times *out) {
    double n_thread = crit_pool_size(j->m->pool), layers = j->p->shape.n_layer;
    double once = lt->kv_s * chunks + out->rest_s + out->embed_s + out->vocab_s;
    for (size_t i = 0; i < j->n_sample; i++) {
        const sample *s = &j->samples[i];
        out->dense.attend_s += s->weight * s->dense_s / n_thread;
        out->sparse.attend_s += s->weight * s->sparse_s / n_thread;
        out->sparse.estimate_s += s->weight * s->estimate_s / n_thread;
    }
    crit_shape_attn *both[2] = {&out->dense, &out->sparse};
    for (int i = 0; i < 2; i++) {
        crit_shape_attn *a = both[i];
        if (!a->measured) {
            *a = (crit_shape_attn){.measured = false};
            continue;
        }
        a->attend_s += j->ready_s / n_thread * (chunks + 1) / 2; /* each chunk makes the blocks so far ready */
        a->n_item_measured = (uint32_t)j->n_sample;
        a->flop = 4.0 * j->p->shape.d_head * j->p->shape.n_head * causal_pairs(j) * a->density;
        a->total_s = (layers - 1) * (out->linear_s + out->rest_s + a->attend_s + a->estimate_s) + once;
    }
}

static crit_status attention(job *j, crit_shape_times *out, crit_error *err) {
    meas *m = j->m;
    const crit_shape *s = &j->p->shape;
    buffers b;
    crit_status st = meas_fill_kv(m, &j->kv, s->n_kv_head, s->d_head, j->p->n_tok, err);
    if (st) return st;
    j->slice = layout(j, m->scratch, &b);
    j->mem = crit_malloc(crit_pool_size(m->pool), j->slice);
    if (!j->mem) return meas_no_memory(err);
    for (unsigned w = 0; w < crit_pool_size(m->pool); w++) {
        layout(j, j->mem + w * j->slice, &b);
        meas_normal(m, b.q, (size_t)CRIT_ATTEND_ROWS * s->d_head);
    }
    out->dense.measured = j->p->dense;
    out->dense.density = 1;
    out->sparse.measured = j->p->density > 0;
    if (out->sparse.measured) out->sparse.density = choose_share(j);
    double t0 = meas_thread_seconds();
    j->ready = meas_ready(m, &j->kv, j->p->n_tok);
    j->ready_s = meas_thread_seconds() - t0;
    if (!choose_samples(j)) return meas_no_memory(err);
    crit_pool_run(m->pool, j->n_sample, sample_item, j);
    return CRIT_OK;
}

static crit_status run(meas *m, const crit_shape_params *p, crit_shape_times *out, crit_error *err) {
    crit_cost cost = crit_cost_of(m->kt.cpu);
    uint32_t n_row = p->n_batch ? p->n_batch : crit_cost_chunk(&cost, crit_pool_size(m->pool), p->shape.n_head);
    if (n_row > p->n_tok) n_row = p->n_tok;
    if (m->p.quick && n_row > 128) n_row = 128;
    double chunks = (double)p->n_tok / n_row;
    meas_layer *l;
    meas_layer_times lt;
    crit_status st = meas_layer_open(&l, m, &p->shape, n_row, err);
    if (st) return st;
    meas_layer_time(l, n_row, &lt);
    out->vocab_s = meas_vocab_time(l);
    out->embed_s = meas_embed_time(l) * p->n_tok / crit_pool_size(m->pool);
    meas_layer_close(&l);
    out->linear_s = lt.linear_s * chunks;
    out->linear_flop = lt.flop * chunks;
    out->rest_s = lt.rest_s * chunks;
    job j = {.m = m,
             .p = p,
             .n_tile = (p->n_tok + CRIT_ATTEND_ROWS - 1) / CRIT_ATTEND_ROWS,
             .n_blk = (p->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN};
    out->n_threads = crit_pool_size(m->pool);
    out->n_item = j.n_tile * p->shape.n_head;
    st = attention(&j, out, err);
    if (!st) sum_up(&j, &lt, chunks, out);
    crit_kv_clear(&j.kv);
    crit_free(j.samples);
    crit_free(j.mem);
    crit_free(j.ready);
    return st;
}

crit_status crit_measure_shape(const crit_measure_params *params, const crit_shape_params *p, crit_shape_times *out,
                               crit_error *err) {
    uint64_t t0 = crit_now_ns();
    crit_type type;
    if (!p || !out || p->struct_size != sizeof *p || out->struct_size != sizeof *out)
        return crit_fail(err, CRIT_E_ARG, "crit_measure_shape: struct_size not set");
    crit_status st = meas_shape_check(&p->shape, &type, err);
    if (st) return st;
    if (p->n_tok == 0 || p->n_tok > 1u << 20 || p->n_batch > 65536 || !(p->density >= 0 && p->density <= 1) ||
        !(p->dense || p->density > 0))
        return crit_fail(err, CRIT_E_ARG, "crit_measure_shape: %u tokens in chunks of %u at density %g", p->n_tok,
                         p->n_batch, p->density);
    meas m;
    *out = (crit_shape_times){.struct_size = sizeof *out};
    st = meas_open(&m, params, NULL, NULL, err);
    if (!st) st = run(&m, p, out, err);
    meas_close(&m);
    out->measured_s = 1e-9 * (double)(crit_now_ns() - t0);
    return st;
}
