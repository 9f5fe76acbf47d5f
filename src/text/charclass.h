/* SPDX-License-Identifier: MIT */
/* Unicode classes as the pre-tokenizers see them: letter, number, white space, punctuation, all else. */
#ifndef CRIT_TEXT_CHARCLASS_H
#define CRIT_TEXT_CHARCLASS_H

#include <stdint.h>

/* Values are the bytes that stand for such characters in the shadow of pretok.h. */
typedef enum crit_char_class {
    CRIT_CHAR_LETTER = 0x80, /* \p{L} */
    CRIT_CHAR_NUMBER,        /* \p{N} */
    CRIT_CHAR_SPACE,         /* White_Space */
    CRIT_CHAR_PUNCT,         /* \p{P} */
    CRIT_CHAR_OTHER
} crit_char_class;

crit_char_class crit_char_class_of(uint32_t cp); /* 0x80 <= cp <= 0x10FFFF */

#endif
