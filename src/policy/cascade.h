/* SPDX-License-Identifier: MIT */
/* Cascading KV cache (arXiv 2406.17808): a cache of a fixed size that a timeline of any length streams through.
 *
 *   cascade_rings.c   where tokens go: rings that take in every token, every second one, every fourth, ...
 *   cascade_attend.c  attention of new tokens over the cache and themselves; what cached keys weighed
 *   cascade.c         the policy: memory, and tokens that enter the cache
 *
 * Positions are those within the cache: first tokens, rings from the oldest to the newest, new tokens, without gaps.
 * A key is stored rotated by n_sink + the number of tokens its ring had taken in before it; within a ring these numbers
 * are consecutive, as positions are, so one turn of the query for each ring gives every key its distance. */
#ifndef CRIT_CASCADE_H
#define CRIT_CASCADE_H

#include "kv/slab.h"
#include "policy/turn.h"

enum { CRIT_RINGS_MAX = 16 };

/* ---- where tokens go ---- */

/* What does not depend on keys, so it is the same for all layers and heads. */
typedef struct crit_rings {
    uint32_t n, len; /* rings; keys of one */
    uint32_t t;      /* tokens inserted */
    uint32_t n_push[CRIT_RINGS_MAX];
} crit_rings;

static inline uint32_t crit_ring_count(const crit_rings *r, uint32_t i) {
    return r->n_push[i] < r->len ? r->n_push[i] : r->len;
}
static inline uint32_t crit_rings_count(const crit_rings *r) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n; i++) n += crit_ring_count(r, i);
    return n;
}
/* Which push filled slot [0, n * len), one that is in use, last. */
static inline uint32_t crit_ring_number(const crit_rings *r, uint32_t slot) {
    uint32_t last = r->n_push[slot / r->len] - 1;
    return last - (last % r->len + r->len - slot % r->len) % r->len;
}
/* Token x of score s enters ring 0; ids and scores [n * len] of slots move on. */
void crit_rings_insert(crit_rings *r, uint32_t x, float s, uint32_t *id, float *score);
/* The same for n tokens, without slots: which keys they are decides nothing of it. */
void crit_rings_advance(crit_rings *r, uint32_t n);

/* ---- the cache of a session ---- */

typedef enum crit_cascade_reduce { CRIT_REDUCE_MAX, CRIT_REDUCE_MEAN, CRIT_REDUCE_MEDIAN } crit_cascade_reduce;

typedef struct crit_cascade_rule {
    uint32_t n_ring, ring_len, n_sink, stride, every;
    double beta;
    crit_cascade_reduce reduce;
    bool original; /* positions of the timeline instead of the cache's */
} crit_cascade_rule;

/* A stretch of slots of the slab that is attended to. */
typedef struct crit_cascade_part {
    uint32_t blk0, n_key; /* its first block; keys in it */
    int64_t turn;         /* of a query rotated by its position on the timeline */
    uint32_t score0;      /* place of its scores */
    bool own, scored;     /* the part's own tokens: causal */
} crit_cascade_part;
enum { CRIT_CASCADE_PARTS = CRIT_RINGS_MAX + 2 };

typedef struct crit_cascade {
    crit_cascade_rule rule;
    crit_turn turn;
    uint32_t n_slot; /* of the rings together */
    crit_slab *slab; /* [n_layer] blocks of the first tokens, of each ring, of the part's own tokens */
    uint32_t n_layer, n_kv_head;
    crit_rings rings;
    uint32_t own0, n_own; /* the open part: its first position, its tokens so far */
    /* What keys weighed: score [2][n_layer][n_kv_head][n_slot + stride] of slots and own tokens, the current ones and
     * those that the next commit makes current; behind which asked query they stand.  Own tokens from there on have
     * none. */
    float *score;
    int cur;
    uint32_t scored, next_scored;
    uint32_t *pos; /* [n_layer][n_kv_head][n_slot] on the timeline */
    /* a call's memory */
    float *sampled, *sampled_lse; /* [n_kv_head][n_sampled_cap][n_group][d], without d */
    float *turned;                /* [CRIT_CASCADE_PARTS][n_head][d] a decoded token's query */
    float *part, *part_lse;       /* [n_piece_cap][n_head][d] of a decoded token */
    unsigned char *scratch;       /* a slice per thread */
    size_t scratch_slice, n_sampled_cap, n_piece_cap;
} crit_cascade;

/* Slots of a ring, of the own tokens, in the slab. */
uint32_t crit_cascade_ring_slot(const crit_cascade *c, uint32_t slot);
uint32_t crit_cascade_own_slot(const crit_cascade *c, uint32_t i);
static inline float *crit_cascade_score(const crit_cascade *c, int which, uint32_t layer, uint32_t kv_head) {
    size_t row = c->n_slot + (size_t)c->rule.stride;
    return c->score + (((size_t)which * c->n_layer + layer) * c->n_kv_head + kv_head) * row;
}
static inline uint32_t *crit_cascade_pos(const crit_cascade *c, uint32_t layer, uint32_t kv_head) {
    return c->pos + ((size_t)layer * c->n_kv_head + kv_head) * c->n_slot;
}
/* The parts that tokens of a call see, own tokens before it included, n_own tokens at the call's end; own ones come
 * first, and the ring whose turn is theirs second.  Returns how many. */
uint32_t crit_cascade_parts(const crit_cascade *c, uint32_t n_own, crit_cascade_part part[CRIT_CASCADE_PARTS]);
size_t crit_cascade_attend_scratch(const crit_decode_env *e); /* of a thread */
/* The policy's stream. */
crit_status crit_cascade_stream(void *state, crit_stream_job *job, crit_error *err);

#endif
