/* SPDX-License-Identifier: MIT */
/* Memory of the forward pass: one mapping for a chunk's activations, sized before anything is allocated. */
#include <math.h>
#include <string.h>

#include "model/model.h"

static size_t up64(size_t n) {
    return (n + 63) & ~(size_t)63;
}

static unsigned kinds_in_use(const crit_config *c, const unsigned char *kind, const crit_weights *w) {
    unsigned kinds = 1u << kind[w->output.type];
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const crit_layer *l = &w->layers[i];
        const crit_mat *m[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->gate, &l->up, &l->down};
        for (size_t j = 0; j < sizeof m / sizeof *m; j++) kinds |= 1u << kind[m[j]->type];
    }
    return kinds;
}

/* Offsets of the chunk's arrays in the mapping; with f NULL only the total. */
static size_t layout(crit_forward *f, const crit_config *c, const crit_kernels *kt, const crit_weights *w,
                     uint32_t n_batch) {
    size_t n = n_batch, n_q = (size_t)c->n_head * c->d_head, n_kv = (size_t)c->n_kv_head * c->d_head, at = 0;
    size_t widest = c->n_embd > c->n_ff ? c->n_embd : c->n_ff;
    if (n_q > widest) widest = n_q;
    struct {
        size_t cols;
        float **to;
    } arr[] = {
        {c->n_embd, f ? &f->x : NULL},
        {n_q, f ? &f->q : NULL},
        {n_kv, f ? &f->k : NULL},
        {n_kv, f ? &f->v : NULL},
        {n_q, f ? &f->att : NULL},
        {c->n_ff, f ? &f->gate : NULL},
        {c->n_ff, f ? &f->up : NULL},
        {c->n_rot / 2, f ? &f->cosv : NULL},
        {c->n_rot / 2, f ? &f->sinv : NULL},
    };
    for (size_t i = 0; i < sizeof arr / sizeof *arr; i++) {
        if (f) *arr[i].to = (float *)((char *)f->map + at);
        at += up64(n * arr[i].cols * sizeof(float));
    }
    unsigned many = kinds_in_use(c, kt->act_kind, w), one = kinds_in_use(c, kt->act_kind_one, w);
    for (int k = 0; k < CRIT_ACT_KINDS; k++) {
        if (!((many | one) >> k & 1)) continue;
        if (f) f->act[k] = (unsigned char *)f->map + at;
        at += up64(crit_act_bytes((crit_act_kind)k, widest, many >> k & 1 ? n : 1));
    }
    return at;
}

size_t crit_forward_chunk_bytes(const crit_config *c, const crit_kernels *kt, const crit_weights *w, uint32_t n_batch) {
    return layout(NULL, c, kt, w, n_batch);
}

static size_t slice_bytes(const crit_config *c) {
    size_t a = crit_gemm_scratch_bytes(), b = crit_attend_scratch_bytes(c->d_head);
    size_t row = (size_t)(c->n_ff > c->n_embd ? c->n_ff : c->n_embd) * sizeof(float);
    if (b > a) a = b;
    if (row > a) a = row;
    return up64(a) + 64;
}

static crit_decode_env env_of(const crit_config *c, uint32_t n_ctx, unsigned n_thread) {
    return (crit_decode_env){.n_layer = c->n_layer,
                             .n_head = c->n_head,
                             .n_kv_head = c->n_kv_head,
                             .n_group = c->n_group,
                             .d = c->d_head,
                             .n_ctx = n_ctx,
                             .n_ctx_train = c->n_ctx_train,
                             .store_share = 1,
                             .n_thread = n_thread,
                             .n_rot = c->n_rot,
                             .neox = c->neox,
                             .scale = 1.0f / sqrtf((float)c->d_head)};
}

size_t crit_forward_policy_bytes(const crit_config *c, const crit_policy *policy, const crit_policy_values *values,
                                 uint32_t n_ctx, unsigned n_thread) {
    crit_decode_env e = env_of(c, n_ctx, n_thread);
    return policy->bytes ? policy->bytes(&e, values) : 0;
}

size_t crit_forward_stream_bytes(const crit_config *c, const crit_policy *policy, const crit_policy_values *values) {
    crit_decode_env e = env_of(c, 0, 1);
    return policy && policy->kv_bytes ? policy->kv_bytes(&e, values) : 0;
}

size_t crit_forward_fixed_bytes(const crit_config *c, uint32_t n_ctx, unsigned n_thread) {
    crit_decode_env e = env_of(c, n_ctx, n_thread);
    size_t n_blk = n_ctx / CRIT_BLK_LEN + 1;
    return 2 * c->n_vocab * sizeof(float) + n_thread * slice_bytes(c) + n_blk * sizeof(uint32_t) +
           crit_decode_env_bytes(&e) + crit_pieces_of((uint32_t)n_blk) * sizeof(crit_piece);
}

crit_status crit_forward_init(crit_forward *f, const crit_model *m, crit_pool *pool, crit_kv *kv, crit_calib *calib,
                              const crit_attn_params *attn, uint32_t n_batch, uint32_t n_ctx, crit_error *err) {
    const crit_config *c = &m->config;
    memset(f, 0, sizeof *f);
    f->model = m;
    f->pool = pool;
    f->kv = kv;
    f->calib = calib;
    f->attn = *attn;
    f->n_batch = n_batch;
    crit_status st = crit_plan_init(&f->plan, pool, &m->kernels, c->n_head, c->n_kv_head, c->d_head, attn, err);
    if (st) return st;
    f->map_bytes = crit_forward_chunk_bytes(c, &m->kernels, &m->weights, n_batch);
    f->map = crit_map(f->map_bytes);
    f->logits = crit_malloc(c->n_vocab, sizeof *f->logits);
    f->next_logits = crit_malloc(c->n_vocab, sizeof *f->next_logits);
    size_t n_blk = n_ctx / CRIT_BLK_LEN + 1;
    f->all_blk = crit_malloc(n_blk, sizeof *f->all_blk);
    f->piece = crit_malloc(crit_pieces_of((uint32_t)n_blk), sizeof *f->piece);
    f->scratch_slice = slice_bytes(c);
    f->scratch = crit_malloc(crit_pool_size(pool), f->scratch_slice);
    if (!f->map || !f->logits || !f->next_logits || !f->all_blk || !f->piece || !f->scratch) {
        crit_forward_clear(f);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for the activations of %u tokens", n_batch);
    }
    layout(f, c, &m->kernels, &m->weights, n_batch);
    for (size_t i = 0; i < n_blk; i++) f->all_blk[i] = (uint32_t)i;
    f->env = env_of(c, n_ctx, crit_pool_size(pool));
    f->env.rope_freq = m->rope.freq;
    f->env.pool = pool;
    f->env.kernels = &m->kernels;
    f->env.all_blk = f->all_blk;
    f->env.scratch = f->scratch;
    f->env.scratch_slice = f->scratch_slice;
    f->policy = crit_policy_at(0);
    f->align = crit_attn_align(attn);
    f->kv_policy = &crit_policy_full_kv;
    return CRIT_OK;
}

crit_status crit_forward_policy(crit_forward *f, const crit_policy *policy, const crit_policy_values *values,
                                crit_error *err) {
    void *state = NULL;
    crit_status st = policy->open ? policy->open(&state, &f->env, values, err) : CRIT_OK;
    if (st) return st;
    if (f->policy->close) f->policy->close(f->policy_state);
    f->policy = policy;
    f->policy_values = *values;
    f->policy_state = state;
    f->step = (crit_step_stats){0};
    f->env.moved_bytes = 0;
    return CRIT_OK;
}

crit_status crit_forward_store(crit_forward *f, const crit_policy *policy, const crit_policy_values *values,
                               crit_error *err) {
    void *state = NULL;
    crit_status st = policy->open ? policy->open(&state, &f->env, values, err) : CRIT_OK;
    if (st) return st;
    if (f->kv_policy->close) f->kv_policy->close(f->kv_state);
    f->kv_policy = policy;
    f->kv_values = *values;
    f->kv_state = state;
    return CRIT_OK;
}

crit_status crit_forward_prefill(crit_forward *f, const crit_policy *policy, const crit_policy_values *values,
                                 crit_error *err) {
    void *state = NULL;
    crit_status st = policy ? policy->open(&state, &f->env, values, err) : CRIT_OK;
    if (st) return st;
    if (f->prefill) f->prefill->close(f->prefill_state);
    f->prefill = policy;
    f->prefill_state = state;
    if (policy) f->prefill_values = *values;
    f->align = policy ? policy->chunk_tok(values) : crit_attn_align(&f->attn);
    return CRIT_OK;
}

crit_status crit_forward_watch(crit_forward *f, bool on, crit_error *err) {
    crit_free(f->watch_weight);
    crit_free(f->watch_pos);
    f->watch_weight = NULL;
    f->watch_pos = NULL;
    if (!on) return CRIT_OK;
    f->watch_weight = crit_malloc((size_t)f->env.n_ctx * f->env.n_head, sizeof *f->watch_weight);
    f->watch_pos = crit_malloc(f->env.n_ctx, sizeof *f->watch_pos);
    if (f->watch_weight && f->watch_pos) return CRIT_OK;
    crit_forward_watch(f, false, NULL);
    return crit_fail(err, CRIT_E_NOMEM, "out of memory for the weights of %u keys", f->env.n_ctx);
}

void crit_forward_clear(crit_forward *f) {
    if (f->policy && f->policy->close) f->policy->close(f->policy_state);
    if (f->prefill) f->prefill->close(f->prefill_state);
    if (f->kv_policy && f->kv_policy->close) f->kv_policy->close(f->kv_state);
    crit_decode_env_clear(&f->env);
    crit_plan_clear(&f->plan);
    crit_unmap(f->map, f->map_bytes);
    crit_free(f->logits);
    crit_free(f->next_logits);
    crit_free(f->logit_rows);
    crit_free(f->all_blk);
    crit_free(f->piece);
    crit_free(f->watch_weight);
    crit_free(f->watch_pos);
    crit_free(f->scratch);
    memset(f, 0, sizeof *f);
}
