/* SPDX-License-Identifier: MIT */
/* The keys that weigh most for a few queries, for each KV head. */
#ifndef CRIT_SELECT_KEYS_H
#define CRIT_SELECT_KEYS_H

#include "kv/slab.h"
#include "policy/decode_policy.h"

/* Memory for contexts up to env->n_ctx, shared by the layers of a session. */
typedef struct crit_key_picker {
    size_t stride;   /* keys a row has room for */
    float *weight;   /* [n_head][stride] soft-max weights */
    float *best;     /* [n_kv_head][stride] */
    float *smooth;   /* [n_kv_head][stride] */
    uint64_t *order; /* [n_kv_head][stride] */
} crit_key_picker;

size_t crit_key_picker_bytes(const crit_decode_env *e);
crit_status crit_key_picker_init(crit_key_picker *p, const crit_decode_env *e, crit_error *err);
void crit_key_picker_clear(crit_key_picker *p);

/* The n_best < n_tok keys of each KV head with the largest soft-max weight for any of its query heads, smoothed by the
 * maximum over `pool` neighbouring positions (the same number before and after; at the ends, fewer). */
typedef struct crit_pick {
    crit_decode_env *env;
    const crit_kv *kv;
    uint32_t n_tok;
    const float *q; /* [n_head][d] */
    uint32_t n_best, pool;
    uint32_t *pos; /* [n_kv_head][stride] out: ascending */
    float *weight; /* [n_kv_head][stride] out: the smoothed weight of each */
    size_t stride;
} crit_pick;
void crit_key_picker_run(crit_key_picker *p, const crit_pick *pick);

/* Scores of keys [from, from + n) of one KV head, narrow or not: q [n_group][d] of its query heads, s
 * [n_group][stride], key `from` first. */
void crit_kv_scores(const crit_decode_env *e, const crit_kv *kv, uint32_t head, uint32_t from, uint32_t n,
                    const float *q, float scale, float *s, size_t stride);
/* What reading keys [from, to) of all heads moves. */
double crit_keys_bytes(const crit_decode_env *e, const crit_kv *kv, uint32_t from, uint32_t to);
/* The soft-max weights of all heads over keys [from, to), from < to, in parallel: weight [n_head][stride], key `from`
 * first. */
void crit_key_weights(crit_decode_env *e, const crit_kv *kv, uint32_t from, uint32_t to, const float *q, float scale,
                      float *weight, size_t stride);

/* out[j] = the maximum of x over the `pool` positions around j (the same number before and after; at the ends, fewer).
 */
void crit_max_pool(const float *x, uint32_t n, uint32_t pool, float *out);
/* Of two vectors; 0 when one is 0. */
double crit_cosine(const float *a, const float *b, size_t n);

/* Keys and values of kv at pos + head * stride [n] (stride 0: one set for all heads) into slots [slot, slot + n) of
 * every head, in parallel. */
void crit_slab_fill(crit_slab *s, crit_decode_env *e, const crit_kv *kv, const uint32_t *pos, size_t stride, uint32_t n,
                    uint32_t slot);

#endif
