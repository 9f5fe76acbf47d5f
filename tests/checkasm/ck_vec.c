/* SPDX-License-Identifier: MIT */
/* The rest of a layer: rmsnorm, rope, silu_mul, soft_max, add, and arrays of f16. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkasm.h"
#include "core/core.h"
#include "kernels/c/half.h"

static const size_t sizes[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 127, 576, 896};
enum { N_SIZES = sizeof sizes / sizeof *sizes, N_MAX = 896 };

static const float specials[] = {0.0f,     -0.0f, 1e-40f,   -1e-40f,  1.2e-38f, 1.0f,      -1.0f,  87.0f,    -87.0f,
                                 -87.5f,   88.9f, -88.9f,   -104.0f,  -150.0f,  1e30f,     -1e30f, 65504.0f, 65519.9f,
                                 65520.0f, 6e-8f, 2.98e-8f, 2.99e-8f, INFINITY, -INFINITY, NAN};
enum { N_SPECIALS = sizeof specials / sizeof *specials };

static void fill(ck *s, float *v, size_t n, int kind) {
    ck_fill_normal(s, v, n, kind == 2 ? 30.0f : 1.0f);
    if (kind == 1)
        for (size_t i = 0; i < n; i++) v[i] = specials[ck_u32(s) % N_SPECIALS];
}

static void put(float *dst, const float *src, size_t n) {
    memcpy((void *)dst, (const void *)src, n * sizeof *dst);
}
static float get(const float *p, size_t i) {
    float v;
    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return v;
}

#define EACH_CASE                                                                                                      \
    for (size_t z = 0; z < N_SIZES; z++)                                                                               \
        for (int kind = 0; kind < 3; kind++)                                                                           \
            for (int place = 0; place < CK_PLACES; place++)

static const char *describe(size_t n, int kind, int place) {
    static char note[64];
    snprintf(note, sizeof note, "n %zu kind %d place %d", n, kind, place);
    return note;
}

void ck_test_rmsnorm(ck *s, const ck_row *row) {
    EACH_CASE {
        size_t n = sizes[z];
        float v[N_MAX], w[N_MAX];
        s->note = describe(n, kind, place);
        float *x = ck_alloc(s, n * 4, (ck_place)place), *wt = ck_alloc(s, n * 4, (ck_place)place);
        bool inplace = ck_u32(s) & 1;
        float *y = inplace ? x : ck_alloc(s, n * 4, (ck_place)place);
        fill(s, v, n, kind), fill(s, w, n, 0);
        put(x, v, n), put(wt, w, n);
        ((crit_rmsnorm_fn)row->fn)(x, wt, y, n, 1e-6f);
        double ss = 0;
        for (size_t i = 0; i < n; i++) ss += (double)v[i] * (double)v[i];
        double scale = 1 / sqrt(ss / (double)(n ? n : 1) + (double)1e-6f);
        /* four roundings: the scale, twice the scaling, the weight */
        for (size_t i = 0; i < n; i++) {
            double want = (double)v[i] * scale * (double)w[i];
            if (fabs(want) > 3.4e38) continue;
            ck_near(s, "y", i, 0, (double)get(y, i), want, 5 * 0x1p-24 * fabs(want) + 1e-44 * (1 + fabs((double)w[i])));
        }
        ck_release(s);
    }
}

static void test_rope(ck *s, const ck_row *row, bool neox) {
    static const uint32_t shape[][2] = {{64, 64}, {64, 32}, {8, 2},   {20, 14}, {128, 128},
                                        {10, 10}, {16, 0},  {72, 36}, {24, 22}};
    for (size_t z = 0; z < sizeof shape / sizeof *shape; z++)
        for (int place = 0; place < CK_PLACES; place++) {
            uint32_t d = shape[z][0], rot = shape[z][1];
            size_t n_head = ck_u32(s) % 4, n = n_head * d;
            s->note = describe(d, (int)rot, place);
            float v[3 * 128], c[64], sn[64];
            float *x = ck_alloc(s, n * 4, (ck_place)place), *cv = ck_alloc(s, rot / 2 * 4, (ck_place)place),
                  *sv = ck_alloc(s, rot / 2 * 4, (ck_place)place);
            ck_fill_normal(s, v, n, 2.0f);
            for (uint32_t i = 0; i < rot / 2; i++) {
                float t = ck_uniform(s, -3.2f, 3.2f);
                c[i] = cosf(t), sn[i] = sinf(t);
            }
            put(x, v, n), put(cv, c, rot / 2), put(sv, sn, rot / 2);
            ((crit_rope_fn)row->fn)(x, n_head, d, rot, cv, sv);
            for (size_t h = 0; h < n_head; h++) {
                const float *a = v + h * d;
                for (uint32_t i = 0; i < rot / 2; i++) {
                    uint32_t p = neox ? i : 2 * i, q = neox ? i + rot / 2 : 2 * i + 1;
                    double u = (double)a[p], w = (double)a[q], co = (double)c[i], si = (double)sn[i];
                    double tol = 3 * 0x1p-24 * (fabs(u) + fabs(w));
                    ck_near(s, "x", h, p, (double)get(x, h * d + p), u * co - w * si, tol);
                    ck_near(s, "x", h, q, (double)get(x, h * d + q), u * si + w * co, tol);
                }
                for (uint32_t i = rot; i < d; i++) ck_near(s, "rest", h, i, (double)get(x, h * d + i), (double)a[i], 0);
            }
            ck_release(s);
        }
    if (!s->n_check) s->n_check = 1;
}
void ck_test_rope_norm(ck *s, const ck_row *row) {
    test_rope(s, row, false);
}
void ck_test_rope_neox(ck *s, const ck_row *row) {
    test_rope(s, row, true);
}

void ck_test_silu_mul(ck *s, const ck_row *row) {
    EACH_CASE {
        size_t n = sizes[z];
        float g[N_MAX], u[N_MAX];
        s->note = describe(n, kind, place);
        float *gp = ck_alloc(s, n * 4, (ck_place)place), *up = ck_alloc(s, n * 4, (ck_place)place);
        uint32_t alias = ck_u32(s) % 3;
        float *y = alias == 0 ? gp : alias == 1 ? up : ck_alloc(s, n * 4, (ck_place)place);
        fill(s, g, n, kind), fill(s, u, n, 0);
        put(gp, g, n), put(up, u, n);
        ((crit_silu_mul_fn)row->fn)(gp, up, y, n);
        for (size_t i = 0; i < n; i++) {
            double x = (double)g[i], want = isinf(x) && x < 0 ? -0.0 : x / (1 + exp(-x)) * (double)u[i];
            if (fabs(want) > 3.4e38 && isfinite(x)) continue;
            /* relative 1e-6 (exp, quotient, products); e^g below 2^-126 counts as 0 */
            ck_near(s, "y", i, 0, (double)get(y, i), want, 1e-6 * fabs(want) + 2e-36 * (1 + fabs((double)u[i])));
        }
        ck_release(s);
    }
}

/* Rows of scores, some of them far apart or -inf, some rows of nothing else. */
void ck_test_soft_max(ck *s, const ck_row *row) {
    static const size_t lens[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 33, 513, 896, 5000};
    for (unsigned c = 0; c < 8 * sizeof lens / sizeof *lens; c++) {
        const size_t n = lens[c / 8];
        const float spread = c % 4 == 3 ? 60 : 4;
        float in[5000], top = 0, most = -INFINITY;
        double sum = 0;
        float *x = ck_alloc(s, n * 4, (ck_place)(c % CK_PLACES));
        s->note = describe(n, (int)(c % 8), (int)(c % CK_PLACES));
        ck_fill_normal(s, in, n, spread);
        for (size_t i = 0; i < n; i++) {
            if (c % 8 == 5 && ck_u32(s) % 3 == 0) in[i] = -INFINITY;
            if (c % 8 == 7) in[i] = -INFINITY;
            most = in[i] > most ? in[i] : most;
        }
        put(x, in, n);
        const double got = ((crit_soft_max_fn)row->fn)(x, n, &top);
        ck_near(s, "top", 0, 0, (double)top, (double)most, 0);
        for (size_t i = 0; i < n; i++) {
            const double z = isinf(in[i]) ? -1000 : (double)in[i] - (double)most, want = exp(z);
            ck_near(s, "x", i, 0, (double)get(x, i), want, (4e-7 - 0x1p-24 * z) * want + 2e-38);
            sum += (double)get(x, i);
        }
        ck_near(s, "sum", 0, 0, got, sum, 1e-5 * sum);
        ck_release(s);
    }
}

void ck_test_add(ck *s, const ck_row *row) {
    EACH_CASE {
        size_t n = sizes[z];
        float a[N_MAX], b[N_MAX];
        s->note = describe(n, kind, place);
        float *x = ck_alloc(s, n * 4, (ck_place)place), *y = ck_alloc(s, n * 4, (ck_place)place);
        fill(s, a, n, kind), fill(s, b, n, 0);
        put(x, a, n), put(y, b, n);
        ((crit_add_fn)row->fn)(x, y, n);
        for (size_t i = 0; i < n; i++) ck_near(s, "y", i, 0, (double)get(y, i), (double)(a[i] + b[i]), 0);
        ck_release(s);
    }
}

/* Every run of keys of a block, against f16 or bf16 of each value; what is not asked for keeps its bytes. */
void ck_test_kv_put(ck *s, const ck_row *row) {
    static const uint32_t ds[] = {8, 24, 64, 128, 256};
    const bool bf16t = s->table.kv_layout == CRIT_KV_BF16T;
    for (unsigned c = 0; c < 60; c++) {
        const uint32_t d = ds[c % 5];
        const size_t at = ck_u32(s) % CRIT_BLK_LEN, n = 1 + ck_u32(s) % (CRIT_BLK_LEN - at), stride = d + c % 3 * 5;
        const ck_place place = (ck_place)(c % CK_PLACES);
        s->note = "run of keys";
        float *in[2];
        uint16_t *blk[2];
        for (int w = 0; w < 2; w++) {
            in[w] = ck_alloc(s, ((n - 1) * stride + d) * sizeof(float), place);
            blk[w] = ck_alloc(s, CRIT_BLK_LEN * d * sizeof(uint16_t), place);
            for (size_t j = 0; j < n; j++)
                for (size_t i = 0; i < d; i++) {
                    float x = ldexpf(ck_uniform(s, -2, 2), (int)(ck_u32(s) % 48) - 28);
                    if (c % 6 == 5) x = specials[ck_u32(s) % N_SPECIALS];
                    if (c % 6 == 4) { /* any bits: ties, subnormals, NaN */
                        const uint32_t bits = ck_u32(s) << 16 | (ck_u32(s) & 1 ? 0x8000 : ck_u32(s) & 0xffff);
                        memcpy(&x, &bits, 4);
                    }
                    memcpy((char *)in[w] + 4 * (j * stride + i), &x, 4);
                }
        }
        ((crit_kv_put_fn)row->fn)(in[0], stride, in[1], stride, at, n, d, blk[0], blk[1]);
        for (int w = 0; w < 2; w++)
            for (size_t j = 0; j < CRIT_BLK_LEN; j++)
                for (size_t i = 0; i < d; i++) {
                    uint16_t h;
                    memcpy(&h, (const char *)blk[w] + 2 * (bf16t && w ? i * CRIT_BLK_LEN + j : j * d + i), 2);
                    const bool mine = j >= at && j < at + n;
                    const float x = mine ? get(in[w], (j - at) * stride + i) : 0;
                    const uint16_t want = !mine ? 0xffff : bf16t ? crit_bf16_bits(x) : crit_f16_bits(x);
                    s->n_check++;
                    if (h != want)
                        ck_fail(s, "%c, key %zu value %zu: %04x, want %04x", "kv"[w], j, i, (unsigned)h,
                                (unsigned)want);
                }
        ck_release(s);
    }
}

/* ---- bench: 4,096 values in L1/L2, bytes read and written ---- */

typedef struct vec_arg {
    ck_anyfn fn;
    float a[4096], b[4096], c[4096];
    uint16_t h[4096];
} vec_arg;

static void run_rmsnorm(void *p) {
    vec_arg *v = p;
    ((crit_rmsnorm_fn)v->fn)(v->a, v->b, v->c, 4096, 1e-6f);
}
static void run_rope(void *p) {
    vec_arg *v = p;
    ((crit_rope_fn)v->fn)(v->a, 64, 64, 64, v->b, v->c);
}
static void run_silu(void *p) {
    vec_arg *v = p;
    ((crit_silu_mul_fn)v->fn)(v->a, v->b, v->c, 4096);
}
static void run_soft_max(void *p) {
    vec_arg *v = p;
    float top;
    memcpy(v->c, v->a, sizeof v->c);
    ((crit_soft_max_fn)v->fn)(v->c, 4096, &top);
}
static void run_add(void *p) {
    vec_arg *v = p;
    ((crit_add_fn)v->fn)(v->a, v->b, 4096);
}
static void run_kv_put(void *p) {
    vec_arg *v = p;
    ((crit_kv_put_fn)v->fn)(v->a, 64, v->a + 2048, 64, 0, 32, 64, v->h, v->h + 2048);
}

static void bench(ck *s, const ck_row *row, ck_work work, double bytes, bool angles) {
    static vec_arg v;
    v.fn = row->fn;
    ck_fill_normal(s, v.a, 4096, 1.0f);
    for (size_t i = 0; i < 4096; i++) {
        v.b[i] = angles ? 0.6f : 1e-6f; /* rotations and sums must not grow or vanish over millions of runs */
        v.c[i] = angles ? 0.8f : 0.5f;
        v.h[i] = 0x3c00;
    }
    ck_report(s, "4096 values", ck_time(work, &v), 0, bytes * 4096);
}
void ck_bench_rmsnorm(ck *s, const ck_row *row) {
    bench(s, row, run_rmsnorm, 12, false);
}
void ck_bench_rope_norm(ck *s, const ck_row *row) {
    bench(s, row, run_rope, 8, true);
}
void ck_bench_rope_neox(ck *s, const ck_row *row) {
    bench(s, row, run_rope, 8, true);
}
void ck_bench_silu_mul(ck *s, const ck_row *row) {
    bench(s, row, run_silu, 12, false);
}
void ck_bench_soft_max(ck *s, const ck_row *row) {
    bench(s, row, run_soft_max, 12, false);
}
void ck_bench_add(ck *s, const ck_row *row) {
    bench(s, row, run_add, 12, false);
}
void ck_bench_kv_put(ck *s, const ck_row *row) {
    bench(s, row, run_kv_put, 6, false);
}
