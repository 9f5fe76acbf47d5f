/* SPDX-License-Identifier: MIT */
/* What gguf.c (reads the file) and gguf_get.c (answers questions) share.
 *
 * Invariant once gguf_open has returned: every pointer here lies inside the mapping with all the bytes its type and
 * count promise, and both hash tables hold each index once. */
#ifndef CRIT_MODEL_GGUF_IMPL_H
#define CRIT_MODEL_GGUF_IMPL_H

#include "model/gguf.h"

typedef struct gguf_kv {
    gguf_str key;
    const unsigned char *val; /* the scalar; a string's or an array's first payload byte; unaligned */
    size_t n;                 /* bytes of a string, elements of an array */
    uint32_t *str_at;         /* string arrays: offset of each string's length field behind val */
    gguf_vtype type, elem;    /* elem: of an array */
} gguf_kv;

/* Open addressing, a power of two of slots, each index + 1 or 0; at most half full. */
typedef struct gguf_names {
    uint32_t *slot;
    size_t mask;
} gguf_names;

struct gguf {
    char *path;
    unsigned char *map;
    size_t bytes;
    gguf_kv *kv;
    size_t n_kv;
    gguf_tensor *tensor;
    size_t n_tensor;
    gguf_names kv_names, tensor_names;
};

/* Bytes of one value of a fixed size; 0 for strings, arrays and unknown numbers. */
size_t gguf_vtype_bytes(unsigned type);
uint64_t gguf_hash(const char *s, size_t len);
const gguf_kv *gguf_find_kv(const gguf *g, const char *key); /* NULL if absent */

#endif
