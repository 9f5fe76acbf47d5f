/* SPDX-License-Identifier: MIT */
/* Estimation, selection and block statistics against their formulas in double; bit for bit where the contract says so.
 *
 * Bounds: a chain of n additions or FMAs is off by n 2^-24 of the sum of magnitudes; a soft-max term by its argument's
 * rounding, |x| 2^-23, and exp's own 2^-22. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkasm.h"
#include "core/core.h"
#include "kernels/c/half.h"

static const size_t sizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 64, 101};
#define N_SIZES (sizeof sizes / sizeof *sizes)
static const uint32_t dims[] = {8, 64, 24, 128, 5, 256, 13};

/* ---- block_stats ---- */

void ck_test_block_stats(ck *s, const ck_row *row) {
    crit_block_stats_fn fn = (crit_block_stats_fn)row->fn;
    const bool bf16 = s->table.kv_layout == CRIT_KV_BF16T;
    const uint16_t infinite = bf16 ? 0x7f80 : 0x7c00;
    for (size_t i = 0; i < 42; i++) {
        const uint32_t d = dims[i % 7];
        const size_t n = 1 + ck_u32(s) % 32, cut = ck_u32(s) % (n + 1);
        const ck_place place = (ck_place)(i % CK_PLACES);
        s->note = i % 5 == 4 ? "zeros of both signs" : "finite";
        uint16_t *k = ck_alloc(s, n * d * sizeof *k, place);
        for (size_t j = 0; j < n * d; j++) {
            k[j] = (uint16_t)ck_u32(s);
            if ((k[j] & infinite) == infinite) k[j] &= 0xbfff; /* infinity and NaN become finite */
            if (i % 5 == 4) k[j] &= 0x8000;
        }
        float *st[6], want[3][CRIT_D_HEAD_MAX];
        for (int j = 0; j < 6; j++) st[j] = ck_alloc(s, d * sizeof(float), place);
        fn(k, n, 0, d, st[0], st[1], st[2]);
        fn(k, cut, 0, d, st[3], st[4], st[5]);
        for (size_t t = cut; t < n; t++) fn(k + t * d, 1, t, d, st[3], st[4], st[5]);
        for (size_t e = 0; e < d; e++) {
            for (size_t t = 0; t < n; t++) {
                const float x = bf16 ? crit_bf16_value(k[t * d + e]) : crit_f16_value(k[t * d + e]);
                want[0][e] = t == 0 || x > want[0][e] ? x : want[0][e];
                want[1][e] = t == 0 || x < want[1][e] ? x : want[1][e];
                want[2][e] = t == 0 ? x : want[2][e] + x;
            }
        }
        for (int j = 0; j < 3; j++) {
            ck_same_bits(s, "statistics", st[j], want[j], d * sizeof(float));
            ck_same_bits(s, "in pieces", st[j + 3], want[j], d * sizeof(float));
        }
        ck_release(s);
    }
}

typedef struct stats_work {
    crit_block_stats_fn fn;
    uint16_t k[32 * 64];
    float st[3][64];
} stats_work;
static void run_stats(void *arg) {
    stats_work *w = arg;
    w->fn(w->k, 32, 0, 64, w->st[0], w->st[1], w->st[2]);
}
void ck_bench_block_stats(ck *s, const ck_row *row) {
    static stats_work w;
    w.fn = (crit_block_stats_fn)row->fn;
    ck_report(s, "32 keys, d=64", ck_time(run_stats, &w), 0, sizeof w.k);
}

/* ---- mean_rows ---- */

void ck_test_mean_rows(ck *s, const ck_row *row) {
    crit_mean_rows_fn fn = (crit_mean_rows_fn)row->fn;
    for (size_t i = 0; i < 40; i++) {
        const uint32_t d = dims[i % 7];
        const size_t n = sizes[i % N_SIZES], stride = d + i % 4 * 3;
        const ck_place place = (ck_place)(i % CK_PLACES);
        float *q = ck_alloc(s, ((n - 1) * stride + d) * sizeof *q, place), *rep = ck_alloc(s, d * sizeof *rep, place);
        for (size_t r = 0; r < n; r++) ck_fill_normal(s, q + r * stride, d, 3);
        fn(q, stride, n, d, rep);
        for (size_t e = 0; e < d; e++) {
            double sum = 0, mag = 0;
            for (size_t r = 0; r < n; r++) sum += (double)q[r * stride + e], mag += fabs((double)q[r * stride + e]);
            ck_near(s, "mean", i, e, (double)rep[e], sum / (double)n, ((double)n + 1) * 0x1p-24 * mag / (double)n);
        }
        ck_release(s);
    }
}

typedef struct mean_work {
    crit_mean_rows_fn fn;
    float q[16 * 64], rep[64];
} mean_work;
static void run_mean(void *arg) {
    mean_work *w = arg;
    w->fn(w->q, 64, 16, 64, w->rep);
}
void ck_bench_mean_rows(ck *s, const ck_row *row) {
    static mean_work w;
    w.fn = (crit_mean_rows_fn)row->fn;
    ck_report(s, "16 rows, d=64", ck_time(run_mean, &w), 0, sizeof w.q);
}

/* ---- score ---- */

void ck_test_score(ck *s, const ck_row *row) {
    crit_score_fn fn = (crit_score_fn)row->fn;
    for (size_t i = 0; i < 44; i++) {
        const uint32_t d = dims[i % 7], n_rep = (uint32_t)(1 + i % 8);
        const size_t n = sizes[i % N_SIZES];
        const float scale = 1 / sqrtf((float)d);
        const ck_place place = (ck_place)(i % CK_PLACES);
        float *rep = ck_alloc(s, n_rep * d * sizeof *rep, place), *kvec = ck_alloc(s, n * d * sizeof *kvec, place);
        float *z = ck_alloc(s, n * 8 * sizeof *z, place), one[8];
        ck_fill_normal(s, rep, n_rep * d, 2), ck_fill_normal(s, kvec, n * d, 1);
        fn(rep, n_rep, kvec, n, d, scale, z);
        for (size_t b = 0; b < n; b++) {
            for (size_t r = 0; r < 8; r++) {
                double sum = 0, mag = 0;
                for (size_t e = 0; e < d && r < n_rep; e++) {
                    const double x = (double)rep[r * d + e] * (double)kvec[b * d + e];
                    sum += x, mag += fabs(x);
                }
                ck_near(s, "z", b, r, (double)z[b * 8 + r], (double)scale * sum,
                        (d + 2) * 0x1p-24 * (double)scale * mag);
            }
        }
        const size_t b = ck_u32(s) % n;
        fn(rep, n_rep, kvec + b * d, 1, d, scale, one);
        ck_same_bits(s, "block alone", one, z + b * 8, sizeof one);
        ck_release(s);
    }
    s->note = "infinite block vector";
    float rep[8] = {1, 2, 3, 4, 5, 6, 7, 8}, kvec[8] = {INFINITY, 1, 1, 1, 1, 1, 1, 1}, z[8];
    fn(rep, 1, kvec, 1, 8, 1.0f, z);
    for (size_t r = 0; r < 8; r++) ck_near(s, "z", 0, r, (double)z[r], r ? 0 : (double)INFINITY, 0);
}

typedef struct score_work {
    crit_score_fn fn;
    float rep[8 * 64], kvec[512 * 64], z[512 * 8];
} score_work;
static void run_score(void *arg) {
    score_work *w = arg;
    w->fn(w->rep, 8, w->kvec, 512, 64, 0.125f, w->z);
}
void ck_bench_score(ck *s, const ck_row *row) {
    static score_work w;
    w.fn = (crit_score_fn)row->fn;
    ck_fill_normal(s, w.rep, 8 * 64, 1), ck_fill_normal(s, w.kvec, 512 * 64, 1);
    ck_report(s, "8 x 512 blocks, d=64", ck_time(run_score, &w), 2.0 * 8 * 512 * 64, 0);
}

/* ---- share ---- */

void ck_test_share(ck *s, const ck_row *row) {
    crit_share_fn fn = (crit_share_fn)row->fn;
    static const char *const kinds[] = {"normal",          "wide",     "all equal", "a column of -inf",
                                        "entries of -inf", "all -inf", "huge"};
    for (size_t i = 0; i < 154; i++) {
        const size_t n = sizes[i % N_SIZES], how = i % 7, stride = n + i % 3;
        const uint32_t n_rep = (uint32_t)(1 + i % 8), n_tile = i < 77 ? 1 : 1 + ck_u32(s) % (8 / n_rep);
        s->note = kinds[how];
        float *z = ck_alloc(s, n * 8 * sizeof *z, (ck_place)(i % CK_PLACES)),
              *share = ck_alloc(s, ((n_tile - 1) * stride + n) * sizeof *share, (ck_place)(i % CK_PLACES));
        double *want = calloc(2 * n * n_tile, sizeof *want), *tol = want + n * n_tile, live[8] = {0};
        for (size_t j = 0; j < n * 8; j++) {
            z[j] = (how == 1 ? 40.0f : how == 6 ? 1e30f : 2.0f) * ck_normal(s);
            if (how == 2) z[j] = -3.5f;
            if (how == 5 || (how == 3 && j % 8 == 0) || (how == 4 && j / 8 % 3)) z[j] = -INFINITY;
            if (j % 8 >= n_rep * n_tile) z[j] = i % 2 ? 0 : NAN; /* the unused columns do not count */
        }
        for (size_t r = 0; r < n_rep * n_tile; r++) {
            double top = -(double)INFINITY, sum = 0;
            for (size_t b = 0; b < n; b++) top = fmax(top, (double)z[b * 8 + r]);
            if (isinf(top)) continue;
            live[r / n_rep]++;
            for (size_t b = 0; b < n; b++) sum += exp((double)z[b * 8 + r] - top);
            for (size_t b = 0; b < n; b++) {
                const double x = (double)z[b * 8 + r] - top, p = exp(x) / (sum * n_rep);
                want[r / n_rep * n + b] += p;
                if (p > 0) tol[r / n_rep * n + b] += p * (fabs(x) * 0x1p-22 + ((double)n + 16) * 0x1p-24 + 0x1p-21);
            }
        }
        fn(z, n, n_rep, n_tile, share, stride);
        for (size_t t = 0; t < n_tile; t++) {
            double whole = 0;
            for (size_t b = 0; b < n; b++) {
                ck_near(s, "share", t, b, (double)share[t * stride + b], want[t * n + b], tol[t * n + b] + 0x1p-99);
                whole += (double)share[t * stride + b];
            }
            ck_near(s, "sum", t, 0, whole, live[t] / n_rep, ((double)n + 16) * 0x1p-22);
        }
        free(want);
        ck_release(s);
    }
}

typedef struct share_work {
    crit_share_fn fn;
    float z[512 * 8], share[4 * 512];
} share_work;
static void run_share(void *arg) {
    share_work *w = arg;
    w->fn(w->z, 512, 2, 4, w->share, 512);
}
void ck_bench_share(ck *s, const ck_row *row) {
    static share_work w;
    w.fn = (crit_share_fn)row->fn;
    ck_fill_normal(s, w.z, 512 * 8, 1);
    ck_report(s, "512 blocks, 4 tiles", ck_time(run_share, &w), 0, sizeof w.z);
}

/* ---- minmax_score ---- */

void ck_test_minmax_score(ck *s, const ck_row *row) {
    crit_minmax_score_fn fn = (crit_minmax_score_fn)row->fn;
    for (size_t i = 0; i < 44; i++) {
        const uint32_t d = dims[i % 7];
        const size_t n = sizes[i % N_SIZES];
        const ck_place place = (ck_place)(i % CK_PLACES);
        const float w = i % 3 ? 0.25f : 1.0f;
        const int add = i % 2;
        float *q = ck_alloc(s, d * sizeof *q, place), *hi = ck_alloc(s, n * d * sizeof *hi, place);
        float *lo = ck_alloc(s, n * d * sizeof *lo, place), *a = ck_alloc(s, n * sizeof *a, place),
              *old = ck_alloc(s, n * sizeof *old, place), one;
        ck_fill_normal(s, q, d, 2), ck_fill_normal(s, hi, n * d, 1);
        for (size_t j = 0; j < n * d; j++) lo[j] = hi[j] - ck_uniform(s, 0, 3);
        if (add) ck_fill_normal(s, a, n, 5), memcpy(old, a, n * sizeof *a);
        fn(q, hi, lo, n, d, w, add, a);
        for (size_t b = 0; b < n; b++) {
            double mid = 0, half = 0, mag = 0;
            for (size_t e = 0; e < d; e++) {
                const double h = (double)hi[b * d + e], l = (double)lo[b * d + e], x = (double)q[e];
                mid += x * (h + l) / 2, half += x * (h - l) / 2, mag += fabs(x) * (fabs(h) + fabs(l));
            }
            const double was = add ? (double)old[b] : 0;
            ck_near(s, "a", b, 0, (double)a[b], was + (double)w * (mid + fabs(half)),
                    (d + 4) * 0x1p-24 * (double)w * mag + 0x1p-23 * (fabs(was) + fabs((double)a[b])));
        }
        if (!add) {
            const size_t b = ck_u32(s) % n;
            fn(q, hi + b * d, lo + b * d, 1, d, w, 0, &one);
            ck_same_bits(s, "block alone", &one, a + b, sizeof one);
        }
        ck_release(s);
    }
}

typedef struct minmax_work {
    crit_minmax_score_fn fn;
    float q[64], hi[512 * 64], lo[512 * 64], a[512];
} minmax_work;
static void run_minmax(void *arg) {
    minmax_work *w = arg;
    w->fn(w->q, w->hi, w->lo, 512, 64, 1, 0, w->a);
}
void ck_bench_minmax_score(ck *s, const ck_row *row) {
    static minmax_work w;
    w.fn = (crit_minmax_score_fn)row->fn;
    ck_report(s, "512 blocks, d=64", ck_time(run_minmax, &w), 4.0 * 512 * 64, 0);
}

/* ---- select_above ---- */

void ck_test_select_above(ck *s, const ck_row *row) {
    crit_select_above_fn fn = (crit_select_above_fn)row->fn;
    static const float levels[] = {0.0f, 0.25f, 0.5f, 1.0f, -1.0f, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < 160; i++) {
        const size_t n = i % 12 ? sizes[i % N_SIZES] : 0;
        const float thresh = levels[i % 8];
        const uint32_t b0 = i % 3 ? ck_u32(s) % 1000 : 0;
        const ck_place place = (ck_place)(i % CK_PLACES);
        float *share = ck_alloc(s, n * sizeof *share, place);
        uint32_t *out = ck_alloc(s, n * sizeof *out, place), want[128];
        size_t m = 0;
        for (size_t b = 0; b < n; b++) {
            share[b] = levels[ck_u32(s) % 8];
            if (i % 2) share[b] = ck_uniform(s, -0.5f, 1);
            if (share[b] > thresh) want[m++] = b0 + (uint32_t)b;
        }
        const size_t got = fn(share, n, thresh, b0, out);
        ck_near(s, "count", i, n, (double)got, (double)m, 0);
        if (got == m) ck_same_bits(s, "ids", out, want, m * sizeof *want);
        ck_release(s);
    }
}

typedef struct select_work {
    crit_select_above_fn fn;
    float share[4096];
    uint32_t out[4096];
} select_work;
static void run_select(void *arg) {
    select_work *w = arg;
    w->fn(w->share, 4096, 0.8f, 1, w->out);
}
void ck_bench_select_above(ck *s, const ck_row *row) {
    static select_work w;
    w.fn = (crit_select_above_fn)row->fn;
    for (size_t i = 0; i < 4096; i++) w.share[i] = ck_uniform(s, 0, 1);
    ck_report(s, "4096 shares, a fifth kept", ck_time(run_select, &w), 0, sizeof w.share);
}
