/* SPDX-License-Identifier: MIT */
/* Attention through clusters: blocks of the slab that the query picks, the keys behind the prefix, merged by
 * log-sum-exp.
 *
 * A step is one run of three stages whose item counts do not depend on what is picked; an item without work returns. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/squeezed.h"

/* ---- memory ---- */

/* A worker's scratch: for picking, and the results of a tile over the slab. */
static size_t pick_bytes(const crit_squeezed *s) {
    return (crit_squeezed_scratch_bytes(s->n_fine_max, s->n_coarse_max, crit_squeezed_n_blk(s), s->d) + CRIT_ALIGN -
            1) /
           CRIT_ALIGN * CRIT_ALIGN;
}
static float *tile_out(const crit_squeezed *s, unsigned worker) { /* [CRIT_ATTEND_ROWS][d] */
    return (float *)(void *)(s->scratch + worker * s->scratch_slice + pick_bytes(s));
}
static float *tile_lse(const crit_squeezed *s, unsigned worker) { /* [2][CRIT_ATTEND_ROWS] */
    return tile_out(s, worker) + (size_t)CRIT_ATTEND_ROWS * s->d;
}

crit_status crit_squeezed_reserve(crit_squeezed *s, const crit_decode_env *e, crit_error *err) {
    size_t n_list = (size_t)s->n_layer * s->n_kv_head;
    s->n_fine_max = s->n_coarse_max = 0;
    for (size_t i = 0; i < n_list; i++) {
        const crit_clusters *c = &s->clusters[i];
        if (c->fine.n > s->n_fine_max) s->n_fine_max = c->fine.n;
        if (c->coarse.n > s->n_coarse_max) s->n_coarse_max = c->coarse.n;
    }
    crit_free(s->blk);
    crit_free(s->n_blk);
    s->scratch_slice = pick_bytes(s) + (size_t)CRIT_ATTEND_ROWS * (s->d + 2) * sizeof(float); /* aligned */
    size_t at = 0;
    for (size_t i = 0; i < n_list; i++) at += crit_clusters_place(&s->clusters[i], NULL);
    s->map_bytes = at + crit_pool_size(e->pool) * s->scratch_slice;
    s->map = crit_map(s->map_bytes);
    at = 0;
    for (size_t i = 0; s->map && i < n_list; i++) at += crit_clusters_place(&s->clusters[i], s->map + at);
    s->scratch = s->map ? s->map + at : NULL;
    s->blk = crit_malloc(n_list * crit_squeezed_n_blk(s), sizeof *s->blk);
    s->n_blk = crit_calloc(n_list, sizeof *s->n_blk);
    if (s->map && s->blk && s->n_blk) return CRIT_OK;
    return crit_fail(err, CRIT_E_NOMEM, "out of memory for the scores of clusters");
}

/* ---- a step ---- */

static uint32_t parts_of(uint32_t n_blk) {
    return (n_blk + CRIT_SQUEEZED_PART - 1) / CRIT_SQUEEZED_PART;
}

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
    crit_squeezed_rows q = {a->job->q + head * s->n_group * s->d, 0, 1, s->n_group, s->d, a->job->env->scale};
    *count_of(s, layer, h) =
        crit_squeezed_pick(s, a->job->env->kernels, crit_squeezed_at(s, layer, h), &q,
                           s->scratch + worker * s->scratch_slice, list_of(s, layer, h), &s->n_scored[head]);
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
        first = part * CRIT_SQUEEZED_PART;
        t.k = crit_kv_k(job->kv, head);
        t.v = crit_kv_v(job->kv, head);
        t.n_key = job->n_tok;
    } else {
        const crit_slab *slab = &s->slab[layer];
        list = list_of(s, layer, head);
        n_list = *count_of(s, layer, head);
        first = (part - a->n_late) * CRIT_SQUEEZED_PART;
        t.k = slab->k + head * crit_slab_head(slab);
        t.v = slab->v + head * crit_slab_head(slab);
        t.n_key = s->n_fix;
    }
    if (first >= n_list) return;
    t.blk = list + first;
    t.n_blk = n_list - first < CRIT_SQUEEZED_PART ? n_list - first : CRIT_SQUEEZED_PART;
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
    uint32_t n_part = a->n_late + parts_of(*count_of(s, a->job->layer, (uint32_t)kv_head));
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
    step a = {s, job, parts_of(n_late), 0};
    a.n_part = a.n_late + parts_of(crit_squeezed_n_blk(s));
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
    crit_squeezed_rows q = {a->job->q + (pos - a->job->pos0) * a->job->q_stride + (size_t)head * s->n_group * s->d,
                            a->job->q_stride,
                            n_row,
                            s->n_group,
                            s->d,
                            a->job->env->scale};
    a->n_blk[item] =
        crit_squeezed_pick(s, a->job->env->kernels, crit_squeezed_at(s, a->job->layer, head), &q,
                           s->scratch + worker * s->scratch_slice, a->blk + item * crit_squeezed_n_blk(s), &n_scored);
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
    float *slab_out = tile_out(s, worker), *lse = tile_lse(s, worker);
    crit_attend_args t = {.q = job->q + (pos - job->pos0) * job->q_stride + (size_t)head * d,
                          .q_stride = job->q_stride,
                          .k = crit_kv_k(job->kv, kv_head),
                          .v = crit_kv_v(job->kv, kv_head),
                          .blk = e->all_blk + first,
                          .n_blk = (pos + n_row - 1) / CRIT_BLK_LEN + 1 - first,
                          .out = out,
                          .out_stride = job->out_stride,
                          .lse = lse,
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
    t.out = slab_out;
    t.out_stride = d;
    t.lse = lse + CRIT_ATTEND_ROWS;
    t.n_key = s->n_fix;
    t.causal = 0;
    e->kernels->attend(&t, scratch);
    for (uint32_t i = 0; i < n_row; i++) {
        float x = lse[i], y = lse[CRIT_ATTEND_ROWS + i], top = x > y ? x : y;
        float wx = expf(x - top), wy = expf(y - top), inv = 1 / (wx + wy);
        for (uint32_t k = 0; k < d; k++)
            out[i * job->out_stride + k] = (wx * out[i * job->out_stride + k] + wy * slab_out[(size_t)i * d + k]) * inv;
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
