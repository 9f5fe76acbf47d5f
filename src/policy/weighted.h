/* SPDX-License-Identifier: MIT */
/* Attention of one token where some keys count more than once: estimates from weighted samples, merged with exact
 * pieces. */
#ifndef CRIT_WEIGHTED_H
#define CRIT_WEIGHTED_H

#include "policy/decode_policy.h"

/* Rows of a KV head that stand for more keys than they are.  With l = scale q.k:
 *   tau = sum over sum rows r    of count[r / n_per] / n_per * e^l
 *   z   = sum over sampled rows r of mix_scale * mix_w[r]    * e^l v
 * and z / tau is attention over what they stand for.  mix_w NULL: the sampled rows are the sum rows, weights and all.
 */
typedef struct crit_weighted_rows {
    const uint16_t *sum_k; /* [n_sum][d] packed keys */
    const uint32_t *count; /* [n_sum / n_per] */
    uint32_t n_sum, n_per;
    const uint16_t *mix_k, *mix_v; /* packed blocks */
    uint32_t n_mix;
    const float *mix_w; /* [n_mix] */
    double mix_scale;
    double v_max; /* z / tau is brought back to this length when it is longer; infinity = never */
} crit_weighted_rows;

typedef struct crit_weighted {
    uint32_t stride; /* rows of a KV head there is room for */
    float *logit;    /* [n_head][stride] */
    float *z;        /* [n_head][d] */
    double *lse;     /* [n_head] log tau */
    double *z_log;   /* [n_head] log of what z is to be multiplied with */
    float *lse_rest; /* [n_head] of the exact pieces */
} crit_weighted;

size_t crit_weighted_bytes(const crit_decode_env *e, uint32_t n_row);
/* For up to n_row sum and sampled rows of a KV head together. */
crit_status crit_weighted_init(crit_weighted *w, const crit_decode_env *e, uint32_t n_row, crit_error *err);
void crit_weighted_clear(crit_weighted *w); /* frees; a zeroed struct is fine */
/* rows [n_kv_head], with at least one sum row each; p: exact pieces for the n_group rows of every KV head, prepared,
 * with the result's place in p->out. */
void crit_weighted_run(crit_weighted *w, const crit_weighted_rows *rows, crit_pieces *p);

#endif
