/* SPDX-License-Identifier: MIT */
/* See narrow.h. */
#include "kv/narrow.h"

#include <string.h>

enum { SLACK = 64 }; /* bytes that attend may read behind the last row */

size_t crit_narrow_map_bytes(uint32_t n_layer, uint32_t n_kv_head, uint32_t dk, uint32_t n_tok) {
    return (size_t)n_layer * n_kv_head * n_tok * dk * sizeof(uint16_t) + SLACK;
}

void crit_narrow_room_drop(crit_narrow_room *room) {
    if (!room || --room->refs) return;
    crit_unmap(room->k, room->map_bytes);
    crit_free(room);
}

static crit_narrow_room *room_open(size_t bytes, uint32_t dk, uint32_t row_cap) {
    crit_narrow_room *room = crit_calloc(1, sizeof *room);
    uint16_t *k = crit_map(bytes);
    if (room && k) {
        *room = (crit_narrow_room){.refs = 1, .dk = dk, .row_cap = row_cap, .k = k, .map_bytes = bytes};
        return room;
    }
    crit_free(room);
    crit_unmap(k, bytes);
    return NULL;
}

static uint16_t *channels(const crit_kv *kv, uint32_t head) {
    return kv->narrow->chan + (size_t)head * kv->narrow->dk;
}
static uint16_t *full_keys(crit_kv *kv, uint32_t head, uint32_t pos) {
    return kv->k + ((size_t)head * kv->n_blk_cap * CRIT_BLK_LEN + pos) * kv->d;
}

static crit_status begin(crit_kv *kv, uint32_t dk, bool whole, crit_error *err) {
    crit_narrow *w = crit_calloc(1, sizeof *w);
    if (w) w->chan = crit_calloc((size_t)kv->n_kv_head * dk, sizeof *w->chan);
    if (!w || !w->chan) {
        crit_free(w);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for keys without their dropped channels");
    }
    w->dk = dk;
    w->whole = whole;
    kv->narrow = w;
    return CRIT_OK;
}

crit_status crit_narrow_reserve(crit_kv *kv, crit_narrow_room **room, uint32_t layer, uint32_t n_layer, uint32_t dk,
                                uint32_t n_row, bool whole, crit_error *err) {
    crit_status st = kv->narrow ? CRIT_OK : begin(kv, dk, whole, err);
    crit_narrow *w = kv->narrow;
    if (st || n_row <= w->row_cap) return st;
    if (!*room || (*room)->row_cap < n_row) {
        crit_narrow_room *next = room_open(crit_narrow_map_bytes(n_layer, kv->n_kv_head, dk, n_row), dk, n_row);
        if (!next) return crit_fail(err, CRIT_E_NOMEM, "out of memory for keys without their dropped channels");
        crit_narrow_room_drop(*room);
        *room = next;
    }
    size_t cap = (*room)->row_cap;
    uint16_t *k = (*room)->k + (size_t)layer * kv->n_kv_head * cap * dk;
    for (size_t h = 0; h < kv->n_kv_head && w->k; h++)
        memcpy(k + h * cap * dk, w->k + h * w->row_cap * dk, (size_t)w->n_row * dk * sizeof *k);
    crit_narrow_room_drop(w->room);
    (*room)->refs++;
    w->room = *room;
    w->k = k;
    w->row_cap = (uint32_t)cap;
    return CRIT_OK;
}

void crit_narrow_free(crit_kv *kv) {
    if (!kv->narrow) return;
    crit_narrow_room_drop(kv->narrow->room);
    crit_free(kv->narrow->chan);
    crit_free(kv->narrow);
    kv->narrow = NULL;
    kv->n_narrow = 0;
}

void crit_narrow_put(crit_kv *kv, uint32_t head, uint32_t pos, uint32_t n) {
    const crit_narrow *w = kv->narrow;
    const uint16_t *chan = channels(kv, head), *from = full_keys(kv, head, pos);
    uint16_t *to = w->k + ((size_t)head * w->row_cap + pos) * w->dk;
    for (uint32_t t = 0; t < n; t++, from += kv->d, to += w->dk)
        for (uint32_t i = 0; i < w->dk; i++) to[i] = from[chan[i]];
}

void crit_narrow_widen(crit_kv *kv, uint32_t head, uint32_t pos, uint32_t n) {
    const crit_narrow *w = kv->narrow;
    const uint16_t *chan = channels(kv, head), *from = crit_narrow_k(kv, head) + (size_t)pos * w->dk;
    uint16_t *to = full_keys(kv, head, pos);
    memset(to, 0, (size_t)n * kv->d * sizeof *to);
    for (uint32_t t = 0; t < n; t++, from += w->dk, to += kv->d)
        for (uint32_t i = 0; i < w->dk; i++) to[chan[i]] = from[i];
}

/* What attention and selection read of the dropped channels is 0. */
static void quiet_stats(crit_kv *kv, uint32_t head, size_t blk, const bool *has) {
    size_t at = ((size_t)head * kv->n_blk_cap + blk) * kv->d;
    for (size_t i = 0; i < kv->d; i++)
        if (!has[i]) kv->kmax[at + i] = kv->kmin[at + i] = kv->ksum[at + i] = 0;
}

void crit_narrow_release(crit_kv *kv, uint32_t pos, uint32_t end) {
    if (kv->narrow->whole) return;
    uint32_t blk0 = (pos + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN, blk1 = end / CRIT_BLK_LEN;
    for (uint32_t h = 0; h < kv->n_kv_head && blk0 < blk1; h++) {
        bool has[CRIT_D_HEAD_MAX] = {false};
        for (uint32_t i = 0; i < kv->narrow->dk; i++) has[channels(kv, h)[i]] = true;
        for (uint32_t b = blk0; b < blk1; b++) quiet_stats(kv, h, b, has);
        crit_map_release(full_keys(kv, h, blk0 * CRIT_BLK_LEN),
                         (size_t)(blk1 - blk0) * CRIT_BLK_LEN * kv->d * sizeof *kv->k);
    }
}

/* ---- all heads ---- */

enum { ITEM_KEYS = 1024 };
typedef struct range_arg {
    crit_kv *kv;
    void (*fn)(crit_kv *kv, uint32_t head, uint32_t pos, uint32_t n);
    uint32_t from, to;
} range_arg;

static void range_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const range_arg *a = arg;
    uint32_t pos = a->from + (uint32_t)(item / a->kv->n_kv_head) * ITEM_KEYS;
    a->fn(a->kv, (uint32_t)(item % a->kv->n_kv_head), pos, a->to - pos < ITEM_KEYS ? a->to - pos : ITEM_KEYS);
}

static void each_range(range_arg a, crit_pool *pool) {
    if (a.from >= a.to) return;
    crit_pool_run(pool, (size_t)((a.to - a.from + ITEM_KEYS - 1) / ITEM_KEYS) * a.kv->n_kv_head, range_item, &a);
}

void crit_narrow_open(crit_kv *kv, crit_pool *pool) {
    if (!kv->n_narrow) return;
    if (!kv->narrow->whole) each_range((range_arg){kv, crit_narrow_widen, 0, kv->n_narrow}, pool);
    kv->narrow->n_open = kv->n_narrow;
    kv->n_narrow = 0;
}

void crit_narrow_shut(crit_kv *kv) {
    if (!kv->narrow || !kv->narrow->n_open) return;
    kv->n_narrow = kv->narrow->n_open;
    kv->narrow->n_open = 0;
    crit_narrow_release(kv, 0, kv->n_narrow);
}

bool crit_narrow_move(crit_kv *kv, crit_pool *pool, uint32_t n, uint32_t first) {
    crit_narrow *w = kv->narrow;
    each_range((range_arg){kv, crit_narrow_put, w->n_row, n}, pool);
    if (crit_pool_stopped(pool)) return false;
    w->n_kept = w->n_open ? w->n_open : kv->n_narrow;
    w->n_open = 0;
    w->n_row = kv->n_narrow = n;
    crit_narrow_release(kv, 0, w->n_kept);
    crit_narrow_release(kv, first > w->n_kept ? first : w->n_kept, n);
    return true;
}

void crit_narrow_settle(crit_kv *kv) {
    if (!kv->narrow) return;
    if (kv->narrow->n_kept < kv->n_narrow) crit_narrow_release(kv, kv->narrow->n_kept, kv->n_narrow);
    kv->narrow->n_kept = kv->n_narrow;
}

void crit_narrow_undo(crit_kv *kv) {
    if (!kv->narrow) return;
    crit_narrow_shut(kv);
    if (kv->n_narrow > kv->narrow->n_kept) kv->n_narrow = kv->narrow->n_row = kv->narrow->n_kept;
}

void crit_narrow_cut(crit_kv *kv, uint32_t n_tok) {
    uint32_t n = n_tok / CRIT_BLK_LEN * CRIT_BLK_LEN;
    for (uint32_t h = 0; h < kv->n_kv_head && !kv->narrow->whole; h++) crit_narrow_widen(kv, h, n, n_tok - n);
    kv->n_narrow = kv->narrow->n_row = n;
    if (kv->narrow->n_kept > n) kv->narrow->n_kept = n;
}

size_t crit_narrow_bytes(const crit_kv *kv) {
    return kv->narrow ? (size_t)kv->n_kv_head * kv->narrow->n_row * kv->narrow->dk * sizeof(uint16_t) : 0;
}

size_t crit_narrow_freed_bytes(const crit_kv *kv) {
    if (!kv->narrow || kv->narrow->whole) return 0;
    return (size_t)kv->n_kv_head * kv->n_narrow * kv->d * sizeof(uint16_t);
}

void crit_narrow_query(const crit_kv *kv, uint32_t head, const float *q, size_t q_stride, uint32_t n_row, float *out) {
    const uint16_t *chan = channels(kv, head);
    uint32_t dk = kv->narrow->dk;
    for (uint32_t r = 0; r < n_row; r++)
        for (uint32_t i = 0; i < dk; i++) out[(size_t)r * dk + i] = q[r * q_stride + chan[i]];
}

const uint16_t *crit_kv_key(const crit_kv *kv, uint32_t head, uint32_t pos, uint16_t *room) {
    if (pos >= kv->n_narrow) return crit_kv_k(kv, head) + (size_t)pos * kv->d;
    const uint16_t *chan = channels(kv, head), *row = crit_narrow_k(kv, head) + (size_t)pos * kv->narrow->dk;
    memset(room, 0, kv->d * sizeof *room);
    for (uint32_t i = 0; i < kv->narrow->dk; i++) room[chan[i]] = row[i];
    return room;
}
