/* SPDX-License-Identifier: MIT */
/* One query's attention in double: dense, over a plan's blocks, and how far a computed result may be from it. */
#ifndef PROG_EXACT_H
#define PROG_EXACT_H

#include <stdint.h>

/* What the level multiplies: floats, 16-bit integers with a scale a row, or q and weights rounded to bf16. */
typedef enum exact_rounding { EXACT_F32, EXACT_I16, EXACT_BF16 } exact_rounding;
exact_rounding exact_rounding_of(const char *cpu); /* by the level's name */

typedef struct exact_query {
    const float *q;     /* [d] */
    const float *k, *v; /* [n_key][d], as attention reads them */
    uint32_t n_key, d;
    float scale;
    const unsigned char *kept; /* by block of CRIT_VIEW_BLK_LEN keys: read by the plan */
    const float *out;          /* [d] what attention computed */
    double k_norm, v_max;      /* largest |k_j| (Euclidean) and largest |v_ji| */
    exact_rounding rounding;
    float skip;                /* of [alg:skip]; 0 = off */
    uint32_t end_far;          /* blocks before this one may be skipped */
} exact_query;

/* With o the computed result, o_dense and p in double, and means over kept and dropped keys by dense weights,
 *
 *     o - o_dense = (1 - p) (v_kept - v_dropped)
 *
 * would hold without rounding.  tests/checkasm/ck_attend.c derives what rounding may do; with skip, what the kernel may
 * have left out on top of the plan is added. */
typedef struct exact_result {
    double mass;     /* p: the plan's share of the dense weights */
    double error;    /* |o - o_dense| / |o_dense| */
    double identity; /* largest difference of the two sides, against the kept keys' weighted |v| */
    double of_bound; /* the same against its bound: above 1, or NaN, o is not the attention the plan says */
} exact_result;

double exact_worse(double a, double b); /* the larger; NaN is worse than any */
/* work [n_key + 3 d] doubles. */
void exact_attention(const exact_query *x, double *work, exact_result *r);

#endif
