/* SPDX-License-Identifier: MIT */
/* One attention held against a base, row by row: the sums, and the record they end as.  The base is our own dense
 * attention or a file of another engine's log-probabilities. */
#ifndef PROG_KLFIGURES_H
#define PROG_KLFIGURES_H

#include <jansson.h>
#include <stdbool.h>

#include "critiprefill/critiprefill.h"

/* Positions between these are those that are read sparsely by every rule and preset: fixed, so that the figures of
 * different settings compare. */
enum { KL_DENSE_FIRST = 1024, KL_DENSE_LAST = 512 };

typedef struct klfigures {
    uint32_t n_tok, n_last; /* of one prompt or window; positions at its end that are told apart */
    double *kl;             /* [cap] in the order they came */
    size_t cap, n, n_at_end, n_sparse, n_nll, n_top1, n_top1_last;
    double kl_last, kl_sparse, nll, nll_base; /* sums */
} klfigures;

/* What is known of one position's two rows. */
typedef struct klposition {
    uint32_t pos;
    double kl;
    bool top1;
    bool has_next; /* the text goes on: */
    double nll, nll_base;
} klposition;

bool klfigures_init(klfigures *f, uint32_t n_tok, uint32_t n_last, size_t cap); /* false: out of memory */
void klfigures_free(klfigures *f);
void klfigures_add(klfigures *f, const klposition *p); /* at most cap times */
/* The record: every key of `eval kl`; null what was not measured.  stats of the attention's sessions summed up, of
 * dense attention's (NULL: none was run).  Sorts f->kl. */
json_t *klfigures_json(klfigures *f, const crit_stats *stats, const crit_stats *dense);

#endif
