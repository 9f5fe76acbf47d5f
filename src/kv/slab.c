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

crit_status crit_slabs_init(crit_slab *s, uint32_t n, const crit_kernels *kernels, uint32_t n_kv_head, uint32_t d,
                            uint32_t n_key_cap, crit_error *err) {
    memset(s, 0, n * sizeof *s);
    size_t one, bytes;
    if (!crit_slab_map_bytes(n_kv_head, d, n_key_cap, &one) || !crit_mul_size(one, n, &bytes) ||
        blocks_of(n_key_cap) > UINT32_MAX)
        return crit_fail(err, CRIT_E_NOMEM, "a copy of %u keys overflows", n_key_cap);
    void *map = crit_map(bytes);
    if (!map) return crit_fail(err, CRIT_E_NOMEM, "out of memory for a copy of %u keys", n_key_cap);
    for (uint32_t i = 0; i < n; i++) {
        s[i] = (crit_slab){
            .kernels = kernels, .n_kv_head = n_kv_head, .d = d, .n_blk_cap = (uint32_t)blocks_of(n_key_cap)};
        s[i].k = (uint16_t *)map + i * (one / sizeof(uint16_t));
        s[i].v = s[i].k + n_kv_head * crit_slab_head(&s[i]);
    }
    s->map = map;
    s->map_bytes = bytes;
    return CRIT_OK;
}

crit_status crit_slab_init(crit_slab *s, const crit_kernels *kernels, uint32_t n_kv_head, uint32_t d,
                           uint32_t n_key_cap, crit_error *err) {
    return crit_slabs_init(s, 1, kernels, n_kv_head, d, n_key_cap, err);
}

void crit_slab_clear(crit_slab *s) {
    crit_unmap(s->map, s->map_bytes);
    memset(s, 0, sizeof *s);
}

static void copy_bits(const crit_slab *s, size_t to_blk, uint32_t to, const uint16_t *key, const uint16_t *v,
                      uint32_t from) {
    size_t d = s->d;
    memcpy(s->k + to_blk + to * d, key, d * sizeof *key);
    if (s->kernels->kv_layout == CRIT_KV_BF16T) {
        for (size_t i = 0; i < d; i++) s->v[to_blk + i * CRIT_BLK_LEN + to] = v[i * CRIT_BLK_LEN + from];
    } else {
        memcpy(s->v + to_blk + to * d, v + from * d, d * sizeof *v);
    }
}

static size_t block_at(const crit_slab *s, uint32_t head, uint32_t slot) {
    return head * crit_slab_head(s) + (size_t)(slot / CRIT_BLK_LEN) * CRIT_BLK_LEN * s->d;
}

void crit_slab_copy(crit_slab *s, uint32_t head, uint32_t slot, const crit_kv *kv, uint32_t pos) {
    size_t from = (size_t)(pos / CRIT_BLK_LEN) * CRIT_BLK_LEN * s->d;
    uint16_t narrow[CRIT_D_HEAD_MAX];
    copy_bits(s, block_at(s, head, slot), slot % CRIT_BLK_LEN, crit_kv_key(kv, head, pos, narrow),
              crit_kv_v(kv, head) + from, pos % CRIT_BLK_LEN);
}

void crit_slab_move(crit_slab *s, uint32_t head, uint32_t to, uint32_t from) {
    size_t blk = block_at(s, head, from);
    copy_bits(s, block_at(s, head, to), to % CRIT_BLK_LEN, s->k + blk + from % CRIT_BLK_LEN * s->d, s->v + blk,
              from % CRIT_BLK_LEN);
}

void crit_slab_get(const crit_slab *s, uint32_t head, uint32_t slot, float *k, float *v) {
    size_t blk = block_at(s, head, slot);
    crit_block_get(s->kernels->kv_layout, s->k + blk, s->v + blk, slot % CRIT_BLK_LEN, s->d, k, v);
}

void crit_slab_put(crit_slab *s, uint32_t head, uint32_t slot, const float *k, const float *v) {
    size_t blk = block_at(s, head, slot);
    s->kernels->kv_put(k, s->d, v, s->d, slot % CRIT_BLK_LEN, 1, s->d, s->k + blk, s->v + blk);
}
