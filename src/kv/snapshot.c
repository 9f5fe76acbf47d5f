/* SPDX-License-Identifier: MIT */
/* See snapshot.h.  Sections are read straight to where they belong, then checked there; only packed ones take a detour.
 */
#include "kv/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "snapshots hold values as the machine has them, which must be little-endian"
#endif

/* The first byte is no text, and a transfer as text breaks the line ends. */
static const unsigned char magic[8] = {0xc9, 'C', 'P', 'K', 'V', '\r', '\n', 0x1a};

typedef struct header {
    unsigned char magic[8];
    uint32_t version, n_section;
    uint64_t file_bytes, table_sum;
    crit_snapshot_head head;
    uint64_t sum; /* of all before it */
} header;

typedef struct entry {
    uint32_t kind, index;
    uint64_t at, stored, bytes; /* offset in the file; bytes there; bytes unpacked */
    uint32_t packed, zero;
    uint64_t sum; /* of the bytes in the file */
} entry;

_Static_assert(sizeof(header) == 72 && sizeof(entry) == 48, "no padding: these lie in files");

enum { MAX_SECTION = 1 << 20 };

struct crit_snapshot {
    char *path;
    int fd;
    header h;
    entry *table;
};

/* ---- writing ---- */

static bool write_at(int fd, const void *from, size_t n, uint64_t at) {
    while (n) {
        ssize_t w = pwrite(fd, from, n, (off_t)at);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return false;
        from = (const char *)from + w;
        n -= (size_t)w;
        at += (uint64_t)w;
    }
    return true;
}

typedef struct packing {
    const crit_snapshot_section *section;
    entry *table;
    void **packed; /* [n] bytes of our own, or NULL: as they are */
    uint32_t first;
    int level;
    _Atomic bool failed;
} packing;

static void pack_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    packing *a = arg;
    const crit_snapshot_section *s = &a->section[a->first + item];
    entry *e = &a->table[a->first + item];
    *e = (entry){.kind = s->kind, .index = s->index, .stored = s->bytes, .bytes = s->bytes};
    a->packed[item] = NULL;
    if (a->level && s->bytes) {
        size_t cap = ZSTD_compressBound(s->bytes);
        void *to = crit_malloc(cap, 1);
        size_t n = to ? ZSTD_compress(to, cap, s->data, s->bytes, a->level) : 0;
        if (!to || ZSTD_isError(n)) {
            crit_free(to);
            a->failed = true;
            return;
        }
        if (n < s->bytes) {
            a->packed[item] = to;
            e->stored = n;
            e->packed = 1;
        } else {
            crit_free(to);
        }
    }
    e->sum = XXH3_64bits(a->packed[item] ? a->packed[item] : s->data, e->stored);
}

/* As many at a time as keep the threads busy, so that packed bytes do not pile up. */
static crit_status write_sections(int fd, packing *a, uint32_t n, uint64_t *at, const char *path, crit_pool *pool,
                                  crit_error *err) {
    uint32_t batch = 4 * crit_pool_size(pool);
    crit_status st = CRIT_OK;
    a->packed = crit_calloc(batch, sizeof *a->packed);
    if (!a->packed) return crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", path);
    for (a->first = 0; a->first < n && !st; a->first += batch) {
        uint32_t m = n - a->first < batch ? n - a->first : batch;
        crit_pool_run(pool, m, pack_item, a);
        if (crit_pool_stopped(pool)) st = crit_fail(err, CRIT_E_CANCELLED, "cancelled");
        if (!st && a->failed) st = crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", path);
        for (uint32_t i = 0; i < m; i++) {
            entry *e = &a->table[a->first + i];
            if (!st) {
                e->at = *at;
                if (!write_at(fd, a->packed[i] ? a->packed[i] : a->section[a->first + i].data, e->stored, e->at))
                    st = crit_fail(err, CRIT_E_IO, "%s: %s", path, strerror(errno));
                *at += e->stored;
            }
            crit_free(a->packed[i]);
            a->packed[i] = NULL;
        }
    }
    crit_free(a->packed);
    return st;
}

static crit_status write_all(int fd, const char *path, const crit_snapshot_head *head,
                             const crit_snapshot_section *section, uint32_t n, int zstd, crit_pool *pool,
                             crit_error *err) {
    header h = {.version = CRIT_SNAPSHOT_VERSION, .n_section = n, .head = *head};
    packing a = {.section = section, .level = zstd};
    uint64_t at = sizeof h + (uint64_t)n * sizeof(entry);
    a.table = crit_calloc(n, sizeof *a.table);
    if (!a.table) return crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", path);
    crit_status st = write_sections(fd, &a, n, &at, path, pool, err);
    if (!st) {
        memcpy(h.magic, magic, sizeof magic);
        h.file_bytes = at;
        h.table_sum = XXH3_64bits(a.table, n * sizeof *a.table);
        h.sum = XXH3_64bits(&h, offsetof(header, sum));
        if (!write_at(fd, &h, sizeof h, 0) || !write_at(fd, a.table, n * sizeof *a.table, sizeof h))
            st = crit_fail(err, CRIT_E_IO, "%s: %s", path, strerror(errno));
    }
    crit_free(a.table);
    return st;
}

/* A new file beside path, for this call alone: others may be writing path, too.  *part is its name, to be freed. */
static int open_part(const char *path, char **part) {
    const size_t cap = strlen(path) + 32;
    int fd = -1;
    *part = crit_malloc(cap, 1);
    if (!*part) errno = ENOMEM;
    while (*part && fd < 0) {
        const unsigned long long mark = crit_now_ns() ^ (unsigned long long)getpid() << 40;
        snprintf(*part, cap, "%s.%llx.part", path, mark);
        fd = open(*part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST && errno != EINTR) break;
    }
    return fd;
}

crit_status crit_snapshot_write(const char *path, const crit_snapshot_head *head, const crit_snapshot_section *section,
                                uint32_t n_section, int zstd, crit_pool *pool, crit_error *err) {
    struct stat there;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode)) /* a rename would put a file in its place */
        return crit_fail(err, CRIT_E_IO, "%s: is there and no regular file", path);
    char *part;
    int fd = open_part(path, &part);
    crit_status st = CRIT_OK;
    if (fd < 0) {
        st = crit_fail(err, part ? CRIT_E_IO : CRIT_E_NOMEM, "%s: %s", path, strerror(errno));
    } else {
        st = write_all(fd, path, head, section, n_section, zstd, pool, err);
        if (close(fd) < 0 && !st) st = crit_fail(err, CRIT_E_IO, "%s: %s", path, strerror(errno));
        if (!st && rename(part, path) < 0) st = crit_fail(err, CRIT_E_IO, "%s: %s", path, strerror(errno));
        if (st) unlink(part);
    }
    crit_free(part);
    return st;
}

/* ---- reading ---- */

/* 0 = all of it, 1 = the file ended, -1 = errno. */
static int read_at(int fd, void *to, size_t n, uint64_t at) {
    while (n) {
        ssize_t r = pread(fd, to, n, (off_t)at);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return r ? -1 : 1;
        to = (char *)to + r;
        n -= (size_t)r;
        at += (uint64_t)r;
    }
    return 0;
}

static crit_status read_or(const crit_snapshot *s, void *to, size_t n, uint64_t at, crit_error *err) {
    int rc = read_at(s->fd, to, n, at);
    if (rc == 0) return CRIT_OK;
    return rc < 0 ? crit_fail(err, CRIT_E_IO, "%s: %s", s->path, strerror(errno))
                  : crit_fail(err, CRIT_E_FORMAT, "%s: the snapshot is truncated", s->path);
}

static crit_status check_header(crit_snapshot *s, crit_error *err) {
    struct stat f;
    const header *h = &s->h;
    if (fstat(s->fd, &f) < 0) return crit_fail(err, CRIT_E_IO, "%s: %s", s->path, strerror(errno));
    if (!S_ISREG(f.st_mode)) return crit_fail(err, CRIT_E_FORMAT, "%s: is no file", s->path);
    int rc = read_at(s->fd, &s->h, sizeof s->h < (size_t)f.st_size ? sizeof s->h : (size_t)f.st_size, 0);
    if (rc < 0) return crit_fail(err, CRIT_E_IO, "%s: %s", s->path, strerror(errno));
    if (rc > 0 || (size_t)f.st_size < sizeof magic || memcmp(h->magic, magic, sizeof magic))
        return crit_fail(err, CRIT_E_FORMAT, "%s: is no snapshot of critiprefill", s->path);
    if ((size_t)f.st_size < sizeof *h) return crit_fail(err, CRIT_E_FORMAT, "%s: the snapshot is truncated", s->path);
    if (h->version > CRIT_SNAPSHOT_VERSION) /* how a newer one is laid out nobody knows here */
        return crit_fail(err, CRIT_E_UNSUPPORTED, "%s: a snapshot of version %u, this program reads version %d",
                         s->path, h->version, CRIT_SNAPSHOT_VERSION);
    if (h->sum != XXH3_64bits(h, offsetof(header, sum)) || h->version == 0)
        return crit_fail(err, CRIT_E_FORMAT, "%s: the snapshot is damaged (header)", s->path);
    if ((uint64_t)f.st_size != h->file_bytes)
        return crit_fail(err, CRIT_E_FORMAT, "%s: the snapshot is %s: %lld bytes, written were %llu", s->path,
                         (uint64_t)f.st_size < h->file_bytes ? "truncated" : "damaged", (long long)f.st_size,
                         (unsigned long long)h->file_bytes);
    return CRIT_OK;
}

static crit_status check_table(crit_snapshot *s, crit_error *err) {
    uint32_t n = s->h.n_section;
    uint64_t at = sizeof s->h + (uint64_t)n * sizeof(entry);
    crit_status st = CRIT_OK;
    if (n <= MAX_SECTION && at <= s->h.file_bytes) {
        s->table = crit_malloc(n, sizeof *s->table);
        if (!s->table) return crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", s->path);
        st = read_or(s, s->table, n * sizeof *s->table, sizeof s->h, err);
        if (st) return st;
        bool ok = XXH3_64bits(s->table, n * sizeof *s->table) == s->h.table_sum;
        for (uint32_t i = 0; i < n && ok; i++) {
            const entry *e = &s->table[i];
            ok = e->at == at && e->stored <= s->h.file_bytes - at && e->bytes < SIZE_MAX / 2 &&
                 (e->packed ? e->stored < e->bytes : e->stored == e->bytes);
            at += e->stored;
        }
        if (ok && at == s->h.file_bytes) return CRIT_OK;
    }
    return crit_fail(err, CRIT_E_FORMAT, "%s: the snapshot is damaged (table of sections)", s->path);
}

crit_status crit_snapshot_open(crit_snapshot **out, const char *path, crit_error *err) {
    *out = NULL;
    crit_snapshot *s = crit_calloc(1, sizeof *s);
    size_t len = strlen(path) + 1;
    if (s) s->path = crit_malloc(len, 1);
    if (!s || !s->path) {
        crit_free(s);
        return crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", path);
    }
    memcpy(s->path, path, len);
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    crit_status st = s->fd < 0 ? crit_fail(err, CRIT_E_IO, "%s: %s", path, strerror(errno)) : check_header(s, err);
    if (!st) st = check_table(s, err);
    if (st) crit_snapshot_close(&s);
    *out = s;
    return st;
}

void crit_snapshot_close(crit_snapshot **s) {
    if (!s || !*s) return;
    if ((*s)->fd >= 0) close((*s)->fd);
    crit_free((*s)->path);
    crit_free((*s)->table);
    crit_free(*s);
    *s = NULL;
}

const crit_snapshot_head *crit_snapshot_get_head(const crit_snapshot *s) {
    return &s->h.head;
}

size_t crit_snapshot_file_bytes(const crit_snapshot *s) {
    return (size_t)s->h.file_bytes;
}

static const entry *find(const crit_snapshot *s, uint32_t kind, uint32_t index) {
    for (uint32_t i = 0; i < s->h.n_section; i++)
        if (s->table[i].kind == kind && s->table[i].index == index) return &s->table[i];
    return NULL;
}

bool crit_snapshot_find(const crit_snapshot *s, uint32_t kind, uint32_t index, size_t *bytes) {
    const entry *e = find(s, kind, index);
    if (e && bytes) *bytes = (size_t)e->bytes;
    return e;
}

typedef struct reading {
    const crit_snapshot *s;
    const crit_snapshot_want *want;
    _Atomic int bad; /* crit_status of one that failed */
} reading;

enum { BAD_SUM = CRIT_E_FORMAT, BAD_IO = CRIT_E_IO, BAD_MEM = CRIT_E_NOMEM };

static int fetch(const crit_snapshot *s, const entry *e, void *to) {
    int rc = read_at(s->fd, to, (size_t)e->stored, e->at);
    if (rc) return rc < 0 ? BAD_IO : BAD_SUM;
    return XXH3_64bits(to, (size_t)e->stored) == e->sum ? CRIT_OK : BAD_SUM;
}

static void read_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    reading *a = arg;
    const crit_snapshot_want *w = &a->want[item];
    const entry *e = find(a->s, w->kind, w->index);
    int bad = CRIT_OK;
    if (!e || e->bytes != w->bytes) {
        bad = BAD_SUM;
    } else if (e->packed) {
        void *packed = crit_malloc((size_t)e->stored, 1);
        bad = packed ? fetch(a->s, e, packed) : BAD_MEM;
        if (!bad && ZSTD_decompress(w->to, w->bytes, packed, (size_t)e->stored) != w->bytes) bad = BAD_SUM;
        crit_free(packed);
    } else {
        bad = fetch(a->s, e, w->to);
    }
    if (bad) a->bad = bad;
}

crit_status crit_snapshot_read(crit_snapshot *s, const crit_snapshot_want *want, uint32_t n_want, crit_pool *pool,
                               crit_error *err) {
    reading a = {.s = s, .want = want};
    if (pool)
        crit_pool_run(pool, n_want, read_item, &a);
    else
        for (uint32_t i = 0; i < n_want; i++) read_item(&a, i, 0);
    if (pool && crit_pool_stopped(pool)) return crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    if (a.bad == BAD_IO) return crit_fail(err, CRIT_E_IO, "%s: the snapshot could not be read", s->path);
    if (a.bad == BAD_MEM) return crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", s->path);
    return a.bad ? crit_fail(err, CRIT_E_FORMAT, "%s: the snapshot is damaged (contents)", s->path) : CRIT_OK;
}
