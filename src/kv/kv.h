/* SPDX-License-Identifier: MIT */
/* The packed KV store of one layer: f16 blocks of 32 keys per KV head, with statistics that grow with them.
 *
 * Keys of the first positions may have been moved to a narrower store (narrow.h).
 *
 * Owns the memory and the length.  Knows nothing of queries or selection.  Writers hand in disjoint (head, block)
 * ranges, so a chunk can be packed in parallel; the length moves once, by crit_kv_advance, when all of it is there. */
#ifndef CRIT_KV_H
#define CRIT_KV_H

#include "critiprefill/attention.h"

#include "core/core.h"
#include "kernels/kernels.h"

struct crit_kv {
    const crit_kernels *kernels;
    uint32_t n_kv_head, d;
    uint32_t n_blk_cap;        /* blocks allocated per head */
    uint32_t n_tok;            /* keys appended, the same for all heads */
    uint16_t *k, *v;           /* [n_kv_head][n_blk_cap][CRIT_BLK_LEN][d] f16 */
    float *kmax, *kmin, *ksum; /* [n_kv_head][n_blk_cap][d] f32, over the keys of the block so far */
    void *map;
    size_t map_bytes;
    struct crit_narrow *narrow; /* NULL = all keys are in k, at full width */
    uint32_t n_narrow;          /* keys of positions [0, n_narrow), a multiple of CRIT_BLK_LEN, are read from there */
};

/* Bytes a store of that shape maps; false when it overflows. */
bool crit_kv_map_bytes(uint32_t n_kv_head, uint32_t d, uint32_t n_tok_cap, size_t *bytes);

crit_status crit_kv_init(crit_kv *kv, const crit_kernels *kernels, uint32_t n_kv_head, uint32_t d, uint32_t n_tok_cap,
                         crit_error *err);
void crit_kv_clear(crit_kv *kv); /* frees; a zeroed struct is fine */

/* Packs keys and values of one head for positions [pos, pos + n), n_tok <= pos.  Safe in parallel for different heads
 * or different blocks.  k, v: row t of the head at k + t * stride. */
void crit_kv_put(crit_kv *kv, uint32_t head, uint32_t pos, uint32_t n, const float *k, size_t k_stride, const float *v,
                 size_t v_stride);
/* Keys and values of one head at positions [pos, pos + n) as f32, exactly what attention reads (dropped channels: 0);
 * k, v [n][d], either may be NULL.  Slow: for instruments. */
void crit_kv_get(const crit_kv *kv, uint32_t head, uint32_t pos, uint32_t n, float *k, float *v);
/* One head's first n keys and values as another store packed them, k and v [blocks of n][CRIT_BLK_LEN][d]; layout:
 * CRIT_KV_F16 or CRIT_KV_BF16T.  In the store's own layout the bytes may lie in place already (k = crit_kv_k, v =
 * crit_kv_v); another one is rounded to it.  Safe in parallel for different heads. */
void crit_kv_import(crit_kv *kv, uint32_t head, int layout, const uint16_t *k, const uint16_t *v, uint32_t n);
/* One key and value out of a packed block, at place `at` of it; k, v [d], either may be NULL. */
void crit_block_get(unsigned layout, const uint16_t *kblk, const uint16_t *vblk, size_t at, uint32_t d, float *k,
                    float *v);
void crit_kv_advance(crit_kv *kv, uint32_t n);
void crit_kv_cut(crit_kv *kv, uint32_t n_tok); /* n_tok <= kv->n_tok */
/* Bytes in use, statistics included. */
size_t crit_kv_used_bytes(const crit_kv *kv);

static inline const uint16_t *crit_kv_k(const crit_kv *kv, uint32_t head) {
    return kv->k + (size_t)head * kv->n_blk_cap * CRIT_BLK_LEN * kv->d;
}
static inline const uint16_t *crit_kv_v(const crit_kv *kv, uint32_t head) {
    return kv->v + (size_t)head * kv->n_blk_cap * CRIT_BLK_LEN * kv->d;
}
static inline const float *crit_kv_stat(const crit_kv *kv, const float *stat, uint32_t head) {
    return stat + (size_t)head * kv->n_blk_cap * kv->d;
}

#endif
