/* SPDX-License-Identifier: MIT */
/* GGUF v2/v3 reader: maps a file and hands out metadata and tensor views.
 *
 * Owns the mapping and an index of keys and tensors.  Every length, count and offset is checked against the
 * file before it is used, so a hostile file is refused, never read out of bounds.  Knows nothing of models:
 * config.c and weights.c give the names a meaning.  Immutable once open; safe to read from any thread. */
#ifndef CRIT_MODEL_GGUF_H
#define CRIT_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "critiprefill/status.h"
#include "kernels/qtype.h"

/* Value types as numbered in the GGUF specification. */
typedef enum gguf_vtype {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STR = 8,
    GGUF_ARR = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12
} gguf_vtype;

/* A string inside the mapping: not NUL-terminated, may hold any bytes. */
typedef struct gguf_str {
    const char *ptr;
    size_t len;
} gguf_str;

typedef struct gguf_tensor {
    gguf_str name;
    crit_type type;
    uint32_t n_dims;
    uint64_t ne[4];   /* ne[0] is the contiguous dimension; unused dimensions are 1 */
    const void *data; /* inside the mapping, whole tensor checked to lie in the file */
    size_t bytes;
    size_t row_bytes; /* bytes of ne[0] elements */
} gguf_tensor;

typedef struct gguf gguf;

/* path: opened read-only and mapped.  Errors name the path: CRIT_E_IO, CRIT_E_FORMAT, CRIT_E_UNSUPPORTED
 * (split file, big-endian file, version, tensor type), CRIT_E_NOMEM. */
crit_status gguf_open(gguf **out, const char *path, crit_error *err);
void gguf_close(gguf **g); /* accepts NULL and *g == NULL */

const char *gguf_path(const gguf *g);
size_t gguf_file_bytes(const gguf *g);
/* The same for the same model only: metadata, tensor names and shapes, samples of the weights (gguf_hash.c). */
uint64_t gguf_fingerprint(const gguf *g);
size_t gguf_n_kv(const gguf *g);
gguf_str gguf_kv_key(const gguf *g, size_t i);

size_t gguf_n_tensor(const gguf *g);
const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i);
const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name); /* NULL if absent */

/* Scalars: any integer type (bool included) converts to u64/i64 when it fits; f32/f64 convert to double, as do
 * integers.  Return false when the key is absent or of another kind; *out is then untouched. */
bool gguf_has(const gguf *g, const char *key);
bool gguf_get_u64(const gguf *g, const char *key, uint64_t *out);
bool gguf_get_i64(const gguf *g, const char *key, int64_t *out);
bool gguf_get_f64(const gguf *g, const char *key, double *out);
bool gguf_get_bool(const gguf *g, const char *key, bool *out);
bool gguf_get_str(const gguf *g, const char *key, gguf_str *out);

/* Arrays.  *n elements of type *elem; false when absent or not an array. */
bool gguf_get_arr(const gguf *g, const char *key, gguf_vtype *elem, size_t *n);
bool gguf_arr_str(const gguf *g, const char *key, size_t i,
                  gguf_str *out); /* O(1): string arrays are indexed at open */
bool gguf_arr_i64(const gguf *g, const char *key, size_t i, int64_t *out);
bool gguf_arr_f64(const gguf *g, const char *key, size_t i, double *out);

#endif
