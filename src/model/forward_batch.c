/* SPDX-License-Identifier: MIT */
/* One token of each of several sequences through all layers: the rows of the products are the sequences, attention goes
 * over the tree of what they share (policy/bifurcated.h). */
#include "model/steps.h"
#include "policy/bifurcated.h"

typedef struct batch_arg {
    crit_forward *f;
    const crit_batch_rows *b;
    const crit_layer *layer;
    uint32_t layer_id;
} batch_arg;

static void embed_row(void *arg, size_t r, unsigned worker) {
    (void)worker;
    const batch_arg *a = arg;
    crit_forward *f = a->f;
    const crit_model *m = f->model;
    size_t half = m->config.n_rot / 2;
    const char *row = (const char *)m->weights.embd.w + (size_t)a->b->token[r] * m->weights.embd.row_bytes;
    m->kernels.dequant[m->weights.embd.type](row, f->x + r * m->config.n_embd, m->config.n_embd);
    crit_rope_at(&m->rope, a->b->leaf[r]->pos0 + a->b->leaf[r]->n_tok - 1, f->cosv + r * half, f->sinv + r * half);
}

/* One sequence and KV head: RoPE, its key and value into the sequence's tail, its queries to where pieces want them. */
static void rope_row(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const batch_arg *a = arg;
    crit_forward *f = a->f;
    const crit_config *c = &f->model->config;
    const crit_kernels *kt = &f->model->kernels;
    crit_rope_fn rope = c->neox ? kt->rope_neox : kt->rope_norm;
    size_t r = item / c->n_kv_head, head = item % c->n_kv_head, d = c->d_head, half = c->n_rot / 2;
    const float *cosv = f->cosv + r * half, *sinv = f->sinv + r * half;
    float *k = f->k + (r * c->n_kv_head + head) * d, *q = f->q + (r * c->n_head + head * c->n_group) * d;
    float *to = a->b->q + (head * a->b->n + r) * c->n_group * d;
    if (a->layer->k_norm) kt->rmsnorm(k, a->layer->k_norm, k, d, c->eps);
    rope(k, 1, c->d_head, c->n_rot, cosv, sinv);
    for (uint32_t g = 0; g < c->n_group; g++)
        for (size_t i = 0; i < d; i++) to[g * d + i] = q[g * d + i];
    if (a->layer->q_norm)
        for (uint32_t g = 0; g < c->n_group; g++) kt->rmsnorm(to + g * d, a->layer->q_norm, to + g * d, d, c->eps);
    rope(to, c->n_group, c->d_head, c->n_rot, cosv, sinv);
    crit_segment *s = a->b->leaf[r];
    crit_kv_put(&s->kv[a->layer_id], (uint32_t)head, s->n_tok - 1, 1, k, d, f->v + (r * c->n_kv_head + head) * d, d);
}

static crit_status layer_batch(crit_forward *f, const crit_batch_rows *b, uint32_t i, crit_error *err) {
    const crit_config *c = &f->model->config;
    const crit_layer *l = &f->model->weights.layers[i];
    size_t n = b->n;
    batch_arg rows = {f, b, l, i};
    crit_steps s;
    crit_steps_begin(&s, f);
    crit_steps_qkv(&s, l, n, 0);
    crit_steps_add(&s, (crit_stage){.n_item = n * c->n_kv_head, .task = rope_row, .arg = &rows}, NULL);
    crit_pieces p = {.env = &f->env, .q = b->q, .n_row = (uint32_t)n * c->n_group, .piece = b->piece, .out = f->att};
    p.n_piece = crit_bifurcated_pieces(&f->env, b->leaf, b->n, i, !b->unshared, b->piece);
    crit_status st = crit_pieces_prepare(&p, err);
    if (st) return st;
    crit_stage stage[2];
    crit_pieces_stages(&p, stage);
    for (int k = 0; k < 2; k++) crit_steps_add(&s, stage[k], b->attend_ns);
    crit_steps_rest(&s, l, 0, n);
    crit_steps_run(&s);
    for (size_t r = 0; r < n; r++) crit_kv_advance(&b->leaf[r]->kv[i], 1);
    return CRIT_OK;
}

crit_status crit_forward_batch(crit_forward *f, const crit_batch_rows *b, float *logits, crit_error *err) {
    batch_arg a = {.f = f, .b = b};
    f->one = false;
    for (uint32_t r = 0; r < b->n; r++) b->leaf[r]->n_tok++;
    crit_pool_run(f->pool, b->n, embed_row, &a);
    crit_status st = CRIT_OK;
    for (uint32_t i = 0; i < f->model->config.n_layer && !st; i++) st = layer_batch(f, b, i, err);
    return st ? st : crit_rows_logits(f, 0, b->n, logits, err);
}
