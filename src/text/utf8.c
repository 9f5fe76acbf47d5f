/* SPDX-License-Identifier: MIT */
/* See utf8.h. */
#include "text/utf8.h"

#include <string.h>

size_t crit_utf8_decode(const unsigned char *s, size_t n, uint32_t *cp) {
    unsigned char b = s[0];
    if (b < 0x80) {
        *cp = b;
        return 1;
    }
    size_t len = b < 0xc0 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf8 ? 4 : 0;
    *cp = 0xfffd;
    if (!len || len > n) return 0;
    uint32_t c = b & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c > 0x10ffff) return 0;
    *cp = c;
    return len;
}

size_t crit_utf8_encode(uint32_t cp, unsigned char *out) {
    if (cp < 0x80) {
        out[0] = (unsigned char)cp;
        return 1;
    }
    size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, cp >>= 6) out[i] = (unsigned char)(0x80 | (cp & 0x3f));
    out[0] = (unsigned char)((0xf00u >> len) | cp);
    return len;
}

/* Allowed range of the second byte after lead b. */
static void second_range(unsigned char b, unsigned char *lo, unsigned char *hi) {
    *lo = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
    *hi = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
}

/* Bytes a well-formed sequence with lead b has; 0: no lead. */
static size_t sequence_len(unsigned char b) {
    return b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
}

static size_t replacement(char *out) {
    memcpy(out, "\xef\xbf\xbd", 3);
    return 3;
}

size_t crit_utf8_push(crit_utf8_stream *u, const char *s, size_t n, char *out) {
    size_t w = 0;
    for (size_t i = 0; i < n;) {
        unsigned char b = (unsigned char)s[i];
        if (u->n_held) {
            unsigned char lo = 0x80, hi = 0xbf;
            if (u->n_held == 1) second_range(u->held[0], &lo, &hi);
            if (b < lo || b > hi) { /* b is looked at again, as a start */
                w += replacement(out + w);
                u->n_held = 0;
                continue;
            }
        } else if (!sequence_len(b)) {
            w += replacement(out + w);
            i++;
            continue;
        }
        u->held[u->n_held++] = b;
        i++;
        if (u->n_held == sequence_len(u->held[0])) {
            memcpy(out + w, u->held, u->n_held);
            w += u->n_held;
            u->n_held = 0;
        }
    }
    return w;
}

size_t crit_utf8_end(crit_utf8_stream *u, char *out) {
    size_t w = u->n_held ? replacement(out) : 0;
    u->n_held = 0;
    return w;
}
