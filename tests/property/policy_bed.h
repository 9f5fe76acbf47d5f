/* SPDX-License-Identifier: MIT */
/* A bed for decode policies: KV stores of a few layers filled with keys, values and queries that look near, far and at
 * single keys, and exact attention in double to hold results against. */
#ifndef TEST_POLICY_BED_H
#define TEST_POLICY_BED_H

#include "policy/decode_policy.h"

typedef struct bed_shape {
    uint32_t n_layer, n_head, n_kv_head, d;
} bed_shape;

typedef struct bed {
    bed_shape s;
    uint32_t n_prompt, n_ctx, n_tok; /* n_tok: keys in the stores, by bed_token */
    crit_kernels kernels;
    crit_pool *pool;
    crit_kv *kv; /* [n_layer] */
    uint32_t *all_blk;
    crit_decode_env env;
    double freq[CRIT_D_HEAD_MAX / 2];
    float *q, *k, *v; /* [n_ctx][n_layer][heads * d] */
    const crit_policy *policy;
    void *state;
    crit_policy_values values;
    const crit_policy *kv_policy; /* NULL = none, or that of bed_store */
    void *kv_state;
    float *out; /* [n_head][d] of the last step */
} bed;

/* n_ctx tokens made from the seed; the first n_prompt are in the stores, and the policy (text as on a command line) has
 * been shown the prompt's last queries. */
void bed_open(bed *b, bed_shape s, uint32_t n_prompt, uint32_t n_ctx, uint64_t seed, unsigned threads,
              const char *policy);
void bed_close(bed *b);
/* What is in the stores was a prompt from position `first` on: a policy of the store (text) keeps it, and the policy of
 * decoding is shown its last queries again. */
void bed_store(bed *b, const char *text, uint32_t first);
/* Appends the next token to every layer. */
void bed_token(bed *b);
/* That token's attention in a layer, into b->out. */
void bed_decode(bed *b, uint32_t layer);
const float *bed_q(const bed *b, uint32_t layer, uint32_t pos); /* [n_head][d] */

/* How far attention of a chunk may be from it, of values about 1: by what the level multiplies. */
double bed_chunk_bound(const bed *b);

/* Exact attention of the last token's query head over the positions pos [n] only, as attention reads keys and values;
 * out [d].  Returns the share of the whole weight that they have; vbar_in, vbar_out (or NULL): weighted means of the
 * values inside and outside. */
double bed_exact(const bed *b, uint32_t layer, uint32_t head, const uint32_t *pos, uint32_t n, double *out,
                 double *vbar_in, double *vbar_out);

#endif
