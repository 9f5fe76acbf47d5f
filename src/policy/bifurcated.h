/* SPDX-License-Identifier: MIT */
/* Sequences that share what they have in common: segments of a tree, counted references.
 *
 * A segment is a run of tokens in the KV stores of all layers; a sequence is the path from the root to its leaf.  Only
 * a leaf that one sequence alone refers to grows. */
#ifndef CRIT_BIFURCATED_H
#define CRIT_BIFURCATED_H

#include "policy/decode_policy.h"

typedef struct crit_segment {
    struct crit_segment *parent; /* NULL = the root */
    uint32_t id;                 /* ascending in the order of creation */
    uint32_t refs;               /* sequences whose leaf it is, and children */
    uint32_t pos0, n_tok;        /* positions [pos0, pos0 + n_tok) */
    uint32_t n_layer;
    crit_kv *kv; /* [n_layer], place 0 is position pos0 */
    bool own;    /* kv is the segment's */
} crit_segment;

/* Stores for up to n_tok_cap tokens behind parent (NULL: from position 0), with one reference; takes one to parent. */
crit_status crit_segment_open(crit_segment **out, crit_segment *parent, uint32_t id, const crit_decode_env *env,
                              uint32_t n_tok_cap, crit_error *err);
/* Likewise over the n_tok tokens of stores that stay the caller's. */
crit_status crit_segment_borrow(crit_segment **out, crit_kv *kv, uint32_t n_layer, uint32_t n_tok, uint32_t id,
                                crit_error *err);
/* Gives a reference back; with the last one the segment goes, and its reference to its parent. */
void crit_segment_release(crit_segment *s);

/* Order in which sequences (by their leaves) must stand as rows, so that those of a segment stand together:
 * order [n] out, ties by place. */
void crit_segment_order(crit_segment *const *leaf, uint32_t n, uint32_t *order);
/* Pieces of a layer's attention, for leaves in that order: each segment is read once for all its sequences, or with
 * shared false once for each.  piece NULL: only how many there are.  Query rows of KV head h: sequence r has rows
 * [r * n_group, (r + 1) * n_group). */
uint32_t crit_bifurcated_pieces(const crit_decode_env *env, crit_segment *const *leaf, uint32_t n, uint32_t layer,
                                bool shared, crit_piece *piece);

#endif
