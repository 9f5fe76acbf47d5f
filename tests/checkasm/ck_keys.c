/* SPDX-License-Identifier: MIT */
/* key_scores against dot products in double, mix_values bit for bit against its chain of fma, and what neither may
 * depend on: rows beside, keys beside, cuts, bytes behind the last key. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkasm.h"
#include "core/core.h"
#include "kernels/c/half.h"

enum { B = CRIT_BLK_LEN };

static const uint32_t dims[] = {8, 16, 24, 40, 64, 72, 80, 96, 112, 128, 200, 256};
static const size_t counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 101, 128, 131};
#define N_DIMS   (sizeof dims / sizeof *dims)
#define N_COUNTS (sizeof counts / sizeof *counts)

static bool bf16t(const ck *s) {
    return s->table.kv_layout == CRIT_KV_BF16T;
}
static uint16_t narrow(const ck *s, float x) {
    return bf16t(s) ? crit_bf16_bits(x) : crit_f16_bits(x);
}
static float wide(const ck *s, uint16_t h) {
    return bf16t(s) ? crit_bf16_value(h) : crit_f16_value(h);
}

/* CK_MIS4 is off by 4 bytes; 16-bit rows may be off by 2. */
static uint16_t *alloc16(ck *s, size_t n, size_t i, uint16_t **whole) {
    const size_t off = i % 2;
    *whole = ck_alloc(s, (n + off) * sizeof **whole, (ck_place)(i % CK_PLACES));
    return *whole + off;
}

/* ---- key_scores ---- */

/* Magnitudes of the kinds of cases: subnormal f16 keys among them. */
static const float sigmas[] = {1, 0x1p-16f, 200};
static const char *const sigma_name[] = {"normal keys", "subnormal keys", "large keys"};

static void test_scores(ck *s, crit_key_scores_fn fn, size_t i, uint32_t d, uint32_t n_row, size_t n_key) {
    const ck_place place = (ck_place)((i + 1) % CK_PLACES);
    const size_t q_stride = d + i % 3 * 5, s_stride = n_key + i % 4 * 3;
    const float scale = i % 5 ? 1 / sqrtf((float)d) : 1.0f, sigma = sigmas[i % 3];
    s->note = sigma_name[i % 3];
    uint16_t *whole, *k = alloc16(s, n_key * d, i, &whole);
    float *q = ck_alloc(s, ((n_row - 1) * q_stride + d) * sizeof *q, place);
    float *out = ck_alloc(s, ((n_row - 1) * s_stride + n_key) * sizeof *out, place), one[CRIT_REP_MAX][B * 5];
    for (size_t r = 0; r < n_row; r++) ck_fill_normal(s, q + r * q_stride, d, 2);
    for (size_t j = 0; j < n_key * d; j++) k[j] = narrow(s, i % 11 == 10 ? -0.0f : sigma * ck_normal(s));
    fn(q, q_stride, n_row, k, n_key, d, scale, out, s_stride);
    for (size_t r = 0; r < n_row; r++) {
        for (size_t j = 0; j < n_key; j++) {
            double sum = 0, mag = 0;
            for (size_t e = 0; e < d; e++) {
                const double x = (double)q[r * q_stride + e] * (double)wide(s, k[j * d + e]);
                sum += x, mag += fabs(x);
            }
            ck_near(s, "s", r, j, (double)out[r * s_stride + j], (double)scale * sum,
                    (d + 2) * 0x1p-24 * (double)scale * mag);
        }
        /* between the rows */
        if (r + 1 < n_row)
            for (size_t j = n_key; j < s_stride; j++) {
                uint32_t bits;
                memcpy(&bits, out + r * s_stride + j, sizeof bits);
                if (bits != UINT32_MAX) ck_fail(s, "wrote behind row %zu", r);
            }
    }
    for (size_t r = 0; r < n_row; r++) {
        fn(q + r * q_stride, q_stride, 1, k, n_key, d, scale, one[0], B * 5);
        ck_same_bits(s, "row alone", one[0], out + r * s_stride, n_key * sizeof **one);
    }
    const size_t from = ck_u32(s) % n_key, n = 1 + ck_u32(s) % (n_key - from);
    fn(q, q_stride, n_row, k + from * d, n, d, scale, *one, B * 5);
    for (size_t r = 0; r < n_row; r++)
        ck_same_bits(s, "run of keys", one[r], out + r * s_stride + from, n * sizeof **one);
    ck_release(s);
}

void ck_test_key_scores(ck *s, const ck_row *row) {
    crit_key_scores_fn fn = (crit_key_scores_fn)row->fn;
    size_t i = 0;
    for (size_t a = 0; a < N_DIMS; a++)
        for (uint32_t n_row = 1; n_row <= CRIT_REP_MAX; n_row++)
            for (size_t n = 0; n < 4; n++, i++) test_scores(s, fn, i, dims[a], n_row, counts[(i * 5 + n) % N_COUNTS]);
    s->note = "nothing to do";
    float q[8] = {0}, out = 7;
    const uint16_t k[8] = {0};
    fn(q, 8, 1, k, 0, 8, 1, &out, 1);
    fn(q, 8, 0, k, 1, 8, 1, &out, 1);
    ck_near(s, "untouched", 0, 0, (double)out, 7, 0);
}

/* ---- mix_values ---- */

/* Where value e of key j is in the level's blocks. */
static size_t v_at(const ck *s, size_t d, size_t j, size_t e) {
    return j / B * B * d + (bf16t(s) ? e * B + j % B : j % B * d + e);
}

static void test_mix(ck *s, crit_mix_values_fn fn, size_t i, uint32_t d, uint32_t n_row, size_t n_key) {
    const ck_place place = (ck_place)((i + 1) % CK_PLACES);
    const size_t p_stride = n_key + i % 4 * 3, o_stride = d + i % 3 * 5, n_all = (n_key + B - 1) / B * B;
    s->note = i % 2 ? "NaN behind the last key" : "infinity behind the last key";
    uint16_t *whole, *v = alloc16(s, n_all * d, i, &whole);
    float *p = ck_alloc(s, ((n_row - 1) * p_stride + n_key) * sizeof *p, place);
    float *o = ck_alloc(s, ((n_row - 1) * o_stride + d) * sizeof *o, place);
    float old[CRIT_REP_MAX][CRIT_D_HEAD_MAX], one[CRIT_REP_MAX][CRIT_D_HEAD_MAX], x[2][CRIT_D_HEAD_MAX];
    for (size_t j = 0; j < n_all * d; j++) v[j] = i % 2 ? 0xffff : bf16t(s) ? 0x7f80 : 0x7c00;
    for (size_t j = 0; j < n_key; j++) {
        ck_fill_normal(s, x[0], d, 1), ck_fill_normal(s, x[1], d, i % 7 == 6 ? 0x1p-16f : 1);
        uint16_t k[B * CRIT_D_HEAD_MAX];
        s->table.kv_put(x[0], d, x[1], d, j % B, 1, d, k, v + j / B * B * d);
    }
    for (size_t r = 0; r < n_row; r++) {
        for (size_t j = 0; j < n_key; j++) p[r * p_stride + j] = i % 3 ? ck_uniform(s, 0, 1) : ck_normal(s);
        ck_fill_normal(s, o + r * o_stride, d, 3);
        memcpy(old[r], o + r * o_stride, d * sizeof **old);
    }
    fn(p, p_stride, n_row, v, n_key, d, o, o_stride);
    for (size_t r = 0; r < n_row; r++) {
        float want[CRIT_D_HEAD_MAX];
        for (size_t e = 0; e < d; e++) {
            double sum = (double)old[r][e], mag = fabs(sum);
            want[e] = old[r][e];
            for (size_t j = 0; j < n_key; j++) {
                const float y = wide(s, v[v_at(s, d, j, e)]), w = p[r * p_stride + j];
                want[e] = fmaf(w, y, want[e]);
                sum += (double)w * (double)y, mag += fabs((double)w * (double)y);
            }
            ck_near(s, "o", r, e, (double)o[r * o_stride + e], sum, (double)n_key * 0x1p-24 * mag);
        }
        ck_same_bits(s, "chain", o + r * o_stride, want, d * sizeof *want);
        memcpy(one[0], old[r], sizeof *one);
        fn(p + r * p_stride, p_stride, 1, v, n_key, d, one[0], d);
        ck_same_bits(s, "row alone", one[0], o + r * o_stride, d * sizeof **one);
        if (r + 1 < n_row)
            for (size_t e = d; e < o_stride; e++) {
                uint32_t bits;
                memcpy(&bits, o + r * o_stride + e, sizeof bits);
                if (bits != UINT32_MAX) ck_fail(s, "wrote behind row %zu", r);
            }
    }
    const size_t cut = ck_u32(s) % (n_key / B + 1) * B;
    memcpy(one, old, sizeof one);
    fn(p, p_stride, n_row, v, cut, d, *one, CRIT_D_HEAD_MAX);
    fn(p + cut, p_stride, n_row, v + cut * d, n_key - cut, d, *one, CRIT_D_HEAD_MAX);
    for (size_t r = 0; r < n_row; r++) ck_same_bits(s, "cut", one[r], o + r * o_stride, d * sizeof **one);
    ck_release(s);
}

void ck_test_mix_values(ck *s, const ck_row *row) {
    crit_mix_values_fn fn = (crit_mix_values_fn)row->fn;
    size_t i = 0;
    for (size_t a = 0; a < N_DIMS; a++)
        for (uint32_t n_row = 1; n_row <= CRIT_REP_MAX; n_row++)
            for (size_t n = 0; n < 4; n++, i++) test_mix(s, fn, i, dims[a], n_row, counts[(i * 5 + n) % N_COUNTS]);
    s->note = "nothing to do";
    float p = 1, o[8] = {7};
    const uint16_t v[B * 8] = {0};
    fn(&p, 1, 1, v, 0, 8, o, 8);
    fn(&p, 1, 0, v, 1, 8, o, 8);
    ck_near(s, "untouched", 0, 0, (double)o[0], 7, 0);
}

/* ---- bench: K or V of 32,768 keys, behind one another in memory larger than any cache ---- */

enum { KEYS = 32768, WHOLE = 64 << 20 };

typedef struct keys_work {
    ck_anyfn fn;
    bool mix;
    uint32_t d, n_row;
    size_t at;
    uint16_t *kv;
    float *q, *s; /* [8][CRIT_D_HEAD_MAX]: q or o; [8][KEYS]: s or p */
} keys_work;

static void run_keys(void *arg) {
    keys_work *w = arg;
    const size_t bytes = KEYS * sizeof(uint16_t) * w->d;
    const uint16_t *kv = w->kv + w->at / sizeof *kv;
    w->at = (w->at + bytes) % WHOLE;
    if (w->mix)
        ((crit_mix_values_fn)w->fn)(w->s, KEYS, w->n_row, kv, KEYS, w->d, w->q, w->d);
    else
        ((crit_key_scores_fn)w->fn)(w->q, w->d, w->n_row, kv, KEYS, w->d, 0.125f, w->s, KEYS);
}

static void bench_keys(ck *s, const ck_row *row, bool mix) {
    static const uint32_t rows[] = {1, 4, 7, 8};
    static const char *const label[] = {"d=64, 1 row",  "d=64, 4 rows",  "d=64, 7 rows",  "d=64, 8 rows",
                                        "d=128, 1 row", "d=128, 4 rows", "d=128, 7 rows", "d=128, 8 rows"};
    keys_work w = {.fn = row->fn, .mix = mix};
    w.kv = malloc(WHOLE), w.q = malloc(8 * CRIT_D_HEAD_MAX * sizeof *w.q), w.s = malloc(8 * KEYS * sizeof *w.s);
    if (w.kv && w.q && w.s) {
        for (size_t j = 0; j < WHOLE / sizeof *w.kv; j++) w.kv[j] = narrow(s, ck_uniform(s, -1, 1));
        for (size_t i = 0; i < 8; i++) {
            w.d = i < 4 ? 64 : 128, w.n_row = rows[i % 4], w.at = 0;
            ck_fill_normal(s, w.q, 8 * CRIT_D_HEAD_MAX, 1);
            for (size_t j = 0; j < 8 * KEYS; j++) w.s[j] = 0x1p-15f;
            ck_report(s, label[i], ck_time(run_keys, &w), 0, KEYS * sizeof *w.kv * (double)w.d);
        }
    }
    free(w.kv), free(w.q), free(w.s);
}

void ck_bench_key_scores(ck *s, const ck_row *row) {
    bench_keys(s, row, false);
}
void ck_bench_mix_values(ck *s, const ck_row *row) {
    bench_keys(s, row, true);
}
