/* SPDX-License-Identifier: MIT */
/* See buf.h.  The UTF-8 rules are those of Unicode's table of well-formed sequences; an invalid sequence is replaced
 * up to where it stopped being the start of a valid one, as browsers do. */
#include "buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool buf_room(buf *b, size_t n) {
    if (b->oom) return false;
    if (n < b->cap && b->n < b->cap - n) return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap - b->n <= n) {
        if (cap > SIZE_MAX / 2) {
            b->oom = true;
            return false;
        }
        cap *= 2;
    }
    char *s = realloc(b->s, cap);
    if (!s) {
        b->oom = true;
        return false;
    }
    b->s = s;
    b->cap = cap;
    b->s[b->n] = 0;
    return true;
}

void buf_add(buf *b, const void *s, size_t n) {
    if (!buf_room(b, n)) return;
    if (n) memcpy(b->s + b->n, s, n);
    b->n += n;
    b->s[b->n] = 0;
}

void buf_str(buf *b, const char *s) {
    buf_add(b, s, strlen(s));
}

void buf_vfmt(buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0 || !buf_room(b, (size_t)n)) return;
    vsnprintf(b->s + b->n, (size_t)n + 1, fmt, ap);
    b->n += (size_t)n;
}

void buf_fmt(buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vfmt(b, fmt, ap);
    va_end(ap);
}

void buf_free(buf *b) {
    free(b->s);
    *b = (buf){0};
}

/* Length of the sequence at s; 0 when s is the start of one that goes on; -k when its first k bytes are no sequence. */
static int utf8_step(const unsigned char *s, size_t n) {
    unsigned c = s[0], lo = 0x80, hi = 0xBF;
    if (c < 0x80) return 1;
    if (c < 0xC2 || c > 0xF4) return -1;
    int len = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (c == 0xE0) lo = 0xA0;
    if (c == 0xED) hi = 0x9F;
    if (c == 0xF0) lo = 0x90;
    if (c == 0xF4) hi = 0x8F;
    for (int i = 1; i < len; i++) {
        if ((size_t)i >= n) return 0;
        if (s[i] < lo || s[i] > hi) return -i;
        lo = 0x80;
        hi = 0xBF;
    }
    return len;
}

void utf8_feed(utf8 *u, const void *s, size_t n, buf *out) {
    const unsigned char *p = s;
    for (size_t i = 0; i < n; i++) {
        u->hold[u->n++] = p[i];
        while (u->n) {
            int r = utf8_step(u->hold, u->n);
            if (r == 0) break;
            size_t k = (size_t)(r < 0 ? -r : r);
            if (r > 0)
                buf_add(out, u->hold, k);
            else
                buf_str(out, "\xEF\xBF\xBD");
            u->n -= k;
            memmove(u->hold, u->hold + k, u->n);
        }
    }
}

void utf8_end(utf8 *u, buf *out) {
    if (u->n) buf_str(out, "\xEF\xBF\xBD");
    u->n = 0;
}

void buf_quoted(buf *b, const void *s, size_t n) {
    const unsigned char *p = s;
    buf_str(b, "\"");
    for (size_t i = 0; i < n;) {
        int r = utf8_step(p + i, n - i);
        unsigned char c = p[i];
        const char *esc = c == '\n'   ? "\\n"
                          : c == '\t' ? "\\t"
                          : c == '\r' ? "\\r"
                          : c == '"'  ? "\\\""
                          : c == '\\' ? "\\\\"
                                      : NULL;
        if (esc)
            buf_str(b, esc);
        else if (r <= 0 || c < 0x20 || c == 0x7F)
            buf_fmt(b, "\\x%02X", c);
        else
            buf_add(b, p + i, (size_t)r);
        i += r > 0 ? (size_t)r : 1;
    }
    buf_str(b, "\"");
}

void buf_clean(buf *b, const void *s, size_t n) {
    utf8 u = {0};
    size_t from = b->n;
    utf8_feed(&u, s, n, b);
    utf8_end(&u, b);
    for (size_t i = from; i < b->n; i++)
        if ((unsigned char)b->s[i] < 0x20 || b->s[i] == 0x7F) b->s[i] = '?';
}
