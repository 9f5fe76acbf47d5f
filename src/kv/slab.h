/* SPDX-License-Identifier: MIT */
/* Packed blocks without order or statistics: keys and values that a policy has picked, copied as the level packs them.
 *
 * Attention does not mind the order of keys, so a copy may lie in any slot.  Each KV head picks its own. */
#ifndef CRIT_SLAB_H
#define CRIT_SLAB_H

#include "kv/kv.h"

typedef struct crit_slab {
    const crit_kernels *kernels;
    uint32_t n_kv_head, d, n_blk_cap;
    uint16_t *k, *v; /* [n_kv_head][n_blk_cap][CRIT_BLK_LEN][d], zero at first */
    void *map;       /* NULL in the slabs behind the first of several */
    size_t map_bytes;
} crit_slab;

/* Bytes a slab of that shape maps; false when it overflows. */
bool crit_slab_map_bytes(uint32_t n_kv_head, uint32_t d, uint32_t n_key_cap, size_t *bytes);
crit_status crit_slab_init(crit_slab *s, const crit_kernels *kernels, uint32_t n_kv_head, uint32_t d,
                           uint32_t n_key_cap, crit_error *err);
/* n of one shape in one mapping, so that small ones lie in huge pages, too: s[0] owns it, all end with it. */
crit_status crit_slabs_init(crit_slab *s, uint32_t n, const crit_kernels *kernels, uint32_t n_kv_head, uint32_t d,
                            uint32_t n_key_cap, crit_error *err);
void crit_slab_clear(crit_slab *s); /* frees; a zeroed struct is fine */
/* Key and value of position pos into a slot.  Safe in parallel for different heads or blocks of the slab. */
void crit_slab_copy(crit_slab *s, uint32_t head, uint32_t slot, const crit_kv *kv, uint32_t pos);
/* Likewise from another slot of the head. */
void crit_slab_move(crit_slab *s, uint32_t head, uint32_t to, uint32_t from);
/* One slot as f32, k and v [d], and rounded back. */
void crit_slab_get(const crit_slab *s, uint32_t head, uint32_t slot, float *k, float *v);
void crit_slab_put(crit_slab *s, uint32_t head, uint32_t slot, const float *k, const float *v);

static inline size_t crit_slab_head(const crit_slab *s) {
    return (size_t)s->n_blk_cap * CRIT_BLK_LEN * s->d;
}

#endif
