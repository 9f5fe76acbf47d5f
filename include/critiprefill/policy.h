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
    CRIT_POLICY_DECODE = 0 /* decode: attention of a token behind the prompt */
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
    const crit_policy_option *options;
    size_t n_option;
    const char *combines; /* what it may be combined with, in words */
} crit_policy_info;

/* All policies in the order of a listing; strings are static.  info->struct_size must be set. */
CRIT_API size_t crit_policy_count(void);
CRIT_API crit_status crit_policy_get(size_t i, crit_policy_info *info);
/* Whether text is one of that place, as crit_session_open would judge it. */
CRIT_API crit_status crit_policy_check(crit_policy_place place, const char *text, crit_error *err);

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
                                       attention would have read */
    double model;                   /* moved / full that the policy's traffic model expects, mean over the steps */
    double mass;                    /* soft-max weight on the keys that were read, mean over steps, layers and heads;
                                       NaN unless watched */
} crit_decode_stats;
CRIT_API crit_status crit_session_decode_stats(crit_session *session, bool reset, crit_decode_stats *out);
/* With on, every step also computes what the keys it read weigh for exact attention: slow, for instruments. */
CRIT_API crit_status crit_session_watch_decode(crit_session *session, bool on, crit_error *err);

#ifdef __cplusplus
}
#endif
#endif
