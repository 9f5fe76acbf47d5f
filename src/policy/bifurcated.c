/* SPDX-License-Identifier: MIT */
/* Bifurcated attention (arXiv 2403.08845), exact: the keys that sequences share are read once for all of them.
 *
 * The query rows of a KV head are those of all sequences; a shared segment is a piece for all rows that descend from
 * it, a private tail one for its own, and the partial results merge by log-sum-exp.  The paper has one prefix; here a
 * prefix may have prefixes. */
#include "policy/bifurcated.h"

#include <stdlib.h>
#include <string.h>

crit_status crit_segment_open(crit_segment **out, crit_segment *parent, uint32_t id, const crit_decode_env *env,
                              uint32_t n_tok_cap, crit_error *err) {
    crit_segment *s = crit_calloc(1, sizeof *s);
    crit_status st = CRIT_OK;
    *out = NULL;
    if (!s || !(s->kv = crit_calloc(env->n_layer, sizeof *s->kv))) {
        crit_free(s);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for a sequence");
    }
    s->refs = 1;
    s->id = id;
    s->n_layer = env->n_layer;
    s->own = true;
    s->pos0 = parent ? parent->pos0 + parent->n_tok : 0;
    for (uint32_t i = 0; i < s->n_layer && !st; i++)
        st = crit_kv_init(&s->kv[i], env->kernels, env->n_kv_head, env->d, n_tok_cap, err);
    if (st) {
        crit_segment_release(s);
        return st;
    }
    s->parent = parent;
    if (parent) parent->refs++;
    *out = s;
    return CRIT_OK;
}

crit_status crit_segment_borrow(crit_segment **out, crit_kv *kv, uint32_t n_layer, uint32_t n_tok, uint32_t id,
                                crit_error *err) {
    *out = crit_calloc(1, sizeof **out);
    if (!*out) return crit_fail(err, CRIT_E_NOMEM, "out of memory for a sequence");
    **out = (crit_segment){.id = id, .refs = 1, .n_tok = n_tok, .n_layer = n_layer, .kv = kv};
    return CRIT_OK;
}

void crit_segment_release(crit_segment *s) {
    while (s && --s->refs == 0) {
        crit_segment *parent = s->parent;
        for (uint32_t i = 0; s->own && i < s->n_layer; i++) crit_kv_clear(&s->kv[i]);
        if (s->own) crit_free(s->kv);
        crit_free(s);
        s = parent;
    }
}

/* ---- order ---- */

static uint32_t depth_of(const crit_segment *s) {
    uint32_t n = 0;
    for (; s; s = s->parent) n++;
    return n;
}

/* The segment of the path at a depth; NULL below the leaf. */
static const crit_segment *at_depth(const crit_segment *leaf, uint32_t depth) {
    uint32_t n = depth_of(leaf);
    if (depth >= n) return NULL;
    while (--n > depth) leaf = leaf->parent;
    return leaf;
}

typedef struct by_path {
    const crit_segment *leaf;
    uint32_t place;
} by_path;

static int compare(const void *x, const void *y) {
    const by_path *a = x, *b = y;
    for (uint32_t i = 0; a->leaf != b->leaf; i++) {
        const crit_segment *s = at_depth(a->leaf, i), *t = at_depth(b->leaf, i);
        if (!s || !t) return s ? 1 : -1;
        if (s != t) return s->id < t->id ? -1 : 1;
    }
    return a->place < b->place ? -1 : 1;
}

void crit_segment_order(crit_segment *const *leaf, uint32_t n, uint32_t *order) {
    by_path one[64], *p = n <= 64 ? one : crit_malloc(n, sizeof *p);
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    if (!p) return; /* unsorted rows share less, no more */
    for (uint32_t i = 0; i < n; i++) p[i] = (by_path){leaf[i], i};
    qsort(p, n, sizeof *p, compare);
    for (uint32_t i = 0; i < n; i++) order[i] = p[i].place;
    if (p != one) crit_free(p);
}

/* ---- pieces ---- */

static uint32_t segment_pieces(const crit_decode_env *e, const crit_segment *s, uint32_t layer, uint32_t row0,
                               uint32_t n_row, crit_piece *piece) {
    const crit_kv *kv = &s->kv[layer];
    uint32_t n_blk = (s->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    if (!piece) return crit_pieces_of(n_blk);
    return crit_pieces_cut_kv(piece, kv, e->all_blk, n_blk, s->n_tok, row0 * e->n_group, n_row * e->n_group);
}

uint32_t crit_bifurcated_pieces(const crit_decode_env *e, crit_segment *const *leaf, uint32_t n, uint32_t layer,
                                bool shared, crit_piece *piece) {
    uint32_t n_piece = 0, deepest = 0;
    for (uint32_t r = 0; r < n; r++) deepest = depth_of(leaf[r]) > deepest ? depth_of(leaf[r]) : deepest;
    for (uint32_t depth = 0; depth < deepest; depth++)
        for (uint32_t r = 0; r < n;) {
            const crit_segment *s = at_depth(leaf[r], depth);
            uint32_t r0 = r++;
            while (shared && s && r < n && at_depth(leaf[r], depth) == s) r++;
            if (s && s->n_tok) n_piece += segment_pieces(e, s, layer, r0, r - r0, piece ? piece + n_piece : NULL);
        }
    return n_piece;
}

const crit_policy crit_policy_bifurcated = {
    .name = "bifurcated",
    .summary = "several answers to one prompt, which is kept and read once for all of them",
    .source = "Bifurcated Attention, arXiv 2403.08845",
    .combines = "any prefill, any store; decodes with full attention",
    .place = CRIT_POLICY_BATCH,
    .exact = true,
};
