/* SPDX-License-Identifier: MIT */
/* What a head's shares are worth: a few queries, exactly, over all their keys.                [alg:calibrate]
 *
 * A share says how far attention is spread over far blocks, not how much of it there is, and not how often a block of
 * small share holds the one key that matters.  Exact queries (probes), one per `step` positions, tell both: sigma, the
 * weight that far blocks have, and the gain, what blocks of a given share turned out to weigh.  One probe is noisy, so
 * tiles use what the head's earlier probes add up to.
 * DEVIATION: the design averages over the whole prompt; a stream only has its past. */
#include <math.h>
#include <string.h>

#include "sparse/sparse.h"

/* bf16 by truncation: sums of thousands of marks do not mind, and a sum made again has the same bits. */
static uint16_t short_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}
static float float_of(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void crit_gain_add(crit_gain *g, const crit_mark *m, uint32_t weight) {
    if (!m->n_row) return;
    const float w = (float)weight;
    g->sigma += (double)(w * m->sigma);
    g->n_probe += weight;
    for (int k = 0; k < CRIT_GAIN_BINS; k++) {
        g->n[k] += w * m->n[k];
        g->use[k] += w * float_of(m->use[k]);
        g->mass[k] += w * float_of(m->mass[k]);
    }
    if (m->peak != CRIT_NO_BIN) g->peak[m->peak] += w;
}

static void add_entry(crit_calib *c, uint32_t entry) {
    const uint32_t weight = crit_probe_weight(entry, c->step);
    for (uint32_t h = 0; h < c->n_head; h++)
        crit_gain_add(&c->total[h], &c->marks[(size_t)entry * c->n_head + h], weight);
}

void crit_calib_clear(crit_calib *c) {
    crit_free(c->marks);
    crit_free(c->total);
    memset(c, 0, sizeof *c);
}

size_t crit_calib_bytes(uint32_t n_head, uint32_t step, uint32_t n_tok) {
    return ((size_t)n_tok / step + 1) * n_head * sizeof(crit_mark);
}

crit_status crit_calib_reserve(crit_calib *c, uint32_t n_head, uint32_t step, uint32_t n_tok, crit_error *err) {
    uint32_t need = n_tok / step + 1;
    if (c->marks && (c->n_head != n_head || c->step != step)) crit_calib_clear(c);
    if (c->marks && need <= c->cap) return CRIT_OK;
    uint32_t cap = need < c->cap + c->cap / 2 ? c->cap + c->cap / 2 : need;
    crit_mark *marks = crit_malloc((size_t)cap * n_head, sizeof *marks);
    if (!c->total) c->total = crit_calloc(n_head, sizeof *c->total);
    if (!marks || !c->total) {
        crit_free(marks);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for calibration");
    }
    if (c->n) memcpy(marks, c->marks, (size_t)c->n * n_head * sizeof *marks);
    crit_free(c->marks);
    c->marks = marks;
    c->n_head = n_head;
    c->step = step;
    c->cap = cap;
    return CRIT_OK;
}

void crit_calib_cut(crit_calib *c, uint32_t n_tok) {
    if (!c->marks) return;
    uint32_t keep = (n_tok + c->step - 1) / c->step;
    if (keep > c->n) keep = c->n;
    for (uint32_t i = keep; i-- && (uint64_t)i * c->step + CRIT_TILE_LEN > n_tok;) /* all within a tile of the cut */
        if ((uint64_t)i * c->step + c->marks[(size_t)i * c->n_head].n_row > n_tok) keep = i;
    if (c->n == keep) return;
    c->n = keep;
    memset(c->total, 0, c->n_head * sizeof *c->total);
    for (uint32_t i = 0; i < keep; i++) add_entry(c, i);
}

void crit_calib_push(crit_calib *c, const crit_probe *probe) {
    crit_mark *m = c->marks + (size_t)c->n++ * c->n_head;
    for (uint32_t h = 0; h < c->n_head; h++) m[h] = probe ? probe[h].mark : (crit_mark){.n_row = 0};
    add_entry(c, c->n - 1);
}

/* ---- one probe ---- */

/* Octave of x = share / even share: 0 for x < 2^(CRIT_GAIN_LOW + 1). */
static int bin_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int k = (int)(bits >> 23) - 127 - CRIT_GAIN_LOW;
    return k < 0 ? 0 : k >= CRIT_GAIN_BINS ? CRIT_GAIN_BINS - 1 : k;
}

void crit_probe_weights(const crit_kernels *kt, const crit_kv *kv, uint32_t kv_head, const float *q, uint32_t n_row,
                        const uint32_t *pos, float scale, const void *ready, void *scratch, float *mass, float *top,
                        size_t stride, float *lse) {
    const uint16_t *k = crit_kv_k(kv, kv_head);
    const uint32_t d = kv->d, n_common = (pos[0] + 1) / CRIT_BLK_LEN, from = n_common * CRIT_BLK_LEN;
    /* K is read once for all rows; then what each position sees beyond the first one. */
    const unsigned char *made = ready, *rest = made ? made + n_common * CRIT_READY_BYTES(d) : NULL;
    kt->block_lse(q, d, n_row, k, made, from, d, scale, mass, top, stride, scratch);
    for (uint32_t r = 0, n; r < n_row; r += n) {
        for (n = 1; r + n < n_row && pos[r + n] == pos[r];) n++;
        kt->block_lse(q + (size_t)r * d, d, n, k + (size_t)from * d, rest, (size_t)pos[r] + 1 - from, d, scale,
                      mass + r * stride + n_common, top + r * stride + n_common, stride, scratch);
    }
    for (uint32_t r = 0; r < n_row; r++) {
        float *m = mass + r * stride, most = 0;
        uint32_t n_blk = pos[r] / CRIT_BLK_LEN + 1;
        double sum = kt->soft_max(m, n_blk, &most);
        float inv = (float)(1.0 / sum);
        for (uint32_t b = 0; b < n_blk; b++) m[b] *= inv;
        lse[r] = (float)((double)most + log(sum));
    }
}

double crit_rest_of(const float *mass) {
    double sink = 0;
    for (uint32_t b = 0; b < CRIT_SINK_BLK; b++) sink += (double)mass[b];
    return 1.0 - sink > 0.02 ? 1.0 - sink : 0.02;
}

void crit_probe_judge(crit_probe *p, const float *mass, const float *top, float lse, const float *share,
                      uint32_t n_free, float power) {
    *p = (crit_probe){.mark = {.n_row = 1, .peak = CRIT_NO_BIN}};
    double far = 0;
    float most = -INFINITY;
    for (uint32_t b = CRIT_SINK_BLK; b < CRIT_SINK_BLK + n_free; b++) {
        far += (double)mass[b];
        if (top[b] > most) most = top[b], p->peak_blk = b;
    }
    p->peak = expf(most - lse);
    const double rest = crit_rest_of(mass);
    p->mark.sigma = (float)(far / rest);
    if (!share) return;
    float inv = (float)(1.0 / rest), even = (float)n_free, use[CRIT_GAIN_BINS] = {0}, sum[CRIT_GAIN_BINS] = {0};
    for (uint32_t f = 0; f < n_free; f++) {
        int k = bin_of(share[f] * even);
        float m = mass[CRIT_SINK_BLK + f] * inv;
        p->mark.n[k] += p->mark.n[k] < UINT16_MAX;
        sum[k] += m;
        if (power != 1) use[k] += power == 2 ? m * m : powf(m, power);
    }
    for (int k = 0; k < CRIT_GAIN_BINS; k++) {
        p->mark.mass[k] = short_of(sum[k]);
        p->mark.use[k] = short_of(power == 1 ? sum[k] : use[k]);
    }
    if (p->peak > CRIT_PEAK_WEIGHT) p->mark.peak = (uint8_t)bin_of(share[p->peak_blk - CRIT_SINK_BLK] * even);
}

enum { N = CRIT_GAIN_BINS };
static const double prior = 4; /* blocks an octave is given beforehand: its first few prove little */

/* Octaves' means, pooled with their neighbours until they rise with the share. */
typedef struct rise {
    double mean[N], weight[N];
    int first[N], n; /* octaves first[i] to first[i + 1] - 1 are one */
} rise;

static void rise_push(rise *r, int octave, double mean, double weight) {
    int from = octave;
    while (r->n && r->mean[r->n - 1] >= mean) {
        r->n--;
        mean = (mean * weight + r->mean[r->n] * r->weight[r->n]) / (weight + r->weight[r->n]);
        weight += r->weight[r->n];
        from = r->first[r->n];
    }
    r->mean[r->n] = mean, r->weight[r->n] = weight, r->first[r->n++] = from;
}

/* log2 of the share, in units of the even one, above which a block is expected to weigh as much as wanted. */
static double crossing(const crit_gain *g, double power, double least, uint32_t n_free) {
    /* Beforehand: the straight line sigma * share. */
    const double sigma = g->sigma / g->n_probe, want = pow(least, power);
    rise r = {.n = 0};
    double mid[N];
    for (int k = 0; k < N; k++) {
        double x = ldexp(1.5, k + CRIT_GAIN_LOW) * sigma / n_free, weight = prior + (double)g->n[k];
        rise_push(&r, k, ((double)g->use[k] + prior * pow(x, power)) / weight, weight);
    }
    for (int i = 0; i < r.n; i++) mid[i] = CRIT_GAIN_LOW + 0.5 * (r.first[i] + (i + 1 < r.n ? r.first[i + 1] : N));
    const double *use = r.mean;
    int n = r.n;
    if (use[n - 1] <= want) return use[n - 1] > 0 ? mid[n - 1] + log2(want / use[n - 1]) / power : (double)INFINITY;
    for (int i = n - 1; i > 0; i--)
        if (use[i - 1] <= want) {
            double part = use[i - 1] > 0 ? log(want / use[i - 1]) / log(use[i] / use[i - 1]) : 0.5;
            return mid[i - 1] + (mid[i] - mid[i - 1]) * part;
        }
    return CRIT_GAIN_LOW;
}

/* log2 as above, of the lowest octave whose blocks hold the key of a look-up with more than that chance. */
static double look_ups_from(const crit_gain *g, double chance) {
    rise r = {.n = 0};
    for (int k = 0; k < N; k++) {
        double weight = prior + (double)g->n[k];
        rise_push(&r, k, (double)g->peak[k] / weight, weight);
    }
    for (int i = 0; i < r.n; i++)
        if (r.mean[i] > chance) return r.first[i] + CRIT_GAIN_LOW;
    return (double)INFINITY;
}

float crit_gain_threshold(const crit_gain *g, const crit_gain_want *want, uint32_t n_free) {
    const double peak_loss = 1 - (double)want->recall, mass_loss = 1 - (double)want->p_mass;
    double at = crossing(g, (double)want->power, (double)want->least, n_free), peaks = 0, lost = 0;
    if (want->chance > 0) at = fmin(at, look_ups_from(g, (double)want->chance));
    for (int k = 0; k < N; k++) peaks += (double)g->peak[k];
    for (int k = 0; peak_loss < 1 && k < N && k + CRIT_GAIN_LOW < at; k++)
        if ((lost += (double)g->peak[k]) > peak_loss * peaks) at = k + CRIT_GAIN_LOW;
    lost = 0;
    for (int k = 0; mass_loss < 1 && k < N && k + CRIT_GAIN_LOW < at; k++) {
        double m = (double)g->mass[k] / g->n_probe, room = mass_loss - lost;
        if (m > room && k + CRIT_GAIN_LOW + room / m < at) at = k + CRIT_GAIN_LOW + room / m;
        lost += m;
    }
    return at <= CRIT_GAIN_LOW ? 0 : (float)(exp2(at) / n_free);
}
