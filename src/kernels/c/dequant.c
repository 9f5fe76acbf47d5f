/* SPDX-License-Identifier: MIT */
/* Exact decoders of every tensor type we read, and the layouts of their blocks.  The reference all faster decoders are
 * held to.
 *
 * Layouts: bytes in file order, little-endian, f16 = binary16.  A block is decoded to 32 or 256 ("K" types, IQ4_XS)
 * values in order.  Every product of an f16 scale, an integer scale and a quant fits 24 bits, so it is exact in f32
 * whatever the order; only types with a minimum round, once, in the final subtraction or addition. */
#include <string.h>

#include "kernels/c/half.h"
#include "kernels/kernels.h"

#define DECODER(name) void crit_dequant_##name##_c(const void *src, float *dst, size_t n)
DECODER(f32);
DECODER(f16);
DECODER(bf16);
DECODER(q4_0);
DECODER(q4_1);
DECODER(q5_0);
DECODER(q5_1);
DECODER(q8_0);
DECODER(q2_k);
DECODER(q3_k);
DECODER(q4_k);
DECODER(q5_k);
DECODER(q6_k);
DECODER(iq4_nl);
DECODER(iq4_xs);

static uint16_t u16_at(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static float f16_at(const uint8_t *p) {
    return crit_f16_value(u16_at(p));
}

DECODER(f32) {
    memcpy(dst, src, n * sizeof *dst);
}

DECODER(f16) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i++) dst[i] = f16_at(b + 2 * i);
}

DECODER(bf16) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i++) dst[i] = crit_bf16_value(u16_at(b + 2 * i));
}

/* ---- 32 values a block ----
 * Nibbles are split by halves: byte j holds value j in its low and value j + 16 in its high nibble. */

/* Q4_0, 18 bytes: f16 d; nibbles[16].   y = d (q - 8) */
DECODER(q4_0) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 18) {
        const float d = f16_at(b);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = d * (float)((b[2 + j] & 15) - 8);
            dst[i + j + 16] = d * (float)((b[2 + j] >> 4) - 8);
        }
    }
}

/* Q4_1, 20 bytes: f16 d; f16 m; nibbles[16].   y = d q + m */
DECODER(q4_1) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 20) {
        const float d = f16_at(b), m = f16_at(b + 2);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = d * (float)(b[4 + j] & 15) + m;
            dst[i + j + 16] = d * (float)(b[4 + j] >> 4) + m;
        }
    }
}

/* The 5th bit of value j of a Q5 block: bit j of the little-endian u32 at hi. */
static int fifth(const uint8_t *hi, int j) {
    return (hi[j / 8] >> (j % 8) & 1) << 4;
}

/* Q5_0, 22 bytes: f16 d; u32 fifth bits; nibbles[16].   y = d (q - 16) */
DECODER(q5_0) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 22) {
        const float d = f16_at(b);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = d * (float)(((b[6 + j] & 15) | fifth(b + 2, j)) - 16);
            dst[i + j + 16] = d * (float)((b[6 + j] >> 4 | fifth(b + 2, j + 16)) - 16);
        }
    }
}

/* Q5_1, 24 bytes: f16 d; f16 m; u32 fifth bits; nibbles[16].   y = d q + m */
DECODER(q5_1) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 24) {
        const float d = f16_at(b), m = f16_at(b + 2);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = d * (float)((b[8 + j] & 15) | fifth(b + 4, j)) + m;
            dst[i + j + 16] = d * (float)(b[8 + j] >> 4 | fifth(b + 4, j + 16)) + m;
        }
    }
}

/* Q8_0, 34 bytes: f16 d; i8 q[32].   y = d q */
DECODER(q8_0) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 34) {
        const float d = f16_at(b);
        for (int j = 0; j < 32; j++) dst[i + j] = d * (float)(int8_t)b[2 + j];
    }
}

/* Quants of the IQ4 types: a fixed non-linear code book. */
static const int8_t iq4_value[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* IQ4_NL, 18 bytes: f16 d; nibbles[16].   y = d book[q] */
DECODER(iq4_nl) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 18) {
        const float d = f16_at(b);
        for (int j = 0; j < 16; j++) {
            dst[i + j] = d * (float)iq4_value[b[2 + j] & 15];
            dst[i + j + 16] = d * (float)iq4_value[b[2 + j] >> 4];
        }
    }
}

/* ---- 256 values a block ---- */

/* IQ4_XS, 136 bytes: f16 d; u16 upper scale bits (2 a sub-block); lower scale nibbles[4]; nibbles[8][16].
 * Eight sub-blocks of 32, each laid out as in IQ4_NL.   y = d (s - 32) book[q], s of 6 bits */
DECODER(iq4_xs) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 136) {
        const float d = f16_at(b);
        const unsigned upper = u16_at(b + 2);
        for (int g = 0; g < 8; g++) {
            const int s = (b[4 + g / 2] >> 4 * (g % 2) & 15) | (int)(upper >> 2 * g & 3) << 4;
            const float ds = d * (float)(s - 32);
            const uint8_t *q = b + 8 + 16 * g;
            float *y = dst + i + 32 * g;
            for (int j = 0; j < 16; j++) {
                y[j] = ds * (float)iq4_value[q[j] & 15];
                y[j + 16] = ds * (float)iq4_value[q[j] >> 4];
            }
        }
    }
}

/* Q2_K, 84 bytes: u8 s[16] (low nibble scale, high nibble minimum); 2-bit quants[64]; f16 d; f16 dmin.
 * Value v lies in half v/128; there, byte v%32 of the half's 32, bits 2 (v%128/32).  One s for 16 values.
 *   y = d scale q - dmin minimum */
DECODER(q2_k) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 84) {
        const uint8_t *s = b, *q = b + 16;
        const float d = f16_at(b + 80), dmin = f16_at(b + 82);
        for (int v = 0; v < 256; v++) {
            const int quant = q[v / 128 * 32 + v % 32] >> v % 128 / 32 * 2 & 3;
            const uint8_t sm = s[v / 16];
            dst[i + v] = d * (float)(sm & 15) * (float)quant - dmin * (float)(sm >> 4);
        }
    }
}

/* Q3_K, 110 bytes: third bits[32]; 2-bit quants[64] placed as in Q2_K; packed 6-bit scales[12]; f16 d.
 * Third bit of value v: byte v%32, bit v/32.  Scale k of 16 (one for 16 values): low 4 bits in nibble k/8 of byte k%8,
 * upper 2 in byte 8 + k%4, bits 2 (k/4).   y = d (scale - 32) (q - 4), q of 3 bits */
DECODER(q3_k) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 110) {
        const uint8_t *third = b, *q = b + 32, *s = b + 96;
        const float d = f16_at(b + 108);
        for (int v = 0; v < 256; v++) {
            const int k = v / 16;
            const int scale = (s[k % 8] >> k / 8 * 4 & 15) | (s[8 + k % 4] >> k / 4 * 2 & 3) << 4;
            const int quant = (q[v / 128 * 32 + v % 32] >> v % 128 / 32 * 2 & 3) | (third[v % 32] >> v / 32 & 1) << 2;
            dst[i + v] = d * (float)(scale - 32) * (float)(quant - 4);
        }
    }
}

/* Scale and minimum k of 8 (one pair for 32 values) in the 12 bytes shared by Q4_K and Q5_K: bytes 0-3 hold scales 0-3
 * and 4-7 minima 0-3 in their low 6 bits; byte 4 + k holds the low nibbles of scale k and minimum k for k >= 4, whose
 * upper 2 bits are the top bits of bytes k - 4 and k. */
static void k_scale(const uint8_t *s, int k, int *scale, int *min) {
    if (k < 4) {
        *scale = s[k] & 63;
        *min = s[k + 4] & 63;
    } else {
        *scale = (s[k + 4] & 15) | s[k - 4] >> 6 << 4;
        *min = s[k + 4] >> 4 | s[k] >> 6 << 4;
    }
}

/* Q4_K, 144 bytes: f16 d; f16 dmin; packed scales[12]; nibbles[4][32].  Sub-block k of 32 values lies in row k/2, low
 * nibbles for even k.   y = d scale q - dmin minimum */
DECODER(q4_k) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 144) {
        const float d = f16_at(b), dmin = f16_at(b + 2);
        for (int k = 0; k < 8; k++) {
            int scale, min;
            k_scale(b + 4, k, &scale, &min);
            const float ds = d * (float)scale, dm = dmin * (float)min;
            const uint8_t *q = b + 16 + k / 2 * 32;
            for (int j = 0; j < 32; j++) dst[i + 32 * k + j] = ds * (float)(q[j] >> k % 2 * 4 & 15) - dm;
        }
    }
}

/* Q5_K, 176 bytes: f16 d; f16 dmin; packed scales[12]; fifth bits[32]; nibbles[4][32].  As Q4_K; the fifth bit of
 * value j of sub-block k is bit k of byte j.   y = d scale q - dmin minimum */
DECODER(q5_k) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 176) {
        const float d = f16_at(b), dmin = f16_at(b + 2);
        for (int k = 0; k < 8; k++) {
            int scale, min;
            k_scale(b + 4, k, &scale, &min);
            const float ds = d * (float)scale, dm = dmin * (float)min;
            const uint8_t *hi = b + 16, *q = b + 48 + k / 2 * 32;
            for (int j = 0; j < 32; j++)
                dst[i + 32 * k + j] = ds * (float)((q[j] >> k % 2 * 4 & 15) | (hi[j] >> k & 1) << 4) - dm;
        }
    }
}

/* Q6_K, 210 bytes: nibbles[128]; upper 2 bits[64]; i8 scale[16]; f16 d.  In each half of 128 values, value w has its
 * low nibble in byte w%64 of the half's 64 (high nibbles for w >= 64), its upper bits in byte w%32 of the half's 32,
 * bits 2 (w/32).  One scale for 16 values.   y = d scale (q - 32) */
DECODER(q6_k) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 210) {
        const float d = f16_at(b + 208);
        for (int v = 0; v < 256; v++) {
            const int half = v / 128, w = v % 128;
            const int low = b[half * 64 + w % 64] >> w / 64 * 4 & 15;
            const int high = b[128 + half * 32 + w % 32] >> w / 32 * 2 & 3;
            dst[i + v] = d * (float)(int8_t)b[192 + v / 16] * (float)((low | high << 4) - 32);
        }
    }
}
