/* SPDX-License-Identifier: MIT */
/* Matrix products on quantised weights: gemm and gemv against a double product of the exactly decoded weights and the
 * activations as packed, so that only f32 rounding is left in the bound; act_pack is bounded on its own.
 *
 * Bound: each output adds at most one rounded term per group of 32 (per value for float weights) plus a few for scales:
 * |err| <= (terms + 16) 2^-24 sum R_i |x_i|, where R_i is the largest magnitude the scales at i can express, because
 * s*(q - offset) + m may cancel.  R is found by decoding the same scales with extreme quants.
 *
 * A gemm of CRIT_ACT_BF16 multiplies bf16 weights: the product wanted is that of the exact weights rounded to bf16.  A
 * kernel computes them in f32 with an error of at most 8 * 2^-24 R_i before; where that can reach the next bf16 number
 * the difference of the two is added to the bound, so that nearly every weight must be the right one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkasm.h"
#include "kernels/act.h"
#include "ck_peak.h"

typedef struct layout {
    uint32_t keep[2][2]; /* byte ranges [from, to) of scales in a block */
    uint32_t f16[2];     /* offsets of f16 fields among them; 255: none */
} layout;

static bool get_layout(size_t type, layout *l) {
    memset(l, 0, sizeof *l);
    l->f16[1] = 255;
    switch (type) {
    case CRIT_T_Q4_0:
    case CRIT_T_Q5_0:
    case CRIT_T_Q8_0:
    case CRIT_T_IQ4_NL:
        l->keep[0][1] = 2;
        return true;
    case CRIT_T_Q4_1:
    case CRIT_T_Q5_1:
        l->keep[0][1] = 4, l->f16[1] = 2;
        return true;
    case CRIT_T_Q4_K:
    case CRIT_T_Q5_K:
        l->keep[0][1] = 16, l->f16[1] = 2;
        return true;
    case CRIT_T_IQ4_XS:
        l->keep[0][1] = 8;
        return true;
    case CRIT_T_Q2_K:
        l->keep[0][1] = 16, l->keep[1][0] = 80, l->keep[1][1] = 84, l->f16[0] = 80, l->f16[1] = 82;
        return true;
    case CRIT_T_Q3_K:
        l->keep[0][0] = 96, l->keep[0][1] = 110, l->f16[0] = 108;
        return true;
    case CRIT_T_Q6_K:
        l->keep[0][0] = 192, l->keep[0][1] = 210, l->f16[0] = 208;
        return true;
    default:
        return false;
    }
}

static uint16_t random_f16(ck *s) { /* +-[2^-8, 2^-5) */
    return (uint16_t)((ck_u32(s) & 0x8000u) | ((7u + ck_u32(s) % 3) << 10) | (ck_u32(s) & 0x3ffu));
}

enum fill { FILL_RANDOM, FILL_EXTREME };

static void fill_weights(ck *s, size_t type, uint8_t *w, size_t n_blk, uint32_t bytes, int fill) {
    layout l;
    if (!get_layout(type, &l)) {
        for (size_t i = 0; i < n_blk; i++) {
            float v = ck_normal(s) * 0.05f;
            uint32_t b;
            memcpy(&b, &v, 4);
            uint16_t h = type == CRIT_T_F16 ? random_f16(s) : (uint16_t)(b >> 16);
            memcpy(w + i * bytes, bytes == 4 ? (const void *)&v : (const void *)&h, bytes);
        }
        return;
    }
    for (size_t i = 0; i < n_blk; i++) {
        uint8_t *b = w + i * bytes, ext = ck_u32(s) & 1 ? 0xff : 0;
        for (uint32_t j = 0; j < bytes; j++) b[j] = fill == FILL_EXTREME ? ext : (uint8_t)ck_u32(s);
        for (int r = 0; r < 2; r++)
            for (uint32_t j = l.keep[r][0]; j < l.keep[r][1]; j++) b[j] = (uint8_t)ck_u32(s);
        for (int k = 0; k < 2; k++) {
            uint16_t h = random_f16(s);
            if (l.f16[k] != 255) memcpy(b + l.f16[k], &h, 2);
        }
    }
}

/* range[i] = largest |w| among the decodes of extreme quants with the block's scales, and of w itself */
static void weight_range(ck *s, size_t type, const uint8_t *w, size_t n, uint32_t elems, uint32_t bytes,
                         const float *wf, float *range) {
    static const uint8_t pattern[4] = {0x00, 0xff, 0x80, 0x7f};
    layout l;
    for (size_t i = 0; i < n; i++) range[i] = fabsf(wf[i]);
    if (!get_layout(type, &l)) return;
    uint8_t blk[256];
    float dec[256];
    for (size_t b = 0; b < n / elems; b++)
        for (int p = 0; p < 4; p++) {
            memset(blk, pattern[p], sizeof blk);
            for (int r = 0; r < 2; r++)
                memcpy(blk + l.keep[r][0], w + b * bytes + l.keep[r][0], l.keep[r][1] - l.keep[r][0]);
            s->ref.dequant[type](blk, dec, elems);
            for (uint32_t i = 0; i < elems; i++) range[b * elems + i] = fmaxf(range[b * elems + i], fabsf(dec[i]));
        }
}

static float from_bf16(uint16_t h) {
    uint32_t b = (uint32_t)h << 16;
    float v;
    memcpy(&v, &b, sizeof v);
    return v;
}

/* Nearest bf16 of a finite number, ties to even; independent of the library's own. */
static double round_bf16(double v) {
    int e;
    if (v == 0) return 0;
    frexp(v, &e); /* |v| in [2^(e-1), 2^e): 8 bits */
    return nearbyint(ldexp(v, 8 - e)) * ldexp(1, e - 8);
}

/* The activations a packed row stands for. */
static void unpack(unsigned kind, const uint8_t *row, size_t n, double *x) {
    for (size_t i = 0; i < n; i++) {
        if (kind == CRIT_ACT_I8) {
            crit_act_i8 a;
            memcpy(&a, row + i / 32 * sizeof a, sizeof a);
            x[i] = (double)a.s * a.q[i % 32];
        } else if (kind == CRIT_ACT_I16) {
            crit_act_i16 a;
            memcpy(&a, row + i / 32 * sizeof a, sizeof a);
            x[i] = (double)a.s * a.q[i % 32];
        } else if (kind == CRIT_ACT_BF16) {
            uint16_t h;
            memcpy(&h, row + i / 32 * CRIT_ACT_TILE * CRIT_ACT_STEP_BYTES + i % 32 * sizeof h, sizeof h);
            x[i] = (double)from_bf16(h);
        } else {
            float v;
            memcpy(&v, row + i * sizeof v, sizeof v);
            x[i] = (double)v;
        }
    }
}

typedef struct problem {
    size_t n_out, n_in, n_row, stride;
    bool accumulate, bias;
    ck_place place;
    int fill, x_kind;
} problem;

enum { X_NORMAL, X_OUTLIERS, X_SIGNS, X_ZERO, X_NAN, X_INF, X_TINY, X_KINDS };

static void fill_x(ck *s, float *x, size_t n, int kind) {
    ck_fill_normal(s, x, n, 1.0f);
    for (size_t i = 0; i < n; i++) {
        if (kind == X_OUTLIERS && ck_u32(s) % 16 == 0) x[i] *= 50.0f;
        if (kind == X_SIGNS) x[i] = ck_u32(s) % 8 ? 1.0f : -1.0f;
        if (kind == X_ZERO) x[i] = ck_u32(s) & 1 ? 0.0f : -0.0f;
        if (kind == X_TINY) x[i] *= 1e-38f;
    }
    if (n && kind == X_NAN) x[ck_u32(s) % n] = NAN;
    if (n && kind == X_INF) x[ck_u32(s) % n] = ck_u32(s) & 1 ? INFINITY : -INFINITY;
}

/* gemm over [n0, n1) of rows [r0, r0 + n_row), or gemv when there is no scratch */
static void call(const ck_row *row, crit_gemm_args a, unsigned kind, size_t r0, size_t n_row, size_t n0, size_t n1,
                 void *scratch) {
    a.act = (const uint8_t *)a.act + crit_act_at((crit_act_kind)kind, a.n_in, r0);
    a.act_row = kind == CRIT_ACT_BF16 ? r0 % CRIT_ACT_TILE : 0;
    if (a.out) a.out += r0 * a.out_stride;
    if (a.gate) {
        a.gate += r0 * a.gate_stride;
        a.packed = (uint8_t *)a.packed + crit_act_at(CRIT_ACT_BF16, a.n_out, r0);
        a.gated_row = r0 % CRIT_ACT_TILE;
    }
    a.n_row = n_row;
    if (scratch)
        ((crit_gemm_fn)row->fn)(&a, n0, n1, scratch);
    else
        ((crit_gemv_fn)row->fn)(&a, n0, n1);
}

static void run_case(ck *s, const ck_row *row, problem p, bool gemv) {
    const size_t type = row->index;
    uint32_t elems, bytes;
    if (!crit_type_geometry((unsigned)type, &elems, &bytes)) {
        ck_fail(s, "type %zu has no geometry", type);
        return;
    }
    const unsigned kind = (gemv ? s->table.act_kind_one : s->table.act_kind)[type];
    const size_t row_bytes = p.n_in / elems * bytes;
    static char note[160];
    snprintf(note, sizeof note, "out %zu in %zu rows %zu stride %zu acc %d bias %d place %d fill %d x %d", p.n_out,
             p.n_in, p.n_row, p.stride, p.accumulate, p.bias, (int)p.place, p.fill, p.x_kind);
    s->note = note;

    uint8_t *w = ck_alloc(s, p.n_out * row_bytes, p.place);
    const size_t act_bytes = crit_act_bytes((crit_act_kind)kind, p.n_in, p.n_row);
    uint8_t *act = ck_alloc(s, act_bytes, p.place);
    memset(act, 0xff, act_bytes); /* NaN in the rows of a tile that are not packed */
    size_t n_cell = (p.n_row - 1) * p.stride + p.n_out;
    float *out = ck_alloc(s, n_cell * sizeof *out, p.place), *again = ck_alloc(s, n_cell * sizeof *out, p.place);
    float *bias = p.bias ? ck_alloc(s, p.n_out * sizeof *bias, p.place) : NULL;
    void *scratch = gemv ? NULL : ck_scratch(s, crit_gemm_scratch_bytes());
    float *x = malloc(p.n_in * sizeof *x), *old = malloc(n_cell * sizeof *old);
    float *wf = malloc(p.n_out * p.n_in * sizeof *wf), *range = malloc(p.n_out * p.n_in * sizeof *range);
    double *xd = malloc(p.n_row * p.n_in * sizeof *xd);
    /* the weight in bf16, and how far apart its neighbours are that a kernel's f32 may round to */
    float *wb = malloc(p.n_out * p.n_in * sizeof *wb), *unsure = malloc(p.n_out * p.n_in * sizeof *unsure);

    for (size_t n = 0; n < p.n_out; n++) {
        fill_weights(s, type, w + n * row_bytes, p.n_in / elems, bytes, p.fill);
        s->ref.dequant[type](w + n * row_bytes, wf + n * p.n_in, p.n_in);
        weight_range(s, type, w + n * row_bytes, p.n_in, elems, bytes, wf + n * p.n_in, range + n * p.n_in);
    }
    for (size_t i = 0; i < p.n_out * p.n_in; i++) { /* exact in f32 */
        const double slack = elems == 1 ? 0 : 8 * 0x1p-24 * (double)range[i], wi = (double)wf[i];
        wb[i] = (float)round_bf16(wi), unsure[i] = (float)(round_bf16(wi + slack) - round_bf16(wi - slack));
    }
    for (size_t r = 0; r < p.n_row; r++) { /* specials in row 0 only: the others must not notice */
        fill_x(s, x, p.n_in, r == 0 ? p.x_kind : X_NORMAL);
        uint8_t *packed = act + crit_act_at((crit_act_kind)kind, p.n_in, r);
        s->table.act_pack[kind](x, p.n_in, packed);
        unpack(kind, packed, p.n_in, xd + r * p.n_in);
    }
    if (bias) ck_fill_normal(s, bias, p.n_out, 1.0f);
    if (p.accumulate)
        ck_fill_normal(s, old, n_cell, 1.0f);
    else
        ck_poison(old, n_cell);
    memcpy((void *)out, (const void *)old, n_cell * sizeof *out);
    memcpy((void *)again, (const void *)old, n_cell * sizeof *out);

    crit_gemm_args a = {.w = w,
                        .w_row_bytes = row_bytes,
                        .n_out = p.n_out,
                        .n_in = p.n_in,
                        .act = act,
                        .out = out,
                        .out_stride = p.stride,
                        .bias = bias,
                        .type = (crit_type)type,
                        .accumulate = p.accumulate};
    call(row, a, kind, 0, p.n_row, 0, p.n_out, scratch);

    double terms =
        (double)(get_layout(type, &(layout){0}) && kind != CRIT_ACT_F32 && kind != CRIT_ACT_BF16 ? p.n_in / 32 * 3
                                                                                                 : p.n_in) +
        16;
    /* bf16 dot products take every subnormal on the way for 0 */
    const double tiny = kind == CRIT_ACT_BF16 ? (double)p.n_in * 0x1p-126 : 1e-37;
    for (size_t r = 0; r < p.n_row; r++) {
        for (size_t n = 0; n < p.n_out; n++) {
            double want = 0, mag = 0, doubt = 0;
            for (size_t i = 0; i < p.n_in; i++) {
                double wi = (double)wf[n * p.n_in + i];
                if (kind == CRIT_ACT_BF16) {
                    doubt += (double)unsure[n * p.n_in + i] * fabs(xd[r * p.n_in + i]);
                    wi = (double)wb[n * p.n_in + i];
                }
                want += wi * xd[r * p.n_in + i];
                mag += (double)range[n * p.n_in + i] * fabs(xd[r * p.n_in + i]);
            }
            float o, b = 0, c = 0;
            memcpy(&o, (const char *)(out + r * p.stride) + n * sizeof o, sizeof o);
            if (bias) memcpy(&b, (const char *)bias + n * sizeof b, sizeof b);
            if (p.accumulate) c = old[r * p.stride + n];
            want += (double)b + (double)c;
            mag += fabs((double)b) + fabs((double)c);
            if (r == 0 && (p.x_kind == X_NAN || p.x_kind == X_INF)) {
                s->n_check++;
                if (isfinite(o)) ck_fail(s, "out[0][%zu] = %g from a non-finite activation", n, (double)o);
            } else
                ck_near(s, "out", r, n, (double)o, want, doubt + terms * 0x1p-24 * mag + tiny);
        }
        if (r + 1 < p.n_row) /* between rows nothing is written */
            ck_same_bits(s, "gap", out + r * p.stride + p.n_out, old + r * p.stride + p.n_out,
                         (p.stride - p.n_out) * sizeof *out);
    }
    /* other cuts, other neighbours, the same bits */
    a.out = again;
    for (size_t r = 0; r < p.n_row;) {
        size_t nr = gemv ? 1 : 1 + ck_u32(s) % (uint32_t)(p.n_row - r);
        for (size_t n = 0; n < p.n_out;) {
            size_t left = p.n_out - n, step = gemv ? 1 + ck_u32(s) % 5 : CRIT_GEMM_NR * (1 + ck_u32(s) % 5);
            step = step < left ? step : left;
            call(row, a, kind, r, nr, n, n + step, scratch);
            n += step;
        }
        r += nr;
    }
    if (p.x_kind == X_NAN || p.x_kind == X_INF) /* NaN payloads may differ */
        for (size_t n = 0; n < p.n_out; n++) memcpy((void *)(again + n), (const void *)(out + n), sizeof *out);
    ck_same_bits(s, "recut", out, again, n_cell * sizeof *out);
    free(x), free(old), free(wf), free(range), free(xd), free(wb), free(unsure);
    ck_release(s);
}

/* Gated: the bits of the plain product, silu_mul and act_pack, in one piece and in others. */
static void gated_case(ck *s, const ck_row *row, problem p) {
    const size_t type = row->index;
    uint32_t elems, bytes;
    crit_type_geometry((unsigned)type, &elems, &bytes);
    const size_t row_bytes = p.n_in / elems * bytes, n_gate = (p.n_row - 1) * p.stride + p.n_out;
    static char note[160];
    snprintf(note, sizeof note, "gated, out %zu in %zu rows %zu stride %zu bias %d place %d", p.n_out, p.n_in, p.n_row,
             p.stride, p.bias, (int)p.place);
    s->note = note;
    const size_t act_bytes = crit_act_bytes(CRIT_ACT_BF16, p.n_in, p.n_row),
                 packed_bytes = crit_act_bytes(CRIT_ACT_BF16, p.n_out, p.n_row);
    uint8_t *w = ck_alloc(s, p.n_out * row_bytes, p.place), *act = ck_alloc(s, act_bytes, p.place);
    uint8_t *want = ck_alloc(s, packed_bytes, p.place), *got = ck_alloc(s, packed_bytes, p.place),
            *again = ck_alloc(s, packed_bytes, p.place);
    float *gate = ck_alloc(s, n_gate * sizeof *gate, p.place),
          *out = ck_alloc(s, p.n_row * p.n_out * sizeof *out, CK_END);
    float *bias = p.bias ? ck_alloc(s, p.n_out * sizeof *bias, p.place) : NULL, *x = malloc(p.n_in * sizeof *x);
    float *g = malloc(n_gate * sizeof *g), *y = malloc(p.n_out * sizeof *y);
    void *scratch = ck_scratch(s, crit_gemm_scratch_bytes());
    fill_weights(s, type, w, p.n_out * p.n_in / elems, bytes, FILL_RANDOM);
    memset(act, 0xff, act_bytes);
    for (size_t r = 0; r < p.n_row; r++) {
        fill_x(s, x, p.n_in, X_NORMAL);
        s->table.act_pack[CRIT_ACT_BF16](x, p.n_in, act + crit_act_at(CRIT_ACT_BF16, p.n_in, r));
    }
    if (bias) ck_fill_normal(s, bias, p.n_out, 1.0f);
    ck_fill_normal(s, g, n_gate, 4.0f);
    for (size_t i = 0; i < 8 && n_gate > 8; i++) {
        static const float odd[] = {-INFINITY, INFINITY, NAN, 0.0f, -90.0f, -300.0f, 1e-39f, 200.0f};
        g[ck_u32(s) % n_gate] = odd[i];
    }
    memcpy((void *)gate, g, n_gate * sizeof *g);
    crit_gemm_args a = {.w = w,
                        .w_row_bytes = row_bytes,
                        .n_out = p.n_out,
                        .n_in = p.n_in,
                        .act = act,
                        .out = out,
                        .out_stride = p.n_out,
                        .bias = bias,
                        .type = (crit_type)type};
    call(row, a, CRIT_ACT_BF16, 0, p.n_row, 0, p.n_out, scratch);
    memset(want, 0x5a, packed_bytes), memset(got, 0x5a, packed_bytes), memset(again, 0x5a, packed_bytes);
    for (size_t r = 0; r < p.n_row; r++) {
        s->table.silu_mul(gate + r * p.stride, out + r * p.n_out, y, p.n_out);
        s->table.act_pack[CRIT_ACT_BF16](y, p.n_out, want + crit_act_at(CRIT_ACT_BF16, p.n_out, r));
    }
    a.out = NULL, a.out_stride = 0, a.gate = gate, a.gate_stride = p.stride, a.packed = got;
    call(row, a, CRIT_ACT_BF16, 0, p.n_row, 0, p.n_out, scratch);
    ck_same_bits(s, "gated", got, want, packed_bytes);
    a.packed = again;
    for (size_t r = 0, nr; r < p.n_row; r += nr) {
        nr = 1 + ck_u32(s) % (uint32_t)(p.n_row - r);
        for (size_t n = 0, step; n < p.n_out; n += step) {
            step = CRIT_ACT_STEP * (1 + ck_u32(s) % 5);
            if (step > p.n_out - n) step = p.n_out - n;
            call(row, a, CRIT_ACT_BF16, r, nr, n, n + step, scratch);
        }
    }
    ck_same_bits(s, "gated, cut", again, want, packed_bytes);
    free(x), free(g), free(y);
    ck_release(s);
}

static void test_gated(ck *s, const ck_row *row, uint32_t elems) {
    static const size_t outs[] = {32, 64, 96, 288}, rows[] = {1, 5, 15, 16, 17, 31, 32, 33, 50, 64, 83, 300};
    for (int c = 0; c < 14; c++) {
        problem p = {.n_out = outs[ck_u32(s) % 4],
                     .n_row = rows[c < 12 ? (size_t)c : ck_u32(s) % 12],
                     .n_in = c == 12      ? 1280
                             : elems == 1 ? 1 + ck_u32(s) % 300
                                          : elems * (1 + ck_u32(s) % 3),
                     .bias = c % 3 == 0,
                     .place = (ck_place)(c % CK_PLACES)};
        p.stride = p.n_out + (c & 1 ? 3 : 0);
        gated_case(s, row, p);
    }
}

static void test_product(ck *s, const ck_row *row, bool gemv) {
    uint32_t elems = 1, bytes;
    crit_type_geometry((unsigned)row->index, &elems, &bytes);
    if (!s->table.act_pack[(gemv ? s->table.act_kind_one : s->table.act_kind)[row->index]] ||
        !s->ref.dequant[row->index]) {
        ck_fail(s, "no act_pack or no dequant for this type");
        return;
    }
    static const size_t outs[] = {1, 15, 16, 17, 31, 32, 33, 48, 53, 64, 90},
                        rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 15, 16, 17, 31, 32, 33, 50};
    static const size_t ins_32[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33}, ins_256[] = {1, 2, 3, 5},
                        ins_1[] = {1, 7, 8, 9, 16, 31, 33, 255, 256, 257, 515, 600};
    if (!gemv) /* more rows and outputs than a kernel takes at a time; more inputs */
        for (int c = 0; c < 2; c++) {
            const bool deep = c % 2;
            problem p = {.n_out = deep ? 33 : 48,
                         .n_row = deep ? 275 : 1075,
                         .n_in = elems == 1    ? (deep ? 1300 : 40)
                                 : elems == 32 ? (deep ? 1312 : 64)
                                 : deep        ? 1280
                                               : 256,
                         .stride = deep ? 64 : 512,
                         .accumulate = deep && ck_u32(s) & 1,
                         .bias = ck_u32(s) & 1,
                         .place = (ck_place)(c % CK_PLACES)};
            run_case(s, row, p, gemv);
        }
    for (int c = 0; c < 44; c++) {
        problem p;
        p.n_out = outs[ck_u32(s) % (sizeof outs / sizeof *outs)];
        p.n_row = gemv ? 1 : rows[ck_u32(s) % (sizeof rows / sizeof *rows)];
        p.n_in = elems == 1    ? ins_1[ck_u32(s) % 12]
                 : elems == 32 ? 32 * ins_32[ck_u32(s) % 11]
                               : 256 * ins_256[ck_u32(s) % 4];
        p.stride = p.n_out + (ck_u32(s) & 1 ? 3 : 0);
        p.accumulate = ck_u32(s) & 1;
        p.bias = ck_u32(s) & 1;
        p.place = (ck_place)(c % CK_PLACES);
        p.fill = c % 5 == 4 ? FILL_EXTREME : FILL_RANDOM;
        p.x_kind = c < 4 ? X_NORMAL : c % X_KINDS;
        if (p.fill == FILL_EXTREME) p.x_kind = X_SIGNS;
        run_case(s, row, p, gemv);
    }
    if (!gemv && s->table.gemm_gated && s->table.act_kind[row->index] == CRIT_ACT_BF16) test_gated(s, row, elems);
    s->note = "empty";
    crit_gemm_args a = {.n_in = elems, .type = (crit_type)row->index};
    void *scratch = ck_scratch(s, crit_gemm_scratch_bytes());
    call(row, a, CRIT_ACT_F32, 0, 0, 0, 0, gemv ? NULL : scratch); /* a size of 0 touches nothing */
    ck_release(s);
}

void ck_test_gemm(ck *s, const ck_row *row) {
    test_product(s, row, false);
}
void ck_test_gemv(ck *s, const ck_row *row) {
    test_product(s, row, true);
}

/* ---- bench ---- */

typedef struct bench_arg {
    const ck_row *row;
    crit_gemm_args a;
    void *scratch;
} bench_arg;

static void work_gemm(void *arg) {
    bench_arg *b = arg;
    ((crit_gemm_fn)b->row->fn)(&b->a, 0, b->a.n_out, b->scratch);
}
static void work_gemv(void *arg) {
    bench_arg *b = arg;
    ((crit_gemv_fn)b->row->fn)(&b->a, 0, b->a.n_out);
}

static void *aligned(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) abort();
    return p;
}

static void bench_product(ck *s, const ck_row *row, bool gemv) {
    const size_t type = row->index, n_in = 2048;
    uint32_t elems, bytes;
    if (!crit_type_geometry((unsigned)type, &elems, &bytes)) return;
    const unsigned kind = (gemv ? s->table.act_kind_one : s->table.act_kind)[type];
    size_t row_bytes = n_in / elems * bytes;
    /* gemv: more than any cache */
    size_t n_out = gemv ? ((size_t)96 << 20) / row_bytes / 16 * 16 : 1024, max_row = gemv ? 1 : 512;
    bench_arg b = {
        row,
        {.w_row_bytes = row_bytes, .n_out = n_out, .n_in = n_in, .out_stride = n_out, .type = (crit_type)type},
        aligned(crit_gemm_scratch_bytes())};
    uint8_t *w = aligned(n_out * row_bytes), *act = aligned(crit_act_bytes((crit_act_kind)kind, n_in, max_row));
    float *x = aligned(max_row * n_in * sizeof *x);
    fill_weights(s, type, w, n_in / elems * 64, bytes, FILL_RANDOM);
    for (size_t n = 64; n < n_out; n += 64) memcpy(w + n * row_bytes, w, row_bytes * (n_out - n < 64 ? n_out - n : 64));
    ck_fill_normal(s, x, max_row * n_in, 1.0f);
    for (size_t r = 0; r < max_row; r++)
        s->table.act_pack[kind](x + r * n_in, n_in, act + crit_act_at((crit_act_kind)kind, n_in, r));
    b.a.w = w, b.a.act = act, b.a.out = aligned(max_row * n_out * sizeof(float));
    if (gemv) {
        b.a.n_row = 1;
        s->read_bytes = peak_read(); /* again, next to the figure it is compared with: neighbours change it */
        ck_report(s, "2048 in, 96 MB", ck_time(work_gemv, &b), 0, (double)(n_out * row_bytes));
    } else {
        static const size_t rows[] = {512, 128, 16, 4};
        for (int i = 0; i < 4; i++) {
            char label[64];
            b.a.n_row = rows[i];
            snprintf(label, sizeof label, "%zu rows, 1024 x 2048", rows[i]);
            ck_report(s, label, ck_time(work_gemm, &b), 2.0 * (double)(rows[i] * n_out * n_in), 0);
        }
    }
    /* relative error against f32 activations, without and with outliers */
    for (int kx = X_NORMAL; kx <= X_OUTLIERS; kx++) {
        double err = 0, ref = 0;
        float *wf = aligned(n_in * sizeof *wf);
        fill_x(s, x, n_in, kx);
        s->table.act_pack[kind](x, n_in, act);
        b.a.n_row = 1, b.a.n_out = 64;
        (gemv ? work_gemv : work_gemm)(&b);
        for (size_t n = 0; n < 64; n++) {
            double y = 0;
            s->ref.dequant[type](w + n * row_bytes, wf, n_in);
            for (size_t i = 0; i < n_in; i++) y += (double)wf[i] * (double)x[i];
            err += (y - (double)b.a.out[n]) * (y - (double)b.a.out[n]);
            ref += y * y;
        }
        free(wf);
        fprintf(stderr, "    relative error, %s activations: %.2e\n", kx ? "outlier" : "normal", sqrt(err / ref));
    }
    free(w), free(act), free(x), free(b.a.out), free(b.scratch);
}

void ck_bench_gemm(ck *s, const ck_row *row) {
    bench_product(s, row, false);
}
void ck_bench_gemv(ck *s, const ck_row *row) {
    bench_product(s, row, true);
}

/* ---- act_pack ---- */

void ck_test_act_pack(ck *s, const ck_row *row) {
    const unsigned kind = (unsigned)row->index;
    static const size_t sizes[] = {1, 7, 31, 32, 33, 63, 64, 256, 896, 1000};
    for (size_t z = 0; z < sizeof sizes / sizeof *sizes; z++)
        for (int kx = 0; kx < X_KINDS; kx++)
            for (int place = 0; place < CK_PLACES; place++) {
                size_t n = sizes[z], bytes = crit_act_bytes((crit_act_kind)kind, n, 1);
                /* any row of a tile, the others stay as they are */
                const size_t at = kind == CRIT_ACT_BF16 ? ck_u32(s) % CRIT_ACT_TILE * CRIT_ACT_STEP_BYTES : 0;
                s->note = "pack";
                float *x = ck_alloc(s, n * sizeof *x, (ck_place)place), v[1000];
                void *dst = ck_alloc(s, bytes, (ck_place)place), *ref = ck_alloc(s, bytes, CK_END);
                memset(dst, 0x5a, bytes), memset(ref, 0x5a, bytes);
                fill_x(s, v, n, kx);
                if (kx == X_NORMAL) v[0] = 3e38f; /* the reciprocal scale is subnormal */
                memcpy((void *)x, v, n * sizeof *x);
                ((crit_act_pack_fn)row->fn)(x, n, (uint8_t *)dst + at);
                s->ref.act_pack[kind](x, n, (uint8_t *)ref + at);
                ck_same_bits(s, "against the reference", dst, ref, bytes);
                double got[1000];
                unpack(kind, (uint8_t *)dst + at, n, got);
                for (size_t i = 0; i < n; i++) {
                    double amax = 0;
                    for (size_t j = i / 32 * 32; j < n && j < i / 32 * 32 + 32; j++)
                        amax = isfinite(v[j]) ? fmax(amax, fabs((double)v[j])) : (double)NAN;
                    double step = amax / (kind == CRIT_ACT_I8 ? 127 : CRIT_ACT_I16_MAX);
                    bool bad = false;
                    for (size_t j = i / 32 * 32; j < n && j < i / 32 * 32 + 32; j++) bad |= !isfinite(v[j]);
                    if (kind == CRIT_ACT_F32)
                        ck_near(s, "x", i, 0, got[i], (double)v[i], 0);
                    else if (kind == CRIT_ACT_BF16)
                        ck_near(s, "x", i, 0, got[i],
                                !isfinite(v[i])                 ? (double)v[i]
                                : fabs((double)v[i]) < 0x1p-126 ? 0
                                                                : round_bf16((double)v[i]),
                                0);
                    else if (bad)
                        ck_near(s, "x", i, 0, got[i], (double)NAN, 0);
                    else
                        ck_near(s, "x", i, 0, got[i], (double)v[i],
                                amax < (double)CRIT_ACT_TINY ? amax : step * (0.5 + 32767 * 0x1p-22));
                }
                ck_release(s);
            }
}

typedef struct pack_arg {
    crit_act_pack_fn fn;
    float x[2048];
    char dst[CRIT_ACT_TILE * 4096]; /* a tile of bf16 */
} pack_arg;
static void work_pack(void *arg) {
    pack_arg *p = arg;
    p->fn(p->x, 2048, p->dst);
}
void ck_bench_act_pack(ck *s, const ck_row *row) {
    static pack_arg p;
    p.fn = (crit_act_pack_fn)row->fn;
    ck_fill_normal(s, p.x, 2048, 1.0f);
    ck_report(s, "2048 values, in L1", ck_time(work_pack, &p), 0, 2048 * 4);
}
