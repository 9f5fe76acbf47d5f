/* SPDX-License-Identifier: MIT */
/* TokenSelect (arXiv 2411.02886), decoding: the first tokens, the last ones, and those in between that the heads of the
 * layer vote for.  A choice is kept while the query stays close to the one that made it.
 *
 * What was chosen lies in a copy; first and last tokens are read in the store.
 * DEVIATIONS: logits are voted on with h / n_group as the KV head of query head h, not h mod n_kv_head as printed.
 * Between two choices the window of last tokens grows instead of sliding, so that no token is out of reach, and a new
 * choice is made when it has grown by n_local.  It begins at a block of the store: up to 31 tokens earlier. */
#include <math.h>
#include <string.h>

#include "policy/tokenselect.h"

enum { OPT_THETA = CRIT_VOTE_OWN };
static const crit_policy_option options[] = {
    {"k", "tokens chosen in each layer", 2048, 32, 1 << 24, true, NULL},
    {"init", "first tokens, always read", 128, 0, 1 << 20, true, NULL},
    {"local", "last tokens, always read", 512, 32, 1 << 20, true, NULL},
    {"theta", "choose anew when the query's cosine to the last choice's falls below; 1.1 = each step", 0.9, -1.1, 1.1,
     false, NULL},
    {"vote", "soft-max of a vote over logits, plain or scaled by 1/sqrt(d)", 0, 0, 1, true, crit_vote_words},
    {"pool", "votes are smoothed by the maximum over so many neighbours; 1 = not", 1, 1, 129, true, NULL},
};

typedef struct layer {
    crit_slab slab;        /* [n_kv_head][n_pick] */
    uint32_t *pos;         /* [n_pick] */
    float *q;              /* [n_head][d] of the last choice */
    bool chosen;           /* there is one */
    uint32_t local_from;   /* at the choice */
    uint32_t n_seen;       /* tokens the choice has served for */
    bool last_full, fresh; /* the last step read all, made a choice */
} layer;

typedef struct tokenselect {
    uint32_t n_layer;
    crit_vote_rule rule;
    double theta;
    layer *layers;
    crit_voters voters;
} tokenselect;

static bool never_needed(const crit_vote_rule *r, const crit_decode_env *e) {
    return (uint64_t)r->n_pick + r->n_init + r->n_local >= e->n_ctx;
}

static size_t state_bytes(const crit_decode_env *e, const crit_policy_values *o) {
    const crit_vote_rule r = crit_vote_rule_of(o);
    size_t slab;
    if (never_needed(&r, e)) return 0;
    if (!crit_slab_map_bytes(e->n_kv_head, e->d, r.n_pick, &slab)) return SIZE_MAX / 2;
    return e->n_layer * (slab + (size_t)r.n_pick * sizeof(uint32_t) + (size_t)e->n_head * e->d * sizeof(float)) +
           crit_voters_bytes(e);
}

static void state_close(void *state) {
    tokenselect *t = state;
    if (!t) return;
    for (uint32_t i = 0; t->layers && i < t->n_layer; i++) {
        crit_slab_clear(&t->layers[i].slab);
        crit_free(t->layers[i].pos);
        crit_free(t->layers[i].q);
    }
    crit_free(t->layers);
    crit_voters_clear(&t->voters);
    crit_free(t);
}

static crit_status state_open(void **out, const crit_decode_env *e, const crit_policy_values *o, crit_error *err) {
    tokenselect *t = crit_calloc(1, sizeof *t);
    if (!t) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    t->n_layer = e->n_layer;
    t->rule = crit_vote_rule_of(o);
    t->theta = o->v[OPT_THETA];
    t->layers = crit_calloc(e->n_layer, sizeof *t->layers);
    crit_status st = t->layers ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory");
    bool needed = !never_needed(&t->rule, e);
    for (uint32_t i = 0; i < e->n_layer && !st && needed; i++) {
        layer *l = &t->layers[i];
        st = crit_slab_init(&l->slab, e->kernels, e->n_kv_head, e->d, t->rule.n_pick, err);
        l->pos = crit_malloc(t->rule.n_pick, sizeof *l->pos);
        l->q = crit_malloc((size_t)e->n_head * e->d, sizeof *l->q);
        if (!st && (!l->pos || !l->q)) st = crit_fail(err, CRIT_E_NOMEM, "out of memory");
    }
    if (!st && needed) st = crit_voters_init(&t->voters, e, err);
    if (st) {
        state_close(t);
        return st;
    }
    *out = t;
    return CRIT_OK;
}

static uint32_t local_from(const crit_vote_rule *r, uint32_t n_tok) {
    return (n_tok - r->n_local) / CRIT_BLK_LEN * CRIT_BLK_LEN;
}

static bool choice_due(const tokenselect *t, const layer *l, const crit_decode_job *job) {
    return !l->chosen || job->n_tok - l->local_from > 2 * t->rule.n_local + CRIT_BLK_LEN ||
           crit_cosine(job->q, l->q, (size_t)job->env->n_head * job->env->d) < t->theta;
}

static void choose(tokenselect *t, layer *l, const crit_decode_job *job) {
    crit_decode_env *e = job->env;
    l->local_from = local_from(&t->rule, job->n_tok);
    crit_voters_run(&t->voters, e, &t->rule, job->kv, t->rule.n_init, l->local_from, job->q, l->pos);
    crit_slab_fill(&l->slab, e, job->kv, l->pos, 0, t->rule.n_pick, 0);
    memcpy(l->q, job->q, (size_t)e->n_head * e->d * sizeof *l->q);
    l->chosen = true;
}

static uint32_t blocks(uint32_t n_key) {
    return (n_key + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
}

static crit_status attend(const tokenselect *t, const layer *l, const crit_decode_job *job, crit_error *err) {
    crit_decode_env *e = job->env;
    const crit_kv *kv = job->kv;
    uint32_t n_init = blocks(t->rule.n_init), n_pick = blocks(t->rule.n_pick), first = l->local_from / CRIT_BLK_LEN,
             n_local = blocks(job->n_tok) - first;
    crit_pieces p = {.env = e, .q = job->q, .n_row = e->n_group, .out = job->out};
    p.piece = crit_malloc(crit_pieces_of(n_init) + crit_pieces_of(n_pick) + crit_pieces_of(n_local), sizeof *p.piece);
    if (!p.piece) return crit_fail(err, CRIT_E_NOMEM, "out of memory for attention");
    p.n_piece = crit_pieces_cut_kv(p.piece, kv, e->all_blk, n_init, t->rule.n_init, 0, e->n_group);
    p.n_piece += crit_pieces_cut(p.piece + p.n_piece, l->slab.k, l->slab.v, crit_slab_head(&l->slab), e->all_blk,
                                 n_pick, t->rule.n_pick, 0, e->n_group);
    p.n_piece += crit_pieces_cut_kv(p.piece + p.n_piece, kv, e->all_blk + first, n_local, job->n_tok, 0, e->n_group);
    crit_status st = crit_pieces_prepare(&p, err);
    if (!st) crit_pieces_run(&p);
    crit_free(p.piece);
    return st;
}

static crit_status decode(void *state, const crit_decode_job *job, crit_error *err) {
    tokenselect *t = state;
    layer *l = &t->layers[job->layer];
    /* From where the three parts cannot overlap on. */
    l->last_full = job->n_tok < (uint64_t)t->rule.n_pick + t->rule.n_init + t->rule.n_local + CRIT_BLK_LEN;
    if (l->last_full) return crit_full_decode(job, err);
    l->fresh = choice_due(t, l, job);
    if (l->fresh) choose(t, l, job);
    l->n_seen = job->n_tok;
    return attend(t, l, job, err);
}

static void cut(void *state, uint32_t n_tok) {
    tokenselect *t = state;
    for (uint32_t i = 0; i < t->n_layer; i++)
        if (t->layers[i].n_seen > n_tok) t->layers[i].chosen = false;
}

static uint32_t kept(const void *state, uint32_t layer_id, uint32_t kv_head, uint32_t n_tok, uint32_t *pos) {
    (void)kv_head;
    const tokenselect *t = state;
    const layer *l = &t->layers[layer_id];
    uint32_t n = 0, n_init = l->last_full ? n_tok : t->rule.n_init;
    while (n < n_init) pos[n] = n, n++;
    if (l->last_full) return n;
    memcpy(pos + n, l->pos, t->rule.n_pick * sizeof *pos);
    n += t->rule.n_pick;
    for (uint32_t i = l->local_from; i < n_tok; i++) pos[n++] = i;
    return n;
}

static double traffic(const void *state, const crit_decode_env *e, const crit_policy_values *o, uint32_t n_tok) {
    const tokenselect *t = state;
    double fresh = 0, read = o->v[CRIT_VOTE_K] + o->v[CRIT_VOTE_INIT] + o->v[CRIT_VOTE_LOCAL];
    if (read >= n_tok) return (double)e->store_share;
    for (uint32_t i = 0; i < t->n_layer; i++) fresh += t->layers[i].fresh;
    return fresh / e->n_layer * ((double)e->store_share - 0.5) + read / n_tok; /* a choice reads all keys */
}

const crit_policy crit_policy_tokenselect = {
    .name = "tokenselect",
    .summary = "the first and last tokens and those all heads of the layer vote for",
    .source = "TokenSelect, arXiv 2411.02886",
    .combines = "any prefill, any store",
    .place = CRIT_POLICY_DECODE,
    .any_store = true,
    .options = options,
    .n_option = sizeof options / sizeof *options,
    .bytes = state_bytes,
    .open = state_open,
    .close = state_close,
    .decode = decode,
    .cut = cut,
    .kept = kept,
    .traffic = traffic,
};
