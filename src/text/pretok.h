/* SPDX-License-Identifier: MIT */
/* The cut of a text into words, before byte-pair merges work inside each.
 *
 * A pre-tokenizer is one to four regular expressions; each cuts the pieces of the one before.  They only ask what class
 * a character is of, so they run on a shadow of the text with one byte a character: ASCII as it is, the rest as its
 * class.  That keeps the Unicode version ours, makes ill-formed input a non-event, and needs no UTF mode.
 * Immutable once open; each split has its own match data. */
#ifndef CRIT_TEXT_PRETOK_H
#define CRIT_TEXT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>

#include "core/core.h"

typedef struct crit_pretok crit_pretok;

/* name: value of tokenizer.ggml.pre.  CRIT_E_TOKENIZER when it is not one we know. */
crit_status crit_pretok_open(crit_pretok **out, const char *name, size_t len, crit_error *err);
void crit_pretok_close(crit_pretok **p);

/* A word that is a token as a whole is not merged (Llama 3). */
bool crit_pretok_whole_words(const crit_pretok *p);
/* What the file means when it does not say. */
bool crit_pretok_add_bos(const crit_pretok *p);

/* Called for each word in order: bytes of canonical text, len > 0.  false stops the split. */
typedef bool (*crit_word_fn)(void *user, const unsigned char *word, size_t len);
/* Ill-formed bytes reach the words as U+FFFD.  CRIT_E_NOMEM when memory is out or the callback returned false. */
crit_status crit_pretok_split(const crit_pretok *p, const char *text, size_t len, crit_word_fn word, void *user,
                              crit_error *err);

#endif
