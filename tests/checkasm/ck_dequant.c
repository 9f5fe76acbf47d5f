/* SPDX-License-Identifier: MIT */
/* Decoding of weights, against a second statement of every block layout: one value at a time, in double.
 *
 * value = a - b, where a and b are products of a f16 and small integers: exact in f32 apart from the difference, so
 * |err| <= 2^-23 (|a| + |b|). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkasm.h"
#include "kernels/f16.h"

static double half_at(const uint8_t *p) {
    return (double)crit_f16_value((uint16_t)(p[0] | p[1] << 8));
}

/* 6-bit scale and minimum j of Q4_K and Q5_K */
static void k_scale(const uint8_t *s, unsigned j, int *sc, int *mn) {
    if (j < 4)
        *sc = s[j] & 63, *mn = s[j + 4] & 63;
    else {
        *sc = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        *mn = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

static int iq4(unsigned i) {
    static const int v[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return v[i & 15];
}

/* Value i of a block = *a - *b. */
static void element(size_t type, const uint8_t *p, unsigned i, double *a, double *b) {
    const unsigned nib = i % 32 % 16, high = i % 32 / 16, half = i / 128, j = i / 32, l = i % 32;
    int sc, mn, q;
    *b = 0;
    switch (type) {
    case CRIT_T_F32: {
        float f;
        memcpy(&f, p, sizeof f);
        *a = (double)f;
        return;
    }
    case CRIT_T_F16:
        *a = half_at(p);
        return;
    case CRIT_T_BF16: {
        uint32_t u = (uint32_t)(p[0] | p[1] << 8) << 16;
        float f;
        memcpy(&f, &u, sizeof f);
        *a = (double)f;
        return;
    }
    case CRIT_T_Q4_0:
        *a = half_at(p) * ((p[2 + nib] >> 4 * high & 15) - 8);
        return;
    case CRIT_T_Q4_1:
        *a = half_at(p) * (p[4 + nib] >> 4 * high & 15), *b = -half_at(p + 2);
        return;
    case CRIT_T_Q5_0:
        *a = half_at(p) * (((p[6 + nib] >> 4 * high & 15) | (p[2 + i / 8] >> i % 8 & 1) << 4) - 16);
        return;
    case CRIT_T_Q5_1:
        *a = half_at(p) * ((p[8 + nib] >> 4 * high & 15) | (p[4 + i / 8] >> i % 8 & 1) << 4), *b = -half_at(p + 2);
        return;
    case CRIT_T_Q8_0:
        *a = half_at(p) * (int8_t)p[2 + i];
        return;
    case CRIT_T_Q2_K:
        q = p[16 + 32 * half + l] >> 2 * (j % 4) & 3;
        *a = half_at(p + 80) * (p[i / 16] & 15) * q, *b = half_at(p + 82) * (p[i / 16] >> 4);
        return;
    case CRIT_T_Q3_K: {
        unsigned g = i / 16;
        q = (p[32 + 32 * half + l] >> 2 * (j % 4) & 3) - (p[l] >> j & 1 ? 0 : 4);
        sc = (p[96 + g % 8] >> (g < 8 ? 0 : 4) & 15) | (p[104 + g % 4] >> 2 * (g / 4) & 3) << 4;
        *a = half_at(p + 108) * (sc - 32) * q;
        return;
    }
    case CRIT_T_Q4_K:
    case CRIT_T_Q5_K: {
        const uint8_t *qs = p + (type == CRIT_T_Q4_K ? 16 : 48);
        k_scale(p + 4, j, &sc, &mn);
        q = qs[32 * (j / 2) + l] >> 4 * (j % 2) & 15;
        if (type == CRIT_T_Q5_K) q |= (p[16 + l] >> j & 1) << 4;
        *a = half_at(p) * sc * q, *b = half_at(p + 2) * mn;
        return;
    }
    case CRIT_T_Q6_K:
        q = (p[64 * half + 32 * (j % 2) + l] >> 4 * (j % 4 / 2) & 15) | (p[128 + 32 * half + l] >> 2 * (j % 4) & 3)
                                                                            << 4;
        *a = half_at(p + 208) * (int8_t)p[192 + i / 16] * (q - 32);
        return;
    case CRIT_T_IQ4_NL:
        *a = half_at(p) * iq4(p[2 + nib] >> 4 * high);
        return;
    default: /* IQ4_XS */
        sc = (p[4 + j / 2] >> 4 * (j % 2) & 15) | ((p[2] | p[3] << 8) >> 2 * j & 3) << 4;
        *a = half_at(p) * (sc - 32) * iq4(p[8 + 16 * j + nib] >> 4 * high);
    }
}

void ck_test_dequant(ck *s, const ck_row *row) {
    uint32_t elems = 1, bytes = 1;
    if (!crit_type_geometry((unsigned)row->index, &elems, &bytes)) {
        ck_fail(s, "type %zu has no geometry", row->index);
        return;
    }
    static const size_t blocks[] = {0, 1, 2, 3, 7, 8, 9, 17};
    for (size_t z = 0; z < sizeof blocks / sizeof *blocks; z++)
        for (int place = 0; place < CK_PLACES; place++) {
            size_t n = blocks[z] * elems, n_bytes = blocks[z] * bytes;
            static char note[64];
            snprintf(note, sizeof note, "%zu blocks, place %d", blocks[z], place);
            s->note = note;
            uint8_t *src = ck_alloc(s, n_bytes, (ck_place)place);
            float *dst = ck_alloc(s, n * sizeof *dst, (ck_place)place);
            for (size_t i = 0; i < n_bytes; i++) src[i] = (uint8_t)ck_u32(s);
            ((crit_dequant_fn)row->fn)(src, dst, n);
            for (size_t i = 0; i < n; i++) {
                double a, b;
                float got;
                memcpy(&got, (const char *)dst + i * sizeof got, sizeof got);
                element(row->index, src + i / elems * bytes, (unsigned)(i % elems), &a, &b);
                if (isfinite(a) && isfinite(b))
                    ck_near(s, "w", i, 0, (double)got, a - b, 0x1p-23 * (fabs(a) + fabs(b)));
                else if (isfinite(got))
                    ck_fail(s, "w[%zu] is finite from a scale that is not", i);
            }
            ck_release(s);
        }
}

typedef struct dequant_arg {
    crit_dequant_fn fn;
    uint8_t src[4096 * 4];
    float dst[4096];
} dequant_arg;
static void work(void *arg) {
    dequant_arg *d = arg;
    d->fn(d->src, d->dst, 4096);
}
void ck_bench_dequant(ck *s, const ck_row *row) {
    static dequant_arg d;
    d.fn = (crit_dequant_fn)row->fn;
    for (size_t i = 0; i < sizeof d.src; i++) d.src[i] = (uint8_t)(ck_u32(s) & 0x37);
    ck_report(s, "4096 values out", ck_time(work, &d), 0, 4096 * 4);
}
