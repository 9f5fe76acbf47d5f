/* SPDX-License-Identifier: MIT */
/* The file in which llama-perplexity keeps an engine's answers (its --save-all-logits writes, --kl-divergence-base
 * reads it): tokens in windows, and for the second half of each window the log-probabilities of every token.
 *
 *     "_logits_"                        8 bytes
 *     n_ctx, n_vocab, n_chunk           u32, i32, i32
 *     tokens [n_chunk][n_ctx]           i32, as the text has them (a reader puts BOS first where the model wants it)
 *     rows [n_chunk][n_ctx - 1 - n_ctx / 2]   positions n_ctx / 2 ... n_ctx - 2, each
 *         scale, low                    f32
 *         level [n_vocab]               u16, one more when n_vocab is odd
 *
 * where log p = scale * level + low, and whatever is more than 16 nats below the row's largest has level 0. */
#ifndef PROG_BASELOGITS_H
#define PROG_BASELOGITS_H

#include <stdbool.h>
#include <stdio.h>

#include "klrow.h"

enum { BASE_CTX_MIN = 8 };

typedef struct baselogits {
    FILE *f;
    const char *path;
    bool writing;
    char *part; /* being written, path when it is whole; NULL = path itself, which is a device or a pipe */
    uint32_t n_ctx, n_vocab, n_chunk;
    int32_t *ids;  /* [n_chunk][n_ctx] */
    uint16_t *row; /* [row_len] as in the file */
    size_t row_len;
    unsigned long long at; /* of the first row */
} baselogits;

/* All: EXIT_OK or the exit code after a line on stderr that names the file. */
int base_open(baselogits *b, const char *path);
int base_create(baselogits *b, const char *path, uint32_t n_ctx, uint32_t n_vocab, uint32_t n_chunk,
                const int32_t *ids);
int base_write(baselogits *b, const float *logits, const klrow *s); /* the next row */
int base_read(baselogits *b, size_t chunk, uint32_t pos);           /* into row */
int base_close(baselogits *b, int rc); /* after a failure path is as it was */

/* Of the row read last. */
double base_nll(const baselogits *b, uint32_t id);
uint32_t base_best(const baselogits *b);
/* KL(base || q); like llama-perplexity's, over the tokens that base gives at least e^-16. */
double base_kl(const baselogits *b, const float *q, const klrow *qs);

#endif
