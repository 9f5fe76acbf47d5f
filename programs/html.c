/* SPDX-License-Identifier: MIT */
/* See html.h. */
#include "html.h"

#include <string.h>

void html_text(buf *out, const char *s, size_t n) {
    buf clean = {0};
    utf8 u = {0};
    utf8_feed(&u, s, n, &clean);
    utf8_end(&u, &clean);
    for (size_t i = 0; i < clean.n; i++) {
        const char c = clean.s[i];
        switch (c) {
        case '&':
            buf_str(out, "&amp;");
            break;
        case '<':
            buf_str(out, "&lt;");
            break;
        case '>':
            buf_str(out, "&gt;");
            break;
        case '"':
            buf_str(out, "&quot;");
            break;
        case '\'':
            buf_str(out, "&#39;");
            break;
        default:
            if (((unsigned char)c < 0x20 && c != '\n' && c != '\t') || c == 0x7F)
                buf_str(out, "?");
            else
                buf_add(out, &c, 1);
        }
    }
    out->oom = out->oom || clean.oom;
    buf_free(&clean);
}

void html_base64(buf *out, const void *data, size_t n) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    if (!buf_room(out, (n + 2) / 3 * 4)) return;
    char *s = out->s + out->n;
    for (size_t i = 0; i < n; i += 3) {
        const unsigned a = p[i], b = i + 1 < n ? p[i + 1] : 0, c = i + 2 < n ? p[i + 2] : 0;
        *s++ = digit[a >> 2];
        *s++ = digit[(a & 3) << 4 | b >> 4];
        *s++ = i + 1 < n ? digit[(b & 15) << 2 | c >> 6] : '=';
        *s++ = i + 2 < n ? digit[c & 63] : '=';
    }
    *s = 0;
    out->n = (size_t)(s - out->s);
}

void html_json(buf *out, const char *json) {
    /* these three occur inside strings only, where the escape means the same */
    for (const char *s = json; *s;) {
        const size_t n = strcspn(s, "<>&");
        buf_add(out, s, n);
        s += n;
        if (*s) buf_fmt(out, "\\u%04x", (unsigned)(unsigned char)*s++);
    }
}
