/* SPDX-License-Identifier: MIT */
/* Attention of a part's tokens over a cascade, and what cached keys weighed for some of its queries.
 *
 * Each stretch of the cache gives a result of its own, with the queries turned for it; results merge by log-sum-exp.
 * Weights need the log-sum-exp of the whole row, so they are a second pass over the keys, for one query in `every`. */
#include "policy/cascade.h"

#include <math.h>
#include <string.h>

enum { SCORE_KEYS = 512 }; /* keys of a work item: fixed, so weights do not depend on threads */

/* ---- what is attended to ---- */

uint32_t crit_cascade_parts(const crit_cascade *c, uint32_t n_own, crit_cascade_part part[CRIT_CASCADE_PARTS]) {
    const crit_rings *r = &c->rings;
    uint32_t n_sink = c->own0 < c->rule.n_sink ? c->own0 : c->rule.n_sink, n = 0;
    int64_t first = (int64_t)n_sink + crit_rings_count(r), base = first; /* in the cache: own tokens, this ring */
    part[n++] = (crit_cascade_part){crit_cascade_own_slot(c, 0) / CRIT_BLK_LEN, n_own, 0, c->n_slot, true, true};
    for (uint32_t i = 0; i < r->n; i++) {
        uint32_t count = crit_ring_count(r, i);
        base -= count;
        if (!count) continue;
        /* The oldest key stands at `base` and is rotated by n_sink + (pushes before it). */
        int64_t turn = (int64_t)c->rule.n_sink + (r->n_push[i] - count) + (first - base) - c->own0;
        part[n++] = (crit_cascade_part){crit_cascade_ring_slot(c, i * r->len) / CRIT_BLK_LEN,
                                        count,
                                        c->rule.original ? 0 : turn,
                                        i * r->len,
                                        false,
                                        true};
    }
    if (n_sink) part[n++] = (crit_cascade_part){0, n_sink, c->rule.original ? 0 : first - c->own0, 0, false, false};
    return n;
}

/* A call in one layer. */
typedef struct call {
    crit_cascade *c;
    crit_stream_job *job;
    const crit_slab *slab;
    crit_cascade_part part[CRIT_CASCADE_PARTS];
    uint32_t n_part, own; /* own: tokens of the part before this call */
    uint32_t n_sampled;
    uint32_t n_score_item; /* of a KV head */
    /* a decoded token's pieces, of CRIT_RANGE_BLK blocks */
    uint32_t n_piece, first_piece[CRIT_CASCADE_PARTS + 1];
} call;

static uint32_t sampled_before(const call *a, uint32_t pos) {
    uint32_t every = a->c->rule.every;
    return pos / every - a->job->pos0 / every;
}

static bool is_sampled(const call *a, uint32_t pos) {
    return (pos + 1) % a->c->rule.every == 0;
}

static crit_attend_args part_args(const call *a, uint32_t kv_head, const crit_cascade_part *p) {
    const crit_decode_env *e = a->job->env;
    size_t at = kv_head * crit_slab_head(a->slab) + (size_t)p->blk0 * CRIT_BLK_LEN * e->d;
    return (crit_attend_args){.k = a->slab->k + at,
                              .v = a->slab->v + at,
                              .blk = e->all_blk,
                              .n_blk = (p->n_key + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN,
                              .n_key = p->n_key,
                              .scale = e->scale,
                              .d = e->d};
}

static void put_rows(const call *a, uint32_t kv_head, uint32_t r0, uint32_t n) {
    const crit_stream_job *job = a->job;
    size_t d = job->env->d, at = r0 * job->kv_stride + kv_head * d;
    uint32_t slot = crit_cascade_own_slot(a->c, a->own + r0);
    size_t blk = kv_head * crit_slab_head(a->slab) + (size_t)(slot / CRIT_BLK_LEN) * CRIT_BLK_LEN * d;
    job->env->kernels->kv_put(job->k + at, job->kv_stride, job->v + at, job->kv_stride, slot % CRIT_BLK_LEN, n,
                              (uint32_t)d, a->slab->k + blk, a->slab->v + blk);
}

/* One KV head's keys and values of one block of the own tokens. */
static void put_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const call *a = arg;
    uint32_t n_kv = a->job->env->n_kv_head, blk = a->own / CRIT_BLK_LEN + (uint32_t)(item / n_kv);
    uint32_t from = blk * CRIT_BLK_LEN, to = from + CRIT_BLK_LEN, end = a->own + a->job->n_tok;
    if (from < a->own) from = a->own;
    if (to > end) to = end;
    put_rows(a, (uint32_t)(item % n_kv), from - a->own, to - from);
}

/* ---- a stretch of the prompt ---- */

typedef struct thread_memory {
    float *out, *lse, *cosv, *sinv;
} thread_memory;

size_t crit_cascade_attend_scratch(const crit_decode_env *e) {
    size_t rows = e->n_group > CRIT_REP_MAX ? e->n_group : CRIT_REP_MAX;
    size_t attend = (size_t)CRIT_ATTEND_ROWS * (e->d + 2) + e->n_rot;
    size_t score = rows * (e->d + SCORE_KEYS) + 2 * (size_t)SCORE_KEYS + e->n_group + e->n_rot;
    return (attend > score ? attend : score) * sizeof(float);
}

static float *memory_of(const call *a, unsigned worker) {
    return (float *)(a->c->scratch + worker * a->c->scratch_slice);
}

static void keep_sampled(const call *a, uint32_t head, uint32_t r0, uint32_t n) {
    const crit_decode_env *e = a->job->env;
    for (uint32_t r = r0; r < r0 + n; r++) {
        if (!is_sampled(a, a->job->pos0 + r)) continue;
        size_t to = (head / e->n_group * a->c->n_sampled_cap + sampled_before(a, a->job->pos0 + r)) * e->n_group +
                    head % e->n_group;
        memcpy(a->c->sampled + to * e->d, a->job->q + r * a->job->q_stride + (size_t)head * e->d, e->d * sizeof(float));
    }
}

static void keep_lse(const call *a, uint32_t head, uint32_t r0, uint32_t n, const float *lse) {
    const crit_decode_env *e = a->job->env;
    for (uint32_t r = 0; r < n; r++) {
        uint32_t pos = a->job->pos0 + r0 + r;
        if (is_sampled(a, pos))
            a->c->sampled_lse[(head / e->n_group * a->c->n_sampled_cap + sampled_before(a, pos)) * e->n_group +
                              head % e->n_group] = lse[r];
    }
}

/* One head's next CRIT_ATTEND_ROWS queries. */
static void rows_item(void *arg, size_t item, unsigned worker) {
    const call *a = arg;
    const crit_stream_job *job = a->job;
    const crit_decode_env *e = job->env;
    uint32_t head = (uint32_t)(item % e->n_head), r0 = (uint32_t)(item / e->n_head) * CRIT_ATTEND_ROWS;
    uint32_t n = job->n_tok - r0 < CRIT_ATTEND_ROWS ? job->n_tok - r0 : CRIT_ATTEND_ROWS;
    float *q = job->q + r0 * job->q_stride + (size_t)head * e->d, *part = memory_of(a, worker);
    float *out = job->out + r0 * job->out_stride + (size_t)head * e->d;
    float *lse = part + (size_t)CRIT_ATTEND_ROWS * e->d, *part_lse = lse + CRIT_ATTEND_ROWS;
    float *cosv = part_lse + CRIT_ATTEND_ROWS, *sinv = cosv + a->c->turn.n;
    int64_t turn = 0;
    keep_sampled(a, head, r0, n);
    for (uint32_t i = 0; i < a->n_part; i++) {
        const crit_cascade_part *p = &a->part[i];
        crit_attend_args k = part_args(a, head / e->n_group, p);
        if (p->turn != turn) {
            crit_turn_angles(&a->c->turn, p->turn - turn, cosv, sinv);
            crit_turn_rows(&a->c->turn, cosv, sinv, q, job->q_stride, n);
            turn = p->turn;
        }
        k.q = q;
        k.q_stride = job->q_stride;
        k.n_row = n;
        k.out = i ? part : out;
        k.out_stride = i ? e->d : job->out_stride;
        k.lse = i ? part_lse : lse;
        if (p->own) {
            k.causal = 1;
            k.pos0 = (size_t)a->own + r0;
            k.n_key = k.pos0 + n;
            k.n_blk = (k.n_key + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
        }
        e->kernels->attend(&k, e->scratch + worker * e->scratch_slice);
        for (uint32_t r = 0; r < n && i; r++)
            crit_merge_part(out + r * job->out_stride, &lse[r], part + (size_t)r * e->d, part_lse[r], e->d);
    }
    keep_lse(a, head, r0, n, lse);
}

/* ---- a decoded token: a KV head's query heads read its keys together, in pieces ---- */

/* One KV head. */
static void turn_item(void *arg, size_t kv_head, unsigned worker) {
    const call *a = arg;
    const crit_stream_job *job = a->job;
    const crit_decode_env *e = job->env;
    size_t at = kv_head * e->n_group * e->d, n = (size_t)e->n_group * e->d;
    float *cosv = memory_of(a, worker), *sinv = cosv + a->c->turn.n;
    put_rows(a, (uint32_t)kv_head, 0, 1);
    for (uint32_t g = 0; g < e->n_group; g++) keep_sampled(a, (uint32_t)kv_head * e->n_group + g, 0, 1);
    for (uint32_t i = 0; i < a->n_part; i++) {
        float *q = a->c->turned + (size_t)i * e->n_head * e->d + at;
        memcpy(q, job->q + at, n * sizeof *q);
        if (!a->part[i].turn) continue;
        crit_turn_angles(&a->c->turn, a->part[i].turn, cosv, sinv);
        crit_turn_rows(&a->c->turn, cosv, sinv, q, e->d, e->n_group);
    }
}

static void piece_item(void *arg, size_t item, unsigned worker) {
    const call *a = arg;
    const crit_decode_env *e = a->job->env;
    uint32_t kv_head = (uint32_t)(item % e->n_kv_head), piece = (uint32_t)(item / e->n_kv_head), i = 0;
    while (piece >= a->first_piece[i + 1]) i++;
    size_t b0 = (size_t)(piece - a->first_piece[i]) * CRIT_RANGE_BLK;
    for (uint32_t g = 0; g < e->n_group; g += CRIT_ATTEND_ROWS) {
        size_t row = (size_t)kv_head * e->n_group + g;
        crit_attend_args k = part_args(a, kv_head, &a->part[i]);
        k.blk += b0;
        k.n_blk = k.n_blk - b0 < CRIT_RANGE_BLK ? k.n_blk - b0 : CRIT_RANGE_BLK;
        k.q = a->c->turned + ((size_t)i * e->n_head + row) * e->d;
        k.q_stride = k.out_stride = e->d;
        k.n_row = e->n_group - g < CRIT_ATTEND_ROWS ? e->n_group - g : CRIT_ATTEND_ROWS;
        k.out = a->c->part + ((size_t)piece * e->n_head + row) * e->d;
        k.lse = a->c->part_lse + (size_t)piece * e->n_head + row;
        e->kernels->attend(&k, e->scratch + worker * e->scratch_slice);
    }
}

static void merge_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const call *a = arg;
    const crit_decode_env *e = a->job->env;
    float *out = a->job->out + head * e->d, lse = a->c->part_lse[head];
    memcpy(out, a->c->part + head * e->d, e->d * sizeof *out);
    for (uint32_t i = 1; i < a->n_piece; i++) {
        size_t row = (size_t)i * e->n_head + head;
        crit_merge_part(out, &lse, a->c->part + row * e->d, a->c->part_lse[row], e->d);
    }
    keep_lse(a, (uint32_t)head, 0, 1, &lse);
}

/* ---- what keys weighed ---- */

static float median(float *x, uint32_t n) {
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k && x[k - 1] > x[k]; k--) {
            float t = x[k];
            x[k] = x[k - 1];
            x[k - 1] = t;
        }
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

/* red[j] = max, mean or median of the rows w [n_row][SCORE_KEYS]. */
static void reduce(crit_cascade_reduce how, const float *w, uint32_t n_row, uint32_t n, float *red, float *sort) {
    memcpy(red, w, n * sizeof *red);
    if (how == CRIT_REDUCE_MEDIAN) {
        for (uint32_t j = 0; j < n; j++) {
            for (uint32_t g = 0; g < n_row; g++) sort[g] = w[(size_t)g * SCORE_KEYS + j];
            red[j] = median(sort, n_row);
        }
        return;
    }
    for (uint32_t g = 1; g < n_row; g++) {
        const float *x = w + (size_t)g * SCORE_KEYS;
        if (how == CRIT_REDUCE_MAX)
            for (uint32_t j = 0; j < n; j++) red[j] = x[j] > red[j] ? x[j] : red[j];
        else
            for (uint32_t j = 0; j < n; j++) red[j] += x[j];
    }
    for (uint32_t j = 0; j < n && how == CRIT_REDUCE_MEAN; j++) red[j] /= (float)n_row;
}

/* Scores of n keys for n_row rows of q (overwritten: turned), at most CRIT_REP_MAX of them a call of the kernel. */
static void score_rows(const call *a, const crit_cascade_part *p, const uint16_t *k, uint32_t n, float *q,
                       uint32_t n_row, const float *cosv, const float *sinv, float *w) {
    const crit_decode_env *e = a->job->env;
    if (p->turn) crit_turn_rows(&a->c->turn, cosv, sinv, q, e->d, n_row);
    for (uint32_t r = 0; r < n_row; r += CRIT_REP_MAX)
        e->kernels->key_scores(q + (size_t)r * e->d, e->d, n_row - r < CRIT_REP_MAX ? n_row - r : CRIT_REP_MAX, k, n,
                               e->d, e->scale, w + (size_t)r * SCORE_KEYS, SCORE_KEYS);
}

/* What is left of a score after n tokens; 0^0 = 1. */
static float left(const crit_cascade *c, uint32_t n) {
    return n ? (float)pow(c->rule.beta, n) : 1;
}

/* Scores of one KV head, of SCORE_KEYS keys from number `from` of part p on, n_vis(row) of them seen. */
static void score_keys(const call *a, const crit_cascade_part *p, uint32_t kv_head, uint32_t from, float *memory) {
    const crit_decode_env *e = a->job->env;
    crit_cascade *c = a->c;
    uint32_t n_group = e->n_group, at_once = n_group < CRIT_REP_MAX ? CRIT_REP_MAX / n_group : 1;
    uint32_t n = p->n_key - from < SCORE_KEYS ? p->n_key - from : SCORE_KEYS, known = n, last = c->scored;
    size_t rows = n_group > CRIT_REP_MAX ? n_group : CRIT_REP_MAX;
    float *q = memory, *w = q + rows * e->d, *acc = w + rows * SCORE_KEYS, *red = acc + SCORE_KEYS;
    float *sort = red + SCORE_KEYS, *cosv = sort + n_group, *sinv = cosv + c->turn.n;
    const uint16_t *k = part_args(a, kv_head, p).k + (size_t)from * e->d;
    const float *old = crit_cascade_score(c, c->cur, a->job->layer, kv_head) + p->score0 + from;
    if (p->own)
        known = c->scored <= c->own0 + from ? 0 : c->scored - c->own0 - from < n ? c->scored - c->own0 - from : n;
    for (uint32_t j = 0; j < n; j++) acc[j] = j < known ? old[j] : 0;
    if (p->turn) crit_turn_angles(&c->turn, p->turn, cosv, sinv);
    for (uint32_t s = 0; s < a->n_sampled; s += at_once) {
        uint32_t n_q = a->n_sampled - s < at_once ? a->n_sampled - s : at_once;
        size_t row = ((size_t)kv_head * c->n_sampled_cap + s) * n_group;
        memcpy(q, c->sampled + row * e->d, (size_t)n_q * n_group * e->d * sizeof *q);
        score_rows(a, p, k, n, q, n_q * n_group, cosv, sinv, w);
        for (uint32_t i = 0; i < n_q; i++) {
            uint32_t end = ((a->job->pos0 / c->rule.every) + s + i + 1) * c->rule.every; /* behind the query */
            uint32_t seen = !p->own                    ? n
                            : end - c->own0 <= from    ? 0
                            : end - c->own0 - from < n ? end - c->own0 - from
                                                       : n;
            float keep = left(c, end - last), add = (float)((1 - c->rule.beta) * c->rule.every);
            last = end;
            for (uint32_t g = 0; g < n_group; g++) {
                float *x = w + ((size_t)i * n_group + g) * SCORE_KEYS, top = 0;
                e->kernels->soft_max(x, seen, &top);
                float f = seen ? expf(top - c->sampled_lse[row + i * n_group + g]) * add : 0;
                for (uint32_t j = 0; j < seen; j++) x[j] *= f;
            }
            reduce(c->rule.reduce, w + (size_t)i * n_group * SCORE_KEYS, n_group, seen, red, sort);
            for (uint32_t j = 0; j < seen; j++) acc[j] = keep * acc[j] + red[j];
            for (uint32_t j = seen; j < n; j++) acc[j] *= keep;
        }
    }
    memcpy(crit_cascade_score(c, 1 - c->cur, a->job->layer, kv_head) + p->score0 + from, acc, n * sizeof *acc);
}

static void score_item(void *arg, size_t item, unsigned worker) {
    const call *a = arg;
    uint32_t kv_head = (uint32_t)(item % a->c->n_kv_head), at = (uint32_t)(item / a->c->n_kv_head), i = 0;
    for (;; i++) {
        uint32_t n = a->part[i].scored ? (a->part[i].n_key + SCORE_KEYS - 1) / SCORE_KEYS : 0;
        if (at < n) break;
        at -= n;
    }
    score_keys(a, &a->part[i], kv_head, at * SCORE_KEYS, memory_of(a, worker));
}

/* ---- the call ---- */

static void prepare(call *a, crit_cascade *c, crit_stream_job *job) {
    *a = (call){.c = c, .job = job, .slab = &c->slab[job->layer], .own = job->pos0 - c->own0};
    a->n_part = crit_cascade_parts(c, a->own + job->n_tok, a->part);
    a->n_sampled = sampled_before(a, job->pos0 + job->n_tok);
    double seen = a->own + (job->n_tok + 1) / 2.0;
    for (uint32_t i = 0; i < a->n_part; i++) {
        const crit_cascade_part *p = &a->part[i];
        uint32_t n_blk = (p->n_key + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
        if (!p->own) seen += p->n_key;
        if (p->scored) a->n_score_item += (p->n_key + SCORE_KEYS - 1) / SCORE_KEYS;
        a->first_piece[i + 1] = a->first_piece[i] + crit_ranges_of(n_blk);
    }
    a->n_piece = a->first_piece[a->n_part];
    job->pairs = seen * job->n_tok * job->env->n_head;
    /* The same for every layer of the call. */
    c->next_scored = a->n_sampled ? (job->pos0 / c->rule.every + a->n_sampled) * c->rule.every : c->scored;
}

crit_status crit_cascade_stream(void *state, crit_stream_job *job, crit_error *err) {
    (void)err;
    crit_cascade *c = state;
    crit_decode_env *e = job->env;
    call a;
    prepare(&a, c, job);
    crit_stage stage[4];
    unsigned n = 0;
    if (!job->one) {
        uint32_t n_blk = (a.own + job->n_tok - 1) / CRIT_BLK_LEN - a.own / CRIT_BLK_LEN + 1;
        size_t n_tile = (job->n_tok + CRIT_ATTEND_ROWS - 1) / CRIT_ATTEND_ROWS;
        stage[n++] = (crit_stage){.n_item = (size_t)n_blk * e->n_kv_head, .task = put_item, .arg = &a};
        stage[n++] = (crit_stage){.n_item = n_tile * e->n_head, .task = rows_item, .arg = &a};
    } else {
        e->moved_bytes += 2.0 * sizeof(uint16_t) * job->pairs / e->n_group * e->d;
        stage[n++] = (crit_stage){.n_item = e->n_kv_head, .task = turn_item, .arg = &a};
        stage[n++] = (crit_stage){.n_item = (size_t)a.n_piece * e->n_kv_head, .task = piece_item, .arg = &a};
        stage[n++] = (crit_stage){.n_item = e->n_head, .task = merge_item, .arg = &a};
    }
    if (a.n_sampled)
        stage[n++] = (crit_stage){.n_item = (size_t)a.n_score_item * e->n_kv_head, .task = score_item, .arg = &a};
    crit_pool_run_stages(e->pool, stage, n);
    return CRIT_OK;
}
