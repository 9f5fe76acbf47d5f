/* SPDX-License-Identifier: MIT */
/* See tokenselect.h.  A head's vote is its soft-max over the candidates; the votes of all heads are added up.
 * Query head h votes by KV head h / n_group.
 *
 * Keys are read once, by tiles: a tile has its own soft-max for each head, and one factor a (tile, head) makes them one
 * soft-max over all.  The best are found by a histogram of votes: tiles count, then put aside what lies above the bin
 * of the last one and what lies in it, which alone is ordered.  Counts are whole numbers, so which thread counted what
 * shows nowhere. */
#include <math.h>
#include <string.h>

#include "policy/tokenselect.h"
#include "sparse/sparse.h"

enum { VOTE_KEYS = 1024 };                /* of a tile */
enum { TURN_KEYS = 256 };                 /* candidates that see the query turned alike */
enum { BIN_SHIFT = 19, N_BIN = 1 << 12 }; /* a bin has a sixteenth of an octave */

#define VOTE_ONE 0x1p100f /* a vote of 1 */

const char *const crit_vote_words[] = {"plain", "scaled", NULL};
const char *const crit_position_words[] = {"original", "compact", NULL};

crit_vote_rule crit_vote_rule_of(const crit_policy_values *o) {
    return (crit_vote_rule){.n_pick = (uint32_t)o->v[CRIT_VOTE_K],
                            .n_init = (uint32_t)o->v[CRIT_VOTE_INIT],
                            .n_local = (uint32_t)o->v[CRIT_VOTE_LOCAL],
                            .pool = (uint32_t)o->v[CRIT_VOTE_POOL],
                            .min_tok = (uint32_t)o->v[CRIT_VOTE_MIN],
                            .scaled = o->v[CRIT_VOTE_SCALE] > 0,
                            .compact = o->v[CRIT_VOTE_POSITIONS] > 0};
}

uint32_t crit_vote_far(const crit_decode_env *e, uint32_t span) {
    return e->n_ctx_train ? e->n_ctx_train - e->n_ctx_train / 4 : span;
}

/* ---- memory ---- */

/* Lays the arrays out at v->mem; returns how many bytes they take. */
static size_t layout(crit_voters *v, const crit_decode_env *e, unsigned n_thread) {
    size_t row = ((size_t)e->n_ctx + 15) & ~(size_t)15, tile = (row + VOTE_KEYS - 1) / VOTE_KEYS, at = 0;
    const struct {
        void *to;
        size_t n;
    } arr[] = {
        {&v->order, 2 * row},
        {&v->weight, row * e->n_head},
        {&v->vote, row},
        {&v->smooth, row},
        {&v->in, row},
        {&v->edge, row},
        {&v->edge_vote, row},
        {&v->best, row},
        {&v->top, tile * e->n_head},
        {&v->sum, tile * e->n_head},
        {&v->n_in, tile},
        {&v->n_edge, tile},
        {&v->bins, (size_t)n_thread * N_BIN},
        {&v->turned, (size_t)n_thread * e->n_group * e->d},
    };
    for (size_t i = 0; i < sizeof arr / sizeof *arr; i++) {
        void *p = v->mem ? (char *)v->mem + at : NULL;
        memcpy(arr[i].to, &p, sizeof p);
        at += (arr[i].n * sizeof(float) + 63) & ~(size_t)63;
    }
    v->stride = row;
    v->n_tile = tile;
    v->n_thread = n_thread;
    return at;
}

size_t crit_voters_bytes(const crit_decode_env *e, unsigned n_thread) {
    crit_voters v = {0};
    return layout(&v, e, n_thread);
}

void crit_voters_clear(crit_voters *v) {
    crit_free(v->mem);
    memset(v, 0, sizeof *v);
}

crit_status crit_voters_init(crit_voters *v, const crit_decode_env *e, crit_error *err) {
    unsigned n_thread = crit_pool_size(e->pool);
    *v = (crit_voters){.mem = crit_malloc(crit_voters_bytes(e, n_thread), 1)};
    if (!v->mem) return crit_fail(err, CRIT_E_NOMEM, "out of memory for the votes on %u keys", e->n_ctx);
    layout(v, e, n_thread);
    memset(v->bins, 0, (size_t)n_thread * N_BIN * sizeof *v->bins);
    return CRIT_OK;
}

/* ---- votes ---- */

static uint32_t tile_len(const crit_vote *a, size_t tile) {
    size_t from = tile * VOTE_KEYS, n = a->to - a->from;
    return (uint32_t)(n - from < VOTE_KEYS ? n - from : VOTE_KEYS);
}

static size_t n_tile(const crit_vote *a) {
    return (a->to - a->from + (size_t)VOTE_KEYS - 1) / VOTE_KEYS;
}

/* Scores of a tile for one KV head.  Where a run of candidates is farther from the query than rule->far, the query is
 * turned to that distance from the last of them: no distance is one that the model has never seen. */
static void turned_scores(const crit_vote *a, uint32_t head, uint32_t from, uint32_t n, float scale, float *s,
                          float *q) {
    const crit_decode_env *e = a->env;
    float cosv[CRIT_D_HEAD_MAX / 2], sinv[CRIT_D_HEAD_MAX / 2];
    size_t row = (size_t)head * e->n_group, d = e->d;
    for (uint32_t at = 0; at < n; at += TURN_KEYS) {
        uint32_t len = n - at < TURN_KEYS ? n - at : TURN_KEYS;
        int64_t own = (int64_t)a->to + a->rule->n_local, far = (int64_t)from + at + len - 1 + a->rule->far;
        memcpy(q, a->q + row * d, e->n_group * d * sizeof *q);
        crit_turn_angles(a->turn, (far < own ? far : own) - a->q_pos, cosv, sinv);
        crit_turn_rows(a->turn, cosv, sinv, q, d, e->n_group);
        crit_kv_scores(e, a->kv, head, from + at, len, q, scale, s + at, a->voters->stride);
    }
}

static void score_item(void *arg, size_t item, unsigned worker) {
    const crit_vote *a = arg;
    const crit_decode_env *e = a->env;
    crit_voters *v = a->voters;
    uint32_t head = (uint32_t)(item % e->n_kv_head), n = tile_len(a, item / e->n_kv_head);
    size_t tile = item / e->n_kv_head, at = tile * VOTE_KEYS, row = (size_t)head * e->n_group;
    float scale = a->rule->scaled ? e->scale : 1.0f, *w = v->weight + row * v->stride + at;
    uint32_t from = a->from + (uint32_t)at;
    if (a->turn)
        turned_scores(a, head, from, n, scale, w, v->turned + (size_t)worker * e->n_group * e->d);
    else
        crit_kv_scores(e, a->kv, head, from, n, a->q + row * e->d, scale, w, v->stride);
    for (uint32_t g = 0; g < e->n_group; g++) {
        size_t to = tile * e->n_head + row + g;
        v->sum[to] = (float)e->kernels->soft_max(w + g * v->stride, n, &v->top[to]);
    }
}

/* A head's soft-maxes of tiles -> the factors that make them one.  They are large: votes add up weights down to e^-87,
 * and products below the normal numbers would cost a hundred times a product. */
static void factor_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const crit_vote *a = arg;
    size_t n = n_tile(a), n_head = a->env->n_head;
    float *top = a->voters->top + head, *sum = a->voters->sum + head, most = -INFINITY, all = 0;
    for (size_t t = 0; t < n; t++) most = top[t * n_head] > most ? top[t * n_head] : most;
    for (size_t t = 0; t < n; t++) {
        top[t * n_head] = expf(top[t * n_head] - most);
        all += top[t * n_head] * sum[t * n_head];
    }
    for (size_t t = 0; t < n; t++) top[t * n_head] *= VOTE_ONE / all;
}

/* Larger for a larger vote; what is no number has the place of 0. */
static uint32_t bits_of(float vote) {
    uint32_t bits;
    memcpy(&bits, &vote, sizeof bits);
    return vote > 0 ? bits : 0;
}

static const float *votes(const crit_vote *a) {
    return a->rule->pool > 1 ? a->voters->smooth : a->voters->vote;
}

static void count(const crit_vote *a, size_t tile, unsigned worker) {
    const float *vote = votes(a) + tile * VOTE_KEYS;
    uint32_t n = tile_len(a, tile), *bins = a->voters->bins + (size_t)worker * N_BIN;
    for (uint32_t j = 0; j < n; j++) bins[bits_of(vote[j]) >> BIN_SHIFT]++;
}

static void vote_item(void *arg, size_t tile, unsigned worker) {
    const crit_vote *a = arg;
    const crit_voters *v = a->voters;
    uint32_t n_head = a->env->n_head, n = tile_len(a, tile);
    const float *w = v->weight + tile * VOTE_KEYS, *factor = v->top + tile * n_head;
    float vote[VOTE_KEYS] = {0};
    for (uint32_t h = 0; h < n_head; h++, w += v->stride) {
        const float f = factor[h];
        if (f > 0)
            for (uint32_t j = 0; j < n; j++) vote[j] += f * w[j];
    }
    memcpy(v->vote + tile * VOTE_KEYS, vote, n * sizeof *vote);
    if (a->rule->pool == 1) count(a, tile, worker);
}

enum { POOL_MAX = 129 };

/* With what lies on both sides of the tile. */
static void smooth_item(void *arg, size_t tile, unsigned worker) {
    const crit_vote *a = arg;
    float out[VOTE_KEYS + 2 * POOL_MAX];
    size_t from = tile * VOTE_KEYS, n = tile_len(a, tile), all = a->to - a->from;
    size_t lo = from < POOL_MAX ? 0 : from - POOL_MAX, hi = from + n + POOL_MAX < all ? from + n + POOL_MAX : all;
    crit_max_pool(a->voters->vote + lo, (uint32_t)(hi - lo), a->rule->pool, out);
    memcpy(a->voters->smooth + from, out + (from - lo), n * sizeof *out);
    count(a, tile, worker);
}

/* ---- the best ---- */

/* The bin of the last one that is in; bins are 0 again afterwards. */
static void cut_item(void *arg, size_t item, unsigned worker) {
    (void)item, (void)worker;
    crit_vote *a = arg;
    uint32_t *bins = a->voters->bins;
    for (unsigned t = 1; t < a->voters->n_thread; t++)
        for (size_t b = 0; b < N_BIN; b++) bins[b] += bins[(size_t)t * N_BIN + b];
    a->cut = N_BIN - 1;
    a->left = a->rule->n_pick;
    while (bins[a->cut] < a->left) a->left -= bins[a->cut--];
    memset(bins, 0, (size_t)a->voters->n_thread * N_BIN * sizeof *bins);
}

static void mark_item(void *arg, size_t tile, unsigned worker) {
    (void)worker;
    const crit_vote *a = arg;
    crit_voters *v = a->voters;
    size_t from = tile * VOTE_KEYS;
    const float *vote = votes(a) + from;
    uint32_t n = tile_len(a, tile), *in = v->in + from, *edge = v->edge + from, n_in = 0, n_edge = 0;
    for (uint32_t j = 0; j < n; j++) {
        const unsigned bin = bits_of(vote[j]) >> BIN_SHIFT;
        in[n_in] = edge[n_edge] = (uint32_t)from + j; /* without a branch: votes take turns */
        n_in += bin > a->cut;
        n_edge += bin == a->cut;
    }
    v->n_in[tile] = n_in;
    v->n_edge[tile] = n_edge;
}

/* What is in, and the best of the edge, ties to the earlier one; ascending. */
static void settle_item(void *arg, size_t item, unsigned worker) {
    (void)item, (void)worker;
    const crit_vote *a = arg;
    crit_voters *v = a->voters;
    const float *vote = votes(a);
    size_t n = n_tile(a), n_edge = 0, at = 0, e = 0;
    for (size_t t = 0; t < n; t++)
        for (uint32_t i = 0; i < v->n_edge[t]; i++, n_edge++) {
            v->edge[n_edge] = v->edge[t * VOTE_KEYS + i];
            v->edge_vote[n_edge] = vote[v->edge[n_edge]];
        }
    const uint32_t *edge = v->edge, *best = v->best;
    size_t n_best = crit_select_top(v->edge_vote, n_edge, a->left, 0, v->order, v->best);
    for (size_t t = 0; t < n; t++) {
        size_t end = (t + 1) * VOTE_KEYS;
        for (uint32_t i = 0; i < v->n_in[t]; i++) {
            uint32_t x = v->in[t * VOTE_KEYS + i];
            while (e < n_best && edge[best[e]] < x) a->pos[at++] = a->from + edge[best[e++]];
            a->pos[at++] = a->from + x;
        }
        while (e < n_best && edge[best[e]] < end) a->pos[at++] = a->from + edge[best[e++]];
    }
}

unsigned crit_vote_stages(crit_vote *a, crit_stage stage[CRIT_VOTE_STAGES]) {
    crit_decode_env *e = a->env;
    size_t n = n_tile(a);
    unsigned at = 0;
    e->moved_bytes += crit_keys_bytes(e, a->kv, a->from, a->to);
    stage[at++] = (crit_stage){.n_item = n * e->n_kv_head, .task = score_item, .arg = a};
    stage[at++] = (crit_stage){.n_item = e->n_head, .task = factor_item, .arg = a};
    stage[at++] = (crit_stage){.n_item = n, .task = vote_item, .arg = a};
    if (a->rule->pool > 1) stage[at++] = (crit_stage){.n_item = n, .task = smooth_item, .arg = a};
    stage[at++] = (crit_stage){.n_item = 1, .task = cut_item, .arg = a};
    stage[at++] = (crit_stage){.n_item = n, .task = mark_item, .arg = a};
    stage[at++] = (crit_stage){.n_item = 1, .task = settle_item, .arg = a};
    return at;
}
