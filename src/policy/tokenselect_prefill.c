/* SPDX-License-Identifier: MIT */
/* TokenSelect (arXiv 2411.02886), prefill: the queries of a part of the prompt attend to the first tokens, to those
 * that the part's mean query is given by vote, and, causally, to the tokens from the part's own on (or the n_local last
 * ones, where that is more).
 *
 * First and chosen tokens lie in a copy; what is attended to there and in the store is merged by log-sum-exp. */
#include <math.h>
#include <string.h>

#include "policy/tokenselect.h"
#include "sparse/sparse.h"

enum { OPT_CHUNK = CRIT_VOTE_OWN };
static const crit_policy_option options[] = {
    {"k", "tokens chosen for each part of the prompt, in each layer", 2048, 32, 1 << 24, true, NULL},
    {"init", "first tokens, always read", 128, 0, 1 << 20, true, NULL},
    {"local", "last tokens, always read; the part's own are, too", 512, 32, 1 << 20, true, NULL},
    {"chunk", "queries of a part, a multiple of 128", 512, 128, 1 << 16, true, NULL},
    {"vote", "soft-max of a vote over logits, plain or scaled by 1/sqrt(d)", 0, 0, 1, true, crit_vote_words},
    {"pool", "votes are smoothed by the maximum over so many neighbours; 1 = not", 1, 1, 129, true, NULL},
    {"positions", "of what is read: the timeline's, or side by side, for texts past the trained window", 0, 0, 1, true,
     crit_position_words},
    {"min", "parts that end within so many tokens are read in full", 4096, 0, 1 << 24, true, NULL},
};

typedef struct reader {
    crit_vote_rule rule;
    uint32_t chunk;
    bool needed;
    crit_slab slab; /* first and chosen tokens */
    uint32_t *pos;  /* [n_init + n_pick] */
    float *mean;    /* [n_head][d] */
    float *part;    /* [chunk][n_head][d] attention over the copy */
    float *lse[2];  /* [n_head][chunk] of the copy, of the store */
    float *turned;  /* [chunk][n_head][d] queries, with compact positions */
    crit_turn turn;
    crit_voters voters;
} reader;

static uint32_t chunk_tok(const crit_policy_values *o) {
    return (uint32_t)o->v[OPT_CHUNK];
}

static crit_status check(const crit_policy_values *o, crit_error *err) {
    if (chunk_tok(o) % CRIT_ATTEND_ROWS == 0) return CRIT_OK;
    return crit_fail(err, CRIT_E_ARG, "tokenselect: chunk=%u is not a multiple of %d", chunk_tok(o), CRIT_ATTEND_ROWS);
}

static uint32_t first_of(const reader *r, uint32_t pos0, uint32_t end) {
    uint32_t first = end < r->rule.n_local ? 0 : end - r->rule.n_local;
    return (first < pos0 ? first : pos0) / CRIT_BLK_LEN * CRIT_BLK_LEN;
}

/* Whether there is more than is attended to anyway, and it is worth while. */
static bool selects(const reader *r, uint32_t first, uint32_t end) {
    return end > r->rule.min_tok && first > (uint64_t)r->rule.n_init + r->rule.n_pick;
}

static uint32_t span(const crit_policy_values *o) {
    const crit_vote_rule r = crit_vote_rule_of(o);
    uint32_t own = chunk_tok(o) > r.n_local ? chunk_tok(o) : r.n_local;
    return r.compact ? r.n_init + r.n_pick + own + CRIT_BLK_LEN : 0;
}

/* ---- memory ---- */

static size_t state_bytes(const crit_decode_env *e, const crit_policy_values *o) {
    const crit_vote_rule r = crit_vote_rule_of(o);
    size_t slab, n = (size_t)r.n_init + r.n_pick, row = (size_t)e->n_head * e->d;
    if (n >= e->n_ctx) return 0;
    if (!crit_slab_map_bytes(e->n_kv_head, e->d, (uint32_t)n, &slab)) return SIZE_MAX / 2;
    size_t rows = 1 + (size_t)chunk_tok(o) * (r.compact ? 2 : 1);
    return slab + n * sizeof(uint32_t) + (rows * row + 2 * (size_t)chunk_tok(o) * e->n_head) * sizeof(float) +
           (r.compact ? crit_turn_bytes(e) : 0) + crit_voters_bytes(e, e->n_thread);
}

static void state_close(void *state) {
    reader *r = state;
    if (!r) return;
    crit_slab_clear(&r->slab);
    crit_voters_clear(&r->voters);
    crit_turn_clear(&r->turn);
    crit_free(r->pos);
    crit_free(r->mean);
    crit_free(r->part);
    crit_free(r->turned);
    crit_free(r->lse[0]);
    crit_free(r->lse[1]);
    crit_free(r);
}

static bool reserve(reader *r, const crit_decode_env *e, crit_error *err) {
    size_t n = (size_t)r->rule.n_init + r->rule.n_pick, row = (size_t)e->n_head * e->d;
    r->pos = crit_malloc(n, sizeof *r->pos);
    r->mean = crit_malloc(row, sizeof *r->mean);
    r->part = crit_malloc(row * r->chunk, sizeof *r->part);
    for (int i = 0; i < 2; i++) r->lse[i] = crit_malloc((size_t)e->n_head * r->chunk, sizeof *r->lse[i]);
    if (!r->pos || !r->mean || !r->part || !r->lse[0] || !r->lse[1]) return false;
    if (r->rule.compact) {
        r->turned = crit_malloc(row * r->chunk, sizeof *r->turned);
        if (!r->turned || crit_turn_init(&r->turn, e, err)) return false;
    }
    return !crit_slab_init(&r->slab, e->kernels, e->n_kv_head, e->d, (uint32_t)n, err) &&
           !crit_voters_init(&r->voters, e, err);
}

static crit_status state_open(void **out, const crit_decode_env *e, const crit_policy_values *o, crit_error *err) {
    reader *r = crit_calloc(1, sizeof *r);
    if (!r) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    r->rule = crit_vote_rule_of(o);
    r->chunk = chunk_tok(o);
    r->rule.far = crit_vote_far(e, span(o));
    if (r->rule.compact && span(o) < r->rule.min_tok) r->rule.min_tok = span(o); /* what is full has the timeline's */
    if ((uint64_t)r->rule.n_init + r->rule.n_pick < e->n_ctx && !reserve(r, e, err)) {
        state_close(r);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for attention to chosen tokens");
    }
    *out = r;
    return CRIT_OK;
}

/* ---- a part ---- */

typedef struct part_arg {
    reader *r;
    const crit_prefill_job *job;
    uint32_t first;     /* of the store's tokens that are attended to */
    bool copy;          /* and the copy */
    float *cosv, *sinv; /* [n_rot/2] of the gap before `first`, with compact positions */
    crit_vote vote;
    crit_copy taken;
} part_arg;

/* One head's queries, turned by -(gap). */
static void turn_rows(const part_arg *a, uint32_t head, uint32_t r0, uint32_t n) {
    const crit_decode_env *e = a->job->env;
    size_t row = (size_t)e->n_head * e->d, at = (size_t)head * e->d;
    float *to = a->r->turned + r0 * row + at;
    for (uint32_t i = 0; i < n; i++)
        memcpy(to + i * row, a->job->q + (r0 + i) * a->job->q_stride + at, e->d * sizeof *to);
    crit_turn_rows(&a->r->turn, a->cosv, a->sinv, to, row, n);
}

/* One head's queries of a span of CRIT_ATTEND_ROWS positions.  Spans lie on a grid and far blocks come last, as in a
 * dense plan, so that a part without a choice has its bits. */
static void part_item(void *arg, size_t item, unsigned worker) {
    const part_arg *a = arg;
    const crit_prefill_job *job = a->job;
    const crit_decode_env *e = job->env;
    reader *r = a->r;
    uint32_t head = (uint32_t)(item % e->n_head), kv_head = head / e->n_group;
    uint32_t grid = (job->pos0 / CRIT_ATTEND_ROWS + (uint32_t)(item / e->n_head)) * CRIT_ATTEND_ROWS;
    uint32_t pos = grid < job->pos0 ? job->pos0 : grid, last = job->pos0 + job->n_tok, r0 = pos - job->pos0;
    uint32_t end = last - grid < CRIT_ATTEND_ROWS ? last : grid + CRIT_ATTEND_ROWS, n = end - pos;
    size_t row = (size_t)e->n_head * e->d, at = (size_t)head * e->d;
    float *lse[2] = {r->lse[0] + head * (size_t)r->chunk + r0, r->lse[1] + head * (size_t)r->chunk + r0};
    void *scratch = e->scratch + worker * e->scratch_slice;
    crit_attend_args k = {
        .q = job->q + r0 * job->q_stride + at,
        .q_stride = job->q_stride,
        .k = crit_kv_k(job->kv, kv_head),
        .v = crit_kv_v(job->kv, kv_head),
        .blk = e->all_blk + a->first / CRIT_BLK_LEN,
        .n_blk = (end - 1) / CRIT_BLK_LEN + 1 - a->first / CRIT_BLK_LEN,
        .out = job->out + r0 * job->out_stride + at,
        .out_stride = job->out_stride,
        .lse = a->copy ? lse[1] : NULL,
        .pos0 = pos,
        .n_key = end,
        .scale = e->scale,
        .n_row = n,
        .d = e->d,
        .causal = 1,
        .n_far = a->copy ? 0 : crit_first_near(grid),
    };
    e->kernels->attend(&k, scratch);
    if (!a->copy) return;
    float *part = r->part + r0 * row + at, *out = k.out;
    if (r->rule.compact) {
        turn_rows(a, head, r0, n);
        k.q = r->turned + r0 * row + at;
        k.q_stride = row;
    }
    k.k = r->slab.k + kv_head * crit_slab_head(&r->slab);
    k.v = r->slab.v + kv_head * crit_slab_head(&r->slab);
    k.blk = e->all_blk;
    k.n_key = (size_t)r->rule.n_init + r->rule.n_pick;
    k.n_blk = (k.n_key + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    k.out = part;
    k.out_stride = row;
    k.lse = lse[0];
    k.causal = 0;
    k.pos0 = 0;
    e->kernels->attend(&k, scratch);
    for (uint32_t i = 0; i < n; i++)
        crit_merge_part(out + i * job->out_stride, &lse[1][i], part + i * row, lse[0][i], e->d);
}

/* A head's mean query.  With compact positions it is that of queries without their rotations, as if at position 0:
 * rotated by hundreds of positions, fast pairs of values would cancel out. */
static void mean_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const part_arg *a = arg;
    const crit_prefill_job *job = a->job;
    const crit_decode_env *e = job->env;
    size_t row = (size_t)e->n_head * e->d, at = head * e->d, stride = job->q_stride;
    const float *q = job->q + at;
    if (a->r->rule.compact) {
        float cosv[CRIT_D_HEAD_MAX / 2], sinv[CRIT_D_HEAD_MAX / 2], *to = a->r->turned + at;
        for (uint32_t i = 0; i < job->n_tok; i++) {
            memcpy(to + i * row, q + i * stride, e->d * sizeof *to);
            crit_turn_angles(&a->r->turn, -((int64_t)job->pos0 + i), cosv, sinv);
            crit_turn_rows(&a->r->turn, cosv, sinv, to + i * row, row, 1);
        }
        q = to;
        stride = row;
    }
    e->kernels->mean_rows(q, stride, job->n_tok, e->d, a->r->mean + at);
}

/* The part's choice, into the copy. */
static unsigned choice_stages(part_arg *a, crit_stage *stage) {
    reader *r = a->r;
    const crit_prefill_job *job = a->job;
    crit_decode_env *e = job->env;
    const crit_turn *turn = r->rule.compact ? &r->turn : NULL;
    uint32_t n_far = r->rule.n_init + r->rule.n_pick;
    unsigned n = 0;
    for (uint32_t i = 0; i < r->rule.n_init; i++) r->pos[i] = i;
    a->vote = (crit_vote){.voters = &r->voters,
                          .env = e,
                          .rule = &r->rule,
                          .kv = job->kv,
                          .from = r->rule.n_init,
                          .to = a->first,
                          .q = r->mean,
                          .turn = turn,
                          .pos = r->pos + r->rule.n_init};
    a->taken = (crit_copy){.slab = &r->slab, .env = e, .kv = job->kv, .n = n_far, .pos = r->pos, .turn = turn};
    if (turn) crit_turn_angles(turn, (int64_t)n_far - a->first, a->cosv, a->sinv);
    stage[n++] = (crit_stage){.n_item = e->n_head, .task = mean_item, .arg = a};
    n += crit_vote_stages(&a->vote, stage + n);
    n += crit_copy_stages(&a->taken, stage + n);
    e->moved_bytes += 4.0 * sizeof(uint16_t) * n_far * e->d * e->n_kv_head;
    return n;
}

static crit_status chunk(void *state, crit_prefill_job *job, crit_error *err) {
    (void)err;
    reader *r = state;
    crit_decode_env *e = job->env;
    float cosv[CRIT_D_HEAD_MAX / 2], sinv[CRIT_D_HEAD_MAX / 2];
    uint32_t end = job->pos0 + job->n_tok, first = first_of(r, job->pos0, end);
    part_arg a = {.r = r, .job = job, .copy = selects(r, first, end), .cosv = cosv, .sinv = sinv};
    crit_stage stage[CRIT_STAGES_MAX];
    unsigned n = 0;
    double seen = 0; /* by each query, before its own causal keys */
    if (a.copy) {
        a.first = first;
        n = choice_stages(&a, stage);
        seen = (double)r->rule.n_init + r->rule.n_pick;
    }
    seen += job->pos0 - a.first + (job->n_tok + 1) / 2.0;
    job->pairs = seen * job->n_tok * e->n_head;
    uint32_t n_span = (end - 1) / CRIT_ATTEND_ROWS - job->pos0 / CRIT_ATTEND_ROWS + 1;
    stage[n++] = (crit_stage){.n_item = (size_t)e->n_head * n_span, .task = part_item, .arg = &a};
    crit_pool_run_stages(e->pool, stage, n);
    return CRIT_OK;
}

const crit_policy crit_policy_tokenselect_prefill = {
    .name = "tokenselect",
    .summary = "each part of the prompt reads its own tokens, the first, and those all heads vote for",
    .source = "TokenSelect, arXiv 2411.02886",
    .combines = "any decode",
    .place = CRIT_POLICY_PREFILL,
    .options = options,
    .n_option = sizeof options / sizeof *options,
    .check = check,
    .bytes = state_bytes,
    .open = state_open,
    .close = state_close,
    .span = span,
    .chunk_tok = chunk_tok,
    .chunk = chunk,
};
