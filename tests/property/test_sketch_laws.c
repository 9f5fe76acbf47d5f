/* SPDX-License-Identifier: MIT */
/* Laws of SubGen's two parts by themselves: greedy k-center against distances in double, brute force and planted
 * clusters; the streaming sketch against what its theorem needs.  Chances come from fixed seeds, so that nothing here
 * can fail now and then; bounds are five standard errors, from the variance that the estimators have in theory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/kcenter.h"
#include "policy/subgen_stream.h"

/* ---- a store of n tokens of one or more heads ---- */

typedef struct rig {
    uint32_t n_head, n, d;
    crit_kernels kernels;
    crit_kv kv;
    float *k, *v; /* [n_head][n][d] as the store has them */
} rig;

static double uniform(uint64_t *rng) {
    *rng = *rng * 6364136223846793005u + 1442695040888963407u;
    return (double)(*rng >> 11) * 0x1p-53;
}
static double normal(uint64_t *rng) {
    double u = uniform(rng) + 0x1p-54;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * uniform(rng));
}

/* Keys around n_plant planted centres (token t belongs to t % n_plant) at `apart`, scattered by `spread`, all shifted
 * by `shift`; values have any length. */
static void rig_open(rig *r, uint32_t n_head, uint32_t n, uint32_t d, uint32_t n_plant, double apart, double spread,
                     double shift, uint64_t seed) {
    *r = (rig){.n_head = n_head, .n = n, .d = d};
    uint64_t rng = seed;
    size_t all = (size_t)n_head * n * d;
    crit_kernels_init(&r->kernels, crit_cpu_detect());
    assert_int_equal(crit_kv_init(&r->kv, &r->kernels, n_head, d, n, NULL), CRIT_OK);
    r->k = malloc(all * sizeof *r->k);
    r->v = malloc(all * sizeof *r->v);
    double *plant = malloc((size_t)n_plant * d * sizeof *plant);
    assert_true(r->k && r->v && plant);
    for (uint32_t h = 0; h < n_head; h++) {
        for (size_t i = 0; i < (size_t)n_plant * d; i++) plant[i] = apart * normal(&rng);
        float *k = r->k + (size_t)h * n * d, *v = r->v + (size_t)h * n * d;
        for (uint32_t t = 0; t < n; t++) {
            double size = .2 + 2 * uniform(&rng);
            for (uint32_t i = 0; i < d; i++) {
                k[(size_t)t * d + i] =
                    (float)(plant[(size_t)(t % n_plant) * d + i] + spread * normal(&rng) + (i % 5 ? 0 : shift));
                v[(size_t)t * d + i] = (float)(size * normal(&rng));
            }
        }
        crit_kv_put(&r->kv, h, 0, n, k, d, v, d);
    }
    crit_kv_advance(&r->kv, n);
    for (uint32_t h = 0; h < n_head; h++)
        crit_kv_get(&r->kv, h, 0, n, r->k + (size_t)h * n * d, r->v + (size_t)h * n * d);
    free(plant);
}

static void rig_close(rig *r) {
    crit_kv_clear(&r->kv);
    free(r->k);
    free(r->v);
}

static double distance(const float *a, const float *b, uint32_t d) {
    double sum = 0;
    for (uint32_t i = 0; i < d; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

/* ---- k-center ---- */

/* center, size [n_head][k]; radius [n_head] */
static void find(const rig *r, uint32_t n, uint32_t k, unsigned threads, uint32_t *center, uint32_t *size,
                 float *radius) {
    crit_kcenter c;
    crit_pool *pool;
    assert_int_equal(crit_pool_open(&pool, threads, false, NULL), CRIT_OK);
    assert_int_equal(crit_kcenter_init(&c, r->n_head, r->d, r->n, NULL), CRIT_OK);
    crit_kcenter_job job = {.pool = pool,
                            .kernels = &r->kernels,
                            .k = crit_kv_k(&r->kv, 0),
                            .head_stride = (size_t)r->kv.n_blk_cap * CRIT_BLK_LEN * r->d,
                            .n_key = n,
                            .n_center = k,
                            .center = center,
                            .size = size,
                            .stride = k,
                            .radius = radius};
    assert_int_equal(crit_kcenter_run(&c, &job, NULL), CRIT_OK);
    crit_kcenter_clear(&c);
    crit_pool_close(&pool);
}

/* f32 products of differences to the mean: absolute in what a distance is made of. */
static double dist_tolerance(const rig *r, const float *k, uint32_t n, double dist) {
    double top = 0, zero = 0;
    for (uint32_t j = 0; j < n; j++) top = fmax(top, distance(k + (size_t)j * r->d, k, r->d));
    for (uint32_t i = 0; i < r->d; i++) zero += (double)k[i] * (double)k[i];
    double err2 = (r->d + 16) * 0x1p-24 * 4 * top * (top + sqrt(zero)); /* of a squared distance */
    return dist * dist > err2 ? err2 / dist : sqrt(err2);
}

static double radius_of(const rig *r, const float *k, uint32_t n, const uint32_t *center, uint32_t n_center) {
    double radius = 0;
    for (uint32_t j = 0; j < n; j++) {
        double least = (double)INFINITY;
        for (uint32_t c = 0; c < n_center; c++)
            least = fmin(least, distance(k + (size_t)j * r->d, k + (size_t)center[c] * r->d, r->d));
        radius = fmax(radius, least);
    }
    return radius;
}

static void centers_are_the_farthest(void **state) {
    (void)state;
    static const double shifts[] = {0, 120};
    for (size_t i = 0; i < 2; i++) {
        rig r;
        enum { N = 2300, K = 40 };
        uint32_t center[2 * K], size[2 * K];
        float radius[2], before[2] = {INFINITY, INFINITY};
        rig_open(&r, 2, N, 40, N, 2, 0, shifts[i], 5 + i);
        for (uint32_t k = 1; k <= K; k += k < 6 ? 1 : 17) {
            find(&r, N, k, 2, center, size, radius);
            for (uint32_t h = 0; h < 2; h++) {
                const float *key = r.k + (size_t)h * N * r.d;
                const uint32_t *c = center + (size_t)h * k;
                uint32_t sum = 0;
                assert_int_equal(c[0], 0);
                double exact = radius_of(&r, key, N, c, k), tol = dist_tolerance(&r, key, N, exact);
                assert_true(fabs(exact - (double)radius[h]) <= tol);
                assert_true(radius[h] <= before[h]);
                before[h] = radius[h];
                /* every one was the farthest when it was chosen */
                for (uint32_t j = 1; j < k; j++) {
                    double far = radius_of(&r, key, N, c, j), own = (double)INFINITY;
                    for (uint32_t b = 0; b < j; b++)
                        own = fmin(own, distance(key + (size_t)c[j] * r.d, key + (size_t)c[b] * r.d, r.d));
                    assert_true(own >= far - tol);
                }
                for (uint32_t j = 0; j < k; j++) sum += size[(size_t)h * k + j];
                assert_int_equal(sum, N);
            }
        }
        rig_close(&r);
    }
}

/* The best radius of k of the n keys as centres. */
static double best_radius(const rig *r, uint32_t n, uint32_t k, uint32_t from, uint32_t *center, uint32_t n_set) {
    if (n_set == k) return radius_of(r, r->k, n, center, k);
    double best = (double)INFINITY;
    for (uint32_t j = from; j < n; j++) {
        center[n_set] = j;
        best = fmin(best, best_radius(r, n, k, j + 1, center, n_set + 1));
    }
    return best;
}

static void radius_is_at_most_twice_the_best(void **state) {
    (void)state;
    double worst = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        rig r;
        uint32_t n = 9 + seed % 6, k = 1 + seed % 4, center[4], best[4];
        float radius;
        rig_open(&r, 1, n, 8, n, 1, 0, 3, 100 + seed);
        find(&r, n, k, 1, center, NULL, &radius);
        double opt = best_radius(&r, n, k, 0, best, 0);
        assert_true((double)radius <= 2 * opt + dist_tolerance(&r, r.k, n, opt));
        assert_true((double)radius >= opt - dist_tolerance(&r, r.k, n, opt));
        worst = fmax(worst, (double)radius / opt);
        rig_close(&r);
    }
    assert_true(worst > 1.1); /* greedy is not optimal: these cases can tell */
}

static void planted_clusters_get_a_center_each(void **state) {
    (void)state;
    enum { PLANT = 96, N = 2016 };
    rig r;
    uint32_t center[PLANT], size[PLANT];
    bool seen[PLANT] = {false};
    float radius;
    rig_open(&r, 1, N, 64, PLANT, 3, .05, 0, 9);
    find(&r, N, PLANT, 2, center, size, &radius);
    for (uint32_t i = 0; i < PLANT; i++) {
        assert_false(seen[center[i] % PLANT]);
        seen[center[i] % PLANT] = true;
        assert_int_equal(size[i], N / PLANT);
    }
    rig_close(&r);
}

/* As many centres as keys: each once, also where keys are the same. */
static void all_keys_are_centers_once(void **state) {
    (void)state;
    enum { N = 50 };
    rig r;
    uint32_t center[N], size[N];
    bool seen[N] = {false};
    float radius;
    rig_open(&r, 1, N, 16, 7, 1, 0, 0, 11); /* seven different keys */
    find(&r, N, N, 2, center, size, &radius);
    for (uint32_t i = 0; i < N; i++) {
        assert_false(seen[center[i]]);
        seen[center[i]] = true;
        assert_int_equal(size[i], 1);
    }
    assert_true(radius == 0);
    rig_close(&r);
}

static void threads_find_the_same_centers(void **state) {
    (void)state;
    enum { N = 5000, K = 70 };
    rig r;
    static uint32_t center[2][3 * K], size[2][3 * K];
    float radius[2][3];
    rig_open(&r, 3, N, 24, N, 1, 0, 30, 13);
    find(&r, N, K, 1, center[0], size[0], radius[0]);
    for (unsigned threads = 2; threads < 6; threads++) {
        find(&r, N, K, threads, center[1], size[1], radius[1]);
        assert_memory_equal(center[0], center[1], sizeof center[0]);
        assert_memory_equal(size[0], size[1], sizeof size[0]);
        assert_memory_equal(radius[0], radius[1], sizeof radius[0]);
    }
    rig_close(&r);
}

/* ---- the sketch ---- */

static void sketch_of(const rig *r, crit_sketch *s, uint32_t m, uint32_t t, uint32_t n_sample) {
    crit_sketch_shape shape = {r->n_head, r->d, m, t, n_sample};
    assert_int_equal(crit_sketch_init(s, &r->kernels, &shape, NULL), CRIT_OK);
}
static void feed(const rig *r, crit_sketch *s, uint64_t seed, double delta) {
    float all[8];
    for (uint32_t h = 0; h < r->n_head; h++) all[h] = (float)delta;
    crit_sketch_start(s, seed, 0, all);
    for (uint32_t h = 0; h < r->n_head; h++) crit_sketch_feed(s, h, &r->kv, 0, r->n);
}

static double dot(const float *a, const float *b, uint32_t d) {
    double sum = 0;
    for (uint32_t i = 0; i < d; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static void slot_key(const crit_sketch *s, uint32_t head, uint32_t cluster, uint32_t slot, float *out) {
    const crit_sketch_shape *a = &s->shape;
    crit_key_f32(s->kernels, s->slot + (((size_t)head * a->m + cluster) * a->t + slot) * a->d, a->d, out);
}

/* The estimates as the sketch stands, of head 0, by their formulas. */
static double tau_of(const crit_sketch *s, const float *q) {
    double tau = 0;
    float key[CRIT_D_HEAD_MAX];
    for (uint32_t i = 0; i < s->head[0].n_cluster; i++)
        for (uint32_t r = 0; r < s->shape.t; r++) {
            slot_key(s, 0, i, r, key);
            tau += (double)s->count[i] / s->shape.t * exp(dot(q, key, s->shape.d));
        }
    return tau;
}
static void z_of(const rig *r, const crit_sketch *s, const float *q, double *z) {
    memset(z, 0, r->d * sizeof *z);
    for (uint32_t i = 0; i < s->shape.s; i++) {
        const float *k = r->k + (size_t)s->src[i] * r->d, *v = r->v + (size_t)s->src[i] * r->d;
        double w = s->head[0].mu / s->shape.s / dot(v, v, r->d) * exp(dot(q, k, r->d));
        for (uint32_t c = 0; c < r->d; c++) z[c] += w * (double)v[c];
    }
}

typedef struct truth {
    float q[64];
    double tau, z[64], mu, e2; /* e2: sum of squared exponentials */
} truth;
static void truth_of(const rig *r, truth *t, uint64_t seed, double size) {
    uint64_t rng = seed;
    memset(t, 0, sizeof *t);
    for (uint32_t i = 0; i < r->d; i++) t->q[i] = (float)(size * normal(&rng));
    for (uint32_t j = 0; j < r->n; j++) {
        const float *v = r->v + (size_t)j * r->d;
        double e = exp(dot(t->q, r->k + (size_t)j * r->d, r->d));
        t->tau += e;
        t->e2 += e * e;
        t->mu += dot(v, v, r->d);
        for (uint32_t c = 0; c < r->d; c++) t->z[c] += e * (double)v[c];
    }
}

static void tau_is_exact_for_single_keys(void **state) {
    (void)state;
    rig r;
    crit_sketch s;
    truth t;
    rig_open(&r, 1, 300, 24, 300, 1, 0, 0, 21);
    truth_of(&r, &t, 1, .3);
    sketch_of(&r, &s, 400, 3, 8);
    double least = (double)INFINITY;
    for (uint32_t i = 0; i < r.n; i++)
        for (uint32_t j = 0; j < i; j++) least = fmin(least, distance(r.k + i * r.d, r.k + j * r.d, r.d));
    feed(&r, &s, 1, .99 * least);
    assert_int_equal(s.head[0].n_cluster, r.n);
    assert_true(fabs(tau_of(&s, t.q) - t.tau) < 1e-12 * t.tau);
    feed(&r, &s, 1, 1.02 * least); /* and the closest pair is one cluster otherwise */
    assert_true(s.head[0].n_cluster < r.n);
    assert_true(fabs(tau_of(&s, t.q) - t.tau) > 1e-12 * t.tau);
    crit_sketch_clear(&s);
    rig_close(&r);
}

static void estimates_are_unbiased(void **state) {
    (void)state;
    enum { PLANT = 10, N = 300, T = 3, S = 8, SEEDS = 600 };
    rig r;
    crit_sketch s;
    truth t;
    rig_open(&r, 1, N, 16, PLANT, 2, .3, 0, 23);
    truth_of(&r, &t, 2, .25);
    sketch_of(&r, &s, 32, T, S);
    /* a slot is uniform over its cluster, whose keys are every PLANT-th */
    double var_tau = 0, var_z = 0, z2 = 0;
    for (uint32_t p = 0; p < PLANT; p++) {
        double n = N / PLANT, sum = 0, sum2 = 0;
        for (uint32_t j = p; j < N; j += PLANT) {
            double e = exp(dot(t.q, r.k + (size_t)j * r.d, r.d));
            sum += e;
            sum2 += e * e;
        }
        var_tau += n * n / T * (sum2 / n - sum / n * (sum / n));
    }
    for (uint32_t c = 0; c < r.d; c++) z2 += t.z[c] * t.z[c];
    var_z = (t.mu * t.e2 - z2) / S; /* of the vector */
    double mean = 0, spread = 0, z[64], zmean[64] = {0}, zvar[64] = {0}, zspread = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        feed(&r, &s, seed, 4);
        assert_int_equal(s.head[0].n_cluster, PLANT);
        double tau = tau_of(&s, t.q);
        mean += tau / SEEDS;
        spread += (tau - t.tau) * (tau - t.tau) / SEEDS;
        z_of(&r, &s, t.q, z);
        for (uint32_t c = 0; c < r.d; c++) {
            zmean[c] += z[c] / SEEDS;
            zvar[c] += (z[c] - t.z[c]) * (z[c] - t.z[c]) / SEEDS;
            zspread += (z[c] - t.z[c]) * (z[c] - t.z[c]) / SEEDS;
        }
    }
    assert_true(fabs(mean - t.tau) <= 5 * sqrt(var_tau / SEEDS));
    for (uint32_t c = 0; c < r.d; c++) assert_true(fabs(zmean[c] - t.z[c]) <= 5 * sqrt(zvar[c] / SEEDS));
    /* the variance of independent slots, not of slots that are alike */
    if (!(spread / var_tau > .75 && spread / var_tau < 1.33)) fail_msg("tau varies %g times", spread / var_tau);
    if (!(zspread / var_z > .75 && zspread / var_z < 1.33)) fail_msg("z varies %g times", zspread / var_z);
    crit_sketch_clear(&s);
    rig_close(&r);
}

static void merged_clusters_stay_unbiased(void **state) {
    (void)state;
    enum { SEEDS = 600 };
    rig r;
    crit_sketch s;
    truth t;
    double mean = 0, var = 0;
    rig_open(&r, 1, 240, 16, 12, 2, .3, 0, 25);
    truth_of(&r, &t, 3, .2);
    sketch_of(&r, &s, 5, 2, 4);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        feed(&r, &s, seed, 1e-3);
        assert_true(s.head[0].n_doubled > 0 && s.head[0].n_cluster <= 5);
        double tau = tau_of(&s, t.q);
        mean += tau / SEEDS;
        var += (tau - t.tau) * (tau - t.tau) / SEEDS;
    }
    assert_true(var > 0 && fabs(mean - t.tau) <= 5 * sqrt(var / SEEDS));
    crit_sketch_clear(&s);
    rig_close(&r);
}

/* The value that a chi-square of df degrees exceeds once in 10,000 (Wilson and Hilferty). */
static double chi2_bound(double df) {
    double x = 1 - 2 / (9 * df) + 3.719 * sqrt(2 / (9 * df));
    return df * x * x * x;
}

static uint32_t which_key(const rig *r, const float *key) {
    for (uint32_t j = 0; j < r->n; j++)
        if (!memcmp(key, r->k + (size_t)j * r->d, r->d * sizeof *key)) return j;
    fail_msg("a slot holds a key that was never fed");
    return 0;
}

static void slots_are_drawn_fairly(void **state) {
    (void)state;
    enum { N = 8, SEEDS = 6400, T = 2, S = 2 };
    rig r;
    crit_sketch s;
    double pair[N * N] = {0}, sample[N * N] = {0}, mu = 0;
    rig_open(&r, 1, N, 8, N, 1, 0, 0, 27);
    sketch_of(&r, &s, 2, T, S);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        float key[2][8];
        feed(&r, &s, seed, 1e6);
        assert_int_equal(s.head[0].n_cluster, 1);
        assert_int_equal(s.count[0], N);
        slot_key(&s, 0, 0, 0, key[0]);
        slot_key(&s, 0, 0, 1, key[1]);
        pair[which_key(&r, key[0]) * N + which_key(&r, key[1])]++;
        sample[s.src[0] * N + s.src[1]]++;
    }
    for (uint32_t j = 0; j < N; j++) mu += dot(r.v + j * r.d, r.v + j * r.d, r.d);
    double chi = 0, chi_sample = 0;
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t j = 0; j < N; j++) {
            double even = (double)SEEDS / (N * N), by_len = SEEDS / mu / mu * dot(r.v + i * r.d, r.v + i * r.d, r.d) *
                                                            dot(r.v + j * r.d, r.v + j * r.d, r.d);
            chi += (pair[i * N + j] - even) * (pair[i * N + j] - even) / even;
            chi_sample += (sample[i * N + j] - by_len) * (sample[i * N + j] - by_len) / by_len;
        }
    if (chi > chi2_bound(N * N - 1)) fail_msg("pairs of slots: chi-square %g", chi);
    if (chi_sample > chi2_bound(N * N - 1)) fail_msg("pairs of samples: chi-square %g", chi_sample);
    crit_sketch_clear(&s);
    rig_close(&r);
}

/* More keys than clusters merge into the two groups that there are. */
static void merged_slots_are_drawn_fairly(void **state) {
    (void)state;
    enum { N = 12, GROUP = N / 2, SEEDS = 5400 };
    rig r;
    crit_sketch s;
    double pair[2][GROUP * GROUP] = {{0}};
    rig_open(&r, 1, N, 8, 2, 20, .5, 0, 29);
    memset(r.k, 0, (size_t)N * r.d * sizeof *r.k);
    for (uint32_t t = 0; t < N; t++) { /* equally far from each other in a group: they merge at once */
        r.k[t * r.d] = t % 2 ? 64 : 0;
        r.k[t * r.d + 1 + t / 2] = 2;
    }
    crit_kv_put(&r.kv, 0, 0, N, r.k, r.d, r.v, r.d);
    sketch_of(&r, &s, 4, 2, 2);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        feed(&r, &s, seed, 1e-2);
        assert_true(s.head[0].n_doubled > 0);
        for (uint32_t c = 0; c < s.head[0].n_cluster; c++) {
            float key[2][8];
            if (s.count[c] != GROUP) continue;
            slot_key(&s, 0, c, 0, key[0]);
            slot_key(&s, 0, c, 1, key[1]);
            uint32_t a = which_key(&r, key[0]), b = which_key(&r, key[1]);
            assert_int_equal(a % 2, b % 2);
            pair[a % 2][a / 2 * GROUP + b / 2]++;
        }
    }
    for (uint32_t g = 0; g < 2; g++) {
        double chi = 0, n = 0, even = (double)SEEDS / (GROUP * GROUP);
        for (uint32_t i = 0; i < GROUP * GROUP; i++) {
            chi += (pair[g][i] - even) * (pair[g][i] - even) / even;
            n += pair[g][i];
        }
        assert_true(n == SEEDS); /* both groups are one cluster each, whatever the seed */
        if (chi > chi2_bound(GROUP * GROUP - 1)) fail_msg("pairs of slots of a merged cluster: chi-square %g", chi);
    }
    crit_sketch_clear(&s);
    rig_close(&r);
}

static void keys_are_near_their_clusters(void **state) {
    (void)state;
    static const struct {
        uint32_t m;
        double delta;
    } cases[] = {{512, 3}, {512, 6}, {20, 2}, {7, 1e-3}, {2, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rig r;
        crit_sketch s;
        rig_open(&r, 1, 500, 16, 40, 2, .5, i % 2 ? 50 : 0, 31 + i);
        sketch_of(&r, &s, cases[i].m, 3, 4);
        feed(&r, &s, 1, cases[i].delta);
        const crit_sketch_head *h = &s.head[0];
        float rep[512][16], key[16];
        uint32_t counted = 0;
        assert_true(h->n_cluster <= cases[i].m);
        assert_true((h->n_doubled > 0) == (cases[i].m < 40));
        double most = h->n_doubled ? 2 * h->delta : (double)(float)cases[i].delta;
        assert_true(h->radius <= most);
        for (uint32_t c = 0; c < h->n_cluster; c++) {
            crit_key_f32(&r.kernels, s.rep + (size_t)c * r.d, r.d, rep[c]);
            counted += s.count[c];
            for (uint32_t k = 0; k < 3; k++) {
                slot_key(&s, 0, c, k, key);
                assert_true(distance(key, rep[c], r.d) <= h->radius);
            }
            for (uint32_t b = 0; b < c; b++) assert_true(distance(rep[b], rep[c], r.d) > h->delta * (1 - 1e-3));
        }
        assert_int_equal(counted, r.n);
        for (uint32_t j = 0; j < r.n; j++) {
            double least = (double)INFINITY;
            for (uint32_t c = 0; c < h->n_cluster; c++)
                least = fmin(least, distance(r.k + (size_t)j * r.d, rep[c], r.d));
            assert_true(least <= h->radius);
        }
        crit_sketch_clear(&s);
        rig_close(&r);
    }
}

static void planted_clusters_are_found(void **state) {
    (void)state;
    enum { PLANT = 96, N = 4032 };
    rig r;
    crit_sketch s;
    rig_open(&r, 1, N, 64, PLANT, 3, .1, 0, 37);
    sketch_of(&r, &s, 512, 4, 16);
    feed(&r, &s, 1, 3);
    assert_int_equal(s.head[0].n_cluster, PLANT);
    assert_int_equal(s.head[0].n_doubled, 0);
    for (uint32_t c = 0; c < PLANT; c++) {
        float key[64];
        assert_int_equal(s.count[c], N / PLANT);
        for (uint32_t k = 0; k < 4; k++) {
            slot_key(&s, 0, c, k, key);
            assert_int_equal(which_key(&r, key) % PLANT, c);
        }
    }
    crit_sketch_clear(&s);
    rig_close(&r);
}

/* ||V||_op from below, by power iteration. */
static double largest_singular(const rig *r) {
    double x[64], y[64], len = 0;
    for (uint32_t i = 0; i < r->d; i++) x[i] = 1 / sqrt((double)r->d);
    for (int it = 0; it < 60; it++) {
        memset(y, 0, sizeof y);
        for (uint32_t j = 0; j < r->n; j++) {
            const float *v = r->v + (size_t)j * r->d;
            double a = 0;
            for (uint32_t i = 0; i < r->d; i++) a += (double)v[i] * x[i];
            for (uint32_t i = 0; i < r->d; i++) y[i] += a * (double)v[i];
        }
        len = 0;
        for (uint32_t i = 0; i < r->d; i++) len += y[i] * y[i];
        len = sqrt(len);
        for (uint32_t i = 0; i < r->d; i++) x[i] = y[i] / len;
    }
    return sqrt(len);
}

/* E|z' - z|^2 <= mu / s sum e^2, and mu = ||V||_F^2 <= d ||V||_op^2: so the root of the mean squared error of z' / tau
 * is at most sqrt(d / s) ||soft-max||_2 ||V||_op, plus what tau' is off. */
static void error_keeps_the_bound(void **state) {
    (void)state;
    enum { N = 4032, SEEDS = 24 };
    static const uint32_t sizes[] = {64, 256, 1024};
    double rms[3];
    rig r;
    truth t;
    rig_open(&r, 1, N, 64, 96, 1.5, .1, 0, 41);
    truth_of(&r, &t, 4, .15);
    double unit = sqrt(t.e2) / t.tau * largest_singular(&r);
    for (size_t i = 0; i < 3; i++) {
        crit_sketch s;
        double sum = 0, tau_off = 0;
        sketch_of(&r, &s, 512, 16, sizes[i]);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            double z[64], err = 0;
            feed(&r, &s, seed, 3);
            double tau = tau_of(&s, t.q);
            tau_off = fmax(tau_off, fabs(tau / t.tau - 1));
            z_of(&r, &s, t.q, z);
            for (uint32_t c = 0; c < r.d; c++) err += pow(z[c] / tau - t.z[c] / t.tau, 2);
            sum += err / SEEDS;
        }
        rms[i] = sqrt(sum) / unit;
        crit_sketch_clear(&s);
        assert_true(tau_off < .034); /* 96 clusters of 42 keys within .1 of each other: a few per cent at most */
        if (!(rms[i] <= 1.1 * sqrt(64.0 / sizes[i]))) fail_msg("s %u: %g of the bound's unit", sizes[i], rms[i]);
    }
    assert_true(rms[0] / rms[2] > 3 && rms[0] / rms[2] < 5.3); /* sqrt(1024 / 64) = 4 */
    rig_close(&r);
}

static void seeds_decide(void **state) {
    (void)state;
    rig r;
    crit_sketch s;
    uint32_t first[2][64];
    float delta[2] = {3, 3};
    rig_open(&r, 2, 400, 16, 20, 2, .3, 0, 43);
    memcpy(r.k + (size_t)400 * 16, r.k, 400 * 16 * sizeof *r.k); /* two heads of the same tokens */
    memcpy(r.v + (size_t)400 * 16, r.v, 400 * 16 * sizeof *r.v);
    crit_kv_put(&r.kv, 1, 0, 400, r.k, 16, r.v, 16);
    sketch_of(&r, &s, 64, 4, 64);
    feed(&r, &s, 7, 3);
    memcpy(first, s.src, sizeof first);
    assert_true(memcmp(first[0], first[1], sizeof first[0]) != 0); /* by head */
    feed(&r, &s, 7, 3);
    assert_memory_equal(first, s.src, sizeof first);
    feed(&r, &s, 8, 3);
    assert_true(memcmp(first, s.src, sizeof first[0]) != 0);
    crit_sketch_start(&s, 7, 1, delta);
    crit_sketch_feed(&s, 0, &r.kv, 0, 400);
    assert_true(memcmp(first, s.src, sizeof first[0]) != 0); /* by layer */
    /* in one go or in parts */
    crit_sketch_start(&s, 7, 0, delta);
    for (uint32_t at = 0; at < 400; at += 37) crit_sketch_feed(&s, 0, &r.kv, at, at + 37 < 400 ? at + 37 : 400);
    assert_memory_equal(first[0], s.src, sizeof first[0]);
    crit_sketch_clear(&s);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(centers_are_the_farthest),
        cmocka_unit_test(radius_is_at_most_twice_the_best),
        cmocka_unit_test(planted_clusters_get_a_center_each),
        cmocka_unit_test(all_keys_are_centers_once),
        cmocka_unit_test(threads_find_the_same_centers),
        cmocka_unit_test(tau_is_exact_for_single_keys),
        cmocka_unit_test(estimates_are_unbiased),
        cmocka_unit_test(merged_clusters_stay_unbiased),
        cmocka_unit_test(slots_are_drawn_fairly),
        cmocka_unit_test(merged_slots_are_drawn_fairly),
        cmocka_unit_test(keys_are_near_their_clusters),
        cmocka_unit_test(planted_clusters_are_found),
        cmocka_unit_test(error_keeps_the_bound),
        cmocka_unit_test(seeds_decide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
