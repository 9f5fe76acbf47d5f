/* SPDX-License-Identifier: MIT */
/* TokenSelect (arXiv 2411.02886): all heads of a layer vote, one set of tokens serves them all.
 *
 *   tokenselect_vote.c     the choice, for decoding and for the prompt alike
 *   tokenselect_copy.c     what was chosen, copied; with compact positions, turned
 *   tokenselect.c          decoding
 *   tokenselect_prefill.c  the prompt
 *
 * Everything that a choice needs is stages of one run of the pool, so that a step waits for its threads once. */
#ifndef CRIT_TOKENSELECT_H
#define CRIT_TOKENSELECT_H

#include "policy/select_keys.h"
#include "policy/turn.h"

/* What is always read, and how many of the rest. */
typedef struct crit_vote_rule {
    uint32_t n_pick, n_init, n_local, pool;
    uint32_t min_tok; /* up to so many tokens attention is full */
    bool scaled;      /* logits over sqrt(d) before the soft-max of a head's vote, as attention has them */
    bool compact;     /* attention's positions are places in what is read, not those of the timeline */
    uint32_t far;     /* with compact: candidates are voted on as if no farther away */
} crit_vote_rule;

/* Where both ways have the options that a rule is made of; CRIT_VOTE_OWN is the one that is their own. */
enum {
    CRIT_VOTE_K,
    CRIT_VOTE_INIT,
    CRIT_VOTE_LOCAL,
    CRIT_VOTE_OWN,
    CRIT_VOTE_SCALE,
    CRIT_VOTE_POOL,
    CRIT_VOTE_POSITIONS,
    CRIT_VOTE_MIN
};
extern const char *const crit_vote_words[];     /* of CRIT_VOTE_SCALE */
extern const char *const crit_position_words[]; /* of CRIT_VOTE_POSITIONS */
crit_vote_rule crit_vote_rule_of(const crit_policy_values *o);
/* How far away a vote may see candidates: three quarters of what the model was trained for, else the positions that
 * attention spans. */
uint32_t crit_vote_far(const crit_decode_env *e, uint32_t span);

/* ---- the choice ---- */

/* Memory for contexts up to env->n_ctx, shared by the layers of a session. */
typedef struct crit_voters {
    size_t stride;           /* keys a row has room for */
    size_t n_tile;           /* tiles of keys a row has room for */
    unsigned n_thread;       /* of the pool */
    void *mem;               /* all of the following */
    float *weight;           /* [n_head][stride] soft-max within a tile */
    float *top, *sum;        /* [n_tile][n_head] of each; then top: what makes it one soft-max over all tiles */
    float *vote, *smooth;    /* [stride] */
    uint32_t *bins;          /* [n_thread][bins] votes by size, 0 between runs */
    uint32_t *in, *edge;     /* [stride] a tile's positions that are in, that lie in the bin of the last one */
    uint32_t *n_in, *n_edge; /* [n_tile] */
    float *edge_vote;        /* [stride] */
    uint64_t *order;         /* [stride] */
    uint32_t *best;          /* [stride] places in edge */
    float *turned;           /* [n_thread][n_group][d] */
} crit_voters;

size_t crit_voters_bytes(const crit_decode_env *e, unsigned n_thread);
crit_status crit_voters_init(crit_voters *v, const crit_decode_env *e, crit_error *err);
void crit_voters_clear(crit_voters *v);

/* One vote: the n_pick < to - from positions of [from, to) with most votes of q, ascending, into pos. */
typedef struct crit_vote {
    crit_voters *voters;
    crit_decode_env *env;
    const crit_vote_rule *rule;
    const crit_kv *kv;
    uint32_t from, to;
    const float *q;        /* [n_head][d] */
    const crit_turn *turn; /* NULL, or: q, which is rotated by q_pos, is turned to n_local behind the candidates */
    int64_t q_pos;
    uint32_t *pos; /* [n_pick] out */
    unsigned cut;  /* filled in: the bin of the last one */
    size_t left;   /* filled in: how many of it are in */
} crit_vote;
/* Stages that do it; a lives until they have ended. */
enum { CRIT_VOTE_STAGES = 7 };
unsigned crit_vote_stages(crit_vote *a, crit_stage stage[CRIT_VOTE_STAGES]);

/* ---- what was chosen ---- */

/* Copies keys and values into slots of a slab. */
typedef struct crit_copy {
    crit_slab *slab;
    const crit_decode_env *env;
    const crit_kv *kv;
    uint32_t n;
    const uint32_t *pos;     /* [n] ascending; one set for all KV heads */
    const uint32_t *slot;    /* [n] of each, or NULL: 0, 1, 2, ... */
    const uint32_t *fresh;   /* [n_fresh] those that are not in their slots yet, slots ascending; NULL = all */
    const uint32_t *n_fresh; /* read when the stages run */
    const crit_turn *turn;   /* NULL, or: the key of pos[i] is turned to position first + i */
    uint32_t first;
} crit_copy;
enum { CRIT_COPY_STAGES = 2 };
unsigned crit_copy_stages(crit_copy *a, crit_stage stage[CRIT_COPY_STAGES]);

#endif
