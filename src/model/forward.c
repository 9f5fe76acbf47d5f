/* SPDX-License-Identifier: MIT */
/* One chunk of tokens through all layers, and one token at a time.
 *
 * Per layer: norm -> QKV -> RoPE -> KV append -> plan -> attend -> O -> norm -> gate, up -> SiLU -> down.  Each step is
 * a parallel phase over rows, output panels or tiles; a row's bits depend on its own tokens only, so neither the chunk
 * length nor the number of threads shows.  The last layer stops after K and V for rows whose logits nobody wants. */
#include <math.h>
#include <string.h>

#include "model/model.h"

enum { ROWS_PER_ITEM = 8 };

/* ---- matrix products: several matrices on the same packed rows make one phase ---- */

typedef struct product {
    const crit_mat *m;
    const float *bias;
    float *out;
    size_t out_stride;
    bool accumulate;
} product;

typedef struct product_arg {
    crit_forward *f;
    const product *p;
    size_t n_p, row0, n_row;
    size_t first[4];    /* first item of each product */
    size_t per_item[3]; /* outputs per item */
} product_arg;

static void product_item(void *arg, size_t item, unsigned worker) {
    product_arg *a = arg;
    size_t i = 0;
    while (i + 1 < a->n_p && item >= a->first[i + 1]) i++;
    const product *p = &a->p[i];
    const crit_kernels *kt = &a->f->model->kernels;
    const crit_mat *m = p->m;
    const bool one = a->n_row == 1 && a->f->one;
    crit_act_kind kind = (crit_act_kind)(one ? kt->act_kind_one : kt->act_kind)[m->type];
    size_t n0 = (item - a->first[i]) * a->per_item[i], n1 = n0 + a->per_item[i];
    if (n1 > m->n_out) n1 = m->n_out;
    crit_gemm_args g = {
        .w = m->w,
        .w_row_bytes = m->row_bytes,
        .n_out = m->n_out,
        .n_in = m->n_in,
        .act = a->f->act[kind] + a->row0 * crit_act_row_bytes(kind, m->n_in),
        .n_row = a->n_row,
        .out = p->out,
        .out_stride = p->out_stride,
        .bias = p->bias,
        .type = m->type,
        .accumulate = p->accumulate,
    };
    if (one)
        kt->gemv[m->type](&g, n0, n1);
    else
        kt->gemm[m->type](&g, n0, n1, a->f->scratch + worker * a->f->scratch_slice);
}

/* Products of packed rows [row0, row0 + n_row); out of each points at row row0. */
static void products(crit_forward *f, const product *p, size_t n_p, size_t row0, size_t n_row) {
    if (n_row == 0) return;
    uint64_t t0 = crit_now_ns();
    product_arg a = {.f = f, .p = p, .n_p = n_p, .row0 = row0, .n_row = n_row};
    for (size_t i = 0; i < n_p; i++) {
        /* Many rows: what the level likes, or less to have four items a thread.  Few rows: worth handing out. */
        size_t per = f->model->kernels.gemm_item, share = p[i].m->n_out / (4 * (size_t)crit_pool_size(f->pool));
        if (per > share) per = (share + CRIT_GEMM_NR - 1) / CRIT_GEMM_NR * CRIT_GEMM_NR;
        if (per < CRIT_GEMM_NR) per = CRIT_GEMM_NR;
        if (n_row < 64) {
            size_t want = (size_t)(128 << 10) / (p[i].m->row_bytes ? p[i].m->row_bytes : 1);
            if (want > per) per = (want + CRIT_GEMM_NR - 1) / CRIT_GEMM_NR * CRIT_GEMM_NR;
        }
        a.per_item[i] = per;
        a.first[i + 1] = a.first[i] + (p[i].m->n_out + per - 1) / per;
    }
    crit_pool_run(f->pool, a.first[n_p], product_item, &a);
    f->stats.gemm_ns += crit_now_ns() - t0;
}

/* ---- rows into packed form ---- */

typedef struct pack_arg {
    crit_forward *f;
    const float *x, *up, *norm; /* norm: RMS norm with these weights first; up: silu(x) * up first */
    size_t x_stride, n, row0, n_row;
    unsigned kinds;
} pack_arg;

static void pack_item(void *arg, size_t item, unsigned worker) {
    pack_arg *a = arg;
    const crit_kernels *kt = &a->f->model->kernels;
    float *row = (float *)(a->f->scratch + worker * a->f->scratch_slice);
    size_t r0 = item * ROWS_PER_ITEM, r1 = r0 + ROWS_PER_ITEM < a->n_row ? r0 + ROWS_PER_ITEM : a->n_row;
    for (size_t r = a->row0 + r0; r < a->row0 + r1; r++) {
        const float *x = a->x + r * a->x_stride;
        if (a->norm)
            kt->rmsnorm(x, a->norm, row, a->n, a->f->model->config.eps);
        else if (a->up)
            kt->silu_mul(x, a->up + r * a->x_stride, row, a->n);
        const float *src = a->norm || a->up ? row : x;
        for (int k = 0; k < CRIT_ACT_KINDS; k++)
            if (a->kinds >> k & 1)
                kt->act_pack[k](src, a->n, a->f->act[k] + r * crit_act_row_bytes((crit_act_kind)k, a->n));
    }
}

static void pack(crit_forward *f, pack_arg a) {
    uint64_t t0 = crit_now_ns();
    a.f = f;
    crit_pool_run(f->pool, (a.n_row + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM, pack_item, &a);
    f->stats.gemm_ns += crit_now_ns() - t0;
}

static unsigned kinds_of(const crit_forward *f, const crit_mat *a, const crit_mat *b, const crit_mat *c) {
    const crit_kernels *kt = &f->model->kernels;
    const unsigned char *kind = f->one ? kt->act_kind_one : kt->act_kind;
    unsigned k = 1u << kind[a->type];
    if (b) k |= 1u << kind[b->type];
    if (c) k |= 1u << kind[c->type];
    return k;
}

/* ---- positions, RoPE, KV ---- */

typedef struct rows_arg {
    crit_forward *f;
    const crit_chunk *chunk;
    const crit_layer *layer;
    crit_kv *kv;
    uint32_t q_from; /* first row of the chunk whose q exists */
} rows_arg;

static void embed_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    rows_arg *a = arg;
    crit_forward *f = a->f;
    const crit_model *m = f->model;
    size_t r0 = item * ROWS_PER_ITEM, r1 = r0 + ROWS_PER_ITEM, half = m->config.n_rot / 2;
    if (r1 > a->chunk->n_tok) r1 = a->chunk->n_tok;
    for (size_t r = r0; r < r1; r++) {
        const char *row = (const char *)m->weights.embd.w + (size_t)a->chunk->tokens[r] * m->weights.embd.row_bytes;
        m->kernels.dequant[m->weights.embd.type](row, f->x + r * m->config.n_embd, m->config.n_embd);
        crit_rope_at(&m->rope, a->chunk->pos0 + (uint32_t)r, f->cosv + r * half, f->sinv + r * half);
    }
}

/* One KV head's keys, values and queries of the positions of one KV block. */
static void rope_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    rows_arg *a = arg;
    crit_forward *f = a->f;
    const crit_config *c = &f->model->config;
    const crit_kernels *kt = &f->model->kernels;
    crit_rope_fn rope = c->neox ? kt->rope_neox : kt->rope_norm;
    uint32_t head = (uint32_t)(item % c->n_kv_head),
             blk = a->chunk->pos0 / CRIT_BLK_LEN + (uint32_t)(item / c->n_kv_head);
    uint32_t p0 = blk * CRIT_BLK_LEN, p1 = p0 + CRIT_BLK_LEN, end = a->chunk->pos0 + a->chunk->n_tok;
    if (p0 < a->chunk->pos0) p0 = a->chunk->pos0;
    if (p1 > end) p1 = end;
    size_t d = c->d_head, n_q = (size_t)c->n_head * d, n_kv = (size_t)c->n_kv_head * d, half = c->n_rot / 2;
    for (uint32_t p = p0; p < p1; p++) {
        size_t r = p - a->chunk->pos0;
        const float *cosv = f->cosv + r * half, *sinv = f->sinv + r * half;
        float *k = f->k + r * n_kv + head * d, *q = f->q + r * n_q + (size_t)head * c->n_group * d;
        if (a->layer->k_norm) kt->rmsnorm(k, a->layer->k_norm, k, d, c->eps);
        rope(k, 1, c->d_head, c->n_rot, cosv, sinv);
        if (r < a->q_from) continue;
        if (a->layer->q_norm)
            for (uint32_t g = 0; g < c->n_group; g++) kt->rmsnorm(q + g * d, a->layer->q_norm, q + g * d, d, c->eps);
        rope(q, c->n_group, c->d_head, c->n_rot, cosv, sinv);
    }
    size_t r0 = p0 - a->chunk->pos0;
    crit_kv_put(a->kv, head, p0, p1 - p0, f->k + r0 * n_kv + head * d, n_kv, f->v + r0 * n_kv + head * d, n_kv);
}

static bool rows_finite(const float *x, size_t n) {
    /* 0 * x is 0 for every finite x and NaN otherwise; the sum stays 0. */
    float s = 0;
    for (size_t i = 0; i < n; i++) s += 0.0f * x[i];
    return s == 0.0f;
}

/* ---- layer ---- */

/* Attention of rows [q_from, n_tok) of the chunk into f->att. */
static crit_status attention(crit_forward *f, const crit_chunk *chunk, uint32_t layer, uint32_t q_from,
                             crit_error *err) {
    const crit_config *c = &f->model->config;
    size_t n_q = (size_t)c->n_head * c->d_head;
    const crit_attn_params *o = &f->attn;
    bool paper = o->mode == CRIT_ATTN_PAPER;
    crit_plan_job job = {
        .kv = &f->kv[layer],
        .q = f->q + q_from * n_q,
        .q_stride = n_q,
        .n_head = c->n_head,
        .pos0 = chunk->pos0 + q_from,
        .n_tok = chunk->n_tok - q_from,
        .n_rest = chunk->n_rest,
        .scale = 1.0f / sqrtf((float)c->d_head),
        .dense = paper && layer < o->layer_skip,
        /* The published rule fuses from layer 2 on, with the state the layer before left in this plan. */
        .prev = paper && layer >= 2 && layer > o->layer_skip ? &f->plan : NULL,
    };
    crit_status st = crit_plan_make(&f->plan, &job, &f->calib[layer], err);
    if (st) return st;
    crit_plan_attend(&f->plan, &job, f->att + q_from * n_q, n_q);
    f->stats.pairs += f->plan.pairs;
    f->stats.pairs_causal += f->plan.pairs_causal;
    return CRIT_OK;
}

/* Rows behind row `from` matter after attention, queries from q_from on (a tile boundary at or before it). */
static crit_status layer_chunk(crit_forward *f, const crit_chunk *chunk, uint32_t i, uint32_t q_from, uint32_t from,
                               crit_error *err) {
    const crit_model *m = f->model;
    const crit_config *c = &m->config;
    const crit_layer *l = &m->weights.layers[i];
    size_t n = chunk->n_tok, e = c->n_embd, n_q = (size_t)c->n_head * c->d_head,
           n_kv = (size_t)c->n_kv_head * c->d_head;

    pack(f, (pack_arg){.x = f->x,
                       .norm = l->attn_norm,
                       .x_stride = e,
                       .n = e,
                       .n_row = n,
                       .kinds = kinds_of(f, &l->wq, &l->wk, &l->wv)});
    product kv[2] = {{&l->wk, l->bk, f->k, n_kv, false}, {&l->wv, l->bv, f->v, n_kv, false}};
    product qkv[3] = {{&l->wq, l->bq, f->q, n_q, false}, kv[0], kv[1]};
    if (q_from == 0)
        products(f, qkv, 3, 0, n);
    else {
        products(f, kv, 2, 0, n);
        qkv[0].out += q_from * n_q;
        if (q_from < n) products(f, qkv, 1, q_from, n - q_from);
    }
    rows_arg rows = {f, chunk, l, &f->kv[i], q_from};
    uint32_t n_blk = (chunk->pos0 + chunk->n_tok - 1) / CRIT_BLK_LEN - chunk->pos0 / CRIT_BLK_LEN + 1;
    crit_pool_run(f->pool, (size_t)n_blk * c->n_kv_head, rope_item, &rows);
    crit_kv_advance(&f->kv[i], chunk->n_tok);
    if (q_from >= n) return CRIT_OK;

    crit_status st = attention(f, chunk, i, q_from, err);
    if (st) return st;

    size_t n_row = n - from;
    pack(f, (pack_arg){.x = f->att,
                       .x_stride = n_q,
                       .n = n_q,
                       .row0 = from,
                       .n_row = n_row,
                       .kinds = kinds_of(f, &l->wo, NULL, NULL)});
    product o = {&l->wo, l->bo, f->x + from * e, e, true};
    products(f, &o, 1, from, n_row);
    pack(f, (pack_arg){.x = f->x,
                       .norm = l->ffn_norm,
                       .x_stride = e,
                       .n = e,
                       .row0 = from,
                       .n_row = n_row,
                       .kinds = kinds_of(f, &l->gate, &l->up, NULL)});
    product gu[2] = {{&l->gate, NULL, f->gate + from * c->n_ff, c->n_ff, false},
                     {&l->up, NULL, f->up + from * c->n_ff, c->n_ff, false}};
    products(f, gu, 2, from, n_row);
    pack(f, (pack_arg){.x = f->gate,
                       .up = f->up,
                       .x_stride = c->n_ff,
                       .n = c->n_ff,
                       .row0 = from,
                       .n_row = n_row,
                       .kinds = kinds_of(f, &l->down, NULL, NULL)});
    product down = {&l->down, NULL, f->x + from * e, e, true};
    products(f, &down, 1, from, n_row);
    return CRIT_OK;
}

/* Final norm and vocabulary projection of rows [row, row + n) of f->x. */
static void vocabulary(crit_forward *f, size_t row, size_t n, float *out) {
    const crit_model *m = f->model;
    size_t e = m->config.n_embd;
    pack(f, (pack_arg){.x = f->x,
                       .norm = m->weights.output_norm,
                       .x_stride = e,
                       .n = e,
                       .row0 = row,
                       .n_row = n,
                       .kinds = kinds_of(f, &m->weights.output, NULL, NULL)});
    product p = {&m->weights.output, NULL, out, m->config.n_vocab, false};
    products(f, &p, 1, row, n);
}

/* Into f->logits, which keeps its contents until the new row is whole. */
static crit_status last_logits(crit_forward *f, size_t row, crit_error *err) {
    vocabulary(f, row, 1, f->next_logits);
    if (crit_pool_stopped(f->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    if (!rows_finite(f->next_logits, f->model->config.n_vocab)) return crit_weights_find_nonfinite(f->model->file, err);
    float *t = f->logits;
    f->logits = f->next_logits;
    f->next_logits = t;
    return CRIT_OK;
}

static crit_status chunk_logits(crit_forward *f, const crit_chunk *chunk, uint32_t from, crit_error *err) {
    size_t n_vocab = f->model->config.n_vocab;
    if (chunk->on_logits && !f->logit_rows) {
        f->logit_rows = crit_malloc(CRIT_LOGIT_ROWS * n_vocab, sizeof *f->logit_rows);
        if (!f->logit_rows) return crit_fail(err, CRIT_E_NOMEM, "out of memory for logits");
    }
    for (uint32_t r = from; chunk->on_logits && r < chunk->n_tok; r += CRIT_LOGIT_ROWS) {
        uint32_t n = chunk->n_tok - r < CRIT_LOGIT_ROWS ? chunk->n_tok - r : CRIT_LOGIT_ROWS;
        vocabulary(f, r, n, f->logit_rows);
        if (crit_pool_stopped(f->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
        for (uint32_t j = 0; j < n; j++)
            if (chunk->on_logits(chunk->user, chunk->pos0 + r + j, f->logit_rows + j * n_vocab, (uint32_t)n_vocab))
                return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    }
    return chunk->keep_last ? last_logits(f, chunk->n_tok - 1, err) : CRIT_OK;
}

crit_status crit_forward_chunk(crit_forward *f, const crit_chunk *chunk, crit_error *err) {
    const crit_config *c = &f->model->config;
    rows_arg rows = {.f = f, .chunk = chunk};
    f->one = false;
    crit_pool_run(f->pool, ((size_t)chunk->n_tok + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM, embed_item, &rows);

    uint32_t end = chunk->pos0 + chunk->n_tok, need = chunk->keep_last ? end - 1 : end;
    if (chunk->on_logits && chunk->need_from < need) need = chunk->need_from;
    uint32_t from = need <= chunk->pos0 ? 0 : need - chunk->pos0, align = crit_attn_align(&f->attn);
    /* Queries start at the tile (paper: the segment) of the first row that matters. */
    uint32_t q_pos = need / align * align, q_from = need >= end            ? chunk->n_tok
                                                    : q_pos <= chunk->pos0 ? 0
                                                                           : q_pos - chunk->pos0;
    for (uint32_t i = 0; i < c->n_layer; i++) {
        bool last = i + 1 == c->n_layer;
        if (last && !rows_finite(f->x, (size_t)chunk->n_tok * c->n_embd))
            return crit_weights_find_nonfinite(f->model->file, err);
        crit_status st = layer_chunk(f, chunk, i, last ? q_from : 0, last ? from : 0, err);
        if (st) return st;
        if (crit_pool_stopped(f->pool) || (chunk->tick && chunk->tick(chunk->user, i)))
            return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    }
    return chunk_logits(f, chunk, from, err);
}

/* ---- one token ---- */

typedef struct decode_arg {
    crit_forward *f;
    const crit_kv *kv;
    size_t n_range;
} decode_arg;

/* Query heads of one KV head over one range of the cache: the rows of the kernel are the heads. */
static void decode_item(void *arg, size_t item, unsigned worker) {
    decode_arg *a = arg;
    crit_forward *f = a->f;
    const crit_config *c = &f->model->config;
    uint32_t head = (uint32_t)(item / a->n_range), range = (uint32_t)(item % a->n_range);
    uint32_t n_blk = (a->kv->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN, b0 = range * CRIT_DECODE_RANGE_BLK;
    size_t at = item * c->n_group;
    crit_attend_args k = {
        .q = f->q + (size_t)head * c->n_group * c->d_head,
        .q_stride = c->d_head,
        .k = crit_kv_k(a->kv, head),
        .v = crit_kv_v(a->kv, head),
        .blk = f->all_blk + b0,
        .n_blk = n_blk - b0 < CRIT_DECODE_RANGE_BLK ? n_blk - b0 : CRIT_DECODE_RANGE_BLK,
        .out = f->part + at * c->d_head,
        .out_stride = c->d_head,
        .lse = f->part_lse + at,
        .n_key = a->kv->n_tok,
        .scale = 1.0f / sqrtf((float)c->d_head),
        .n_row = c->n_group,
        .d = c->d_head,
    };
    f->model->kernels.attend(&k, f->scratch + worker * f->scratch_slice);
}

/* Partial results over disjoint ranges merge exactly by log-sum-exp. */
static void merge_ranges(crit_forward *f, size_t n_range) {
    const crit_config *c = &f->model->config;
    for (uint32_t h = 0; h < c->n_head; h++) {
        uint32_t kv_head = h / c->n_group, g = h % c->n_group;
        float top = -INFINITY, sum = 0;
        float *out = f->att + (size_t)h * c->d_head;
        memset(out, 0, c->d_head * sizeof *out);
        for (size_t s = 0; s < n_range; s++) {
            float l = f->part_lse[(kv_head * n_range + s) * c->n_group + g];
            if (l > top) top = l;
        }
        for (size_t s = 0; s < n_range; s++) {
            size_t at = (kv_head * n_range + s) * c->n_group + g;
            float w = expf(f->part_lse[at] - top);
            sum += w;
            for (uint32_t j = 0; j < c->d_head; j++) out[j] += w * f->part[at * c->d_head + j];
        }
        for (uint32_t j = 0; j < c->d_head; j++) out[j] /= sum;
    }
}

crit_status crit_forward_one(crit_forward *f, int32_t token, uint32_t pos, crit_error *err) {
    const crit_model *m = f->model;
    const crit_config *c = &m->config;
    size_t e = c->n_embd, n_q = (size_t)c->n_head * c->d_head, n_kv = (size_t)c->n_kv_head * c->d_head;
    crit_chunk chunk = {.tokens = &token, .pos0 = pos, .n_tok = 1};
    rows_arg rows = {.f = f, .chunk = &chunk};
    f->one = true;
    embed_item(&rows, 0, 0);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const crit_layer *l = &m->weights.layers[i];
        pack(f, (pack_arg){.x = f->x,
                           .norm = l->attn_norm,
                           .x_stride = e,
                           .n = e,
                           .n_row = 1,
                           .kinds = kinds_of(f, &l->wq, &l->wk, &l->wv)});
        product qkv[3] = {
            {&l->wq, l->bq, f->q, n_q, false}, {&l->wk, l->bk, f->k, n_kv, false}, {&l->wv, l->bv, f->v, n_kv, false}};
        products(f, qkv, 3, 0, 1);
        rows.layer = l;
        rows.kv = &f->kv[i];
        for (uint32_t h = 0; h < c->n_kv_head; h++) rope_item(&rows, h, 0);
        crit_kv_advance(&f->kv[i], 1);

        decode_arg d = {f, &f->kv[i], (pos / CRIT_BLK_LEN + CRIT_DECODE_RANGE_BLK) / CRIT_DECODE_RANGE_BLK};
        crit_pool_run(f->pool, c->n_kv_head * d.n_range, decode_item, &d);
        merge_ranges(f, d.n_range);

        pack(f,
             (pack_arg){.x = f->att, .x_stride = n_q, .n = n_q, .n_row = 1, .kinds = kinds_of(f, &l->wo, NULL, NULL)});
        products(f, &(product){&l->wo, l->bo, f->x, e, true}, 1, 0, 1);
        pack(f, (pack_arg){.x = f->x,
                           .norm = l->ffn_norm,
                           .x_stride = e,
                           .n = e,
                           .n_row = 1,
                           .kinds = kinds_of(f, &l->gate, &l->up, NULL)});
        product gu[2] = {{&l->gate, NULL, f->gate, c->n_ff, false}, {&l->up, NULL, f->up, c->n_ff, false}};
        products(f, gu, 2, 0, 1);
        pack(f, (pack_arg){.x = f->gate,
                           .up = f->up,
                           .x_stride = c->n_ff,
                           .n = c->n_ff,
                           .n_row = 1,
                           .kinds = kinds_of(f, &l->down, NULL, NULL)});
        products(f, &(product){&l->down, NULL, f->x, e, true}, 1, 0, 1);
    }
    return last_logits(f, 0, err);
}
