/* SPDX-License-Identifier: MIT */
/* A fingerprint of a model file, for what is only right with the same weights.
 *
 * Over everything before the tensors (metadata, vocabulary, names, shapes, offsets) and three samples of a kilobyte of
 * each tensor, its ends and its middle: a model tuned further differs in every tensor, and a file of hundreds of
 * gigabytes is done in milliseconds.  A change of single weights between the samples stays unseen. */
#include <xxhash.h>

#include "model/gguf_impl.h"

enum { SAMPLE = 1024 };

uint64_t gguf_fingerprint(const gguf *g) {
    size_t head = g->bytes;
    for (size_t i = 0; i < g->n_tensor; i++) {
        size_t at = (size_t)((const unsigned char *)g->tensor[i].data - g->map);
        head = at < head ? at : head;
    }
    uint64_t h = XXH3_64bits(g->map, head);
    h = XXH3_64bits_withSeed(&g->bytes, sizeof g->bytes, h);
    for (size_t i = 0; i < g->n_tensor; i++) {
        const unsigned char *p = g->tensor[i].data;
        size_t n = g->tensor[i].bytes, piece = n < SAMPLE ? n : SAMPLE;
        h = XXH3_64bits_withSeed(p, piece, h);
        h = XXH3_64bits_withSeed(p + (n - piece) / 2, piece, h);
        h = XXH3_64bits_withSeed(p + (n - piece), piece, h);
    }
    return h;
}
