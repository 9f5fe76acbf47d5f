/* SPDX-License-Identifier: MIT */
/* Random numbers for samples: xoshiro256**, seeded through splitmix64, the same on every machine.  A stream is named by
 * what it is for, so that one sample does not depend on how many were drawn before it.  And the hash behind the names,
 * FNV-1a. */
#ifndef PROG_RNG_H
#define PROG_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct rng {
    uint64_t s[4];
} rng;

#define HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t hash_bytes(uint64_t h, const void *s, size_t n); /* FNV-1a, 64 bits; h: HASH_START or what came before */

uint64_t hash_ids(const int32_t *ids, size_t n);           /* of token ids, the same on every machine */

void rng_seed(rng *r, uint64_t seed);
/* The stream of sample number `sample` of a task at a length, for a user's seed. */
void rng_stream(rng *r, const char *name, uint64_t seed, uint64_t ctx, uint64_t sample);
uint64_t rng_next(rng *r);
uint64_t rng_below(rng *r, uint64_t n);                 /* uniform in [0, n), n > 0 */
void rng_shuffle(rng *r, uint32_t *x, size_t n);        /* Fisher-Yates */
void rng_pick(rng *r, uint32_t *x, size_t n, size_t k); /* k <= n different numbers of [0, n); x [n], x[0..k) filled */

#endif
