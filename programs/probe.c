/* SPDX-License-Identifier: MIT */
/* See probe.h. */
#include "probe.h"

#include <string.h>

enum {
    BLK = CRIT_VIEW_BLK_LEN,
    TILE = CRIT_VIEW_TILE_LEN,
    SINK_BLK = CRIT_VIEW_SINK_TOK / BLK,
    LOCAL = CRIT_VIEW_LOCAL_TOK
};

uint32_t view_n_tile(const crit_layer_view *view) {
    return view->n_tok ? (view->pos0 + view->n_tok - 1) / TILE - view->pos0 / TILE + 1 : 0;
}

view_tile view_tile_at(const crit_layer_view *view, uint32_t index) {
    const uint32_t grid = (view->pos0 / TILE + index) * TILE, view_end = view->pos0 + view->n_tok;
    const uint32_t end = view_end < grid + TILE ? view_end : grid + TILE;
    view_tile t = {.index = index, .pos = grid < view->pos0 ? view->pos0 : grid};
    t.n = end - t.pos;
    t.n_blk = (end - 1) / BLK + 1;
    if (grid / BLK > SINK_BLK + LOCAL / BLK) {
        t.first_free = SINK_BLK;
        t.end_free = (grid - LOCAL) / BLK;
    }
    return t;
}

/* Mixes 64 bits (splitmix64's finaliser). */
static uint64_t mixed(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

uint32_t probe_positions(const view_tile *t, uint32_t n, uint64_t seed, uint32_t *pos) {
    if (n > t->n) n = t->n;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t from = (uint32_t)((uint64_t)t->n * i / n), to = (uint32_t)((uint64_t)t->n * (i + 1) / n);
        pos[i] = t->pos + from + (uint32_t)(mixed(mixed(seed) ^ (t->pos + (uint64_t)from)) % (to - from));
    }
    return n;
}

uint32_t probe_kept(const crit_layer_view *view, const view_tile *t, uint32_t head, unsigned char *kept) {
    const uint32_t *ids;
    const size_t n = crit_plan_row(view->plan, head, t->index, &ids);
    uint32_t n_free = 0;
    memset(kept, 0, t->n_blk);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= t->n_blk) continue; /* behind the tile's last query */
        kept[ids[i]] = 1;
        n_free += ids[i] >= t->first_free && ids[i] < t->end_free;
    }
    return n_free;
}

double probe_pairs(const view_tile *t) {
    return (double)t->n * ((double)t->pos + ((double)t->n + 1) / 2);
}

double probe_block_pairs(const view_tile *t, uint32_t blk) {
    const uint32_t from = blk * BLK, end = t->pos + t->n;
    if (from + BLK <= t->pos) return (double)BLK * t->n;
    double pairs = 0;
    for (uint32_t i = t->pos > from ? t->pos : from; i < end; i++) pairs += i - from + 1 < BLK ? i - from + 1 : BLK;
    return pairs;
}
