/* SPDX-License-Identifier: MIT */
/* How much each far block matters to a tile, by our rule and by the published one.            [alg:score] */
#include <math.h>

#include "sparse/sparse.h"

void crit_score_share(const crit_kernels *kt, const crit_kv *kv, uint32_t kv_head, const float *rep, uint32_t n_tile,
                      const uint32_t *n_free, float scale, float *z, float *share, size_t stride) {
    /* Free blocks are complete, so the mean key is the sum over CRIT_BLK_LEN: the division goes into the scale. */
    const float *ksum = crit_kv_stat(kv, kv->ksum, kv_head) + (size_t)CRIT_SINK_BLK * kv->d;
    uint32_t most = n_free[n_tile - 1];
    kt->score(rep, n_tile * CRIT_TILE_REPS, ksum, most, kv->d, scale / CRIT_BLK_LEN, z);
    for (uint32_t t = 0; t < n_tile; t++)
        for (uint32_t b = n_free[t]; b < most; b++)
            for (uint32_t r = 0; r < CRIT_TILE_REPS; r++) z[b * CRIT_REP_MAX + t * CRIT_TILE_REPS + r] = -INFINITY;
    kt->share(z, most, CRIT_TILE_REPS, n_tile, share, stride);
}

void crit_score_paper(const crit_kernels *kt, const crit_kv *kv, uint32_t kv_head, const float *qmid, uint32_t n_group,
                      uint32_t n_cand, float *prob) {
    const float *kmax = crit_kv_stat(kv, kv->kmax, kv_head), *kmin = crit_kv_stat(kv, kv->kmin, kv_head);
    for (uint32_t g = 0; g < n_group; g++)
        kt->minmax_score(qmid + (size_t)g * kv->d, kmax, kmin, n_cand, kv->d, 1.0f / (float)n_group, g > 0, prob);
    /* The published soft-max runs on the raw, unscaled score. */
    float top = -INFINITY, sum = 0;
    for (uint32_t b = 0; b < n_cand; b++) top = prob[b] > top ? prob[b] : top;
    for (uint32_t b = 0; b < n_cand; b++) sum += prob[b] = expf(prob[b] - top);
    for (uint32_t b = 0; b < n_cand; b++) prob[b] /= sum;
}
