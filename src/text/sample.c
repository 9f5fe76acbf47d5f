/* SPDX-License-Identifier: MIT */
/* See sample.h. */
#include "text/sample.h"

#include <math.h>
#include <stdlib.h>

typedef struct candidate {
    float logit, p;
    int32_t id;
} candidate;

struct crit_sampler {
    crit_sampler_params p;
    uint32_t n_vocab;
    uint64_t state; /* of the generator */
    int32_t *last;  /* [repeat_last_n] ring of the tokens chosen */
    uint32_t n_last, next;
    candidate *cand; /* [n_vocab] */
    uint8_t *seen;   /* [n_vocab] bit set: among the last tokens; all clear between calls */
};

void crit_sampler_params_init(crit_sampler_params *p) {
    *p = (crit_sampler_params){.struct_size = sizeof *p,
                               .temp = 0,
                               .top_k = 40,
                               .top_p = 0.95f,
                               .min_p = 0.05f,
                               .repeat_penalty = 1,
                               .repeat_last_n = 64,
                               .seed = 0};
}

crit_status crit_sampler_make(crit_sampler **out, uint32_t n_vocab, const crit_sampler_params *params,
                              crit_error *err) {
    *out = NULL;
    crit_sampler_params p;
    crit_sampler_params_init(&p);
    if (params) {
        if (params->struct_size != sizeof p)
            return crit_fail(err, CRIT_E_ARG, "crit_sampler_params: struct_size not set");
        p = *params;
    }
    if (!isfinite(p.temp)) return crit_fail(err, CRIT_E_ARG, "temp must be a finite number");
    if (!(p.top_p >= 0 && p.top_p <= 1)) return crit_fail(err, CRIT_E_ARG, "top_p must be in [0, 1]");
    if (!(p.min_p >= 0 && p.min_p <= 1)) return crit_fail(err, CRIT_E_ARG, "min_p must be in [0, 1]");
    if (!(p.repeat_penalty > 0) || !isfinite(p.repeat_penalty))
        return crit_fail(err, CRIT_E_ARG, "repeat_penalty must be above 0");
    if (p.repeat_last_n > 1u << 24) return crit_fail(err, CRIT_E_ARG, "repeat_last_n must be at most %u", 1u << 24);
    crit_sampler *s = crit_calloc(1, sizeof *s);
    if (s) {
        s->p = p;
        s->n_vocab = n_vocab;
        s->state = p.seed;
        s->last = crit_malloc(p.repeat_last_n, sizeof *s->last);
        s->cand = crit_malloc(n_vocab, sizeof *s->cand);
        s->seen = crit_calloc(n_vocab, 1);
    }
    if (!s || !s->last || !s->cand || !s->seen) {
        crit_sampler_close(&s);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    }
    *out = s;
    return CRIT_OK;
}

void crit_sampler_close(crit_sampler **sp) {
    if (!sp || !*sp) return;
    crit_sampler *s = *sp;
    crit_free(s->last);
    crit_free(s->cand);
    crit_free(s->seen);
    crit_free(s);
    *sp = NULL;
}

/* SplitMix64, the top 53 bits: [0, 1). */
static double draw(crit_sampler *s) {
    uint64_t z = s->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* Better: larger logit, of equals the lower id. */
static bool better(candidate a, candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static int by_rank(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    return better(*x, *y) ? -1 : better(*y, *x);
}

static void sift_down(candidate *h, size_t n, size_t i) {
    candidate c = h[i];
    for (size_t k; (k = 2 * i + 1) < n; i = k) {
        if (k + 1 < n && better(h[k], h[k + 1])) k++;
        if (!better(c, h[k])) break;
        h[i] = h[k];
    }
    h[i] = c;
}

/* The k best of c[0..n) to its front, best first. */
static size_t keep_best(candidate *c, size_t n, size_t k) {
    if (k && k < n) {
        /* A heap of k with the worst on top. */
        for (size_t i = k / 2; i-- > 0;) sift_down(c, k, i);
        for (size_t i = k; i < n; i++) {
            if (!better(c[i], c[0])) continue;
            c[0] = c[i];
            sift_down(c, k, 0);
        }
        n = k;
    }
    qsort(c, n, sizeof *c, by_rank);
    return n;
}

/* Candidates with the penalty for what came lately; NaN is left out. */
static size_t collect(crit_sampler *s, const float *logits) {
    bool penalty = s->p.repeat_penalty != 1.0f;
    for (uint32_t i = 0; penalty && i < s->n_last; i++) s->seen[s->last[i]] = 1;
    size_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        float l = logits[i];
        if (isnan(l)) continue;
        if (s->seen[i]) l = l > 0 ? l / s->p.repeat_penalty : l * s->p.repeat_penalty;
        s->cand[n++] = (candidate){l, 0, (int32_t)i};
    }
    for (uint32_t i = 0; penalty && i < s->n_last; i++) s->seen[s->last[i]] = 0;
    return n;
}

/* p of c[0..n), best first: softmax at 1 / temp, not normalised (the best has 1). */
static double soften(candidate *c, size_t n, float temp) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        c[i].p =
            c[i].logit == c[0].logit ? 1.0f : expf((c[i].logit - c[0].logit) / temp); /* infinities of a kind agree */
        sum += (double)c[i].p;
    }
    return sum;
}

static int32_t choose(crit_sampler *s, candidate *c, size_t n) {
    n = keep_best(c, n, s->p.top_k);
    double sum = soften(c, n, 1.0f), run = 0;
    size_t keep = 0;
    while (keep < n && (keep == 0 || run < (double)s->p.top_p * sum || s->p.top_p >= 1.0f)) run += (double)c[keep++].p;
    while (keep > 1 && c[keep - 1].p < s->p.min_p) keep--;
    double x = draw(s) * soften(c, keep, s->p.temp);
    size_t i = 0;
    for (; i + 1 < keep && x >= (double)c[i].p; i++) x -= (double)c[i].p;
    while (i > 0 && !(c[i].p > 0)) i--; /* rounding must not end on what has no share */
    return c[i].id;
}

void crit_sampler_accept(crit_sampler *s, const int32_t *ids, size_t n) {
    if (!s || !s->p.repeat_last_n) return;
    for (size_t i = n > s->p.repeat_last_n ? n - s->p.repeat_last_n : 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= s->n_vocab) continue;
        s->last[s->next] = ids[i];
        s->next = (s->next + 1) % s->p.repeat_last_n;
        if (s->n_last < s->p.repeat_last_n) s->n_last++;
    }
}

int32_t crit_sample(crit_sampler *s, const float *logits) {
    if (!s || !logits) return -1;
    size_t n = collect(s, logits);
    if (!n) return -1;
    int32_t id;
    if (s->p.temp <= 0) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (s->cand[i].logit > s->cand[best].logit) best = i;
        id = s->cand[best].id;
    } else {
        id = choose(s, s->cand, n);
    }
    crit_sampler_accept(s, &id, 1);
    return id;
}
