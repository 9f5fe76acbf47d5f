/* SPDX-License-Identifier: MIT */
/* Chat templates by family.
 *
 * A GGUF file carries its template as a Jinja program.  We do not run it: the family is recognised from the text, the
 * frame of the messages is ours, and what differs inside a family (a default system text, blanks, dates) is taken from
 * the string literals of the template.  A template we do not recognise is refused, never guessed at. */
#ifndef CRIT_TEXT_CHAT_H
#define CRIT_TEXT_CHAT_H

#include "text/vocab.h"

typedef enum crit_chat_family {
    CRIT_CHAT_NONE, /* no template, or not one we know */
    CRIT_CHAT_CHATML,
    CRIT_CHAT_LLAMA2,
    CRIT_CHAT_LLAMA3,
    CRIT_CHAT_MISTRAL,
    CRIT_CHAT_ZEPHYR
} crit_chat_family;

crit_chat_family crit_chat_recognise(crit_text chat_template);
const char *crit_chat_family_name(crit_chat_family family); /* "chatml"; "" for none */
crit_chat_family crit_vocab_chat_family(const crit_vocab *v);

/* As crit_chat_render.  The text begins with BOS where the template or the vocabulary asks for it, so it is tokenized
 * with CRIT_TOK_PARSE_SPECIAL and without CRIT_TOK_BOS_EOS.  Roles other than system, user and assistant, and no
 * message at all, are CRIT_E_ARG. */
crit_status crit_chat_write(const crit_vocab *v, const crit_message *msg, size_t n_msg, bool add_reply, char *buf,
                            size_t cap, size_t *n, crit_error *err);

/* ---- string literals of a template (chat_literal.c) ---- */

bool crit_text_has(crit_text t, const char *s);
typedef struct crit_chat_cursor {
    size_t at;
    bool in_tag;
} crit_chat_cursor; /* starts zeroed */
/* The next literal: a quoted string inside {{ }} or {% %}, or plain text outside.  *quoted tells which; backslashes of
 * quoted ones are still there.  false at the end. */
bool crit_chat_literal(crit_text t, crit_chat_cursor *c, crit_text *lit, bool *quoted);
/* The literal assigned to the variable: {% set name = "..." %}; len 0 = none. */
crit_text crit_chat_assigned(crit_text t, const char *name);

#endif
