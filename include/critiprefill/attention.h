/* SPDX-License-Identifier: MIT */
/* critiprefill, tier 2: block-sparse attention on your own Q, K and V.
 *
 * For engines that have their own model code.  Per layer: a crit_kv holds packed keys and values with per-block
 * statistics; a crit_plan decides which KV blocks each (query head, query tile) reads, and carries the layer's running
 * calibration from chunk to chunk; crit_attention_run computes exactly what the plan says.
 *
 *     crit_kv_append(K, V of the chunk) -> crit_plan_build(Q of the chunk) -> crit_attention_run -> next chunk
 *     crit_kv_append(k, v of a new token) -> crit_attention_decode(its q) -> next token
 *
 * Layouts, row-major, strides given in elements: Q and out [n_tok][n_head][d_head] f32, K and V
 * [n_tok][n_kv_head][d_head] f32, all after RoPE.  Query head h reads KV head h / (n_head / n_kv_head).  out overlaps
 * no input; a call keeps no pointer to its arrays.  Chunks of 512 to 1,024 tokens are fast.  Where only the prompt's
 * last row is wanted, as of the last layer, append all and crit_attention_decode that row, in place of a plan.
 * The engine's pool does the work in parallel, the calling thread being one of its threads; the others sleep between
 * calls.  An engine and all its stores and plans are used by one thread at a time: one engine serves any number of
 * layers and sequences in turn; threads of the caller that work at once have an engine each. */
#ifndef CRITIPREFILL_ATTENTION_H
#define CRITIPREFILL_ATTENTION_H

#include "critiprefill/critiprefill.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crit_engine crit_engine; /* thread pool + kernels */
typedef struct crit_kv crit_kv;
typedef struct crit_plan crit_plan;

/* cpu as in crit_model_params (NULL = auto), n_threads 0 = all cores; [0, 1024].  Errors: CRIT_E_CPU, CRIT_E_ARG,
 * CRIT_E_NOMEM. */
CRIT_API crit_status crit_engine_open(crit_engine **out, const char *cpu, uint32_t n_threads, crit_error *err);
CRIT_API void crit_engine_close(crit_engine **engine); /* after the kv and plan handles; accepts NULL */
CRIT_API size_t crit_engine_bytes(const crit_engine *engine); /* allocated so far, for all layers at once */

/* KV store of one layer and sequence for up to n_tok_cap tokens.  d_head: multiple of 8, 8..256.  K and V are kept in
 * 16 bits: f16, at the levels avx512bf16 and amx bf16.  Errors: CRIT_E_ARG, CRIT_E_NOMEM. */
CRIT_API crit_status crit_kv_open(crit_kv **out, crit_engine *engine, uint32_t n_kv_head, uint32_t d_head,
                                  uint32_t n_tok_cap, crit_error *err);
CRIT_API void crit_kv_close(crit_kv **kv);
/* Appends n_tok tokens.  k, v [n_tok][n_kv_head][d_head] f32, row strides in elements (>= n_kv_head * d_head).
 * Values must be finite and within f16 (65,504): others spoil every row that reads their block of 32.
 * CRIT_E_CONTEXT when the capacity, in whole blocks of 32, is exceeded; nothing is appended then. */
CRIT_API crit_status crit_kv_append(crit_kv *kv, const float *k, size_t k_stride, const float *v, size_t v_stride,
                                    uint32_t n_tok, crit_error *err);
CRIT_API uint32_t crit_kv_len(const crit_kv *kv);
CRIT_API size_t crit_kv_bytes(const crit_kv *kv); /* mapped; memory is used as tokens come */
/* Keeps the first n_tok tokens (<= crit_kv_len: CRIT_E_ARG).  Plans need no call: crit_plan_build forgets what its plan
 * had learnt from pos0 on. */
CRIT_API crit_status crit_kv_truncate(crit_kv *kv, uint32_t n_tok, crit_error *err);

/* One plan object per layer and sequence.  n_head: multiple of the store's n_kv_head.  params NULL = defaults (criti).
 * Of mode paper the fusion across layers needs prev in crit_plan_build, and layer_skip is the caller's to do: plans of
 * mode dense.  Errors: CRIT_E_ARG, CRIT_E_NOMEM. */
CRIT_API crit_status crit_plan_open(crit_plan **out, crit_engine *engine, uint32_t n_head, uint32_t n_kv_head,
                                    uint32_t d_head, const crit_attn_params *params, crit_error *err);
CRIT_API void crit_plan_close(crit_plan **plan);
/* Estimate and select for the n_tok queries at positions [pos0, pos0 + n_tok), whose keys must be in kv already
 * (kv holds exactly pos0 + n_tok tokens; its engine may be another one of the same CPU level).
 * q [n_tok][n_head][d_head] f32, row stride q_stride elements.
 * n_rest: prompt tokens that follow this chunk (0 in the last one): decides where last_tok begins.
 * scale: soft-max scale, usually 1/sqrt(d_head).  prev: the plan of the previous layer for the same queries, or NULL
 * (paper only: CRIT_E_ARG for one of other positions, KV heads or seg_len).
 * pos0 must be a multiple of 128 (paper: of seg_len) unless the chunk starts a new turn, or the result depends on the
 * chunks.  Errors: CRIT_E_ARG, CRIT_E_STATE (the store holds another number of tokens), CRIT_E_NOMEM. */
CRIT_API crit_status crit_plan_build(crit_plan *plan, const crit_kv *kv, const float *q, size_t q_stride, uint32_t pos0,
                                     uint32_t n_tok, uint32_t n_rest, float scale, const crit_plan *prev,
                                     crit_error *err);
/* Forgets calibration and what was measured: a new prompt from position 0. */
CRIT_API void crit_plan_reset(crit_plan *plan);

CRIT_API uint32_t crit_plan_n_tile(const crit_plan *plan);
/* Sorted block ids (32 keys each) of one query head and tile; tile t covers the queries between the multiples of 32
 * of the positions.  Returns the count, *ids is valid until the next build. */
CRIT_API size_t crit_plan_row(const crit_plan *plan, uint32_t head, uint32_t tile, const uint32_t **ids);
/* (query, key) pairs planned / causal pairs. */
CRIT_API double crit_plan_density(const crit_plan *plan);
/* Multiply-adds crit_attention_run will do with it. */
CRIT_API double crit_plan_cost(const crit_plan *plan);
/* mass_measured, peak_recall_measured, n_peak_measured of crit_stats, over this plan's builds; NULL = not wanted. */
CRIT_API void crit_plan_measured(const crit_plan *plan, double *mass, double *peak_recall, uint64_t *n_peak);
CRIT_API size_t crit_plan_bytes(const crit_plan *plan); /* allocated: grows with the chunk and with the keys */

/* out[t][h] = softmax-weighted values over the planned keys at positions <= pos0 + t.  q as given to crit_plan_build.
 * Errors: CRIT_E_ARG, CRIT_E_STATE (no plan built; the store was cut behind it). */
CRIT_API crit_status crit_attention_run(crit_plan *plan, const crit_kv *kv, const float *q, size_t q_stride, float *out,
                                        size_t out_stride, crit_error *err);

/* A decode step: one token's exact attention over every key of the store, which has to hold its own already.
 * q and out [n_head][d_head] f32; n_head a multiple of the store's n_kv_head.  The heads of a KV head go through its
 * keys together, and a long text's keys are shared out among the engine's threads: several times faster than a plan of
 * one query, whose result differs by rounding.  The number of threads changes no bit.
 * Errors: CRIT_E_ARG, CRIT_E_NOMEM, CRIT_E_STATE (an empty store). */
CRIT_API crit_status crit_attention_decode(crit_kv *kv, const float *q, uint32_t n_head, float scale, float *out,
                                           crit_error *err);

#ifdef __cplusplus
}
#endif
#endif
