/* SPDX-License-Identifier: MIT */
/* Attention through clusters: scores by centres, blocks of the slab, the keys behind the prefix, merged by
 * log-sum-exp.
 *
 * A step is one run of three stages whose item counts do not depend on what is picked; an item without work returns. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/squeezed.h"

/* ---- scores by centres ---- */

typedef struct run {
    uint32_t from, to; /* clusters of a level */
} run;

/* A worker's scratch. */
typedef struct room {
    float *rep;   /* [8][d] */
    float *row;   /* [8][n] */
    float *z;     /* [n][8] the same by cluster, as soft-max wants it */
    float *ln;    /* [n] */
    float *share; /* [n] */
    float *sum;   /* [n] weight of each cluster, added up over the rows */
    float *out;   /* [CRIT_ATTEND_ROWS][d] */
    float *lse;   /* [2][CRIT_ATTEND_ROWS] */
    run *run;     /* [n_coarse] */
} room;

static void *take(void *scratch, size_t *at, size_t bytes) {
    void *p = scratch ? (unsigned char *)scratch + *at : NULL;
    *at += (bytes + CRIT_ALIGN - 1) / CRIT_ALIGN * CRIT_ALIGN;
    return p;
}

/* Its parts; with scratch NULL only how many bytes they are. */
static size_t room_of(room *r, void *scratch, uint32_t n_fine, uint32_t n_coarse, uint32_t d) {
    size_t n = n_fine > n_coarse ? n_fine : n_coarse, at = 0;
    r->rep = take(scratch, &at, (size_t)CRIT_REP_MAX * d * sizeof(float));
    r->row = take(scratch, &at, n * CRIT_REP_MAX * sizeof(float));
    r->z = take(scratch, &at, n * CRIT_REP_MAX * sizeof(float));
    r->ln = take(scratch, &at, n * sizeof(float));
    r->share = take(scratch, &at, n * sizeof(float));
    r->sum = take(scratch, &at, n * sizeof(float));
    r->out = take(scratch, &at, (size_t)CRIT_ATTEND_ROWS * d * sizeof(float));
    r->lse = take(scratch, &at, 2 * CRIT_ATTEND_ROWS * sizeof(float));
    r->run = take(scratch, &at, n_coarse * sizeof(run));
    return at;
}

size_t crit_squeezed_scratch_bytes(uint32_t n_fine, uint32_t n_coarse, uint32_t d) {
    room r;
    return room_of(&r, NULL, n_fine, n_coarse, d);
}

/* Query rows of one KV head. */
typedef struct rows {
    const float *q; /* row r at q + r / n_group * stride + r % n_group * d */
    size_t stride;
    uint32_t n_pos, n_group, d;
    float scale;
} rows;

/* r->sum[x] = the soft-max over clusters of `size * exp(q.centre)`, added up over rows; x counts the clusters of the
 * runs.  Returns how many those are. */
static uint32_t add_weights(const crit_kernels *kt, const crit_cluster_level *l, const run *list, uint32_t n_run,
                            const rows *q, room *r) {
    uint32_t n = 0, n_row = q->n_pos * q->n_group, d = q->d;
    for (uint32_t i = 0; i < n_run; n += list[i].to - list[i].from, i++)
        memcpy(r->ln + n, l->ln_size + list[i].from, (list[i].to - list[i].from) * sizeof *r->ln);
    memset(r->sum, 0, n * sizeof *r->sum);
    for (uint32_t r0 = 0; r0 < n_row; r0 += CRIT_REP_MAX) {
        uint32_t n_rep = n_row - r0 < CRIT_REP_MAX ? n_row - r0 : CRIT_REP_MAX, at = 0;
        for (uint32_t i = 0; i < n_rep; i++)
            memcpy(r->rep + (size_t)i * d,
                   q->q + (r0 + i) / q->n_group * q->stride + (size_t)((r0 + i) % q->n_group) * d, d * sizeof(float));
        for (uint32_t i = 0; i < n_run; at += list[i].to - list[i].from, i++)
            kt->key_scores(r->rep, d, n_rep, l->key + (size_t)list[i].from * d, list[i].to - list[i].from, d, q->scale,
                           r->row + at, n);
        for (uint32_t x = 0; x < n; x++)
            for (uint32_t i = 0; i < CRIT_REP_MAX; i++)
                r->z[(size_t)x * CRIT_REP_MAX + i] = i < n_rep ? r->row[(size_t)i * n + x] + r->ln[x] : 0;
        kt->share(r->z, n, n_rep, 1, r->share, n);
        for (uint32_t x = 0; x < n; x++) r->sum[x] += (float)n_rep * r->share[x];
    }
    return n;
}

void crit_squeezed_scores(const crit_squeezed *s, const crit_decode_env *e, const crit_cluster_level *level,
                          const float *q, size_t q_stride, uint32_t n_pos, float *score, void *scratch) {
    room r;
    rows q_rows = {q, q_stride, n_pos, s->n_group, s->d, e->scale};
    room_of(&r, scratch, level->n, level->n, s->d);
    add_weights(e->kernels, level, &(run){0, level->n}, 1, &q_rows, &r);
    for (uint32_t j = 0; j < level->n; j++) score[j] = r.sum[j] / (level->size[j] * (float)(n_pos * s->n_group));
}

/* Slab blocks that hold a key of a cluster that passes, ascending into blk; returns how many. */
static uint32_t pick(const crit_squeezed *s, const crit_kernels *kt, const crit_clusters *c, const rows *q, room *r,
                     uint32_t *blk, uint32_t *n_scored) {
    uint32_t n_blk = 0, n_run = 0, next = 0;
    float n_row = (float)(q->n_pos * q->n_group);
    *n_scored = 0;
    if (s->levels > 1) {
        *n_scored = add_weights(kt, &c->coarse, &(run){0, c->coarse.n}, 1, q, r);
        for (uint32_t j = 0; j < c->coarse.n; j++) {
            if (!(r->sum[j] > s->t_coarse * c->coarse.size[j] * n_row)) continue;
            if (n_run && r->run[n_run - 1].to == c->coarse.from[j])
                r->run[n_run - 1].to = c->coarse.from[j + 1];
            else
                r->run[n_run++] = (run){c->coarse.from[j], c->coarse.from[j + 1]};
        }
        if (!n_run) return 0;
    } else {
        r->run[n_run++] = (run){0, c->fine.n};
    }
    *n_scored += add_weights(kt, &c->fine, r->run, n_run, q, r);
    for (uint32_t i = 0, x = 0; i < n_run; i++)
        for (uint32_t j = r->run[i].from; j < r->run[i].to; j++, x++) {
            if (!(r->sum[x] > s->t_fine * c->fine.size[j] * n_row)) continue;
            uint32_t b = c->fine.from[j] / CRIT_BLK_LEN, end = (c->fine.from[j + 1] - 1) / CRIT_BLK_LEN + 1;
            for (b = b < next ? next : b; b < end; b++) blk[n_blk++] = b;
            next = n_blk ? blk[n_blk - 1] + 1 : 0;
        }
    return n_blk;
}

/* ---- memory ---- */

crit_status crit_squeezed_reserve(crit_squeezed *s, const crit_decode_env *e, crit_error *err) {
    size_t n_list = (size_t)s->n_layer * s->n_kv_head;
    s->n_fine_max = s->n_coarse_max = 0;
    for (size_t i = 0; i < n_list; i++) {
        const crit_clusters *c = &s->clusters[i];
        if (c->fine.n > s->n_fine_max) s->n_fine_max = c->fine.n;
        if (c->coarse.n > s->n_coarse_max) s->n_coarse_max = c->coarse.n;
    }
    crit_free(s->scratch);
    crit_free(s->blk);
    crit_free(s->n_blk);
    s->scratch_slice = crit_squeezed_scratch_bytes(s->n_fine_max, s->n_coarse_max, s->d);
    s->scratch = crit_malloc(crit_pool_size(e->pool), s->scratch_slice);
    s->blk = crit_malloc(n_list * crit_squeezed_n_blk(s), sizeof *s->blk);
    s->n_blk = crit_calloc(n_list, sizeof *s->n_blk);
    if (s->scratch && s->blk && s->n_blk) return CRIT_OK;
    return crit_fail(err, CRIT_E_NOMEM, "out of memory for the scores of clusters");
}

static room worker_room(const crit_squeezed *s, unsigned worker) {
    room r;
    room_of(&r, s->scratch + worker * s->scratch_slice, s->n_fine_max, s->n_coarse_max, s->d);
    return r;
}

/* ---- a step ---- */

typedef struct step {
    crit_squeezed *s;
    const crit_decode_job *job;
    uint32_t n_late, n_part; /* parts behind the prefix come first, then those of the slab */
} step;

static uint32_t *list_of(const crit_squeezed *s, uint32_t layer, uint32_t head) {
    return s->blk + ((size_t)layer * s->n_kv_head + head) * crit_squeezed_n_blk(s);
}
static uint32_t *count_of(const crit_squeezed *s, uint32_t layer, uint32_t head) {
    return &s->n_blk[(size_t)layer * s->n_kv_head + head];
}

static void pick_item(void *arg, size_t head, unsigned worker) {
    const step *a = arg;
    crit_squeezed *s = a->s;
    uint32_t layer = a->job->layer, h = (uint32_t)head;
    room r = worker_room(s, worker);
    rows q = {a->job->q + head * s->n_group * s->d, 0, 1, s->n_group, s->d, a->job->env->scale};
    *count_of(s, layer, h) =
        pick(s, a->job->env->kernels, crit_squeezed_at(s, layer, h), &q, &r, list_of(s, layer, h), &s->n_scored[head]);
}

static float *part_of(const step *a, size_t head, size_t part) {
    const crit_squeezed *s = a->s;
    return s->part + (head * a->n_part + part) * s->n_group * (s->d + 1);
}

static void part_item(void *arg, size_t item, unsigned worker) {
    const step *a = arg;
    const crit_squeezed *s = a->s;
    const crit_decode_job *job = a->job;
    const crit_decode_env *e = job->env;
    uint32_t head = (uint32_t)(item % s->n_kv_head), part = (uint32_t)(item / s->n_kv_head), layer = job->layer;
    crit_attend_args t = {.q = job->q + (size_t)head * s->n_group * s->d,
                          .q_stride = s->d,
                          .out_stride = s->d,
                          .scale = e->scale,
                          .d = s->d};
    const uint32_t *list;
    uint32_t n_list, first;
    if (part < a->n_late) {
        list = e->all_blk + crit_squeezed_n_blk(s);
        n_list = (job->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN - crit_squeezed_n_blk(s);
        first = part * CRIT_RANGE_BLK;
        t.k = crit_kv_k(job->kv, head);
        t.v = crit_kv_v(job->kv, head);
        t.n_key = job->n_tok;
    } else {
        const crit_slab *slab = &s->slab[layer];
        list = list_of(s, layer, head);
        n_list = *count_of(s, layer, head);
        first = (part - a->n_late) * CRIT_RANGE_BLK;
        t.k = slab->k + head * crit_slab_head(slab);
        t.v = slab->v + head * crit_slab_head(slab);
        t.n_key = s->n_fix;
    }
    if (first >= n_list) return;
    t.blk = list + first;
    t.n_blk = n_list - first < CRIT_RANGE_BLK ? n_list - first : CRIT_RANGE_BLK;
    float *out = part_of(a, head, part);
    for (uint32_t r = 0; r < s->n_group; r += CRIT_ATTEND_ROWS, t.q += CRIT_ATTEND_ROWS * s->d) {
        t.out = out + (size_t)r * s->d;
        t.lse = out + (size_t)s->n_group * s->d + r;
        t.n_row = s->n_group - r < CRIT_ATTEND_ROWS ? s->n_group - r : CRIT_ATTEND_ROWS;
        e->kernels->attend(&t, e->scratch + worker * e->scratch_slice);
    }
}

static void merge_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const step *a = arg;
    const crit_squeezed *s = a->s;
    size_t kv_head = head / s->n_group, g = head % s->n_group, d = s->d;
    uint32_t n_part = a->n_late + crit_ranges_of(*count_of(s, a->job->layer, (uint32_t)kv_head));
    float *out = a->job->out + head * d, top = -INFINITY, sum = 0;
    memset(out, 0, d * sizeof *out);
    for (uint32_t p = 0; p < n_part; p++) {
        float l = part_of(a, kv_head, p)[s->n_group * d + g];
        if (l > top) top = l;
    }
    for (uint32_t p = 0; p < n_part; p++) {
        const float *x = part_of(a, kv_head, p);
        float w = expf(x[s->n_group * d + g] - top);
        sum += w;
        for (size_t i = 0; i < d; i++) out[i] += w * x[g * d + i];
    }
    for (size_t i = 0; i < d; i++) out[i] /= sum;
}

static crit_status reserve_parts(crit_squeezed *s, uint32_t n, crit_error *err) {
    if (n <= s->n_part_cap) return CRIT_OK;
    crit_free(s->part);
    s->n_part_cap = 0;
    s->part = crit_malloc((size_t)n * s->n_head * (s->d + 1), sizeof *s->part);
    if (!s->part) return crit_fail(err, CRIT_E_NOMEM, "out of memory for partial results of attention");
    s->n_part_cap = n;
    return CRIT_OK;
}

crit_status crit_squeezed_decode(void *state, const crit_decode_job *job, crit_error *err) {
    crit_squeezed *s = state;
    crit_decode_env *e = job->env;
    if (!s->n_fix || job->n_tok <= s->n_fix) return crit_full_decode(job, err);
    uint32_t n_late = (job->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN - crit_squeezed_n_blk(s);
    step a = {s, job, crit_ranges_of(n_late), 0};
    a.n_part = a.n_late + crit_ranges_of(crit_squeezed_n_blk(s));
    crit_status st = reserve_parts(s, a.n_part, err);
    if (st) return st;
    crit_stage stage[] = {{.n_item = s->n_kv_head, .task = pick_item, .arg = &a},
                          {.n_item = (size_t)a.n_part * s->n_kv_head, .task = part_item, .arg = &a},
                          {.n_item = s->n_head, .task = merge_item, .arg = &a}};
    crit_pool_run_stages(e->pool, stage, 3);
    for (uint32_t h = 0; h < s->n_kv_head; h++) {
        double n_key = (double)CRIT_BLK_LEN * (n_late + *count_of(s, job->layer, h));
        e->moved_bytes += s->d * sizeof(uint16_t) * (2 * n_key + s->n_scored[h]);
    }
    return CRIT_OK;
}

static int by_position(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

uint32_t crit_squeezed_kept(const void *state, uint32_t layer, uint32_t kv_head, uint32_t n_tok, uint32_t *pos) {
    const crit_squeezed *s = state;
    uint32_t n = 0;
    if (s->n_fix) {
        const uint32_t *list = list_of(s, layer, kv_head), *src = crit_squeezed_at(s, layer, kv_head)->pos;
        for (uint32_t i = 0; i < *count_of(s, layer, kv_head); i++, n += CRIT_BLK_LEN)
            memcpy(pos + n, src + (size_t)list[i] * CRIT_BLK_LEN, CRIT_BLK_LEN * sizeof *pos);
        qsort(pos, n, sizeof *pos, by_position);
    }
    for (uint32_t i = s->n_fix; i < n_tok; i++) pos[n++] = i;
    return n;
}

/* ---- a chunk of user input ---- */

typedef struct chunk {
    const crit_squeezed *s;
    crit_prefill_job *job;
    uint32_t tile0, n_tile;
    uint32_t *blk, *n_blk; /* [n_tile][n_kv_head][n_fix / 32], [n_tile][n_kv_head] */
} chunk;

/* Tiles of CRIT_ATTEND_ROWS positions, so that how a prompt was cut into chunks does not show. */
static uint32_t tile_rows(const chunk *a, uint32_t tile, uint32_t *pos) {
    uint32_t p0 = (a->tile0 + tile) * CRIT_ATTEND_ROWS, p1 = p0 + CRIT_ATTEND_ROWS, end = a->job->pos0 + a->job->n_tok;
    *pos = p0 < a->job->pos0 ? a->job->pos0 : p0;
    return (p1 < end ? p1 : end) - *pos;
}

static void chunk_pick_item(void *arg, size_t item, unsigned worker) {
    const chunk *a = arg;
    const crit_squeezed *s = a->s;
    uint32_t tile = (uint32_t)(item / s->n_kv_head), head = (uint32_t)(item % s->n_kv_head), pos, n_scored;
    uint32_t n_row = tile_rows(a, tile, &pos);
    room r = worker_room(s, worker);
    rows q = {a->job->q + (pos - a->job->pos0) * a->job->q_stride + (size_t)head * s->n_group * s->d,
              a->job->q_stride,
              n_row,
              s->n_group,
              s->d,
              a->job->env->scale};
    a->n_blk[item] = pick(s, a->job->env->kernels, crit_squeezed_at(s, a->job->layer, head), &q, &r,
                          a->blk + item * crit_squeezed_n_blk(s), &n_scored);
}

static void chunk_attend_item(void *arg, size_t item, unsigned worker) {
    const chunk *a = arg;
    const crit_squeezed *s = a->s;
    const crit_prefill_job *job = a->job;
    const crit_decode_env *e = job->env;
    uint32_t tile = (uint32_t)(item / s->n_head), head = (uint32_t)(item % s->n_head), kv_head = head / s->n_group, pos;
    uint32_t n_row = tile_rows(a, tile, &pos), first = crit_squeezed_n_blk(s), d = s->d;
    size_t list = (size_t)tile * s->n_kv_head + kv_head;
    float *out = job->out + (pos - job->pos0) * job->out_stride + (size_t)head * d;
    room r = worker_room(s, worker);
    crit_attend_args t = {.q = job->q + (pos - job->pos0) * job->q_stride + (size_t)head * d,
                          .q_stride = job->q_stride,
                          .k = crit_kv_k(job->kv, kv_head),
                          .v = crit_kv_v(job->kv, kv_head),
                          .blk = e->all_blk + first,
                          .n_blk = (pos + n_row - 1) / CRIT_BLK_LEN + 1 - first,
                          .out = out,
                          .out_stride = job->out_stride,
                          .lse = r.lse,
                          .pos0 = pos,
                          .n_key = pos + n_row,
                          .scale = e->scale,
                          .n_row = n_row,
                          .d = d,
                          .causal = 1};
    void *scratch = e->scratch + worker * e->scratch_slice;
    e->kernels->attend(&t, scratch);
    if (!a->n_blk[list]) return;
    const crit_slab *slab = &s->slab[job->layer];
    t.k = slab->k + kv_head * crit_slab_head(slab);
    t.v = slab->v + kv_head * crit_slab_head(slab);
    t.blk = a->blk + list * first;
    t.n_blk = a->n_blk[list];
    t.out = r.out;
    t.out_stride = d;
    t.lse = r.lse + CRIT_ATTEND_ROWS;
    t.n_key = s->n_fix;
    t.causal = 0;
    e->kernels->attend(&t, scratch);
    for (uint32_t i = 0; i < n_row; i++) {
        float x = r.lse[i], y = r.lse[CRIT_ATTEND_ROWS + i], top = x > y ? x : y;
        float wx = expf(x - top), wy = expf(y - top), inv = 1 / (wx + wy);
        for (uint32_t k = 0; k < d; k++)
            out[i * job->out_stride + k] = (wx * out[i * job->out_stride + k] + wy * r.out[(size_t)i * d + k]) * inv;
    }
}

crit_status crit_squeezed_chunk(void *state, crit_prefill_job *job, crit_error *err) {
    const crit_squeezed *s = state;
    chunk a = {.s = s, .job = job, .tile0 = job->pos0 / CRIT_ATTEND_ROWS};
    a.n_tile = (job->pos0 + job->n_tok - 1) / CRIT_ATTEND_ROWS - a.tile0 + 1;
    size_t n_list = (size_t)a.n_tile * s->n_kv_head;
    a.blk = crit_malloc(n_list * crit_squeezed_n_blk(s), sizeof *a.blk);
    a.n_blk = crit_calloc(n_list, sizeof *a.n_blk);
    crit_status st = a.blk && a.n_blk ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory for lists of blocks");
    if (!st) {
        crit_stage stage[] = {{.n_item = n_list, .task = chunk_pick_item, .arg = &a},
                              {.n_item = (size_t)a.n_tile * s->n_head, .task = chunk_attend_item, .arg = &a}};
        crit_pool_run_stages(job->env->pool, stage, 2);
        job->pairs = 0;
        for (uint32_t i = 0; i < n_list; i++) {
            uint32_t pos, n_row = tile_rows(&a, i / s->n_kv_head, &pos);
            double late = (pos - s->n_fix) * (double)n_row + n_row * (n_row + 1.0) / 2;
            job->pairs += s->n_group * (late + (double)n_row * a.n_blk[i] * CRIT_BLK_LEN);
        }
    }
    crit_free(a.blk);
    crit_free(a.n_blk);
    return st;
}
