/* SPDX-License-Identifier: MIT */
/* One prompt read by dense attention and by others at once, chunk by chunk, so that dense attention is run once for
 * all of them and no row of logits has to be stored for longer than the others lag behind.
 *
 * A sparse session holds back what the prompt's end decides (crit_prefill_params.more), so dense rows wait in a ring
 * that is as long as that can get; a row that is gone when it is needed is an error, never a wrong figure. */
#ifndef PROG_LOCKSTEP_H
#define PROG_LOCKSTEP_H

#include "evalout.h"
#include "klfigures.h"
#include "variants.h"

typedef struct lockstep_side {
    const variant *v;
    klfigures f;      /* freed by the caller */
    crit_stats stats; /* of its prefill */
} lockstep_side;

typedef struct lockstep {
    const options *o;
    const crit_model *model;
    uint32_t n_vocab;
    const int32_t *ids; /* [n_tok] */
    uint32_t n_tok;
    lockstep_side *side; /* [n_side]: v set, f zero */
    size_t n_side;
    crit_stats dense; /* out */
    evalout *out;     /* told of the progress: n_tok * (1 + n_side) tokens of work; NULL = nobody */
} lockstep;

/* Fills f and stats of every side, and dense.  EXIT_OK or the exit code after a line on stderr. */
int lockstep_run(lockstep *l);

#endif
