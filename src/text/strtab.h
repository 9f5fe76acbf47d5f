/* SPDX-License-Identifier: MIT */
/* Byte strings numbered in the order they were added, with look-up by content.
 *
 * A string may be stored without being found (hidden), as tokens that text cannot spell are.  Of equal strings the one
 * added first is found.  Constant after the last add; then safe to read from any thread. */
#ifndef CRIT_TEXT_STRTAB_H
#define CRIT_TEXT_STRTAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRIT_STR_NONE UINT32_MAX

typedef struct crit_strtab {
    char *bytes;
    uint32_t *off;  /* [cap + 1]: string i is bytes[off[i]..off[i + 1]) */
    uint32_t *slot; /* [n_slot] string number + 1, 0 = empty */
    size_t n_bytes, bytes_cap;
    uint32_t n, cap, n_slot, n_found;
} crit_strtab;

/* false: out of memory, or more than 4 GB of text. */
bool crit_strtab_add(crit_strtab *t, const char *s, size_t len, bool hidden);
uint32_t crit_strtab_find(const crit_strtab *t, const char *s, size_t len); /* CRIT_STR_NONE if absent */
void crit_strtab_clear(crit_strtab *t);
size_t crit_strtab_bytes(const crit_strtab *t);

static inline const char *crit_strtab_at(const crit_strtab *t, uint32_t i, size_t *len) {
    *len = t->off[i + 1] - t->off[i];
    return t->bytes + t->off[i];
}

#endif
