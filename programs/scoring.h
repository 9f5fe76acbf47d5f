/* SPDX-License-Identifier: MIT */
/* How an answer is scored against its references.  Letters are compared without case, as far as ASCII goes. */
#ifndef PROG_SCORING_H
#define PROG_SCORING_H

#include <stdbool.h>
#include <stddef.h>

/* References one behind the other, each ended by a NUL. */
typedef struct refs {
    const char *s;
    size_t n;
} refs;
const char *refs_at(const refs *r, size_t i);

bool score_contains(const char *text, const char *ref);
/* RULER's string_match_all: share of the references the text contains.  found [refs->n + 1], may be NULL: '0' or '1'
 * for each. */
double score_all(const char *text, const refs *r, char *found);
/* Share of the references, up to the first that the text does not have behind the one before; found likewise. */
double score_order(const char *text, const refs *r, char *found);
/* RULER's string_match_part: 1 when the text contains one of them. */
double score_part(const char *text, const refs *r);
/* 1 when the text, without blanks around it, is one of them. */
double score_exact(const char *text, const refs *r);
/* Length in bytes of the longest piece of the text that is in ref too; SIZE_MAX: out of memory. */
size_t score_common(const char *text, const char *ref);
/* The same of the first reference, as a share of its length; NaN: out of memory. */
double score_piece(const char *text, const refs *r);
/* Largest F1 of words shared with a reference: words without case, punctuation and articles; characters of scripts
 * without blanks count as words. */
double score_f1(const char *text, const refs *r);

#endif
