/* SPDX-License-Identifier: MIT */
/* The inside of a crit_vocab, shared by the files that build and use it. */
#ifndef CRIT_TEXT_VOCAB_IMPL_H
#define CRIT_TEXT_VOCAB_IMPL_H

#include "text/pretok.h"
#include "text/strtab.h"
#include "text/vocab.h"

/* Symbols are strings of the table: the tokens first, by id, then what merges need besides.  Of "gpt2" they are raw
 * bytes (the file's printable stand-ins are undone at open), of "llama" the file's text with U+2581 for the blank. */
typedef struct crit_merge {
    uint32_t left, right, joined;
} crit_merge;

typedef struct crit_special {
    uint32_t id, len;
} crit_special;

struct crit_vocab {
    bool bpe;
    uint32_t n_token;
    crit_strtab str;
    uint8_t *kind;          /* [n_token] */
    uint32_t byte_sym[256]; /* gpt2: symbol of each byte; llama: its byte token or CRIT_STR_NONE */

    crit_pretok *pretok; /* gpt2 */
    crit_merge *merge;   /* [n_merge] gpt2, index = rank */
    uint32_t n_merge;
    uint32_t *merge_slot; /* [n_merge_slot] rank + 1, 0 = empty */
    uint32_t n_merge_slot;

    float *score;     /* [n_token] llama */
    bool words_apart; /* no token of llama has U+2581 behind another character */
    size_t longest;   /* bytes of the longest token */

    crit_special *special; /* [n_special] by text: user-defined, control and unknown tokens */
    uint32_t n_special;
    bool starts_user[256], starts_special[256]; /* first bytes of user-defined tokens, of all special ones */

    uint32_t *eog; /* [n_eog] ascending */
    uint32_t n_eog;
    int32_t bos, eos, unk;
    bool add_bos, add_eos, add_space_prefix;
    char *chat_template;
    size_t chat_len;
    char describe[80];
};

/* Where ids go: counts all, keeps what fits. */
typedef struct crit_ids {
    int32_t *id;
    size_t cap, n;
} crit_ids;

static inline void crit_ids_put(crit_ids *o, uint32_t id) {
    if (o->n < o->cap) o->id[o->n] = (int32_t)id;
    o->n++;
}

/* bpe.c */
crit_status crit_bpe_open(crit_vocab *v, const crit_vocab_source *src, crit_error *err);
crit_status crit_bpe_encode(const crit_vocab *v, const char *text, size_t len, crit_ids *out, crit_error *err);
/* Raw bytes of a token's printable text to out [len]; false when a character stands for no byte. */
bool crit_bpe_raw(const crit_text *text, char *out, size_t *n);

/* spm.c; blank_first: put U+2581 before the text */
crit_status crit_spm_encode(const crit_vocab *v, const char *text, size_t len, bool blank_first, crit_ids *out,
                            crit_error *err);

/* special.c */
crit_status crit_special_open(crit_vocab *v, crit_error *err);

/* A special token in a text. */
typedef struct crit_hit {
    size_t at;
    uint32_t id, len;
} crit_hit;
/* Those of text, ascending and not overlapping; longer tokens win.  *hits is freed by the caller (crit_free). */
crit_status crit_special_find(const crit_vocab *v, const char *text, size_t len, bool control, crit_hit **hits,
                              size_t *n, crit_error *err);

#endif
