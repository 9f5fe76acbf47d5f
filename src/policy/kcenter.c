/* SPDX-License-Identifier: MIT */
/* See kcenter.h.  A centre is a stage: every (range of keys, head) takes the distances to it from one product of the
 * packed rows, and leaves its farthest key; the next stage's items all find the same farthest of those.
 *
 * Distances are |x - m|^2 + |c - m|^2 - 2 (x - m)(c - m) around the mean m, as x (c - m) - m (c - m): keys of a head
 * often share a large offset, which would swallow the differences otherwise. */
#include <math.h>
#include <string.h>

#include "policy/kcenter.h"

enum { RANGE = 1024 }; /* keys of a work item */

static uint32_t ranges_of(uint32_t n_key) {
    return (n_key + RANGE - 1) / RANGE;
}

size_t crit_kcenter_bytes(uint32_t n_head, uint32_t d, uint32_t n_key_cap) {
    size_t n = (size_t)n_head * n_key_cap, r = (size_t)n_head * ranges_of(n_key_cap);
    return n * (2 * sizeof(float) + sizeof(uint32_t)) + 2 * r * sizeof(crit_far) + (n_head + r) * d * sizeof(double);
}

void crit_kcenter_clear(crit_kcenter *c) {
    crit_free(c->norm);
    crit_free(c->near);
    crit_free(c->label);
    crit_free(c->far);
    crit_free(c->mean);
    memset(c, 0, sizeof *c);
}

crit_status crit_kcenter_init(crit_kcenter *c, uint32_t n_head, uint32_t d, uint32_t n_key_cap, crit_error *err) {
    size_t n = (size_t)n_head * n_key_cap, r = (size_t)n_head * ranges_of(n_key_cap);
    *c = (crit_kcenter){.n_head = n_head,
                        .d = d,
                        .n_key_cap = n_key_cap,
                        .n_range_cap = ranges_of(n_key_cap),
                        .norm = crit_malloc(n, sizeof *c->norm),
                        .near = crit_malloc(n, sizeof *c->near),
                        .label = crit_malloc(n, sizeof *c->label),
                        .far = crit_calloc(2 * r, sizeof *c->far),
                        .mean = crit_malloc((n_head + r) * d, sizeof *c->mean)};
    if (c->norm && c->near && c->label && c->far && c->mean) return CRIT_OK;
    crit_kcenter_clear(c);
    return crit_fail(err, CRIT_E_NOMEM, "out of memory for the distances of %u keys", n_key_cap);
}

typedef struct pass {
    crit_kcenter *c;
    const crit_kcenter_job *job;
    uint32_t n_range, step; /* step: which centre */
} pass;

typedef struct range {
    size_t head, id;
    uint32_t from, n;
    const uint16_t *k; /* of its first key */
} range;

static range range_of(const pass *p, size_t item) {
    range r = {.head = item / p->n_range, .id = item % p->n_range};
    r.from = (uint32_t)r.id * RANGE;
    r.n = p->job->n_key - r.from < RANGE ? p->job->n_key - r.from : RANGE;
    r.k = p->job->k + r.head * p->job->head_stride + (size_t)r.from * p->c->d;
    return r;
}

static double *mean_of(const pass *p, size_t head) {
    return p->c->mean + head * (1 + p->c->n_range_cap) * p->c->d;
}

static void sum_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const pass *p = arg;
    range r = range_of(p, item);
    uint32_t d = p->c->d;
    double *sum = mean_of(p, r.head) + (1 + r.id) * d;
    float x[CRIT_D_HEAD_MAX];
    memset(sum, 0, d * sizeof *sum);
    for (uint32_t j = 0; j < r.n; j++) {
        crit_key_f32(p->job->kernels, r.k + (size_t)j * d, d, x);
        for (uint32_t i = 0; i < d; i++) sum[i] += (double)x[i];
    }
}

static void mean_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const pass *p = arg;
    uint32_t d = p->c->d;
    double *mean = mean_of(p, head);
    memset(mean, 0, d * sizeof *mean);
    for (uint32_t r = 0; r < p->n_range; r++)
        for (uint32_t i = 0; i < d; i++) mean[i] += mean[(1 + (size_t)r) * d + i];
    /* As f32, so that the same mean is taken from keys and centres. */
    for (uint32_t i = 0; i < d; i++) mean[i] = (double)(float)(mean[i] / p->job->n_key);
}

static void norm_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const pass *p = arg;
    range r = range_of(p, item);
    uint32_t d = p->c->d;
    const double *mean = mean_of(p, r.head);
    size_t at = r.head * p->c->n_key_cap + r.from;
    float x[CRIT_D_HEAD_MAX];
    for (uint32_t j = 0; j < r.n; j++) {
        crit_key_f32(p->job->kernels, r.k + (size_t)j * d, d, x);
        double sum = 0;
        for (uint32_t i = 0; i < d; i++) sum += ((double)x[i] - mean[i]) * ((double)x[i] - mean[i]);
        p->c->norm[at + j] = (float)sum;
        p->c->near[at + j] = INFINITY;
        p->c->label[at + j] = 0;
    }
}

/* The farthest key after `step` centres; equally far: the first. */
static crit_far farthest(const pass *p, size_t head, uint32_t step) {
    if (step == 0) return (crit_far){INFINITY, 0};
    const crit_far *far = p->c->far + ((size_t)((step - 1) & 1) * p->c->n_head + head) * p->c->n_range_cap;
    crit_far best = far[0];
    for (uint32_t r = 1; r < p->n_range; r++)
        if (far[r].dist2 > best.dist2) best = far[r];
    return best;
}

static void center_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const pass *p = arg;
    const crit_kcenter_job *job = p->job;
    range r = range_of(p, item);
    uint32_t d = p->c->d, pos = farthest(p, r.head, p->step).pos;
    if (r.id == 0) job->center[r.head * job->stride + p->step] = pos;
    const double *mean = mean_of(p, r.head);
    float c[CRIT_D_HEAD_MAX], dot[RANGE];
    double offset = 0;
    crit_key_f32(job->kernels, job->k + r.head * job->head_stride + (size_t)pos * d, d, c);
    for (uint32_t i = 0; i < d; i++) {
        c[i] = (float)((double)c[i] - mean[i]);
        offset += mean[i] * (double)c[i];
    }
    job->kernels->key_scores(c, d, 1, r.k, r.n, d, 1, dot, RANGE);
    const float *norm = p->c->norm + r.head * p->c->n_key_cap;
    float *near = p->c->near + r.head * p->c->n_key_cap + r.from, own = norm[pos], off = (float)offset;
    uint32_t *label = p->c->label + r.head * p->c->n_key_cap + r.from;
    for (uint32_t j = 0; j < r.n; j++) {
        float dist2 = norm[r.from + j] + (own - 2 * (dot[j] - off));
        dist2 = dist2 > 0 ? dist2 : 0;
        bool nearer = dist2 < near[j];
        near[j] = nearer ? dist2 : near[j];
        label[j] = nearer ? p->step : label[j];
    }
    if (pos >= r.from && pos - r.from < r.n) {
        near[pos - r.from] = -1;
        label[pos - r.from] = p->step;
    }
    crit_far best = {near[0], r.from};
    for (uint32_t j = 1; j < r.n; j++)
        if (near[j] > best.dist2) best = (crit_far){near[j], r.from + j};
    p->c->far[((size_t)(p->step & 1) * p->c->n_head + r.head) * p->c->n_range_cap + r.id] = best;
}

static void size_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    const pass *p = arg;
    const crit_kcenter_job *job = p->job;
    float far = farthest(p, head, job->n_center).dist2;
    job->radius[head] = far > 0 ? sqrtf(far) : 0;
    if (!job->size) return;
    uint32_t *size = job->size + head * job->stride;
    const uint32_t *label = p->c->label + head * p->c->n_key_cap;
    memset(size, 0, job->n_center * sizeof *size);
    for (uint32_t j = 0; j < job->n_key; j++) size[label[j]]++;
}

crit_status crit_kcenter_run(crit_kcenter *c, const crit_kcenter_job *job, crit_error *err) {
    pass p[CRIT_STAGES_MAX] = {{.c = c, .job = job, .n_range = ranges_of(job->n_key)}};
    size_t n_item = (size_t)c->n_head * p->n_range;
    crit_stage stage[CRIT_STAGES_MAX] = {{.n_item = n_item, .task = sum_item, .arg = p},
                                         {.n_item = c->n_head, .task = mean_item, .arg = p},
                                         {.n_item = n_item, .task = norm_item, .arg = p}};
    crit_pool_run_stages(job->pool, stage, 3);
    for (uint32_t done = 0; done < job->n_center && !crit_pool_stopped(job->pool);) {
        unsigned n = 0;
        for (; n < CRIT_STAGES_MAX && done < job->n_center; n++, done++) {
            p[n] = (pass){c, job, p->n_range, done};
            stage[n] = (crit_stage){.n_item = n_item, .task = center_item, .arg = &p[n]};
        }
        crit_pool_run_stages(job->pool, stage, n);
    }
    crit_pool_run(job->pool, c->n_head, size_item, p);
    return crit_pool_stopped(job->pool) ? crit_fail(err, CRIT_E_CANCELLED, "cancelled") : CRIT_OK;
}
