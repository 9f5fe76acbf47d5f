/* SPDX-License-Identifier: MIT */
/* A user's prose as sentences: white space becomes single blanks, and text that is too short is repeated. */
#ifndef PROG_ESSAY_H
#define PROG_ESSAY_H

#include "buf.h"

typedef struct sentence_list {
    buf words; /* what s points into */
    struct {
        const char *s;
        size_t n;
    } * s;
    size_t n;
} sentence_list;

/* The first n_word words; false: out of memory.  A text without words gives no sentence. */
bool essay_sentences(const buf *essay, size_t n_word, sentence_list *out);
void essay_free(sentence_list *l);

#endif
