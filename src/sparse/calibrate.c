/* SPDX-License-Identifier: MIT */
/* What a head's shares are worth: a few queries, exactly, over all their keys.                [alg:calibrate]
 *
 * A share says how far attention is spread over far blocks, not how much of it there is, and not how often a block of
 * small share holds the one key that matters.  Exact queries (probes), one per `step` positions, tell both: sigma, the
 * weight that far blocks have, and the gain, what blocks of a given share turned out to weigh.  One probe is noisy, so
 * tiles use what the head's probes up to them add up to.
 * DEVIATION: the design averages over the whole prompt; a stream only has its past (quality: SPEED.md, section 4). */
#include <math.h>
#include <string.h>

#include "sparse/sparse.h"

void crit_calib_clear(crit_calib *c) {
    crit_free(c->sum);
    crit_free(c->count);
    crit_free(c->gain);
    memset(c, 0, sizeof *c);
}

crit_status crit_calib_reserve(crit_calib *c, uint32_t n_head, uint32_t step, uint32_t n_tok, crit_error *err) {
    uint32_t need = n_tok / step + 1;
    if (c->sum && c->n_head == n_head && c->step == step && need <= c->cap) return CRIT_OK;
    if (c->n_head != n_head || c->step != step) c->n = 0;
    uint32_t cap = need < 2 * c->cap ? 2 * c->cap : need;
    double *sum = crit_malloc((size_t)cap * n_head, sizeof *sum);
    uint32_t *count = crit_malloc(cap, sizeof *count);
    crit_gain *gain = crit_malloc((size_t)cap * n_head, sizeof *gain);
    if (!sum || !count || !gain) {
        crit_free(sum);
        crit_free(count);
        crit_free(gain);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for calibration");
    }
    if (c->n) {
        memcpy(sum, c->sum, (size_t)c->n * n_head * sizeof *sum);
        memcpy(count, c->count, c->n * sizeof *count);
        memcpy(gain, c->gain, (size_t)c->n * n_head * sizeof *gain);
    }
    crit_free(c->sum);
    crit_free(c->count);
    crit_free(c->gain);
    *c = (crit_calib){.n_head = n_head, .step = step, .n = c->n, .cap = cap, .sum = sum, .count = count, .gain = gain};
    return CRIT_OK;
}

void crit_calib_cut(crit_calib *c, uint32_t n_tok) {
    if (!c->step) return;
    uint32_t keep = (n_tok + c->step - 1) / c->step;
    if (c->n > keep) c->n = keep;
}

static bool entry_at(const crit_calib *c, uint32_t pos, uint32_t *at) {
    if (c->n == 0) return false;
    *at = pos / c->step;
    if (*at >= c->n) *at = c->n - 1;
    return c->count[*at] > 0;
}

bool crit_calib_sigma(const crit_calib *c, uint32_t head, uint32_t pos, float *sigma) {
    uint32_t at;
    if (!entry_at(c, pos, &at)) return false;
    *sigma = (float)(c->sum[(size_t)at * c->n_head + head] / c->count[at]);
    return true;
}

const crit_gain *crit_calib_gain(const crit_calib *c, uint32_t head, uint32_t pos, uint32_t *n_probe) {
    uint32_t at;
    if (!entry_at(c, pos, &at)) return NULL;
    *n_probe = c->count[at];
    return &c->gain[(size_t)at * c->n_head + head];
}

void crit_calib_push(crit_calib *c, uint32_t entry, const crit_probe *probe) {
    size_t n = c->n_head, row = (size_t)entry * n;
    if (entry) {
        memcpy(c->sum + row, c->sum + row - n, n * sizeof *c->sum);
        memcpy(c->gain + row, c->gain + row - n, n * sizeof *c->gain);
    } else {
        memset(c->sum, 0, n * sizeof *c->sum);
        memset(c->gain, 0, n * sizeof *c->gain);
    }
    c->count[entry] = entry ? c->count[entry - 1] : 0;
    if (probe) {
        for (size_t h = 0; h < n; h++) {
            crit_gain *g = &c->gain[row + h];
            c->sum[row + h] += (double)probe[h].sigma;
            for (int k = 0; k < CRIT_GAIN_BINS; k++) {
                g->n[k] += probe[h].gain.n[k];
                g->use[k] += probe[h].gain.use[k];
                g->mass[k] += probe[h].gain.mass[k];
                g->peak[k] += probe[h].gain.peak[k];
            }
        }
        c->count[entry]++;
    }
    c->n = entry + 1;
}

/* ---- one probe ---- */

/* Octave of x = share / even share: 0 for x < 2^(CRIT_GAIN_LOW + 1). */
static int bin_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int k = (int)(bits >> 23) - 127 - CRIT_GAIN_LOW;
    return k < 0 ? 0 : k >= CRIT_GAIN_BINS ? CRIT_GAIN_BINS - 1 : k;
}

void crit_probe_weights(const crit_kernels *kt, const crit_kv *kv, uint32_t kv_head, const float *q, size_t q_stride,
                        uint32_t n_row, uint32_t pos, float scale, float *lse, float *top, void *scratch,
                        float *const *mass, float *const *peak) {
    uint32_t n_blk = pos / CRIT_BLK_LEN + 1;
    kt->block_lse(q, q_stride, n_row, crit_kv_k(kv, kv_head), (size_t)pos + 1, kv->d, scale, lse, top, scratch);
    for (uint32_t r = 0; r < n_row; r++) {
        float m = -INFINITY;
        double all = 0;
        for (uint32_t b = 0; b < n_blk; b++) m = lse[b * CRIT_REP_MAX + r] > m ? lse[b * CRIT_REP_MAX + r] : m;
        for (uint32_t b = 0; b < n_blk; b++) {
            float x = expf(lse[b * CRIT_REP_MAX + r] - m);
            mass[r][b] = x;
            all += (double)x;
        }
        float inv = (float)(1.0 / all);
        for (uint32_t b = 0; b < n_blk; b++) mass[r][b] *= inv;
        for (uint32_t b = 0; peak && b < n_blk; b++) peak[r][b] = expf(top[b * CRIT_REP_MAX + r] - m) * inv;
    }
}

void crit_probe_judge(crit_probe *p, const float *mass, const float *peak, const float *share, uint32_t n_free,
                      float power) {
    memset(p, 0, sizeof *p);
    double far = 0, sink = 0;
    for (uint32_t b = 0; b < CRIT_SINK_BLK; b++) sink += (double)mass[b];
    for (uint32_t f = 0; f < n_free; f++) {
        uint32_t b = CRIT_SINK_BLK + f;
        far += (double)mass[b];
        if (peak[b] > p->peak) p->peak = peak[b], p->peak_blk = b;
    }
    /* Sinks carry mass but tiny values: they stay outside the normaliser. */
    double rest = 1.0 - sink > 0.02 ? 1.0 - sink : 0.02;
    p->sigma = (float)(far / rest);
    float inv = (float)(1.0 / rest), even = (float)n_free;
    for (uint32_t f = 0; share && f < n_free; f++) {
        int k = bin_of(share[f] * even);
        float m = mass[CRIT_SINK_BLK + f] * inv;
        p->gain.n[k] += 1;
        p->gain.mass[k] += m;
        p->gain.use[k] += power == 1 ? m : power == 2 ? m * m : powf(m, power);
    }
    if (share && p->peak > CRIT_PEAK_WEIGHT) p->gain.peak[bin_of(share[p->peak_blk - CRIT_SINK_BLK] * even)] = 1;
}

/* log2 of the share, in units of the even one, above which a block is expected to weigh as much as wanted. */
static double crossing(const crit_gain *g, double sigma, double power, double least, uint32_t n_free) {
    enum { N = CRIT_GAIN_BINS };
    /* Mean use by octave, made to rise with the share (neighbours that fall are pooled), with a few blocks' worth of
     * the straight line sigma * share as prior. */
    double use[N], weight[N], mid[N];
    int first[N], n = 0;
    for (int k = 0; k < N; k++) {
        double x = ldexp(1.5, k + CRIT_GAIN_LOW) * sigma / n_free, w = 4;
        double u = ((double)g->use[k] + w * pow(x, power)) / ((double)g->n[k] + w);
        int from = k;
        w += (double)g->n[k];
        while (n && use[n - 1] >= u) {
            n--;
            u = (u * w + use[n] * weight[n]) / (w + weight[n]);
            w += weight[n];
            from = first[n];
        }
        use[n] = u, weight[n] = w, first[n++] = from;
    }
    for (int i = 0; i < n; i++) mid[i] = CRIT_GAIN_LOW + 0.5 * (first[i] + (i + 1 < n ? first[i + 1] : N));
    double want = pow(least, power);
    if (use[n - 1] <= want) return use[n - 1] > 0 ? mid[n - 1] + log2(want / use[n - 1]) / power : (double)INFINITY;
    for (int i = n - 1; i > 0; i--)
        if (use[i - 1] <= want) {
            double part = use[i - 1] > 0 ? log(want / use[i - 1]) / log(use[i] / use[i - 1]) : 0.5;
            return mid[i - 1] + (mid[i] - mid[i - 1]) * part;
        }
    return CRIT_GAIN_LOW;
}

float crit_gain_threshold(const crit_gain *g, uint32_t n_probe, float sigma, float power, float least, float mass_loss,
                          float peak_loss, uint32_t n_free) {
    double at = crossing(g, (double)sigma, (double)power, (double)least, n_free);
    double peaks = 0, lost = 0;
    for (int k = 0; k < CRIT_GAIN_BINS; k++) peaks += (double)g->peak[k];
    for (int k = 0; peak_loss < 1 && k < CRIT_GAIN_BINS && k + CRIT_GAIN_LOW < at; k++)
        if ((lost += (double)g->peak[k]) > (double)peak_loss * peaks) at = k + CRIT_GAIN_LOW;
    lost = 0;
    for (int k = 0; mass_loss < 1 && k < CRIT_GAIN_BINS && k + CRIT_GAIN_LOW < at; k++) {
        double m = (double)g->mass[k] / n_probe, room = (double)mass_loss - lost;
        if (m > room && k + CRIT_GAIN_LOW + room / m < at) at = k + CRIT_GAIN_LOW + room / m;
        lost += m;
    }
    return at <= CRIT_GAIN_LOW ? 0 : (float)(exp2(at) / n_free);
}
