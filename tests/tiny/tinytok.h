/* SPDX-License-Identifier: MIT */
/* The synthetic model's tokenizer metadata.  See tinytok.c. */
#ifndef CRIT_TESTS_TINYTOK_H
#define CRIT_TESTS_TINYTOK_H

#include "tiny/tiny.h"

extern const char tiny_chatml[];
/* Writes the tokenizer.* keys p asks for: exactly p->n_vocab tokens. */
void tiny_tokenizer(gw *w, const tiny_params *p);

#endif
