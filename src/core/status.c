/* SPDX-License-Identifier: MIT */
/* Status names and the one way to report a failure. */
#include <stdio.h>
#include <string.h>

#include "core/core.h"

const char *crit_status_str(crit_status status) {
    switch (status) {
    case CRIT_OK: return "ok";
    case CRIT_E_ARG: return "invalid argument";
    case CRIT_E_NOMEM: return "out of memory";
    case CRIT_E_CANCELLED: return "cancelled";
    case CRIT_E_STATE: return "call not valid in this state";
    case CRIT_E_CPU: return "CPU level not available";
    case CRIT_E_IO: return "input/output error";
    case CRIT_E_FORMAT: return "malformed file";
    case CRIT_E_UNSUPPORTED: return "not supported";
    case CRIT_E_SHAPE: return "tensor missing or of the wrong shape";
    case CRIT_E_VALUE: return "invalid value in file";
    case CRIT_E_CONTEXT: return "does not fit the context";
    case CRIT_E_TOKENIZER: return "no usable tokenizer";
    case CRIT_E_CHAT: return "no usable chat template";
    case CRIT_E_SPACE: return "buffer too small";
    }
    return "unknown status";
}

crit_status crit_fail(crit_error *err, crit_status code, const char *fmt, ...) {
    if (!err) return code;
    err->code = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    /* Names come from files: one line, whatever they hold. */
    for (char *c = err->message; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return code;
}
