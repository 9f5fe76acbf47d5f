/* SPDX-License-Identifier: MIT */
/* See rng.h.  The generators are Blackman's and Vigna's, from their description in the public domain. */
#include "rng.h"

#include <string.h>

uint64_t hash_bytes(uint64_t h, const void *s, size_t n) {
    const unsigned char *p = s;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

uint64_t hash_ids(const int32_t *ids, size_t n) {
    uint64_t h = HASH_START;
    for (size_t i = 0; i < n; i++) {
        const uint32_t id = (uint32_t)ids[i];
        const unsigned char b[4] = {(unsigned char)id, (unsigned char)(id >> 8), (unsigned char)(id >> 16),
                                    (unsigned char)(id >> 24)};
        h = hash_bytes(h, b, sizeof b);
    }
    return h;
}

static uint64_t splitmix64(uint64_t *x) {
    uint64_t z = *x += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void rng_seed(rng *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) r->s[i] = splitmix64(&seed);
}

static uint64_t hash_u64(uint64_t h, uint64_t x) {
    unsigned char b[8]; /* bytes in one order on every machine */
    for (int i = 0; i < 8; i++) b[i] = (unsigned char)(x >> 8 * i);
    return hash_bytes(h, b, sizeof b);
}

void rng_stream(rng *r, const char *name, uint64_t seed, uint64_t ctx, uint64_t sample) {
    uint64_t h = hash_bytes(HASH_START, name, strlen(name) + 1);
    rng_seed(r, hash_u64(hash_u64(hash_u64(h, seed), ctx), sample));
}

static uint64_t rotl(uint64_t x, int k) {
    return x << k | x >> (64 - k);
}

uint64_t rng_next(rng *r) {
    uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

uint64_t rng_below(rng *r, uint64_t n) {
    uint64_t reject = (UINT64_MAX - n + 1) % n, x; /* 2^64 mod n: numbers too many for equal shares */
    do x = rng_next(r);
    while (x < reject);
    return x % n;
}

void rng_shuffle(rng *r, uint32_t *x, size_t n) {
    for (size_t i = n; i > 1; i--) {
        size_t k = (size_t)rng_below(r, i);
        uint32_t t = x[i - 1];
        x[i - 1] = x[k];
        x[k] = t;
    }
}

void rng_pick(rng *r, uint32_t *x, size_t n, size_t k) {
    for (size_t i = 0; i < n; i++) x[i] = (uint32_t)i;
    for (size_t i = 0; i < k; i++) {
        size_t j = i + (size_t)rng_below(r, n - i);
        uint32_t t = x[i];
        x[i] = x[j];
        x[j] = t;
    }
}
