/* SPDX-License-Identifier: MIT */
/* One token through all layers: products of one row, attention over the whole cache in ranges that threads share. */
#include <math.h>
#include <string.h>

#include "model/steps.h"

typedef struct decode_arg {
    crit_forward *f;
    const crit_kv *kv;
    uint32_t n_tok; /* keys, the token's own included */
    size_t n_range;
} decode_arg;

/* Query heads of one KV head over one range of the cache: the rows of the kernel are the heads. */
static void decode_item(void *arg, size_t item, unsigned worker) {
    decode_arg *a = arg;
    crit_forward *f = a->f;
    const crit_config *c = &f->model->config;
    uint32_t head = (uint32_t)(item / a->n_range), range = (uint32_t)(item % a->n_range);
    uint32_t n_blk = (a->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN, b0 = range * CRIT_DECODE_RANGE_BLK;
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
        .n_key = a->n_tok,
        .scale = 1.0f / sqrtf((float)c->d_head),
        .n_row = c->n_group,
        .d = c->d_head,
    };
    f->model->kernels.attend(&k, f->scratch + worker * f->scratch_slice);
}

/* Partial results over disjoint ranges merge exactly by log-sum-exp; one query head an item. */
static void merge_item(void *arg, size_t h, unsigned worker) {
    (void)worker;
    decode_arg *a = arg;
    crit_forward *f = a->f;
    const crit_config *c = &f->model->config;
    size_t kv_head = h / c->n_group, g = h % c->n_group, n_range = a->n_range;
    float top = -INFINITY, sum = 0, *out = f->att + h * c->d_head;
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

static void layer_one(crit_forward *f, crit_rows_arg *rows, uint32_t i) {
    const crit_config *c = &f->model->config;
    const crit_layer *l = &f->model->weights.layers[i];
    size_t e = c->n_embd, n_q = (size_t)c->n_head * c->d_head, n_kv = (size_t)c->n_kv_head * c->d_head;
    uint32_t pos = rows->chunk->pos0;
    crit_steps s;
    crit_steps_begin(&s, f);
    crit_steps_pack(&s, (crit_pack){.x = f->x,
                                    .norm = l->attn_norm,
                                    .x_stride = e,
                                    .n = e,
                                    .n_row = 1,
                                    .kinds = crit_kinds_of(f, &l->wq, &l->wk, &l->wv)});
    crit_product qkv[3] = {
        {&l->wq, l->bq, f->q, n_q, false}, {&l->wk, l->bk, f->k, n_kv, false}, {&l->wv, l->bv, f->v, n_kv, false}};
    crit_steps_products(&s, qkv, 3, 0, 1);
    rows->layer = l;
    rows->kv = &f->kv[i];
    crit_steps_add(&s, (crit_stage){.n_item = c->n_kv_head, .task = crit_rope_item, .arg = rows}, NULL);
    decode_arg d = {f, &f->kv[i], pos + 1, (pos / CRIT_BLK_LEN + CRIT_DECODE_RANGE_BLK) / CRIT_DECODE_RANGE_BLK};
    crit_steps_add(&s, (crit_stage){.n_item = c->n_kv_head * d.n_range, .task = decode_item, .arg = &d}, NULL);
    crit_steps_add(&s, (crit_stage){.n_item = c->n_head, .task = merge_item, .arg = &d}, NULL);
    crit_steps_pack(
        &s,
        (crit_pack){.x = f->att, .x_stride = n_q, .n = n_q, .n_row = 1, .kinds = crit_kinds_of(f, &l->wo, NULL, NULL)});
    crit_steps_products(&s, &(crit_product){&l->wo, l->bo, f->x, e, true}, 1, 0, 1);
    crit_steps_pack(&s, (crit_pack){.x = f->x,
                                    .norm = l->ffn_norm,
                                    .x_stride = e,
                                    .n = e,
                                    .n_row = 1,
                                    .kinds = crit_kinds_of(f, &l->gate, &l->up, NULL)});
    crit_product gu[2] = {{&l->gate, NULL, f->gate, c->n_ff, false}, {&l->up, NULL, f->up, c->n_ff, false}};
    crit_steps_products(&s, gu, 2, 0, 1);
    crit_steps_pack(&s, (crit_pack){.x = f->gate,
                                    .up = f->up,
                                    .x_stride = c->n_ff,
                                    .n = c->n_ff,
                                    .n_row = 1,
                                    .kinds = crit_kinds_of(f, &l->down, NULL, NULL)});
    crit_steps_products(&s, &(crit_product){&l->down, NULL, f->x, e, true}, 1, 0, 1);
    crit_steps_run(&s);
    crit_kv_advance(&f->kv[i], 1);
}

crit_status crit_forward_one(crit_forward *f, int32_t token, uint32_t pos, crit_error *err) {
    crit_chunk chunk = {.tokens = &token, .pos0 = pos, .n_tok = 1};
    crit_rows_arg rows = {.f = f, .chunk = &chunk};
    f->one = true;
    crit_embed_item(&rows, 0, 0);
    for (uint32_t i = 0; i < f->model->config.n_layer; i++) layer_one(f, &rows, i);
    return crit_last_logits(f, 0, err);
}
