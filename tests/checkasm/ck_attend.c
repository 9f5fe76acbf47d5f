/* SPDX-License-Identifier: MIT */
/* attend and block_lse against soft-max in double, and what a row may not depend on.
 *
 * Bounds.  Exponents are off by E = (d + 16) 2^-24 scale max_j sum|q||k_j|, so weights by a factor 1 +- (E + 2^-22),
 * the 2^-22 being exp's; sums of n terms by n 2^-24.  Both enter the quotient out = sum p v / sum p twice.  Blocks that
 * are not listed and keys behind n_key hold NaN throughout.
 *
 * A level of the layout KV_BF16T also rounds q, to bf16 after scale * log2 e was multiplied into it, and P to bf16
 * before P V and before the sum.  A bf16 has 8 bits: rounding is off by 2^-8 relative at most (half of 2^-7, just above
 * a power of 2), and P's exponent is rounded to 1/128, which is 2^-8 ln 2 in P.  So two oracles: one takes q as the
 * kernel rounds it, and then only those two, 2^-8 (1 + ln 2) and their product, come on top of the bound above; the
 * other takes q as given, and E grows by 2^-8 scale max_j sum|q||k_j|.  The first is the sharp test, the second the
 * contract.  Every case packs K and V by the level's own kv_put, and the oracles read what it left.
 *
 * A level that multiplies 16-bit integers is held against the bound of its contract, and since that lets all roundings
 * agree, against what is to be expected of independent ones: in the root mean square half a unit becomes 1 / sqrt(12) of
 * one, and 64 roundings of P sqrt(64) of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkasm.h"
#include "core/core.h"
#include "kernels/c/half.h"

enum { B = CRIT_BLK_LEN };

typedef enum kind {
    NORMAL,
    EQUAL,
    HUGE_LOGITS,
    RISING,
    RISING_SLOWLY,
    FALLING,
    FAR_DOWN,
    OVERFLOW_RANGE,
    SUBNORMAL,
    ZERO_VALUES,
    KINDS
} kind;
static const char *const kind_name[] = {"normal",      "all keys equal",        "huge logits",
                                        "rising keys", "slowly rising",         "falling",
                                        "far below 0", "around exp's overflow", "subnormal keys",
                                        "zero values, then huge"};

typedef struct shape {
    uint32_t d, n_row;
    size_t pos0, n_key, q_stride, out_stride;
    int causal;
    double density;
} shape;

typedef struct pcase {
    crit_attend_args a;
    size_t n_all; /* blocks in the store */
    uint32_t *blk;
} pcase;

/* Whether the row's level keeps K and V as KV_BF16T; otherwise it is KV_F16. */
static bool bf16t(const ck *s) {
    return s->table.kv_layout == CRIT_KV_BF16T;
}

static float clamped(float x) { /* stays finite as f16 */
    return fminf(fmaxf(x, -65504), 65504);
}

static double k_value(const ck *s, const uint16_t *k, size_t d, size_t j, size_t e) {
    return (double)(bf16t(s) ? crit_bf16_value(k[j * d + e]) : crit_f16_value(k[j * d + e]));
}
static double v_value(const ck *s, const uint16_t *v, size_t d, size_t j, size_t e) {
    return (double)(bf16t(s) ? crit_bf16_value(v[j / B * B * d + e * B + j % B]) : crit_f16_value(v[j * d + e]));
}

/* Key j of a store from f32 values. */
static void put_key(const ck *s, uint16_t *k, uint16_t *v, size_t d, size_t j, const float *x, const float *y) {
    const size_t blk = j / B * B * d;
    s->table.kv_put(x, d, y, d, j % B, 1, (uint32_t)d, k + blk, v + blk);
}

/* Whether this call multiplies 16-bit integers. */
static bool i16(const ck *s, const crit_attend_args *a) {
    return a->causal && s->table.attend_kind == CRIT_ACT_I16;
}

/* What the units of q and k lose in the score of a key: the most there can be, and in the mean square. */
typedef struct loss {
    double most, rms;
} loss;

static loss score_loss(const ck *s, const crit_attend_args *a, const float *q, size_t j) {
    double q1 = 0, q2 = 0, k1 = 0, k2 = 0;
    if (!i16(s, a)) return (loss){0};
    for (size_t e = 0; e < a->d; e++) {
        const double x = (double)q[e], y = k_value(s, a->k, a->d, j, e);
        q1 += fabs(x), q2 += x * x, k1 += fabs(y), k2 += y * y;
    }
    return (loss){CRIT_ATTEND_UNIT * (double)a->scale * (sqrt(q2) * k1 + sqrt(k2) * q1),
                  (double)a->scale * sqrt(q2 * k2 / 6) / 32767};
}

/* Squares of the errors of a case, and of what they are expected to be at most. */
typedef struct squares {
    double off, expected;
} squares;

/* The q that the kernel multiplies by k: as given, or as a KV_BF16T level rounds it. */
static double q_value(float q, float scale, bool rounded) {
    if (!rounded) return (double)scale * (double)q;
    return (double)crit_bf16_value(crit_bf16_bits(q * (scale * 0x1.715476p+0f))) * 0x1.62e42fefa39efp-1;
}

/* Error of a soft-max weight beside the exponent's. */
static double weight_error(const ck *s) {
    return bf16t(s) ? 0x1p-8 * (1 + 0x1.62e43p-1) + 0x1p-16 : 0x1p-22;
}

/* Fills q, k and v; the logit of key j is steered through element 0, where every q is 1 / scale. */
static void fill(ck *s, pcase *c, const shape *sh, kind how) {
    float *q = (float *)(uintptr_t)c->a.q;
    uint16_t *k = (uint16_t *)(uintptr_t)c->a.k, *v = (uint16_t *)(uintptr_t)c->a.v;
    const float sigma = how == HUGE_LOGITS ? 30.0f : how == NORMAL ? 2.0f : 0.5f;
    for (size_t r = 0; r < sh->n_row; r++) {
        for (size_t i = 0; i < sh->d; i++) {
            float x = sigma * ck_normal(s);
            if (i == 0 && how != NORMAL && how != HUGE_LOGITS) x = 1 / c->a.scale;
            q[r * sh->q_stride + i] = x;
        }
    }
    float kx[CRIT_D_HEAD_MAX], vx[CRIT_D_HEAD_MAX];
    for (size_t n = 0; n < c->a.n_blk; n++) {
        for (size_t j = c->blk[n] * (size_t)B; j < (c->blk[n] + (size_t)1) * B && j < sh->n_key; j++) {
            for (size_t i = 0; i < sh->d; i++) {
                float x = ck_normal(s), y = ck_normal(s);
                if (how == EQUAL) x = 0.25f;
                if (how == SUBNORMAL) x *= 0x1p-16f, y *= 0x1p-16f;
                if (i == 0) {
                    if (how == RISING) x = 3.0f * (float)j;
                    if (how == RISING_SLOWLY) x = 0.2f * (float)j;
                    if (how == FALLING) x = -1.5f * (float)j;
                    if (how == FAR_DOWN) x = -60000.0f;
                    if (how == OVERFLOW_RANGE) x = (j & 1 ? 88.7f : -87.5f) + 0.1f * ck_normal(s);
                }
                kx[i] = clamped(x);
                if (how == ZERO_VALUES) y = j < 260 ? 0 : 60000.0f;
                vx[i] = clamped(how == OVERFLOW_RANGE ? 60000.0f * y / 4 : y);
            }
            put_key(s, k, v, sh->d, j, kx, vx);
        }
    }
}

static pcase make(ck *s, const shape *sh, kind how, ck_place place) {
    pcase c;
    memset(&c, 0, sizeof c);
    c.n_all = (sh->n_key + B - 1) / B;
    size_t n = 0;
    c.blk = ck_alloc(s, (c.n_all + 1) * sizeof *c.blk, CK_END);
    for (size_t b = 0; b < c.n_all; b++)
        if (ck_uniform(s, 0, 1) <= (float)sh->density || (sh->causal && b == sh->pos0 / B)) c.blk[n++] = (uint32_t)b;
    float *q = ck_alloc(s, ((sh->n_row - 1) * sh->q_stride + sh->d) * sizeof *q, place);
    uint16_t *k = ck_alloc(s, c.n_all * B * sh->d * sizeof *k, place),
             *v = ck_alloc(s, c.n_all * B * sh->d * sizeof *v, place);
    c.a = (crit_attend_args){.q = q,
                             .q_stride = sh->q_stride,
                             .k = k,
                             .v = v,
                             .blk = c.blk,
                             .n_blk = n,
                             .out_stride = sh->out_stride,
                             .pos0 = sh->pos0,
                             .n_key = sh->n_key,
                             .scale = 1 / sqrtf((float)sh->d),
                             .n_row = sh->n_row,
                             .d = sh->d,
                             .causal = sh->causal};
    c.a.out = ck_alloc(s, ((sh->n_row - 1) * sh->out_stride + sh->d) * sizeof *c.a.out, place);
    c.a.lse = ck_alloc(s, sh->n_row * sizeof *c.a.lse, place);
    fill(s, &c, sh, how);
    return c;
}

static bool wants(const crit_attend_args *a, size_t r, size_t i) {
    return !a->want || a->want[i] >> r / CRIT_TILE_LEN & 1;
}

/* Whether the rule of [alg:skip] leaves out each far entry of row r, by scores in double; an entry whose score lies
 * within the bound of the edge is taken the way the kernel's count says, so it must be told apart: returns how many are
 * so close. */
static size_t skipped_far(const ck *s, const crit_attend_args *a, size_t r, unsigned char *out_of) {
    const float *q = a->q + r * a->q_stride;
    const size_t end = a->causal && a->pos0 + r + 1 < a->n_key ? a->pos0 + r + 1 : a->n_key;
    double met = -(double)INFINITY, lost = 0;
    size_t close = 0;
    memset(out_of, 0, a->n_blk);
    for (size_t n = 0; n < a->n_blk;) {
        const bool far = n >= a->n_blk - a->n_far;
        const double before = met;
        const size_t part_end = far ? a->n_blk : a->n_blk - a->n_far;
        size_t stop = n + CRIT_ATTEND_GROUP < part_end ? n + CRIT_ATTEND_GROUP : part_end;
        for (; n < stop; n++) {
            const size_t i = far ? n - (a->n_blk - a->n_far) : n + a->n_far;
            if (!wants(a, r, i)) continue;
            double top = -(double)INFINITY, mag = 0;
            for (size_t j = a->blk[i] * (size_t)B; j < (a->blk[i] + (size_t)1) * B && j < end; j++) {
                double dot = 0, abs_dot = 0;
                for (size_t e = 0; e < a->d; e++) {
                    const double x = q_value(q[e], a->scale, bf16t(s)) * k_value(s, a->k, a->d, j, e);
                    dot += x, abs_dot += fabs(x);
                }
                top = fmax(top, dot), mag = fmax(mag, abs_dot);
                lost = fmax(lost, score_loss(s, a, q, j).most);
            }
            met = fmax(met, top);
            if (!far) continue;
            out_of[i] = top < before - (double)a->skip;
            close += fabs(top - before + (double)a->skip) <
                     4 * (a->d + 16) * 0x1p-24 * (mag + fabs(before)) + 2 * lost;
        }
    }
    return close;
}

static void check_row_of(ck *s, const crit_attend_args *a, size_t r, bool rounded, squares *sq) {
    const float *q = a->q + r * a->q_stride;
    const size_t end = a->causal && a->pos0 + r + 1 < a->n_key ? a->pos0 + r + 1 : a->n_key;
    double *z = malloc((a->n_blk * B + 1) * sizeof *z);
    double top = -(double)INFINITY, sum = 0, mag = 0;
    loss lost = {0};
    size_t n = 0;
    unsigned char *out_of = calloc(a->n_blk + 1, 1);
    if (a->skip > 0 && skipped_far(s, a, r, out_of)) {
        free(out_of), free(z);
        return; /* too close to call */
    }
    for (size_t i = 0; i < a->n_blk; i++) {
        out_of[i] |= !wants(a, r, i);
        if (out_of[i]) continue;
        for (size_t j = a->blk[i] * (size_t)B; j < (a->blk[i] + (size_t)1) * B && j < end; j++) {
            double dot = 0, abs_dot = 0;
            for (size_t e = 0; e < a->d; e++) {
                const double x = q_value(q[e], a->scale, rounded) * k_value(s, a->k, a->d, j, e);
                dot += x, abs_dot += fabs(x);
            }
            const loss here = score_loss(s, a, q, j);
            lost = (loss){fmax(lost.most, here.most), fmax(lost.rms, here.rms)};
            z[n] = dot;
            top = fmax(top, z[n++]), mag = fmax(mag, abs_dot);
        }
    }
    for (size_t i = 0; i < n; i++) sum += exp(z[i] - top);
    const double q_error = bf16t(s) && !rounded ? 0x1p-8 * mag : 0;
    const double f32 = (a->d + 16) * 0x1p-24 * mag + q_error + weight_error(s), weight = f32 + lost.most,
                 rounding = ((double)n + 16) * 0x1p-24;
    double v_top = 0; /* weighted mean of the largest value of each key */
    for (size_t i = 0, at = 0; i < a->n_blk && i16(s, a); i++) {
        if (out_of[i]) continue;
        for (size_t j = a->blk[i] * (size_t)B; j < (a->blk[i] + (size_t)1) * B && j < end; j++) {
            double most = 0;
            for (size_t e = 0; e < a->d; e++) most = fmax(most, fabs(v_value(s, a->v, a->d, j, e)));
            v_top += exp(z[at++] - top) / sum * most;
        }
    }
    for (size_t e = 0; e < a->d; e++) {
        double o = 0, abs_o = 0;
        size_t at = 0;
        for (size_t i = 0; i < a->n_blk; i++) {
            if (out_of[i]) continue;
            for (size_t j = a->blk[i] * (size_t)B; j < (a->blk[i] + (size_t)1) * B && j < end; j++) {
                const double p = exp(z[at++] - top) / sum, x = v_value(s, a->v, a->d, j, e);
                o += p * x, abs_o += p * fabs(x);
            }
        }
        const double got = (double)a->out[r * a->out_stride + e], tiny = 2 * (expm1(f32) + rounding) * abs_o + 0x1p-126;
        ck_near(s, "out", r, e, got, o,
                2 * (expm1(weight) + rounding) * abs_o + 0x1p-126 +
                    CRIT_ATTEND_PV_UNITS * CRIT_ATTEND_UNIT * v_top);
        /* of P sqrt(64) roundings, of V one; scores as if those of all keys were off together */
        const double expected = tiny + 2 * lost.rms * abs_o + 9 / (32767 * sqrt(12)) * v_top;
        if (sq) sq->off += (got - o) * (got - o), sq->expected += expected * expected;
    }
    const double lse = n ? top + log(sum) : -(double)INFINITY;
    ck_near(s, "lse", r, 0, (double)a->lse[r], lse, weight + rounding + 0x1p-22 * fabs(lse));
    free(out_of), free(z);
}

static void check_row(ck *s, const crit_attend_args *a, size_t r) {
    check_row_of(s, a, r, bf16t(s), NULL);
    /* blocks left out are those of the rounded q */
    if (bf16t(s) && !(a->skip > 0)) check_row_of(s, a, r, false, NULL);
}

static void check_rows(ck *s, const crit_attend_args *a) {
    squares sq = {0};
    for (size_t r = 0; r < a->n_row; r++) check_row_of(s, a, r, bf16t(s), &sq);
    if (i16(s, a)) ck_near(s, "root mean square", 0, 0, sqrt(sq.off), 0, sqrt(sq.expected));
    for (size_t r = 0; r < a->n_row && bf16t(s); r++) check_row_of(s, a, r, false, NULL);
}

/* Columns behind d belong to the caller. */
static void check_gaps(ck *s, const crit_attend_args *a) {
    uint8_t ff[64];
    memset(ff, 0xff, sizeof ff);
    for (size_t r = 0; r + 1 < a->n_row; r++)
        if (a->out_stride > a->d)
            ck_same_bits(s, "between rows of out", a->out + r * a->out_stride + a->d, ff,
                         (a->out_stride - a->d) * sizeof(float));
}

static void one(ck *s, crit_attend_fn fn, const shape *sh, kind how, ck_place place) {
    s->note = kind_name[how];
    pcase c = make(s, sh, how, place);
    fn(&c.a, ck_scratch(s, crit_attend_scratch_bytes(sh->d)));
    check_rows(s, &c.a);
    check_gaps(s, &c.a);
    ck_release(s);
}

/* A row's bits: alone, elsewhere in another tile, without the list's tail, with other keys in its future. */
static void invariance(ck *s, crit_attend_fn fn, uint32_t d, uint32_t n_row, size_t pos0, kind how) {
    s->note = "invariance";
    const shape sh = {d, n_row, pos0, pos0 + n_row + 40, d, d, 1, 0.7};
    pcase c = make(s, &sh, how, CK_END);
    void *mem = ck_scratch(s, crit_attend_scratch_bytes(d));
    float out[CRIT_ATTEND_ROWS * CRIT_D_HEAD_MAX], lse[CRIT_ATTEND_ROWS];
    fn(&c.a, mem);
    for (uint32_t r = 0; r < n_row; r += 1 + ck_u32(s) % 9) {
        for (int cut = 0; cut < 5; cut++) {
            const uint32_t before = cut == 1 ? ck_u32(s) % (r + 1) : 0, after = cut == 2 ? ck_u32(s) % (n_row - r) : 0;
            crit_attend_args b = c.a;
            b.out = out, b.lse = lse, b.out_stride = d;
            b.q += (r - before) * b.q_stride, b.pos0 += r - before, b.n_row = before + 1 + after;
            if (cut == 3) {
                while (b.n_blk && b.blk[b.n_blk - 1] * (size_t)B > pos0 + r) b.n_blk--;
            }
            if (cut == 4) b.causal = 0, b.n_key = pos0 + r + 1, b.pos0 = 0;
            fn(&b, mem);
            if (cut == 4 && i16(s, &c.a)) { /* other roundings, the same attention */
                check_row(s, &b, before);
                continue;
            }
            ck_same_bits(s,
                         cut == 0   ? "row alone"
                         : cut == 1 ? "row at an end"
                         : cut == 2 ? "row at a start"
                         : cut == 3 ? "list cut"
                                    : "not causal",
                         out + before * d, c.a.out + r * sh.out_stride, d * sizeof *out);
            ck_same_bits(s, "lse", &lse[before], &c.a.lse[r], sizeof *lse);
        }
    }
    const uint32_t r = n_row / 2; /* everything behind row r changes */
    uint16_t *k = (uint16_t *)(uintptr_t)c.a.k, *v = (uint16_t *)(uintptr_t)c.a.v;
    for (size_t j = pos0 + r + 1; j < sh.n_key; j++) {
        float kx[CRIT_D_HEAD_MAX], vx[CRIT_D_HEAD_MAX];
        ck_fill_normal(s, kx, d, 20), ck_fill_normal(s, vx, d, 1);
        put_key(s, k, v, d, j, kx, vx);
    }
    crit_attend_args b = c.a;
    b.out = out, b.lse = lse, b.out_stride = d;
    fn(&b, mem);
    for (uint32_t i = 0; i <= r; i++)
        ck_same_bits(s, "other future", out + i * d, c.a.out + i * sh.out_stride, d * sizeof *out);
    ck_same_bits(s, "other future, lse", lse, c.a.lse, (r + 1) * sizeof *lse);
    ck_release(s);
}

/* Near entries first, far ones skipped by rows: against the rule in double, and the same bits at any cut. */
static void skipping(ck *s, crit_attend_fn fn, uint32_t d, uint32_t n_row, size_t n_far, float skip) {
    const size_t pos0 = n_far * B + 40;
    const shape sh = {d, n_row, pos0, pos0 + n_row, d, d, 1, 1.0};
    s->note = "skip";
    pcase c = make(s, &sh, NORMAL, CK_END);
    void *mem = ck_scratch(s, crit_attend_scratch_bytes(d));
    uint16_t *k = (uint16_t *)(uintptr_t)c.a.k, *v = (uint16_t *)(uintptr_t)c.a.v;
    for (size_t b = 0; b < n_far; b++) /* blocks of very different strength, some of them above everything near */
        for (size_t j = b * B; j < (b + 1) * B; j++) {
            float kx[CRIT_D_HEAD_MAX], vx[CRIT_D_HEAD_MAX];
            ck_fill_normal(s, kx, d, (float)(b * 7 % 5) * 0.45f), ck_fill_normal(s, vx, d, 1);
            put_key(s, k, v, d, j, kx, vx);
        }
    uint64_t n_skip = 0, want = 0, close = 0, sum = 0;
    c.a.n_far = n_far, c.a.skip = skip, c.a.n_skip = &n_skip;
    fn(&c.a, mem);
    unsigned char *out_of = calloc(c.a.n_blk + 1, 1);
    for (size_t r = 0; r < n_row; r++) {
        check_row(s, &c.a, r);
        if (skip == 0) continue;
        close += skipped_far(s, &c.a, r, out_of);
        for (size_t i = 0; i < n_far; i++) want += out_of[i];
    }
    free(out_of);
    s->n_check++;
    if (n_skip > want + close || n_skip + close < want)
        ck_fail(s, "%llu pairs skipped, want %llu", (unsigned long long)n_skip, (unsigned long long)want);
    if (skip > 0 && skip < 3 && (want == 0 || want == n_row * n_far)) ck_fail(s, "the case skips all or nothing");
    float out[CRIT_ATTEND_ROWS * CRIT_D_HEAD_MAX], lse[CRIT_ATTEND_ROWS];
    for (uint32_t r = 0, step; r < n_row; r += step) {
        step = 1 + ck_u32(s) % 40;
        crit_attend_args b = c.a;
        if (step > n_row - r) step = n_row - r;
        b.q += r * b.q_stride, b.pos0 += r, b.n_row = step, b.out = out, b.out_stride = d, b.lse = lse, b.n_skip = &sum;
        fn(&b, mem);
        for (uint32_t i = 0; i < step; i++)
            ck_same_bits(s, "skip, cut", out + i * d, c.a.out + (r + i) * sh.out_stride, d * sizeof *out);
        ck_same_bits(s, "skip, cut, lse", lse, c.a.lse + r, step * sizeof *lse);
    }
    s->n_check++;
    if (sum != n_skip)
        ck_fail(s, "%llu pairs skipped in pieces, %llu at once", (unsigned long long)sum, (unsigned long long)n_skip);
    ck_release(s);
}

/* The list of several tiles: against the lists of each in double, and the same bits by tile as together. */
static void wanting(ck *s, crit_attend_fn fn, uint32_t d, uint32_t n_row, size_t n_far, float skip, int causal) {
    const size_t pos0 = (n_far + 3) * B;
    const shape sh = {d, n_row, pos0, pos0 + n_row, d, d, causal, 1.0};
    s->note = "want";
    pcase c = make(s, &sh, NORMAL, CK_END);
    void *mem = ck_scratch(s, crit_attend_scratch_bytes(d));
    uint8_t *want = ck_alloc(s, c.a.n_blk, CK_END), *part = ck_alloc(s, c.a.n_blk, CK_END);
    for (size_t i = 0; i < c.a.n_blk; i++) want[i] = (uint8_t)(i < n_far + 3 ? ck_u32(s) & 15 : 15);
    float out[CRIT_ATTEND_ROWS * CRIT_D_HEAD_MAX], lse[CRIT_ATTEND_ROWS];
    c.a.n_far = n_far, c.a.skip = skip, c.a.want = want;
    fn(&c.a, mem);
    for (size_t r = 0; r < n_row; r++) check_row(s, &c.a, r);
    crit_attend_args b = c.a;
    b.out = out, b.out_stride = d, b.lse = lse, b.want = part;
    for (uint32_t r = 0; r < n_row; r += CRIT_TILE_LEN) {
        for (size_t i = 0; i < c.a.n_blk; i++) part[i] = want[i] >> r / CRIT_TILE_LEN;
        b.q = c.a.q + r * b.q_stride, b.pos0 = pos0 + r;
        b.n_row = n_row - r < CRIT_TILE_LEN ? n_row - r : CRIT_TILE_LEN;
        fn(&b, mem);
        ck_same_bits(s, "a tile alone", out, c.a.out + r * sh.out_stride, b.n_row * d * sizeof *out);
        ck_same_bits(s, "a tile alone, lse", lse, c.a.lse + r, b.n_row * sizeof *lse);
    }
    memset(want, 0xff, c.a.n_blk);
    fn(&c.a, mem);
    b = c.a;
    b.out = out, b.lse = lse, b.out_stride = d, b.want = NULL;
    fn(&b, mem);
    ck_same_bits(s, "all wanted", out, c.a.out, n_row * d * sizeof *out);
    ck_same_bits(s, "all wanted, lse", lse, c.a.lse, n_row * sizeof *lse);
    ck_release(s);
}

/* Narrow keys give what full ones give that are 0 elsewhere; blocks of values, rows and lists are as ever. */
static void narrow(ck *s, crit_attend_fn fn, const shape *sh, uint32_t dk, kind how) {
    s->note = "narrow keys";
    pcase c = make(s, sh, how, CK_END);
    const size_t n_key = c.n_all * B, d = sh->d;
    uint16_t *full = (uint16_t *)(uintptr_t)c.a.k, *k = ck_alloc(s, (n_key * dk + 32) * sizeof *k, CK_END);
    float *q = ck_alloc(s, sh->n_row * dk * sizeof *q, CK_MIS4);
    memset(k, 0, (n_key * dk + 32) * sizeof *k); /* blocks that are not listed and keys behind the end: finite */
    for (size_t e = 0, n = 0; e < d; e++) {
        const bool in = n < dk && (e == 0 || d - e <= dk - n || ck_u32(s) % d < dk);
        for (size_t r = 0; r < sh->n_row && in; r++) q[r * dk + n] = c.a.q[r * sh->q_stride + e];
        for (size_t i = 0; i < c.a.n_blk; i++)
            for (size_t j = c.blk[i] * (size_t)B; j < (c.blk[i] + (size_t)1) * B && j < sh->n_key; j++) {
                if (in) k[j * dk + n] = full[j * d + e];
                if (!in) full[j * d + e] = 0;
            }
        n += in;
    }
    crit_attend_args b = c.a;
    b.q = q, b.q_stride = dk, b.k = k, b.dk = dk;
    fn(&b, ck_scratch(s, crit_attend_scratch_bytes(sh->d)));
    for (size_t r = 0; r < sh->n_row; r++) check_row(s, &c.a, r); /* out and lse are shared */
    check_gaps(s, &c.a);
    ck_release(s);
}

/* The start-up check of the AMX level, on the emulated tiles. */
extern int emul_crit_amx_works(void) __attribute__((weak));

void ck_test_attend(ck *s, const ck_row *row) {
    crit_attend_fn fn = (crit_attend_fn)row->fn;
    s->note = "start-up check";
    if (bf16t(s) && row->emulated && emul_crit_amx_works) ck_near(s, "works", 0, 0, emul_crit_amx_works(), 1, 0);
    static const uint32_t rows[] = {1, 7, 8, 9, 16, 17, 24, 25, 31, 32, 33, 48, 63, 64, 65, 97, 127, 128};
    static const uint32_t ds[] = {8, 16, 24, 64, 80, 128, 256};
    static const size_t keys[] = {1, 2, 31, 32, 33, 63, 64, 65, 95, 127, 200};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const uint32_t d = ds[i % 7], pos = 3 + ck_u32(s) % 150;
        const shape sh = {d, rows[i],          pos, pos + rows[i] + ck_u32(s) % 3, d + i % 3 * 5, d + i % 2 * 3,
                          1, i % 2 ? 1.0 : 0.5};
        one(s, fn, &sh, NORMAL, (ck_place)(i % CK_PLACES));
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const shape sh = {ds[(i + 3) % 7], rows[i], 0, keys[i], ds[(i + 3) % 7], ds[(i + 3) % 7], 0, 1.0};
        one(s, fn, &sh, NORMAL, (ck_place)(i % CK_PLACES));
    }
    for (int how = 0; how < KINDS; how++) {
        const shape tile = {64, 128, 230, 358, 64, 64, 1, 0.8}, strip = {32, 8, 0, 777, 32, 32, 0, 0.9};
        one(s, fn, &tile, (kind)how, CK_END);
        one(s, fn, &strip, (kind)how, CK_MIS4);
    }
    const shape blind = {16, 40, 50, 200, 16, 16, 1, 0.0}, short_store = {16, 40, 100, 110, 16, 16, 1, 1.0};
    s->note = "rows without keys";
    pcase c = make(s, &blind, NORMAL,
                   CK_END); /* its list holds the block of row 0: rename it so that rows 0..13 see nothing */
    c.a.n_blk = 1, c.blk[0] = 2;
    fill(s, &c, &blind, NORMAL);
    fn(&c.a, ck_scratch(s, crit_attend_scratch_bytes(16)));
    for (size_t r = 0; r < 40; r++) check_row(s, &c.a, r);
    c.a.n_blk = 0;
    fn(&c.a, ck_scratch(s, crit_attend_scratch_bytes(16)));
    for (size_t r = 0; r < 40; r++) check_row(s, &c.a, r);
    c.a.lse = NULL;
    fn(&c.a, ck_scratch(s, crit_attend_scratch_bytes(16)));
    ck_release(s);
    one(s, fn, &short_store, NORMAL, CK_END);
    invariance(s, fn, 64, 128, 77, NORMAL);
    invariance(s, fn, 16, 100, 0, RISING);
    invariance(s, fn, 24, 37, 300, HUGE_LOGITS);
    invariance(s, fn, 64, 40, 700, RISING_SLOWLY);
    skipping(s, fn, 64, 128, 12, 2.0f);
    skipping(s, fn, 128, 70, 7, 1.0f);
    skipping(s, fn, 24, 33, 5, 2.5f);
    skipping(s, fn, 64, 5, 9, 0.5f);
    skipping(s, fn, 32, 100, 10, 0);
    skipping(s, fn, 32, 100, 10, INFINITY);
    wanting(s, fn, 64, 128, 12, 0, 1);
    wanting(s, fn, 24, 97, 7, 0, 1);
    wanting(s, fn, 128, 64, 9, 1.5f, 1);
    wanting(s, fn, 80, 33, 0, 0, 1);
    wanting(s, fn, 8, 20, 5, 0, 1);
    wanting(s, fn, 64, 7, 0, 0, 0);
    wanting(s, fn, 64, 70, 4, 0, 0);
    static const uint32_t dks[][2] = {{64, 40},  {64, 32}, {64, 56}, {128, 80},
                                      {128, 24}, {80, 48}, {40, 8},  {256, 160}};
    for (size_t i = 0; i < sizeof dks / sizeof *dks; i++) {
        const uint32_t d = dks[i][0], dk = dks[i][1];
        const shape few = {d, (uint32_t)(i % 8) + 1, 0, 128 + 61 * i, d, d + 3, 0, 0.7};
        const shape many = {d, rows[i + 8], 0, 300, d, d, 0, 0.8}, causal = {d, 70, 95, 165, d, d, 1, 0.8};
        narrow(s, fn, &few, dk, NORMAL);
        narrow(s, fn, &few, dk, RISING);
        narrow(s, fn, &many, dk, RISING_SLOWLY);
        narrow(s, fn, &causal, dk, NORMAL);
    }
}

/* Blocks made ready give the bits of blocks that are not: one call's keys and all of a longer store's, by cuts. */
void ck_test_attend_ready(ck *s, const ck_row *row) {
    crit_attend_ready_fn fn = (crit_attend_ready_fn)row->fn;
    static const uint32_t ds[] = {8, 16, 24, 64, 80, 128, 256};
    for (size_t i = 0; i < 28; i++) {
        const uint32_t d = ds[i % 7], n_row = 1 + ck_u32(s) % CRIT_ATTEND_ROWS;
        const size_t pos0 = ck_u32(s) % 300, more = i % 2 ? 0 : ck_u32(s) % 100;
        const shape sh = {d, n_row, pos0, pos0 + n_row + more, d, d, 1, i % 3 ? 0.6 : 1};
        s->note = "ready";
        pcase c = make(s, &sh, NORMAL, CK_END);
        /* All blocks are made ready, listed or not; what is listed must be finite, the rest may be anything. */
        const size_t n_blk = (sh.n_key + B - 1) / B, cut = ck_u32(s) % (n_blk + 1);
        unsigned char *ready = ck_alloc(s, n_blk * CRIT_READY_BYTES(d), CK_END);
        const size_t first = cut * B < sh.n_key ? cut * B : sh.n_key;
        fn(c.a.k, c.a.v, first, d, ready);
        fn(c.a.k + cut * B * d, c.a.v + cut * B * d, sh.n_key - first, d, ready + cut * CRIT_READY_BYTES(d));
        float out[CRIT_ATTEND_ROWS * CRIT_D_HEAD_MAX], lse[CRIT_ATTEND_ROWS];
        crit_attend_args b = c.a;
        b.out = out, b.lse = lse, b.ready = ready;
        s->table.attend(&c.a, ck_scratch(s, crit_attend_scratch_bytes(d)));
        s->table.attend(&b, ck_scratch(s, crit_attend_scratch_bytes(d)));
        ck_same_bits(s, "ready", out, c.a.out, n_row * d * sizeof *out);
        ck_same_bits(s, "ready, lse", lse, c.a.lse, n_row * sizeof *lse);
        ck_release(s);
    }
}

static void fill_store(ck *s, uint16_t *k, uint16_t *v, size_t n_key, size_t d) {
    float kx[CRIT_D_HEAD_MAX], vx[CRIT_D_HEAD_MAX];
    for (size_t j = 0; j < n_key; j++) {
        ck_fill_normal(s, kx, d, 1), ck_fill_normal(s, vx, d, 1);
        put_key(s, k, v, d, j, kx, vx);
    }
}

typedef struct attend_work {
    crit_attend_fn fn;
    crit_attend_args a;
    void *mem;
} attend_work;
static void run_attend(void *arg) {
    attend_work *w = arg;
    w->fn(&w->a, w->mem);
}

void ck_bench_attend(ck *s, const ck_row *row) {
    static const struct {
        const char *name;
        size_t ctx;
        double density;
        uint32_t n_row;
        int causal;
    } load[] = {{"dense 4K", 4096, 1, 128, 1},          {"dense 16K", 16384, 1, 128, 1},
                {"16K density .10", 16384, .1, 128, 1}, {"16K density .03", 16384, .03, 128, 1},
                {"decode 16K, 1 row", 16384, 1, 1, 0},  {"decode 16K, 7 rows", 16384, 1, 7, 0}};
    for (uint32_t d = 64; d <= 128; d += 64) {
        const size_t n = 16384;
        uint16_t *k = malloc(n * d * sizeof *k), *v = malloc(n * d * sizeof *v);
        float *q = malloc(CRIT_ATTEND_ROWS * d * sizeof *q), *out = malloc(CRIT_ATTEND_ROWS * d * sizeof *out),
              lse[CRIT_ATTEND_ROWS];
        fill_store(s, k, v, n, d), ck_fill_normal(s, q, CRIT_ATTEND_ROWS * d, 1);
        for (size_t i = 0; i < sizeof load / sizeof *load; i++) {
            if (!row->need && (load[i].ctx > 4096 || load[i].n_row < 128)) continue; /* the reference takes its time */
            const size_t n_blk = load[i].ctx / B, want = (size_t)(load[i].density * (double)n_blk);
            uint32_t blk[512];
            attend_work w = {.fn = (crit_attend_fn)row->fn, .mem = ck_scratch(s, crit_attend_scratch_bytes(d))};
            w.a = (crit_attend_args){.q = q,
                                     .q_stride = d,
                                     .k = k,
                                     .v = v,
                                     .blk = blk,
                                     .out = out,
                                     .out_stride = d,
                                     .lse = lse,
                                     .pos0 = load[i].ctx - load[i].n_row,
                                     .n_key = load[i].ctx,
                                     .scale = 1 / sqrtf((float)d),
                                     .n_row = load[i].n_row,
                                     .d = d,
                                     .causal = load[i].causal};
            double pairs = 0;
            for (size_t b = 0; b < n_blk; b++) { /* sink, tile and its neighbours, the rest scattered */
                if (load[i].density < 1 && b > 0 && b + 8 < n_blk && b * 2654435761u / 128 % n_blk >= want) continue;
                blk[w.a.n_blk++] = (uint32_t)b;
                for (size_t r = 0; r < w.a.n_row; r++)
                    for (size_t j = 0; j < B; j++) pairs += !w.a.causal || b * B + j <= w.a.pos0 + r;
            }
            const double t = ck_time(run_attend, &w);
            char label[64];
            snprintf(label, sizeof label, "d=%u %s", (unsigned)d, load[i].name);
            ck_report(s, label, t, load[i].causal ? 4 * d * pairs : 0, (double)w.a.n_blk * B * d * 4);
            ck_release(s);
        }
        free(k), free(v), free(q), free(out);
    }
}

typedef struct ready_work {
    crit_attend_ready_fn fn;
    const uint16_t *k, *v;
    void *ready;
    uint32_t d;
} ready_work;
static void run_ready(void *arg) {
    ready_work *w = arg;
    w->fn(w->k, w->v, 4096, w->d, w->ready);
}

void ck_bench_attend_ready(ck *s, const ck_row *row) {
    for (uint32_t d = 64; d <= 128; d += 64) {
        uint16_t *k = malloc((size_t)4096 * d * sizeof *k), *v = malloc((size_t)4096 * d * sizeof *v);
        fill_store(s, k, v, 4096, d);
        ready_work w = {(crit_attend_ready_fn)row->fn, k, v, ck_scratch(s, 4096 / B * CRIT_READY_BYTES(d)), d};
        ck_report(s, d == 64 ? "d=64 4K keys" : "d=128 4K keys", ck_time(run_ready, &w), 0, 4096.0 * d * 4);
        ck_release(s);
        free(k), free(v);
    }
}

void ck_test_block_lse(ck *s, const ck_row *row) {
    crit_block_lse_fn fn = (crit_block_lse_fn)row->fn;
    const crit_attend_ready_fn make_ready = s->table.attend_ready;
    squares sq = {0, 0};
    static const size_t keys[] = {1, 5, 31, 32, 33, 64, 100, 257};
    static const uint32_t ds[] = {8, 24, 64, 128, 256};
    for (size_t i = 0; i < 64; i++) {
        const uint32_t d = ds[i % 5], n_row = (uint32_t)(1 + (i < 40 ? i % 8 : ck_u32(s) % CRIT_LSE_ROWS));
        const size_t n_key = keys[i % 7 + (i > 20)], n_blk = (n_key + B - 1) / B, stride = d + i % 3 * 7,
                     apart = n_blk + i % 3;
        const float scale = i % 4 == 3 ? 5.0f : 1 / sqrtf((float)d);
        const ck_place place = (ck_place)(i % CK_PLACES);
        s->note = scale > 1 ? "huge logits" : "normal";
        float *q = ck_alloc(s, ((n_row - 1) * stride + d) * sizeof *q, place),
              *lse = ck_alloc(s, ((n_row - 1) * apart + n_blk) * sizeof *lse, place),
              *best = ck_alloc(s, ((n_row - 1) * apart + n_blk) * sizeof *best, place);
        uint16_t *k = ck_alloc(s, n_blk * B * d * sizeof *k, place), *v = malloc(n_blk * B * d * sizeof *v);
        for (size_t r = 0; r < n_row; r++) ck_fill_normal(s, q + r * stride, d, 2);
        for (size_t j = 0; j < n_key; j++) {
            float kx[CRIT_D_HEAD_MAX];
            for (size_t e = 0; e < d; e++) kx[e] = i % 4 == 2 ? 0.5f : ck_normal(s);
            put_key(s, k, v, d, j, kx, kx);
        }
        free(v);
        fn(q, stride, n_row, k, NULL, n_key, d, scale, lse, best, apart, ck_scratch(s, crit_attend_scratch_bytes(d)));
        const crit_attend_args as_attend = {.k = k, .scale = scale, .d = d, .causal = 1};
        for (size_t b = 0; b < n_blk; b++) {
            for (size_t r = 0; r < n_row; r++) {
                const size_t n = n_key - b * B < B ? n_key - b * B : B;
                loss lost = {0, 0};
                for (size_t j = 0; j < n; j++) {
                    const loss here = score_loss(s, &as_attend, q + r * stride, b * B + j);
                    lost = (loss){fmax(lost.most, here.most), fmax(lost.rms, here.rms)};
                }
                for (int rounded = bf16t(s); rounded >= 0; rounded--) {
                    double z[B], top = -(double)INFINITY, sum = 0, mag = 0;
                    for (size_t j = 0; j < n; j++) {
                        double dot = 0, abs_dot = 0;
                        for (size_t e = 0; e < d; e++) {
                            const double x =
                                q_value(q[r * stride + e], scale, rounded) * k_value(s, k, d, b * B + j, e);
                            dot += x, abs_dot += fabs(x);
                        }
                        z[j] = dot;
                        top = fmax(top, z[j]), mag = fmax(mag, abs_dot);
                    }
                    for (size_t j = 0; j < n; j++) sum += exp(z[j] - top);
                    const double want = top + log(sum), q_error = bf16t(s) && !rounded ? 0x1p-8 : 0;
                    const double exponent = ((d + 16) * 0x1p-24 + q_error) * mag,
                                 tol = exponent + 40 * 0x1p-24 + 0x1p-22 + 0x1p-22 * fabs(want);
                    ck_near(s, "lse", b, r, (double)lse[r * apart + b], want, tol + lost.most);
                    /* the largest of the computed scores; two roundings of the change of base */
                    ck_near(s, "top", b, r, (double)best[r * apart + b], top,
                            exponent + lost.most + 0x1p-22 * fabs(top));
                    sq.off += ((double)lse[r * apart + b] - want) * ((double)lse[r * apart + b] - want);
                    sq.expected += (tol + 2 * lost.rms) * (tol + 2 * lost.rms);
                }
            }
        }
        float alone, alone_best;
        for (size_t b = 0; b < n_blk; b++) { /* a block's row has the same bits by itself */
            const size_t r = ck_u32(s) % n_row;
            fn(q + r * stride, stride, 1, k + b * B * d, NULL, n_key - b * B < B ? n_key - b * B : B, d, scale, &alone,
               &alone_best, 1, ck_scratch(s, crit_attend_scratch_bytes(d)));
            ck_same_bits(s, "alone", &alone, &lse[r * apart + b], sizeof alone);
            ck_same_bits(s, "alone", &alone_best, &best[r * apart + b], sizeof alone_best);
        }
        if (make_ready) { /* keys made ready, of all keys that there are: the same bits */
            const size_t n_out = (n_row - 1) * apart + n_blk, bytes = n_out * sizeof *lse;
            void *ready = ck_alloc(s, n_blk * CRIT_READY_BYTES(d), CK_END);
            float *from_ready = malloc(2 * bytes), *top_too = from_ready + n_out;
            memcpy(from_ready, lse, bytes), memcpy(top_too, best, bytes);
            for (size_t b = 0; b < n_blk; b++)
                for (size_t r = 0; r < n_row; r++) from_ready[r * apart + b] = top_too[r * apart + b] = NAN;
            make_ready(k, k, n_key, d, ready);
            fn(q, stride, n_row, k, ready, n_key, d, scale, from_ready, top_too, apart,
               ck_scratch(s, crit_attend_scratch_bytes(d)));
            ck_same_bits(s, "ready", from_ready, lse, bytes);
            ck_same_bits(s, "ready", top_too, best, bytes);
            free(from_ready);
        }
        ck_release(s);
    }
    ck_near(s, "root mean square", 0, 0, sqrt(sq.off), 0, sqrt(sq.expected));
}

typedef struct lse_work {
    crit_block_lse_fn fn;
    const float *q;
    const uint16_t *k;
    const void *ready;
    float *lse, *top;
    void *mem;
    uint32_t d;
} lse_work;
static void run_lse(void *arg) {
    lse_work *w = arg;
    w->fn(w->q, w->d, CRIT_LSE_ROWS, w->k, w->ready, 4096, w->d, 0.125f, w->lse, w->top, 128, w->mem);
}

void ck_bench_block_lse(ck *s, const ck_row *row) {
    for (uint32_t d = 64; d <= 128; d += 64) {
        uint16_t *k = malloc((size_t)4096 * d * sizeof *k), *v = malloc((size_t)4096 * d * sizeof *v);
        float q[CRIT_LSE_ROWS * 128], lse[128 * CRIT_LSE_ROWS], top[128 * CRIT_LSE_ROWS];
        fill_store(s, k, v, 4096, d), ck_fill_normal(s, q, CRIT_LSE_ROWS * d, 1);
        const crit_attend_ready_fn make_ready = s->table.attend_ready;
        void *ready = make_ready ? ck_alloc(s, 4096 / B * CRIT_READY_BYTES(d), CK_END) : NULL;
        if (make_ready) make_ready(k, v, 4096, d, ready);
        lse_work w = {
            (crit_block_lse_fn)row->fn, q, k, ready, lse, top, ck_scratch(s, crit_attend_scratch_bytes(d)), d};
        ck_report(s, d == 64 ? "d=64 32 rows, 4K keys" : "d=128 32 rows, 4K keys", ck_time(run_lse, &w),
                  2.0 * CRIT_LSE_ROWS * 4096 * d, 0);
        ck_release(s);
        free(k), free(v);
    }
}
