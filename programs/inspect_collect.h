/* SPDX-License-Identifier: MIT */
/* What inspect draws, gathered from the layer views of one prefill: how dense each head's plan is, for chosen heads
 * the grid of tiles by blocks (pooled to a size that can be drawn), and what the last position looked at. */
#ifndef PROG_INSPECT_COLLECT_H
#define PROG_INSPECT_COLLECT_H

#include <stdbool.h>

#include "critiprefill/inspect.h"

enum { COLLECT_TOP = 512 }; /* tokens kept of a list of weights */

typedef struct collect_params {
    const uint32_t *layers, *heads; /* chosen ones; n 0 = all */
    size_t n_layers, n_heads;
    uint32_t n_probe;
    uint64_t seed;
    size_t side;  /* most rows or columns of a grid */
    size_t cells; /* most cells of all grids together, causal ones counted; 0 = no grids wanted */
    bool tokens;  /* the last position's weights are wanted */
} collect_params;

/* One (row of tiles, column of blocks). */
typedef struct grid_cell {
    float weight; /* dense attention's, of the column's keys, mean over the row's exact queries; rows sum to 1 */
    float missed; /* the part of it that the plan left out */
    float kept;   /* share of the (tile, block) pairs that the plan has, of those some query sees; NaN = none */
} grid_cell;

typedef struct key_weight {
    uint32_t pos;
    float weight;
} key_weight;

typedef struct key_list { /* the heaviest, by position */
    key_weight at[COLLECT_TOP];
    size_t n;
} key_list;

typedef struct collected {
    uint32_t n_tok, n_tile, n_blk, n_layer, n_head; /* of the prompt and the model */
    /* plans, of every layer and head */
    double *planned, *causal; /* [n_layer][n_head] pairs */
    double density;           /* of all, as the run tells it */
    /* chosen heads: layers and heads ascending */
    uint32_t *layer, *head;
    uint32_t n_sel_layer, n_sel_head;
    double *mass; /* [sel] share of the dense weights kept, mean over exact queries */
    uint32_t n_row, n_col, tile_pool, blk_pool;
    grid_cell *cell; /* [n_sel_layer][n_sel_head][n_row][n_col] */
    /* weights of the last position */
    key_list *top;       /* [sel] */
    key_list *top_layer; /* [n_sel_layer] mean over all heads of the layer */
    double *all;         /* [n_tok] mean over all layers and heads */

    collect_params p;             /* the rest is the collection's own */
    uint32_t *layer_at, *head_at; /* index among the chosen, or UINT32_MAX */
    double *n_query;              /* [sel] */
    int rc;
} collected;

/* EXIT_OK or the exit code after a line on stderr.  The params' arrays must stay. */
int collect_open(collected *c, const collect_params *p, uint32_t n_layer, uint32_t n_head, uint32_t n_tok);
int collect_layer(void *c, const crit_layer_view *view); /* a crit_layer_fn; c->rc holds the exit code */
void collect_end(collected *c);                          /* after the last view: sums become means */
void collect_free(collected *c);

double collect_density(const collected *c, uint32_t layer, uint32_t head);
const grid_cell *collect_grid(const collected *c, uint32_t layer_index, uint32_t head_index);
/* Columns that some query of the row sees. */
uint32_t collect_columns(const collected *c, uint32_t row);

#endif
