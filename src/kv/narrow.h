/* SPDX-License-Identifier: MIT */
/* Keys without their least important channels: rows of dk values for the first positions of a layer's KV store.
 *
 * What is not in a row counts as 0.  Each KV head has its own channels, chosen once, when the first rows are put; later
 * rows follow them.  Row-major: block b of a head is at b * 32 * dk, which attend reads as narrow keys, and any run of
 * keys is what key_scores reads.  The full keys' pages can be given back, and be filled again from here, the dropped
 * channels with 0, for what reads full keys only. */
#ifndef CRIT_NARROW_H
#define CRIT_NARROW_H

#include "kv/kv.h"

/* The rows of all layers in one mapping, so that huge pages hold them; goes with its last reference. */
typedef struct crit_narrow_room {
    uint32_t refs, dk, row_cap; /* width of a row; rows that each head has room for */
    uint16_t *k;                /* [n_layer][n_kv_head][row_cap][dk], 64 bytes behind them are 0 */
    size_t map_bytes;
} crit_narrow_room;
void crit_narrow_room_drop(crit_narrow_room *room); /* accepts NULL */

typedef struct crit_narrow {
    uint32_t dk, n_row, row_cap; /* width of a row; rows put and room for them, each head */
    crit_narrow_room *room;
    uint16_t *k;     /* in it: [n_kv_head][row_cap][dk] */
    uint16_t *chan;  /* [n_kv_head][dk] ascending */
    bool whole;      /* the full keys stay beside: nothing is given back */
    uint32_t n_open; /* while open: what n_narrow of the store was */
    uint32_t n_kept; /* crit_narrow_undo goes back to it */
} crit_narrow;

/* Bytes of the rows of n_tok positions of n_layer layers. */
size_t crit_narrow_map_bytes(uint32_t n_layer, uint32_t n_kv_head, uint32_t dk, uint32_t n_tok);
/* Room for n_row rows of dk channels, rows that are there being kept; the first call decides dk and whole.  chan is to
 * be filled by the caller before rows are put.  *room: the newest one of the stores of n_layer layers, NULL at first;
 * a reference to it is the caller's. */
crit_status crit_narrow_reserve(crit_kv *kv, crit_narrow_room **room, uint32_t layer, uint32_t n_layer, uint32_t dk,
                                uint32_t n_row, bool whole, crit_error *err);
void crit_narrow_free(crit_kv *kv); /* full keys that were given back are lost */
/* Rows of positions [pos, pos + n) of a head from its full keys.  In parallel for different positions or heads. */
void crit_narrow_put(crit_kv *kv, uint32_t head, uint32_t pos, uint32_t n);
/* Full keys from rows, with 0.  Likewise. */
void crit_narrow_widen(crit_kv *kv, uint32_t head, uint32_t pos, uint32_t n);
/* Gives back the pages of the full keys of whole blocks in [pos, end), of all heads, and takes the dropped channels
 * out of the blocks' statistics.  Nothing where whole. */
void crit_narrow_release(crit_kv *kv, uint32_t pos, uint32_t end);
/* Between the two, everything is in the store at full width, for readers that know nothing of narrow keys.  Nothing
 * to do without narrow keys; twice is once. */
void crit_narrow_open(crit_kv *kv, crit_pool *pool);
void crit_narrow_shut(crit_kv *kv);
/* Moves the keys of positions [0, n) here, n a multiple of CRIT_BLK_LEN, shut afterwards; channels are chosen, and
 * there is room.  What stood before position `first` and was not narrow yet keeps its full keys beside until
 * crit_narrow_settle, or is as before after crit_narrow_undo, which the caller follows by cutting the store to `first`
 * or less.  false when the pool was stopped on the way: nothing has moved. */
bool crit_narrow_move(crit_kv *kv, crit_pool *pool, uint32_t n, uint32_t first);
void crit_narrow_settle(crit_kv *kv);
void crit_narrow_undo(crit_kv *kv);
/* The store is to be cut within its narrow part: the block that n_tok falls into becomes full again. */
void crit_narrow_cut(crit_kv *kv, uint32_t n_tok);
/* Bytes of the rows; of the full keys that are not there because of them. */
size_t crit_narrow_bytes(const crit_kv *kv);
size_t crit_narrow_freed_bytes(const crit_kv *kv);

/* Rows of q [n_row][q_stride] without what a head's keys do not have; out [n_row][dk]. */
void crit_narrow_query(const crit_kv *kv, uint32_t head, const float *q, size_t q_stride, uint32_t n_row, float *out);
static inline const uint16_t *crit_narrow_k(const crit_kv *kv, uint32_t head) {
    return kv->narrow->k + (size_t)head * kv->narrow->row_cap * kv->narrow->dk;
}
/* A key at full width: in the store, or put together in room [d]. */
const uint16_t *crit_kv_key(const crit_kv *kv, uint32_t head, uint32_t pos, uint16_t *room);

#endif
