/* SPDX-License-Identifier: MIT */
/* Records of a suite, found by their place in it, and what they come to. */
#ifndef PROG_SUITE_FIGURES_H
#define PROG_SUITE_FIGURES_H

#include "evalout.h"
#include "suite_config.h"

#define SUITE_ALL SIZE_MAX

/* A task at one length and depth, or (SUITE_ALL) at all of them. */
typedef struct suite_at {
    size_t task, ctx, depth; /* places in their lists */
} suite_at;

typedef struct suite_figures {
    size_t n;
    double score; /* mean of 0 to 1; of perplexity tasks the perplexity */
    double diff, lo,
        hi; /* from full attention on the same samples, with its interval; of perplexities their ratio - 1 */
    double asked, kept;         /* what full attention found; of that, what was found here too */
    double piece;               /* of passkeys: longest piece found, share of the key */
    double top1;                /* perplexity: share of tokens that were the likeliest */
    double density;             /* of the prompt's attention */
    double ttft_ms, ms_per_tok; /* medians: other work on a machine comes in bursts */
    double moved;               /* bytes of keys and values that decoding moved, share of full attention's */
    double peak_kv_bytes;       /* the largest */
    double kept_bytes;          /* the same as a share of full attention's on the same samples, mean */
} suite_figures;

void suite_key(const suite *s, size_t i_policy, suite_at at, uint64_t number, buf *out);
/* NULL: not measured yet. */
const json_t *suite_find(const suite *s, const evalout *e, size_t i_policy, suite_at at, uint64_t number);
/* The next place within at, and its sample; false at the end.  Begins with *i = 0. */
bool suite_step(const suite *s, suite_at at, size_t *i, suite_at *one, uint64_t *number);
/* n 0: nothing is there, everything else is NaN.  EXIT_OK or the exit code after a line on stderr. */
int suite_figures_of(const suite *s, const evalout *e, size_t i_policy, suite_at at, suite_figures *out);
json_t *suite_figures_json(const suite *s, suite_at at, const suite_figures *f);

#endif
