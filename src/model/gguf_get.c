/* SPDX-License-Identifier: MIT */
/* Look-ups in an open GGUF file: by name through a hash table, values converted where that loses nothing.
 * All bounds were checked by gguf_open; only the caller's index is checked here. */
#include "model/gguf_impl.h"

#include <string.h>

/* FNV-1a: short keys, no dependency.  Crafted collisions cost time only, and names are limited in number. */
uint64_t gguf_hash(const char *s, size_t len) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 32;
}

size_t gguf_vtype_bytes(unsigned type) {
    static const unsigned char bytes[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
        [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

const char *gguf_path(const gguf *g) {
    return g->path;
}
size_t gguf_file_bytes(const gguf *g) {
    return g->bytes;
}
size_t gguf_n_kv(const gguf *g) {
    return g->n_kv;
}
size_t gguf_n_tensor(const gguf *g) {
    return g->n_tensor;
}

gguf_str gguf_kv_key(const gguf *g, size_t i) {
    return i < g->n_kv ? g->kv[i].key : (gguf_str){"", 0};
}

const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i) {
    return i < g->n_tensor ? &g->tensor[i] : NULL;
}

static bool is(gguf_str s, const char *name, size_t len) {
    return s.len == len && memcmp(s.ptr, name, len) == 0;
}

const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name) {
    const size_t len = strlen(name);
    for (size_t s = (size_t)gguf_hash(name, len) & g->tensor_names.mask; g->tensor_names.slot[s];
         s = (s + 1) & g->tensor_names.mask) {
        const gguf_tensor *t = &g->tensor[g->tensor_names.slot[s] - 1];
        if (is(t->name, name, len)) return t;
    }
    return NULL;
}

const gguf_kv *gguf_find_kv(const gguf *g, const char *key) {
    const size_t len = strlen(key);
    for (size_t s = (size_t)gguf_hash(key, len) & g->kv_names.mask; g->kv_names.slot[s];
         s = (s + 1) & g->kv_names.mask) {
        const gguf_kv *kv = &g->kv[g->kv_names.slot[s] - 1];
        if (is(kv->key, key, len)) return kv;
    }
    return NULL;
}

/* A scalar of any number type in the widest type of its kind. */
typedef struct number {
    enum { NONE, UNSIGNED, SIGNED, REAL } kind; /* SIGNED only when negative */
    uint64_t u;
    int64_t i;
    double f;
} number;

static number read_number(gguf_vtype type, const unsigned char *p) {
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    float f32;
    double f64;
    int64_t i;
    switch (type) {
    case GGUF_U8:
    case GGUF_BOOL:
        return (number){.kind = UNSIGNED, .u = *p};
    case GGUF_U16:
        memcpy(&u16, p, 2);
        return (number){.kind = UNSIGNED, .u = u16};
    case GGUF_U32:
        memcpy(&u32, p, 4);
        return (number){.kind = UNSIGNED, .u = u32};
    case GGUF_U64:
        memcpy(&u64, p, 8);
        return (number){.kind = UNSIGNED, .u = u64};
    case GGUF_F32:
        memcpy(&f32, p, 4);
        return (number){.kind = REAL, .f = (double)f32};
    case GGUF_F64:
        memcpy(&f64, p, 8);
        return (number){.kind = REAL, .f = f64};
    case GGUF_I8:
        i = (int8_t)*p;
        break;
    case GGUF_I16:
        memcpy(&u16, p, 2);
        i = (int16_t)u16;
        break;
    case GGUF_I32:
        memcpy(&u32, p, 4);
        i = (int32_t)u32;
        break;
    case GGUF_I64:
        memcpy(&i, p, 8);
        break;
    default:
        return (number){.kind = NONE};
    }
    return i < 0 ? (number){.kind = SIGNED, .i = i} : (number){.kind = UNSIGNED, .u = (uint64_t)i};
}

static bool to_i64(number x, int64_t *out) {
    if (x.kind == SIGNED)
        *out = x.i;
    else if (x.kind == UNSIGNED && x.u <= INT64_MAX)
        *out = (int64_t)x.u;
    else
        return false;
    return true;
}

static bool to_f64(number x, double *out) {
    if (x.kind == NONE) return false;
    *out = x.kind == REAL ? x.f : x.kind == SIGNED ? (double)x.i : (double)x.u;
    return true;
}

static number scalar(const gguf *g, const char *key) {
    const gguf_kv *kv = gguf_find_kv(g, key);
    return kv ? read_number(kv->type, kv->val) : (number){.kind = NONE};
}

bool gguf_has(const gguf *g, const char *key) {
    return gguf_find_kv(g, key) != NULL;
}

bool gguf_get_u64(const gguf *g, const char *key, uint64_t *out) {
    const number x = scalar(g, key);
    if (x.kind != UNSIGNED) return false;
    *out = x.u;
    return true;
}

bool gguf_get_i64(const gguf *g, const char *key, int64_t *out) {
    return to_i64(scalar(g, key), out);
}
bool gguf_get_f64(const gguf *g, const char *key, double *out) {
    return to_f64(scalar(g, key), out);
}

bool gguf_get_bool(const gguf *g, const char *key, bool *out) {
    const number x = scalar(g, key);
    if (x.kind != UNSIGNED || x.u > 1) return false;
    *out = x.u == 1;
    return true;
}

bool gguf_get_str(const gguf *g, const char *key, gguf_str *out) {
    const gguf_kv *kv = gguf_find_kv(g, key);
    if (!kv || kv->type != GGUF_STR) return false;
    *out = (gguf_str){(const char *)kv->val, kv->n};
    return true;
}

bool gguf_get_arr(const gguf *g, const char *key, gguf_vtype *elem, size_t *n) {
    const gguf_kv *kv = gguf_find_kv(g, key);
    if (!kv || kv->type != GGUF_ARR) return false;
    *elem = kv->elem;
    *n = kv->n;
    return true;
}

bool gguf_arr_str(const gguf *g, const char *key, size_t i, gguf_str *out) {
    const gguf_kv *kv = gguf_find_kv(g, key);
    if (!kv || kv->type != GGUF_ARR || kv->elem != GGUF_STR || i >= kv->n) return false;
    const unsigned char *p = kv->val + kv->str_at[i];
    uint64_t len;
    memcpy(&len, p, 8);
    *out = (gguf_str){(const char *)p + 8, (size_t)len};
    return true;
}

static number element(const gguf *g, const char *key, size_t i) {
    const gguf_kv *kv = gguf_find_kv(g, key);
    if (!kv || kv->type != GGUF_ARR || i >= kv->n) return (number){.kind = NONE};
    return read_number(kv->elem, kv->val + i * gguf_vtype_bytes(kv->elem));
}

bool gguf_arr_i64(const gguf *g, const char *key, size_t i, int64_t *out) {
    return to_i64(element(g, key, i), out);
}
bool gguf_arr_f64(const gguf *g, const char *key, size_t i, double *out) {
    return to_f64(element(g, key, i), out);
}
