/* SPDX-License-Identifier: MIT */
/* The systems beside CritiPrefill: one file each, a constant table of functions, a state per session.
 *
 *   pieces.c      attention of a few query rows over pieces of packed keys, merged exactly by log-sum-exp
 *   full.c        every key: what each policy falls back to, and is held against
 *   recycled.c    a copy of the keys that mattered
 *   tokenselect*.c tokens that all heads vote for, for decoding and for the prompt's chunks
 *   cascade*.c    a cache of a fixed size, of rings that thin out with age
 *   bifurcated.c  sequences that share segments of a tree
 *   subgen.c      clusters of keys: centres, or a streaming sketch
 *   think.c       keys without their least important channels, under any of them
 *   squeezed.c    clusters of a fixed prefix (clusters.c, kmeans.c), and the few that a query needs (squeezed_pick.c,
 *                 squeezed_step.c)
 *   registry.c    the list
 *   spec.c        "name:key=value,..." -> a policy and its options
 *
 * A policy sees a layer's KV store and queries, and returns attention's result.  Nothing outside this folder asks for
 * one by name. */
#ifndef CRIT_POLICY_IMPL_H
#define CRIT_POLICY_IMPL_H

#include "critiprefill/policy.h"

#include "core/blob.h"
#include "core/core.h"
#include "kernels/kernels.h"
#include "kv/kv.h"

/* ---- what a decode step runs on ---- */

/* One for a session; the pointers belong to the forward pass, the partial results to this. */
typedef struct crit_decode_env {
    crit_pool *pool;
    const crit_kernels *kernels;
    uint32_t n_layer, n_head, n_kv_head, n_group, d, n_ctx;
    uint32_t n_ctx_train; /* tokens the model was trained for; 0 = not known */
    float scale;
    unsigned n_thread;
    uint32_t n_rot;          /* leading values of a head that rotate with the position */
    bool neox;               /* pairs (i, i + n_rot/2) instead of (2i, 2i + 1) */
    const double *rope_freq; /* [n_rot/2] angle a position */
    const uint32_t *all_blk; /* 0, 1, 2, ... up to n_ctx */
    unsigned char *scratch;  /* attention's, a slice per thread */
    size_t scratch_slice;
    float store_share;      /* bytes of K and V that a step over the whole store reads, of those at full width */
    float *part, *part_lse; /* partial results; grown by crit_pieces_prepare */
    size_t part_cap;        /* rows */
    double moved_bytes;     /* read and copied since the owner set it to 0 */
} crit_decode_env;

/* Bytes of the partial results of full attention over n_ctx tokens. */
size_t crit_decode_env_bytes(const crit_decode_env *e);
void crit_decode_env_clear(crit_decode_env *e); /* frees what is the env's own */

/* ---- attention over pieces ---- */

#define CRIT_RANGE_BLK                                                                                                 \
    32 /* KV blocks that one work item of a decode step reads: fixed, so results do not depend on threads */

/* Consecutive entries of a list of blocks, the same number for every KV head, and the query rows that read them. */
typedef struct crit_piece {
    const uint16_t *k, *v; /* packed blocks of KV head 0 */
    size_t head_stride;    /* 16-bit values from one KV head's blocks to the next one's */
    const uint32_t *blk;   /* [n_blk] ascending */
    uint32_t n_blk, n_key; /* keys at places >= n_key of the packed blocks do not count */
    uint32_t row0, n_row;  /* rows [row0, row0 + n_row) of each KV head */
    const crit_kv *narrow; /* NULL, or: k is not looked at, keys are the narrow ones of this store */
    size_t part;           /* filled in: its first row of partial results */
} crit_piece;

/* Attention of n_row rows of every KV head.  Each row reads the pieces that have it, at least one with a key. */
typedef struct crit_pieces {
    crit_decode_env *env;
    const float *q; /* [n_kv_head][n_row][d] */
    uint32_t n_row;
    crit_piece *piece; /* [n_piece] */
    uint32_t n_piece;
    float *out; /* row r of KV head h at out + (r / n_group * n_head + h * n_group + r % n_group) * d */
    float *lse; /* [n_kv_head][n_row], or NULL */
} crit_pieces;

/* Cuts n_blk blocks of a store into pieces of CRIT_RANGE_BLK for all n_row rows; returns how many it wrote. */
uint32_t crit_pieces_cut(crit_piece *out, const uint16_t *k, const uint16_t *v, size_t head_stride, const uint32_t *blk,
                         uint32_t n_blk, uint32_t n_key, uint32_t row0, uint32_t n_row);
/* Likewise a list of blocks of a KV store, whose first keys may be narrow ones. */
uint32_t crit_pieces_cut_kv(crit_piece *out, const crit_kv *kv, const uint32_t *blk, uint32_t n_blk, uint32_t n_key,
                            uint32_t row0, uint32_t n_row);
static inline uint32_t crit_ranges_of(uint32_t n_blk) {
    return (n_blk + CRIT_RANGE_BLK - 1) / CRIT_RANGE_BLK;
}
/* Enough for either: where narrow keys end a piece ends. */
static inline uint32_t crit_pieces_of(uint32_t n_blk) {
    return crit_ranges_of(n_blk) + 1;
}
/* Room for partial results; counts the bytes to be read. */
crit_status crit_pieces_prepare(crit_pieces *p, crit_error *err);
/* The two stages that do it; p must live until they have ended. */
void crit_pieces_stages(crit_pieces *p, crit_stage stage[2]);
void crit_pieces_run(crit_pieces *p);
/* out, *lse_out = attention over the keys of both results, which share none: one soft-max. */
void crit_merge_part(float *out, float *lse_out, const float *part, float lse_part, uint32_t d);

/* ---- a policy ---- */

enum { CRIT_OPTIONS_MAX = 12 };
typedef struct crit_policy_values {
    double v[CRIT_OPTIONS_MAX]; /* in the order of the policy's options */
} crit_policy_values;

/* One token's attention in one layer. */
typedef struct crit_decode_job {
    crit_decode_env *env;
    uint32_t layer;
    const crit_kv *kv; /* holds the token's own key and value, at position n_tok - 1 */
    uint32_t n_tok;    /* keys, the token's own included */
    const float *q;    /* [n_head][d] */
    float *out;        /* [n_head][d] */
} crit_decode_job;

/* Attention of a part of the prompt in one layer. */
typedef struct crit_prefill_job {
    crit_decode_env *env;
    uint32_t layer;
    const crit_kv *kv; /* holds the part's own keys and values, at positions pos0 ... */
    uint32_t pos0, n_tok;
    const float *q; /* [n_tok][q_stride], head h at + h * d */
    size_t q_stride;
    float *out; /* likewise */
    size_t out_stride;
    double pairs; /* filled in: (query, key) pairs attended to, over all heads */
} crit_prefill_job;

/* Attention of new tokens in one layer by a policy that keeps its own cache: consecutive positions of one part, one or
 * more calls a part. */
typedef struct crit_stream_job {
    crit_decode_env *env;
    uint32_t layer, pos0, n_tok;
    bool one; /* a decoded token: n_tok is 1 */
    float *q; /* [n_tok][q_stride] rotated by position; overwritten */
    size_t q_stride;
    const float *k, *v; /* [n_tok][kv_stride], k rotated by position */
    size_t kv_stride;
    float *out; /* [n_tok][out_stride] */
    size_t out_stride;
    double pairs; /* filled in: (query, key) pairs attended to, over all heads */
} crit_stream_job;

typedef struct crit_policy {
    const char *name, *summary, *source, *combines;
    crit_policy_place place;
    bool exact;
    bool any_store; /* of decoding: reads keys only through crit_pieces_cut_kv, crit_key_weights and crit_slab_copy */
    const crit_policy_option *options;
    size_t n_option;

    /* What options alone cannot see; NULL = nothing. */
    crit_status (*check)(const crit_policy_values *o, crit_error *err);
    /* Largest distance in positions between a query and a key, however long the timeline is; NULL or 0 = its length. */
    uint32_t (*span)(const crit_policy_values *o);
    /* Bytes of a state. */
    size_t (*bytes)(const crit_decode_env *env, const crit_policy_values *o);
    crit_status (*open)(void **state, const crit_decode_env *env, const crit_policy_values *o, crit_error *err);
    void (*close)(void *state); /* accepts NULL */
    /* Of the prompt, instead of a plan: parts of up to chunk_tok(o) queries, a multiple of CRIT_ATTEND_ROWS, that end
     * at multiples of it and at the prompt's end. */
    uint32_t (*chunk_tok)(const crit_policy_values *o);
    crit_status (*chunk)(void *state, crit_prefill_job *job, crit_error *err);
    /* Instead of chunk and of decoding, where the policy owns the cache and the session keeps no keys: NULL = it does
     * not.  Parts end at multiples of chunk_tok and at the prompt's end; each decoded token is a part. */
    crit_status (*stream)(void *state, crit_stream_job *job, crit_error *err);
    /* All layers have seen the tokens before position n_tok, which lies in the part that the last call went on with, or
     * ends it (part_ends).  What stream has seen and no commit has confirmed never was. */
    void (*commit)(void *state, crit_decode_env *env, uint32_t n_tok, bool part_ends);
    uint32_t (*n_key_cap)(const crit_policy_values *o);                          /* most keys that a query attends to */
    size_t (*kv_bytes)(const crit_decode_env *env, const crit_policy_values *o); /* of the cache; not part of bytes */

    /* Of the store: the prompt has been read, first is where its turn began; q as for `prompt`, which comes after.
     * May move keys (crit_narrow_move).  Called for every layer, opened. */
    crit_status (*store)(void *state, crit_decode_env *env, uint32_t layer, crit_kv *kv, uint32_t first, const float *q,
                         size_t q_stride, uint32_t n_q, crit_error *err);

    /* How many of the prompt's last queries `prompt` or `store` wants to see; 0 = it is not called. */
    uint32_t n_query;
    /* The prompt has been read up to n_tok = kv->n_tok: q [n_q][q_stride], the queries of the last n_q <= n_query
     * positions.  Called for every layer. */
    crit_status (*prompt)(void *state, crit_decode_env *env, uint32_t layer, const crit_kv *kv, const float *q,
                          size_t q_stride, uint32_t n_q, crit_error *err);
    /* Of decoding: whether it reads a chunk that begins at pos0, too, by `chunk`; NULL = none. */
    bool (*takes)(const void *state, uint32_t pos0);
    crit_status (*decode)(void *state, const crit_decode_job *job, crit_error *err);
    /* Instead of decode, where nothing is decided by the query: two stages, so that a layer stays one run.
     * piece [crit_pieces_of(blocks of n_tok)]; p and piece live until the run has ended. */
    crit_status (*stages)(const crit_decode_job *job, crit_pieces *p, crit_piece *piece, crit_stage stage[2],
                          crit_error *err);
    /* The timeline was cut back to n_tok; whatever was kept of it counts no more.  With stream: to 0. */
    void (*cut)(void *state, uint32_t n_tok);
    /* What a snapshot keeps of a state beside keys and values; NULL, or nothing written = nothing.  load: into a state
     * of the same policy, whatever its options, kv [n_layer] holding n_tok tokens already; CRIT_E_FORMAT when the bytes
     * are none. */
    crit_status (*save)(const void *state, crit_blob *out, crit_error *err);
    crit_status (*load)(void *state, crit_decode_env *env, const crit_kv *kv, uint32_t n_tok, crit_blob_view *in,
                        crit_error *err);
    /* For instruments: the positions that the last decode step of the layer read for a KV head, ascending, into
     * pos [n_tok]; returns how many. */
    uint32_t (*kept)(const void *state, uint32_t layer, uint32_t kv_head, uint32_t n_tok, uint32_t *pos);
    /* KV bytes a decode step is expected to move, of those of full attention over n_tok keys, averaged over steps; NULL
     * = all.  Called behind a step, so that the state may tell how often the step's way is taken. */
    double (*traffic)(const void *state, const crit_decode_env *env, const crit_policy_values *o, uint32_t n_tok);
} crit_policy;

extern const crit_policy crit_policy_full, crit_policy_recycled, crit_policy_tokenselect,
    crit_policy_tokenselect_prefill, crit_policy_bifurcated, crit_policy_subgen, crit_policy_full_kv, crit_policy_think,
    crit_policy_squeezed, crit_policy_cascade;
const crit_policy *crit_policy_at(size_t i); /* NULL past the end; 0 is full attention */

/* "name[:key=value,...]"; NULL and "" are full attention.  CRIT_E_ARG with the reason. */
crit_status crit_policy_parse(crit_policy_place place, const char *text, const crit_policy **out,
                              crit_policy_values *values, crit_error *err);

/* Whether a policy of decoding works over a policy of the store; CRIT_E_ARG with the reason. */
crit_status crit_policy_pair(const crit_policy *decode, const crit_policy *kv, crit_error *err);

/* Full attention, for policies that fall back to it. */
crit_status crit_full_decode(const crit_decode_job *job, crit_error *err);

#endif
