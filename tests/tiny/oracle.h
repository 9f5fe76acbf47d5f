/* SPDX-License-Identifier: MIT */
/* A plain forward pass in double precision, for the logits of every position: what the library is compared with.
 *
 * Shares with the library the GGUF reader and the C decoders (both tested on their own) and nothing else: its own
 * reading of the metadata, RoPE, norms, attention.  Slow, simple, unbatched; aborts when memory is out. */
#ifndef CRIT_TESTS_ORACLE_H
#define CRIT_TESTS_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct oracle oracle;

/* true: query position row of head sees key (asked for key <= row only) */
typedef bool (*oracle_keep)(void *user, uint32_t layer, uint32_t head, uint32_t row, uint32_t key);
/* what: "q", "k" (rotated), "v", "att" (before the output projection), "x" (after the layer); data [n_tok][width] */
typedef void (*oracle_probe)(void *user, uint32_t layer, const char *what, const double *data, uint32_t n_tok,
                             uint32_t width);

typedef struct oracle_opts {
    oracle_keep keep; /* NULL = causal */
    oracle_probe probe;
    void *user;
    bool f16_kv; /* round K and V to f16 as the library's store does */
    /* Round as the contract of KV_BF16T says (kernels.h): K, V and scaled q to bf16.  Soft-max weights stay exact: how
     * they round depends on the running maximum they are taken against. */
    bool bf16_kv;
    bool bf16; /* round activations and weights of every product to bf16, as the AMX level does */
} oracle_opts;

/* NULL with a line on stderr when the file is no model of the three architectures. */
oracle *oracle_open(const char *path);
void oracle_close(oracle *o); /* accepts NULL */
uint32_t oracle_n_vocab(const oracle *o);
uint32_t oracle_n_layer(const oracle *o);
uint32_t oracle_n_head(const oracle *o);

/* logits [n_tok - from][n_vocab], for the positions from `from` on; opts may be NULL. */
void oracle_logits(const oracle *o, const int32_t *tok, uint32_t n_tok, uint32_t from, const oracle_opts *opts,
                   double *logits);

/* KL divergence of softmax(got) from softmax(want), n values. */
double oracle_kl(const double *want, const float *got, uint32_t n);

#endif
