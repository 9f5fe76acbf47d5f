/* SPDX-License-Identifier: MIT */
/* See quant.h.  Every quantiser takes the scale from the extreme values of its group and rounds to the nearest level.
 */
#include "tiny/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/c/half.h"

static void put16(unsigned char *p, unsigned v) {
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

/* Stores f as f16 and returns what was stored. */
static float put_half(unsigned char *p, float f) {
    const uint16_t h = crit_f16_bits(f);
    put16(p, h);
    return crit_f16_value(h);
}

static int level(float x, float d, int lo, int hi) {
    const float q = d != 0 ? roundf(x / d) : 0;
    return q < (float)lo ? lo : q > (float)hi ? hi : (int)q;
}

static float absmax(const float *x, int n) {
    float m = 0;
    for (int i = 0; i < n; i++) m = fmaxf(m, fabsf(x[i]));
    return m;
}

static void range(const float *x, int n, float *lo, float *hi) {
    *lo = *hi = x[0];
    for (int i = 1; i < n; i++) {
        *lo = fminf(*lo, x[i]);
        *hi = fmaxf(*hi, x[i]);
    }
}

static int iq4_level(float v) {
    static const int book[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    int best = 0;
    for (int i = 1; i < 16; i++)
        if (fabsf(v - (float)book[i]) < fabsf(v - (float)book[best])) best = i;
    return best;
}

/* Q4_0 Q4_1 Q5_0 Q5_1: nibbles split by halves, optional minimum, optional fifth bits */
static void small_block(const float *x, unsigned char *b, int bits, int with_min) {
    const int top = (1 << bits) - 1, mid = 1 << (bits - 1);
    float lo, hi, d;
    unsigned fifth = 0;
    size_t at = with_min ? 4 : 2;
    range(x, 32, &lo, &hi);
    d = put_half(b, with_min ? (hi - lo) / (float)top : absmax(x, 32) / (float)(mid - 1));
    lo = with_min ? put_half(b + 2, lo) : 0;
    unsigned char *nib = b + at + (bits == 5 ? 4 : 0);
    memset(nib, 0, 16);
    for (int j = 0; j < 32; j++) {
        const int q = with_min ? level(x[j] - lo, d, 0, top) : level(x[j], d, -mid, mid - 1) + mid;
        nib[j % 16] |= (unsigned char)((q & 15) << j / 16 * 4);
        fifth |= (unsigned)(q >> 4 & 1) << j;
    }
    if (bits == 5) {
        put16(b + at, fifth);
        put16(b + at + 2, fifth >> 16);
    }
}

static void q8_0(const float *x, unsigned char *b) {
    const float d = put_half(b, absmax(x, 32) / 127);
    for (int j = 0; j < 32; j++) b[2 + j] = (unsigned char)level(x[j], d, -127, 127);
}

static void iq4_nl(const float *x, unsigned char *b) {
    const float d = put_half(b, absmax(x, 32) / 113);
    memset(b + 2, 0, 16);
    for (int j = 0; j < 32; j++) b[2 + j % 16] |= (unsigned char)(iq4_level(d != 0 ? x[j] / d : 0) << j / 16 * 4);
}

static void iq4_xs(const float *x, unsigned char *b) {
    float scale[8], top = 0;
    unsigned upper = 0;
    for (int g = 0; g < 8; g++) top = fmaxf(top, scale[g] = absmax(x + 32 * g, 32) / 113);
    const float d = put_half(b, top / 31);
    memset(b + 4, 0, 132);
    for (int g = 0; g < 8; g++) {
        const int s = level(scale[g], d, 0, 31) + 32;
        const float ds = d * (float)(s - 32);
        b[4 + g / 2] |= (unsigned char)((s & 15) << g % 2 * 4);
        upper |= (unsigned)(s >> 4) << 2 * g;
        for (int j = 0; j < 32; j++)
            b[8 + 16 * g + j % 16] |= (unsigned char)(iq4_level(ds != 0 ? x[32 * g + j] / ds : 0) << j / 16 * 4);
    }
    put16(b + 2, upper);
}

/* Scales and minima (>= 0, subtracted) of n groups of len values, with quants 0..top, scale steps 0..steps. */
static void group_scales(const float *x, int n, int len, int top, int steps, unsigned char *dst_d, int *s, int *m,
                         float *ds, float *dm) {
    float scale[16], min[16], smax = 0, mmax = 0;
    for (int g = 0; g < n; g++) {
        float lo, hi;
        range(x + g * len, len, &lo, &hi);
        min[g] = fmaxf(0, -lo);
        scale[g] = fmaxf(0, hi + min[g]) / (float)top;
        smax = fmaxf(smax, scale[g]);
        mmax = fmaxf(mmax, min[g]);
    }
    const float d = put_half(dst_d, smax / (float)steps), dmin = put_half(dst_d + 2, mmax / (float)steps);
    for (int g = 0; g < n; g++) {
        s[g] = level(scale[g], d, 0, steps);
        m[g] = level(min[g], dmin, 0, steps);
        ds[g] = d * (float)s[g];
        dm[g] = dmin * (float)m[g];
    }
}

static void q2_k(const float *x, unsigned char *b) {
    int s[16], m[16];
    float ds[16], dm[16];
    group_scales(x, 16, 16, 3, 15, b + 80, s, m, ds, dm);
    memset(b + 16, 0, 64);
    for (int k = 0; k < 16; k++) b[k] = (unsigned char)(s[k] | m[k] << 4);
    for (int v = 0; v < 256; v++)
        b[16 + v / 128 * 32 + v % 32] |=
            (unsigned char)(level(x[v] + dm[v / 16], ds[v / 16], 0, 3) << v % 128 / 32 * 2);
}

/* bits 4 or 5 */
static void q45_k(const float *x, unsigned char *b, int bits) {
    int s[8], m[8];
    float ds[8], dm[8];
    group_scales(x, 8, 32, (1 << bits) - 1, 63, b, s, m, ds, dm);
    unsigned char *p = b + 4, *hi = b + 16, *nib = bits == 5 ? b + 48 : b + 16;
    memset(hi, 0, 32);
    memset(nib, 0, 128);
    for (int k = 0; k < 4; k++) {
        p[k] = (unsigned char)(s[k] | s[k + 4] >> 4 << 6);
        p[k + 4] = (unsigned char)(m[k] | m[k + 4] >> 4 << 6);
        p[k + 8] = (unsigned char)((s[k + 4] & 15) | (m[k + 4] & 15) << 4);
    }
    for (int v = 0; v < 256; v++) {
        const int k = v / 32, q = level(x[v] + dm[k], ds[k], 0, (1 << bits) - 1);
        nib[k / 2 * 32 + v % 32] |= (unsigned char)((q & 15) << k % 2 * 4);
        if (bits == 5) hi[v % 32] |= (unsigned char)((q >> 4) << k);
    }
}

static void q3_k(const float *x, unsigned char *b) {
    float scale[16], top = 0;
    for (int k = 0; k < 16; k++) top = fmaxf(top, scale[k] = absmax(x + 16 * k, 16) / 3.5f);
    const float d = put_half(b + 108, top / 31);
    memset(b, 0, 108);
    for (int k = 0; k < 16; k++) {
        const int s = level(scale[k], d, 0, 31) + 32;
        b[96 + k % 8] |= (unsigned char)((s & 15) << k / 8 * 4);
        b[104 + k % 4] |= (unsigned char)((s >> 4) << k / 4 * 2);
        for (int v = 16 * k; v < 16 * k + 16; v++) {
            const int q = level(x[v], d * (float)(s - 32), -4, 3) + 4;
            b[32 + v / 128 * 32 + v % 32] |= (unsigned char)((q & 3) << v % 128 / 32 * 2);
            b[v % 32] |= (unsigned char)((q >> 2) << v / 32);
        }
    }
}

static void q6_k(const float *x, unsigned char *b) {
    float scale[16], top = 0;
    for (int k = 0; k < 16; k++) top = fmaxf(top, scale[k] = absmax(x + 16 * k, 16) / 31);
    const float d = put_half(b + 208, top / 127);
    memset(b, 0, 208);
    for (int k = 0; k < 16; k++) {
        const int s = level(scale[k], d, 0, 127);
        b[192 + k] = (unsigned char)s;
        for (int v = 16 * k; v < 16 * k + 16; v++) {
            const int q = level(x[v], d * (float)s, -32, 31) + 32, half = v / 128, w = v % 128;
            b[half * 64 + w % 64] |= (unsigned char)((q & 15) << w / 64 * 4);
            b[128 + half * 32 + w % 32] |= (unsigned char)((q >> 4) << w / 32 * 2);
        }
    }
}

void tiny_quantize(crit_type type, const float *x, void *dst, size_t n) {
    uint32_t elems, bytes;
    unsigned char *b = dst;
    if (!crit_type_geometry((unsigned)type, &elems, &bytes) || n % elems) abort();
    for (size_t i = 0; i < n; i += elems, b += bytes) {
        switch (type) {
        case CRIT_T_F32:
            memcpy(b, x + i, 4);
            break;
        case CRIT_T_F16:
            put16(b, crit_f16_bits(x[i]));
            break;
        case CRIT_T_BF16:
            put16(b, crit_bf16_bits(x[i]));
            break;
        case CRIT_T_Q4_0:
            small_block(x + i, b, 4, 0);
            break;
        case CRIT_T_Q4_1:
            small_block(x + i, b, 4, 1);
            break;
        case CRIT_T_Q5_0:
            small_block(x + i, b, 5, 0);
            break;
        case CRIT_T_Q5_1:
            small_block(x + i, b, 5, 1);
            break;
        case CRIT_T_Q8_0:
            q8_0(x + i, b);
            break;
        case CRIT_T_IQ4_NL:
            iq4_nl(x + i, b);
            break;
        case CRIT_T_IQ4_XS:
            iq4_xs(x + i, b);
            break;
        case CRIT_T_Q2_K:
            q2_k(x + i, b);
            break;
        case CRIT_T_Q3_K:
            q3_k(x + i, b);
            break;
        case CRIT_T_Q4_K:
            q45_k(x + i, b, 4);
            break;
        case CRIT_T_Q5_K:
            q45_k(x + i, b, 5);
            break;
        case CRIT_T_Q6_K:
            q6_k(x + i, b);
            break;
        case CRIT_T_COUNT:
            abort();
        }
    }
}
