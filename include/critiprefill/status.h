/* SPDX-License-Identifier: MIT */
/* Status codes and the caller-owned error record shared by every critiprefill header.
 *
 * Every call that can fail returns a crit_status and takes an optional crit_error *err; on failure the record
 * holds the same code and one line of text that names the file, tensor or value at fault.  err may be NULL.
 * The numbers are pinned: they never change meaning between releases. */
#ifndef CRITIPREFILL_STATUS_H
#define CRITIPREFILL_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(CRIT_BUILD_SHARED) && defined(__GNUC__)
#define CRIT_API __attribute__((visibility("default")))
#else
#define CRIT_API
#endif

typedef enum crit_status {
    CRIT_OK = 0,

    CRIT_E_ARG = -1,       /* an argument is NULL, out of range or inconsistent */
    CRIT_E_NOMEM = -2,     /* allocation failed, or the estimate exceeds the memory available */
    CRIT_E_CANCELLED = -3, /* a progress callback returned non-zero; the session is unchanged */
    CRIT_E_STATE = -4,     /* call not valid now (for example logits before any prefill) */
    CRIT_E_CPU = -5,       /* the CPU level asked for is not available here */

    CRIT_E_IO = -10,          /* file cannot be opened, read or mapped */
    CRIT_E_FORMAT = -11,      /* not a GGUF file, truncated, or a length or offset that overflows */
    CRIT_E_UNSUPPORTED = -12, /* well-formed, but an architecture, type or feature we do not have */
    CRIT_E_SHAPE = -13,       /* tensor missing, or its shape disagrees with the metadata */
    CRIT_E_VALUE = -14,       /* a stored value makes no sense (NaN scale, zero heads, ...) */

    CRIT_E_CONTEXT = -20, /* prompt does not fit the context of the model or session */

    CRIT_E_TOKENIZER = -30, /* the model carries no tokenizer we can use */
    CRIT_E_CHAT = -31,      /* the model's chat template is missing or not one we know */
    CRIT_E_SPACE = -32      /* the caller's buffer is too small; the size needed is returned */
} crit_status;

/* Filled by the failing call; the message is always NUL-terminated and holds no newline. */
typedef struct crit_error {
    crit_status code;
    char message[512];
} crit_error;

/* Static English name of a status ("out of memory"); never NULL.  Thread-safe. */
CRIT_API const char *crit_status_str(crit_status status);

#ifdef __cplusplus
}
#endif
#endif
