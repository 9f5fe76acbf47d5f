/* SPDX-License-Identifier: MIT */
/* See slab.h. */
#include "kv/slab.h"

#include "kv/narrow.h"

#include <string.h>

static size_t blocks_of(uint32_t n_key_cap) {
    return ((size_t)n_key_cap + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
}

bool crit_slab_map_bytes(uint32_t n_kv_head, uint32_t d, uint32_t n_key_cap, size_t *bytes) {
    size_t n;
    return crit_mul_size(blocks_of(n_key_cap), n_kv_head, &n) &&
           crit_mul_size(n, (size_t)2 * CRIT_BLK_LEN * d * sizeof(uint16_t), bytes);
}

crit_status crit_slab_init(crit_slab *s, const crit_kernels *kernels, uint32_t n_kv_head, uint32_t d,
                           uint32_t n_key_cap, crit_error *err) {
    memset(s, 0, sizeof *s);
    size_t bytes;
    if (!crit_slab_map_bytes(n_kv_head, d, n_key_cap, &bytes) || blocks_of(n_key_cap) > UINT32_MAX)
        return crit_fail(err, CRIT_E_NOMEM, "a copy of %u keys overflows", n_key_cap);
    s->map = crit_map(bytes);
    if (!s->map) return crit_fail(err, CRIT_E_NOMEM, "out of memory for a copy of %u keys", n_key_cap);
    s->map_bytes = bytes;
    s->kernels = kernels;
    s->n_kv_head = n_kv_head;
    s->d = d;
    s->n_blk_cap = (uint32_t)blocks_of(n_key_cap);
    s->k = s->map;
    s->v = s->k + n_kv_head * crit_slab_head(s);
    return CRIT_OK;
}

void crit_slab_clear(crit_slab *s) {
    crit_unmap(s->map, s->map_bytes);
    memset(s, 0, sizeof *s);
}

void crit_slab_copy(crit_slab *s, uint32_t head, uint32_t slot, const crit_kv *kv, uint32_t pos) {
    size_t d = s->d, from_blk = (size_t)(pos / CRIT_BLK_LEN) * CRIT_BLK_LEN * d, from = pos % CRIT_BLK_LEN;
    size_t to_blk = head * crit_slab_head(s) + (size_t)(slot / CRIT_BLK_LEN) * CRIT_BLK_LEN * d,
           to = slot % CRIT_BLK_LEN;
    const uint16_t *v = crit_kv_v(kv, head) + from_blk;
    uint16_t narrow[CRIT_D_HEAD_MAX];
    memcpy(s->k + to_blk + to * d, crit_kv_key(kv, head, pos, narrow), d * sizeof *s->k);
    if (s->kernels->kv_layout == CRIT_KV_BF16T) {
        for (size_t i = 0; i < d; i++) s->v[to_blk + i * CRIT_BLK_LEN + to] = v[i * CRIT_BLK_LEN + from];
    } else {
        memcpy(s->v + to_blk + to * d, v + from * d, d * sizeof *v);
    }
}
