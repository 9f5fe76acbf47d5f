/* SPDX-License-Identifier: MIT */
/* The inside of a crit_session. */
#ifndef CRIT_LIB_SESSION_H
#define CRIT_LIB_SESSION_H

#include "model/model.h"
#include "text/vocab.h"

/* Code, libc, stacks and allocator slack of a process that runs one session (measured: doc/KERNELS.md). */
#define CRIT_PROCESS_BYTES ((size_t)6 << 20)

struct crit_session {
    const crit_model *model;
    crit_session_params params;
    crit_pool *pool;
    crit_kv *kv;       /* [n_layer] */
    crit_calib *calib; /* [n_layer] */
    crit_forward fwd;
    bool fwd_open;

    uint32_t n_done;  /* tokens in the KV store */
    int32_t *pending; /* tokens behind them, not read yet */
    size_t n_pending, pending_cap;
    bool batch_open; /* its timeline is lent out */
    bool in_turn;    /* a prompt that goes on in the next call */
    uint32_t turn_start;
    uint64_t turn_ns;
    crit_pool_count count0; /* of the pool when the turn began */
    bool has_logits;
    crit_stats stats; /* of the last complete prompt; struct_size 0 before */
};

/* The policy of its prompt keeps its own cache, and the session no keys. */
static inline bool crit_session_streams(const crit_session *s) {
    return s->fwd.prefill && s->fwd.prefill->stream;
}

#endif
