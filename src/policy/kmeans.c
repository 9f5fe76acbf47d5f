/* SPDX-License-Identifier: MIT */
/* See kmeans.h.
 *
 * One stage costs n k d a step.  With 64 coarse clusters and k / 64 fine ones in each it is n (64 + k / 64) d: for the
 * 1,600 clusters of 32K keys 18 times less.  Products come from the score kernel, eight points at a time. */
#include "policy/kmeans.h"

#include <math.h>
#include <string.h>

#include "core/core.h"

enum {
    N_COARSE_MAX = 64,
    FINE_PER_COARSE = 16, /* below twice this many clusters one stage is as cheap */
    SAMPLE_PER_COARSE = 64,
    COARSE_STEPS = 8,
    FINE_STEPS = 12
};

static double uniform(uint64_t *rng) { /* [0, 1), splitmix64 */
    uint64_t z = *rng += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* One k-means of n points with room for k centres. */
typedef struct lloyd {
    const crit_kernels *kt;
    const float *x; /* [n][d] */
    uint32_t n, d, k;
    float *centre; /* [k][d] */
    float *half;   /* [k] half of the squared length */
    float *z;      /* [max(n, k)][8] products */
    float *dist;   /* [n] squared distance to the nearest centre */
    float *length; /* [n] squared, of the points */
    float *drawn;  /* [8][d] */
    uint32_t *size;
} lloyd;

static void lloyd_clear(lloyd *l) {
    crit_free(l->centre);
    crit_free(l->half);
    crit_free(l->z);
    crit_free(l->dist);
    crit_free(l->length);
    crit_free(l->drawn);
    crit_free(l->size);
}

static bool lloyd_init(lloyd *l, const crit_kernels *kt, uint32_t n_max, uint32_t k_max, uint32_t d) {
    *l = (lloyd){.kt = kt, .d = d};
    l->centre = crit_malloc((size_t)k_max * d, sizeof(float));
    l->half = crit_malloc(k_max, sizeof(float));
    l->z = crit_malloc((size_t)(n_max > k_max ? n_max : k_max) * CRIT_REP_MAX, sizeof(float));
    l->dist = crit_malloc(n_max, sizeof(float));
    l->length = crit_malloc(n_max, sizeof(float));
    l->drawn = crit_malloc((size_t)CRIT_REP_MAX * d, sizeof(float));
    l->size = crit_malloc(k_max, sizeof(uint32_t));
    return l->centre && l->half && l->z && l->dist && l->length && l->drawn && l->size;
}

static float square(const float *x, uint32_t d) {
    double s = 0;
    for (uint32_t i = 0; i < d; i++) s += (double)x[i] * (double)x[i];
    return (float)s;
}

/* ---- k-means++ ---- */

static uint32_t draw(const float *dist, uint32_t n, double total, uint64_t *rng) {
    double at = uniform(rng) * total;
    uint32_t last = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (dist[i] <= 0) continue;
        last = i;
        at -= (double)dist[i];
        if (at < 0) break;
    }
    return last;
}

/* Eight centres are drawn from the distances at hand and tried in turn: one is taken with the probability by which its
 * distance has shrunk since, which is drawing them one after the other at the price of one pass.  Returns how many
 * there are; fewer than k when all points are covered. */
static uint32_t start(lloyd *l, uint64_t *rng) {
    uint32_t n_centre = 0, d = l->d, pick[CRIT_REP_MAX];
    float was[CRIT_REP_MAX];
    for (uint32_t i = 0; i < l->n; i++) {
        l->dist[i] = 1;
        l->length[i] = square(l->x + (size_t)i * d, d);
    }
    while (n_centre < l->k) {
        double total = 0;
        for (uint32_t i = 0; i < l->n; i++) total += (double)l->dist[i];
        if (total <= 0) break;
        uint32_t n_draw = n_centre == 0 ? 1 : CRIT_REP_MAX;
        for (uint32_t r = 0; r < n_draw; r++) {
            pick[r] = draw(l->dist, l->n, total, rng);
            was[r] = l->dist[pick[r]];
            memcpy(l->drawn + (size_t)r * d, l->x + (size_t)pick[r] * d, d * sizeof(float));
        }
        l->kt->score(l->drawn, n_draw, l->x, l->n, d, 1, l->z);
        for (uint32_t r = 0; r < n_draw && n_centre < l->k; r++) {
            if (n_centre && uniform(rng) * (double)was[r] >= (double)l->dist[pick[r]]) continue;
            memcpy(l->centre + (size_t)n_centre++ * d, l->drawn + (size_t)r * d, d * sizeof(float));
            float len = l->length[pick[r]];
            for (uint32_t i = 0; i < l->n; i++) {
                float far = l->length[i] + len - 2 * l->z[(size_t)i * CRIT_REP_MAX + r];
                /* Below rounding of the products a point is its centre's twin. */
                if (far < 1e-6f * len || i == pick[r]) far = 0;
                if (n_centre == 1 || far < l->dist[i]) l->dist[i] = far;
            }
        }
    }
    return n_centre;
}

/* ---- Lloyd ---- */

/* The nearest of n_centre centres for each point; returns how many labels changed. */
static uint32_t assign(lloyd *l, uint32_t n_centre, uint32_t *label) {
    uint32_t changed = 0, d = l->d;
    for (uint32_t c = 0; c < n_centre; c++) l->half[c] = 0.5f * square(l->centre + (size_t)c * d, d);
    for (uint32_t i = 0; i < l->n; i += CRIT_REP_MAX) {
        uint32_t n = l->n - i < CRIT_REP_MAX ? l->n - i : CRIT_REP_MAX, at[CRIT_REP_MAX] = {0};
        float best[CRIT_REP_MAX];
        l->kt->score(l->x + (size_t)i * d, n, l->centre, n_centre, d, 1, l->z);
        for (uint32_t r = 0; r < CRIT_REP_MAX; r++) best[r] = -INFINITY;
        for (uint32_t c = 0; c < n_centre; c++)
            for (uint32_t r = 0; r < CRIT_REP_MAX; r++) {
                float s = l->z[(size_t)c * CRIT_REP_MAX + r] - l->half[c];
                at[r] = s > best[r] ? c : at[r];
                best[r] = s > best[r] ? s : best[r];
            }
        for (uint32_t r = 0; r < n; r++) {
            changed += label[i + r] != at[r];
            label[i + r] = at[r];
        }
    }
    return changed;
}

/* Centres become the means of their points; one without points stays where it is. */
static void move_centres(lloyd *l, uint32_t n_centre, const uint32_t *label) {
    uint32_t d = l->d;
    memset(l->size, 0, n_centre * sizeof *l->size);
    for (uint32_t i = 0; i < l->n; i++) {
        float *c = l->centre + (size_t)label[i] * d;
        const float *x = l->x + (size_t)i * d;
        if (l->size[label[i]]++ == 0)
            memcpy(c, x, d * sizeof *c);
        else
            for (uint32_t e = 0; e < d; e++) c[e] += x[e];
    }
    for (uint32_t c = 0; c < n_centre; c++)
        for (uint32_t e = 0; e < d && l->size[c] > 1; e++) l->centre[(size_t)c * d + e] /= (float)l->size[c];
}

/* Gives labels in use the numbers 0, 1, ...; scratch [n_label]. */
static uint32_t compact(uint32_t *label, uint32_t n, uint32_t n_label, uint32_t *scratch) {
    uint32_t used = 0;
    memset(scratch, 0, n_label * sizeof *scratch);
    for (uint32_t i = 0; i < n; i++) scratch[label[i]] = 1;
    for (uint32_t c = 0; c < n_label; c++)
        if (scratch[c]) scratch[c] = used++;
    for (uint32_t i = 0; i < n; i++) label[i] = scratch[label[i]];
    return used;
}

static uint32_t lloyd_run(lloyd *l, const float *x, uint32_t n, uint32_t k, uint32_t steps, uint64_t *rng,
                          uint32_t *label) {
    l->x = x;
    l->n = n;
    l->k = k;
    if (k >= n) {
        for (uint32_t i = 0; i < n; i++) label[i] = i;
        return n;
    }
    uint32_t n_centre = start(l, rng);
    memset(label, 0xff, n * sizeof *label);
    for (uint32_t s = 0; s < steps && assign(l, n_centre, label); s++) move_centres(l, n_centre, label);
    return n_centre;
}

/* ---- two stages ---- */

typedef struct stages {
    uint32_t n_coarse;
    uint32_t *from; /* [n_coarse + 1] first place of each in the gathered points */
    uint32_t *src;  /* [n] point at each place */
    uint32_t *part; /* [n] labels within a coarse cluster */
    float *x;       /* [n][d] gathered */
} stages;

static void stages_clear(stages *s) {
    crit_free(s->from);
    crit_free(s->src);
    crit_free(s->part);
    crit_free(s->x);
}

/* Coarse labels of all points from the means of a sample. */
static bool coarse(const crit_kmeans_job *j, uint32_t n_coarse, uint64_t *rng, stages *s, uint32_t *label,
                   uint32_t *n_found) {
    uint32_t n = n_coarse * SAMPLE_PER_COARSE < j->n ? n_coarse * SAMPLE_PER_COARSE : j->n;
    lloyd l;
    bool ok = lloyd_init(&l, j->kernels, n, n_coarse, j->d);
    if (ok) {
        for (uint32_t i = 0; i < n; i++)
            memcpy(s->x + (size_t)i * j->d, j->x + (size_t)i * j->n / n * j->d, j->d * sizeof *s->x);
        uint32_t n_centre = lloyd_run(&l, s->x, n, n_coarse, COARSE_STEPS, rng, label);
        l.x = j->x;
        l.n = j->n;
        assign(&l, n_centre, label);
        move_centres(&l, n_centre, label);
        assign(&l, n_centre, label);
        *n_found = compact(label, j->n, n_centre, l.size);
    }
    lloyd_clear(&l);
    return ok;
}

/* Points of a coarse cluster side by side, in their order. */
static void gather(const crit_kmeans_job *j, stages *s, const uint32_t *label) {
    memset(s->from, 0, (s->n_coarse + 1) * sizeof *s->from);
    for (uint32_t i = 0; i < j->n; i++) s->from[label[i] + 1]++;
    for (uint32_t c = 0; c < s->n_coarse; c++) s->from[c + 1] += s->from[c];
    for (uint32_t i = 0; i < j->n; i++) {
        uint32_t at = s->from[label[i]]++;
        s->src[at] = i;
        memcpy(s->x + (size_t)at * j->d, j->x + (size_t)i * j->d, j->d * sizeof *s->x);
    }
    for (uint32_t c = s->n_coarse; c; c--) s->from[c] = s->from[c - 1];
    s->from[0] = 0;
}

/* Clusters by the size of the coarse ones: one each, the rest in proportion.  Never more than points. */
static uint32_t share_of(const crit_kmeans_job *j, const stages *s, uint32_t c) {
    uint64_t rest = j->k - s->n_coarse, all = j->n - s->n_coarse, a = s->from[c] - c, b = s->from[c + 1] - (c + 1);
    return 1 + (all ? (uint32_t)(rest * b / all - rest * a / all) : 0);
}

static uint32_t fine(const crit_kmeans_job *j, stages *s, uint64_t *rng, uint32_t *label) {
    uint32_t most_n = 0, most_k = 0, n_label = 0;
    for (uint32_t c = 0; c < s->n_coarse; c++) {
        uint32_t n = s->from[c + 1] - s->from[c], k = share_of(j, s, c);
        most_n = n > most_n ? n : most_n;
        most_k = k > most_k ? k : most_k;
    }
    lloyd l;
    bool ok = lloyd_init(&l, j->kernels, most_n, most_k, j->d);
    uint32_t *used = crit_malloc(most_k > most_n ? most_k : most_n, sizeof *used);
    ok = ok && used;
    for (uint32_t c = 0; c < s->n_coarse && ok; c++) {
        uint32_t from = s->from[c], n = s->from[c + 1] - from;
        uint32_t got = lloyd_run(&l, s->x + (size_t)from * j->d, n, share_of(j, s, c), FINE_STEPS, rng, s->part);
        got = compact(s->part, n, got, used);
        for (uint32_t i = 0; i < n; i++) label[s->src[from + i]] = n_label + s->part[i];
        n_label += got;
    }
    crit_free(used);
    lloyd_clear(&l);
    return ok ? n_label : 0;
}

uint32_t crit_kmeans(const crit_kmeans_job *j, uint32_t *label) {
    uint64_t rng = j->seed;
    uint32_t n_label = 0, n_coarse = j->k / FINE_PER_COARSE;
    if (j->n == 0 || j->k == 0) return 0;
    if (n_coarse > N_COARSE_MAX) n_coarse = N_COARSE_MAX;
    if (j->k >= j->n) {
        for (uint32_t i = 0; i < j->n; i++) label[i] = i;
        return j->n;
    }
    if (n_coarse < 2) {
        lloyd l;
        if (lloyd_init(&l, j->kernels, j->n, j->k, j->d)) {
            n_label = lloyd_run(&l, j->x, j->n, j->k, FINE_STEPS, &rng, label);
            n_label = compact(label, j->n, n_label, l.size);
        }
        lloyd_clear(&l);
        return n_label;
    }
    stages s = {.from = crit_malloc((size_t)n_coarse + 1, sizeof *s.from),
                .src = crit_malloc(j->n, sizeof *s.src),
                .part = crit_malloc(j->n, sizeof *s.part),
                .x = crit_malloc((size_t)j->n * j->d, sizeof *s.x)};
    if (s.from && s.src && s.part && s.x && coarse(j, n_coarse, &rng, &s, label, &s.n_coarse)) {
        gather(j, &s, label);
        n_label = fine(j, &s, &rng, label);
    }
    stages_clear(&s);
    return n_label;
}

bool crit_chain_order(const crit_kernels *kernels, const float *x, uint32_t n, uint32_t d, uint32_t *order) {
    float *z = crit_malloc((size_t)n * CRIT_REP_MAX, sizeof *z);
    bool *done = crit_calloc(n, sizeof *done);
    bool ok = z && done;
    for (uint32_t i = 0, at = 0; i < n && ok; i++) {
        order[i] = at;
        done[at] = true;
        kernels->score(x + (size_t)at * d, 1, x, n, d, 1, z);
        uint32_t next = n;
        for (uint32_t c = 0; c < n; c++)
            if (!done[c] && (next == n || z[(size_t)c * CRIT_REP_MAX] > z[(size_t)next * CRIT_REP_MAX])) next = c;
        at = next;
    }
    crit_free(z);
    crit_free(done);
    return ok;
}
