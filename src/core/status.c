/* SPDX-License-Identifier: MIT */
/* Status names and the one way to report a failure. */
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

const char *crit_status_str(crit_status status) {
    switch (status) {
    case CRIT_OK:
        return "ok";
    case CRIT_E_ARG:
        return "invalid argument";
    case CRIT_E_NOMEM:
        return "out of memory";
    case CRIT_E_CANCELLED:
        return "cancelled";
    case CRIT_E_STATE:
        return "call not valid in this state";
    case CRIT_E_CPU:
        return "CPU level not available";
    case CRIT_E_IO:
        return "input/output error";
    case CRIT_E_FORMAT:
        return "malformed file";
    case CRIT_E_UNSUPPORTED:
        return "not supported";
    case CRIT_E_SHAPE:
        return "tensor missing or of the wrong shape";
    case CRIT_E_VALUE:
        return "invalid value in file";
    case CRIT_E_CONTEXT:
        return "does not fit the context";
    case CRIT_E_TOKENIZER:
        return "no usable tokenizer";
    case CRIT_E_CHAT:
        return "no usable chat template";
    case CRIT_E_SPACE:
        return "buffer too small";
    }
    return "unknown status";
}

/* Length of the well-formed UTF-8 sequence at c, 0 when there is none. */
static size_t utf8_len(const unsigned char *c) {
    size_t n = *c < 0x80 ? 1 : *c >= 0xc2 && *c < 0xe0 ? 2 : (*c & 0xf0) == 0xe0 ? 3 : *c >= 0xf0 && *c < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((c[i] & 0xc0) != 0x80) return 0; /* the NUL at the end too */
    if (n == 3 && ((*c == 0xe0 && c[1] < 0xa0) || (*c == 0xed && c[1] > 0x9f))) return 0;
    if (n == 4 && ((*c == 0xf0 && c[1] < 0x90) || (*c == 0xf4 && c[1] > 0x8f))) return 0;
    return n;
}

static int vprint(char *buf, size_t cap, const char *fmt, va_list ap) {
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), was = c ? uselocale(c) : (locale_t)0;
    const int n = vsnprintf(buf, cap, fmt, ap);
    if (c) {
        uselocale(was);
        freelocale(c);
    }
    return n;
}

int crit_print(char *buf, size_t cap, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const int n = vprint(buf, cap, fmt, ap);
    va_end(ap);
    return n;
}

crit_status crit_fail(crit_error *err, crit_status code, const char *fmt, ...) {
    if (!err) return code;
    err->code = code;
    va_list ap;
    va_start(ap, fmt);
    (void)vprint(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    /* Names come from files: one line of valid text, whatever they hold. */
    for (unsigned char *c = (unsigned char *)err->message; *c;) {
        size_t n = utf8_len(c);
        if (n == 0 || *c < 0x20 || *c == 0x7f) *c = '?', n = 1;
        c += n;
    }
    return code;
}
