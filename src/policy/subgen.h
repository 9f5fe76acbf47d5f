/* SPDX-License-Identifier: MIT */
/* The state of SubGen's two modes; see subgen.c. */
#ifndef CRIT_SUBGEN_H
#define CRIT_SUBGEN_H

#include "policy/kcenter.h"
#include "policy/subgen_stream.h"
#include "policy/weighted.h"

/* Options, in the order of crit_subgen_options. */
enum {
    CRIT_SUBGEN_MODE,
    CRIT_SUBGEN_SINKS,
    CRIT_SUBGEN_WINDOW,
    CRIT_SUBGEN_K,
    CRIT_SUBGEN_CORRECT,
    CRIT_SUBGEN_M,
    CRIT_SUBGEN_T,
    CRIT_SUBGEN_S,
    CRIT_SUBGEN_DELTA,
    CRIT_SUBGEN_SEED,
    CRIT_SUBGEN_OPTIONS
};
enum { CRIT_SUBGEN_KCENTER, CRIT_SUBGEN_STREAM }; /* values of mode */
extern const crit_policy_option crit_subgen_options[CRIT_SUBGEN_OPTIONS];

typedef struct crit_subgen_layer {
    uint32_t lo, hi;    /* the positions that clusters stand for, to whole blocks; hi 0 = none: full attention */
    crit_slab slab;     /* kcenter: the centres */
    uint32_t *center;   /* kcenter: [n_kv_head][k] their positions */
    uint32_t *size;     /* kcenter: [n_kv_head][k] keys of each cluster */
    crit_sketch sketch; /* stream */
    bool whole;         /* the last step read every key */
} crit_subgen_layer;

typedef struct crit_subgen {
    uint32_t n_layer, n_kv_head;
    crit_policy_values o;
    crit_subgen_layer *layers;
    crit_kcenter finder; /* of centres; stream: of a sample's, for delta */
    uint16_t *sample;    /* stream: [n_kv_head][n_sample][d] packed keys */
    uint32_t *center;    /* stream: [n_kv_head][m] of the sample */
    uint32_t n_sample;
    float *radius; /* [n_kv_head] */
    crit_weighted weighted;
    crit_weighted_rows *rows; /* [n_kv_head] */
} crit_subgen;

static inline uint32_t crit_subgen_opt(const crit_policy_values *o, int i) {
    return (uint32_t)o->v[i];
}
/* Keys and values that a step of the stream is expected to read beside the exact ones: t keys and the representative of
 * each cluster, and the samples.  With a delta of our own about half of the m clusters are used, else it may be all. */
double crit_subgen_stream_rows(const crit_policy_values *o);
/* What clusters would stand for at n_tok keys; false: nothing is gained, a step is full attention. */
bool crit_subgen_span(const crit_policy_values *o, uint32_t n_tok, uint32_t *lo, uint32_t *hi);

/* The policy's functions. */
size_t crit_subgen_bytes(const crit_decode_env *e, const crit_policy_values *o);
crit_status crit_subgen_open(void **out, const crit_decode_env *e, const crit_policy_values *o, crit_error *err);
void crit_subgen_close(void *state);

#endif
