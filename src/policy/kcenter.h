/* SPDX-License-Identifier: MIT */
/* Greedy k-center over rows of packed keys: the first key, then again and again the key farthest from all centres so
 * far.  Its radius (the largest distance of a key to its nearest centre) is at most twice that of the best k centres,
 * and never grows with k. */
#ifndef CRIT_KCENTER_H
#define CRIT_KCENTER_H

#include "kernels/f16.h"
#include "policy/decode_policy.h"

/* A packed key as f32, exactly. */
static inline void crit_key_f32(const crit_kernels *kernels, const uint16_t *row, uint32_t d, float *out) {
    for (uint32_t i = 0; i < d; i++) {
        uint32_t bits = (uint32_t)row[i] << 16;
        if (kernels->kv_layout == CRIT_KV_BF16T)
            memcpy(&out[i], &bits, sizeof bits);
        else
            out[i] = crit_f16_value(row[i]);
    }
}

typedef struct crit_far {
    float dist2;
    uint32_t pos;
} crit_far;

/* Memory for up to n_key_cap keys of n_head heads. */
typedef struct crit_kcenter {
    uint32_t n_head, d, n_key_cap, n_range_cap;
    float *norm;     /* [n_head][n_key_cap] squared distance to the mean of the keys */
    float *near;     /* [n_head][n_key_cap] squared distance to the nearest centre; -1 = is one */
    uint32_t *label; /* [n_head][n_key_cap] which centre that is */
    crit_far *far;   /* [2][n_head][n_range_cap] the farthest key of each range, in turn */
    double *mean;    /* [n_head][1 + n_range_cap][d] of all keys, sums of each range */
} crit_kcenter;

size_t crit_kcenter_bytes(uint32_t n_head, uint32_t d, uint32_t n_key_cap);
crit_status crit_kcenter_init(crit_kcenter *c, uint32_t n_head, uint32_t d, uint32_t n_key_cap, crit_error *err);
void crit_kcenter_clear(crit_kcenter *c); /* frees; a zeroed struct is fine */

typedef struct crit_kcenter_job {
    crit_pool *pool;
    const crit_kernels *kernels;
    const uint16_t *k;        /* [n_key][d] packed keys of head 0 */
    size_t head_stride;       /* 16-bit values to those of the next head */
    uint32_t n_key, n_center; /* 1 <= n_center <= n_key <= n_key_cap */
    uint32_t *center;         /* [n_head][stride] out: places in k, in the order in which they were chosen */
    uint32_t *size;           /* [n_head][stride] out: keys nearest to each (equally near: the earlier), or NULL */
    size_t stride;
    float *radius; /* [n_head] out */
} crit_kcenter_job;

/* n_center passes over the keys; the same result for any number of threads.  When the pool is stopped the result is
 * CRIT_E_CANCELLED and nothing else. */
crit_status crit_kcenter_run(crit_kcenter *c, const crit_kcenter_job *job, crit_error *err);

#endif
