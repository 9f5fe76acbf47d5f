/* SPDX-License-Identifier: MIT */
/* Text to hide things in: sentences and snippets of code out of patterns, with words drawn into their gaps, so that no
 * length of it is periodic.  Nothing in it looks like a key with a value. */
#ifndef PROG_PROSE_H
#define PROG_PROSE_H

#include "buf.h"
#include "rng.h"

void prose_sentence(rng *r, buf *out);                  /* without a blank or newline behind it */
void prose_paragraph(rng *r, buf *out);                 /* three to six sentences and a newline */
void prose_code(rng *r, buf *out);                      /* a function or two of C or Python, and a newline */
void prose_fill(rng *r, const char *pattern, buf *out); /* @a @n @v: an adjective, a noun, a verb; @1..@3: drawn once */

#endif
