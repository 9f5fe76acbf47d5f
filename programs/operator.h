/* SPDX-License-Identifier: MIT */
/* One layer's plan against exact attention on the same queries and keys, summed up by head. */
#ifndef PROG_OPERATOR_H
#define PROG_OPERATOR_H

#include <stdbool.h>

#include "critiprefill/inspect.h"
#include "exact.h"

/* One tile that counts. */
typedef struct tile_figures {
    uint32_t pos;
    double density, mass, oracle;
    double error; /* of the row whose output was computed in double */
} tile_figures;

typedef struct head_sums {
    /* over exact queries in the tiles that count */
    double *mass; /* [n] share of the dense weights that the plan kept */
    size_t n, cap;
    double oracle;                          /* sum of what the best blocks of the same number would have kept */
    uint64_t n_peak, n_kept, n_kept_oracle; /* strongest free key weighs > 0.2; its block was kept; by the oracle */
    double planned, causal;                 /* pairs in these tiles */
    /* over the rows whose output was computed in double */
    double error, error_max; /* relative, in the tiles that count */
    uint64_t n_error;
    double identity, of_bound; /* largest of all rows: exact.h */
    /* over all tiles */
    double all_planned, all_causal;
    /* with operator_params.tiles */
    tile_figures *tile; /* [n_tile] */
    size_t n_tile, tile_cap;
} head_sums;

typedef struct operator_params {
    uint32_t n_probe; /* exact queries a tile that the plan is judged by; the best one is chosen by all of it */
    bool tiles;       /* keep the figures of each */
    uint64_t seed;
    unsigned n_threads;
    bool dense; /* every tile with free blocks counts; else those in which some head drops a block */
    exact_rounding rounding;
    float skip;
} operator_params;

typedef struct operator_work operator_work; /* scratch memory */

int operator_open(operator_work **w, const operator_params *p);
/* Adds one view to sums [n_head] of its layer.  EXIT_OK or the exit code after a line on stderr. */
int operator_add(operator_work *w, const crit_layer_view *view, head_sums *sums);
void operator_close(operator_work **w); /* accepts NULL */
void head_sums_free(head_sums *s);

#endif
