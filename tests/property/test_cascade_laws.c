/* SPDX-License-Identifier: MIT */
/* Laws of the cascade against a cache written anew here: lists, positions counted out, RoPE at those positions and
 * soft-max in double.  What is cached is held against the tokens as they came; attention and weights against exact ones
 * over what is cached, so that each bound is that of its own step. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/cascade.h"

enum { LAYERS = 2, HEADS = 6, KV_HEADS = 2, GROUP = 3, D = 40, ROT = 32, TOK = 700 };

/* ---- tokens and a policy that reads them ---- */

typedef struct stream {
    crit_kernels kernels;
    crit_pool *pool;
    uint32_t all_blk[TOK / CRIT_BLK_LEN + 32];
    double freq[ROT / 2];
    crit_decode_env env;
    const crit_policy *policy;
    crit_policy_values values;
    crit_cascade *c;
    float *q, *k, *v; /* [LAYERS][TOK][heads * D] not rotated */
    float *out;       /* [LAYERS][TOK][HEADS * D] */
    double pairs;
} stream;

static void *array(size_t n, size_t size) {
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

static float uniform(uint64_t *rng) {
    *rng = *rng * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*rng >> 32) * 0x1p-31f;
}

static void open_stream(stream *s, const char *text, unsigned mask, bool neox, unsigned threads) {
    crit_error err = {0};
    *s = (stream){.pairs = 0};
    crit_kernels_init(&s->kernels, mask);
    assert_int_equal(crit_pool_open(&s->pool, threads, false, NULL), CRIT_OK);
    for (uint32_t i = 0; i < sizeof s->all_blk / sizeof *s->all_blk; i++) s->all_blk[i] = i;
    for (int i = 0; i < ROT / 2; i++) s->freq[i] = pow(1000, -2.0 * i / ROT);
    size_t slice = (crit_attend_scratch_bytes(D) + 127) & ~(size_t)63;
    s->env = (crit_decode_env){.pool = s->pool,
                               .kernels = &s->kernels,
                               .n_layer = LAYERS,
                               .n_head = HEADS,
                               .n_kv_head = KV_HEADS,
                               .n_group = GROUP,
                               .d = D,
                               .n_ctx = TOK,
                               .n_thread = threads,
                               .n_rot = ROT,
                               .neox = neox,
                               .rope_freq = s->freq,
                               .scale = 1 / sqrtf(D),
                               .all_blk = s->all_blk,
                               .scratch = crit_malloc(threads, slice),
                               .scratch_slice = slice};
    if (crit_policy_parse(CRIT_POLICY_PREFILL, text, &s->policy, &s->values, &err)) fail_msg("%s", err.message);
    void *state;
    assert_int_equal(s->policy->open(&state, &s->env, &s->values, &err), CRIT_OK);
    s->c = state;
    s->q = array((size_t)LAYERS * TOK * HEADS * D, sizeof *s->q);
    s->k = array((size_t)LAYERS * TOK * KV_HEADS * D, sizeof *s->k);
    s->v = array((size_t)LAYERS * TOK * KV_HEADS * D, sizeof *s->v);
    s->out = array((size_t)LAYERS * TOK * HEADS * D, sizeof *s->out);
    uint64_t rng = 5;
    for (size_t i = 0; i < (size_t)LAYERS * TOK * KV_HEADS * D; i++) s->k[i] = uniform(&rng), s->v[i] = uniform(&rng);
    for (size_t i = 0; i < (size_t)LAYERS * TOK * HEADS * D; i++) s->q[i] = 3 * uniform(&rng);
}

static void close_stream(stream *s) {
    s->policy->close(s->c);
    crit_free(s->env.scratch);
    crit_decode_env_clear(&s->env);
    crit_pool_close(&s->pool);
    free(s->q), free(s->k), free(s->v), free(s->out);
}

static void rope_to(const stream *s, const float *x, double pos, double *out) {
    for (int i = 0; i < D; i++) out[i] = (double)x[i];
    for (int i = 0; i < ROT / 2; i++) {
        int a = s->env.neox ? i : 2 * i, b = s->env.neox ? i + ROT / 2 : 2 * i + 1;
        double c = cos(pos * s->freq[i]), w = sin(pos * s->freq[i]), xa = (double)x[a], xb = (double)x[b];
        out[a] = xa * c - xb * w;
        out[b] = xa * w + xb * c;
    }
}

static void rotated(const stream *s, const float *x, uint32_t pos0, uint32_t n, uint32_t heads, float *out) {
    double y[D];
    for (uint32_t t = 0; t < n; t++)
        for (uint32_t h = 0; h < heads; h++) {
            rope_to(s, x + ((size_t)t * heads + h) * D, pos0 + t, y);
            for (int i = 0; i < D; i++) out[((size_t)t * heads + h) * D + i] = (float)y[i];
        }
}

static const float *q_at(const stream *s, uint32_t layer, uint32_t pos, uint32_t head) {
    return s->q + (((size_t)layer * TOK + pos) * HEADS + head) * D;
}

/* n tokens in all layers, one call, not committed. */
static void feed(stream *s, uint32_t pos0, uint32_t n, bool one) {
    float *q = array((size_t)n * HEADS * D, sizeof *q), *k = array((size_t)n * KV_HEADS * D, sizeof *k);
    for (uint32_t l = 0; l < LAYERS; l++) {
        size_t at = (size_t)l * TOK + pos0;
        rotated(s, s->q + at * HEADS * D, pos0, n, HEADS, q);
        rotated(s, s->k + at * KV_HEADS * D, pos0, n, KV_HEADS, k);
        crit_stream_job job = {.env = &s->env,
                               .layer = l,
                               .pos0 = pos0,
                               .n_tok = n,
                               .one = one,
                               .q = q,
                               .q_stride = HEADS * D,
                               .k = k,
                               .v = s->v + at * KV_HEADS * D,
                               .kv_stride = KV_HEADS * D,
                               .out = s->out + at * HEADS * D,
                               .out_stride = HEADS * D};
        assert_int_equal(s->policy->stream(s->c, &job, NULL), CRIT_OK);
        s->pairs += job.pairs;
    }
    free(q), free(k);
}

static void commit(stream *s, uint32_t n_tok, bool ends) {
    s->policy->commit(s->c, &s->env, n_tok, ends);
}

/* ---- the cache as lists ---- */

typedef struct item {
    uint32_t tok; /* position on the timeline */
    int hops;     /* rings it has gone through */
    float score;
} item;

typedef struct list {
    item at[TOK];
    uint32_t n;
} list;

typedef struct lists {
    list ring[4];
    uint32_t n_ring, len, n_sink, n_tok;
} lists;

static void take_out_first(list *l) {
    memmove(l->at, l->at + 1, --l->n * sizeof *l->at);
}

static void enter(lists *c, item x) {
    if (c->n_tok++ < c->n_sink) return;
    uint32_t t = c->n_tok - c->n_sink;
    for (uint32_t i = 0; i < c->n_ring; i++) {
        list *l = &c->ring[i];
        x.hops = (int)i;
        if (t > c->n_ring * c->len && t % (1u << i)) {
            if (x.score >= l->at[l->n - 1].score) l->at[l->n - 1] = x;
            return;
        }
        bool full = l->n == c->len;
        item y = l->at[0];
        if (full) take_out_first(l);
        l->at[l->n++] = x;
        if (!full) return;
        x = y;
    }
}

/* Tokens that a query of the part from own0 on sees, and where each stands. */
typedef struct view {
    uint32_t tok[TOK], n;
    double pos[TOK];
} view;

static void view_of(const lists *c, uint32_t own0, uint32_t upto, bool original, view *v) {
    v->n = 0;
    for (uint32_t i = 0; i < c->n_sink && i < own0; i++) v->tok[v->n++] = i;
    for (uint32_t i = c->n_ring; i-- > 0;)
        for (uint32_t j = 0; j < c->ring[i].n; j++) v->tok[v->n++] = c->ring[i].at[j].tok;
    for (uint32_t t = own0; t <= upto; t++) v->tok[v->n++] = t;
    for (uint32_t j = 0; j < v->n; j++) v->pos[j] = original ? v->tok[j] : j;
}

static bool coarse(const stream *s) {
    return s->kernels.kv_layout == CRIT_KV_BF16T;
}

/* One row exactly: weights w [v->n], out [D]. */
static void exact_row(const stream *s, const view *v, uint32_t layer, uint32_t head, double *w, double *out) {
    double q[D], k[D], top = -(double)INFINITY, sum = 0;
    rope_to(s, q_at(s, layer, v->tok[v->n - 1], head), v->pos[v->n - 1], q);
    for (uint32_t j = 0; j < v->n; j++) {
        rope_to(s, s->k + (((size_t)layer * TOK + v->tok[j]) * KV_HEADS + head / GROUP) * D, v->pos[j], k);
        w[j] = 0;
        for (int i = 0; i < D; i++) w[j] += q[i] * k[i];
        w[j] *= (double)s->env.scale;
        top = fmax(top, w[j]);
    }
    for (uint32_t j = 0; j < v->n; j++) sum += w[j] = exp(w[j] - top);
    memset(out, 0, D * sizeof *out);
    for (uint32_t j = 0; j < v->n; j++) {
        w[j] /= sum;
        for (int i = 0; i < D; i++)
            out[i] += w[j] * (double)s->v[(((size_t)layer * TOK + v->tok[j]) * KV_HEADS + head / GROUP) * D + i];
    }
}

/* Rounding of keys and values, each hop anew: a weight is off by e^(2 eta), eta <= scale sum|q||k| u (hops + 1), and
 * with |q| <= 3, |k|, |v| <= 1 the mean of |q||k| is 3/4.  Roundings are as good as independent: a fourth of the bound
 * that adds them up is never met. */
static double out_bound(const stream *s, const crit_cascade_rule *r) {
    double u = coarse(s) ? 0x1p-8 : 0x1p-11, n = r->original ? 1 : r->n_ring;
    double eta = (double)s->env.scale * D * .75 * 1.5 * u * (n + (coarse(s) ? 1 : 0));
    return (exp(2 * eta) - 1) / 4 + u;
}

static void check_rows(const stream *s, const lists *c, uint32_t layer, uint32_t head, uint32_t own0, uint32_t from,
                       uint32_t to) {
    view *v = array(1, sizeof *v);
    double w[TOK], x[D], bound = out_bound(s, &s->c->rule);
    for (uint32_t t = from; t < to; t += 1 + (to - from) / 7) {
        view_of(c, own0, t, s->c->rule.original, v);
        exact_row(s, v, layer, head, w, x);
        for (int i = 0; i < D; i++) {
            double y = (double)s->out[(((size_t)layer * TOK + t) * HEADS + head) * D + i];
            if (!(fabs(y - x[i]) <= bound)) fail_msg("token %u head %u: %g, exact %g", t, head, y, x[i]);
        }
    }
    free(v);
}

static double reduced(crit_cascade_reduce how, double a, double b, double c) {
    double least = fmin(a, fmin(b, c)), most = fmax(a, fmax(b, c)), sum = a + b + c;
    return how == CRIT_REDUCE_MAX ? most : how == CRIT_REDUCE_MEAN ? sum / 3 : sum - least - most;
}

/* What the asked queries of a part make of scores [TOK] that stood behind position prev. */
static void exact_scores(const stream *s, const lists *c, uint32_t layer, uint32_t kv_head, uint32_t own0, uint32_t end,
                         uint32_t prev, double *score) {
    const crit_cascade_rule *r = &s->c->rule;
    view *v = array(1, sizeof *v);
    double(*w)[TOK] = array(GROUP, sizeof *w), x[D];
    for (uint32_t t = own0; t < end; t++) {
        if ((t + 1) % r->every) continue;
        view_of(c, own0, t, r->original, v);
        for (uint32_t g = 0; g < GROUP; g++) exact_row(s, v, layer, kv_head * GROUP + g, w[g], x);
        for (uint32_t j = 0; j < TOK; j++) score[j] *= pow(r->beta, t + 1 - prev);
        for (uint32_t j = 0; j < v->n; j++)
            score[v->tok[j]] += (1 - r->beta) * r->every * reduced(r->reduce, w[0][j], w[1][j], w[2][j]);
        prev = t + 1;
    }
    free(v), free(w);
}

/* Keys and values of the ring slots are those of the tokens, as rotated as their place says. */
static void check_cached(const stream *s, const lists *c, uint32_t layer, uint32_t head) {
    double u = coarse(s) ? 0x1p-8 : 0x1p-11, want[D];
    float k[D], v[D];
    const uint32_t *pos = crit_cascade_pos(s->c, layer, head);
    for (uint32_t i = 0; i < c->n_ring; i++) {
        assert_int_equal(crit_ring_count(&s->c->rings, i), c->ring[i].n);
        for (uint32_t j = 0; j < c->ring[i].n; j++) {
            uint32_t number = s->c->rings.n_push[i] - c->ring[i].n + j, slot = i * c->len + number % c->len;
            uint32_t tok = c->ring[i].at[j].tok;
            size_t at = (((size_t)layer * TOK + tok) * KV_HEADS + head) * D;
            assert_int_equal(pos[slot], tok);
            crit_slab_get(&s->c->slab[layer], head, crit_cascade_ring_slot(s->c, slot), k, v);
            rope_to(s, s->k + at, s->c->rule.original ? tok : c->n_sink + number, want);
            for (int d = 0; d < D; d++) {
                assert_true(fabs((double)v[d] - (double)s->v[at + d]) <= u);
                /* a pair has a length of up to sqrt 2; a rounding for each hop and the first */
                assert_true(fabs((double)k[d] - want[d]) <= 1.5 * u * (c->ring[i].at[j].hops + 1));
            }
        }
    }
}

/* ---- laws ---- */

typedef struct law {
    const char *text;
    uint32_t prompt, n_ring, len, n_sink, stride;
} law;
static const law laws[] = {
    {"cascade:C=64,n=4,sinks=5,stride=48,every=1,beta=0.9", 600, 4, 16, 5, 48},
    {"cascade:C=66,n=3,sinks=0,stride=64,every=4,beta=0.99,heads=mean", 500, 3, 22, 0, 64},
    {"cascade:C=80,n=2,sinks=40,stride=17,every=3,beta=0.95,heads=median", 400, 2, 40, 40, 17},
    {"cascade:C=70,n=1,sinks=8,stride=30,every=16", 400, 1, 70, 8, 30},
    {"cascade:C=64,n=4,sinks=4,stride=128,every=2,beta=0.9,positions=original", 500, 4, 16, 4, 128},
    {"cascade:C=32,n=2,sinks=4,stride=40,every=1,beta=0", 200, 2, 16, 4, 40},
};

static void check_score(const stream *s, uint32_t tok, double got, double exact) {
    /* A log-sum-exp from rounded keys (and bf16 queries): a factor of about e^eta on every weight. */
    double tol = (coarse(s) ? .3 : .02) * exact + 1e-6;
    if (!(fabs(got - exact) <= tol)) fail_msg("token %u: weighs %g, exact %g", tok, got, exact);
}

/* A part's tokens enter the lists by the policy's scores, which are held against exact ones. */
static void follow(const stream *s, lists *c, uint32_t layer, uint32_t head, uint32_t own0, uint32_t end, uint32_t prev,
                   const float *score, const uint32_t *pos) {
    double *exact = array(TOK, sizeof *exact);
    uint32_t n_slot = s->c->n_slot;
    for (uint32_t i = 0; i < c->n_ring; i++)
        for (uint32_t j = 0; j < c->ring[i].n; j++) exact[c->ring[i].at[j].tok] = (double)c->ring[i].at[j].score;
    exact_scores(s, c, layer, head, own0, end, prev, exact);
    for (uint32_t i = 0; i < c->n_ring; i++)
        for (uint32_t j = 0; j < c->ring[i].n; j++) {
            item *x = &c->ring[i].at[j];
            uint32_t slot = 0;
            while (slot < n_slot && pos[slot] != x->tok) slot++;
            assert_true(slot < n_slot);
            check_score(s, x->tok, (double)score[slot], exact[x->tok]);
            x->score = score[slot];
        }
    for (uint32_t t = own0; t < end; t++) {
        item x = {t, 0, t < s->c->scored ? score[n_slot + t - own0] : 0};
        check_score(s, t, (double)x.score, exact[t]);
        enter(c, x);
    }
    free(exact);
}

/* Parts of the prompt, then decoded tokens. */
static void check_law(const law *w, unsigned mask, bool neox) {
    stream s;
    open_stream(&s, w->text, mask, neox, 2);
    crit_cascade *cc = s.c;
    lists *c = array(KV_HEADS, sizeof *c);
    for (uint32_t h = 0; h < KV_HEADS; h++) c[h] = (lists){.n_ring = w->n_ring, .len = w->len, .n_sink = w->n_sink};
    size_t row = cc->n_slot + (size_t)w->stride, n_slot = cc->n_slot;
    float *score = array(row * KV_HEADS, sizeof *score);
    uint32_t *pos = array(n_slot * KV_HEADS, sizeof *pos), layer = LAYERS - 1;
    for (uint32_t at = 0, end; at < w->prompt + 40; at = end) {
        bool one = at >= w->prompt;
        end = one ? at + 1 : at / w->stride * w->stride + w->stride;
        if (!one && end > w->prompt) end = w->prompt;
        uint32_t prev = cc->scored;
        feed(&s, at, end - at, one);
        int which = cc->next_scored > cc->scored ? 1 - cc->cur : cc->cur;
        for (uint32_t h = 0; h < KV_HEADS; h++) {
            memcpy(score + h * row, crit_cascade_score(cc, which, layer, h), row * sizeof *score);
            memcpy(pos + h * n_slot, crit_cascade_pos(cc, layer, h), n_slot * sizeof *pos);
        }
        commit(&s, end, true);
        assert_int_equal(cc->scored, end / cc->rule.every * cc->rule.every);
        for (uint32_t h = 0; h < KV_HEADS; h++) {
            check_rows(&s, &c[h], layer, h * GROUP + 1, at, at, end);
            follow(&s, &c[h], layer, h, at, end, prev, score + h * row, pos + h * n_slot);
            check_cached(&s, &c[h], layer, h);
        }
    }
    free(score), free(pos), free(c);
    close_stream(&s);
}

static void a_cache_of_lists_agrees(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++) {
        check_law(&laws[i], 0, i % 2);
        check_law(&laws[i], crit_cpu_detect(), (i + 1) % 2);
    }
}

/* While everything fits, positions are the timeline's and attention is full. */
static void what_fits_is_full_attention(void **state) {
    (void)state;
    for (int level = 0; level < 2; level++) {
        stream s;
        open_stream(&s, "cascade:C=600,n=3,sinks=50,stride=64", level ? crit_cpu_detect() : 0, level, 2);
        lists *all = array(1, sizeof *all);
        all->n_sink = TOK;
        for (uint32_t at = 0; at < 640; at += 64) {
            feed(&s, at, 64, false);
            check_rows(&s, all, 1, 4, at, at, at + 64);
            commit(&s, at + 64, true);
            crit_cascade_part part[CRIT_CASCADE_PARTS];
            uint32_t n = crit_cascade_parts(s.c, 0, part);
            for (uint32_t i = 0; i < n; i++) assert_int_equal(part[i].turn, 0);
        }
        free(all);
        close_stream(&s);
    }
}

/* The prompt in calls of any size, with any number of threads, in which some failed and came again. */
static void cuts_and_threads_change_no_bit(void **state) {
    (void)state;
    const char *text = "cascade:C=64,n=4,sinks=5,stride=96,every=4,beta=0.99";
    stream a, b;
    open_stream(&a, text, crit_cpu_detect(), true, 1);
    open_stream(&b, text, crit_cpu_detect(), true, 3);
    uint64_t rng = 3;
    for (uint32_t at = 0; at < 500; at += 96) {
        uint32_t n = 500 - at < 96 ? 500 - at : 96;
        feed(&a, at, n, false);
        commit(&a, at + n, at + n == 500);
    }
    for (uint32_t at = 0; at < 500;) {
        uint32_t left = (500 - at < 96 - at % 96 ? 500 - at : 96 - at % 96),
                 n = 1 + (uint32_t)(uniform(&rng) * 20 + 20);
        if (n > left) n = left;
        feed(&b, at, left, false); /* not committed: it never was */
        feed(&b, at, n, false);
        at += n;
        commit(&b, at, at == 500);
    }
    for (uint32_t at = 500; at < 520; at++) {
        feed(&a, at, 1, true), commit(&a, at + 1, true);
        feed(&b, at, 1, true), commit(&b, at + 1, true);
    }
    for (uint32_t l = 0; l < LAYERS; l++)
        assert_memory_equal(a.out + (size_t)l * TOK * HEADS * D, b.out + (size_t)l * TOK * HEADS * D,
                            sizeof(float) * 520 * HEADS * D);
    assert_memory_equal(a.c->pos, b.c->pos, sizeof *a.c->pos * LAYERS * KV_HEADS * a.c->n_slot);
    close_stream(&a), close_stream(&b);
}

/* Once the cache is full, tokens cost the same however many came before. */
static void work_does_not_grow(void **state) {
    (void)state;
    stream s;
    double first = 0;
    open_stream(&s, "cascade:C=64,n=4,sinks=8,stride=32", crit_cpu_detect(), false, 2);
    for (uint32_t at = 0; at < 640; at += 32) {
        double before = s.pairs;
        feed(&s, at, 32, false), commit(&s, at + 32, false);
        double n = (s.pairs - before) / (32.0 * HEADS * LAYERS);
        assert_true(n <= 64 + 8 + 33 / 2.0);
        if (at == 96) first = n;
        if (at > 96) assert_true(n == first);
    }
    assert_true(first == 64 + 8 + 33 / 2.0);
    s.policy->cut(s.c, 0);
    feed(&s, 0, 20, false), commit(&s, 20, true);
    assert_int_equal(s.c->rings.t, 12);
    close_stream(&s);
}

/* A stride of one token is decoding, up to how attention was cut. */
static void a_stride_of_one_is_decoding(void **state) {
    (void)state;
    stream a, b;
    const char *text = "cascade:C=32,n=2,sinks=4,stride=1,every=1,beta=0.9";
    open_stream(&a, text, 0, true, 1);
    open_stream(&b, text, 0, true, 2);
    for (uint32_t at = 0; at < 150; at++) {
        feed(&a, at, 1, false), commit(&a, at + 1, false);
        feed(&b, at, 1, true), commit(&b, at + 1, true);
        for (uint32_t i = 0; i < HEADS * D; i++)
            assert_true(fabsf(a.out[(size_t)at * HEADS * D + i] - b.out[(size_t)at * HEADS * D + i]) < 1e-5f);
    }
    assert_memory_equal(a.c->pos, b.c->pos, sizeof *a.c->pos * LAYERS * KV_HEADS * a.c->n_slot);
    close_stream(&a), close_stream(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cache_of_lists_agrees),        cmocka_unit_test(what_fits_is_full_attention),
        cmocka_unit_test(cuts_and_threads_change_no_bit), cmocka_unit_test(work_does_not_grow),
        cmocka_unit_test(a_stride_of_one_is_decoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
