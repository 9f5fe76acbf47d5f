/* SPDX-License-Identifier: MIT */
/* One token through all layers: products of one row, attention by the session's policy. */
#include "kv/narrow.h"
#include "model/steps.h"
#include "policy/select_keys.h"

/* What the keys that were read weigh for exact attention, over full keys where they still are. */
static void watch(crit_forward *f, const crit_decode_job *job) {
    crit_decode_env *e = &f->env;
    double moved = e->moved_bytes;
    crit_kv kv = *job->kv;
    if (kv.narrow && kv.narrow->whole) kv.n_narrow = 0;
    crit_key_weights(e, &kv, 0, job->n_tok, job->q, e->scale, f->watch_weight, e->n_ctx);
    e->moved_bytes = moved;
    for (uint32_t h = 0; h < e->n_kv_head; h++) {
        uint32_t n = f->policy->kept(f->policy_state, job->layer, h, job->n_tok, f->watch_pos);
        for (uint32_t g = 0; g < e->n_group; g++) {
            const float *w = f->watch_weight + (size_t)(h * e->n_group + g) * e->n_ctx;
            for (uint32_t i = 0; i < n; i++) f->step.mass += (double)w[f->watch_pos[i]];
        }
    }
    f->step.n_mass += e->n_head;
}

/* Of the bytes of n_tok full keys and values, those that the store has. */
static float share_of(const crit_kv *kv, uint32_t n_tok) {
    double dropped = kv->n_narrow ? (double)kv->n_narrow * (kv->d - kv->narrow->dk) : 0;
    return (float)(1 - dropped / (2.0 * kv->d * n_tok));
}

/* A policy that decides by the query needs it now, which ends the run. */
static crit_status attend_one(crit_forward *f, crit_steps *s, const crit_decode_job *job, crit_pieces *p,
                              crit_error *err) {
    crit_status st;
    if (f->policy->stages) {
        crit_stage stage[2];
        st = f->policy->stages(job, p, f->piece, stage, err);
        for (int i = 0; i < 2 && !st; i++) crit_steps_add(s, stage[i], &f->step.attend_ns);
    } else {
        crit_steps_run(s);
        uint64_t t = crit_now_ns();
        st = f->policy->decode(f->policy_state, job, err);
        f->step.attend_ns += crit_now_ns() - t;
    }
    if (!st && f->watch_weight) {
        crit_steps_run(s);
        watch(f, job);
    }
    return st;
}

static crit_status layer_one(crit_forward *f, crit_rows_arg *rows, uint32_t i, crit_error *err) {
    const crit_config *c = &f->model->config;
    const crit_layer *l = &f->model->weights.layers[i];
    uint32_t pos = rows->chunk->pos0;
    crit_steps s;
    crit_steps_begin(&s, f);
    crit_steps_qkv(&s, l, 1, 0);
    bool streams = f->prefill && f->prefill->stream;
    rows->layer = l;
    rows->kv = streams ? NULL : &f->kv[i];
    crit_steps_add(&s, (crit_stage){.n_item = c->n_kv_head, .task = crit_rope_item, .arg = rows}, NULL);
    crit_decode_job job = {&f->env, i, &f->kv[i], pos + 1, f->q, f->att};
    crit_pieces pieces;
    crit_status st;
    if (streams) {
        crit_steps_run(&s);
        st = crit_forward_stream(f, i, pos, 1, err);
    } else {
        st = attend_one(f, &s, &job, &pieces, err);
    }
    if (st) return st;
    crit_steps_rest(&s, l, 0, 1);
    crit_steps_run(&s);
    if (!streams) crit_kv_advance(&f->kv[i], 1);
    return CRIT_OK;
}

crit_status crit_forward_one(crit_forward *f, int32_t token, uint32_t pos, crit_error *err) {
    crit_chunk chunk = {.tokens = &token, .pos0 = pos, .n_tok = 1};
    crit_rows_arg rows = {.f = f, .chunk = &chunk};
    uint64_t t = crit_now_ns();
    f->one = true;
    crit_embed_item(&rows, 0, 0);
    crit_status st = CRIT_OK;
    for (uint32_t i = 0; i < f->model->config.n_layer && !st; i++) st = layer_one(f, &rows, i, err);
    if (!st) st = crit_last_logits(f, 0, err);
    if (st) return st;
    f->step.n++;
    f->step.ns += crit_now_ns() - t;
    if (f->prefill && f->prefill->stream) { /* a cache of its own, which decodes, too */
        f->step.model += f->prefill->traffic(f->prefill_state, &f->env, &f->prefill_values, pos + 1);
    } else {
        f->env.store_share = share_of(&f->kv[0], pos + 1);
        f->step.model +=
            f->policy->traffic ? f->policy->traffic(f->policy_state, &f->env, &f->policy_values, pos + 1) : 1;
    }
    const double whole = (double)(pos / CRIT_BLK_LEN + 1) * CRIT_BLK_LEN; /* blocks, as full attention reads them */
    f->step.full_bytes += 2.0 * sizeof(uint16_t) * f->env.d * f->env.n_kv_head * f->env.n_layer * whole;
    return CRIT_OK;
}
