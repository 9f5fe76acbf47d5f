/* SPDX-License-Identifier: MIT */
/* Laws of plans and attention on random Q, K, V through the public tier-2 API: what the system promises whatever the
 * numbers are.  Shapes: groups of 1, 3, 4, 7 and 8 heads, d 64 and 128, ragged ends. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "critiprefill/attention.h"
#include "kv/kv.h"

enum { TILE = 32, BLK = 32, LOCAL = 128, SPAN = 128 };

typedef struct shape {
    uint32_t n_head, n_kv_head, d, n_tok;
} shape;

typedef struct data {
    float *q, *k, *v;
    size_t q_row, kv_row;
} data;

static uint64_t rng;
static float uniform(void) {
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(rng >> 32) * 0x1p-31f;
}

/* Keys drift slowly and some are shared by far-apart queries, so that heads look near, far, and at single keys. */
static data make(shape s, uint64_t seed) {
    data x = {.q_row = (size_t)s.n_head * s.d, .kv_row = (size_t)s.n_kv_head * s.d};
    rng = seed;
    x.q = malloc(s.n_tok * x.q_row * sizeof(float));
    x.k = malloc(s.n_tok * x.kv_row * sizeof(float));
    x.v = malloc(s.n_tok * x.kv_row * sizeof(float));
    assert_true(x.q && x.k && x.v);
    for (size_t i = 0; i < s.n_tok * x.kv_row; i++) {
        x.k[i] = uniform() + (i >= x.kv_row ? 0.8f * x.k[i - x.kv_row] : 0);
        x.v[i] = uniform();
    }
    for (size_t t = 0; t < s.n_tok; t++)
        for (uint32_t h = 0; h < s.n_head; h++) {
            size_t far = (t * 2654435761u + h) % (t + 1);
            const float *k = x.k + far * x.kv_row + (size_t)(h / (s.n_head / s.n_kv_head)) * s.d;
            for (uint32_t i = 0; i < s.d; i++)
                x.q[t * x.q_row + (size_t)h * s.d + i] = uniform() + 0.6f * (float)(h % 3) * k[i];
        }
    return x;
}

static void drop(data *x) {
    free(x->q);
    free(x->k);
    free(x->v);
}

static crit_attn_params params(crit_attn mode) {
    crit_attn_params p;
    crit_attn_params_init(&p);
    p.mode = mode;
    p.theta = 2.0f;
    p.recall = 0.5f; /* these heads look up all the time: both guards act, and plans stay sparse */
    p.lookup = 1;
    p.budget_tok = 256;
    p.threshold = 1024;
    return p;
}

/* Floor and cap of a criti tile, in far blocks beside the sink; tiles that are dense by position are free of them. */
static void check_budget(const crit_attn_params *p, uint32_t n_tok, uint32_t last, const uint32_t *ids, size_t m) {
    uint32_t grid = last / TILE * TILE;
    if (p->mode != CRIT_ATTN_CRITI || grid < p->dense_until || last + 1 + p->last_tok > n_tok) return;
    uint32_t near = grid / BLK - LOCAL / BLK, floor = (p->min_tok + BLK - 1) / BLK, kept = 0;
    for (size_t i = 0; i < m; i++) kept += ids[i] >= 1 && ids[i] < near;
    if (p->max_tok) assert_true(kept <= p->max_tok / BLK);
    assert_true(kept >= (floor < near - 1 ? floor : near - 1));
}

/* One layer over all tokens in chunks of `ub`; lists (n_head x n_tile counts and ids) are hashed into *lists. */
static float *run(shape s, const data *x, const crit_attn_params *p, uint32_t ub, uint32_t threads, uint64_t *lists,
                  double *density) {
    crit_engine *e = NULL;
    crit_kv *kv = NULL;
    crit_plan *plan = NULL;
    assert_int_equal(crit_engine_open(&e, "auto", threads, NULL), CRIT_OK);
    assert_int_equal(crit_kv_open(&kv, e, s.n_kv_head, s.d, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&plan, e, s.n_head, s.n_kv_head, s.d, p, NULL), CRIT_OK);
    float *out = malloc(s.n_tok * x->q_row * sizeof(float));
    assert_non_null(out);
    memset(out, 0xff, s.n_tok * x->q_row * sizeof(float));
    double pairs = 0, all = 0;
    uint64_t hash = 1469598103934665603u;
    for (uint32_t at = 0; at < s.n_tok; at += ub) {
        uint32_t n = s.n_tok - at < ub ? s.n_tok - at : ub;
        assert_int_equal(
            crit_kv_append(kv, x->k + at * x->kv_row, x->kv_row, x->v + at * x->kv_row, x->kv_row, n, NULL), CRIT_OK);
        const float *q = x->q + at * x->q_row;
        assert_int_equal(
            crit_plan_build(plan, kv, q, x->q_row, at, n, s.n_tok - at - n, 1.0f / sqrtf((float)s.d), NULL, NULL),
            CRIT_OK);
        assert_int_equal(crit_attention_run(plan, kv, q, x->q_row, out + at * x->q_row, x->q_row, NULL), CRIT_OK);
        double causal = n * (at + 1.0) + 0.5 * n * (n - 1.0);
        pairs += crit_plan_density(plan) * causal;
        all += causal;
        for (uint32_t t = 0; t < crit_plan_n_tile(plan); t++)
            for (uint32_t h = 0; h < s.n_head; h++) {
                const uint32_t *ids;
                size_t m = crit_plan_row(plan, h, t, &ids);
                uint32_t last = at / TILE * TILE + (t + 1) * TILE - 1;
                if (last >= at + n) last = at + n - 1;
                assert_true(m >= 1);
                for (size_t i = 0; i < m; i++) {
                    if (i) assert_true(ids[i] > ids[i - 1]); /* sorted, unique */
                    hash = (hash ^ ids[i]) * 1099511628211u;
                }
                assert_int_equal(ids[m - 1], last / BLK); /* own tile kept, nothing behind it */
                check_budget(p, s.n_tok, last, ids, m);
            }
    }
    if (lists) *lists = hash;
    if (density) *density = pairs / all;
    crit_plan_close(&plan);
    crit_kv_close(&kv);
    crit_engine_close(&e);
    return out;
}

static const shape shapes[] = {
    {2, 2, 64, 3001}, {3, 1, 128, 2500}, {8, 2, 64, 2817}, {14, 2, 64, 2304}, {8, 1, 128, 1999}};
#define FOR_SHAPES for (size_t si = 0; si < sizeof shapes / sizeof *shapes; si++)

static void same_bits(const float *a, const float *b, size_t n) {
    assert_memory_equal(a, b, n * sizeof(float));
}

static void budgets_are_kept(void **state) {
    (void)state;
    shape s = {1, 1, 64, 4700};
    data x = make(s, 3);
    /* 110 blocks: a little less than the longest tiles have, where a plan is nearly dense. */
    static const struct {
        float theta;
        uint32_t min_tok, max_tok;
    } cases[] = {{0, 0, 110 * BLK}, {1e-6f, 0, 110 * BLK}, {1e-6f, 0, 1000},
                 {100, 700, 0},     {1, 300, 400},         {100, 1 << 20, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        crit_attn_params p = params(CRIT_ATTN_CRITI);
        p.theta = cases[i].theta, p.min_tok = cases[i].min_tok, p.max_tok = cases[i].max_tok;
        double density;
        free(run(s, &x, &p, 1024, 2, NULL, &density)); /* checks every row */
        assert_true(cases[i].min_tok == 1 << 20 ? density == 1 : density < 1);
    }
    drop(&x);
}

static void chunks_and_threads_change_no_bit(void **state) {
    (void)state;
    FOR_SHAPES {
        shape s = shapes[si];
        data x = make(s, 7 + si);
        size_t n = s.n_tok * x.q_row;
        for (int rule = CRIT_ATTN_CRITI; rule <= CRIT_ATTN_PAPER + 2; rule++) {
            int mode = rule > CRIT_ATTN_PAPER ? CRIT_ATTN_CRITI : rule;
            crit_attn_params p = params((crit_attn)mode);
            if (rule > CRIT_ATTN_PAPER) /* the two other ways to a threshold */
                p.power = rule == CRIT_ATTN_PAPER + 1 ? 0 : 2, p.probe = rule == CRIT_ATTN_PAPER + 1 ? 256 : 48;
            uint64_t l0, l1;
            double density;
            float *one = run(s, &x, &p, s.n_tok, 1, &l0, &density);
            if (mode != CRIT_ATTN_DENSE) assert_true(density < 0.98); /* or the law would be about dense only */
            static const struct { uint32_t ub, threads; } other[] = {{512, 2}, {1024, 7}, {2048, 1}};
            for (size_t i = 0; i < 3; i++) {
                float *b = run(s, &x, &p, other[i].ub, other[i].threads, &l1, NULL);
                same_bits(one, b, n);
                free(b);
            }
            free(one);
        }
        drop(&x);
    }
}

/* Where probes get rarer chunks may begin and end anywhere between two of them. */
static void chunks_change_no_bit_where_probes_are_rare(void **state) {
    (void)state;
    const shape s = {2, 1, 16, 18500};
    data x = make(s, 23);
    crit_attn_params p = params(CRIT_ATTN_CRITI);
    p.recall = p.lookup = 0; /* or these heads would keep nearly all */
    double density;
    float *one = run(s, &x, &p, s.n_tok, 2, NULL, &density), *b = run(s, &x, &p, 512, 2, NULL, NULL);
    assert_true(density > 0.02 && density < 0.6);
    same_bits(one, b, s.n_tok * x.q_row);
    free(one), free(b);
    drop(&x);
}

static void tiles_are_enough_for_criti(void **state) {
    (void)state;
    shape s = shapes[2];
    data x = make(s, 3);
    crit_attn_params p = params(CRIT_ATTN_CRITI);
    float *a = run(s, &x, &p, 128, 2, NULL, NULL), *b = run(s, &x, &p, 640, 1, NULL, NULL);
    same_bits(a, b, s.n_tok * x.q_row);
    free(a);
    free(b);
    drop(&x);
}

static void full_budget_equals_dense(void **state) {
    (void)state;
    FOR_SHAPES {
        shape s = shapes[si];
        data x = make(s, 11 + si);
        crit_attn_params dense = params(CRIT_ATTN_DENSE), criti = params(CRIT_ATTN_CRITI),
                         paper = params(CRIT_ATTN_PAPER), floor = criti;
        criti.theta = 0;
        floor.theta = 100;
        floor.min_tok = s.n_tok;
        paper.budget_tok = s.n_tok;
        double density;
        float *d = run(s, &x, &dense, 512, 1, NULL, &density);
        assert_true(fabs(density - 1) < 1e-12);
        const crit_attn_params *full[] = {&criti, &floor, &paper};
        for (size_t i = 0; i < 3; i++) {
            float *f = run(s, &x, full[i], 512, 2, NULL, &density);
            assert_true(fabs(density - 1) < 1e-12);
            same_bits(d, f, s.n_tok * x.q_row);
            free(f);
        }
        free(d);
        drop(&x);
    }
}

/* Changing token t changes no row before it, and no list of a tile that ends before it. */
static void causality(void **state) {
    (void)state;
    shape s = {4, 2, 64, 2600};
    for (int mode = CRIT_ATTN_CRITI; mode <= CRIT_ATTN_PAPER; mode++) {
        crit_attn_params p = params((crit_attn)mode);
        data x = make(s, 23);
        float *a = run(s, &x, &p, 512, 2, NULL, NULL);
        static const uint32_t at[] = {1700, 2047, 2048, 2599};
        for (size_t i = 0; i < 4; i++) {
            data y = make(s, 23);
            for (size_t t = at[i]; t < s.n_tok; t++) {
                for (size_t j = 0; j < y.q_row; j++) y.q[t * y.q_row + j] = 3 * uniform();
                for (size_t j = 0; j < y.kv_row; j++)
                    y.k[t * y.kv_row + j] = 3 * uniform(), y.v[t * y.kv_row + j] = uniform();
            }
            float *b = run(s, &y, &p, 512, 2, NULL, NULL);
            /* Inside the span of tiles (paper: segment) of t lists and the order of sums may change; before it no row
             * may. */
            uint32_t unit = mode == CRIT_ATTN_DENSE ? 1 : mode == CRIT_ATTN_PAPER ? 512 : SPAN;
            same_bits(a, b, (size_t)(at[i] / unit * unit) * x.q_row);
            assert_memory_not_equal(a + at[i] * x.q_row, b + at[i] * x.q_row, x.q_row * sizeof(float));
            free(b);
            drop(&y);
        }
        free(a);
        drop(&x);
    }
}

/* Dense rows against a plain double-precision soft-max on the same f16 keys is checkasm's job; here: the plan is
 * obeyed. */
static void rows_read_only_listed_keys(void **state) {
    (void)state;
    shape s = {2, 1, 64, 2304};
    data x = make(s, 31);
    crit_attn_params p = params(CRIT_ATTN_CRITI);
    crit_engine *e = NULL;
    crit_kv *kv = NULL;
    crit_plan *plan = NULL;
    assert_int_equal(crit_engine_open(&e, NULL, 1, NULL), CRIT_OK);
    assert_int_equal(crit_kv_open(&kv, e, s.n_kv_head, s.d, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&plan, e, s.n_head, s.n_kv_head, s.d, &p, NULL), CRIT_OK);
    assert_int_equal(crit_kv_append(kv, x.k, x.kv_row, x.v, x.kv_row, s.n_tok, NULL), CRIT_OK);
    float scale = 1.0f / 8;
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 4096, scale, NULL, NULL), CRIT_OK);
    float *out = malloc(s.n_tok * x.q_row * sizeof(float));
    assert_int_equal(crit_attention_run(plan, kv, x.q, x.q_row, out, x.q_row, NULL), CRIT_OK);
    double worst = 0;
    for (uint32_t t = 0; t < s.n_tok; t += 17)
        for (uint32_t h = 0; h < s.n_head; h++) {
            const uint32_t *ids;
            size_t m = crit_plan_row(plan, h, t / TILE, &ids);
            double top = -(double)INFINITY, sum = 0, o[64] = {0};
            for (int pass = 0; pass < 2; pass++)
                for (size_t i = 0; i < m; i++)
                    for (uint32_t j = ids[i] * BLK; j < (ids[i] + 1) * BLK && j <= t; j++) {
                        double z = 0;
                        for (uint32_t c = 0; c < s.d; c++)
                            z += (double)x.q[t * x.q_row + h * s.d + c] * (double)x.k[j * x.kv_row + c];
                        z *= (double)scale;
                        if (pass == 0) {
                            top = z > top ? z : top;
                            continue;
                        }
                        sum += exp(z - top);
                        for (uint32_t c = 0; c < s.d; c++) o[c] += exp(z - top) * (double)x.v[j * x.kv_row + c];
                    }
            for (uint32_t c = 0; c < s.d; c++)
                worst = fmax(worst, fabs(o[c] / sum - (double)out[t * x.q_row + h * s.d + c]));
        }
    /* K and V are rounded to f16 (2^-11): logits move by up to about |q||k| 2^-11 scale < 0.01, values by 2^-11. */
    assert_true(worst < 0.02);
    free(out);
    crit_plan_close(&plan);
    crit_kv_close(&kv);
    crit_engine_close(&e);
    drop(&x);
}

/* A larger budget keeps a superset: density grows monotonically and so does what each list holds. */
static void larger_budget_keeps_more(void **state) {
    (void)state;
    shape s = shapes[2];
    data x = make(s, 41);
    double before = 0;
    static const float theta[] = {8, 2, 1, 0.5f, 0.1f, 0};
    for (size_t i = 0; i < 6; i++) {
        crit_attn_params p = params(CRIT_ATTN_CRITI);
        p.theta = theta[i];
        double density;
        free(run(s, &x, &p, 512, 2, NULL, &density));
        assert_true(density >= before);
        before = density;
    }
    assert_true(before == 1);
    drop(&x);
}

/* The prompt's end has a theta of its own, when that is less, and no cap; nothing before it knows. */
static void last_theta_is_for_the_end(void **state) {
    (void)state;
    const shape s = shapes[2];
    const size_t at = 2304; /* a span begins here, and its first tile is the first to reach into the last 512 */
    data x = make(s, 43);
    const size_t n_before = at * x.q_row, n_end = (s.n_tok - at) * x.q_row;
    enum { LOW, LOW_ALL, SAME, HIGH, KEPT, DENSE, CAPPED, N };
    static const struct {
        float theta, last_theta;
        uint32_t last_tok, max_tok;
    } of[N] = {[LOW] = {2, 0.3f, 512, 0}, [LOW_ALL] = {0.3f, 0, 0, 0}, [SAME] = {2, 0, 0, 0},
               [HIGH] = {2, 50, 512, 0},  [KEPT] = {2, 0, 512, 0},     [DENSE] = {0, 0, 0, 0},
               [CAPPED] = {2, 0.3f, 512, 64}};
    float *out[N];
    for (int i = 0; i < N; i++) {
        crit_attn_params p = params(CRIT_ATTN_CRITI);
        p.theta = of[i].theta, p.last_theta = of[i].last_theta, p.last_tok = of[i].last_tok, p.max_tok = of[i].max_tok;
        p.recall = 0, p.lookup = 0; /* theta alone */
        out[i] = run(s, &x, &p, 640, 2, NULL, NULL);
    }
    same_bits(out[LOW], out[SAME], n_before);
    same_bits(out[KEPT], out[SAME], n_before);
    same_bits(out[HIGH], out[SAME], n_before + n_end);
    same_bits(out[LOW] + n_before, out[LOW_ALL] + n_before, n_end);
    same_bits(out[KEPT] + n_before, out[DENSE] + n_before, n_end);
    same_bits(out[CAPPED] + n_before, out[LOW] + n_before, n_end);
    assert_memory_not_equal(out[CAPPED], out[LOW], n_before * sizeof(float));
    assert_memory_not_equal(out[LOW] + n_before, out[SAME] + n_before, n_end * sizeof(float));
    assert_memory_not_equal(out[LOW] + n_before, out[DENSE] + n_before, n_end * sizeof(float));
    for (int i = 0; i < N; i++) free(out[i]);
    drop(&x);
}

/* Mean weight of each block over a tile's queries, outside the first block, in double. */
static void tile_weights(shape s, const data *x, uint32_t head, uint32_t pos, uint32_t n_row, double *w) {
    const uint32_t n_blk = (pos + n_row - 1) / BLK + 1;
    const size_t kv_head = head / (s.n_head / s.n_kv_head);
    double *mass = malloc(n_blk * sizeof *mass);
    assert_non_null(mass);
    memset(w, 0, n_blk * sizeof *w);
    for (uint32_t r = 0; r < n_row; r++) {
        const float *q = x->q + (pos + r) * x->q_row + (size_t)head * s.d;
        double sum = 0;
        memset(mass, 0, n_blk * sizeof *mass);
        for (uint32_t j = 0; j <= pos + r; j++) {
            double dot = 0;
            for (uint32_t i = 0; i < s.d; i++) dot += (double)q[i] * (double)x->k[j * x->kv_row + kv_head * s.d + i];
            const double e = exp(dot / sqrt((double)s.d));
            mass[j / BLK] += e, sum += e;
        }
        const double rest = sum - mass[0] > 0.02 * sum ? sum - mass[0] : 0.02 * sum;
        for (uint32_t b = 1; b < n_blk; b++) w[b] += mass[b] / rest / n_row;
    }
    free(mass);
}

/* The oracle's lists are those of exact weights; 15 % either side of the edge are left to rounding of K and Q. */
static void oracle_keeps_what_weighs(void **state) {
    (void)state;
    const shape s = {3, 1, 64, 2250};
    data x = make(s, 77);
    crit_attn_params p = params(CRIT_ATTN_CRITI);
    p.oracle = 1, p.theta = 1.1f, p.last_tok = 0;
    crit_engine *e = NULL;
    crit_kv *kv = NULL;
    crit_plan *plan = NULL;
    assert_int_equal(crit_engine_open(&e, "auto", 2, NULL), CRIT_OK);
    assert_int_equal(crit_kv_open(&kv, e, s.n_kv_head, s.d, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&plan, e, s.n_head, s.n_kv_head, s.d, &p, NULL), CRIT_OK);
    assert_int_equal(crit_kv_append(kv, x.k, x.kv_row, x.v, x.kv_row, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, 1.0f / sqrtf((float)s.d), NULL, NULL),
                     CRIT_OK);
    double *w = malloc((s.n_tok / BLK + 1) * sizeof *w);
    uint32_t n_kept = 0, n_out = 0;
    assert_non_null(w);
    for (uint32_t t = 1024 / TILE; t < crit_plan_n_tile(plan); t += 3)
        for (uint32_t h = 0; h < s.n_head; h++) {
            const uint32_t *ids, pos = t * TILE, n_row = s.n_tok - pos < TILE ? s.n_tok - pos : TILE;
            const size_t m = crit_plan_row(plan, h, t, &ids);
            if (m == pos / BLK + 1) continue; /* kept nearly everything, so it is dense */
            const double least = (double)p.theta / (pos / BLK + 1);
            tile_weights(s, &x, h, pos, n_row, w);
            for (uint32_t b = 1; b < pos / BLK - LOCAL / BLK; b++) {
                bool kept = false;
                for (size_t i = 0; i < m; i++) kept |= ids[i] == b;
                if (w[b] > 1.15 * least) assert_true(kept);
                if (w[b] < 0.85 * least) assert_false(kept);
                n_kept += w[b] > 1.15 * least, n_out += w[b] < 0.85 * least;
            }
        }
    assert_true(n_kept > 100 && n_out > 100);
    free(w);
    crit_plan_close(&plan);
    crit_kv_close(&kv);
    crit_engine_close(&e);
    float *one = run(s, &x, &p, s.n_tok, 1, NULL, NULL), *two = run(s, &x, &p, 384, 2, NULL, NULL);
    same_bits(one, two, s.n_tok * x.q_row);
    free(one), free(two);
    drop(&x);
}

static void short_prompts(void **state) {
    (void)state;
    static const uint32_t len[] = {1, 2, 31, 32, 33, 127, 128, 129, 511, 512, 513};
    for (size_t i = 0; i < sizeof len / sizeof *len; i++) {
        shape s = {6, 2, 64, len[i]};
        data x = make(s, 50 + i);
        crit_attn_params p = params(CRIT_ATTN_DENSE);
        float *d = run(s, &x, &p, len[i], 1, NULL, NULL);
        for (size_t j = 0; j < s.n_tok * x.q_row; j++) assert_true(isfinite(d[j]));
        for (int mode = CRIT_ATTN_CRITI; mode <= CRIT_ATTN_PAPER; mode += 2) {
            p = params((crit_attn)mode);
            float *b = run(s, &x, &p, 512, 7, NULL, NULL);
            same_bits(d, b, s.n_tok * x.q_row);
            free(b);
        }
        free(d);
        drop(&x);
    }
}

/* Truncating a store and appending the same keys again gives the same plan and result. */
static void truncate_and_append(void **state) {
    (void)state;
    shape s = {4, 2, 64, 2200};
    data x = make(s, 61);
    crit_attn_params p = params(CRIT_ATTN_CRITI);
    float *ref = run(s, &x, &p, s.n_tok, 1, NULL, NULL);
    crit_engine *e = NULL;
    crit_kv *kv = NULL;
    crit_plan *plan = NULL;
    crit_error err;
    assert_int_equal(crit_engine_open(&e, "auto", 2, NULL), CRIT_OK);
    assert_int_equal(crit_kv_open(&kv, e, s.n_kv_head, s.d, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&plan, e, s.n_head, s.n_kv_head, s.d, &p, NULL), CRIT_OK);
    assert_int_equal(crit_kv_append(kv, x.k, x.kv_row, x.v, x.kv_row, 2000, NULL), CRIT_OK);
    assert_int_equal(crit_kv_truncate(kv, 777, NULL), CRIT_OK);
    assert_int_equal(
        crit_kv_append(kv, x.k + 777 * x.kv_row, x.kv_row, x.v + 777 * x.kv_row, x.kv_row, s.n_tok - 777, NULL),
        CRIT_OK);
    assert_int_equal(crit_kv_append(kv, x.k, x.kv_row, x.v, x.kv_row, 2000, &err), CRIT_E_CONTEXT);
    assert_int_equal(crit_kv_len(kv), s.n_tok);
    float *out = malloc(s.n_tok * x.q_row * sizeof(float));
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, 1.0f / 8, NULL, NULL), CRIT_OK);
    assert_int_equal(crit_attention_run(plan, kv, x.q, x.q_row, out, x.q_row, NULL), CRIT_OK);
    same_bits(ref, out, s.n_tok * x.q_row);
    /* A plan that is reset knows nothing of the prompt before, and runs on no store but its own kind. */
    crit_plan_reset(plan);
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, 1.0f / 8, NULL, NULL), CRIT_OK);
    assert_int_equal(crit_attention_run(plan, kv, x.q, x.q_row, out, x.q_row, NULL), CRIT_OK);
    same_bits(ref, out, s.n_tok * x.q_row);
    crit_kv *other = NULL;
    assert_int_equal(crit_kv_open(&other, e, 1, s.d, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_kv_append(other, x.k, x.kv_row, x.v, x.kv_row, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_attention_run(plan, other, x.q, x.q_row, out, x.q_row, &err), CRIT_E_ARG);
    crit_kv_close(&other);
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, NAN, NULL, &err), CRIT_E_ARG);
    free(out);
    free(ref);
    crit_plan_close(&plan);
    crit_kv_close(&kv);
    crit_engine_close(&e);
    drop(&x);
}

static uint64_t lists_of(const crit_plan *plan, uint32_t n_head) {
    uint64_t hash = 1469598103934665603u;
    for (uint32_t t = 0; t < crit_plan_n_tile(plan); t++)
        for (uint32_t h = 0; h < n_head; h++) {
            const uint32_t *ids;
            size_t n = crit_plan_row(plan, h, t, &ids);
            for (size_t i = 0; i < n; i++) hash = (hash ^ ids[i]) * 1099511628211u;
        }
    return hash;
}

/* The published rule fuses with a layer before, but for segments that were dense there; a plan of other queries or
 * segments is no layer before. */
static void fusion_is_with_the_layer_before(void **state) {
    (void)state;
    shape s = {4, 2, 64, 2000};
    data x = make(s, 71), y = make(s, 72);
    crit_attn_params p = params(CRIT_ATTN_PAPER), late = p, fine = p;
    p.seg_len = late.seg_len = 256;
    fine.seg_len = 128;
    late.threshold = s.n_tok; /* all dense */
    crit_engine *e = NULL;
    crit_kv *kv = NULL;
    crit_plan *plan = NULL, *early = NULL, *dense = NULL, *other = NULL;
    crit_error err;
    assert_int_equal(crit_engine_open(&e, "auto", 2, NULL), CRIT_OK);
    assert_int_equal(crit_kv_open(&kv, e, s.n_kv_head, s.d, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&plan, e, s.n_head, s.n_kv_head, s.d, &p, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&early, e, s.n_head, s.n_kv_head, s.d, &p, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&dense, e, s.n_head, s.n_kv_head, s.d, &late, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&other, e, s.n_head, s.n_kv_head, s.d, &fine, NULL), CRIT_OK);
    assert_int_equal(crit_kv_append(kv, x.k, x.kv_row, x.v, x.kv_row, s.n_tok, NULL), CRIT_OK);
    const float scale = 0.125f;
    assert_int_equal(crit_plan_build(early, kv, y.q, x.q_row, 0, s.n_tok, 0, scale, NULL, NULL), CRIT_OK);
    assert_int_equal(crit_plan_build(dense, kv, y.q, x.q_row, 0, s.n_tok, 0, scale, NULL, NULL), CRIT_OK);
    assert_int_equal(crit_plan_build(other, kv, y.q, x.q_row, 0, s.n_tok, 0, scale, NULL, NULL), CRIT_OK);
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, scale, NULL, NULL), CRIT_OK);
    const uint64_t alone = lists_of(plan, s.n_head);
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, scale, early, NULL), CRIT_OK);
    assert_true(lists_of(plan, s.n_head) != alone);
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, scale, dense, NULL), CRIT_OK);
    assert_true(lists_of(plan, s.n_head) == alone);
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, scale, other, &err), CRIT_E_ARG);
    assert_int_equal(crit_kv_truncate(kv, 1536, NULL), CRIT_OK);
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, 1536, 0, scale, early, &err), CRIT_E_ARG);
    crit_plan_close(&plan);
    crit_plan_close(&early);
    crit_plan_close(&dense);
    crit_plan_close(&other);
    crit_kv_close(&kv);
    crit_engine_close(&e);
    drop(&x);
    drop(&y);
}

/* A store of another layout is not what a plan can read. */
static void stores_of_another_layout(void **state) {
    (void)state;
    shape s = {4, 2, 64, 1024};
    data x = make(s, 21);
    crit_engine *e = NULL;
    crit_kv *kv = NULL;
    crit_plan *plan = NULL;
    assert_int_equal(crit_engine_open(&e, NULL, 2, NULL), CRIT_OK);
    assert_int_equal(crit_kv_open(&kv, e, s.n_kv_head, s.d, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_kv_append(kv, x.k, x.kv_row, x.v, x.kv_row, s.n_tok, NULL), CRIT_OK);
    crit_attn_params o;
    crit_attn_params_init(&o);
    assert_int_equal(crit_plan_open(&plan, e, s.n_head, s.n_kv_head, s.d, &o, NULL), CRIT_OK);
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 1, 0.125f, NULL, NULL), CRIT_OK);
    crit_kernels other = *kv->kernels;
    other.kv_layout = other.kv_layout == CRIT_KV_F16 ? CRIT_KV_BF16T : CRIT_KV_F16;
    const crit_kernels *own = kv->kernels;
    float *out = malloc(s.n_tok * x.q_row * sizeof *out);
    assert_non_null(out);
    kv->kernels = &other;
    assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, 0.125f, NULL, NULL), CRIT_E_ARG);
    assert_int_equal(crit_attention_run(plan, kv, x.q, x.q_row, out, x.q_row, NULL), CRIT_E_ARG);
    kv->kernels = own;
    assert_int_equal(crit_attention_run(plan, kv, x.q, x.q_row, out, x.q_row, NULL), CRIT_OK);
    free(out);
    crit_plan_close(&plan);
    crit_kv_close(&kv);
    crit_engine_close(&e);
    drop(&x);
}

/* Attention of one query head's last token over the first n tokens, in double precision; [d]. */
static void exact_row(shape s, const data *x, uint32_t head, uint32_t n, double *out) {
    const float *q = x->q + (n - 1) * x->q_row + (size_t)head * s.d;
    const size_t kv = (size_t)(head / (s.n_head / s.n_kv_head)) * s.d;
    double sum = 0;
    for (uint32_t i = 0; i < s.d; i++) out[i] = 0;
    for (uint32_t t = 0; t < n; t++) {
        double z = 0;
        for (uint32_t i = 0; i < s.d; i++) z += (double)q[i] * (double)x->k[t * x->kv_row + kv + i];
        const double w = exp(z / sqrt(s.d)); /* scores of these numbers are far from overflow */
        sum += w;
        for (uint32_t i = 0; i < s.d; i++) out[i] += w * (double)x->v[t * x->kv_row + kv + i];
    }
    for (uint32_t i = 0; i < s.d; i++) out[i] /= sum;
}

static void decoding(void **state) {
    (void)state;
    static const shape all[] = {
        {4, 4, 64, 40}, {14, 2, 64, 2100}, {3, 1, 80, 1100}, {32, 8, 128, 333}, {70, 1, 8, 500}};
    crit_engine *e[2] = {NULL, NULL}; /* one engine for all shapes: what it keeps has to grow */
    for (uint32_t i = 0; i < 2; i++) assert_int_equal(crit_engine_open(&e[i], "auto", 1 + 2 * i, NULL), CRIT_OK);
    for (size_t si = 0; si < sizeof all / sizeof *all; si++) {
        const shape s = all[si];
        const float scale = 1 / sqrtf((float)s.d);
        data x = make(s, 91 + si);
        float *out[2];
        crit_kv *kv[2] = {NULL, NULL};
        double want[256];
        crit_error err;
        for (int i = 0; i < 2; i++) {
            out[i] = malloc(x.q_row * sizeof(float));
            assert_non_null(out[i]);
            assert_int_equal(crit_kv_open(&kv[i], e[i], s.n_kv_head, s.d, s.n_tok, NULL), CRIT_OK);
            assert_int_equal(crit_attention_decode(kv[i], x.q, s.n_head, scale, out[i], &err), CRIT_E_STATE);
        }
        const uint32_t upto[] = {1, 31, 33, s.n_tok};
        for (size_t u = 0; u < sizeof upto / sizeof *upto; u++) {
            const uint32_t n = upto[u];
            for (int i = 0; i < 2; i++) {
                const uint32_t had = crit_kv_len(kv[i]);
                assert_int_equal(crit_kv_append(kv[i], x.k + had * x.kv_row, x.kv_row, x.v + had * x.kv_row, x.kv_row,
                                                n - had, NULL),
                                 CRIT_OK);
                assert_int_equal(
                    crit_attention_decode(kv[i], x.q + (n - 1) * x.q_row, s.n_head, scale, out[i], &err), CRIT_OK);
            }
            same_bits(out[0], out[1], x.q_row);
            double off = 0, size = 0;
            for (uint32_t h = 0; h < s.n_head; h++) {
                exact_row(s, &x, h, n, want);
                for (uint32_t i = 0; i < s.d; i++) {
                    const double d = (double)out[0][(size_t)h * s.d + i] - want[i];
                    off += d * d;
                    size += want[i] * want[i];
                }
            }
            if (!(off < 4e-4 * size)) fail_msg("shape %zu, %u keys: %g of %g", si, n, sqrt(off), sqrt(size));
        }
        assert_int_equal(crit_attention_decode(kv[0], x.q, s.n_kv_head + 1, scale, out[0], &err),
                         s.n_kv_head == 1 ? CRIT_OK : CRIT_E_ARG);
        assert_int_equal(crit_attention_decode(kv[0], x.q, 0, scale, out[0], &err), CRIT_E_ARG);
        assert_int_equal(crit_attention_decode(kv[0], x.q, s.n_head, NAN, out[0], &err), CRIT_E_ARG);
        assert_int_equal(crit_attention_decode(NULL, x.q, s.n_head, scale, out[0], &err), CRIT_E_ARG);
        for (int i = 0; i < 2; i++) {
            crit_kv_close(&kv[i]);
            free(out[i]);
        }
        drop(&x);
    }
    for (int i = 0; i < 2; i++) crit_engine_close(&e[i]);
}

/* Layers whose plans are all made before the first is run: what an engine's plans share is no layer's own. */
static void plans_of_one_engine(void **state) {
    (void)state;
    const shape s = {14, 2, 64, 2304}, small = {4, 2, 32, 640};
    const crit_attn_params p = params(CRIT_ATTN_CRITI);
    data x[3] = {make(s, 5), make(small, 6), make(s, 7)};
    crit_engine *e = NULL;
    crit_kv *kv[3];
    crit_plan *plan[3];
    float *out[3];
    assert_int_equal(crit_engine_open(&e, "auto", 2, NULL), CRIT_OK);
    for (int i = 0; i < 3; i++) {
        const shape *t = i == 1 ? &small : &s;
        out[i] = malloc(t->n_tok * x[i].q_row * sizeof(float));
        assert_non_null(out[i]);
        assert_int_equal(crit_kv_open(&kv[i], e, t->n_kv_head, t->d, t->n_tok, NULL), CRIT_OK);
        assert_int_equal(crit_kv_append(kv[i], x[i].k, x[i].kv_row, x[i].v, x[i].kv_row, t->n_tok, NULL), CRIT_OK);
        assert_int_equal(crit_plan_open(&plan[i], e, t->n_head, t->n_kv_head, t->d, &p, NULL), CRIT_OK);
        assert_int_equal(crit_plan_build(plan[i], kv[i], x[i].q, x[i].q_row, 0, t->n_tok, 0,
                                         1 / sqrtf((float)t->d), NULL, NULL),
                         CRIT_OK);
    }
    for (int i = 0; i < 3; i++) {
        const shape *t = i == 1 ? &small : &s;
        assert_int_equal(crit_attention_run(plan[i], kv[i], x[i].q, x[i].q_row, out[i], x[i].q_row, NULL), CRIT_OK);
        float *alone = run(*t, &x[i], &p, t->n_tok, 1, NULL, NULL);
        same_bits(out[i], alone, t->n_tok * x[i].q_row);
        free(alone);
    }
    for (int i = 0; i < 3; i++) {
        crit_plan_close(&plan[i]);
        crit_kv_close(&kv[i]);
        free(out[i]);
        drop(&x[i]);
    }
    crit_engine_close(&e);
}

/* What a caller is told of a plan, a store's engine and their memory. */
static void what_is_told(void **state) {
    (void)state;
    const shape s = {8, 2, 64, 2817};
    const float scale = 1.0f / 8;
    const crit_attn_params p = params(CRIT_ATTN_CRITI), all = params(CRIT_ATTN_DENSE);
    data x = make(s, 17);
    crit_engine *e = NULL;
    crit_kv *kv = NULL;
    crit_plan *plan = NULL, *dense = NULL;
    double mass, recall, again = 0;
    uint64_t n_peak;
    float *out = malloc(s.n_tok * x.q_row * sizeof *out);
    assert_non_null(out);
    assert_int_equal(crit_engine_open(&e, NULL, 2, NULL), CRIT_OK);
    assert_int_equal(crit_kv_open(&kv, e, s.n_kv_head, s.d, s.n_tok, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&plan, e, s.n_head, s.n_kv_head, s.d, &p, NULL), CRIT_OK);
    assert_int_equal(crit_plan_open(&dense, e, s.n_head, s.n_kv_head, s.d, &all, NULL), CRIT_OK);
    assert_int_equal(crit_kv_append(kv, x.k, x.kv_row, x.v, x.kv_row, s.n_tok, NULL), CRIT_OK);
    const size_t had = crit_engine_bytes(e), open = crit_plan_bytes(plan);
    assert_true(had > 0 && open > 0 && crit_engine_bytes(NULL) == 0 && crit_plan_bytes(NULL) == 0);
    crit_plan_measured(plan, &mass, &recall, &n_peak);
    assert_true(isnan(mass) && isnan(recall) && n_peak == 0);
    assert_int_equal(crit_attention_run(plan, kv, x.q, x.q_row, out, x.q_row, NULL), CRIT_E_STATE); /* nothing built */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(crit_plan_build(plan, kv, x.q, x.q_row, 0, s.n_tok, 0, scale, NULL, NULL), CRIT_OK);
        crit_plan_measured(plan, &mass, &recall, &n_peak);
        assert_true(mass > 0 && mass < 1 && recall > 0 && recall <= 1 && n_peak > 0);
        if (i) assert_true(fabs(mass - again) < 1e-9); /* both builds tell the same */
        again = mass;
    }
    crit_plan_measured(plan, NULL, NULL, NULL);
    const size_t n_id = (size_t)s.n_head * (s.n_tok / TILE) * (s.n_tok / BLK);
    assert_true(crit_plan_bytes(plan) >= open + n_id * sizeof(uint32_t));
    assert_int_equal(crit_plan_build(dense, kv, x.q, x.q_row, 0, s.n_tok, 0, scale, NULL, NULL), CRIT_OK);
    assert_true(crit_plan_bytes(dense) > open && crit_plan_bytes(dense) < crit_plan_bytes(plan));
    crit_plan_measured(dense, &mass, &recall, &n_peak);
    assert_true(isnan(mass) && isnan(recall) && n_peak == 0);
    assert_int_equal(crit_attention_decode(kv, x.q, s.n_head, scale, out, NULL), CRIT_OK);
    assert_true(crit_engine_bytes(e) >= had + (size_t)s.n_head * s.d * sizeof(float));
    crit_plan_reset(plan);
    crit_plan_measured(plan, &mass, &recall, &n_peak);
    assert_true(isnan(mass) && isnan(recall) && n_peak == 0);
    free(out);
    crit_plan_close(&plan);
    crit_plan_close(&dense);
    crit_kv_close(&kv);
    crit_engine_close(&e);
    drop(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_are_kept),
        cmocka_unit_test(chunks_and_threads_change_no_bit),
        cmocka_unit_test(chunks_change_no_bit_where_probes_are_rare),
        cmocka_unit_test(tiles_are_enough_for_criti),
        cmocka_unit_test(full_budget_equals_dense),
        cmocka_unit_test(causality),
        cmocka_unit_test(rows_read_only_listed_keys),
        cmocka_unit_test(larger_budget_keeps_more),
        cmocka_unit_test(last_theta_is_for_the_end),
        cmocka_unit_test(oracle_keeps_what_weighs),
        cmocka_unit_test(short_prompts),
        cmocka_unit_test(truncate_and_append),
        cmocka_unit_test(fusion_is_with_the_layer_before),
        cmocka_unit_test(stores_of_another_layout),
        cmocka_unit_test(decoding),
        cmocka_unit_test(plans_of_one_engine),
        cmocka_unit_test(what_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
