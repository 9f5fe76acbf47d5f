/* SPDX-License-Identifier: MIT */
/* Recycled attention (arXiv 2411.05787 v1; RefreshKV, v2): most steps attend to a small copy of the keys that the last
 * full step weighed most, and now and then a full step chooses them anew.
 *
 * The copy holds K keys for each KV head, and the tokens since.  A recycling step puts its token in, and from then on
 * in place of the entry with the lowest weight of the last full step; tokens that came since have none and are dropped
 * last.  The KV store itself always holds everything, so a full step sees every token.
 * DEVIATION: the copy attended to has the step's own token beside its K, not K - 1 of them.  One set serves the query
 * heads of a KV head (their maximum, as v2), and the query check compares all heads of a layer as one vector, which the
 * papers leave open. */
#include <stdlib.h>
#include <string.h>

#include "kv/slab.h"
#include "policy/decode_policy.h"
#include "policy/select_keys.h"

enum { OPT_K, OPT_S, OPT_QC, OPT_SIM, OPT_POOL, OPT_MIN };
static const crit_policy_option options[] = {
    {"K", "keys in the copy, for each KV head", 4096, 32, 1 << 24, true, NULL},
    {"S", "one full step every S steps; without effect with qc", 50, 1, 1 << 24, true, NULL},
    {"qc", "compare the query with that of the last full step every qc steps; 0 = go by S", 0, 0, 1 << 24, true, NULL},
    {"s", "with qc: a full step when the cosine is below", 0.8, -1.1, 1.1, false, NULL},
    {"pool", "weights are smoothed by the maximum over so many neighbours; 1 = not", 7, 1, 129, true, NULL},
    {"min", "shorter timelines are read in full; 0 = below K and an eighth", 0, 0, 1 << 24, true, NULL},
};

enum { N_LEAST = 64 }; /* entries to be dropped next that are looked for at a time */

typedef struct layer {
    uint32_t *src;              /* [n_kv_head][cap] position of each entry */
    float *weight;              /* [n_kv_head][cap] by which entries are dropped */
    uint32_t *least;            /* [n_kv_head][N_LEAST] the entries with the lowest weights, lowest first */
    uint32_t n_least, at_least; /* how many, and how many of them are gone */
    float *q_full;              /* [n_head][d] query of the last full step */
    uint32_t n;                 /* entries; 0 = no copy: the next step is full */
    uint32_t n_seen;            /* tokens of the timeline when the copy was last brought up to date */
    uint32_t since;             /* steps since the full step */
    bool last_full;
} layer;

typedef struct recycled {
    uint32_t n_layer, n_kv_head, n_keep, cap;
    uint32_t least; /* shorter timelines are read in full */
    uint32_t every, check_every, pool;
    double least_cos;
    layer *layers;
    crit_slab *slab; /* [n_layer] */
    crit_key_picker picker;
} recycled;

/* A copy that is nearly the whole saves less than choosing it costs.  K itself always falls short. */
static uint32_t least_tok(const crit_policy_values *o) {
    double k = o->v[OPT_K], least = o->v[OPT_MIN] > 0 ? o->v[OPT_MIN] : k + k / 8;
    return (uint32_t)(least > k ? least : k + 1);
}

static size_t state_bytes(const crit_decode_env *e, const crit_policy_values *o) {
    uint32_t cap = (uint32_t)o->v[OPT_K] + 1;
    size_t slab;
    if (!crit_slab_map_bytes(e->n_kv_head, e->d, cap, &slab)) return SIZE_MAX / 2;
    if (o->v[OPT_K] >= e->n_ctx) slab = 0; /* never used */
    return e->n_layer *
               (slab + (size_t)e->n_kv_head * (cap + N_LEAST / 2) * 8 + (size_t)e->n_head * e->d * sizeof(float)) +
           crit_key_picker_bytes(e);
}

static void state_close(void *state) {
    recycled *r = state;
    if (!r) return;
    for (uint32_t i = 0; r->layers && i < r->n_layer; i++) {
        crit_free(r->layers[i].src);
        crit_free(r->layers[i].least);
        crit_free(r->layers[i].weight);
        crit_free(r->layers[i].q_full);
    }
    crit_free(r->layers);
    if (r->slab) crit_slab_clear(r->slab);
    crit_free(r->slab);
    crit_key_picker_clear(&r->picker);
    crit_free(r);
}

static crit_status state_open(void **out, const crit_decode_env *e, const crit_policy_values *o, crit_error *err) {
    recycled *r = crit_calloc(1, sizeof *r);
    if (!r) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    r->n_layer = e->n_layer;
    r->n_kv_head = e->n_kv_head;
    r->n_keep = (uint32_t)o->v[OPT_K];
    r->cap = r->n_keep + 1;
    r->least = least_tok(o);
    r->every = (uint32_t)o->v[OPT_S];
    r->check_every = (uint32_t)o->v[OPT_QC];
    r->least_cos = o->v[OPT_SIM];
    r->pool = (uint32_t)o->v[OPT_POOL];
    r->layers = crit_calloc(e->n_layer, sizeof *r->layers);
    r->slab = crit_calloc(e->n_layer, sizeof *r->slab);
    crit_status st = r->layers && r->slab ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory");
    /* A context that K covers never needs a copy. */
    if (!st && r->n_keep < e->n_ctx)
        st = crit_slabs_init(r->slab, e->n_layer, e->kernels, e->n_kv_head, e->d, r->cap, err);
    for (uint32_t i = 0; i < e->n_layer && !st && r->n_keep < e->n_ctx; i++) {
        layer *l = &r->layers[i];
        l->least = crit_malloc((size_t)e->n_kv_head * N_LEAST, sizeof *l->least);
        l->src = crit_malloc((size_t)e->n_kv_head * r->cap, sizeof *l->src);
        l->weight = crit_malloc((size_t)e->n_kv_head * r->cap, sizeof *l->weight);
        l->q_full = crit_malloc((size_t)e->n_head * e->d, sizeof *l->q_full);
        if (!st && (!l->least || !l->src || !l->weight || !l->q_full))
            st = crit_fail(err, CRIT_E_NOMEM, "out of memory");
    }
    if (!st && r->n_keep < e->n_ctx) st = crit_key_picker_init(&r->picker, e, err);
    if (st) {
        state_close(r);
        return st;
    }
    *out = r;
    return CRIT_OK;
}

/* ---- the copy chosen anew ---- */

/* From the weights of q over the n_tok keys of kv. */
static void choose(recycled *r, crit_decode_env *e, uint32_t layer_id, const crit_kv *kv, uint32_t n_tok,
                   const float *q, size_t n_value) {
    layer *l = &r->layers[layer_id];
    const crit_pick pick = {.env = e,
                            .kv = kv,
                            .n_tok = n_tok,
                            .q = q,
                            .n_best = r->n_keep,
                            .pool = r->pool,
                            .pos = l->src,
                            .weight = l->weight,
                            .stride = r->cap};
    crit_key_picker_run(&r->picker, &pick);
    l->n = r->n_keep;
    crit_slab_fill(&r->slab[layer_id], e, kv, l->src, r->cap, l->n, 0);
    memcpy(l->q_full, q, n_value * sizeof *q);
    l->n_seen = n_tok;
    l->since = 0;
    l->n_least = l->at_least = 0;
}

static crit_status prompt(void *state, crit_decode_env *e, uint32_t layer_id, const crit_kv *kv, const float *q,
                          size_t q_stride, uint32_t n_q, crit_error *err) {
    (void)err;
    recycled *r = state;
    layer *l = &r->layers[layer_id];
    l->n = 0;
    if (n_q && kv->n_tok >= r->least)
        choose(r, e, layer_id, kv, kv->n_tok, q + (size_t)(n_q - 1) * q_stride, (size_t)e->n_head * e->d);
    return CRIT_OK;
}

/* ---- steps ---- */

static bool full_step_due(const recycled *r, const layer *l, const crit_decode_job *job) {
    /* A token that did not pass through here has no place in the copy. */
    if (l->n == 0 || l->n_seen + 1 != job->n_tok) return true;
    if (r->check_every)
        return (l->since + 1) % r->check_every == 0 &&
               crit_cosine(job->q, l->q_full, (size_t)job->env->n_head * job->env->d) < r->least_cos;
    return l->since + 1 >= r->every;
}

/* The n lowest weights' entries, of equal ones the first, lowest first. */
static void find_least(const float *weight, uint32_t n_entry, uint32_t n, uint32_t *out) {
    uint32_t have = 0;
    for (uint32_t i = 0; i < n_entry; i++) {
        if (have == n && !(weight[i] < weight[out[n - 1]])) continue;
        uint32_t at = have < n ? have++ : n - 1;
        for (; at > 0 && weight[i] < weight[out[at - 1]]; at--) out[at] = out[at - 1];
        out[at] = i;
    }
}

typedef struct step {
    const recycled *r;
    layer *l;
    const crit_decode_job *job;
    crit_slab *slab;
    bool drop, look; /* the copy is full; and who goes is to be found out */
} step;

/* The step's own token into the copy of a KV head. */
static void take_in_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const step *a = arg;
    const layer *l = a->l;
    uint32_t cap = a->r->cap, *least = l->least + head * N_LEAST, slot = l->n;
    float *weight = l->weight + head * cap;
    if (a->look) find_least(weight, cap, l->n_least, least);
    if (a->drop) slot = least[l->at_least];
    crit_slab_copy(a->slab, (uint32_t)head, slot, a->job->kv, a->job->n_tok - 1);
    l->src[head * cap + slot] = a->job->n_tok - 1;
    weight[slot] = 2 + (float)l->since; /* above every weight, the oldest first */
}

/* Who is dropped in the next steps is known as long as what comes in weighs more than what is there. */
static step begin_step(const recycled *r, const crit_decode_job *job) {
    layer *l = &r->layers[job->layer];
    step a = {r, l, job, &r->slab[job->layer], l->n == r->cap, false};
    if (!a.drop) return a;
    if (l->n_least && ++l->at_least < l->n_least) return a;
    l->n_least = r->cap < N_LEAST ? r->cap : N_LEAST;
    l->at_least = 0;
    a.look = true;
    return a;
}

static crit_status decode(void *state, const crit_decode_job *job, crit_error *err) {
    recycled *r = state;
    layer *l = &r->layers[job->layer];
    crit_decode_env *e = job->env;
    l->last_full = true;
    if (job->n_tok < r->least) return crit_full_decode(job, err);
    if (full_step_due(r, l, job)) {
        /* Nothing is chosen for a copy that would not be read. */
        if (r->every > 1 || r->check_every)
            choose(r, e, job->layer, job->kv, job->n_tok, job->q, (size_t)e->n_head * e->d);
        return crit_full_decode(job, err);
    }
    l->last_full = false;
    const crit_slab *slab = &r->slab[job->layer];
    const bool drop = l->n == r->cap;
    uint32_t n_key = drop ? l->n : l->n + 1, n_blk = (n_key + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    crit_pieces p = {.env = e, .q = job->q, .n_row = e->n_group, .out = job->out};
    p.piece = crit_malloc(crit_pieces_of(n_blk), sizeof *p.piece);
    if (!p.piece) return crit_fail(err, CRIT_E_NOMEM, "out of memory for attention");
    p.n_piece =
        crit_pieces_cut(p.piece, slab->k, slab->v, crit_slab_head(slab), e->all_blk, n_blk, n_key, 0, e->n_group);
    crit_status st = crit_pieces_prepare(&p, err);
    if (!st) {
        step a = begin_step(r, job); /* changes the layer: nothing may fail behind it */
        crit_stage stage[3] = {{.n_item = e->n_kv_head, .task = take_in_item, .arg = &a}};
        crit_pieces_stages(&p, stage + 1);
        crit_pool_run_stages(e->pool, stage, 3);
        l->n = n_key;
        l->n_seen = job->n_tok;
        l->since++;
    }
    crit_free(p.piece);
    return st;
}

static void cut(void *state, uint32_t n_tok) {
    recycled *r = state;
    for (uint32_t i = 0; i < r->n_layer; i++)
        if (r->layers[i].n_seen > n_tok) r->layers[i].n = 0;
}

static int by_position(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t kept(const void *state, uint32_t layer_id, uint32_t kv_head, uint32_t n_tok, uint32_t *pos) {
    const recycled *r = state;
    const layer *l = &r->layers[layer_id];
    if (l->last_full || l->n == 0) {
        for (uint32_t i = 0; i < n_tok; i++) pos[i] = i;
        return n_tok;
    }
    memcpy(pos, l->src + (size_t)kv_head * r->cap, l->n * sizeof *pos);
    qsort(pos, l->n, sizeof *pos, by_position);
    return l->n;
}

static double traffic(const void *state, const crit_decode_env *e, const crit_policy_values *o, uint32_t n_tok) {
    (void)state;
    if (n_tok < least_tok(o)) return (double)e->store_share;
    double full = o->v[OPT_QC] > 0 ? 0 : 1 / o->v[OPT_S]; /* with a check: at best */
    return full * (double)e->store_share + (1 - full) * o->v[OPT_K] / n_tok;
}

const crit_policy crit_policy_recycled = {
    .name = "recycled",
    .summary = "a small copy of the keys that mattered, chosen anew by a full step now and then",
    .source = "Recycled Attention / RefreshKV, arXiv 2411.05787",
    .combines = "any prefill, any store",
    .place = CRIT_POLICY_DECODE,
    .any_store = true,
    .options = options,
    .n_option = sizeof options / sizeof *options,
    .bytes = state_bytes,
    .open = state_open,
    .close = state_close,
    .n_query = 1,
    .prompt = prompt,
    .decode = decode,
    .cut = cut,
    .kept = kept,
    .traffic = traffic,
};
