/* SPDX-License-Identifier: MIT */
/* Tier 1: a session, one timeline of tokens on a model.
 *
 * Owns the KV stores, calibration and forward buffers.  Tokens are read in chunks whose ends lie on the tile grid; with
 * `more` the tail that depends on the prompt's end is held back as ids.  A call that fails or is cancelled cuts
 * everything back to where the turn began. */
#include <math.h>
#include <string.h>

#include "critiprefill/policy.h"

#include "kv/narrow.h"
#include "lib/session.h"

void crit_attn_params_init(crit_attn_params *p) {
    *p = (crit_attn_params){
        .struct_size = sizeof *p,
        .mode = CRIT_ATTN_CRITI,
        .theta = 0.4f,
        .power = 1,
        .lookup = 0.07f,
        .probe = 64,
        .dense_until = 1024,
        .last_tok = 512,
        .last_theta = 0.1f,
        .budget_tok = 2048,
        .seg_len = 512,
        .threshold = 4096,
        .alpha = 0.25f,
        .layer_skip = 1,
    };
}

void crit_attn_params_preset(crit_attn_params *p, crit_quality quality) {
    crit_attn_params d;
    crit_attn_params_init(&d);
    d.budget_tok = p->budget_tok;
    d.seg_len = p->seg_len;
    d.threshold = p->threshold;
    d.alpha = p->alpha;
    d.layer_skip = p->layer_skip;
    *p = d;
    if (quality == CRIT_QUALITY_FAST) p->theta = 1.1f;
    if (quality == CRIT_QUALITY_CAREFUL) {
        p->theta = 0.1f;
        p->recall = 1;
    }
}

void crit_session_params_init(crit_session_params *p) {
    *p = (crit_session_params){.struct_size = sizeof *p};
    crit_attn_params_init(&p->attn);
}

void crit_prefill_params_init(crit_prefill_params *p) {
    *p = (crit_prefill_params){.struct_size = sizeof *p};
}

/* The policy of the prompt, NULL for none, and how many keys attention may meet at a time. */
static crit_status prefill_of(const crit_session_params *p, const crit_policy **policy, crit_policy_values *values,
                              uint32_t *n_key, crit_error *err) {
    *policy = NULL;
    *n_key = p->n_ctx;
    if (!p->prefill) return CRIT_OK;
    crit_status st = crit_policy_parse(CRIT_POLICY_PREFILL, p->prefill, policy, values, err);
    if (!st && (*policy)->n_key_cap) *n_key = (*policy)->n_key_cap(values);
    return st;
}

/* A cache of its own is one of decoding, too. */
static crit_status check_decode(const crit_policy *prefill, const crit_policy *decode, crit_error *err) {
    if (!prefill || !prefill->stream || decode == crit_policy_at(0)) return CRIT_OK;
    return crit_fail(err, CRIT_E_ARG, "decode: %s has no store of keys to choose from, %s decodes from its own cache",
                     prefill->name, prefill->name);
}

/* Fills the open questions of params: context, chunk length. */
static crit_status settle(const crit_model *m, const crit_session_params *params, crit_session_params *p,
                          crit_error *err) {
    const crit_config *c = &m->config;
    crit_session_params_init(p);
    if (params) {
        if (params->struct_size != sizeof *p || params->attn.struct_size != sizeof p->attn)
            return crit_fail(err, CRIT_E_ARG, "crit_session_params: struct_size not set");
        *p = *params;
    }
    const crit_policy *policy;
    crit_policy_values values;
    uint32_t n_key;
    crit_status st = crit_attn_params_check(&p->attn, err);
    if (!st) st = prefill_of(p, &policy, &values, &n_key, err);
    if (st) return st;
    bool streams = policy && policy->stream;
    if (p->n_ctx == 0 && streams) {
        p->n_ctx = 1u << 30; /* a limit of counters, not of memory */
    } else if (p->n_ctx == 0) {
        p->n_ctx = c->n_ctx_train ? c->n_ctx_train : 8192;
        if (c->n_swa && c->n_swa < p->n_ctx) p->n_ctx = c->n_swa;
    }
    if (!streams) n_key = p->n_ctx;
    if (c->n_swa && n_key > c->n_swa)
        return crit_fail(err, CRIT_E_CONTEXT,
                         "%s: a context of %u tokens exceeds the model's sliding window of %u, which is not supported",
                         gguf_path(m->file), n_key, c->n_swa);
    if (p->n_ctx > 1u << 30) return crit_fail(err, CRIT_E_ARG, "a context of %u tokens is too large", p->n_ctx);
    if (p->n_batch > 65536) return crit_fail(err, CRIT_E_ARG, "n_batch %u is not in 0..65536", p->n_batch);
    if (p->n_threads > CRIT_THREADS_MAX)
        return crit_fail(err, CRIT_E_ARG, "n_threads %u is not in 0..%d", p->n_threads, CRIT_THREADS_MAX);
    if (p->n_batch == 0) {
        crit_cost cost = crit_cost_of(m->kernels.cpu);
        p->n_batch = crit_cost_chunk(&cost, p->n_threads ? p->n_threads : crit_cpu_count(), c->n_head);
    }
    uint32_t align = crit_attn_align(&p->attn);
    if (policy) {
        p->attn.mode = CRIT_ATTN_DENSE; /* no plan, no calibration */
        if (!streams) align = policy->chunk_tok(&values);
    }
    uint32_t whole = (p->n_ctx + align - 1) / align * align;
    p->n_batch = (p->n_batch + align - 1) / align * align;
    if (p->n_batch < 2 * align) p->n_batch = 2 * align; /* a last chunk can hold the queries that policies want to see */
    if (p->n_batch > whole) p->n_batch = whole;
    if (streams && p->n_batch > policy->chunk_tok(&values)) p->n_batch = policy->chunk_tok(&values);
    return CRIT_OK;
}

static uint32_t chunk_rows(const crit_session_params *p) {
    return p->n_batch < p->n_ctx ? p->n_batch : p->n_ctx;
}

static crit_status estimate(const crit_model *m, const crit_session_params *p, crit_memory *out, crit_error *err) {
    const crit_config *c = &m->config;
    unsigned n_thread = p->n_threads ? p->n_threads : crit_cpu_count();
    size_t kv;
    uint32_t n_key;
    const crit_policy *decode, *prefill;
    crit_policy_values values, prefill_values;
    crit_status st = crit_policy_parse(CRIT_POLICY_DECODE, p->decode, &decode, &values, err);
    if (!st) st = prefill_of(p, &prefill, &prefill_values, &n_key, err);
    if (st) return st;
    *out = (crit_memory){.struct_size = sizeof *out, .n_batch = p->n_batch};
    if (prefill && prefill->stream)
        out->kv_bytes = crit_forward_stream_bytes(c, prefill, &prefill_values);
    else if (!crit_kv_map_bytes(c->n_kv_head, c->d_head, p->n_ctx, &kv) ||
             !crit_mul_size(kv, c->n_layer, &out->kv_bytes))
        return crit_fail(err, CRIT_E_NOMEM, "a KV store for %u tokens overflows", p->n_ctx);
    /* Of an embedding that is not also the output only the text's rows are read: each brings the pages around it. */
    enum { MAPPED_AROUND = 1 << 16 };
    const crit_mat *e = &m->weights.embd;
    const size_t table = (size_t)e->n_out * e->row_bytes, rows = (size_t)p->n_ctx * MAPPED_AROUND;
    out->weights_bytes = gguf_file_bytes(m->file);
    if (m->weights.output.w != e->w && rows < table) out->weights_bytes -= table - rows;
    out->activation_bytes = crit_forward_chunk_bytes(c, &m->kernels, &m->weights, chunk_rows(p));
    out->scratch_bytes =
        crit_forward_fixed_bytes(c, n_key, n_thread) + m->weights.f32_count * sizeof(float) +
        crit_plan_estimate_bytes(&m->kernels, &p->attn, c->n_head, c->n_kv_head, c->d_head, chunk_rows(p), n_key,
                                 n_thread) +
        (p->attn.mode == CRIT_ATTN_CRITI ? c->n_layer * crit_calib_bytes(c->n_head, p->attn.probe, p->n_ctx) : 0) +
        (m->vocab ? crit_vocab_bytes(m->vocab) : 0) + CRIT_PROCESS_BYTES;
    out->policy_bytes = crit_forward_policy_bytes(c, decode, &values, n_key, n_thread);
    st = crit_policy_parse(CRIT_POLICY_KV, p->kv, &decode, &values, err);
    if (st) return st;
    out->policy_bytes += crit_forward_policy_bytes(c, decode, &values, n_key, n_thread);
    if (prefill) out->policy_bytes += crit_forward_policy_bytes(c, prefill, &prefill_values, n_key, n_thread);
    size_t total;
    if (!crit_add_size(out->weights_bytes, out->kv_bytes, &total) ||
        !crit_add_size(total, out->activation_bytes, &total) || !crit_add_size(total, out->scratch_bytes, &total) ||
        !crit_add_size(total, out->policy_bytes, &total))
        return crit_fail(err, CRIT_E_NOMEM, "the memory for %u tokens overflows", p->n_ctx);
    out->total_bytes = total;
    out->available_bytes = crit_memory_available();
    return CRIT_OK;
}

crit_status crit_memory_estimate(const crit_model *model, const crit_session_params *params, crit_memory *out,
                                 crit_error *err) {
    if (!model || !out || out->struct_size != sizeof *out)
        return crit_fail(err, CRIT_E_ARG, "crit_memory_estimate: bad argument");
    crit_session_params p;
    crit_status st = settle(model, params, &p, err);
    return st ? st : estimate(model, &p, out, err);
}

crit_status crit_session_open(crit_session **out, const crit_model *model, const crit_session_params *params,
                              crit_error *err) {
    if (!out || !model) return crit_fail(err, CRIT_E_ARG, "crit_session_open: out and model are required");
    *out = NULL;
    crit_session_params p;
    crit_memory mem;
    const crit_policy *decode, *prefill, *store;
    crit_policy_values decode_values, prefill_values, store_values;
    uint32_t n_key;
    crit_status st = settle(model, params, &p, err);
    if (!st) st = crit_policy_parse(CRIT_POLICY_DECODE, p.decode, &decode, &decode_values, err);
    if (!st) st = prefill_of(&p, &prefill, &prefill_values, &n_key, err);
    if (!st) st = crit_policy_parse(CRIT_POLICY_KV, p.kv, &store, &store_values, err);
    if (!st) st = crit_policy_pair(decode, store, err);
    if (!st) st = check_decode(prefill, decode, err);
    if (!st && prefill && prefill->stream && store->store)
        st = crit_fail(err, CRIT_E_ARG, "kv: %s keeps its own cache, %s has no store to change", prefill->name,
                       store->name);
    if (!st) st = estimate(model, &p, &mem, err);
    if (st) return st;
    /* The weights are file pages, which the system can drop and read again: they do not count as needed. */
    size_t need = mem.total_bytes - mem.weights_bytes;
    if (!p.force && mem.available_bytes && need > mem.available_bytes)
        return crit_fail(err, CRIT_E_NOMEM,
                         "%s: a context of %u tokens needs %zu MiB besides the weights, %zu MiB are available",
                         gguf_path(model->file), p.n_ctx, need >> 20, mem.available_bytes >> 20);
    const crit_config *c = &model->config;
    crit_session *s = crit_calloc(1, sizeof *s);
    if (!s) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    s->model = model;
    s->params = p;
    s->params.decode = s->params.prefill = s->params.kv = NULL; /* the caller's texts */
    s->kv = crit_calloc(c->n_layer, sizeof *s->kv);
    s->calib = crit_calloc(c->n_layer, sizeof *s->calib);
    if (!s->kv || !s->calib) st = crit_fail(err, CRIT_E_NOMEM, "out of memory");
    if (!st) st = crit_pool_open(&s->pool, p.n_threads, p.pin, err);
    for (uint32_t i = 0; i < c->n_layer && !st && !(prefill && prefill->stream); i++)
        st = crit_kv_init(&s->kv[i], &model->kernels, c->n_kv_head, c->d_head, p.n_ctx, err);
    if (!st) {
        st = crit_forward_init(&s->fwd, model, s->pool, s->kv, s->calib, &p.attn, chunk_rows(&p), n_key, err);
        s->fwd_open = !st;
    }
    if (!st) st = crit_forward_policy(&s->fwd, decode, &decode_values, err);
    if (!st && prefill) st = crit_forward_prefill(&s->fwd, prefill, &prefill_values, err);
    if (!st) st = crit_forward_store(&s->fwd, store, &store_values, err);
    if (st) crit_session_close(&s);
    *out = s;
    return st;
}

void crit_session_close(crit_session **session) {
    if (!session || !*session) return;
    crit_session *s = *session;
    if (s->fwd_open) crit_forward_clear(&s->fwd);
    for (uint32_t i = 0; i < s->model->config.n_layer; i++) {
        if (s->kv) crit_kv_clear(&s->kv[i]);
        if (s->calib) crit_calib_clear(&s->calib[i]);
    }
    crit_free(s->kv);
    crit_free(s->calib);
    crit_free(s->pending);
    crit_pool_close(&s->pool);
    crit_free(s);
    *session = NULL;
}

/* ---- prefill ---- */

static void cut(crit_session *s, uint32_t n_tok) {
    if (crit_session_streams(s)) {
        if (n_tok) n_tok = s->n_done; /* nothing goes back but to the start */
        s->fwd.prefill->cut(s->fwd.prefill_state, n_tok);
    }
    if (s->fwd.policy->cut) s->fwd.policy->cut(s->fwd.policy_state, n_tok);
    for (uint32_t i = 0; i < s->model->config.n_layer; i++) {
        if (s->kv[i].n_tok > n_tok) crit_kv_cut(&s->kv[i], n_tok);
        crit_calib_cut(&s->calib[i], n_tok);
    }
    s->n_done = n_tok;
    s->n_pending = 0;
    s->in_turn = false;
}

static crit_status queue(crit_session *s, const int32_t *tokens, size_t n_tok, crit_error *err) {
    size_t need = s->n_pending + n_tok;
    if (need > s->pending_cap) {
        size_t cap = need < 2 * s->pending_cap ? 2 * s->pending_cap : need;
        int32_t *p = crit_malloc(cap, sizeof *p);
        if (!p) return crit_fail(err, CRIT_E_NOMEM, "out of memory for %zu tokens", cap);
        if (s->n_pending) memcpy(p, s->pending, s->n_pending * sizeof *p);
        crit_free(s->pending);
        s->pending = p;
        s->pending_cap = cap;
    }
    memcpy(s->pending + s->n_pending, tokens, n_tok * sizeof *tokens);
    s->n_pending = need;
    return CRIT_OK;
}

typedef struct ticker {
    const crit_prefill_params *p;
    uint32_t n_layer, total, done, chunk; /* tokens of this call: all, in finished chunks, in this one */
    double at;                            /* last progress told */
} ticker;

/* Between the items of a long phase, so that a cancel does not wait for a layer's end. */
static int on_poll(void *user) {
    ticker *t = user;
    return t->p->progress(t->p->progress_user, t->at, t->total);
}

static int on_layer(void *user, uint32_t layer) {
    ticker *t = user;
    t->at = t->done + t->chunk * ((layer + 1.0) / t->n_layer);
    return t->p->progress ? on_poll(t) : 0;
}

static int on_row(void *user, uint32_t pos, const float *logits, uint32_t n_vocab) {
    ticker *t = user;
    return t->p->on_logits(t->p->logits_user, pos, logits, n_vocab);
}

static int on_view(void *user, const crit_layer_view *view) {
    ticker *t = user;
    return t->p->on_layer(t->p->layer_user, view);
}

/* All layers have seen the tokens before position n_done. */
static void commit(crit_session *s, bool part_ends) {
    if (crit_session_streams(s)) s->fwd.prefill->commit(s->fwd.prefill_state, &s->fwd.env, s->n_done, part_ends);
}

/* Reads the pending tokens up to position `stop`. */
static crit_status read_until(crit_session *s, uint32_t stop, bool final, const crit_prefill_params *p,
                              crit_error *err) {
    uint32_t end = s->n_done + (uint32_t)s->n_pending, align = s->fwd.align, first = s->n_done,
             n_query = crit_forward_n_query(&s->fwd);
    ticker t = {.p = p, .n_layer = s->model->config.n_layer, .total = stop - s->n_done};
    while (s->n_done < stop) {
        uint32_t pos = s->n_done, to = (pos + s->fwd.n_batch) / align * align;
        if (to <= pos || to > stop) to = stop < pos + s->fwd.n_batch ? stop : pos + s->fwd.n_batch;
        /* The last chunk holds the queries that policies want to see. */
        uint32_t before = stop < n_query ? 0 : (stop - n_query) / align * align;
        if (final && to < stop && to > before && before > pos && stop - before <= s->fwd.n_batch) to = before;
        t.chunk = to - pos;
        crit_chunk chunk = {
            .tokens = s->pending + (pos - first),
            .pos0 = pos,
            .n_tok = to - pos,
            .n_rest = end - to,
            .need_from = p->on_layer    ? pos
                         : p->on_logits ? p->logits_from
                                        : to,
            .logits_from = p->logits_from,
            .tick = on_layer,
            .on_logits = p->on_logits ? on_row : NULL,
            .on_layer = p->on_layer ? on_view : NULL,
            .user = &t,
            .keep_last = final && to == stop,
        };
        crit_pool_set_poll(s->pool, p->progress ? on_poll : NULL, &t);
        crit_status st = crit_forward_chunk(&s->fwd, &chunk, err);
        crit_pool_set_poll(s->pool, NULL, NULL);
        if (st) return st;
        t.done += t.chunk;
        s->n_done = to;
        commit(s, final && to == stop);
    }
    memmove(s->pending, s->pending + (stop - first), (end - stop) * sizeof *s->pending);
    s->n_pending = end - stop;
    if (final) s->has_logits = true;
    return CRIT_OK;
}

/* Back to before the prompt that is being read. */
static void give_up(crit_session *s) {
    const uint32_t start = s->turn_start;
    for (uint32_t i = 0; i < s->model->config.n_layer; i++) crit_narrow_undo(&s->kv[i]);
    cut(s, start);
    if (s->n_done != start) s->has_logits = false;
}

crit_status crit_prefill(crit_session *s, const int32_t *tokens, size_t n_tok, const crit_prefill_params *params,
                         crit_error *err) {
    if (!s || !tokens || n_tok == 0) return crit_fail(err, CRIT_E_ARG, "crit_prefill: no tokens");
    crit_prefill_params p;
    crit_prefill_params_init(&p);
    if (params) {
        if (params->struct_size != sizeof p)
            return crit_fail(err, CRIT_E_ARG, "crit_prefill_params: struct_size not set");
        p = *params;
    }
    uint32_t n_past = crit_session_n_past(s), start = s->in_turn ? s->turn_start : n_past;
    if (n_tok > s->params.n_ctx - n_past)
        return crit_fail(err, CRIT_E_CONTEXT, "%u + %zu tokens do not fit the context of %u", n_past, n_tok,
                         s->params.n_ctx);
    for (size_t i = 0; i < n_tok; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= s->model->config.n_vocab)
            return crit_fail(err, CRIT_E_ARG, "token %zu has id %d, outside the vocabulary of %u", i, tokens[i],
                             s->model->config.n_vocab);
    if (s->batch_open) return crit_fail(err, CRIT_E_STATE, "crit_prefill: a batch of the session is open");
    if (p.on_layer && s->fwd.prefill)
        return crit_fail(err, CRIT_E_STATE, "crit_prefill: %s makes no plan that on_layer could show",
                         s->fwd.prefill->name);
    crit_status st = queue(s, tokens, n_tok, err);
    if (st) {
        if (s->in_turn) give_up(s);
        return st;
    }
    if (!s->in_turn) {
        s->in_turn = true;
        s->turn_start = s->fwd.turn_pos0 = start;
        s->turn_ns = 0;
        s->fwd.stats = (crit_forward_stats){0};
        s->fwd.plan.estimate_ns = s->fwd.plan.ready_ns = 0;
        s->fwd.plan.n_skip = 0;
        s->fwd.plan.check = (crit_check){0};
        s->count0 = crit_pool_counts(s->pool);
    }
    uint32_t end = s->n_done + (uint32_t)s->n_pending, stop = end, align = s->fwd.align;
    if (p.more) {
        /* What the end of the prompt decides stays unread until the end is known. */
        uint32_t tail = crit_attn_tail(&s->params.attn);
        if (tail < crit_forward_n_query(&s->fwd)) tail = crit_forward_n_query(&s->fwd);
        stop = end > tail ? (end - tail) / align * align : 0;
        if (stop < s->n_done) stop = s->n_done;
    }
    uint64_t t0 = crit_now_ns();
    st = read_until(s, stop, !p.more, &p, err);
    s->turn_ns += crit_now_ns() - t0;
    if (st) {
        give_up(s);
        return st;
    }
    if (!p.more) {
        for (uint32_t i = 0; i < s->model->config.n_layer; i++) crit_narrow_settle(&s->kv[i]);
        const crit_forward_stats *f = &s->fwd.stats;
        const crit_check *seen = &s->fwd.plan.check;
        const crit_pool_count n = crit_pool_counts(s->pool);
        s->in_turn = false;
        s->stats = (crit_stats){
            .struct_size = sizeof s->stats,
            .n_tok = end - start,
            .prefill_ms = (double)s->turn_ns * 1e-6,
            .estimate_ms = (double)s->fwd.plan.estimate_ns * 1e-6,
            .attend_ms = (double)(f->attend_ns + s->fwd.plan.ready_ns) * 1e-6,
            .gemm_ms = (double)f->gemm_ns * 1e-6,
            .density = f->pairs_causal > 0 ? f->pairs / f->pairs_causal : 1,
            .serial_ms = (double)(s->turn_ns - (n.run_ns - s->count0.run_ns)) * 1e-6,
            .n_run = n.n_run - s->count0.n_run,
            .n_stage = n.n_stage - s->count0.n_stage,
            .n_item = n.n_item - s->count0.n_item,
            .skipped = f->pairs_causal > 0 ? (double)s->fwd.plan.n_skip * CRIT_BLK_LEN / f->pairs_causal : 0,
            .logits_ms = (double)f->logits_ns * 1e-6,
            .mass_measured = seen->n ? seen->mass / (double)seen->n : (double)NAN,
            .peak_recall_measured = seen->n_peak ? (double)seen->peak_kept / (double)seen->n_peak : (double)NAN,
            .n_peak_measured = seen->n_look_up,
        };
    }
    return CRIT_OK;
}

crit_status crit_decode(crit_session *s, int32_t token, crit_error *err) {
    if (!s || token < 0 || (uint32_t)token >= s->model->config.n_vocab)
        return crit_fail(err, CRIT_E_ARG, "crit_decode: token %d is outside the vocabulary", token);
    if (s->in_turn) return crit_fail(err, CRIT_E_STATE, "crit_decode: the prompt has not been finished");
    if (s->batch_open) return crit_fail(err, CRIT_E_STATE, "crit_decode: a batch of the session is open");
    if (s->n_done >= s->params.n_ctx)
        return crit_fail(err, CRIT_E_CONTEXT, "the context of %u tokens is full", s->params.n_ctx);
    crit_status st = crit_forward_one(&s->fwd, token, s->n_done, err);
    if (st) {
        cut(s, s->n_done);
        return st;
    }
    s->n_done++;
    commit(s, true);
    s->has_logits = true;
    return CRIT_OK;
}

crit_status crit_session_set_decode(crit_session *s, const char *text, crit_error *err) {
    if (!s) return crit_fail(err, CRIT_E_ARG, "crit_session_set_decode: no session");
    if (s->batch_open) return crit_fail(err, CRIT_E_STATE, "crit_session_set_decode: a batch of the session is open");
    const crit_policy *policy;
    crit_policy_values values;
    crit_status st = crit_policy_parse(CRIT_POLICY_DECODE, text, &policy, &values, err);
    if (!st) st = crit_policy_pair(policy, s->fwd.kv_policy, err);
    if (!st) st = check_decode(s->fwd.prefill, policy, err);
    return st ? st : crit_forward_policy(&s->fwd, policy, &values, err);
}

crit_status crit_session_watch_decode(crit_session *s, bool on, crit_error *err) {
    if (!s) return crit_fail(err, CRIT_E_ARG, "crit_session_watch_decode: no session");
    if (s->batch_open) return crit_fail(err, CRIT_E_STATE, "crit_session_watch_decode: a batch of the session is open");
    if (on && crit_session_streams(s))
        return crit_fail(err, CRIT_E_STATE, "crit_session_watch_decode: %s keeps no store to weigh its keys against",
                         s->fwd.prefill->name);
    return crit_forward_watch(&s->fwd, on, err);
}

crit_status crit_session_decode_stats(crit_session *s, bool reset, crit_decode_stats *out) {
    if (!s || !out || out->struct_size != sizeof *out) return CRIT_E_ARG;
    crit_step_stats *p = &s->fwd.step;
    *out = (crit_decode_stats){
        .struct_size = sizeof *out,
        .n_tok = p->n,
        .ms = (double)p->ns * 1e-6,
        .attend_ms = (double)p->attend_ns * 1e-6,
        .moved_bytes = s->fwd.env.moved_bytes,
        .full_bytes = p->full_bytes,
        .model = p->n ? p->model / (double)p->n : (double)NAN,
        .mass = p->n_mass ? p->mass / (double)p->n_mass : (double)NAN,
    };
    if (reset) {
        *p = (crit_step_stats){0};
        s->fwd.env.moved_bytes = 0;
    }
    return CRIT_OK;
}

const float *crit_logits(const crit_session *s) {
    return s && s->has_logits && !s->in_turn ? s->fwd.logits : NULL;
}

uint32_t crit_session_n_past(const crit_session *s) {
    return s ? s->n_done + (uint32_t)s->n_pending : 0;
}

crit_status crit_session_rewind(crit_session *s, uint32_t n_past, crit_error *err) {
    if (!s) return crit_fail(err, CRIT_E_ARG, "crit_session_rewind: no session");
    if (s->in_turn && n_past > s->turn_start)
        return crit_fail(err, CRIT_E_STATE, "crit_session_rewind: the prompt from %u on has not been finished",
                         s->turn_start);
    if (s->batch_open) return crit_fail(err, CRIT_E_STATE, "crit_session_rewind: a batch of the session is open");
    if (n_past > s->n_done) return crit_fail(err, CRIT_E_ARG, "cannot rewind %u tokens to %u", s->n_done, n_past);
    if (n_past && n_past < s->n_done && crit_session_streams(s))
        return crit_fail(err, CRIT_E_STATE, "cannot rewind %u tokens to %u: %s has forgotten, it only goes back to 0",
                         s->n_done, n_past, s->fwd.prefill->name);
    if (n_past < s->n_done) s->has_logits = false;
    for (uint32_t i = 0; s->in_turn && i < s->model->config.n_layer; i++) crit_narrow_undo(&s->kv[i]);
    cut(s, n_past);
    return CRIT_OK;
}

crit_status crit_session_stats(const crit_session *s, crit_stats *out) {
    if (!s || !out || out->struct_size != sizeof *out) return CRIT_E_ARG;
    if (!s->stats.struct_size) return CRIT_E_STATE;
    *out = s->stats;
    out->kv_bytes = crit_forward_stream_bytes(&s->model->config, s->fwd.prefill, &s->fwd.prefill_values);
    for (uint32_t i = 0; i < s->model->config.n_layer; i++) out->kv_bytes += crit_kv_used_bytes(&s->kv[i]);
    out->n_channel = s->kv[0].n_narrow ? s->kv[0].narrow->dk : s->model->config.d_head;
    return CRIT_OK;
}
