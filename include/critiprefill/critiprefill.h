/* SPDX-License-Identifier: MIT */
/* critiprefill, tier 1: give it tokens, it gives logits; long prompts are read with block-sparse attention.
 *
 * A crit_model is a loaded GGUF file: immutable, shared by any number of threads and sessions.  A crit_session is
 * one mutable timeline on it: it owns the KV store, a thread pool and the logits of the last position.  A session
 * is used by one thread at a time, and not from within its own callbacks.  Nothing here prints, exits, reads the
 * environment, or installs handlers.  After fork() the child may go on with its parent's models, but can neither use
 * nor close its sessions (nor the engines of attention.h), whose threads it does not have.
 *
 *     crit_model_open -> crit_tokenize -> crit_session_open -> crit_prefill -> { crit_sample -> crit_decode } ...
 *
 * Every params struct has an init call that sets struct_size and the defaults; pass NULL for all defaults.
 * Engines that have their own Q, K and V want attention.h instead.  Source of the method: arXiv 2409.12490 and
 * doc/ALGORITHM.md. */
#ifndef CRITIPREFILL_H
#define CRITIPREFILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "critiprefill/status.h"
#include "critiprefill/version.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crit_model crit_model;
typedef struct crit_session crit_session;
typedef struct crit_sampler crit_sampler;

/* Version of the library that is linked ("0.1.0"), which may differ from CRIT_VERSION_STRING of the headers. */
CRIT_API const char *crit_version(void);
/* Best CPU level of this machine ("avx2", "avx2i16", "avx512+vnni+bf16", "avx512bf16", "c"); static string. */
CRIT_API const char *crit_cpu_name(void);

/* ------------------------------------------------------------------------------------------------ model */

typedef struct crit_model_params {
    size_t struct_size;
    const char *cpu; /* best level to use: "auto" (default), "c", "avx2", "avx2i16", "avx512", "avx512bf16", "amx";
                        CRIT_E_CPU if absent here */
} crit_model_params;
CRIT_API void crit_model_params_init(crit_model_params *p);

/* Maps path and checks all of it that can be checked without reading the weights' pages.  The file must not be
 * changed while it is open.  Errors: CRIT_E_IO, _FORMAT, _UNSUPPORTED, _SHAPE, _VALUE, _CPU, _NOMEM. */
CRIT_API crit_status crit_model_open(crit_model **out, const char *path, const crit_model_params *params,
                                     crit_error *err);
CRIT_API void crit_model_close(crit_model **model); /* accepts NULL; no session may be left */

typedef struct crit_model_info {
    size_t struct_size;
    const char *arch, *name; /* "llama"; general.name or ""; valid as long as the model */
    const char *cpu;         /* CPU level in use */
    const char *tokenizer;   /* "gpt2/qwen2", "llama", or "" when the file has none we can use */
    const char *chat;        /* chat family ("chatml") or "" */
    const char *rope;        /* "norm" or "neox", with the scaling: "neox yarn x4" */
    uint32_t n_layer, n_head, n_kv_head, n_group, d_head, n_embd, n_ff, n_vocab;
    uint32_t n_ctx_train; /* tokens the model was trained for; 0 = not declared */
    uint32_t n_swa;       /* sliding window, tokens; 0 = none */
    float rope_base, rms_eps;
    uint64_t n_params; /* elements of all tensors */
    size_t weights_bytes, file_bytes;
    size_t n_tensor;
} crit_model_info;
/* info->struct_size must be set by the caller (sizeof). */
CRIT_API crit_status crit_model_get_info(const crit_model *model, crit_model_info *info);
/* Tells models of one size apart: over all but the tensors, and samples of each of these. */
CRIT_API uint64_t crit_model_fingerprint(const crit_model *model);
/* Tensor i of the file, for listings: name (not NUL-terminated: *name_len bytes), type name, dims [4].  false past the
 * end. */
CRIT_API bool crit_model_tensor(const crit_model *model, size_t i, const char **name, size_t *name_len,
                                const char **type, uint64_t dims[4], size_t *bytes);

/* ------------------------------------------------------------------------------------------------ text */

enum {
    CRIT_TOK_BOS_EOS = 1u << 0,       /* add BOS/EOS when the file says so */
    CRIT_TOK_PARSE_SPECIAL = 1u << 1, /* text such as <|im_end|> becomes the special token */
};
/* Tokens of text[0..len), any bytes.  Writes at most cap ids and always sets *n to the full count; CRIT_E_SPACE when
 * cap is too small (call with cap 0 to size).  ids [cap] out. */
CRIT_API crit_status crit_tokenize(const crit_model *model, const char *text, size_t len, unsigned flags, int32_t *ids,
                                   size_t cap, size_t *n, crit_error *err);
/* Bytes of one token (may be part of a UTF-8 sequence; "" for control tokens unless special).  Returns the length,
 * writes at most cap bytes, no NUL.  Unknown ids give 0. */
CRIT_API size_t crit_token_bytes(const crit_model *model, int32_t id, bool special, char *buf, size_t cap);
/* true when id ends a generation (EOS, end of turn, ...). */
CRIT_API bool crit_token_ends(const crit_model *model, int32_t id);

typedef struct crit_message {
    const char *role, *content; /* "system" | "user" | "assistant"; NUL-terminated UTF-8 */
} crit_message;
/* Renders messages with the model's chat template (family recognised from the file), ready for crit_tokenize with
 * CRIT_TOK_PARSE_SPECIAL.  *n: bytes needed without a NUL; CRIT_E_SPACE when cap < *n + 1; CRIT_E_CHAT when the
 * template is missing or unknown.  add_reply: append the header of the assistant's turn. */
CRIT_API crit_status crit_chat_render(const crit_model *model, const crit_message *msg, size_t n_msg, bool add_reply,
                                      char *buf, size_t cap, size_t *n, crit_error *err);

/* ------------------------------------------------------------------------------------------------ session */

typedef enum crit_attn {
    CRIT_ATTN_CRITI = 0, /* our calibrated rule, doc/ALGORITHM.md (default) */
    CRIT_ATTN_DENSE = 1, /* every key: the yardstick */
    CRIT_ATTN_PAPER = 2  /* CritiPrefill as published */
} crit_attn;

/* Knobs of the attention rules; ranges are checked by crit_session_open. */
typedef struct crit_attn_params {
    size_t struct_size;
    crit_attn mode; /* default CRIT_ATTN_CRITI */
    /* criti */
    float theta;          /* keep a block when its expected weight > theta / (blocks up to the tile); 0 keeps all;
                             [0, 100]; default 0.4 */
    uint32_t min_tok;     /* floor: at least this many tokens of far blocks a tile, best first; default 0 */
    uint32_t max_tok;     /* cap, same unit, but for the last positions; default 0 = none */
    uint32_t dense_until; /* tiles starting before this position are dense; default 1024 */
    uint32_t last_tok;    /* the last positions of a prompt, where the question stands, are read with last_theta;
                             default 512 */
    float last_theta;     /* theta there when that is less; 0: they are dense; [0, 100]; default 0.1 */
    float skip;           /* a query leaves out a planned far block whose best exact score is more than skip nats below
                             the best it has met; 0 = off (default); [0, 100]                            [alg:skip] */
    float power;          /* 0: the expected weight is sigma * share; else what the head's blocks of that share weighed
                             so far, mean of this power; [0, 4]; default 1                           [alg:calibrate] */
    float p_mass;         /* with power > 0: a head's threshold is lowered until by its probes at least this share of
                             the weight outside the sink is kept; [0, 1]; default 0                  [alg:check] */
    float lookup;         /* with power > 0: keep also blocks that by the probes so far hold the key of a look-up
                             (weight > 0.2) with a chance > lookup / (blocks up to the tile); 0 = off; [0, 100];
                             default 0.07                                                            [alg:check] */
    float recall;         /* with power > 0: a head's threshold is lowered until at most 1 - recall of the look-ups that
                             its probes have met are lost; [0, 1]; default 0 */
    uint32_t probe;       /* one exact query per so many positions and head, half as many from position 16,384 on
                             and from each doubling of it; [16, 4096]; default 64                    [alg:calibrate] */
    uint32_t oracle; /* 1: blocks by what the tile's queries really give them, theta against that: how good lists of
                        this grain can be, at the price of dense attention; no guard of look-ups; default 0 */
    /* paper */
    uint32_t budget_tok; /* K; default 2048 */
    uint32_t seg_len;    /* S; default 512, multiple of 128, up to 4096 */
    uint32_t threshold;  /* T: segments starting before are dense; default 4096 */
    float alpha;         /* share of the previous layer in the fused score; default 0.25, [0, 1] */
    uint32_t layer_skip; /* first layers that are dense; default 1 */
} crit_attn_params;
CRIT_API void crit_attn_params_init(crit_attn_params *p);
/* Presets of criti, chosen by measurement (doc/QUALITY.md): how much of dense attention's answer is traded for time. */
typedef enum crit_quality {
    CRIT_QUALITY_BALANCED = 0, /* what crit_attn_params_init sets */
    CRIT_QUALITY_FAST = 1,
    CRIT_QUALITY_CAREFUL = 2
} crit_quality;
/* Sets mode criti and its knobs; those of paper stay as they are.  p initialised before. */
CRIT_API void crit_attn_params_preset(crit_attn_params *p, crit_quality quality);

typedef struct crit_session_params {
    size_t struct_size;
    uint32_t n_ctx;     /* tokens the KV store can hold; 0 = n_ctx_train of the model (8192 if not declared) */
    uint32_t n_batch;   /* tokens per chunk, rounded up to a multiple of 128 (paper: of seg_len), two of them at least;
                           0 = by CPU level, threads and heads (default): 512 or 1,024 for a few; [0, 65536] */
    uint32_t n_threads; /* 0 = all cores of the process, or as many as its control group has time for; [0, 1024] */
    bool pin;           /* the session's own threads stay on one core each, the first one left to the caller */
    bool force;         /* skip the check of the memory estimate against the memory available */
    crit_attn_params attn;
    const char *decode;  /* how tokens behind the prompt attend: a policy with options (policy.h); NULL = full
                            attention.  Read while opening only */
    const char *prefill; /* how the prompt attends, instead of attn: a policy with options; NULL = attn.  Likewise.  A
                           policy that streams (policy.h) keeps a cache of a fixed size instead of the KV store: n_ctx
                           only limits the timeline (0 = 2^30), n_batch is at most its stride, it also decodes, a
                           prompt that failed behind the first of the timeline leaves what was read, up to
                           crit_session_n_past, and crit_session_rewind only goes back to 0 (CRIT_E_STATE) */
    const char *kv;      /* how the prompt's keys and values are kept: likewise; NULL = as they were computed */
} crit_session_params;
CRIT_API void crit_session_params_init(crit_session_params *p);

/* Errors: CRIT_E_ARG (a knob out of range, a policy that is none), CRIT_E_CONTEXT (n_ctx beyond a sliding window that
 * cannot be honoured), CRIT_E_NOMEM. */
CRIT_API crit_status crit_session_open(crit_session **out, const crit_model *model, const crit_session_params *params,
                                       crit_error *err);
CRIT_API void crit_session_close(crit_session **session); /* accepts NULL */

/* Bytes, before anything is allocated. */
typedef struct crit_memory {
    size_t struct_size;
    size_t weights_bytes;    /* the mapped file; of embeddings that are not the output, too, what n_ctx rows map */
    size_t kv_bytes;         /* K, V and block statistics at n_ctx; of a policy that streams: its cache */
    size_t activation_bytes; /* one chunk */
    size_t scratch_bytes;    /* plans, per-thread scratch, tokenizer, logits */
    size_t policy_bytes;     /* what the policies of decoding, of the prompt and of the store keep */
    size_t total_bytes;      /* predicted peak RSS with a full context */
    uint32_t n_batch;        /* tokens per chunk */
    size_t available_bytes;  /* what the machine (and its cgroup) has free now; 0 = unknown */
} crit_memory;
CRIT_API crit_status crit_memory_estimate(const crit_model *model, const crit_session_params *params, crit_memory *out,
                                          crit_error *err);

/* ------------------------------------------------------------------------------------------------ prefill, decode */

/* Called by crit_prefill on the calling thread after every layer of every chunk, and some ten times a second within
 * one; done and total in tokens that this call reads (with more: those held back count in the call that reads them),
 * done may be fractional and never falls.  Non-zero cancels. */
typedef int (*crit_progress_fn)(void *user, double done_tok, uint32_t total_tok);
/* Called once per position in ascending order with the full row of logits [n_vocab]; non-zero cancels. */
typedef int (*crit_logits_fn)(void *user, uint32_t pos, const float *logits, uint32_t n_vocab);
/* Called on the calling thread for each layer of each chunk, after its attention (inspect.h); non-zero cancels. */
typedef struct crit_layer_view crit_layer_view;
typedef int (*crit_layer_fn)(void *user, const crit_layer_view *view);

typedef struct crit_prefill_params {
    size_t struct_size;
    bool more;                 /* the prompt goes on in the next call: its last_tok last positions are not in this
                                  one.  Up to n_batch + last_tok tokens are held back until the last call */
    crit_progress_fn progress; /* NULL = none */
    void *progress_user;
    crit_logits_fn on_logits; /* NULL = only the last position's logits are computed */
    void *logits_user;
    uint32_t logits_from;   /* on_logits only for positions >= this; default 0 */
    crit_layer_fn on_layer; /* NULL = none */
    void *layer_user;
} crit_prefill_params;
CRIT_API void crit_prefill_params_init(crit_prefill_params *p);

/* Appends tokens[0..n_tok) to the timeline and reads them with the session's attention; afterwards crit_logits is
 * the last position's row (none with more).  On a failure in reading or a cancel the session is as before the call
 * (with more: as before the first of the calls that belong together) and usable, but for what a policy of decoding had
 * prepared: it may be full attention until the next prompt.  A call refused with CRIT_E_ARG, CRIT_E_CONTEXT or
 * CRIT_E_STATE has changed nothing.
 * Errors: CRIT_E_ARG (a token id outside the vocabulary, n_tok 0), CRIT_E_CONTEXT, CRIT_E_CANCELLED, CRIT_E_NOMEM. */
CRIT_API crit_status crit_prefill(crit_session *session, const int32_t *tokens, size_t n_tok,
                                  const crit_prefill_params *params, crit_error *err);
/* Appends one token with the session's attention for decoding (full by default); sets the logits.  Errors as
 * crit_prefill. */
CRIT_API crit_status crit_decode(crit_session *session, int32_t token, crit_error *err);
/* Logits of the last position [n_vocab] f32, valid until the next call on the session; NULL before any prefill. */
CRIT_API const float *crit_logits(const crit_session *session);
/* Tokens on the timeline. */
CRIT_API uint32_t crit_session_n_past(const crit_session *session);
/* Forgets everything behind position n_past (<= current), and an unfinished prompt that began there or behind it; then
 * there are no logits, unless n_past is the current one.  What stays is as it was read: of a tile of 32 positions that
 * is cut, the first rows read blocks that all of it had chosen; cuts at multiples of 32 leave nothing behind.
 * CRIT_E_STATE: within an unfinished prompt, a batch is open, or the cache of a policy does not go back. */
CRIT_API crit_status crit_session_rewind(crit_session *session, uint32_t n_past, crit_error *err);

/* Of the last complete prompt (crit_prefill calls up to one without more); behind crit_session_load of nothing: times
 * are 0, density and measures NaN.  Times are wall clock. */
typedef struct crit_stats {
    size_t struct_size;
    uint32_t n_tok;
    double prefill_ms;  /* sum of the phases below and the rest */
    double estimate_ms; /* represent, score, calibrate, select */
    double attend_ms;   /* attention over the plan */
    double gemm_ms;     /* matrix products with their packing */
    double logits_ms;   /* rows for on_logits and on_layer: vocabulary products and callbacks, part of prefill_ms */
    double density;     /* (query, key) pairs planned / causal pairs, mean over layers and heads; criti: without the
                           last layer, which is dense and read only for the rows whose logits are wanted */
    double skipped;     /* of the same causal pairs: planned, but left out by [alg:skip] once their score was known */
    /* By the exact sampled queries of [alg:check], over layers and heads, outside the tiles that are dense by position;
     * NaN when there was none. */
    double mass_measured;        /* soft-max weight that the plans kept, mean over the prompt's probes, each counted for
                                    the positions it stands for; so is the next one */
    double peak_recall_measured; /* of the sampled queries whose strongest far key weighs > 0.2: share whose key was
                                    kept; a query misled by an earlier loss looks up less */
    uint64_t n_peak_measured;    /* how many those were */
    size_t kv_bytes;             /* KV store in use */
    uint32_t n_channel; /* of a key of the prompt that are kept: d_head, or what a policy of the store leaves */
    /* the account of parallelism */
    double serial_ms;        /* time outside parallel runs, callbacks included */
    uint64_t n_run, n_stage; /* wake-ups of the pool; points where all threads wait for each other */
    uint64_t n_item;         /* pieces of work handed out */
} crit_stats;
CRIT_API crit_status crit_session_stats(const crit_session *session, crit_stats *out);

/* ------------------------------------------------------------------------------------------------ sampling */

typedef struct crit_sampler_params {
    size_t struct_size;
    float temp;             /* <= 0: greedy (default), ties to the lower id */
    uint32_t top_k;         /* 0 = off; default 40 (used when temp > 0) */
    float top_p;            /* 1 = off; default 0.95 */
    float min_p;            /* 0 = off; default 0.05 */
    float repeat_penalty;   /* 1 = off (default) */
    uint32_t repeat_last_n; /* tokens looked back at; default 64 */
    uint64_t seed;          /* default 0; same seed, same tokens */
} crit_sampler_params;
CRIT_API void crit_sampler_params_init(crit_sampler_params *p);
CRIT_API crit_status crit_sampler_open(crit_sampler **out, const crit_model *model, const crit_sampler_params *params,
                                       crit_error *err);
CRIT_API void crit_sampler_close(crit_sampler **sampler); /* accepts NULL */
/* Tokens that came before, such as the prompt: the repeat penalty counts them.  Ids outside the vocabulary are ignored.
 */
CRIT_API void crit_sampler_accept(crit_sampler *sampler, const int32_t *ids, size_t n);
/* Next token from logits [n_vocab] (not modified); accepts it.  -1 when every logit is NaN. */
CRIT_API int32_t crit_sample(crit_sampler *sampler, const float *logits);

#ifdef __cplusplus
}
#endif
#endif
