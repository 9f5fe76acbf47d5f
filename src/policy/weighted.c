/* SPDX-License-Identifier: MIT */
/* See weighted.h.  Sums are in double, each relative to its own largest logit: where a sampled key lies far above all
 * that tau has met, z / tau is large, not infinite. */
#include <math.h>
#include <string.h>

#include "policy/weighted.h"

enum { RANGE = 1024 }; /* rows a work item scores */

size_t crit_weighted_bytes(const crit_decode_env *e, uint32_t n_row) {
    return (size_t)e->n_head * ((size_t)n_row * sizeof(float) + (e->d + 1) * sizeof(float) + 2 * sizeof(double));
}

void crit_weighted_clear(crit_weighted *w) {
    crit_free(w->logit);
    crit_free(w->z);
    crit_free(w->lse);
    crit_free(w->z_log);
    crit_free(w->lse_rest);
    memset(w, 0, sizeof *w);
}

crit_status crit_weighted_init(crit_weighted *w, const crit_decode_env *e, uint32_t n_row, crit_error *err) {
    *w = (crit_weighted){.stride = n_row,
                         .logit = crit_malloc((size_t)e->n_head * n_row, sizeof *w->logit),
                         .z = crit_malloc((size_t)e->n_head * e->d, sizeof *w->z),
                         .lse = crit_malloc(e->n_head, sizeof *w->lse),
                         .z_log = crit_malloc(e->n_head, sizeof *w->z_log),
                         .lse_rest = crit_malloc(e->n_head, sizeof *w->lse_rest)};
    if (w->logit && w->z && w->lse && w->z_log && w->lse_rest) return CRIT_OK;
    crit_weighted_clear(w);
    return crit_fail(err, CRIT_E_NOMEM, "out of memory for the scores of %u keys", n_row);
}

typedef struct run {
    crit_weighted *w;
    const crit_weighted_rows *rows;
    const crit_pieces *p;
    const crit_decode_env *e;
    uint32_t n_range; /* of the longest */
} run;

static uint32_t own_mix(const crit_weighted_rows *r) {
    return r->mix_w ? r->n_mix : 0;
}

/* Rows [from, from + n) of one kind, into columns from `at` on. */
static void score(const run *a, uint32_t head, const uint16_t *k, uint32_t n_row, uint32_t range, uint32_t at) {
    const crit_decode_env *e = a->e;
    uint32_t from = range * RANGE;
    if (from >= n_row) return;
    uint32_t n = n_row - from < RANGE ? n_row - from : RANGE;
    for (uint32_t g = 0; g < e->n_group; g += CRIT_REP_MAX) {
        size_t row = (size_t)head * e->n_group + g;
        e->kernels->key_scores(a->p->q + row * e->d, e->d,
                               e->n_group - g < CRIT_REP_MAX ? e->n_group - g : CRIT_REP_MAX, k + (size_t)from * e->d,
                               n, e->d, e->scale, a->w->logit + row * a->w->stride + at + from, a->w->stride);
    }
}

static void score_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const run *a = arg;
    uint32_t head = (uint32_t)(item / a->n_range / 2), range = (uint32_t)(item / 2 % a->n_range);
    const crit_weighted_rows *r = &a->rows[head];
    if (item % 2)
        score(a, head, r->mix_k, own_mix(r), range, r->n_sum);
    else
        score(a, head, r->sum_k, r->n_sum, range, 0);
}

/* A query head's logits become weights. */
static void weigh_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const run *a = arg;
    const crit_kernels *kernels = a->e->kernels;
    const crit_weighted_rows *r = &a->rows[head / a->e->n_group];
    float *l = a->w->logit + head * a->w->stride, *m = l + r->n_sum, top = 0, high = 0;
    kernels->soft_max(l, r->n_sum, &top);
    double tau = 0;
    for (uint32_t i = 0, c = 0; c < r->n_sum / r->n_per; c++) {
        double sum = 0;
        float count = (float)r->count[c];
        for (uint32_t end = i + r->n_per; i < end; i++) {
            l[i] *= count;
            sum += (double)l[i];
        }
        tau += sum / r->n_per;
    }
    a->w->lse[head] = (double)top + log(tau);
    a->w->z_log[head] = -log(tau);
    if (!r->mix_w || !r->n_mix) return; /* without a sample z is 0 whatever it is multiplied with */
    kernels->soft_max(m, r->n_mix, &high);
    for (uint32_t i = 0; i < r->n_mix; i++) m[i] *= r->mix_w[i];
    a->w->z_log[head] = log(r->mix_scale) + (double)high - a->w->lse[head];
}

static void mix_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const run *a = arg;
    const crit_decode_env *e = a->e;
    const crit_weighted_rows *r = &a->rows[head];
    size_t first = r->mix_w ? r->n_sum : 0;
    memset(a->w->z + head * e->n_group * e->d, 0, (size_t)e->n_group * e->d * sizeof *a->w->z);
    for (uint32_t g = 0; g < e->n_group; g += CRIT_REP_MAX) {
        size_t row = head * e->n_group + g;
        e->kernels->mix_values(a->w->logit + row * a->w->stride + first, a->w->stride,
                               e->n_group - g < CRIT_REP_MAX ? e->n_group - g : CRIT_REP_MAX, r->mix_v, r->n_mix, e->d,
                               a->w->z + row * e->d, e->d);
    }
}

/* With the exact part, whose result stands in out. */
static void merge_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const run *a = arg;
    size_t d = a->e->d;
    const float *z = a->w->z + head * d;
    float *out = a->p->out + head * d;
    double rest = (double)a->w->lse_rest[head], own = a->w->lse[head], top = rest > own ? rest : own;
    double w_rest = exp(rest - top), w_own = exp(own - top), len = 0, by = a->w->z_log[head];
    for (size_t i = 0; i < d; i++) len += (double)z[i] * (double)z[i];
    len = sqrt(len);
    double v_max = a->rows[head / a->e->n_group].v_max;
    double f = len > 0 && log(len) + by > log(v_max) ? v_max / len : exp(by);
    for (size_t i = 0; i < d; i++)
        out[i] = (float)((w_rest * (double)out[i] + w_own * f * (double)z[i]) / (w_rest + w_own));
}

void crit_weighted_run(crit_weighted *w, const crit_weighted_rows *rows, crit_pieces *p) {
    crit_decode_env *e = p->env;
    run a = {w, rows, p, e, 0};
    p->lse = w->lse_rest;
    for (uint32_t h = 0; h < e->n_kv_head; h++) {
        uint32_t n = rows[h].n_sum > rows[h].n_mix ? rows[h].n_sum : rows[h].n_mix;
        if ((n + RANGE - 1) / RANGE > a.n_range) a.n_range = (n + RANGE - 1) / RANGE;
        size_t n_read = (size_t)rows[h].n_sum + rows[h].n_mix + own_mix(&rows[h]); /* keys, values, keys */
        e->moved_bytes += (double)sizeof(uint16_t) * e->d * (double)n_read;
    }
    crit_stage stage[6] = {{.n_item = (size_t)2 * a.n_range * e->n_kv_head, .task = score_item, .arg = &a},
                           {.n_item = e->n_head, .task = weigh_item, .arg = &a},
                           {.n_item = e->n_kv_head, .task = mix_item, .arg = &a}};
    crit_pieces_stages(p, stage + 3);
    stage[5] = (crit_stage){.n_item = e->n_head, .task = merge_item, .arg = &a};
    crit_pool_run_stages(e->pool, stage, 6);
}
