/* SPDX-License-Identifier: MIT */
/* critiprefill, the other systems: how a session decodes, stores and shares what it has read.
 *
 * A policy is chosen by a text, its name with options behind a colon ("recycled:K=4096,S=50"), given to
 * crit_session_params.  What there is, with options, ranges, defaults and sources, can be listed here; doc/POLICIES.md
 * says when each wins and loses.  A text that names nothing, an option out of range, and policies that exclude each
 * other are refused by crit_session_open with CRIT_E_ARG and the reason. */
#ifndef CRITIPREFILL_POLICY_H
#define CRITIPREFILL_POLICY_H

#include "critiprefill/critiprefill.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a policy works: the field of crit_session_params that may name it. */
typedef enum crit_policy_place {
    CRIT_POLICY_DECODE = 0,  /* decode: attention of a token behind the prompt */
    CRIT_POLICY_BATCH = 1,   /* none: crit_batch is the way to it */
    CRIT_POLICY_PREFILL = 2, /* prefill: attention of the prompt, instead of attn */
    CRIT_POLICY_KV = 3       /* kv: how keys and values of the prompt are kept behind it */
} crit_policy_place;

typedef struct crit_policy_option {
    const char *name, *help;
    double def, lo, hi;         /* default, smallest, largest */
    bool whole;                 /* whole numbers only */
    const char *const *choices; /* words instead of numbers, NULL-terminated: def, lo, hi are places in it; or NULL */
} crit_policy_option;

typedef struct crit_policy_info {
    size_t struct_size;
    const char *name, *summary;
    crit_policy_place place;
    const char *source; /* paper */
    bool exact;         /* the same result as full attention, up to rounding */
    bool streams;       /* has a cache of its own, of a fixed size: see crit_session_params.prefill */
    const crit_policy_option *options;
    size_t n_option;
    const char *combines; /* what it may be combined with, in words */
} crit_policy_info;

/* All policies in the order of a listing; strings are static.  info->struct_size must be set. */
CRIT_API size_t crit_policy_count(void);
CRIT_API crit_status crit_policy_get(size_t i, crit_policy_info *info);
/* Whether text is one of that place, as crit_session_open would judge it. */
CRIT_API crit_status crit_policy_check(crit_policy_place place, const char *text, crit_error *err);
/* Largest distance in positions between a query and a key that it reads, however long the text is: no model need be
 * trained for more.  0: the text's length, and for a text that is refused. */
CRIT_API uint32_t crit_policy_span(crit_policy_place place, const char *text);

/* Another policy for what is decoded from now on; the timeline stays.  Policies that look at the prompt's last queries
 * see those of the next crit_prefill and are full attention until then, or until a full step of their own. */
CRIT_API crit_status crit_session_set_decode(crit_session *session, const char *text, crit_error *err);

/* What decoding cost and kept, since the session was opened, crit_session_set_decode, or the last time these were taken
 * with reset. */
typedef struct crit_decode_stats {
    size_t struct_size;
    uint64_t n_tok;
    double ms, attend_ms;           /* wall time of the steps; of their attention */
    double moved_bytes, full_bytes; /* keys, values and what selects them that attention read and copied; what full
                                       attention would have read, whole blocks as well */
    double model;                   /* moved / full that the policy's traffic model expects, mean over the steps */
    double mass;                    /* soft-max weight on the keys that were read, mean over steps, layers and heads;
                                       NaN unless watched */
} crit_decode_stats;
CRIT_API crit_status crit_session_decode_stats(crit_session *session, bool reset, crit_decode_stats *out);
/* With on, every step also computes what the keys it read weigh for exact attention: slow, for instruments. */
CRIT_API crit_status crit_session_watch_decode(crit_session *session, bool on, crit_error *err);

/* ------------------------------------------------------------------------------------------------ snapshots */

/* A file of what a session has read: keys and values, the last position's logits, what attention has learnt so far and
 * what squeezed has prepared, its clusters (other policies of decoding begin anew).  A session that loads it goes on as
 * the one that saved it would have, to the bit at the same CPU level; another level's keys and values are rounded.  It
 * belongs to one model; checksums find every damaged byte.  Errors name the file: CRIT_E_IO, CRIT_E_FORMAT (no
 * snapshot, truncated, damaged), CRIT_E_UNSUPPORTED (a newer version), CRIT_E_VALUE (of another model), CRIT_E_NOMEM.
 */
typedef struct crit_save_params {
    size_t struct_size;
    int zstd;      /* compression level, 0 = none (default), up to 19 */
    uint32_t mark; /* the caller's own, default 0 */
    int (*poll)(void *user); /* asked first and now and then; non-zero cancels (CRIT_E_CANCELLED); NULL = none */
    void *poll_user;
} crit_save_params;
CRIT_API void crit_save_params_init(crit_save_params *p);
/* tokens [n_tok]: all of the timeline, which the session does not keep (CRIT_E_ARG when it has another number).  path
 * is replaced when the whole file is there; a device or a pipe is refused (CRIT_E_IO).  CRIT_E_STATE: no prompt yet,
 * or one unfinished, or a batch is open. */
CRIT_API crit_status crit_session_save(crit_session *session, const char *path, const int32_t *tokens, size_t n_tok,
                                       const crit_save_params *params, crit_error *err);

typedef struct crit_snapshot_info {
    size_t struct_size;
    uint32_t n_tok, mark;
    size_t file_bytes;
    char policy[32]; /* whose preparations are in it; "" = none */
} crit_snapshot_info;
/* What is in a file, before a session is opened for it; tokens [cap] out, as many as fit (NULL with 0). */
CRIT_API crit_status crit_snapshot_read_info(const crit_model *model, const char *path, crit_snapshot_info *info,
                                             int32_t *tokens, size_t cap, crit_error *err);
/* Into a session without a past: afterwards its n_past is n_tok, and crit_logits the last position's.  What the file
 * has for the session's policy of decoding is used, with the session's options where they can still matter.  On failure
 * the session is as before.  Further errors: CRIT_E_STATE, CRIT_E_CONTEXT. */
CRIT_API crit_status crit_session_load(crit_session *session, const char *path, crit_error *err);

/* ------------------------------------------------------------------------------------------------ batches */

/* Sequences that go on from one session's timeline and share it [bifurcated]: what they have in common is kept once and
 * read once a step for all of them.  While a batch is open its session does nothing else (CRIT_E_STATE); it is closed
 * before its session.  One thread at a time; the session's pool does the work.  A sequence's logits have the same bits
 * whatever the others are; where it was forked shows in the last bits.
 */
typedef struct crit_batch crit_batch;
typedef struct crit_batch_params {
    size_t struct_size;
    uint32_t n_seq;    /* sequences at a time, 1 and more; default 16 */
    uint32_t tail_tok; /* tokens a sequence may add to the session's; default 512.  Memory is used as tails grow */
    bool unshared;     /* read what is shared once for each sequence: the yardstick of instruments; default false */
} crit_batch_params;
CRIT_API void crit_batch_params_init(crit_batch_params *p);

/* With one sequence, number 0, at the session's end; params NULL = all defaults.  Errors: CRIT_E_ARG (more sequences
 * than n_batch of the session), CRIT_E_STATE (no prompt yet, or one unfinished), CRIT_E_CONTEXT (no room for tail_tok
 * behind the prompt), CRIT_E_NOMEM. */
CRIT_API crit_status crit_batch_open(crit_batch **out, crit_session *session, const crit_batch_params *params,
                                     crit_error *err);
CRIT_API void crit_batch_close(crit_batch **batch); /* accepts NULL; the session goes on where it was */
/* Another sequence with the same past as seq, and its logits; *out: its number, the lowest that is free.
 * CRIT_E_SPACE when there are n_seq. */
CRIT_API crit_status crit_batch_fork(crit_batch *batch, uint32_t seq, uint32_t *out, crit_error *err);
CRIT_API crit_status crit_batch_drop(crit_batch *batch, uint32_t seq, crit_error *err);
/* Appends token[i] to seq[i], n different sequences in any order, with full attention.
 * Errors: CRIT_E_ARG, CRIT_E_CONTEXT (a tail is full: nothing has happened), CRIT_E_NOMEM. */
CRIT_API crit_status crit_batch_decode(crit_batch *batch, const uint32_t *seq, const int32_t *token, uint32_t n,
                                       crit_error *err);
/* Logits of the sequence's last position [n_vocab], valid until it is decoded or dropped; NULL for no sequence. */
CRIT_API const float *crit_batch_logits(const crit_batch *batch, uint32_t seq);
CRIT_API uint32_t crit_batch_n_past(const crit_batch *batch, uint32_t seq);
/* Bytes of keys and values in use: the session's, and what the sequences added. */
CRIT_API size_t crit_batch_kv_bytes(const crit_batch *batch);
/* Of the steps so far: wall time in all, and of their attention.  ms, attend_ms may be NULL. */
CRIT_API void crit_batch_times(const crit_batch *batch, double *ms, double *attend_ms);

#ifdef __cplusplus
}
#endif
#endif
