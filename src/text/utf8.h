/* SPDX-License-Identifier: MIT */
/* UTF-8 as tokenizers meet it: any bytes, and a stream that is cut anywhere.
 *
 * The decoder is lenient the way the models' vocabularies are used in practice: surrogates and overlong forms pass,
 * a byte that starts no sequence stands for U+FFFD by itself. */
#ifndef CRIT_TEXT_UTF8_H
#define CRIT_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Code point at s[0..n), n > 0.  Returns the bytes it takes, 0 when s[0] starts none (*cp is U+FFFD then). */
size_t crit_utf8_decode(const unsigned char *s, size_t n, uint32_t *cp);
/* Writes cp (<= 0x10FFFF) to out [4]; returns its length. */
size_t crit_utf8_encode(uint32_t cp, unsigned char *out);

/* Holds back an unfinished character at the end of what was pushed.  Zero-initialise. */
typedef struct crit_utf8_stream {
    unsigned char held[4];
    size_t n_held;
} crit_utf8_stream;

/* Whole characters of held + s[0..n) to out, ill-formed bytes as U+FFFD (strict: RFC 3629, one U+FFFD for each maximal
 * part of a sequence).  out needs 3 * (n + 4) bytes.  Returns the bytes written. */
size_t crit_utf8_push(crit_utf8_stream *u, const char *s, size_t n, char *out);
/* The end: what is held is ill-formed now.  out [3]. */
size_t crit_utf8_end(crit_utf8_stream *u, char *out);

#endif
