/* SPDX-License-Identifier: MIT */
/* See strtab.h.  Open addressing with linear probing, at most 5/8 full. */
#include "text/strtab.h"

#include <string.h>

#include "core/core.h"

/* NULL leaves the old block as it is. */
static void *grow(void *p, size_t used, size_t cap, size_t size) {
    void *q = crit_malloc(cap, size);
    if (!q) return NULL;
    if (used) memcpy(q, p, used * size);
    crit_free(p);
    return q;
}

static uint64_t hash(const char *s, size_t len) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ len, w;
    for (; len >= 8; s += 8, len -= 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, s, len);
    h = (h ^ w) * 0xff51afd7ed558ccdu;
    return h ^ h >> 29;
}

/* Slot that holds s, or the empty one where it belongs.  n_slot is a power of two. */
static uint32_t *probe(const crit_strtab *t, const char *s, size_t len) {
    for (size_t i = hash(s, len);; i++) {
        uint32_t *slot = &t->slot[i & (t->n_slot - 1)];
        if (!*slot) return slot;
        size_t l;
        const char *c = crit_strtab_at(t, *slot - 1, &l);
        if (l == len && !memcmp(c, s, len)) return slot;
    }
}

static bool rehash(crit_strtab *t) {
    uint32_t n_slot = t->n_slot ? t->n_slot * 2 : 1024;
    crit_strtab bigger = *t;
    bigger.n_slot = n_slot;
    bigger.slot = n_slot ? crit_calloc(n_slot, sizeof *bigger.slot) : NULL;
    if (!bigger.slot) return false;
    for (uint32_t i = 0; i < t->n_slot; i++) {
        if (!t->slot[i]) continue;
        size_t len;
        const char *s = crit_strtab_at(t, t->slot[i] - 1, &len);
        *probe(&bigger, s, len) = t->slot[i];
    }
    crit_free(t->slot);
    *t = bigger;
    return true;
}

bool crit_strtab_add(crit_strtab *t, const char *s, size_t len, bool hidden) {
    if (len > UINT32_MAX - t->n_bytes || t->n >= INT32_MAX) return false;
    if (t->n == t->cap) {
        uint32_t cap = t->cap ? t->cap * 2 : 1024;
        uint32_t *off = grow(t->off, t->cap ? (size_t)t->n + 1 : 0, (size_t)cap + 1, sizeof *off);
        if (!off) return false;
        off[t->n] = (uint32_t)t->n_bytes;
        t->off = off;
        t->cap = cap;
    }
    if (t->n_bytes + len > t->bytes_cap || !t->bytes) {
        size_t cap = t->bytes_cap * 2 > t->n_bytes + len ? t->bytes_cap * 2 : t->n_bytes + len + 4096;
        char *bytes = grow(t->bytes, t->n_bytes, cap, 1);
        if (!bytes) return false;
        t->bytes = bytes;
        t->bytes_cap = cap;
    }
    if (!hidden && (uint64_t)t->n_found * 8 >= (uint64_t)t->n_slot * 5 && !rehash(t)) return false;
    if (len) memcpy(t->bytes + t->n_bytes, s, len);
    t->n_bytes += len;
    t->off[++t->n] = (uint32_t)t->n_bytes;
    if (!hidden) {
        uint32_t *slot = probe(t, t->bytes + t->off[t->n - 1], len);
        if (!*slot) {
            *slot = t->n;
            t->n_found++;
        }
    }
    return true;
}

uint32_t crit_strtab_find(const crit_strtab *t, const char *s, size_t len) {
    return t->n_slot ? *probe(t, s, len) - 1 : CRIT_STR_NONE;
}

void crit_strtab_clear(crit_strtab *t) {
    crit_free(t->bytes);
    crit_free(t->off);
    crit_free(t->slot);
    *t = (crit_strtab){0};
}

size_t crit_strtab_bytes(const crit_strtab *t) {
    return t->bytes_cap + ((size_t)t->cap + 1) * sizeof *t->off + (size_t)t->n_slot * sizeof *t->slot;
}
