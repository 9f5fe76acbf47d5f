/* SPDX-License-Identifier: MIT */
/* A growing byte string, and the two ways text changes on its way out: UTF-8 made valid, and escaped pieces.
 *
 * Out of memory is remembered in .oom, so that callers append freely and check once (out_buf does). */
#ifndef PROG_BUF_H
#define PROG_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct buf {
    char *s; /* NUL-terminated once anything was added; NULL before */
    size_t n, cap;
    bool oom;
} buf;

bool buf_room(buf *b, size_t n); /* room for n more bytes and a NUL */
void buf_add(buf *b, const void *s, size_t n);
void buf_str(buf *b, const char *s);
void buf_fmt(buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vfmt(buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
void buf_free(buf *b);

/* A stream of bytes in pieces cut anywhere becomes valid UTF-8: an incomplete sequence waits for the next piece,
 * an invalid one becomes U+FFFD. */
typedef struct utf8 {
    unsigned char hold[4];
    size_t n;
} utf8;
void utf8_feed(utf8 *u, const void *s, size_t n, buf *out);
void utf8_end(utf8 *u, buf *out); /* what still waits becomes U+FFFD */

/* "..." with \n \t \r \" \\ and \xNN for other control characters and invalid UTF-8. */
void buf_quoted(buf *b, const void *s, size_t n);
/* Valid UTF-8 without control characters ('?' for those), for names out of files. */
void buf_clean(buf *b, const void *s, size_t n);

#endif
