/* SPDX-License-Identifier: MIT */
/* Attention of a few query rows over pieces of packed keys.
 *
 * Every (piece, KV head) is a work item that gives each of its rows a partial result and its log-sum-exp; partial
 * results over disjoint keys merge exactly.  How the keys were cut depends on the pieces only, never on threads. */
#include <math.h>
#include <string.h>

#include "kv/narrow.h"
#include "policy/decode_policy.h"

size_t crit_decode_env_bytes(const crit_decode_env *e) {
    return (size_t)crit_pieces_of(e->n_ctx / CRIT_BLK_LEN + 1) * e->n_head * (e->d + 1) * sizeof(float);
}

void crit_decode_env_clear(crit_decode_env *e) {
    crit_free(e->part);
    crit_free(e->part_lse);
    e->part = e->part_lse = NULL;
    e->part_cap = 0;
}

uint32_t crit_pieces_cut(crit_piece *out, const uint16_t *k, const uint16_t *v, size_t head_stride, const uint32_t *blk,
                         uint32_t n_blk, uint32_t n_key, uint32_t row0, uint32_t n_row) {
    uint32_t n = 0;
    for (uint32_t b = 0; b < n_blk; b += CRIT_RANGE_BLK)
        out[n++] = (crit_piece){.k = k,
                                .v = v,
                                .head_stride = head_stride,
                                .blk = blk + b,
                                .n_blk = n_blk - b < CRIT_RANGE_BLK ? n_blk - b : CRIT_RANGE_BLK,
                                .n_key = n_key,
                                .row0 = row0,
                                .n_row = n_row};
    return n;
}

uint32_t crit_pieces_cut_kv(crit_piece *out, const crit_kv *kv, const uint32_t *blk, uint32_t n_blk, uint32_t n_key,
                            uint32_t row0, uint32_t n_row) {
    size_t stride = (size_t)kv->n_blk_cap * CRIT_BLK_LEN * kv->d;
    uint32_t n_narrow = 0, n;
    while (n_narrow < n_blk && blk[n_narrow] < kv->n_narrow / CRIT_BLK_LEN) n_narrow++;
    n = crit_pieces_cut(out, kv->k, kv->v, stride, blk, n_narrow, n_key, row0, n_row);
    for (uint32_t i = 0; i < n; i++) out[i].narrow = kv;
    return n + crit_pieces_cut(out + n, kv->k, kv->v, stride, blk + n_narrow, n_blk - n_narrow, n_key, row0, n_row);
}

crit_status crit_pieces_prepare(crit_pieces *p, crit_error *err) {
    crit_decode_env *e = p->env;
    size_t n = 0;
    for (uint32_t i = 0; i < p->n_piece; i++) {
        p->piece[i].part = n;
        const crit_kv *narrow = p->piece[i].narrow;
        n += (size_t)p->piece[i].n_row * e->n_kv_head;
        e->moved_bytes += (double)sizeof(uint16_t) * p->piece[i].n_blk * CRIT_BLK_LEN *
                          (e->d + (narrow ? narrow->narrow->dk : e->d)) * e->n_kv_head;
    }
    if (n <= e->part_cap) return CRIT_OK;
    size_t cap = n < e->part_cap + e->part_cap / 2 ? e->part_cap + e->part_cap / 2 : n;
    crit_decode_env_clear(e);
    e->part = crit_malloc(cap * e->d, sizeof *e->part);
    e->part_lse = crit_malloc(cap, sizeof *e->part_lse);
    if (!e->part || !e->part_lse) {
        crit_decode_env_clear(e);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for partial results of attention");
    }
    e->part_cap = cap;
    return CRIT_OK;
}

/* Rows of queries without what narrow keys do not have, a tile at a time. */
static void narrow_rows(const crit_pieces *p, const crit_piece *c, size_t head, crit_attend_args *a, void *scratch) {
    float q[CRIT_TILE_LEN * CRIT_D_HEAD_MAX];
    uint32_t n_row = a->n_row;
    a->k = crit_narrow_k(c->narrow, (uint32_t)head);
    a->dk = c->narrow->narrow->dk;
    for (uint32_t r = 0; r < n_row; r += CRIT_TILE_LEN) {
        a->n_row = n_row - r < CRIT_TILE_LEN ? n_row - r : CRIT_TILE_LEN;
        crit_narrow_query(c->narrow, (uint32_t)head, a->q, a->q_stride, a->n_row, q);
        crit_attend_args tile = *a;
        tile.q = q;
        tile.q_stride = a->dk;
        p->env->kernels->attend(&tile, scratch);
        a->q += CRIT_TILE_LEN * a->q_stride;
        a->out += CRIT_TILE_LEN * a->out_stride;
        a->lse += CRIT_TILE_LEN;
    }
}

static void piece_item(void *arg, size_t item, unsigned worker) {
    const crit_pieces *p = arg;
    const crit_decode_env *e = p->env;
    const crit_piece *c = &p->piece[item / e->n_kv_head];
    size_t head = item % e->n_kv_head, d = e->d, part = c->part + head * c->n_row;
    for (uint32_t r = 0; r < c->n_row; r += CRIT_ATTEND_ROWS) {
        crit_attend_args a = {
            .q = p->q + (head * p->n_row + c->row0 + r) * d,
            .q_stride = d,
            .k = c->k + head * c->head_stride,
            .v = c->v + head * c->head_stride,
            .blk = c->blk,
            .n_blk = c->n_blk,
            .out = e->part + (part + r) * d,
            .out_stride = d,
            .lse = e->part_lse + part + r,
            .n_key = c->n_key,
            .scale = e->scale,
            .n_row = c->n_row - r < CRIT_ATTEND_ROWS ? c->n_row - r : CRIT_ATTEND_ROWS,
            .d = e->d,
        };
        void *scratch = e->scratch + worker * e->scratch_slice;
        if (c->narrow)
            narrow_rows(p, c, head, &a, scratch);
        else
            e->kernels->attend(&a, scratch);
    }
}

void crit_merge_part(float *out, float *lse_out, const float *part, float lse_part, uint32_t d) {
    float top = *lse_out > lse_part ? *lse_out : lse_part, a = expf(*lse_out - top), b = expf(lse_part - top);
    float wa = a / (a + b), wb = b / (a + b);
    for (uint32_t i = 0; i < d; i++) out[i] = wa * out[i] + wb * part[i];
    *lse_out = top + logf(a + b);
}

/* One row of one KV head. */
static void merge_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const crit_pieces *p = arg;
    const crit_decode_env *e = p->env;
    size_t head = item / p->n_row, row = item % p->n_row, d = e->d;
    float *out = p->out + (row / e->n_group * e->n_head + head * e->n_group + row % e->n_group) * d;
    float top = -INFINITY, sum = 0;
    memset(out, 0, d * sizeof *out);
    for (uint32_t i = 0; i < p->n_piece; i++) {
        const crit_piece *c = &p->piece[i];
        if (row - c->row0 >= c->n_row) continue; /* row < row0 wraps */
        float l = e->part_lse[c->part + head * c->n_row + row - c->row0];
        if (l > top) top = l;
    }
    for (uint32_t i = 0; i < p->n_piece; i++) {
        const crit_piece *c = &p->piece[i];
        if (row - c->row0 >= c->n_row) continue;
        size_t at = c->part + head * c->n_row + row - c->row0;
        float w = expf(e->part_lse[at] - top);
        sum += w;
        for (size_t j = 0; j < d; j++) out[j] += w * e->part[at * d + j];
    }
    for (size_t j = 0; j < d; j++) out[j] /= sum;
    if (p->lse) p->lse[item] = top + logf(sum);
}

void crit_pieces_stages(crit_pieces *p, crit_stage stage[2]) {
    stage[0] = (crit_stage){.n_item = (size_t)p->n_piece * p->env->n_kv_head, .task = piece_item, .arg = p};
    stage[1] = (crit_stage){.n_item = (size_t)p->n_row * p->env->n_kv_head, .task = merge_item, .arg = p};
}

void crit_pieces_run(crit_pieces *p) {
    crit_stage stage[2];
    crit_pieces_stages(p, stage);
    crit_pool_run_stages(p->env->pool, stage, 2);
}
