/* SPDX-License-Identifier: MIT */
/* The file of a snapshot: sections with a kind and a number, each with a checksum of its own (doc/POLICIES.md has the
 * layout).
 *
 *   header | table of sections | sections, without gaps to the end of the file
 *
 * Little-endian.  Every byte of the file is under one of three checksums (xxh3, 64 bits): the header's, the table's, a
 * section's; so whatever is damaged is noticed before it is used.  Knows nothing of what the sections mean. */
#ifndef CRIT_SNAPSHOT_H
#define CRIT_SNAPSHOT_H

#include "core/core.h"

enum { CRIT_SNAPSHOT_VERSION = 2 }; /* 1: marks of calibration do not say how many rows they saw */

/* What a snapshot is of. */
typedef struct crit_snapshot_head {
    uint64_t model; /* fingerprint of the weights it belongs to */
    uint32_t n_tok, n_layer, n_kv_head, d, kv_layout;
    uint32_t mark; /* the caller's own */
} crit_snapshot_head;

typedef struct crit_snapshot_section {
    uint32_t kind, index; /* together unique */
    const void *data;     /* [bytes], what is to be written; reading: see crit_snapshot_read */
    size_t bytes;
} crit_snapshot_section;

/* Writes path anew, or leaves what was there: it is another file until it is whole.  zstd: compression level, 0 = none.
 * Errors: CRIT_E_IO, CRIT_E_NOMEM, CRIT_E_CANCELLED (the pool was stopped). */
crit_status crit_snapshot_write(const char *path, const crit_snapshot_head *head, const crit_snapshot_section *section,
                                uint32_t n_section, int zstd, crit_pool *pool, crit_error *err);

typedef struct crit_snapshot crit_snapshot;
/* Checks header and table.  Errors name the file: CRIT_E_IO, CRIT_E_FORMAT (no snapshot, truncated, damaged),
 * CRIT_E_UNSUPPORTED (a newer version), CRIT_E_NOMEM. */
crit_status crit_snapshot_open(crit_snapshot **out, const char *path, crit_error *err);
void crit_snapshot_close(crit_snapshot **s); /* accepts NULL and *s == NULL */
const crit_snapshot_head *crit_snapshot_get_head(const crit_snapshot *s);
size_t crit_snapshot_file_bytes(const crit_snapshot *s);
/* Bytes of a section as it was given to be written; false when there is none. */
bool crit_snapshot_find(const crit_snapshot *s, uint32_t kind, uint32_t index, size_t *bytes);

/* Where a section is to go: to [bytes], which is just what it has. */
typedef struct crit_snapshot_want {
    uint32_t kind, index;
    void *to;
    size_t bytes;
} crit_snapshot_want;
/* Reads sections in parallel, checks their sums and unpacks them.  Errors as crit_snapshot_open, also CRIT_E_FORMAT for
 * a section that is missing or has other bytes; what is in `to` then is of no use. */
crit_status crit_snapshot_read(crit_snapshot *s, const crit_snapshot_want *want, uint32_t n_want, crit_pool *pool,
                               crit_error *err);

#endif
