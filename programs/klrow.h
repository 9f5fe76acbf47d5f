/* SPDX-License-Identifier: MIT */
/* Rows of logits as distributions over the vocabulary: normaliser, likeliest token, divergence.
 *
 * A row has 150,000 numbers and an evaluation tens of thousands of rows, so exponentials are taken in float by
 * klrow_exp in loops that compilers vectorise; sums are in double.  A logit more than 87 nats below its row's largest
 * counts as 87 below: nothing that far down adds up, and -inf stays harmless. */
#ifndef PROG_KLROW_H
#define PROG_KLROW_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KLROW_FLOOR (-87.0f)

typedef struct klrow {
    float max;           /* largest logit */
    uint32_t best;       /* the first token that has it */
    double sum, log_sum; /* of exp(x - max), and its logarithm */
} klrow;

klrow klrow_of(const float *x, size_t n);
double klrow_nll(const float *x, const klrow *s, uint32_t id); /* -log of the probability of id */
/* KL(p || q) in nats; ps and qs are klrow_of p and q.  Never below 0, and 0 for equal rows. */
double klrow_kl(const float *p, const klrow *ps, const float *q, const klrow *qs, size_t n);

/* exp(x) for x in [KLROW_FLOOR, 0]; relative error below 1.5e-7 (enforced: tests/unit/klrow).
 *
 * x = n ln 2 + f with |f| <= ln 2 / 2: the series up to f^7, whose rest is below 6e-9, times 2^n by its exponent. */
static inline float klrow_exp(float x) {
    float z = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: n ends up in the low bits */
    float n = z - 12582912.0f;
    float f =
        x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts; the first has 10 bits, n times it is exact */
    float r = 1.0f / 5040;
    uint32_t bits;
    r = r * f + 1.0f / 720;
    r = r * f + 1.0f / 120;
    r = r * f + 1.0f / 24;
    r = r * f + 1.0f / 6;
    r = r * f + 0.5f;
    r = r * f + 1.0f;
    r = r * f + 1.0f;
    memcpy(&bits, &z, sizeof bits);
    bits = (bits + 127) << 23;
    memcpy(&z, &bits, sizeof bits);
    return r * z;
}

/* n float terms added up in double, in lanes that do not depend on the instruction set: the same bits everywhere. */
enum { KLROW_BLOCK = 256, KLROW_LANE = 16 };
typedef struct klrow_sum {
    double lane[KLROW_LANE];
} klrow_sum;
static inline void klrow_add(klrow_sum *s, const float block[KLROW_BLOCK]) {
    for (size_t k = 0; k < KLROW_BLOCK; k += KLROW_LANE)
        for (size_t j = 0; j < KLROW_LANE; j++) s->lane[j] += (double)block[k + j];
}
double klrow_total(const klrow_sum *s);

#endif
