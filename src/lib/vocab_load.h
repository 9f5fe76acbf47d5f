/* SPDX-License-Identifier: MIT */
/* The tokenizer of a GGUF file. */
#ifndef CRIT_LIB_VOCAB_LOAD_H
#define CRIT_LIB_VOCAB_LOAD_H

#include "model/gguf.h"
#include "text/vocab.h"

/* CRIT_E_TOKENIZER when the file has none, or one that is inconsistent or unknown; CRIT_E_NOMEM.  Messages name the
 * file.  The vocabulary does not refer to g afterwards. */
crit_status crit_vocab_from_gguf(crit_vocab **out, const gguf *g, crit_error *err);

#endif
