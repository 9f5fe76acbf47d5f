/* SPDX-License-Identifier: MIT */
/* TokenSelect (arXiv 2411.02886), decoding: the first tokens, the last ones, and those in between that the heads of the
 * layer vote for.  A choice is kept while the query stays close to the one that made it.
 *
 * What was chosen lies in a copy, in which a token that is chosen again stays where it is; first and last tokens are
 * read in the store.  With compact positions the last tokens are as far from the query as ever, and the others are read
 * by a query that is turned back by the gap before them: the copy's keys are turned to stand side by side behind the
 * first ones.
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
    {"positions", "of what is read: the timeline's, or side by side, for texts past the trained window", 0, 0, 1, true,
     crit_position_words},
    {"min", "up to so many tokens attention is full", 12288, 0, 1 << 24, true, NULL},
};

typedef struct layer {
    crit_slab slab;        /* [n_kv_head][n_pick] */
    uint32_t *pos;         /* [n_pick] ascending */
    uint32_t *slot;        /* [n_pick] of the slab */
    float *q;              /* [n_head][d] of the last choice */
    bool chosen;           /* there is one */
    uint32_t local_from;   /* at the choice */
    uint32_t n_choice;     /* tokens at the choice */
    uint32_t n_narrow;     /* of the store then */
    uint32_t n_seen;       /* tokens the choice has served for */
    bool last_full, fresh; /* the last step read all, made a choice */
} layer;

typedef struct tokenselect {
    uint32_t n_layer;
    crit_vote_rule rule;
    double theta;
    layer *layers;
    crit_turn turn; /* with compact positions */
    crit_voters voters;
    uint32_t *next, *next_slot; /* [n_pick] */
    uint32_t *fresh;            /* [n_pick] places in next of those that are to be copied */
    bool *taken;                /* [n_pick] slots */
    float *q, *out, *lse;       /* [n_kv_head][2 n_group][d], [2][n_head][d], [n_kv_head][2 n_group] */
} tokenselect;

static bool never_needed(const crit_vote_rule *r, const crit_decode_env *e) {
    return (uint64_t)r->n_pick + r->n_init + r->n_local >= e->n_ctx;
}

/* Positions of a step with compact ones: the window grows to this before a new choice. */
static uint32_t most_local(const crit_vote_rule *r) {
    return 2 * r->n_local + CRIT_BLK_LEN;
}

static uint32_t span(const crit_policy_values *o) {
    const crit_vote_rule r = crit_vote_rule_of(o);
    return r.compact ? r.n_init + r.n_pick + most_local(&r) : 0;
}

/* Full attention keeps the timeline's positions, so with compact ones it must not go beyond theirs. */
static uint32_t full_up_to(const crit_policy_values *o) {
    uint32_t least = (uint32_t)o->v[CRIT_VOTE_MIN], most = span(o);
    return most && most < least ? most : least;
}

/* ---- memory ---- */

static size_t state_bytes(const crit_decode_env *e, const crit_policy_values *o) {
    const crit_vote_rule r = crit_vote_rule_of(o);
    size_t slab, row = (size_t)e->n_head * e->d * sizeof(float);
    if (never_needed(&r, e)) return 0;
    if (!crit_slab_map_bytes(e->n_kv_head, e->d, r.n_pick, &slab)) return SIZE_MAX / 2;
    return e->n_layer * (slab + 2 * (size_t)r.n_pick * sizeof(uint32_t) + row) +
           r.n_pick * (3 * sizeof(uint32_t) + sizeof(bool)) + 4 * row + crit_turn_bytes(e) +
           crit_voters_bytes(e, e->n_thread);
}

static void state_close(void *state) {
    tokenselect *t = state;
    if (!t) return;
    for (uint32_t i = 0; t->layers && i < t->n_layer; i++) {
        crit_slab_clear(&t->layers[i].slab);
        crit_free(t->layers[i].pos);
        crit_free(t->layers[i].slot);
        crit_free(t->layers[i].q);
    }
    crit_free(t->layers);
    crit_turn_clear(&t->turn);
    crit_voters_clear(&t->voters);
    crit_free(t->next);
    crit_free(t->next_slot);
    crit_free(t->fresh);
    crit_free(t->taken);
    crit_free(t->q);
    crit_free(t->out);
    crit_free(t->lse);
    crit_free(t);
}

static bool open_layer(layer *l, const crit_decode_env *e, uint32_t n_pick, crit_error *err) {
    if (crit_slab_init(&l->slab, e->kernels, e->n_kv_head, e->d, n_pick, err)) return false;
    l->pos = crit_malloc(n_pick, sizeof *l->pos);
    l->slot = crit_malloc(n_pick, sizeof *l->slot);
    l->q = crit_malloc((size_t)e->n_head * e->d, sizeof *l->q);
    return l->pos && l->slot && l->q;
}

static bool reserve(tokenselect *t, const crit_decode_env *e, crit_error *err) {
    size_t n = t->rule.n_pick, row = (size_t)e->n_head * e->d;
    for (uint32_t i = 0; i < e->n_layer; i++)
        if (!open_layer(&t->layers[i], e, t->rule.n_pick, err)) return false;
    t->next = crit_malloc(n, sizeof *t->next);
    t->next_slot = crit_malloc(n, sizeof *t->next_slot);
    t->fresh = crit_malloc(n, sizeof *t->fresh);
    t->taken = crit_malloc(n, sizeof *t->taken);
    t->q = crit_malloc(2 * row, sizeof *t->q);
    t->out = crit_malloc(2 * row, sizeof *t->out);
    t->lse = crit_malloc(2 * (size_t)e->n_head, sizeof *t->lse);
    return t->next && t->next_slot && t->fresh && t->taken && t->q && t->out && t->lse &&
           !crit_turn_init(&t->turn, e, err) && !crit_voters_init(&t->voters, e, err);
}

static crit_status state_open(void **out, const crit_decode_env *e, const crit_policy_values *o, crit_error *err) {
    tokenselect *t = crit_calloc(1, sizeof *t);
    if (!t) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    t->n_layer = e->n_layer;
    t->rule = crit_vote_rule_of(o);
    t->rule.min_tok = full_up_to(o);
    t->rule.far = crit_vote_far(e, span(o));
    t->theta = o->v[OPT_THETA];
    t->layers = crit_calloc(e->n_layer, sizeof *t->layers);
    if (!t->layers || (!never_needed(&t->rule, e) && !reserve(t, e, err))) {
        state_close(t);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for the choices of %u layers", e->n_layer);
    }
    *out = t;
    return CRIT_OK;
}

/* ---- a step ---- */

typedef struct step {
    tokenselect *t;
    layer *l;
    const crit_decode_job *job;
    crit_vote vote;
    crit_copy copy;
    crit_pieces pieces;
    uint32_t n_fresh;
} step;

static uint32_t local_from(const crit_vote_rule *r, uint32_t n_tok) {
    return (n_tok - r->n_local) / CRIT_BLK_LEN * CRIT_BLK_LEN;
}

/* Rows of job->q rotated by `by` positions more, into q. */
static void turned(const tokenselect *t, const crit_decode_job *job, uint32_t head, uint32_t n, int64_t by, float *q) {
    const crit_decode_env *e = job->env;
    float cosv[CRIT_D_HEAD_MAX / 2], sinv[CRIT_D_HEAD_MAX / 2];
    memcpy(q, job->q + (size_t)head * e->d, (size_t)n * e->d * sizeof *q);
    crit_turn_angles(&t->turn, by, cosv, sinv);
    crit_turn_rows(&t->turn, cosv, sinv, q, e->d, n);
}

/* Queries are compared as if at one position. */
static double likeness(const tokenselect *t, const layer *l, const crit_decode_job *job) {
    const crit_decode_env *e = job->env;
    size_t n = (size_t)e->n_head * e->d;
    turned(t, job, 0, e->n_head, (int64_t)l->n_choice - job->n_tok, t->q);
    return crit_cosine(t->q, l->q, n);
}

static bool choice_due(const tokenselect *t, const layer *l, const crit_decode_job *job) {
    return !l->chosen || job->n_tok - l->local_from > most_local(&t->rule) || likeness(t, l, job) < t->theta;
}

/* Finds tokens that are chosen again in their slots, and free slots for the others. */
static void match_item(void *arg, size_t item, unsigned worker) {
    (void)item, (void)worker;
    step *s = arg;
    tokenselect *t = s->t;
    layer *l = s->l;
    uint32_t n = t->rule.n_pick, n_old = l->chosen ? n : 0, free_slot = 0;
    memset(t->taken, 0, n * sizeof *t->taken);
    for (uint32_t i = 0, j = 0; i < n; i++) {
        while (j < n_old && l->pos[j] < t->next[i]) j++;
        if (j < n_old && l->pos[j] == t->next[i])
            t->taken[t->next_slot[i] = l->slot[j]] = true;
        else
            t->fresh[s->n_fresh++] = i;
    }
    for (uint32_t i = 0; i < s->n_fresh; i++) {
        while (t->taken[free_slot]) free_slot++;
        t->next_slot[t->fresh[i]] = free_slot++;
    }
    memcpy(l->pos, t->next, n * sizeof *l->pos);
    memcpy(l->slot, t->next_slot, n * sizeof *l->slot);
}

static unsigned choice_stages(step *s, crit_stage *stage) {
    tokenselect *t = s->t;
    layer *l = s->l;
    const crit_decode_job *job = s->job;
    crit_decode_env *e = job->env;
    const crit_turn *turn = t->rule.compact ? &t->turn : NULL;
    s->vote = (crit_vote){.voters = &t->voters,
                          .env = e,
                          .rule = &t->rule,
                          .kv = job->kv,
                          .from = t->rule.n_init,
                          .to = l->local_from = local_from(&t->rule, job->n_tok),
                          .q = job->q,
                          .turn = turn,
                          .q_pos = job->n_tok - 1,
                          .pos = t->next};
    s->copy = (crit_copy){.slab = &l->slab,
                          .env = e,
                          .kv = job->kv,
                          .n = t->rule.n_pick,
                          .pos = l->pos,
                          .slot = l->slot,
                          .fresh = t->fresh,
                          .n_fresh = &s->n_fresh,
                          .turn = turn,
                          .first = t->rule.n_init};
    unsigned n = crit_vote_stages(&s->vote, stage);
    stage[n++] = (crit_stage){.n_item = 1, .task = match_item, .arg = s};
    n += crit_copy_stages(&s->copy, stage + n);
    memcpy(l->q, job->q, (size_t)e->n_head * e->d * sizeof *l->q);
    l->n_choice = job->n_tok;
    return n;
}

static uint32_t blocks(uint32_t n_key) {
    return (n_key + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
}

/* A head's results over last tokens and over the others are those of two queries. */
static void join_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const step *s = arg;
    const crit_decode_env *e = s->job->env;
    size_t d = e->d, far = (size_t)e->n_head * d, lse = head / e->n_group * 2 * e->n_group + head % e->n_group;
    memcpy(s->job->out + head * d, s->t->out + head * d, d * sizeof *s->job->out);
    crit_merge_part(s->job->out + head * d, &s->t->lse[lse], s->t->out + far + head * d, s->t->lse[lse + e->n_group],
                    e->d);
}

/* Row g of a KV head is its query g, row n_group + g the same for compact positions. */
static void two_queries(step *s) {
    const tokenselect *t = s->t;
    const crit_decode_job *job = s->job;
    uint32_t n_group = job->env->n_group, d = job->env->d, n = t->rule.n_init + t->rule.n_pick;
    int64_t gap = (int64_t)s->l->local_from - n;
    for (uint32_t h = 0; h < job->env->n_kv_head; h++) {
        float *q = t->q + (size_t)h * 2 * n_group * d;
        memcpy(q, job->q + (size_t)h * n_group * d, (size_t)n_group * d * sizeof *q);
        turned(t, job, h * n_group, n_group, -gap, q + (size_t)n_group * d);
    }
    s->pieces.q = t->q;
    s->pieces.n_row = 2 * n_group;
    s->pieces.out = t->out;
    s->pieces.lse = t->lse;
}

static crit_status attend_stages(step *s, crit_stage *stage, unsigned *n, crit_error *err) {
    const crit_decode_job *job = s->job;
    const tokenselect *t = s->t;
    crit_decode_env *e = job->env;
    const crit_kv *kv = job->kv;
    const crit_slab *slab = &s->l->slab;
    uint32_t n_init = blocks(t->rule.n_init), n_pick = blocks(t->rule.n_pick), first = s->l->local_from / CRIT_BLK_LEN,
             n_local = blocks(job->n_tok) - first, far = t->rule.compact ? e->n_group : 0;
    crit_pieces *p = &s->pieces;
    *p = (crit_pieces){.env = e, .q = job->q, .n_row = e->n_group, .out = job->out};
    p->piece = crit_malloc(crit_pieces_of(n_init) + crit_pieces_of(n_pick) + crit_pieces_of(n_local), sizeof *p->piece);
    if (!p->piece) return crit_fail(err, CRIT_E_NOMEM, "out of memory for attention");
    p->n_piece = crit_pieces_cut_kv(p->piece, kv, e->all_blk, n_init, t->rule.n_init, far, e->n_group);
    p->n_piece += crit_pieces_cut(p->piece + p->n_piece, slab->k, slab->v, crit_slab_head(slab), e->all_blk, n_pick,
                                  t->rule.n_pick, far, e->n_group);
    p->n_piece += crit_pieces_cut_kv(p->piece + p->n_piece, kv, e->all_blk + first, n_local, job->n_tok, 0, e->n_group);
    if (far) two_queries(s);
    crit_status st = crit_pieces_prepare(p, err);
    if (st) return st;
    crit_pieces_stages(p, stage + *n);
    *n += 2;
    if (far) stage[(*n)++] = (crit_stage){.n_item = e->n_head, .task = join_item, .arg = s};
    return CRIT_OK;
}

static bool reads_all(const crit_vote_rule *r, uint32_t n_tok) {
    /* From where the three parts cannot overlap on. */
    return n_tok <= r->min_tok || n_tok < (uint64_t)r->n_pick + r->n_init + r->n_local + CRIT_BLK_LEN;
}

static crit_status decode(void *state, const crit_decode_job *job, crit_error *err) {
    tokenselect *t = state;
    step s = {.t = t, .l = &t->layers[job->layer], .job = job};
    layer *l = s.l;
    crit_decode_env *e = job->env;
    crit_stage stage[CRIT_STAGES_MAX];
    unsigned n = 0;
    l->fresh = false;
    l->last_full = reads_all(&t->rule, job->n_tok);
    if (l->last_full) return crit_full_decode(job, err);
    if (l->n_narrow != job->kv->n_narrow) l->chosen = false; /* copies are of other keys */
    l->fresh = choice_due(t, l, job);
    if (l->fresh) n = choice_stages(&s, stage);
    crit_status st = attend_stages(&s, stage, &n, err);
    if (!st) crit_pool_run_stages(e->pool, stage, n);
    crit_free(s.pieces.piece);
    l->chosen = !st;
    l->n_narrow = job->kv->n_narrow;
    l->n_seen = job->n_tok;
    uint32_t n_turned = l->fresh && t->rule.compact ? t->rule.n_pick : 0; /* keys alone */
    e->moved_bytes += 4.0 * sizeof(uint16_t) * (s.n_fresh + n_turned / 2.0) * e->d * e->n_kv_head;
    return st;
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
    if (reads_all(&t->rule, n_tok)) return (double)e->store_share;
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
    .span = span,
    .decode = decode,
    .cut = cut,
    .kept = kept,
    .traffic = traffic,
};
