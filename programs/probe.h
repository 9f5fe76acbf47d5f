/* SPDX-License-Identifier: MIT */
/* The tiles of a layer view: which blocks its queries see, which of them a plan may choose, where exact queries are
 * taken. */
#ifndef PROG_PROBE_H
#define PROG_PROBE_H

#include "critiprefill/inspect.h"

typedef struct view_tile {
    uint32_t index;                /* within the view */
    uint32_t pos, n;               /* its queries */
    uint32_t n_blk;                /* blocks its last query sees */
    uint32_t first_free, end_free; /* blocks between the sink and the 128 tokens before the tile; empty: both 0 */
} view_tile;

uint32_t view_n_tile(const crit_layer_view *view);
view_tile view_tile_at(const crit_layer_view *view, uint32_t index);
/* n positions (all, if the tile has fewer), one in each n-th of the tile, at a place that depends on the seed and the
 * positions only; ascending.  pos [n] out; returns how many. */
uint32_t probe_positions(const view_tile *t, uint32_t n, uint64_t seed, uint32_t *pos);
/* Marks the blocks of the plan's row: kept [t->n_blk] out.  Returns how many of them are free ones. */
uint32_t probe_kept(const crit_layer_view *view, const view_tile *t, uint32_t head, unsigned char *kept);
/* (query, key) pairs of the tile: all causal ones, and those in one block. */
double probe_pairs(const view_tile *t);
double probe_block_pairs(const view_tile *t, uint32_t blk);

#endif
