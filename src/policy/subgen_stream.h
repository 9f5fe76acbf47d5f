/* SPDX-License-Identifier: MIT */
/* The streaming sketch of SubGen (arXiv 2402.06082, algorithm 1), for the KV heads of one layer.
 *
 *   clusters   a representative x_i (its first key), t slots that each hold a uniform sample of the cluster's keys, and
 *              how many keys n_i it has seen: tau = sum_i n_i / t sum_{k in slots of i} exp(scale q.k)
 *   samples    s slots that each hold a token drawn with probability |v|^2 / mu, mu = sum |v|^2:
 *              z = sum_{(k, v) in slots} mu / (s |v|^2) exp(scale q.k) v
 *
 * tau and z are unbiased estimates of soft-max's denominator and numerator over what was fed.  Keys and values keep the
 * bits that the KV store has.  A head's state depends on the seed, its layer and number, and what was fed, in order. */
#ifndef CRIT_SUBGEN_STREAM_H
#define CRIT_SUBGEN_STREAM_H

#include "kv/slab.h"
#include "policy/decode_policy.h"

typedef struct crit_sketch_shape {
    uint32_t n_kv_head, d;
    uint32_t m, t, s; /* most clusters (2 and more), keys of each, samples */
} crit_sketch_shape;

typedef struct crit_sketch_head {
    uint32_t n_cluster;
    uint32_t n_doubled; /* times delta was doubled because m clusters were not enough */
    double delta;       /* a key farther than this from all representatives makes a cluster */
    double radius;      /* no key is farther from its representative: delta, or at most 2 delta once doubled */
    double mu;          /* sum of |v|^2 */
    double v_max2;      /* the largest |v|^2 */
    uint64_t rng;
} crit_sketch_head;

typedef struct crit_sketch {
    const crit_kernels *kernels;
    crit_sketch_shape shape;
    crit_sketch_head *head;
    uint16_t *rep;   /* [n_kv_head][m][d] packed keys */
    uint16_t *slot;  /* [n_kv_head][m][t][d] packed keys */
    double *norm;    /* [n_kv_head][m] |x_i|^2 */
    uint32_t *count; /* [n_kv_head][m] n_i */
    crit_slab sample;
    float *inv;    /* [n_kv_head][s] 1 / |v|^2 of each sample */
    uint32_t *src; /* [n_kv_head][s] its position */
    float *dot;    /* [n_kv_head][m] scratch */
} crit_sketch;

bool crit_sketch_bytes(const crit_sketch_shape *shape, size_t *bytes); /* false when it overflows */
crit_status crit_sketch_init(crit_sketch *k, const crit_kernels *kernels, const crit_sketch_shape *shape,
                             crit_error *err);
void crit_sketch_clear(crit_sketch *k); /* frees; a zeroed struct is fine */
/* Empty again.  delta [n_kv_head] >= 0. */
void crit_sketch_start(crit_sketch *k, uint64_t seed, uint32_t layer, const float *delta);
/* The tokens [from, to) of a store, which must hold them.  Safe in parallel for different heads. */
void crit_sketch_feed(crit_sketch *k, uint32_t head, const crit_kv *kv, uint32_t from, uint32_t to);

#endif
