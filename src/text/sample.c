/* SPDX-License-Identifier: MIT */
/* Sampling: repeat penalty, then greedy, or top-k, top-p, min-p, temperature and a draw, in this order. */
#include "text/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct cand {
    float logit;
    int32_t id;
} cand;

struct crit_sampler {
    crit_sampler_params p;
    uint32_t n_vocab;
    cand *cand;      /* [n_vocab] */
    int32_t *recent; /* ring of the last repeat_last_n tokens */
    uint32_t n_recent, at;
    uint64_t rng;
};

void crit_sampler_params_init(crit_sampler_params *p) {
    *p = (crit_sampler_params){.struct_size = sizeof *p, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f,
                               .repeat_penalty = 1.0f, .repeat_last_n = 64};
}

crit_status crit_sampler_make(crit_sampler **out, uint32_t n_vocab, const crit_sampler_params *params, crit_error *err) {
    *out = NULL;
    crit_sampler_params p;
    crit_sampler_params_init(&p);
    if (params) {
        if (params->struct_size != sizeof p) return crit_fail(err, CRIT_E_ARG, "crit_sampler_params: struct_size not set");
        p = *params;
    }
    if (!isfinite(p.temp) || !(p.top_p >= 0 && p.top_p <= 1) || !(p.min_p >= 0 && p.min_p <= 1))
        return crit_fail(err, CRIT_E_ARG, "temp must be finite, top_p and min_p in [0, 1]");
    if (!(p.repeat_penalty > 0 && p.repeat_penalty <= 100) || p.repeat_last_n > 1u << 20)
        return crit_fail(err, CRIT_E_ARG, "repeat_penalty must be in (0, 100], repeat_last_n up to 2^20");
    crit_sampler *s = crit_calloc(1, sizeof *s);
    if (s) {
        s->cand = crit_malloc(n_vocab, sizeof *s->cand);
        s->recent = crit_malloc(p.repeat_last_n, sizeof *s->recent);
    }
    if (!s || !s->cand || !s->recent) {
        crit_sampler_close(&s);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    }
    s->p = p;
    s->n_vocab = n_vocab;
    s->rng = p.seed;
    *out = s;
    return CRIT_OK;
}

void crit_sampler_close(crit_sampler **sp) {
    if (!sp || !*sp) return;
    crit_free((*sp)->cand);
    crit_free((*sp)->recent);
    crit_free(*sp);
    *sp = NULL;
}

/* splitmix64: one addition and a mix, any seed is good */
static double draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* Best first, ties to the lower id. */
static int by_logit(const void *a, const void *b) {
    const cand *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool is_recent(const crit_sampler *s, int32_t id) {
    for (uint32_t i = 0; i < s->n_recent; i++)
        if (s->recent[i] == id) return true;
    return false;
}

static float penalised(const crit_sampler *s, const float *logits, int32_t id) {
    float l = logits[id];
    if (s->p.repeat_penalty == 1.0f || !is_recent(s, id)) return l;
    return l > 0 ? l / s->p.repeat_penalty : l * s->p.repeat_penalty;
}

static int32_t greedy(const crit_sampler *s, const float *logits) {
    int32_t best = 0;
    float top = -INFINITY;
    bool any = false;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        if (any && s->p.repeat_penalty >= 1 && !(logits[i] > top)) continue; /* a penalty only lowers */
        if (logits[i] != logits[i]) continue;
        float l = penalised(s, logits, (int32_t)i);
        if (!any || l > top) best = (int32_t)i, top = l, any = true;
    }
    return best;
}

static int32_t random_one(crit_sampler *s, const float *logits) {
    uint32_t n = 0;
    float top = -INFINITY;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        float l = penalised(s, logits, (int32_t)i);
        if (l != l) continue;
        s->cand[n++] = (cand){l, (int32_t)i};
        if (l > top) top = l;
    }
    if (n == 0 || !isfinite(top)) return greedy(s, logits);
    /* Far below the best nothing can be drawn; what is left is sorted. */
    float floor_l = top - 30.0f * (s->p.temp > 1 ? s->p.temp : 1);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s->cand[i].logit >= floor_l) s->cand[kept++] = s->cand[i];
    n = kept;
    qsort(s->cand, n, sizeof *s->cand, by_logit);
    if (s->p.top_k && n > s->p.top_k) n = s->p.top_k;
    double sum = 0, acc = 0;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)s->cand[i].logit - (double)top);
    uint32_t m = n;
    if (s->p.top_p < 1)
        for (m = 0; m < n && (m == 0 || acc < (double)s->p.top_p * sum); m++) acc += exp((double)s->cand[m].logit - (double)top);
    while (m > 1 && exp((double)s->cand[m - 1].logit - (double)top) < (double)s->p.min_p) m--;
    sum = acc = 0;
    for (uint32_t i = 0; i < m; i++) sum += exp(((double)s->cand[i].logit - (double)top) / (double)s->p.temp);
    double at = draw(&s->rng) * sum;
    for (uint32_t i = 0; i < m; i++) {
        acc += exp(((double)s->cand[i].logit - (double)top) / (double)s->p.temp);
        if (at < acc) return s->cand[i].id;
    }
    return s->cand[m - 1].id;
}

int32_t crit_sample(crit_sampler *s, const float *logits) {
    int32_t id = s->p.temp > 0 ? random_one(s, logits) : greedy(s, logits);
    if (s->p.repeat_last_n) {
        s->recent[s->at] = id;
        s->at = (s->at + 1) % s->p.repeat_last_n;
        if (s->n_recent < s->p.repeat_last_n) s->n_recent++;
    }
    return id;
}
