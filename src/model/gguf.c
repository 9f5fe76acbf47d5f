/* SPDX-License-Identifier: MIT */
/* Reads a GGUF file's header once, front to back, with a cursor that cannot leave the file.
 *
 * Owns the mapping, the list of keys, the list of tensors and their hash tables; gguf_get.c answers from them.  Tensor
 * data is located and range-checked but never touched, so opening costs the pages of the metadata only. */
#include "model/gguf_impl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/core.h"

enum {
    MAX_NAMES = 1 << 16,    /* keys, tensors: real files stay under 2,000; bounds the work a hostile file can ask for */
    MAX_NAME_BYTES = 65535, /* of a key, as the specification says */
    MAX_DEPTH = 8,          /* arrays in arrays, which nobody writes */
    MAX_ALIGN = 1 << 20,
    DEFAULT_ALIGN = 32
};
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF numbers are copied as they are");

typedef struct cursor {
    gguf *g;
    size_t at;
    const char *where; /* what is being read, for messages */
    crit_error *err;
    crit_status st; /* first failure */
} cursor;

/* The end of the path says most, and the reason must fit behind it. */
static const char *shown(const char *path) {
    const size_t len = strlen(path), keep = 256;
    return len > keep ? path + (len - keep) : path;
}

#define FAIL(c, code, ...) ((c)->st = crit_fail((c)->err, (code), __VA_ARGS__))
#define NAME(s)            (int)((s).len > 96 ? 96 : (s).len), (s).ptr

/* The next n bytes, or NULL and a failure. */
static const unsigned char *take(cursor *c, uint64_t n) {
    if (c->st) return NULL;
    if (n > c->g->bytes - c->at) {
        FAIL(c, CRIT_E_FORMAT, "%s: truncated or damaged in the %s: %llu bytes wanted at byte %zu, the file has %zu",
             shown(c->g->path), c->where, (unsigned long long)n, c->at, c->g->bytes);
        return NULL;
    }
    const unsigned char *p = c->g->map + c->at;
    c->at += (size_t)n;
    return p;
}

static uint32_t take_u32(cursor *c) {
    uint32_t v = 0;
    const unsigned char *p = take(c, 4);
    if (p) memcpy(&v, p, 4);
    return v;
}

static uint64_t take_u64(cursor *c) {
    uint64_t v = 0;
    const unsigned char *p = take(c, 8);
    if (p) memcpy(&v, p, 8);
    return v;
}

static gguf_str take_str(cursor *c) {
    const uint64_t len = take_u64(c);
    const unsigned char *p = take(c, len);
    return p ? (gguf_str){(const char *)p, (size_t)len} : (gguf_str){"", 0};
}

/* A key or a tensor name. */
static gguf_str take_name(cursor *c) {
    const size_t at = c->at;
    const gguf_str s = take_str(c);
    if (!c->st && (s.len == 0 || s.len > MAX_NAME_BYTES))
        FAIL(c, CRIT_E_FORMAT, "%s: damaged: a name of %zu bytes in the %s at byte %zu", shown(c->g->path), s.len,
             c->where, at);
    return s;
}

/* ---- names ---- */

static bool names_init(gguf_names *t, size_t n) {
    size_t cap = 16;
    while (cap < 2 * n) cap *= 2;
    t->slot = crit_calloc(cap, sizeof *t->slot);
    t->mask = cap - 1;
    return t->slot != NULL;
}

/* false when the table holds the name already */
static bool names_add(gguf_names *t, const void *items, size_t stride, size_t name_at, size_t i) {
    const char *base = items;
    gguf_str name, other;
    memcpy(&name, base + i * stride + name_at, sizeof name);
    size_t s = (size_t)gguf_hash(name.ptr, name.len) & t->mask;
    for (; t->slot[s]; s = (s + 1) & t->mask) {
        memcpy(&other, base + (t->slot[s] - 1) * stride + name_at, sizeof other);
        if (other.len == name.len && memcmp(other.ptr, name.ptr, name.len) == 0) return false;
    }
    t->slot[s] = (uint32_t)(i + 1);
    return true;
}

/* ---- metadata ---- */

static void bad_type(cursor *c, gguf_str key, uint32_t type) {
    if (!c->st)
        FAIL(c, CRIT_E_FORMAT, "%s: damaged: metadata key %.*s has value type %u, which does not exist",
             shown(c->g->path), NAME(key), type);
}

static void skip_array(cursor *c, gguf_str key, int depth) {
    const uint32_t elem = take_u32(c);
    const uint64_t n = take_u64(c);
    const size_t size = gguf_vtype_bytes(elem);
    if (c->st) return;
    if (size) {
        take(c, n > UINT64_MAX / size ? UINT64_MAX : n * size);
    } else if (elem == GGUF_STR) {
        for (uint64_t i = 0; i < n && !c->st; i++) take_str(c);
    } else if (elem == GGUF_ARR && depth < MAX_DEPTH) {
        for (uint64_t i = 0; i < n && !c->st; i++) skip_array(c, key, depth + 1);
    } else if (elem == GGUF_ARR) {
        FAIL(c, CRIT_E_UNSUPPORTED, "%s: metadata key %.*s nests arrays too deeply", shown(c->g->path), NAME(key));
    } else {
        bad_type(c, key, elem);
    }
}

/* Notes where each string of an array begins: finding string i later must not walk over the i before it. */
static void index_strings(cursor *c, gguf_kv *kv) {
    if (kv->n > (c->g->bytes - c->at) / 8) {
        take(c, kv->n > UINT64_MAX / 8 ? UINT64_MAX : (uint64_t)kv->n * 8); /* fails and says so */
        return;
    }
    kv->str_at = crit_malloc(kv->n, sizeof *kv->str_at);
    if (!kv->str_at) {
        FAIL(c, CRIT_E_NOMEM, "%s: out of memory for metadata", shown(c->g->path));
        return;
    }
    const size_t start = c->at;
    for (size_t i = 0; i < kv->n && !c->st; i++) {
        if (c->at - start > UINT32_MAX) {
            FAIL(c, CRIT_E_UNSUPPORTED, "%s: metadata key %.*s is larger than 4 GiB", shown(c->g->path), NAME(kv->key));
            return;
        }
        kv->str_at[i] = (uint32_t)(c->at - start);
        take_str(c);
    }
}

static void read_value(cursor *c, gguf_kv *kv) {
    const uint32_t type = take_u32(c);
    if (c->st) return;
    const size_t size = gguf_vtype_bytes(type);
    if (!size && type != GGUF_STR && type != GGUF_ARR) {
        bad_type(c, kv->key, type);
        return;
    }
    kv->type = (gguf_vtype)type;
    if (size) {
        kv->val = take(c, size);
    } else if (type == GGUF_STR) {
        const gguf_str s = take_str(c);
        kv->val = (const unsigned char *)s.ptr;
        kv->n = s.len;
    } else {
        const uint32_t elem = take_u32(c);
        const uint64_t n = take_u64(c);
        const size_t esize = gguf_vtype_bytes(elem);
        if (c->st) return;
        kv->elem = (gguf_vtype)elem;
        kv->n = (size_t)n;
        kv->val = c->g->map + c->at;
        if (esize)
            take(c, n > UINT64_MAX / esize ? UINT64_MAX : n * esize);
        else if (elem == GGUF_STR)
            index_strings(c, kv);
        else if (elem == GGUF_ARR)
            for (uint64_t i = 0; i < n && !c->st; i++) skip_array(c, kv->key, 2);
        else
            bad_type(c, kv->key, elem);
    }
}

static void read_metadata(cursor *c) {
    gguf *g = c->g;
    c->where = "metadata";
    for (size_t i = 0; i < g->n_kv && !c->st; i++) {
        g->kv[i].key = take_name(c);
        read_value(c, &g->kv[i]);
        if (!c->st && !names_add(&g->kv_names, g->kv, sizeof *g->kv, offsetof(gguf_kv, key), i))
            FAIL(c, CRIT_E_FORMAT, "%s: damaged: metadata key %.*s occurs twice", shown(g->path), NAME(g->kv[i].key));
    }
}

/* ---- tensors ---- */

/* Everything of a tensor but its place: data holds nothing yet, *offset is as stored. */
static void read_tensor(cursor *c, gguf_tensor *t, uint64_t *offset) {
    const char *path = shown(c->g->path);
    t->name = take_name(c);
    t->n_dims = take_u32(c);
    if (!c->st && t->n_dims > 4)
        FAIL(c, CRIT_E_FORMAT, "%s: damaged: tensor %.*s has %u dimensions", path, NAME(t->name), t->n_dims);
    size_t rows = 1;
    for (uint32_t d = 0; d < 4; d++) {
        t->ne[d] = d < t->n_dims && !c->st ? take_u64(c) : 1;
        if (c->st) return;
        if (t->ne[d] == 0) {
            FAIL(c, CRIT_E_FORMAT, "%s: damaged: dimension %u of tensor %.*s is 0", path, d, NAME(t->name));
            return;
        }
        if (t->ne[d] > INT64_MAX || (d > 0 && !crit_mul_size(rows, (size_t)t->ne[d], &rows))) {
            FAIL(c, CRIT_E_FORMAT, "%s: damaged: the dimensions of tensor %.*s overflow", path, NAME(t->name));
            return;
        }
    }
    const uint32_t type = take_u32(c);
    *offset = take_u64(c);
    if (c->st) return;
    uint32_t elems, bytes;
    if (!crit_type_geometry(type, &elems, &bytes)) {
        FAIL(c, CRIT_E_UNSUPPORTED, "%s: tensor %.*s has type number %u, which is not supported", path, NAME(t->name),
             type);
        return;
    }
    t->type = (crit_type)type;
    if (t->ne[0] % elems) {
        FAIL(c, CRIT_E_FORMAT, "%s: damaged: tensor %.*s has rows of %llu elements, not whole blocks of %u (%s)", path,
             NAME(t->name), (unsigned long long)t->ne[0], elems, crit_type_name(type));
        return;
    }
    if (!crit_mul_size((size_t)(t->ne[0] / elems), bytes, &t->row_bytes) ||
        !crit_mul_size(t->row_bytes, rows, &t->bytes))
        FAIL(c, CRIT_E_FORMAT, "%s: damaged: the size of tensor %.*s overflows", path, NAME(t->name));
}

static size_t read_alignment(cursor *c) {
    uint64_t align = DEFAULT_ALIGN;
    if (c->st || !gguf_has(c->g, "general.alignment")) return DEFAULT_ALIGN;
    if (!gguf_get_u64(c->g, "general.alignment", &align) || align < 8 || align > MAX_ALIGN || (align & (align - 1))) {
        FAIL(c, CRIT_E_FORMAT, "%s: damaged: general.alignment is not a power of two from 8 to %d", shown(c->g->path),
             MAX_ALIGN);
        return DEFAULT_ALIGN;
    }
    return (size_t)align;
}

static void read_tensors(cursor *c) {
    gguf *g = c->g;
    const size_t align = read_alignment(c);
    uint64_t *offset = crit_malloc(g->n_tensor, sizeof *offset);
    if (!offset && !c->st) FAIL(c, CRIT_E_NOMEM, "%s: out of memory for metadata", shown(g->path));
    c->where = "list of tensors";
    for (size_t i = 0; i < g->n_tensor && !c->st; i++) {
        read_tensor(c, &g->tensor[i], &offset[i]);
        if (!c->st && !names_add(&g->tensor_names, g->tensor, sizeof *g->tensor, offsetof(gguf_tensor, name), i))
            FAIL(c, CRIT_E_FORMAT, "%s: damaged: tensor %.*s occurs twice", shown(g->path), NAME(g->tensor[i].name));
    }
    const size_t pad = (align - c->at % align) % align;
    const size_t room = g->bytes - c->at > pad ? g->bytes - c->at - pad : 0;
    for (size_t i = 0; i < g->n_tensor && !c->st; i++) {
        gguf_tensor *t = &g->tensor[i];
        if (offset[i] % align)
            FAIL(c, CRIT_E_FORMAT, "%s: damaged: tensor %.*s is not aligned to %zu bytes", shown(g->path),
                 NAME(t->name), align);
        else if (offset[i] > room || t->bytes > room - (size_t)offset[i])
            FAIL(c, CRIT_E_FORMAT,
                 "%s: truncated: tensor %.*s needs %zu bytes at byte %zu of the tensor data, there are %zu",
                 shown(g->path), NAME(t->name), t->bytes, (size_t)offset[i], room);
        else
            t->data = g->map + c->at + pad + (size_t)offset[i];
    }
    crit_free(offset);
}

/* ---- the file ---- */

static void map_file(cursor *c) {
    gguf *g = c->g;
    struct stat sb;
    const int fd = open(g->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
    if (fd < 0) {
        FAIL(c, CRIT_E_IO, "%s: %s", shown(g->path), strerror(errno));
        return;
    }
    if (fstat(fd, &sb) != 0) {
        FAIL(c, CRIT_E_IO, "%s: %s", shown(g->path), strerror(errno));
    } else if (S_ISDIR(sb.st_mode)) {
        FAIL(c, CRIT_E_IO, "%s: is a directory", shown(g->path));
    } else if (!S_ISREG(sb.st_mode)) {
        FAIL(c, CRIT_E_IO, "%s: is not a regular file", shown(g->path));
    } else if (sb.st_size == 0) {
        FAIL(c, CRIT_E_FORMAT, "%s: is empty, not a GGUF file", shown(g->path));
    } else {
        void *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            FAIL(c, CRIT_E_IO, "%s: cannot be mapped: %s", shown(g->path), strerror(errno));
        } else {
            g->map = p;
            g->bytes = (size_t)sb.st_size;
            /* Prefill reads all of it in order: let the disk start now.  Advice, both may be refused. */
            (void)madvise(p, g->bytes, MADV_WILLNEED);
#ifdef MADV_HUGEPAGE
            (void)madvise(p, g->bytes, MADV_HUGEPAGE); /* file pages: where the file system has them */
#endif
        }
    }
    close(fd); /* the mapping keeps the file */
}

static void read_header(cursor *c) {
    gguf *g = c->g;
    const char *path = shown(g->path);
    const size_t seen = g->bytes < 4 ? g->bytes : 4;
    if (memcmp(g->map, "GGUF", seen) != 0) {
        if (seen == 4 && memcmp(g->map, "FUGG", 4) == 0)
            FAIL(c, CRIT_E_UNSUPPORTED, "%s: is a big-endian GGUF file", path);
        else
            FAIL(c, CRIT_E_FORMAT, "%s: is not a GGUF file (no magic at the start)", path);
        return;
    }
    c->where = "header";
    c->at = seen;
    const uint32_t version = take_u32(c);
    if (c->st) return;
    if ((version & 0xffff) == 0 && version)
        FAIL(c, CRIT_E_UNSUPPORTED, "%s: is a big-endian GGUF file", path);
    else if (version < 2 || version > 3)
        FAIL(c, CRIT_E_UNSUPPORTED, "%s: is GGUF version %u; 2 and 3 are supported", path, version);
    const uint64_t n_tensor = take_u64(c), n_kv = take_u64(c);
    if (c->st) return;
    if (n_tensor > MAX_NAMES || n_kv > MAX_NAMES) {
        FAIL(c, CRIT_E_FORMAT, "%s: damaged: the header counts %llu tensors and %llu metadata keys", path,
             (unsigned long long)n_tensor, (unsigned long long)n_kv);
        return;
    }
    g->n_tensor = (size_t)n_tensor;
    g->n_kv = (size_t)n_kv;
    g->kv = crit_calloc(g->n_kv, sizeof *g->kv);
    g->tensor = crit_calloc(g->n_tensor, sizeof *g->tensor);
    if (!g->kv || !g->tensor || !names_init(&g->kv_names, g->n_kv) || !names_init(&g->tensor_names, g->n_tensor))
        FAIL(c, CRIT_E_NOMEM, "%s: out of memory for metadata", path);
}

/* "...-00002-of-00005.gguf": which part of how many; false when the name has no such end. */
static bool split_name(const char *path, unsigned long *part, unsigned long *parts) {
    const size_t tail = sizeof "-00001-of-00002.gguf" - 1, len = strlen(path);
    if (len < tail) return false;
    const char *p = path + len - tail;
    if (p[0] != '-' || memcmp(p + 6, "-of-", 4) != 0 || strcmp(p + 15, ".gguf") != 0) return false;
    for (int i = 1; i < 6; i++)
        if (!isdigit((unsigned char)p[i]) || !isdigit((unsigned char)p[i + 9])) return false;
    *part = strtoul(p + 1, NULL, 10);
    *parts = strtoul(p + 10, NULL, 10);
    return true;
}

static void refuse_split(cursor *c) {
    uint64_t count;
    unsigned long part, parts;
    if (c->st) return;
    const bool known = gguf_get_u64(c->g, "split.count", &count);
    if (known && count > 1)
        FAIL(c, CRIT_E_UNSUPPORTED,
             "%s: is one part of a model split into %llu files; join them with gguf-split --merge", shown(c->g->path),
             (unsigned long long)count);
    else if (!known && split_name(c->g->path, &part, &parts) && parts > 1)
        FAIL(c, CRIT_E_UNSUPPORTED,
             "%s: is part %lu of a model split into %lu files; join them with gguf-split --merge", shown(c->g->path),
             part, parts);
}

crit_status gguf_open(gguf **out, const char *path, crit_error *err) {
    if (!out) return crit_fail(err, CRIT_E_ARG, "gguf_open: out is NULL");
    *out = NULL;
    if (!path) return crit_fail(err, CRIT_E_ARG, "gguf_open: path is NULL");
    gguf *g = crit_calloc(1, sizeof *g);
    const size_t len = strlen(path) + 1;
    if (g) g->path = crit_malloc(len, 1);
    if (!g || !g->path) {
        crit_free(g);
        return crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", shown(path));
    }
    memcpy(g->path, path, len);
    cursor c = {.g = g, .err = err};
    map_file(&c);
    if (!c.st) read_header(&c);
    if (!c.st) read_metadata(&c);
    refuse_split(&c);
    if (!c.st) read_tensors(&c);
    if (c.st) gguf_close(&g);
    *out = g;
    return c.st;
}

void gguf_close(gguf **gp) {
    if (!gp || !*gp) return;
    gguf *g = *gp;
    for (size_t i = 0; g->kv && i < g->n_kv; i++) crit_free(g->kv[i].str_at);
    crit_free(g->kv);
    crit_free(g->tensor);
    crit_free(g->kv_names.slot);
    crit_free(g->tensor_names.slot);
    if (g->map) munmap(g->map, g->bytes);
    crit_free(g->path);
    crit_free(g);
    *gp = NULL;
}
