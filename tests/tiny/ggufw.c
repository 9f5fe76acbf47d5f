/* SPDX-License-Identifier: MIT */
/* See ggufw.h.  Numbers are written little-endian by copying, as the library reads them. */
#include "tiny/ggufw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"

void gw_put(gw_buf *b, const void *p, size_t n) {
    if (b->len + n > b->cap) {
        b->cap = 2 * (b->len + n) + 64;
        b->p = realloc(b->p, b->cap);
        if (!b->p) abort();
    }
    if (n) memcpy(b->p + b->len, p, n);
    b->len += n;
}

void gw_put_u32(gw_buf *b, uint32_t v) {
    gw_put(b, &v, sizeof v);
}
void gw_put_u64(gw_buf *b, uint64_t v) {
    gw_put(b, &v, sizeof v);
}

void gw_put_str(gw_buf *b, const char *s) {
    gw_put_u64(b, strlen(s));
    gw_put(b, s, strlen(s));
}

static void pad_to(gw_buf *b, size_t align) {
    static const unsigned char zero[64];
    while (b->len % align) gw_put(b, zero, align - b->len % align < sizeof zero ? align - b->len % align : sizeof zero);
}

void gw_init(gw *w, uint32_t version, uint32_t align) {
    memset(w, 0, sizeof *w);
    w->version = version;
    w->align = align;
}

static void key_of(gw *w, const char *key, uint32_t type) {
    gw_put_str(&w->kv, key);
    gw_put_u32(&w->kv, type);
    w->n_kv++;
}

void gw_kv_raw(gw *w, const char *key, uint32_t type, const void *payload, size_t n) {
    key_of(w, key, type);
    gw_put(&w->kv, payload, n);
}

void gw_kv_u32(gw *w, const char *key, uint32_t v) {
    gw_kv_raw(w, key, GGUF_U32, &v, sizeof v);
}
void gw_kv_f32(gw *w, const char *key, float v) {
    gw_kv_raw(w, key, GGUF_F32, &v, sizeof v);
}

void gw_kv_bool(gw *w, const char *key, int v) {
    const unsigned char byte = v != 0;
    gw_kv_raw(w, key, GGUF_BOOL, &byte, 1);
}

void gw_kv_str(gw *w, const char *key, const char *v) {
    key_of(w, key, GGUF_STR);
    gw_put_str(&w->kv, v);
}

void gw_kv_arr(gw *w, const char *key, uint32_t elem, const void *v, size_t elem_bytes, size_t n) {
    key_of(w, key, GGUF_ARR);
    gw_put_u32(&w->kv, elem);
    gw_put_u64(&w->kv, n);
    gw_put(&w->kv, v, elem_bytes * n);
}

void gw_kv_strs(gw *w, const char *key, const char *const *v, size_t n) {
    key_of(w, key, GGUF_ARR);
    gw_put_u32(&w->kv, GGUF_STR);
    gw_put_u64(&w->kv, n);
    for (size_t i = 0; i < n; i++) gw_put_str(&w->kv, v[i]);
}

void gw_tensor_info(gw *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, uint64_t offset) {
    gw_put_str(&w->info, name);
    gw_put_u32(&w->info, n_dims);
    gw_put(&w->info, ne, n_dims * sizeof *ne);
    gw_put_u32(&w->info, type);
    gw_put_u64(&w->info, offset);
    w->n_tensor++;
}

void gw_tensor(gw *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, const void *data,
               size_t bytes) {
    pad_to(&w->data, w->align);
    gw_tensor_info(w, name, type, n_dims, ne, w->data.len);
    gw_put(&w->data, data, bytes);
}

unsigned char *gw_finish(gw *w, size_t *len) {
    gw_buf f = {0};
    gw_put(&f, "GGUF", 4);
    gw_put_u32(&f, w->version);
    gw_put_u64(&f, w->n_tensor);
    gw_put_u64(&f, w->n_kv);
    gw_put(&f, w->kv.p, w->kv.len);
    gw_put(&f, w->info.p, w->info.len);
    if (w->data.len) {
        pad_to(&f, w->align);
        pad_to(&w->data, w->align);
        gw_put(&f, w->data.p, w->data.len);
    }
    free(w->kv.p);
    free(w->info.p);
    free(w->data.p);
    memset(w, 0, sizeof *w);
    *len = f.len;
    return f.p;
}

int gw_save(const char *path, const void *p, size_t len) {
    FILE *f = fopen(path, "wb");
    if (!f) return -1;
    const int bad = fwrite(p, 1, len, f) != len;
    return fclose(f) != 0 || bad ? -1 : 0;
}
