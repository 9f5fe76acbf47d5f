/* SPDX-License-Identifier: MIT */
/* TokenSelect's choice of tokens (arXiv 2411.02886), shared by decoding and prefill: all heads of a layer vote, one set
 * serves them all. */
#ifndef CRIT_TOKENSELECT_H
#define CRIT_TOKENSELECT_H

#include "policy/select_keys.h"

/* What is always read, and how many of the rest. */
typedef struct crit_vote_rule {
    uint32_t n_pick, n_init, n_local, pool;
    bool scaled; /* logits over sqrt(d) before the soft-max of a head's vote, as attention has them */
} crit_vote_rule;

/* Where both ways have the options that a rule is made of; CRIT_VOTE_OWN is the one that is their own. */
enum { CRIT_VOTE_K, CRIT_VOTE_INIT, CRIT_VOTE_LOCAL, CRIT_VOTE_OWN, CRIT_VOTE_SCALE, CRIT_VOTE_POOL };
extern const char *const crit_vote_words[]; /* of CRIT_VOTE_SCALE */
crit_vote_rule crit_vote_rule_of(const crit_policy_values *o);

/* Memory for contexts up to env->n_ctx, shared by the layers of a session. */
typedef struct crit_voters {
    size_t stride;   /* keys a row has room for */
    float *weight;   /* [n_head][stride] */
    float *vote;     /* [stride] */
    float *smooth;   /* [stride] */
    uint64_t *order; /* [stride] */
} crit_voters;

size_t crit_voters_bytes(const crit_decode_env *e);
crit_status crit_voters_init(crit_voters *v, const crit_decode_env *e, crit_error *err);
void crit_voters_clear(crit_voters *v);
/* The n_pick < to - from positions of [from, to) with most votes of q [n_head][d], ascending, into pos. */
void crit_voters_run(crit_voters *v, crit_decode_env *e, const crit_vote_rule *r, const crit_kv *kv, uint32_t from,
                     uint32_t to, const float *q, uint32_t *pos);

#endif
