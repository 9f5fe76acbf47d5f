/* SPDX-License-Identifier: MIT */
/* From text to the tokens of one prompt, and how it fits the context. */
#ifndef PROG_PROMPT_H
#define PROG_PROMPT_H

#include "options.h"

typedef struct prompt {
    int32_t *ids; /* freed by prompt_free */
    size_t n;
} prompt;

enum { PREFIX_CHAT = 1 }; /* mark of a snapshot that ends within a user's message */

typedef struct fit {
    uint32_t n_ctx;     /* for the session */
    uint32_t n_predict; /* tokens to generate at most */
} fit;

/* Opens -m with --cpu and reads its facts; *load_ms is the time taken.  EXIT_OK or the exit code after a line on stderr
 * (as all of these). */
int model_open(const options *o, crit_model **model, crit_model_info *info, double *load_ms);
/* The context the model is good for: what it was trained for, or a sliding window we cannot go beyond; 0 = not known.
 */
uint32_t model_context(const crit_model_info *info);
/* Tokens of text, appended to p. */
int prompt_tokenize(prompt *p, const crit_model *model, const char *text, size_t n, unsigned flags);
/* The text as one user's message, ready for the answer.  Text that looks like a special token stays text. */
int prompt_chat(prompt *p, const crit_model *model, const char *system, const char *text, size_t n);
/* Likewise in two parts, appended: all up to the message's first n bytes, then the rest of it and the template's end.
 */
int prompt_chat_begin(prompt *p, const crit_model *model, const char *system, const char *text, size_t n);
int prompt_chat_end(prompt *p, const crit_model *model, const char *text, size_t n);
/* Refuses a text of n_byte bytes that cannot fit, before a mistaken file of gigabytes is gone through for its tokens. */
int prompt_may_fit(const options *o, const crit_model *model, const crit_model_info *info, size_t n_byte);
/* Decides the context; refuses or, with --truncate middle, shortens a prompt that is too long. */
int prompt_fit(prompt *p, const options *o, const crit_model_info *info, fit *out);
void prompt_free(prompt *p);

#endif
