/* SPDX-License-Identifier: MIT */
/* Laws of squeezed attention and its clusters, beside those of every policy: labels and orders are complete, centres
 * are true means (so that no estimated sum exceeds the true one), the blocks that pass the threshold are read and no
 * others, two levels lose no more than they may, a cluster a key gives the exact weights, planted clusters are found
 * and hold the weight. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/f16.h"
#include "policy/kmeans.h"
#include "policy/squeezed.h"
#include "policy_bed.h"
#include "tiny/tiny.h"

static const bed_shape shape = {2, 6, 2, 64};

static const crit_squeezed *state_of(const bed *b) {
    const crit_squeezed *s = b->state;
    assert_string_equal(b->policy->name, "squeezed");
    assert_true(s->n_fix > 0);
    return s;
}

/* Keys of a head as attention reads them, in double-friendly floats. */
static float *keys_of(const bed *b, uint32_t layer, uint32_t head, uint32_t n) {
    float *k = malloc((size_t)n * b->s.d * sizeof *k);
    assert_non_null(k);
    crit_kv_get(&b->kv[layer], head, 0, n, k, NULL);
    return k;
}

static double dot(const float *a, const float *b, uint32_t d) {
    double s = 0;
    for (uint32_t i = 0; i < d; i++) s += (double)a[i] * (double)b[i];
    return s;
}

/* ---- k-means ---- */

/* n points around `planted` directions of length 1, point i around direction i % planted. */
static float *plant(uint32_t n, uint32_t d, uint32_t planted, float noise, uint64_t seed) {
    float *dir = malloc((size_t)planted * d * sizeof *dir), *x = malloc((size_t)n * d * sizeof *x);
    assert_true(dir && x);
    for (size_t i = 0; i < (size_t)planted * d; i++) dir[i] = tiny_normal(&seed);
    for (uint32_t i = 0; i < n; i++) {
        float *p = x + (size_t)i * d;
        double len = sqrt(dot(dir + (size_t)(i % planted) * d, dir + (size_t)(i % planted) * d, d));
        for (uint32_t e = 0; e < d; e++)
            p[e] = dir[(size_t)(i % planted) * d + e] / (float)len + noise * tiny_normal(&seed) / sqrtf((float)d);
        len = sqrt(dot(p, p, d));
        for (uint32_t e = 0; e < d; e++) p[e] /= (float)len;
    }
    free(dir);
    return x;
}

/* Mean squared distance of points to their cluster's mean. */
static double spread_of(const float *x, uint32_t n, uint32_t d, const uint32_t *label, uint32_t n_label) {
    double *sum = calloc((size_t)n_label * d, sizeof *sum), *count = calloc(n_label, sizeof *count), all = 0;
    assert_true(sum && count);
    for (uint32_t i = 0; i < n; i++) {
        count[label[i]]++;
        for (uint32_t e = 0; e < d; e++) sum[(size_t)label[i] * d + e] += (double)x[(size_t)i * d + e];
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t e = 0; e < d; e++) {
            double far = (double)x[(size_t)i * d + e] - sum[(size_t)label[i] * d + e] / count[label[i]];
            all += far * far;
        }
    free(sum), free(count);
    return all / n;
}

static uint32_t run_kmeans(const float *x, uint32_t n, uint32_t d, uint32_t k, uint64_t seed, uint32_t *label) {
    crit_kernels kt;
    crit_kernels_init(&kt, crit_cpu_detect());
    crit_kmeans_job j = {&kt, x, n, d, k, seed};
    uint32_t got = crit_kmeans(&j, label);
    assert_in_range(got, 1, k < n ? k : n);
    bool *used = calloc(got, sizeof *used);
    assert_non_null(used);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(label[i] < got);
        used[label[i]] = true;
    }
    for (uint32_t c = 0; c < got; c++) assert_true(used[c]);
    free(used);
    return got;
}

static void planted_clusters_are_found(void **state) {
    (void)state;
    enum { N = 24 * 31, D = 64, K = 24 };
    uint32_t label[N];
    float *x = plant(N, D, K, .05f, 3);
    for (uint64_t seed = 0; seed < 8; seed++) {
        assert_int_equal(run_kmeans(x, N, D, K, seed, label), K);
        for (uint32_t i = K; i < N; i++) assert_int_equal(label[i], label[i % K]);
    }
    free(x);
}

/* Two stages lose little, and points of one place cannot be told apart. */
static void stages_and_edges(void **state) {
    (void)state;
    enum { N = 5000, D = 40, K = 250 };
    uint32_t *label = malloc(N * sizeof *label), *again = malloc(N * sizeof *again);
    assert_true(label && again);
    float *x = plant(N, D, K, .3f, 5);
    uint32_t got = run_kmeans(x, N, D, K, 1, label);
    double planted = 0, found = spread_of(x, N, D, label, got);
    for (uint32_t i = 0; i < N; i++) again[i] = i % K;
    planted = spread_of(x, N, D, again, K);
    assert_true(got > K * 9 / 10);
    /* Points of length 1 in all directions spread 1. */
    if (!(1 - found > .75 * (1 - planted))) fail_msg("spread %g, planted %g", found, planted);
    assert_int_equal(run_kmeans(x, N, D, K, 1, again), got);
    assert_memory_equal(label, again, N * sizeof *label);

    assert_int_equal(run_kmeans(x, 7, D, 7, 0, label), 7);
    assert_int_equal(run_kmeans(x, 7, D, 9, 0, label), 7);
    assert_int_equal(run_kmeans(x, 7, D, 1, 0, label), 1);
    for (uint32_t i = 1; i < 100; i++) memcpy(x + (size_t)i * D, x + (i % 2) * D, D * sizeof *x);
    assert_int_equal(run_kmeans(x, 100, D, 10, 0, label), 2);
    free(x), free(label), free(again);
}

/* ---- clusters ---- */

static void clusters_are_complete(void **state) {
    (void)state;
    bed b;
    bed_open(&b, shape, 900, 960, 7, 2, "squeezed:min=64,W=33,q=0.5");
    const crit_squeezed *s = state_of(&b);
    assert_int_equal(s->n_fix, (900 - 33) / 32 * 32);
    uint32_t d = b.s.d;
    for (uint32_t l = 0; l < b.s.n_layer; l++)
        for (uint32_t h = 0; h < b.s.n_kv_head; h++) {
            const crit_clusters *c = crit_squeezed_at(s, l, h);
            float *k = keys_of(&b, l, h, s->n_fix);
            bool *has = calloc(s->n_fix, sizeof *has);
            assert_non_null(has);
            assert_in_range(c->fine.n, s->n_fix / 25, s->n_fix / 20);
            assert_int_equal(c->fine.from[c->fine.n], s->n_fix);
            assert_int_equal(c->coarse.from[c->coarse.n], c->fine.n);
            for (uint32_t j = 0, jc = 0; j < c->fine.n; j++) {
                double mean[256] = {0};
                uint32_t n = c->fine.from[j + 1] - c->fine.from[j];
                assert_true(n > 0 && (float)n == c->fine.size[j]);
                while (c->coarse.from[jc + 1] <= j) jc++;
                assert_true(c->coarse.from[jc] <= j && c->coarse.size[jc] >= c->fine.size[j]);
                for (uint32_t i = c->fine.from[j]; i < c->fine.from[j + 1]; i++) {
                    uint32_t p = c->pos[i];
                    assert_true(p < s->n_fix && !has[p]);
                    has[p] = true;
                    for (uint32_t e = 0; e < d; e++) mean[e] += (double)k[(size_t)p * d + e] / n;
                }
                for (uint32_t e = 0; e < d; e++)
                    assert_true(fabs(mean[e] - (double)c->fine.centre[(size_t)j * d + e]) < 1e-6 * (1 + fabs(mean[e])));
            }
            /* What lies in the slab is what the order says. */
            for (uint32_t i = 0; i < s->n_fix; i += 7) {
                const uint16_t *a = s->slab[l].k + h * crit_slab_head(&s->slab[l]) + (size_t)i * d,
                               *want = crit_kv_k(&b.kv[l], h) + (size_t)c->pos[i] * d;
                assert_memory_equal(a, want, d * sizeof *a);
            }
            free(k), free(has);
        }
    bed_close(&b);
}

/* Jensen: at both levels, for any query. */
static void estimates_never_exceed_the_truth(void **state) {
    (void)state;
    bed b;
    bed_open(&b, shape, 800, 900, 11, 1, "squeezed:min=64");
    const crit_squeezed *s = state_of(&b);
    for (uint32_t t = 0; t < 40; t++) {
        bed_token(&b);
        for (uint32_t head = 0; head < b.s.n_head; head++) {
            uint32_t h = head / b.env.n_group, d = b.s.d;
            const float *q = bed_q(&b, 1, b.n_tok - 1) + (size_t)head * d;
            const crit_clusters *c = crit_squeezed_at(s, 1, h);
            float *k = keys_of(&b, 1, h, s->n_fix);
            double z = 0, fine = 0, coarse = 0;
            for (uint32_t i = 0; i < s->n_fix; i++) z += exp(dot(q, k + (size_t)i * d, d) * (double)b.env.scale);
            for (uint32_t j = 0; j < c->fine.n; j++)
                fine += (double)c->fine.size[j] * exp(dot(q, c->fine.centre + (size_t)j * d, d) * (double)b.env.scale);
            for (uint32_t j = 0; j < c->coarse.n; j++)
                coarse +=
                    (double)c->coarse.size[j] * exp(dot(q, c->coarse.centre + (size_t)j * d, d) * (double)b.env.scale);
            assert_true(coarse <= fine * (1 + 1e-5) && fine <= z * (1 + 1e-5) && coarse > 0);
            free(k);
        }
    }
    bed_close(&b);
}

/* ---- the rule ---- */

/* Centre j as the level packs it. */
static const float *packed(const bed *b, const crit_cluster_level *l, uint32_t j) {
    static float x[256];
    for (uint32_t i = 0; i < b->s.d; i++) {
        uint16_t h = l->key[(size_t)j * b->s.d + i];
        uint32_t bits = (uint32_t)h << 16;
        x[i] = crit_f16_value(h);
        if (b->kernels.kv_layout == CRIT_KV_BF16T) memcpy(&x[i], &bits, sizeof bits);
        double far = fabs((double)x[i] - (double)l->centre[(size_t)j * b->s.d + i]);
        assert_true(far <= 0x1p-8 * fabs((double)x[i]) + 1e-6);
    }
    return x;
}

/* exp(q.centre) for a query head of the last token. */
static double weight_of(const bed *b, uint32_t layer, uint32_t head, const crit_cluster_level *l, uint32_t j) {
    const float *q = bed_q(b, layer, b->n_tok - 1) + (size_t)head * b->s.d;
    return exp(dot(q, packed(b, l, j), b->s.d) * (double)b->env.scale);
}

/* Share of each coarse cluster, mean over the group's heads: those below lose / n are not looked into. */
static double *shares_of(const bed *b, const crit_squeezed *s, uint32_t layer, uint32_t h) {
    const crit_cluster_level *l = &crit_squeezed_at(s, layer, h)->coarse;
    double *share = calloc(l->n, sizeof *share);
    assert_non_null(share);
    for (uint32_t g = 0; g < b->env.n_group; g++) {
        double sum = 0;
        for (uint32_t j = 0; j < l->n; j++)
            sum += (double)l->size[j] * weight_of(b, layer, h * b->env.n_group + g, l, j);
        for (uint32_t j = 0; j < l->n; j++)
            share[j] += (double)l->size[j] * weight_of(b, layer, h * b->env.n_group + g, l, j) / sum / b->env.n_group;
    }
    return share;
}

/* What a key of each block weighs at most for the last token, by the formula: mean over the group's heads. */
static double *blocks_of(const bed *b, const crit_squeezed *s, uint32_t layer, uint32_t h) {
    const crit_clusters *c = crit_squeezed_at(s, layer, h);
    double *block = calloc(s->n_fix / 32, sizeof *block), *z = malloc(c->fine.n * sizeof *z),
           *share = shares_of(b, s, layer, h), *mean = calloc(c->fine.n, sizeof *mean);
    assert_true(block && z && mean);
    for (uint32_t g = 0; g < b->env.n_group; g++) {
        double sum = 0;
        for (uint32_t jc = 0; jc < c->coarse.n; jc++) {
            bool look = s->levels == 1 || share[jc] >= (double)s->lose / c->coarse.n;
            if (!look) sum += (double)c->coarse.size[jc] * weight_of(b, layer, h * b->env.n_group + g, &c->coarse, jc);
            for (uint32_t j = c->coarse.from[jc]; j < c->coarse.from[jc + 1]; j++) {
                z[j] = look ? weight_of(b, layer, h * b->env.n_group + g, &c->fine, j) : 0;
                sum += (double)c->fine.size[j] * z[j];
            }
        }
        for (uint32_t j = 0; j < c->fine.n; j++) mean[j] += z[j] / sum / b->env.n_group;
    }
    for (uint32_t j = 0; j < c->fine.n; j++)
        for (uint32_t i = c->fine.from[j]; i < c->fine.from[j + 1]; i++) block[i / 32] = fmax(block[i / 32], mean[j]);
    free(z), free(share), free(mean);
    return block;
}

static void what_passes_is_read(void **state) {
    (void)state;
    static const char *const texts[] = {"squeezed:min=64,levels=1,q=0.8", "squeezed:min=64,levels=2,q=0.6,lose=0.3",
                                        "squeezed:min=64,levels=1,c=1,q=0.7", "squeezed:min=64,levels=2,q=1"};
    uint32_t pos[1024];
    for (int v = 0; v < 4; v++) {
        bed b;
        bed_open(&b, shape, 700, 760, 13, 2, texts[v]);
        const crit_squeezed *s = state_of(&b);
        uint32_t n_some = 0, n_few = 0;
        for (uint32_t t = 0; t < 12; t++) {
            bed_token(&b);
            bed_decode(&b, 1);
            for (uint32_t h = 0; h < b.s.n_kv_head; h++) {
                const crit_clusters *c = crit_squeezed_at(s, 1, h);
                double *block = blocks_of(&b, s, 1, h);
                bool read[1024] = {false};
                uint32_t n = crit_squeezed_kept(s, 1, h, b.n_tok, pos);
                for (uint32_t i = 0; i < n; i++) read[pos[i]] = true;
                for (uint32_t p = s->n_fix; p < b.n_tok; p++) assert_true(read[p]);
                for (uint32_t i = 0; i < s->n_fix; i++) {
                    if (block[i / 32] > (double)s->t_block * (1 + 1e-3)) assert_true(read[c->pos[i]]);
                    if (block[i / 32] < (double)s->t_block * (1 - 1e-3)) assert_false(read[c->pos[i]]);
                }
                n_some += n > b.n_tok - s->n_fix;
                n_few += n < b.n_tok;
                free(block);
            }
        }
        assert_true(n_some > 0 && n_few > 0);
        bed_close(&b);
    }
}

/* What two levels do not look at has no more estimated weight than they may lose. */
static void two_levels_lose_little(void **state) {
    (void)state;
    bed b;
    bed_open(&b, shape, 900, 960, 15, 2, "squeezed:min=64,levels=2,lose=0.4");
    const crit_squeezed *s = state_of(&b);
    uint32_t n_left_out = 0;
    for (uint32_t t = 0; t < 12; t++) {
        bed_token(&b);
        bed_decode(&b, 1);
        for (uint32_t h = 0; h < b.s.n_kv_head; h++) {
            const crit_clusters *c = crit_squeezed_at(s, 1, h);
            double *share = shares_of(&b, s, 1, h), lost = 0;
            uint32_t n_look = 0, n_rest = 0;
            for (uint32_t j = 0; j < c->coarse.n; j++) {
                bool look = share[j] >= (double)s->lose / c->coarse.n;
                lost += look ? 0 : share[j];
                n_look += look ? c->coarse.from[j + 1] - c->coarse.from[j] : 0;
                n_rest += !look;
            }
            n_left_out += n_rest;
            assert_true(lost <= (double)s->lose);
            /* All coarse centres, the fine ones looked at, and once more the coarse ones that stand for the others. */
            assert_int_equal(s->n_scored[h], c->coarse.n + n_look + n_rest);
            free(share);
        }
    }
    assert_true(n_left_out > 0);
    bed_close(&b);
}

/* With a cluster a key, scores are soft-max weights over the prefix. */
static void a_cluster_a_key_is_exact(void **state) {
    (void)state;
    bed b;
    bed_open(&b, shape, 500, 520, 17, 1, "squeezed:min=64,levels=1,c=1");
    const crit_squeezed *s = state_of(&b);
    bed_token(&b);
    for (uint32_t h = 0; h < b.s.n_kv_head; h++) {
        const crit_clusters *c = crit_squeezed_at(s, 0, h);
        float *k = keys_of(&b, 0, h, s->n_fix), *score = malloc(s->n_fix * sizeof *score);
        void *scratch = crit_malloc(1, crit_squeezed_scratch_bytes(c->fine.n, 0, 0, b.s.d));
        assert_true(score && scratch);
        assert_int_equal(c->fine.n, s->n_fix);
        const float *q = bed_q(&b, 0, b.n_tok - 1) + (size_t)h * b.env.n_group * b.s.d;
        const crit_squeezed_rows rows = {q, 0, 1, b.env.n_group, b.s.d, b.env.scale};
        crit_squeezed_scores(&c->fine, &b.kernels, &rows, score, scratch);
        for (uint32_t j = 0; j < c->fine.n; j++) {
            double w = 0;
            for (uint32_t g = 0; g < b.env.n_group; g++) {
                const float *row = q + (size_t)g * b.s.d;
                double sum = 0, top = dot(row, k + (size_t)c->pos[j] * b.s.d, b.s.d);
                for (uint32_t i = 0; i < s->n_fix; i++)
                    sum += exp((dot(row, k + (size_t)i * b.s.d, b.s.d) - top) * (double)b.env.scale);
                w += 1 / sum / b.env.n_group;
            }
            assert_true(fabs(w - (double)score[j]) < 1e-4 * w + 1e-9);
        }
        crit_free(scratch);
        free(k), free(score);
    }
    bed_close(&b);
}

/* The threshold's quantile holds for the blocks it was taken from. */
static void the_threshold_is_the_quantile(void **state) {
    (void)state;
    bed b;
    bed_open(&b, shape, 900, 910, 19, 1, "squeezed:min=64,q=0.8");
    const crit_squeezed *s = state_of(&b);
    uint32_t n_blk = s->n_fix / 32, n_list = s->n_layer * s->n_kv_head;
    double above = 0, at = 0, t = (double)s->t_block;
    for (uint32_t i = 0; i < n_list; i++) {
        const crit_cluster_level *l = &s->clusters[i].fine;
        double *block = calloc(n_blk, sizeof *block);
        assert_non_null(block);
        for (uint32_t j = 0; j < l->n; j++)
            for (uint32_t p = l->from[j]; p < l->from[j + 1]; p++)
                block[p / 32] = fmax(block[p / 32], (double)l->score[j]);
        for (uint32_t j = 0; j < n_blk; j++) {
            above += block[j] > t * (1 + 1e-5);
            at += fabs(block[j] - t) <= 1e-5 * t;
        }
        free(block);
    }
    assert_true(above <= .2 * n_blk * n_list && above + at >= .2 * n_blk * n_list && at > 0);
    bed_close(&b);
}

/* q = 0 reads everything through the clusters: full attention in another order. */
static void keeping_all_is_full(void **state) {
    (void)state;
    static const char *const texts[] = {"squeezed:min=64,levels=1,q=0", "squeezed:min=64,levels=2,q=0"};
    for (int v = 0; v < 2; v++) {
        bed b;
        uint32_t *pos = malloc(1024 * sizeof *pos);
        double *x = malloc(shape.d * sizeof *x);
        assert_true(pos && x);
        bed_open(&b, shape, 900, 940, 23, 2, texts[v]);
        double bound = b.kernels.kv_layout == CRIT_KV_BF16T ? 5e-2 : 1e-5;
        for (uint32_t t = 0; t < 20; t++) {
            bed_token(&b);
            bed_decode(&b, t % 2);
            assert_int_equal(crit_squeezed_kept(b.state, t % 2, 0, b.n_tok, pos), b.n_tok);
            for (uint32_t i = 0; i < b.n_tok; i++) assert_int_equal(pos[i], i);
            for (uint32_t h = 0; h < b.s.n_head; h++) {
                bed_exact(&b, t % 2, h, pos, b.n_tok, x, NULL, NULL);
                for (uint32_t i = 0; i < b.s.d; i++)
                    assert_true(fabs(x[i] - (double)b.out[(size_t)h * b.s.d + i]) <= bound * fmax(1, fabs(x[i])));
            }
        }
        bed_close(&b);
        free(pos), free(x);
    }
}

/* On keys that do lie in clusters, the few keys read weigh as much as the best ones of that number would. */
static void planted_weight_is_kept(void **state) {
    (void)state;
    enum { N = 2000, PLANTED = 60 };
    const bed_shape mha = {1, 4, 4, 64};
    bed b;
    crit_error err = {0};
    uint64_t seed = 29;
    uint32_t pos[N + 64];
    bed_open(&b, mha, N, N + 64, 29, 2, "full");
    for (uint32_t h = 0; h < mha.n_kv_head; h++) {
        float *x = plant(N, mha.d, PLANTED, .2f, 31 + h);
        for (size_t i = 0; i < (size_t)N * mha.d; i++) x[i] *= 8;
        crit_kv_put(&b.kv[0], h, 0, N, x, mha.d, x, mha.d);
        free(x);
    }
    float *q = malloc((size_t)128 * mha.n_head * mha.d * sizeof *q);
    assert_non_null(q);
    crit_policy_values v;
    void *squeezed;
    const crit_policy *policy;
    assert_int_equal(crit_policy_parse(CRIT_POLICY_DECODE, "squeezed:levels=1,q=0.9", &policy, &v, &err), CRIT_OK);
    assert_int_equal(policy->open(&squeezed, &b.env, &v, &err), CRIT_OK);
    /* Queries that look for one of the directions, another one each time. */
    for (uint32_t t = 0; t < 128; t++)
        for (uint32_t h = 0; h < mha.n_head; h++) {
            float *row = q + ((size_t)t * mha.n_head + h) * mha.d;
            crit_kv_get(&b.kv[0], h, (t * 37 + h * 11) % N, 1, row, NULL);
            for (uint32_t i = 0; i < mha.d; i++) row[i] += .3f * tiny_normal(&seed);
        }
    assert_int_equal(policy->prompt(squeezed, &b.env, 0, &b.kv[0], q, (size_t)mha.n_head * mha.d, 128, &err), CRIT_OK);
    double kept = 0, best = 0, read = 0;
    for (uint32_t t = 0; t < 32; t++) {
        crit_decode_job job = {&b.env, 0, &b.kv[0], N, q + (size_t)t * mha.n_head * mha.d, b.out};
        assert_int_equal(policy->decode(squeezed, &job, &err), CRIT_OK);
        for (uint32_t h = 0; h < mha.n_head; h++) {
            uint32_t n = policy->kept(squeezed, 0, h, N, pos);
            double w[N], sum = 0;
            float *k = keys_of(&b, 0, h, N);
            for (uint32_t i = 0; i < N; i++)
                sum += w[i] = exp(dot(job.q + (size_t)h * mha.d, k + (size_t)i * mha.d, mha.d) * (double)b.env.scale);
            for (uint32_t i = 0; i < n; i++) kept += w[pos[i]] / sum;
            read += n;
            /* As many of the prefix, but the best ones, by selection; what is behind it is read anyway. */
            uint32_t n_fix = ((const crit_squeezed *)squeezed)->n_fix;
            for (uint32_t i = n_fix; i < N; i++) best += w[i] / sum;
            for (uint32_t i = 0; i < n - (N - n_fix); i++) {
                uint32_t top = i;
                for (uint32_t j = i + 1; j < n_fix; j++)
                    if (w[j] > w[top]) top = j;
                double x = w[top];
                w[top] = w[i];
                w[i] = x;
                best += x / sum;
            }
            free(k);
        }
    }
    kept /= 32 * mha.n_head, best /= 32 * mha.n_head, read /= 32. * mha.n_head * N;
    if (!(kept > best - .005 && read < .5)) fail_msg("kept %g, best %g, read %g", kept, best, read);
    policy->close(squeezed);
    free(q);
    bed_close(&b);
}

/* ---- chunks of user input ---- */

static void chunks_read_the_same(void **state) {
    (void)state;
    for (int all = 0; all < 2; all++) {
        bed b;
        crit_error err = {0};
        enum { N = 700, MORE = 300 };
        bed_open(&b, shape, N, N + MORE, 37, 2,
                 all ? "squeezed:min=64,q=0,levels=1" : "squeezed:min=64,q=0.7,levels=2,lose=0.2");
        assert_true(b.policy->takes(b.state, N));
        assert_false(b.policy->takes(b.state, 0));
        for (int i = 0; i < MORE; i++) bed_token(&b);
        size_t row = (size_t)b.s.n_head * b.s.d, stride = b.s.n_layer * row;
        float *one = malloc(MORE * row * sizeof *one), *cut = malloc(MORE * row * sizeof *cut);
        double *x = malloc(b.s.d * sizeof *x);
        uint32_t *pos = malloc((N + MORE) * sizeof *pos);
        assert_true(one && cut && x && pos);
        crit_prefill_job job = {&b.env, 1, &b.kv[1], N, MORE, bed_q(&b, 1, N), stride, one, row, 0};
        assert_int_equal(b.policy->chunk(b.state, &job, &err), CRIT_OK);
        double causal = b.s.n_head * (N * (double)MORE + MORE * (MORE + 1) / 2.0);
        assert_true(all ? fabs(job.pairs - causal) < 1 : job.pairs < causal * .9);
        /* Cut where tiles begin, as sessions do. */
        const uint32_t at[] = {0, 768 - N, 896 - N, MORE};
        for (int i = 0; i < 3; i++) {
            job = (crit_prefill_job){
                &b.env, 1, &b.kv[1], N + at[i], at[i + 1] - at[i], bed_q(&b, 1, N + at[i]), stride, cut + at[i] * row,
                row,    0};
            assert_int_equal(b.policy->chunk(b.state, &job, &err), CRIT_OK);
        }
        assert_memory_equal(one, cut, MORE * row * sizeof *one);
        double bound = bed_chunk_bound(&b);
        uint32_t n_tok = b.n_tok;
        for (uint32_t t = 0; t < MORE && all; t += 23) {
            b.n_tok = N + t + 1;
            for (uint32_t i = 0; i < b.n_tok; i++) pos[i] = i;
            for (uint32_t h = 0; h < b.s.n_head; h++) {
                bed_exact(&b, 1, h, pos, b.n_tok, x, NULL, NULL);
                for (uint32_t i = 0; i < b.s.d; i++)
                    assert_true(fabs(x[i] - (double)one[t * row + h * b.s.d + i]) <= bound * fmax(1, fabs(x[i])));
            }
        }
        b.n_tok = n_tok;
        free(one), free(cut), free(x), free(pos);
        bed_close(&b);
    }
}

/* Clusters go with the keys they are of, and come again when what stands behind them has outgrown them. */
static void clusters_come_and_go(void **state) {
    (void)state;
    bed b;
    crit_error err = {0};
    bed_open(&b, shape, 300, 700, 41, 1, "squeezed:min=128,W=64");
    const crit_squeezed *s = b.state;
    size_t stride = (size_t)b.s.n_layer * b.s.n_head * b.s.d;
    assert_int_equal(s->n_fix, 224);
    b.policy->cut(b.state, 224);
    assert_int_equal(s->n_fix, 224);
    for (uint32_t n = 300; n < 700;) {
        bed_token(&b);
        n = b.n_tok;
        if (n != 400 && n != 460) continue;
        for (uint32_t l = 0; l < b.s.n_layer; l++)
            assert_int_equal(b.policy->prompt(b.state, &b.env, l, &b.kv[l], bed_q(&b, l, n - 10), stride, 10, &err),
                             CRIT_OK);
        assert_int_equal(s->n_fix, n == 400 ? 224 : (460 - 64) / 32 * 32);
    }
    b.policy->cut(b.state, s->n_fix - 1);
    assert_int_equal(s->n_fix, 0);
    bed_decode(&b, 0); /* full attention */
    uint32_t pos[1024];
    assert_int_equal(b.policy->kept(b.state, 0, 0, b.n_tok, pos), b.n_tok);
    bed_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planted_clusters_are_found),    cmocka_unit_test(stages_and_edges),
        cmocka_unit_test(clusters_are_complete),         cmocka_unit_test(estimates_never_exceed_the_truth),
        cmocka_unit_test(what_passes_is_read),           cmocka_unit_test(a_cluster_a_key_is_exact),
        cmocka_unit_test(the_threshold_is_the_quantile), cmocka_unit_test(keeping_all_is_full),
        cmocka_unit_test(planted_weight_is_kept),        cmocka_unit_test(chunks_read_the_same),
        cmocka_unit_test(clusters_come_and_go),          cmocka_unit_test(two_levels_lose_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
