/* SPDX-License-Identifier: MIT */
/* See blob.h. */
#include "core/blob.h"

#include <string.h>

void crit_blob_put(crit_blob *b, const void *from, size_t bytes) {
    size_t need;
    if (b->failed || bytes == 0) return;
    if (!crit_add_size(b->n, bytes, &need)) {
        b->failed = true;
        return;
    }
    if (need > b->cap) {
        size_t cap = need < b->cap * 2 ? b->cap * 2 : need;
        unsigned char *p = crit_malloc(cap, 1);
        if (!p) {
            b->failed = true;
            return;
        }
        if (b->n) memcpy(p, b->p, b->n);
        crit_free(b->p);
        b->p = p;
        b->cap = cap;
    }
    memcpy(b->p + b->n, from, bytes);
    b->n = need;
}

void crit_blob_u32(crit_blob *b, uint32_t x) {
    crit_blob_put(b, &x, sizeof x);
}

void crit_blob_get(crit_blob_view *v, void *to, size_t bytes) {
    if (bytes == 0) return;
    if (v->failed || bytes > v->n - v->at) {
        v->failed = true;
        memset(to, 0, bytes);
        return;
    }
    memcpy(to, v->p + v->at, bytes);
    v->at += bytes;
}

uint32_t crit_blob_get_u32(crit_blob_view *v) {
    uint32_t x;
    crit_blob_get(v, &x, sizeof x);
    return x;
}
