/* SPDX-License-Identifier: MIT */
/* One chunk of tokens through all layers.
 *
 * Per layer: norm -> QKV -> RoPE -> KV append -> plan -> attend -> O -> norm -> gate, up -> SiLU -> down.  Each step is
 * a stage over rows, output panels or tiles (steps.h); a row's bits depend on its own tokens only, so neither the chunk
 * length nor the number of threads shows.  The last layer stops after K and V for rows whose logits nobody wants. */
#include <math.h>
#include <string.h>

#include "critiprefill/inspect.h"
#include "kv/narrow.h"
#include "model/steps.h"

/* ---- positions, RoPE, KV ---- */

void crit_embed_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    crit_rows_arg *a = arg;
    crit_forward *f = a->f;
    const crit_model *m = f->model;
    size_t r0 = item * CRIT_ROWS_PER_ITEM, r1 = r0 + CRIT_ROWS_PER_ITEM, half = m->config.n_rot / 2;
    if (r1 > a->chunk->n_tok) r1 = a->chunk->n_tok;
    for (size_t r = r0; r < r1; r++) {
        const char *row = (const char *)m->weights.embd.w + (size_t)a->chunk->tokens[r] * m->weights.embd.row_bytes;
        m->kernels.dequant[m->weights.embd.type](row, f->x + r * m->config.n_embd, m->config.n_embd);
        crit_rope_at(&m->rope, a->chunk->pos0 + (uint32_t)r, f->cosv + r * half, f->sinv + r * half);
    }
}

/* One KV head's keys, values and queries of the positions of one KV block. */
void crit_rope_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    crit_rows_arg *a = arg;
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
    if (!a->kv) return; /* the policy keeps keys itself */
    crit_kv_put(a->kv, head, p0, p1 - p0, f->k + r0 * n_kv + head * d, n_kv, f->v + r0 * n_kv + head * d, n_kv);
}

/* 0 * x is 0 for every finite x and NaN otherwise; the sum stays 0. */
static bool finite_sum(const float *x, size_t n) {
    float s = 0;
    for (size_t i = 0; i < n; i++) s += 0.0f * x[i];
    return s == 0.0f;
}

typedef struct finite_arg {
    const crit_forward *f;
    size_t n_row;
    _Atomic bool bad;
} finite_arg;

static void finite_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    finite_arg *a = arg;
    size_t e = a->f->model->config.n_embd, r0 = item * CRIT_ROWS_PER_ITEM, r1 = r0 + CRIT_ROWS_PER_ITEM;
    if (r1 > a->n_row) r1 = a->n_row;
    if (!finite_sum(a->f->x + r0 * e, (r1 - r0) * e)) a->bad = true;
}

static bool rows_finite(crit_forward *f, size_t n_row) {
    finite_arg a = {.f = f, .n_row = n_row};
    crit_pool_run(f->pool, (n_row + CRIT_ROWS_PER_ITEM - 1) / CRIT_ROWS_PER_ITEM, finite_item, &a);
    return !a.bad;
}

/* ---- layer ---- */

/* The prompt's last queries, to the policy that keeps it and then to the one that will decode behind it. */
static crit_status show_policy(crit_forward *f, const crit_chunk *chunk, uint32_t layer, uint32_t q_from,
                               crit_error *err) {
    if (crit_pool_stopped(f->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    size_t n_q = (size_t)f->model->config.n_head * f->model->config.d_head;
    const float *end = f->q + chunk->n_tok * n_q;
    uint32_t n = chunk->n_tok - q_from, n_kv = f->kv_policy->n_query, n_decode = f->policy->n_query;
    crit_status st = CRIT_OK;
    if (n_kv > n) n_kv = n;
    if (n_decode > n) n_decode = n;
    if (n_kv)
        st = f->kv_policy->store(f->kv_state, &f->env, layer, &f->kv[layer], f->turn_pos0, end - n_kv * n_q, n_q, n_kv,
                                 err);
    crit_narrow_shut(&f->kv[layer]);
    if (!st && n_decode)
        st =
            f->policy->prompt(f->policy_state, &f->env, layer, &f->kv[layer], end - n_decode * n_q, n_q, n_decode, err);
    return st;
}

static crit_status show_layer(crit_forward *f, const crit_chunk *chunk, uint32_t layer, const crit_plan_job *job,
                              crit_error *err) {
    if (crit_pool_stopped(f->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    const crit_config *c = &f->model->config;
    size_t n_q = (size_t)c->n_head * c->d_head;
    crit_layer_view view = {.struct_size = sizeof view,
                            .layer = layer,
                            .n_layer = c->n_layer,
                            .pos0 = job->pos0,
                            .n_tok = job->n_tok,
                            .n_head = c->n_head,
                            .n_kv_head = c->n_kv_head,
                            .d_head = c->d_head,
                            .scale = job->scale,
                            .q = job->q,
                            .q_stride = job->q_stride,
                            .out = f->att + (job->pos0 - chunk->pos0) * n_q,
                            .out_stride = n_q,
                            .kv = job->kv,
                            .plan = &f->plan};
    uint64_t t = crit_now_ns();
    int stop = chunk->on_layer(chunk->user, &view);
    f->stats.logits_ns += crit_now_ns() - t;
    return stop ? crit_fail(err, CRIT_E_CANCELLED, "cancelled") : CRIT_OK;
}

/* Attention of rows from q_from on by the policy, part by part. */
static crit_status attend_parts(crit_forward *f, const crit_chunk *chunk, uint32_t layer, uint32_t q_from,
                                crit_error *err) {
    const crit_config *c = &f->model->config;
    size_t n_q = (size_t)c->n_head * c->d_head;
    uint64_t t = crit_now_ns();
    crit_status st = CRIT_OK;
    for (uint32_t r = q_from, next; r < chunk->n_tok && !st; r = next) {
        uint32_t pos = chunk->pos0 + r;
        next = pos / f->align * f->align + f->align - chunk->pos0;
        if (next > chunk->n_tok) next = chunk->n_tok;
        crit_prefill_job job = {.env = &f->env,
                                .layer = layer,
                                .kv = &f->kv[layer],
                                .pos0 = pos,
                                .n_tok = next - r,
                                .q = f->q + r * n_q,
                                .q_stride = n_q,
                                .out = f->att + r * n_q,
                                .out_stride = n_q};
        st = f->prefill->chunk(f->prefill_state, &job, err);
        f->stats.pairs += job.pairs;
        f->stats.pairs_causal += (pos + (job.n_tok + 1) / 2.0) * job.n_tok * c->n_head;
    }
    f->stats.attend_ns += crit_now_ns() - t;
    return st;
}

/* A chunk that the policy reads in its own way. */
static crit_status chunk_by_policy(crit_forward *f, const crit_chunk *chunk, uint32_t layer, uint32_t q_from,
                                   crit_error *err) {
    const crit_config *c = &f->model->config;
    size_t n_q = (size_t)c->n_head * c->d_head;
    uint32_t pos0 = chunk->pos0 + q_from, n = chunk->n_tok - q_from;
    crit_prefill_job job = {.env = &f->env,
                            .layer = layer,
                            .kv = &f->kv[layer],
                            .pos0 = pos0,
                            .n_tok = n,
                            .q = f->q + q_from * n_q,
                            .q_stride = n_q,
                            .out = f->att + q_from * n_q,
                            .out_stride = n_q};
    uint64_t t = crit_now_ns();
    crit_status st = f->policy->chunk(f->policy_state, &job, err);
    f->stats.attend_ns += crit_now_ns() - t;
    f->stats.pairs += job.pairs;
    f->stats.pairs_causal += c->n_head * (pos0 * (double)n + n * (n + 1.0) / 2);
    return st;
}

crit_status crit_forward_stream(crit_forward *f, uint32_t layer, uint32_t pos0, uint32_t n_tok, crit_error *err) {
    const crit_config *c = &f->model->config;
    size_t n_q = (size_t)c->n_head * c->d_head;
    crit_stream_job job = {.env = &f->env,
                           .layer = layer,
                           .pos0 = pos0,
                           .n_tok = n_tok,
                           .one = f->one,
                           .q = f->q,
                           .q_stride = n_q,
                           .k = f->k,
                           .v = f->v,
                           .kv_stride = (size_t)c->n_kv_head * c->d_head,
                           .out = f->att,
                           .out_stride = n_q};
    uint64_t t = crit_now_ns();
    crit_status st = f->prefill->stream(f->prefill_state, &job, err);
    *(f->one ? &f->step.attend_ns : &f->stats.attend_ns) += crit_now_ns() - t;
    if (!f->one) {
        f->stats.pairs += job.pairs;
        f->stats.pairs_causal += (pos0 + (n_tok + 1) / 2.0) * n_tok * c->n_head;
    }
    return st;
}

/* Rows behind row `from` matter after attention, queries from q_from on (a tile boundary at or before it). */
static crit_status layer_chunk(crit_forward *f, const crit_chunk *chunk, uint32_t i, uint32_t q_from, uint32_t from,
                               crit_error *err) {
    const crit_config *c = &f->model->config;
    const crit_layer *l = &f->model->weights.layers[i];
    const crit_attn_params *o = &f->attn;
    size_t n = chunk->n_tok, n_q = (size_t)c->n_head * c->d_head, n_row = n - from;
    /* criti: only rows whose logits are asked for run through the last layer.  What a plan would be for them depended
     * on which were asked for before, and there is next to nothing to save: they are read densely.  [alg:select] */
    bool streams = f->prefill && f->prefill->stream, paper = o->mode == CRIT_ATTN_PAPER,
         end = o->mode == CRIT_ATTN_CRITI && i + 1 == c->n_layer,
         dense = !f->prefill && (o->mode == CRIT_ATTN_DENSE || (paper && i < o->layer_skip) || end);
    bool by_policy =
        f->policy->takes && !f->prefill && !chunk->on_layer && f->policy->takes(f->policy_state, chunk->pos0);
    crit_status st = CRIT_OK;
    crit_steps s;
    crit_steps_begin(&s, f);

    crit_steps_qkv(&s, l, n, q_from);
    crit_rows_arg rows = {f, chunk, l, streams ? NULL : &f->kv[i], q_from};
    uint32_t n_blk = (chunk->pos0 + chunk->n_tok - 1) / CRIT_BLK_LEN - chunk->pos0 / CRIT_BLK_LEN + 1;
    crit_steps_add(&s, (crit_stage){.n_item = (size_t)n_blk * c->n_kv_head, .task = crit_rope_item, .arg = &rows},
                   NULL);
    const bool first = !dense || q_from >= n || chunk->on_layer || by_policy; /* keys are there before the plan is */
    if (first) {
        crit_steps_run(&s);
        if (!streams) crit_kv_advance(&f->kv[i], chunk->n_tok);
        if (q_from >= n) return CRIT_OK;
    }
    crit_plan_job job = {
        .kv = &f->kv[i],
        .q = f->q + q_from * n_q,
        .q_stride = n_q,
        .n_head = c->n_head,
        .pos0 = chunk->pos0 + q_from,
        .n_tok = chunk->n_tok - q_from,
        .n_rest = chunk->n_rest,
        .scale = 1.0f / sqrtf((float)c->d_head),
        .dense = dense,
        /* The published rule fuses from layer 2 on, with the state the layer before left in this plan. */
        .prev = paper && i >= 2 && i > o->layer_skip ? &f->plan : NULL,
    };
    crit_attend_job attend = {&f->plan, &job, f->att + q_from * n_q, n_q};
    if (streams) {
        st = crit_forward_stream(f, i, chunk->pos0, chunk->n_tok, err);
    } else if (by_policy) {
        st = chunk_by_policy(f, chunk, i, q_from, err);
    } else if (f->prefill) {
        st = attend_parts(f, chunk, i, q_from, err);
    } else {
        st = crit_plan_make(&f->plan, &job, &f->calib[i], err);
        if (st) return st;
        f->stats.pairs += end ? 0 : f->plan.pairs;
        f->stats.pairs_causal += end ? 0 : f->plan.pairs_causal;
        crit_steps_add(&s, crit_plan_ready_stage(&attend), &f->stats.attend_ns);
        crit_steps_add(&s, crit_plan_attend_stage(&attend), &f->stats.attend_ns);
        if (chunk->on_layer) {
            crit_steps_run(&s);
            st = show_layer(f, chunk, i, &job, err);
        }
    }
    if (st) return st;

    crit_steps_rest(&s, l, from, n_row);
    crit_steps_run(&s);
    if (!first) crit_kv_advance(&f->kv[i], chunk->n_tok);
    return chunk->keep_last && crit_forward_n_query(f) ? show_policy(f, chunk, i, q_from, err) : CRIT_OK;
}

/* Final norm and vocabulary projection of rows [row, row + n) of f->x. */
static void vocabulary(crit_forward *f, size_t row, size_t n, float *out) {
    const crit_model *m = f->model;
    size_t e = m->config.n_embd;
    crit_steps s;
    crit_steps_begin(&s, f);
    crit_steps_pack(&s, (crit_pack){.x = f->x,
                                    .norm = m->weights.output_norm,
                                    .x_stride = e,
                                    .n = e,
                                    .row0 = row,
                                    .n_row = n,
                                    .kinds = crit_kinds_of(f, &m->weights.output, NULL, NULL)});
    crit_product p = {.m = &m->weights.output, .out = out, .out_stride = m->config.n_vocab};
    crit_steps_products(&s, &p, 1, row, n);
    crit_steps_run(&s);
}

crit_status crit_rows_logits(crit_forward *f, size_t row, size_t n, float *out, crit_error *err) {
    vocabulary(f, row, n, out);
    if (crit_pool_stopped(f->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    return finite_sum(out, n * f->model->config.n_vocab) ? CRIT_OK : crit_weights_find_nonfinite(f->model->file, err);
}

crit_status crit_last_logits(crit_forward *f, size_t row, crit_error *err) {
    crit_status st = crit_rows_logits(f, row, 1, f->next_logits, err);
    if (st) return st;
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
    uint64_t t = crit_now_ns(), gemm_ns = f->stats.gemm_ns;
    if (chunk->on_logits && chunk->pos0 + from < chunk->logits_from) from = chunk->logits_from - chunk->pos0;
    for (uint32_t r = from; chunk->on_logits && r < chunk->n_tok; r += CRIT_LOGIT_ROWS) {
        uint32_t n = chunk->n_tok - r < CRIT_LOGIT_ROWS ? chunk->n_tok - r : CRIT_LOGIT_ROWS;
        vocabulary(f, r, n, f->logit_rows);
        if (crit_pool_stopped(f->pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
        for (uint32_t j = 0; j < n; j++)
            if (chunk->on_logits(chunk->user, chunk->pos0 + r + j, f->logit_rows + j * n_vocab, (uint32_t)n_vocab))
                return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    }
    f->stats.logits_ns += crit_now_ns() - t;
    f->stats.gemm_ns = gemm_ns;
    return chunk->keep_last ? crit_last_logits(f, chunk->n_tok - 1, err) : CRIT_OK;
}

static crit_status read_chunk(crit_forward *f, const crit_chunk *chunk, crit_error *err) {
    const crit_config *c = &f->model->config;
    crit_rows_arg rows = {.f = f, .chunk = chunk};
    f->one = false;
    crit_pool_run(f->pool, ((size_t)chunk->n_tok + CRIT_ROWS_PER_ITEM - 1) / CRIT_ROWS_PER_ITEM, crit_embed_item,
                  &rows);

    uint32_t end = chunk->pos0 + chunk->n_tok, need = chunk->keep_last ? end - 1 : end;
    if ((chunk->on_logits || chunk->on_layer) && chunk->need_from < need) need = chunk->need_from;
    uint32_t from = need <= chunk->pos0 ? 0 : need - chunk->pos0, align = f->align;
    uint32_t n_query = crit_forward_n_query(f);
    if (chunk->keep_last && end - need < n_query) need = end - chunk->pos0 < n_query ? chunk->pos0 : end - n_query;
    /* Queries start at the tile (paper: the segment) of the first row that matters. */
    uint32_t q_pos = need / align * align, q_from = need >= end            ? chunk->n_tok
                                                    : q_pos <= chunk->pos0 ? 0
                                                                           : q_pos - chunk->pos0;
    if (f->prefill && f->prefill->stream) q_from = 0; /* every query tells what keys weigh */
    for (uint32_t i = 0; i < c->n_layer; i++) {
        bool last = i + 1 == c->n_layer;
        if (last && !rows_finite(f, chunk->n_tok)) return crit_weights_find_nonfinite(f->model->file, err);
        crit_narrow_open(&f->kv[i], f->pool);
        crit_status st = layer_chunk(f, chunk, i, last ? q_from : 0, last ? from : 0, err);
        crit_narrow_shut(&f->kv[i]);
        if (st) return st;
        if (crit_pool_stopped(f->pool) || (chunk->tick && chunk->tick(chunk->user, i)))
            return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    }
    return chunk_logits(f, chunk, from, err);
}

crit_status crit_forward_chunk(crit_forward *f, const crit_chunk *chunk, crit_error *err) {
    const double moved = f->env.moved_bytes; /* the account is of decoding: what policies move for a prompt is not in it */
    crit_status st = read_chunk(f, chunk, err);
    f->env.moved_bytes = moved;
    return st;
}
