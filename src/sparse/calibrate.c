/* SPDX-License-Identifier: MIT */
/* How much far attention a head has: a few queries, exactly, over all their keys.         [alg:calibrate]
 *
 * A share says how far attention is spread, not how much of it there is.  One query per CRIT_CAL_STEP positions
 * measures that; a single one is too noisy, so tiles use the head's running mean over the queries up to them.
 * DEVIATION: the design averages over the whole prompt; a stream only has its past (quality: SPEED.md, section 4).
 */
#include <math.h>
#include <string.h>

#include "sparse/sparse.h"

void crit_calib_clear(crit_calib *c) {
    crit_free(c->sum);
    crit_free(c->count);
    memset(c, 0, sizeof *c);
}

crit_status crit_calib_reserve(crit_calib *c, uint32_t n_head, uint32_t n_tok, crit_error *err) {
    uint32_t need = n_tok / CRIT_CAL_STEP + 1;
    if (c->sum && c->n_head == n_head && need <= c->cap) return CRIT_OK;
    uint32_t cap = need < 2 * c->cap ? 2 * c->cap : need;
    double *sum = crit_malloc((size_t)cap * n_head, sizeof *sum);
    uint32_t *count = crit_malloc(cap, sizeof *count);
    if (!sum || !count) {
        crit_free(sum);
        crit_free(count);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for calibration");
    }
    if (c->n) {
        memcpy(sum, c->sum, (size_t)c->n * n_head * sizeof *sum);
        memcpy(count, c->count, c->n * sizeof *count);
    }
    crit_free(c->sum);
    crit_free(c->count);
    c->sum = sum;
    c->count = count;
    c->cap = cap;
    c->n_head = n_head;
    return CRIT_OK;
}

void crit_calib_cut(crit_calib *c, uint32_t n_tok) {
    uint32_t keep = (n_tok + CRIT_CAL_STEP - 1) / CRIT_CAL_STEP;
    if (c->n > keep) c->n = keep;
}

bool crit_calib_sigma(const crit_calib *c, uint32_t head, uint32_t pos, float *sigma) {
    uint32_t at = pos / CRIT_CAL_STEP;
    if (c->n == 0) return false;
    if (at >= c->n) at = c->n - 1;
    if (c->count[at] == 0) return false;
    *sigma = (float)(c->sum[(size_t)at * c->n_head + head] / c->count[at]);
    return true;
}

void crit_calibrate(const crit_kernels *kt, const crit_kv *kv, uint32_t kv_head, const float *q, uint32_t n_group,
                    uint32_t pos, float scale, float *lse, void *scratch, float *sigma) {
    uint32_t n_blk = pos / CRIT_BLK_LEN + 1;
    uint32_t first_local = pos / CRIT_TILE_LEN * CRIT_LOCAL_BLK - CRIT_LOCAL_BLK;
    for (uint32_t g0 = 0; g0 < n_group; g0 += CRIT_REP_MAX) {
        uint32_t n = n_group - g0 < CRIT_REP_MAX ? n_group - g0 : CRIT_REP_MAX;
        kt->block_lse(q + (size_t)g0 * kv->d, kv->d, n, crit_kv_k(kv, kv_head), (size_t)pos + 1, kv->d, scale, lse,
                      scratch);
        for (uint32_t r = 0; r < n; r++) {
            float top = -INFINITY;
            for (uint32_t b = 0; b < n_blk; b++)
                top = lse[b * CRIT_REP_MAX + r] > top ? lse[b * CRIT_REP_MAX + r] : top;
            double all = 0, sink = 0, far = 0;
            for (uint32_t b = 0; b < n_blk; b++) {
                double m = (double)expf(lse[b * CRIT_REP_MAX + r] - top);
                all += m;
                if (b < CRIT_SINK_BLK)
                    sink += m;
                else if (b < first_local)
                    far += m;
            }
            /* Sinks carry mass but tiny values: they stay outside the normaliser. */
            double rest = 1.0 - sink / all;
            sigma[g0 + r] = (float)(far / all / (rest > 0.02 ? rest : 0.02));
        }
    }
}
