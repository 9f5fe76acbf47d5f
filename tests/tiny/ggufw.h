/* SPDX-License-Identifier: MIT */
/* A GGUF file written in memory: keys and tensors are appended, gw_finish joins them.
 *
 * For tests only: it aborts when memory is out, and it writes what it is told, so that wrong files can be made too. */
#ifndef CRIT_TESTS_GGUFW_H
#define CRIT_TESTS_GGUFW_H

#include <stddef.h>
#include <stdint.h>

typedef struct gw_buf {
    unsigned char *p;
    size_t len, cap;
} gw_buf;

typedef struct gw {
    gw_buf kv, info, data;
    uint64_t n_kv, n_tensor;
    uint32_t version, align; /* align: of the data section; gw_init does not write general.alignment */
} gw;

void gw_put(gw_buf *b, const void *p, size_t n);
void gw_put_u32(gw_buf *b, uint32_t v);
void gw_put_u64(gw_buf *b, uint64_t v);
void gw_put_str(gw_buf *b, const char *s); /* length and bytes */

void gw_init(gw *w, uint32_t version, uint32_t align);
void gw_kv_raw(gw *w, const char *key, uint32_t type, const void *payload, size_t n);
void gw_kv_u32(gw *w, const char *key, uint32_t v);
void gw_kv_f32(gw *w, const char *key, float v);
void gw_kv_bool(gw *w, const char *key, int v);
void gw_kv_str(gw *w, const char *key, const char *v);
/* n elements of a fixed-size type, elem_bytes each */
void gw_kv_arr(gw *w, const char *key, uint32_t elem, const void *v, size_t elem_bytes, size_t n);
void gw_kv_strs(gw *w, const char *key, const char *const *v, size_t n);
/* Appends the data and the tensor's description with its true offset. */
void gw_tensor(gw *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, const void *data,
               size_t bytes);
/* Description only, with any numbers. */
void gw_tensor_info(gw *w, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, uint64_t offset);
/* The file, malloc'ed; the writer is spent. */
unsigned char *gw_finish(gw *w, size_t *len);

/* 0, or -1 with errno set. */
int gw_save(const char *path, const void *p, size_t len);

#endif
