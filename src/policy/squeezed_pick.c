/* SPDX-License-Identifier: MIT */
/* Which blocks of clustered keys a few queries read: soft-max over centres, the best cluster of each block, the
 * threshold. */
#include <math.h>
#include <string.h>

#include "policy/squeezed.h"

/* ---- scratch ---- */

typedef struct run {
    uint32_t from, to; /* clusters of a level */
} run;

/* A worker's.  n = all clusters of both levels. */
typedef struct room {
    float *rep;       /* [8][d] */
    float *row;       /* [8][n] */
    float *ln;        /* [n] */
    float *sum;       /* [n] weight of each cluster, added up over the rows */
    float *block;     /* [n_fix / 32] */
    run *look, *rest; /* [n_coarse] */
} room;

static void *take(void *scratch, size_t *at, size_t bytes) {
    void *p = scratch ? (unsigned char *)scratch + *at : NULL;
    *at += (bytes + CRIT_ALIGN - 1) / CRIT_ALIGN * CRIT_ALIGN;
    return p;
}

/* Its parts; with scratch NULL only how many bytes they are. */
static size_t room_of(room *r, void *scratch, uint32_t n_fine, uint32_t n_coarse, uint32_t n_blk, uint32_t d) {
    size_t n = (size_t)n_fine + n_coarse, at = 0;
    r->rep = take(scratch, &at, (size_t)CRIT_REP_MAX * d * sizeof(float));
    r->row = take(scratch, &at, n * CRIT_REP_MAX * sizeof(float));
    r->ln = take(scratch, &at, n * sizeof(float));
    r->sum = take(scratch, &at, n * sizeof(float));
    r->block = take(scratch, &at, n_blk * sizeof(float));
    r->look = take(scratch, &at, n_coarse * sizeof(run));
    r->rest = take(scratch, &at, n_coarse * sizeof(run));
    return at;
}

size_t crit_squeezed_scratch_bytes(uint32_t n_fine, uint32_t n_coarse, uint32_t n_blk, uint32_t d) {
    room r;
    return room_of(&r, NULL, n_fine, n_coarse, n_blk, d);
}

/* ---- scores by centres ---- */

typedef struct clusters_in {
    const crit_cluster_level *l;
    const run *list;
    uint32_t n_run;
} clusters_in;

/* Their scores into row (stride n) from place `at` on; returns the place behind them. */
static uint32_t add_scores(const crit_kernels *kt, const clusters_in *c, const float *q, uint32_t n_rep, uint32_t d,
                           float scale, float *row, uint32_t at, uint32_t n) {
    for (uint32_t i = 0; i < c->n_run; at += c->list[i].to - c->list[i].from, i++)
        kt->key_scores(q, d, n_rep, c->l->key + (size_t)c->list[i].from * d, c->list[i].to - c->list[i].from, d, scale,
                       row + at, n);
    return at;
}

static uint32_t add_sizes(const clusters_in *c, float *ln, uint32_t at) {
    for (uint32_t i = 0; i < c->n_run; at += c->list[i].to - c->list[i].from, i++)
        memcpy(ln + at, c->l->ln_size + c->list[i].from, (c->list[i].to - c->list[i].from) * sizeof *ln);
    return at;
}

/* r->sum[x] = the soft-max of `size * exp(q.centre)` over the clusters of both lists, added up over rows; x counts
 * those of `of`, the rest only take their share.  Returns how many were scored. */
static uint32_t add_weights(const crit_kernels *kt, const clusters_in *of, const clusters_in *rest,
                            const crit_squeezed_rows *q, room *r) {
    uint32_t n_of = add_sizes(of, r->ln, 0), n = rest ? add_sizes(rest, r->ln, n_of) : n_of;
    uint32_t n_row = q->n_pos * q->n_group, d = q->d;
    memset(r->sum, 0, n_of * sizeof *r->sum);
    for (uint32_t r0 = 0; r0 < n_row; r0 += CRIT_REP_MAX) {
        uint32_t n_rep = n_row - r0 < CRIT_REP_MAX ? n_row - r0 : CRIT_REP_MAX;
        for (uint32_t i = 0; i < n_rep; i++)
            memcpy(r->rep + (size_t)i * d,
                   q->q + (r0 + i) / q->n_group * q->stride + (size_t)((r0 + i) % q->n_group) * d, d * sizeof(float));
        add_scores(kt, of, r->rep, n_rep, d, q->scale, r->row, 0, n);
        if (rest) add_scores(kt, rest, r->rep, n_rep, d, q->scale, r->row, n_of, n);
        for (uint32_t i = 0; i < n_rep; i++) {
            float *row = r->row + (size_t)i * n, top;
            for (uint32_t x = 0; x < n; x++) row[x] += r->ln[x];
            float inv = (float)(1 / kt->soft_max(row, n, &top));
            for (uint32_t x = 0; x < n_of; x++) r->sum[x] += inv * row[x];
        }
    }
    return n;
}

void crit_squeezed_scores(const crit_cluster_level *level, const crit_kernels *kt, const crit_squeezed_rows *q,
                          float *score, void *scratch) {
    room r;
    run all = {0, level->n};
    room_of(&r, scratch, level->n, 0, 0, q->d);
    add_weights(kt, &(clusters_in){level, &all, 1}, NULL, q, &r);
    for (uint32_t j = 0; j < level->n; j++) score[j] = r.sum[j] / (level->size[j] * (float)(q->n_pos * q->n_group));
}

/* ---- blocks ---- */

/* The largest weight that a block's clusters give one of their keys: into score and blk, blocks ascending.  weight: x
 * counts the clusters of the list; blocks with keys of others only are left out. */
static uint32_t block_scores(const crit_cluster_level *l, const run *list, uint32_t n_run, const float *weight,
                             uint32_t *blk, float *score) {
    uint32_t n = 0, x = 0;
    for (uint32_t i = 0; i < n_run; i++)
        for (uint32_t j = list[i].from; j < list[i].to; j++, x++)
            for (uint32_t b = l->from[j] / CRIT_BLK_LEN; b * CRIT_BLK_LEN < l->from[j + 1]; b++) {
                if (n && blk[n - 1] == b) {
                    score[n - 1] = score[n - 1] > weight[x] ? score[n - 1] : weight[x];
                } else {
                    blk[n] = b;
                    score[n++] = weight[x];
                }
            }
    return n;
}

uint32_t crit_squeezed_block_scores(const crit_cluster_level *fine, uint32_t *blk, float *score) {
    return block_scores(fine, &(run){0, fine->n}, 1, fine->score, blk, score);
}

/* Coarse clusters that are worth a look, and the others, as runs: of fine clusters, of coarse ones.  Left out is what
 * has less than its part of `lose`, so that all that is left out has less than it. */
static uint32_t look_where(const crit_squeezed *s, const crit_kernels *kt, const crit_cluster_level *coarse,
                           const crit_squeezed_rows *q, room *r, uint32_t *n_rest) {
    uint32_t n_look = 0;
    float least = s->lose * (float)(q->n_pos * q->n_group) / (float)coarse->n;
    *n_rest = 0;
    add_weights(kt, &(clusters_in){coarse, &(run){0, coarse->n}, 1}, NULL, q, r);
    for (uint32_t j = 0; j < coarse->n; j++) {
        bool look = !(r->sum[j] < least);
        run *list = look ? r->look : r->rest,
            one = look ? (run){coarse->from[j], coarse->from[j + 1]} : (run){j, j + 1};
        uint32_t *n = look ? &n_look : n_rest;
        if (*n && list[*n - 1].to == one.from)
            list[*n - 1].to = one.to;
        else
            list[(*n)++] = one;
    }
    return n_look;
}

uint32_t crit_squeezed_pick(const crit_squeezed *s, const crit_kernels *kt, const crit_clusters *c,
                            const crit_squeezed_rows *q, void *scratch, uint32_t *blk, uint32_t *n_scored) {
    room r;
    uint32_t n_look = 1, n_rest = 0, n_blk = 0, n_row = q->n_pos * q->n_group;
    *n_scored = 0;
    if (s->t_block == -INFINITY) { /* nothing to choose */
        for (; n_blk < crit_squeezed_n_blk(s); n_blk++) blk[n_blk] = n_blk;
        return n_blk;
    }
    room_of(&r, scratch, s->n_fine_max, s->n_coarse_max, crit_squeezed_n_blk(s), s->d);
    r.look[0] = (run){0, c->fine.n};
    if (s->levels > 1) {
        n_look = look_where(s, kt, &c->coarse, q, &r, &n_rest);
        *n_scored = c->coarse.n;
    }
    const clusters_in rest = {&c->coarse, r.rest, n_rest};
    *n_scored += add_weights(kt, &(clusters_in){&c->fine, r.look, n_look}, &rest, q, &r);
    for (uint32_t i = 0, x = 0; i < n_look; i++)
        for (uint32_t j = r.look[i].from; j < r.look[i].to; j++, x++) r.sum[x] /= c->fine.size[j] * (float)n_row;
    uint32_t n_seen = block_scores(&c->fine, r.look, n_look, r.sum, blk, r.block);
    for (uint32_t i = 0; i < n_seen; i++)
        if (r.block[i] > s->t_block) blk[n_blk++] = blk[i];
    return n_blk;
}
