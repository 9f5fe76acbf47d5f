/* SPDX-License-Identifier: MIT */
/* Plain English words for keys, names and noise.  Samples depend on order and number: append nothing, change nothing,
 * or the golden hashes of the tests change, and with them what results can be compared with. */
#ifndef PROG_WORDS_H
#define PROG_WORDS_H

#include <stddef.h>

typedef struct word_list {
    const char *const *w;
    size_t n;
} word_list;

extern const word_list words_adjective, words_noun, words_verb;
const char *words_any(size_t i); /* of all three, i < words_any_n() */
size_t words_any_n(void);

#endif
