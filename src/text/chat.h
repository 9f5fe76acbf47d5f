/* SPDX-License-Identifier: MIT */
/* Chat templates: which family a model's template belongs to, and rendering messages the way it does.
 *
 * Templates are programs (Jinja); no interpreter is built here.  The families below cover the supported architectures; a
 * template of none of them is refused, never guessed.  BOS is not rendered: the tokenizer adds it when the file says so. */
#ifndef CRIT_TEXT_CHAT_H
#define CRIT_TEXT_CHAT_H

#include "text/vocab.h"

typedef enum crit_chat_family {
    CRIT_CHAT_NONE, /* no template, or one that is not recognised */
    CRIT_CHAT_CHATML,
    CRIT_CHAT_LLAMA2,
    CRIT_CHAT_LLAMA3,
    CRIT_CHAT_MISTRAL,
    CRIT_CHAT_ZEPHYR
} crit_chat_family;

crit_chat_family crit_chat_recognise(crit_text tmpl);
const char *crit_chat_family_name(crit_chat_family f); /* "chatml"; "" for NONE */

/* As crit_chat_render of critiprefill.h. */
crit_status crit_chat_write(const crit_vocab *v, const crit_message *msg, size_t n_msg, bool add_reply, char *buf, size_t cap,
                            size_t *n, crit_error *err);

#endif
