/* SPDX-License-Identifier: MIT */
/* Bytes that grow, and a place in bytes that are read: how parts put themselves into a file and come out of it again.
 *
 * Values lie as the machine has them (little-endian: the snapshot's header sees to it), without alignment.  A failure
 * is remembered, so that only the end needs a look. */
#ifndef CRIT_BLOB_H
#define CRIT_BLOB_H

#include "core/core.h"

typedef struct crit_blob {
    unsigned char *p; /* freed by crit_free */
    size_t n, cap;
    bool failed; /* out of memory */
} crit_blob;

void crit_blob_put(crit_blob *b, const void *from, size_t bytes);
void crit_blob_u32(crit_blob *b, uint32_t x);

typedef struct crit_blob_view {
    const unsigned char *p;
    size_t n, at;
    bool failed; /* it ended early */
} crit_blob_view;

/* Zeros when it fails. */
void crit_blob_get(crit_blob_view *v, void *to, size_t bytes);
uint32_t crit_blob_get_u32(crit_blob_view *v);

#endif
