/* SPDX-License-Identifier: MIT */
/* A GGUF file given meaning: hyper-parameters, weights by role, RoPE tables, and the forward pass over a chunk.
 *
 *   config.c   metadata -> crit_config        weights.c  tensors -> crit_weights, shapes checked
 *   rope.c     frequencies and scaling        forward.c  tokens -> KV, logits
 *
 * Immutable after opening but for the forward state, which belongs to a session. */
#ifndef CRIT_MODEL_H
#define CRIT_MODEL_H

#include "core/core.h"
#include "kernels/kernels.h"
#include "kv/kv.h"
#include "model/gguf.h"
#include "policy/bifurcated.h"
#include "sparse/sparse.h"

typedef enum crit_arch { CRIT_ARCH_LLAMA, CRIT_ARCH_QWEN2, CRIT_ARCH_QWEN3 } crit_arch;
typedef enum crit_rope_kind { CRIT_ROPE_NONE, CRIT_ROPE_LINEAR, CRIT_ROPE_YARN, CRIT_ROPE_LLAMA3 } crit_rope_kind;

typedef struct crit_config {
    crit_arch arch;
    const char *arch_name;
    uint32_t n_layer, n_embd, n_ff, n_vocab;
    uint32_t n_head, n_kv_head, n_group, d_head;
    uint32_t n_rot;       /* leading dimensions of a head that rotate; even */
    bool neox;            /* half-split pairs instead of neighbours */
    uint32_t n_ctx_train; /* 0 = not declared */
    uint32_t n_swa;       /* sliding window in tokens, 0 = none */
    float eps;            /* of the RMS norms */
    crit_rope_kind rope;
    double rope_base, rope_factor; /* factor: 4 = four times longer context */
    double yarn_ctx, yarn_ext, yarn_attn, yarn_fast, yarn_slow;
} crit_config;

crit_status crit_config_read(crit_config *c, const gguf *g, crit_error *err);

/* A weight matrix [n_out][n_in], rows as the file has them. */
typedef struct crit_mat {
    const void *w;
    size_t row_bytes;
    uint32_t n_out, n_in;
    crit_type type;
} crit_mat;

typedef struct crit_layer {
    const float *attn_norm, *ffn_norm; /* [n_embd] */
    const float *q_norm, *k_norm;      /* [d_head], NULL when the model has none */
    const float *bq, *bk, *bv, *bo;    /* biases or NULL */
    crit_mat wq, wk, wv, wo, gate, up, down;
} crit_layer;

typedef struct crit_weights {
    crit_mat embd, output; /* output is embd when tied */
    const float *output_norm;
    const float *rope_freqs; /* [n_rot/2] or NULL */
    crit_layer *layers;
    float *f32; /* norms and biases, copied and checked finite */
    size_t f32_count;
} crit_weights;

crit_status crit_weights_bind(crit_weights *w, const crit_config *c, const gguf *g, crit_error *err);
void crit_weights_clear(crit_weights *w);
/* After a non-finite result: names the first tensor that holds a non-finite scale or value.  Reads every weight. */
crit_status crit_weights_find_nonfinite(const gguf *g, crit_error *err);

/* Angle per position of each rotating pair, and the factor on cos and sin. */
typedef struct crit_rope {
    double *freq; /* [n_rot/2] */
    double mscale;
    uint32_t n;
} crit_rope;
crit_status crit_rope_init(crit_rope *r, const crit_config *c, const float *freq_factors, crit_error *err);
void crit_rope_clear(crit_rope *r);
void crit_rope_at(const crit_rope *r, uint32_t pos, float *cosv, float *sinv);

struct crit_vocab;

struct crit_model {
    gguf *file;
    crit_config config;
    crit_weights weights;
    crit_rope rope;
    crit_kernels kernels;
    struct crit_vocab *vocab; /* NULL when the file has no usable tokenizer */
    crit_error vocab_error;   /* why */
    char *name, *rope_text;
    char chat_name[32];
    uint64_t n_params;
    size_t weights_bytes;
};

/* ---- forward state of a session ---- */

typedef struct crit_forward_stats {
    uint64_t gemm_ns, attend_ns, logits_ns; /* wall time */
    double pairs, pairs_causal;
} crit_forward_stats;

/* Of decoding; the bytes moved are counted in the env. */
typedef struct crit_step_stats {
    uint64_t n, ns, attend_ns;
    double full_bytes, model, mass; /* sums; mass over (step, layer, head) */
    uint64_t n_mass;
} crit_step_stats;

/* Buffers for one chunk of up to n_batch tokens. */
typedef struct crit_forward {
    const crit_model *model;
    crit_pool *pool;
    crit_kv *kv;       /* [n_layer] */
    crit_calib *calib; /* [n_layer] */
    crit_plan plan;
    crit_attn_params attn;
    uint32_t n_batch;

    void *map;
    size_t map_bytes;
    float *x;                           /* [n_batch][n_embd] residual stream */
    float *q, *k, *v, *att;             /* [n_batch][heads * d_head] */
    float *gate, *up;                   /* [n_batch][n_ff] */
    unsigned char *act[CRIT_ACT_KINDS]; /* packed activations, one buffer for each kind in use */
    float *cosv, *sinv;                 /* [n_batch][n_rot/2] */
    float *next_logits;                 /* becomes logits when it is whole */
    float *logits;                      /* [n_vocab] of the last position */
    float *logit_rows;                  /* [CRIT_LOGIT_ROWS][n_vocab], only while a callback wants them */
    uint32_t *all_blk;                  /* 0, 1, 2, ... for decode */
    unsigned char *scratch;             /* GEMM and attention scratch, a slice per thread */
    size_t scratch_slice;
    bool one; /* decoding: products by gemv */
    crit_decode_env env;
    const crit_policy *policy; /* of decoding */
    crit_policy_values policy_values;
    void *policy_state;
    crit_piece *piece;          /* full attention of one token */
    const crit_policy *prefill; /* of the prompt, instead of a plan; or NULL */
    crit_policy_values prefill_values;
    void *prefill_state;
    uint32_t align;               /* where parts of the prompt are cut */
    const crit_policy *kv_policy; /* of what has been read */
    crit_policy_values kv_values;
    void *kv_state;
    uint32_t turn_pos0; /* where the prompt being read began */
    crit_step_stats step;
    float *watch_weight; /* [n_head][n_ctx rounded up], only while steps are watched */
    uint32_t *watch_pos; /* [n_ctx] */
    crit_forward_stats stats;
} crit_forward;

#define CRIT_LOGIT_ROWS 32

/* Called between layers; non-zero stops the chunk (CRIT_E_CANCELLED). */
typedef struct crit_chunk {
    const int32_t *tokens;
    uint32_t pos0, n_tok, n_rest;
    uint32_t need_from;   /* the last layer's rows wanted for positions >= this; pos0 + n_tok = none */
    uint32_t logits_from; /* on_logits for positions >= this */
    int (*tick)(void *user, uint32_t layer);
    int (*on_logits)(void *user, uint32_t pos, const float *logits, uint32_t n_vocab);
    int (*on_layer)(void *user, const crit_layer_view *view);
    void *user;
    bool keep_last; /* leave the last position's logits in f->logits */
} crit_chunk;

size_t crit_forward_chunk_bytes(const crit_config *c, const crit_kernels *kt, const crit_weights *w, uint32_t n_batch);
size_t crit_forward_policy_bytes(const crit_config *c, const crit_policy *policy, const crit_policy_values *values,
                                 uint32_t n_ctx, unsigned n_thread);
size_t crit_forward_fixed_bytes(const crit_config *c, uint32_t n_ctx, unsigned n_thread);
crit_status crit_forward_init(crit_forward *f, const crit_model *m, crit_pool *pool, crit_kv *kv, crit_calib *calib,
                              const crit_attn_params *attn, uint32_t n_batch, uint32_t n_ctx, crit_error *err);
/* Decodes with a policy from now on. */
crit_status crit_forward_policy(crit_forward *f, const crit_policy *policy, const crit_policy_values *values,
                                crit_error *err);
/* Keeps prompts by a policy from the next one on. */
crit_status crit_forward_store(crit_forward *f, const crit_policy *policy, const crit_policy_values *values,
                               crit_error *err);
/* How many of a prompt's last queries its policies want to see. */
static inline uint32_t crit_forward_n_query(const crit_forward *f) {
    return f->policy->n_query > f->kv_policy->n_query ? f->policy->n_query : f->kv_policy->n_query;
}
/* Reads prompts with a policy, NULL: with a plan, from now on. */
crit_status crit_forward_prefill(crit_forward *f, const crit_policy *policy, const crit_policy_values *values,
                                 crit_error *err);
/* Steps also compute what the keys they read weigh. */
crit_status crit_forward_watch(crit_forward *f, bool on, crit_error *err);
void crit_forward_clear(crit_forward *f);
/* Bytes of a streaming policy's cache; 0 without one. */
size_t crit_forward_stream_bytes(const crit_config *c, const crit_policy *policy, const crit_policy_values *values);
/* Attention of rows of f->q, f->k, f->v, rotated by position, into f->att, by the policy that streams. */
crit_status crit_forward_stream(crit_forward *f, uint32_t layer, uint32_t pos0, uint32_t n_tok, crit_error *err);
/* The KV stores hold pos0 tokens; afterwards pos0 + n_tok.  On failure the caller cuts them back. */
crit_status crit_forward_chunk(crit_forward *f, const crit_chunk *chunk, crit_error *err);
/* One token of each of n sequences, whose leaves stand in the order of crit_segment_order, can take it, and have it
 * afterwards.  On failure the caller cuts them back. */
typedef struct crit_batch_rows {
    crit_segment **leaf;  /* [n] */
    const int32_t *token; /* [n] */
    uint32_t n;           /* <= n_batch */
    bool unshared;
    float *q;          /* [n_head][n][d_head] scratch */
    crit_piece *piece; /* as many as crit_bifurcated_pieces tells for the leaves with their tokens, scratch */
    uint64_t *attend_ns;
} crit_batch_rows;
crit_status crit_forward_batch(crit_forward *f, const crit_batch_rows *b, float *logits, crit_error *err);
/* One token, attention by the policy; sets f->logits. */
crit_status crit_forward_one(crit_forward *f, int32_t token, uint32_t pos, crit_error *err);

#endif
