/* SPDX-License-Identifier: MIT */
/* Tier 2: the KV store, plans and attention on a caller's own Q, K and V. */
#include <math.h>
#include <string.h>

#include "critiprefill/attention.h"

#include "policy/decode_policy.h"
#include "sparse/sparse.h"

struct crit_engine {
    crit_kernels kernels;
    crit_pool *pool;
    crit_ready_room ready; /* of the plan that is being built or run: one for all layers */
    crit_decode_env env;   /* of crit_attention_decode; grown by it */
    uint32_t *all_blk, n_all_blk;
};

/* A store handed to a caller also knows its engine, for the parallel append. */
typedef struct owned_kv {
    crit_kv kv; /* first: a crit_kv * is an owned_kv * */
    crit_engine *engine;
} owned_kv;

crit_status crit_engine_open(crit_engine **out, const char *cpu, uint32_t n_threads, crit_error *err) {
    if (!out) return crit_fail(err, CRIT_E_ARG, "crit_engine_open: out is required");
    *out = NULL;
    unsigned mask;
    crit_status st = crit_cpu_mask(cpu, &mask, err);
    if (st) return st;
    crit_engine *e = crit_calloc(1, sizeof *e);
    if (!e) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    crit_kernels_init(&e->kernels, mask);
    st = crit_pool_open(&e->pool, n_threads, false, err);
    if (st)
        crit_free(e);
    else
        *out = e;
    return st;
}

size_t crit_engine_bytes(const crit_engine *e) {
    if (!e) return 0;
    const crit_decode_env *env = &e->env;
    return sizeof *e + e->ready.cap + e->n_all_blk * sizeof *e->all_blk + crit_pool_size(e->pool) * env->scratch_slice +
           env->part_cap * ((size_t)env->d + 1) * sizeof(float);
}

void crit_engine_close(crit_engine **engine) {
    if (!engine || !*engine) return;
    crit_engine *e = *engine;
    crit_pool_close(&e->pool);
    crit_unmap(e->ready.at, e->ready.cap);
    crit_decode_env_clear(&e->env);
    crit_free(e->env.scratch);
    crit_free(e->all_blk);
    crit_free(e);
    *engine = NULL;
}

crit_status crit_kv_open(crit_kv **out, crit_engine *engine, uint32_t n_kv_head, uint32_t d_head, uint32_t n_tok_cap,
                         crit_error *err) {
    if (!out || !engine) return crit_fail(err, CRIT_E_ARG, "crit_kv_open: out and engine are required");
    *out = NULL;
    owned_kv *o = crit_calloc(1, sizeof *o);
    if (!o) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    crit_status st = crit_kv_init(&o->kv, &engine->kernels, n_kv_head, d_head, n_tok_cap, err);
    if (st) {
        crit_free(o);
        return st;
    }
    o->engine = engine;
    *out = &o->kv;
    return CRIT_OK;
}

void crit_kv_close(crit_kv **kv) {
    if (!kv || !*kv) return;
    owned_kv *o = (owned_kv *)*kv;
    crit_kv_clear(&o->kv);
    crit_free(o);
    *kv = NULL;
}

typedef struct append_arg {
    crit_kv *kv;
    const float *k, *v;
    size_t k_stride, v_stride;
    uint32_t n_tok;
} append_arg;

static void append_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    append_arg *a = arg;
    size_t at = item * a->kv->d;
    crit_kv_put(a->kv, (uint32_t)item, a->kv->n_tok, a->n_tok, a->k + at, a->k_stride, a->v + at, a->v_stride);
}

crit_status crit_kv_append(crit_kv *kv, const float *k, size_t k_stride, const float *v, size_t v_stride,
                           uint32_t n_tok, crit_error *err) {
    if (!kv || (n_tok && (!k || !v))) return crit_fail(err, CRIT_E_ARG, "crit_kv_append: kv, k and v are required");
    size_t row = (size_t)kv->n_kv_head * kv->d, cap = (size_t)kv->n_blk_cap * CRIT_BLK_LEN;
    if (k_stride < row || v_stride < row)
        return crit_fail(err, CRIT_E_ARG, "crit_kv_append: a row stride is below %zu", row);
    if (n_tok > cap - kv->n_tok)
        return crit_fail(err, CRIT_E_CONTEXT, "%u + %u tokens do not fit the store's %zu", kv->n_tok, n_tok, cap);
    if (n_tok == 0) return CRIT_OK;
    append_arg a = {kv, k, v, k_stride, v_stride, n_tok};
    crit_pool_run(((owned_kv *)kv)->engine->pool, kv->n_kv_head, append_item, &a);
    crit_kv_advance(kv, n_tok);
    return CRIT_OK;
}

uint32_t crit_kv_len(const crit_kv *kv) {
    return kv ? kv->n_tok : 0;
}
size_t crit_kv_bytes(const crit_kv *kv) {
    return kv ? kv->map_bytes : 0;
}

crit_status crit_kv_truncate(crit_kv *kv, uint32_t n_tok, crit_error *err) {
    if (!kv) return crit_fail(err, CRIT_E_ARG, "crit_kv_truncate: kv is required");
    if (n_tok > kv->n_tok)
        return crit_fail(err, CRIT_E_ARG, "crit_kv_truncate: the store holds %u tokens, not %u", kv->n_tok, n_tok);
    crit_kv_cut(kv, n_tok);
    return CRIT_OK;
}

crit_status crit_plan_open(crit_plan **out, crit_engine *engine, uint32_t n_head, uint32_t n_kv_head, uint32_t d_head,
                           const crit_attn_params *params, crit_error *err) {
    if (!out || !engine) return crit_fail(err, CRIT_E_ARG, "crit_plan_open: out and engine are required");
    *out = NULL;
    crit_attn_params p;
    if (params) {
        if (params->struct_size != sizeof p) return crit_fail(err, CRIT_E_ARG, "crit_attn_params: struct_size not set");
        p = *params;
    } else
        crit_attn_params_init(&p);
    crit_plan *plan = crit_calloc(1, sizeof *plan);
    if (!plan) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    crit_status st = crit_plan_init(plan, engine->pool, &engine->kernels, n_head, n_kv_head, d_head, &p, err);
    if (st) {
        crit_free(plan);
        return st;
    }
    plan->ready = &engine->ready;
    *out = plan;
    return CRIT_OK;
}

void crit_plan_close(crit_plan **plan) {
    if (!plan || !*plan) return;
    crit_plan_clear(*plan);
    crit_free(*plan);
    *plan = NULL;
}

/* Engines of different CPU levels may keep keys and values in different layouts. */
static crit_status check_pair(const crit_plan *plan, const crit_kv *kv, const char *call, crit_error *err) {
    if (kv->n_kv_head != plan->n_kv_head || kv->d != plan->d)
        return crit_fail(err, CRIT_E_ARG, "%s: store and plan have different heads", call);
    if (kv->kernels->kv_layout != plan->kernels->kv_layout)
        return crit_fail(err, CRIT_E_ARG, "%s: store and plan are of engines with different CPU levels", call);
    return CRIT_OK;
}

crit_status crit_plan_build(crit_plan *plan, const crit_kv *kv, const float *q, size_t q_stride, uint32_t pos0,
                            uint32_t n_tok, uint32_t n_rest, float scale, const crit_plan *prev, crit_error *err) {
    if (!plan || !kv || !q || n_tok == 0)
        return crit_fail(err, CRIT_E_ARG, "crit_plan_build: plan, kv, q and a token at least are required");
    if (!isfinite(scale)) return crit_fail(err, CRIT_E_ARG, "crit_plan_build: scale is not finite");
    crit_status st = check_pair(plan, kv, "crit_plan_build", err);
    if (st) return st;
    if (q_stride < (size_t)plan->n_head * plan->d)
        return crit_fail(err, CRIT_E_ARG, "crit_plan_build: the row stride is below %zu",
                         (size_t)plan->n_head * plan->d);
    if (kv->n_tok != (uint64_t)pos0 + n_tok)
        return crit_fail(err, CRIT_E_STATE, "crit_plan_build: the store holds %u tokens, the queries end at %llu",
                         kv->n_tok, (unsigned long long)pos0 + n_tok);
    if (prev && prev->fused && plan->params.mode == CRIT_ATTN_PAPER &&
        (prev->pos0 != pos0 || prev->n_tok != n_tok || prev->n_kv_head != plan->n_kv_head ||
         prev->params.seg_len != plan->params.seg_len))
        return crit_fail(err, CRIT_E_ARG, "crit_plan_build: prev is not the plan of a layer before for these queries");
    crit_calib_cut(&plan->own_calib, pos0);
    crit_plan_job job = {.kv = kv,
                         .q = q,
                         .q_stride = q_stride,
                         .n_head = plan->n_head,
                         .pos0 = pos0,
                         .n_tok = n_tok,
                         .n_rest = n_rest,
                         .scale = scale,
                         .prev = prev};
    st = crit_plan_make(plan, &job, &plan->own_calib, err);
    if (st) plan->n_tile = 0; /* no plan to run */
    return st;
}

void crit_plan_reset(crit_plan *plan) {
    if (!plan) return;
    crit_calib_cut(&plan->own_calib, 0);
    plan->check = (crit_check){0};
}

uint32_t crit_plan_n_tile(const crit_plan *plan) {
    return plan ? plan->n_tile : 0;
}

size_t crit_plan_row(const crit_plan *plan, uint32_t head, uint32_t tile, const uint32_t **ids) {
    if (!plan || head >= plan->n_head || tile >= plan->n_tile) return 0;
    const crit_plan_row_t *row = crit_plan_at(plan, head, tile);
    if (ids) *ids = row->ids;
    return row->n;
}

double crit_plan_density(const crit_plan *plan) {
    return plan && plan->pairs_causal > 0 ? plan->pairs / plan->pairs_causal : 1;
}

double crit_plan_cost(const crit_plan *plan) {
    return plan ? plan->pairs * 2 * plan->d : 0;
}

void crit_plan_measured(const crit_plan *plan, double *mass, double *peak_recall, uint64_t *n_peak) {
    const crit_check none = {0}, *seen = plan ? &plan->check : &none;
    if (mass) *mass = seen->n ? seen->mass / (double)seen->n : (double)NAN;
    if (peak_recall) *peak_recall = seen->n_peak ? (double)seen->peak_kept / (double)seen->n_peak : (double)NAN;
    if (n_peak) *n_peak = seen->n_look_up;
}

size_t crit_plan_bytes(const crit_plan *plan) {
    return plan ? sizeof *plan + crit_plan_used_bytes(plan) : 0;
}

crit_status crit_attention_run(crit_plan *plan, const crit_kv *kv, const float *q, size_t q_stride, float *out,
                               size_t out_stride, crit_error *err) {
    if (!plan || !kv || !q || !out)
        return crit_fail(err, CRIT_E_ARG, "crit_attention_run: plan, kv, q and out are required");
    if (plan->n_tile == 0)
        return crit_fail(err, CRIT_E_STATE, "crit_attention_run: no plan was built, or the last build failed");
    crit_status st = check_pair(plan, kv, "crit_attention_run", err);
    if (st) return st;
    size_t row = (size_t)plan->n_head * plan->d;
    if (q_stride < row || out_stride < row)
        return crit_fail(err, CRIT_E_ARG, "crit_attention_run: a row stride is below %zu", row);
    if (kv->n_tok < (uint64_t)plan->pos0 + plan->n_tok)
        return crit_fail(err, CRIT_E_STATE, "crit_attention_run: the store was cut behind the plan");
    crit_plan_job job = {.kv = kv, .q = q, .q_stride = q_stride};
    crit_attend_job attend = {plan, &job, out, out_stride};
    plan->is_ready = false; /* the store may have been cut and filled again since the plan */
    crit_stage stages[] = {crit_plan_ready_stage(&attend), crit_plan_attend_stage(&attend)};
    crit_pool_run_stages(plan->pool, stages, 2);
    return CRIT_OK;
}

/* What a step of n_tok keys and heads of d needs. */
static crit_status reserve_step(crit_engine *e, uint32_t n_tok, uint32_t d, crit_error *err) {
    const uint32_t n_blk = n_tok / CRIT_BLK_LEN + 1;
    const size_t slice = (crit_attend_scratch_bytes(d) + CRIT_ALIGN - 1) & ~(size_t)(CRIT_ALIGN - 1);
    if (n_blk > e->n_all_blk) {
        const uint32_t cap = n_blk + n_blk / 2;
        uint32_t *all = crit_malloc(cap, sizeof *all);
        if (!all) return crit_fail(err, CRIT_E_NOMEM, "out of memory for attention");
        for (uint32_t i = 0; i < cap; i++) all[i] = i;
        crit_free(e->all_blk);
        e->all_blk = all;
        e->n_all_blk = cap;
    }
    if (slice > e->env.scratch_slice) {
        crit_free(e->env.scratch);
        e->env.scratch = crit_malloc(crit_pool_size(e->pool), slice);
        e->env.scratch_slice = e->env.scratch ? slice : 0;
        if (!e->env.scratch) return crit_fail(err, CRIT_E_NOMEM, "out of memory for attention");
    }
    if (d != e->env.d) crit_decode_env_clear(&e->env); /* its capacity counts rows */
    return CRIT_OK;
}

crit_status crit_attention_decode(crit_kv *kv, const float *q, uint32_t n_head, float scale, float *out,
                                  crit_error *err) {
    if (!kv || !q || !out) return crit_fail(err, CRIT_E_ARG, "crit_attention_decode: kv, q and out are required");
    if (!isfinite(scale)) return crit_fail(err, CRIT_E_ARG, "crit_attention_decode: scale is not finite");
    if (n_head == 0 || n_head % kv->n_kv_head)
        return crit_fail(err, CRIT_E_ARG, "%u query heads on %u KV heads", n_head, kv->n_kv_head);
    if (kv->n_tok == 0) return crit_fail(err, CRIT_E_STATE, "crit_attention_decode: the store is empty");
    crit_engine *e = ((owned_kv *)kv)->engine;
    crit_status st = reserve_step(e, kv->n_tok, kv->d, err);
    if (st) return st;
    crit_decode_env *env = &e->env;
    env->pool = e->pool;
    env->kernels = &e->kernels;
    env->n_layer = 1;
    env->n_head = n_head;
    env->n_kv_head = kv->n_kv_head;
    env->n_group = n_head / kv->n_kv_head;
    env->d = kv->d;
    env->n_ctx = kv->n_tok;
    env->scale = scale;
    env->n_thread = crit_pool_size(e->pool);
    env->all_blk = e->all_blk;
    env->store_share = 1;
    return crit_full_decode(&(crit_decode_job){.env = env, .kv = kv, .n_tok = kv->n_tok, .q = q, .out = out}, err);
}
