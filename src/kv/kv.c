/* SPDX-License-Identifier: MIT */
/* Packed KV blocks and their statistics (layout: kv.h).  One mapping holds all, zero-filled by the system on first
 * touch: a half-full store costs half the memory. */
#include "kv/kv.h"

#include "kernels/f16.h"
#include "kv/narrow.h"

#include <string.h>

bool crit_kv_map_bytes(uint32_t n_kv_head, uint32_t d, uint32_t n_tok_cap, size_t *bytes) {
    size_t n_blk = ((size_t)n_tok_cap + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    size_t per_blk = (size_t)d * (2 * CRIT_BLK_LEN * sizeof(uint16_t) + 3 * sizeof(float)), n;
    return crit_mul_size(n_blk, n_kv_head, &n) && crit_mul_size(n, per_blk, bytes);
}

crit_status crit_kv_init(crit_kv *kv, const crit_kernels *kernels, uint32_t n_kv_head, uint32_t d, uint32_t n_tok_cap,
                         crit_error *err) {
    memset(kv, 0, sizeof *kv);
    if (n_kv_head == 0 || n_tok_cap == 0 || n_tok_cap > UINT32_MAX - CRIT_BLK_LEN)
        return crit_fail(err, CRIT_E_ARG, "KV store for %u heads and %u tokens", n_kv_head, n_tok_cap);
    if (d == 0 || d % 8 || d > CRIT_D_HEAD_MAX)
        return crit_fail(err, CRIT_E_ARG, "d_head %u is not a multiple of 8 in 8..%d", d, CRIT_D_HEAD_MAX);
    size_t bytes;
    if (!crit_kv_map_bytes(n_kv_head, d, n_tok_cap, &bytes))
        return crit_fail(err, CRIT_E_NOMEM, "a KV store for %u tokens overflows", n_tok_cap);
    char *p = crit_map(bytes);
    if (!p) return crit_fail(err, CRIT_E_NOMEM, "out of memory for a KV store of %zu bytes", bytes);
    kv->kernels = kernels;
    kv->n_kv_head = n_kv_head;
    kv->d = d;
    kv->n_blk_cap = (n_tok_cap + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    kv->map = p;
    kv->map_bytes = bytes;
    size_t n_stat = (size_t)n_kv_head * kv->n_blk_cap * d, n_key = n_stat * CRIT_BLK_LEN;
    kv->k = (uint16_t *)p;
    kv->v = kv->k + n_key;
    kv->kmax = (float *)(kv->v + n_key);
    kv->kmin = kv->kmax + n_stat;
    kv->ksum = kv->kmin + n_stat;
    return CRIT_OK;
}

void crit_kv_clear(crit_kv *kv) {
    crit_narrow_free(kv);
    crit_unmap(kv->map, kv->map_bytes);
    memset(kv, 0, sizeof *kv);
}

void crit_kv_put(crit_kv *kv, uint32_t head, uint32_t pos, uint32_t n, const float *k, size_t k_stride, const float *v,
                 size_t v_stride) {
    const crit_kernels *kt = kv->kernels;
    size_t d = kv->d, blk0 = (size_t)head * kv->n_blk_cap;
    for (uint32_t done = 0; done < n;) {
        uint32_t at = pos + done, in_blk = at % CRIT_BLK_LEN;
        uint32_t run = CRIT_BLK_LEN - in_blk < n - done ? CRIT_BLK_LEN - in_blk : n - done;
        size_t blk = blk0 + at / CRIT_BLK_LEN;
        uint16_t *kblk = kv->k + blk * CRIT_BLK_LEN * d, *vblk = kv->v + blk * CRIT_BLK_LEN * d;
        kt->kv_put(k + done * k_stride, k_stride, v + done * v_stride, v_stride, in_blk, run, kv->d, kblk, vblk);
        /* From the packed keys, so that what is scored is what attention reads. */
        kt->block_stats(kblk + in_blk * d, run, in_blk, kv->d, kv->kmax + blk * d, kv->kmin + blk * d,
                        kv->ksum + blk * d);
        done += run;
    }
}

static float value_of(bool bf16, uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return bf16 ? f : crit_f16_value(h);
}

static void get_key(bool bf16, const uint16_t *key, size_t d, float *k) {
    for (size_t i = 0; i < d; i++) k[i] = value_of(bf16, key[i]);
}

static void get_value(bool bf16, const uint16_t *vblk, size_t at, size_t d, float *v) {
    for (size_t i = 0; i < d; i++) v[i] = value_of(bf16, vblk[bf16 ? i * CRIT_BLK_LEN + at : at * d + i]);
}

void crit_block_get(unsigned layout, const uint16_t *kblk, const uint16_t *vblk, size_t at, uint32_t d, float *k,
                    float *v) {
    if (k) get_key(layout == CRIT_KV_BF16T, kblk + at * d, d, k);
    if (v) get_value(layout == CRIT_KV_BF16T, vblk, at, d, v);
}

void crit_kv_get(const crit_kv *kv, uint32_t head, uint32_t pos, uint32_t n, float *k, float *v) {
    size_t d = kv->d;
    bool bf16 = kv->kernels->kv_layout == CRIT_KV_BF16T;
    for (uint32_t t = 0; t < n; t++) {
        uint16_t narrow[CRIT_D_HEAD_MAX];
        size_t blk = (size_t)(pos + t) / CRIT_BLK_LEN * CRIT_BLK_LEN * d;
        if (k) get_key(bf16, crit_kv_key(kv, head, pos + t, narrow), d, k + t * d);
        if (v) get_value(bf16, crit_kv_v(kv, head) + blk, (pos + t) % CRIT_BLK_LEN, d, v + t * d);
    }
}

void crit_kv_import(crit_kv *kv, uint32_t head, int layout, const uint16_t *k, const uint16_t *v, uint32_t n) {
    size_t d = kv->d, blk0 = (size_t)head * kv->n_blk_cap;
    bool own = layout == kv->kernels->kv_layout;
    float row[2][CRIT_D_HEAD_MAX];
    if (own && k != crit_kv_k(kv, head)) {
        size_t values = ((size_t)n + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN * CRIT_BLK_LEN * d;
        memcpy(kv->k + blk0 * CRIT_BLK_LEN * d, k, values * sizeof *k);
        memcpy(kv->v + blk0 * CRIT_BLK_LEN * d, v, values * sizeof *v);
    }
    for (uint32_t t = 0; t < n && !own; t++) {
        size_t blk = (size_t)t / CRIT_BLK_LEN * CRIT_BLK_LEN * d;
        crit_block_get((unsigned)layout, k + blk, v + blk, t % CRIT_BLK_LEN, kv->d, row[0], row[1]);
        crit_kv_put(kv, head, t, 1, row[0], d, row[1], d);
    }
    for (uint32_t t = 0; t < n && own; t += CRIT_BLK_LEN) {
        size_t blk = blk0 + t / CRIT_BLK_LEN;
        kv->kernels->block_stats(kv->k + blk * CRIT_BLK_LEN * d, n - t < CRIT_BLK_LEN ? n - t : CRIT_BLK_LEN, 0, kv->d,
                                 kv->kmax + blk * d, kv->kmin + blk * d, kv->ksum + blk * d);
    }
}

void crit_kv_advance(crit_kv *kv, uint32_t n) {
    kv->n_tok += n;
}

void crit_kv_cut(crit_kv *kv, uint32_t n_tok) {
    if (n_tok < kv->n_narrow) crit_narrow_cut(kv, n_tok);
    kv->n_tok = n_tok;
    uint32_t in_blk = n_tok % CRIT_BLK_LEN;
    if (!in_blk) return;
    for (uint32_t h = 0; h < kv->n_kv_head; h++) {
        size_t blk = (size_t)h * kv->n_blk_cap + n_tok / CRIT_BLK_LEN, d = kv->d;
        kv->kernels->block_stats(kv->k + blk * CRIT_BLK_LEN * d, in_blk, 0, kv->d, kv->kmax + blk * d,
                                 kv->kmin + blk * d, kv->ksum + blk * d);
    }
}

size_t crit_kv_used_bytes(const crit_kv *kv) {
    size_t n_blk = ((size_t)kv->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    size_t all = kv->n_blk_cap ? (size_t)((double)kv->map_bytes * (double)n_blk / kv->n_blk_cap) : 0;
    return all + crit_narrow_bytes(kv) - crit_narrow_freed_bytes(kv);
}
