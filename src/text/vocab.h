/* SPDX-License-Identifier: MIT */
/* A vocabulary: text to token ids and back.
 *
 * Built from plain data (lib/vocab_load.c takes it from a GGUF file), which may be hostile: it is checked here and
 * copied, so nothing points into the source afterwards.  Immutable once open: any number of threads may use it.
 * Two models: byte-pair merges by rank on pre-tokenized words ("gpt2"), and merges by score with byte fallback
 * ("llama").  Knows the text of the chat template, not its meaning: chat.h. */
#ifndef CRIT_TEXT_VOCAB_H
#define CRIT_TEXT_VOCAB_H

#include "core/core.h"
#include "critiprefill/critiprefill.h"

typedef struct crit_text {
    const char *ptr; /* not NUL-terminated; any bytes */
    size_t len;
} crit_text;

/* Kinds as numbered in GGUF's tokenizer.ggml.token_type. */
typedef enum crit_token_kind {
    CRIT_TOKEN_NORMAL = 1,
    CRIT_TOKEN_UNKNOWN = 2,
    CRIT_TOKEN_CONTROL = 3,
    CRIT_TOKEN_USER = 4, /* found in any text, before all else */
    CRIT_TOKEN_UNUSED = 5,
    CRIT_TOKEN_BYTE = 6
} crit_token_kind;

typedef struct crit_vocab_source {
    crit_text model; /* "gpt2" | "llama" */
    crit_text pre;   /* pre-tokenizer of gpt2; empty = "default" */
    size_t n_token;
    const crit_text *token;
    const float *score;  /* [n_token]; needed by llama */
    const int32_t *kind; /* [n_token] crit_token_kind; NULL = all normal */
    size_t n_merge;
    const crit_text *merge;                 /* "left right", best first; needed by gpt2 */
    int64_t bos, eos, unk, eot, eom;        /* -1 = none */
    int add_bos, add_eos, add_space_prefix; /* 0, 1, -1 = not stated */
    crit_text chat_template;
} crit_vocab_source;

typedef struct crit_vocab crit_vocab;

crit_vocab_source crit_vocab_source_empty(void); /* nothing stated */

/* CRIT_E_TOKENIZER names what is wrong; CRIT_E_NOMEM. */
crit_status crit_vocab_open(crit_vocab **out, const crit_vocab_source *src, crit_error *err);
void crit_vocab_close(crit_vocab **v); /* accepts NULL and *v == NULL */

uint32_t crit_vocab_size(const crit_vocab *v);
size_t crit_vocab_bytes(const crit_vocab *v);         /* memory held */
const char *crit_vocab_describe(const crit_vocab *v); /* "gpt2/qwen2", "llama" */
int32_t crit_vocab_bos(const crit_vocab *v);          /* -1 = none, like the next */
int32_t crit_vocab_eos(const crit_vocab *v);
bool crit_vocab_adds_bos(const crit_vocab *v);
crit_text crit_vocab_chat_template(const crit_vocab *v);    /* len 0 = none */
bool crit_vocab_is_eog(const crit_vocab *v, int32_t id);    /* ends a generation */
crit_text crit_vocab_text(const crit_vocab *v, int32_t id); /* as stored; empty for an unknown id */

/* As crit_tokenize: writes at most cap ids, *n is the full count, CRIT_E_SPACE when cap was too small.  flags are
 * CRIT_TOK_*.  User-defined tokens are found in any case, control tokens only with CRIT_TOK_PARSE_SPECIAL. */
crit_status crit_vocab_tokenize(const crit_vocab *v, const char *text, size_t len, unsigned flags, int32_t *ids,
                                size_t cap, size_t *n, crit_error *err);
/* As crit_token_bytes: the length of the token's bytes, of which at most cap are written.  Control and unknown tokens
 * are empty unless special, unused ones always; a "llama" piece keeps its leading blank. */
size_t crit_vocab_piece(const crit_vocab *v, int32_t id, bool special, char *buf, size_t cap);

#endif
