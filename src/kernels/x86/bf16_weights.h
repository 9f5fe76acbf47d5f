/* SPDX-License-Identifier: MIT */
/* Soft-max weights P = 2^(S - m) as bf16, from S^T of one block and column of rows.                    [alg:attend]
 *
 * The sum S + (BIAS - m) rounds to 1/128 and leaves, in its low 16 bits, what is a bf16 already but for its fraction:
 * exponent and 7 bits f.  A table of 128 bytes turns f into the mantissa of 2^(f / 128).  So a pair of keys takes some
 * 14 vector instructions instead of 30, and an error of 2^-8 in the exponent, beside P's own rounding: P is off by
 * 2^-8 (1 + ln 2) at most and .0023 in the root mean square, where the polynomial it replaces had .0017.
 *
 * m stands LEAD above the largest score of a row's first group, rounded to 1/128 (so the sum loses nothing of it), and
 * stays there until a score exceeds it by 1: then the exponent's upper bit is set in some sum, which is all that is
 * looked at. */
#ifndef CRIT_KERNELS_X86_BF16_WEIGHTS_H
#define CRIT_KERNELS_X86_BF16_WEIGHTS_H

#include "kernels/x86/ahead.h"
#include "kernels/x86/bf16_pack.h"

enum { PEND = CRIT_ATTEND_BF16_PEND, P_TILE = BLK * COL }; /* 16-bit values of P of one block and column */
enum { AHEAD_EXP = 2 }; /* lines asked for at a time, see ahead.h */

#define BIAS      (0x1.8p+16f + 127.0f) /* 2^16 + 2^15: the unit of such numbers is 1/128 */
#define LEAD      15.0f
#define FLOOR     (-100.0f)  /* P is at least 2^FLOOR */
#define LOUD_BITS 0x383fc000 /* set in S + BIAS - m for no FLOOR <= S - m < 1; for inf and NaN some are */

/* round((2^(i / 128) - 1) 128) */
static const _Alignas(64) uint8_t exp2_mantissa[128] = {
    0,   1,   1,   2,   3,   4,   4,   5,   6,   6,   7,   8,   9,   9,   10,  11,  12,  12,  13, 14,  15,  15,
    16,  17,  18,  19,  19,  20,  21,  22,  23,  23,  24,  25,  26,  27,  28,  28,  29,  30,  31, 32,  33,  34,
    34,  35,  36,  37,  38,  39,  40,  41,  42,  43,  43,  44,  45,  46,  47,  48,  49,  50,  51, 52,  53,  54,
    55,  56,  57,  58,  59,  60,  61,  62,  63,  64,  65,  66,  67,  68,  69,  70,  72,  73,  74, 75,  76,  77,
    78,  79,  80,  82,  83,  84,  85,  86,  87,  88,  90,  91,  92,  93,  94,  96,  97,  98,  99, 100, 102, 103,
    104, 105, 107, 108, 109, 111, 112, 113, 115, 116, 117, 118, 120, 121, 123, 124, 125, 127,
};

/* Which keys of a block count for which rows of a column: all of them for the rows of `rows`, or, with by_key, a mask
 * for each key. */
typedef struct mask {
    int by_key;
    __mmask16 rows, key[BLK];
} mask;

CRIT_INLINE __mmask16 mask_of(const mask *k, size_t j) {
    return k->by_key ? k->key[j] : k->rows;
}

/* Largest counting score of a block for each row. */
static __m512 block_max(const mask *k, const float *s) {
    __m512 mx = _mm512_set1_ps(-INFINITY);
    for (size_t j = 0; j < BLK; j++) mx = _mm512_mask_max_ps(mx, mask_of(k, j), _mm512_load_ps(s + j * COL), mx);
    return mx;
}

/* m for a largest score mx, and what is added to scores. */
CRIT_INLINE __m512 lead_of(__m512 mx) {
    return _mm512_add_ps(_mm512_roundscale_ps(mx, 7 << 4), _mm512_set1_ps(LEAD));
}
CRIT_INLINE __m512 base_of(__m512 m) {
    return _mm512_sub_ps(_mm512_set1_ps(BIAS), m);
}
/* s relative to m as weights() takes it; NaN stays NaN. */
CRIT_INLINE __m512 place(__m512 s, __m512 base) {
    return _mm512_max_ps(_mm512_set1_ps(BIAS + FLOOR), _mm512_add_ps(s, base));
}
CRIT_INLINE __mmask16 is_loud(__m512i t) {
    return _mm512_test_epi32_mask(t, _mm512_set1_epi32(LOUD_BITS));
}

/* P of one block and column as pairs of keys, 0 where the mask says so (all: every key counts for every row); the sums
 * of even and odd keys go on, and *seen collects the bits of what counts. */
CRIT_INLINE void weights(const int all, const mask *k, const float *s, __m512 base, uint16_t *p, __m512 *sum,
                         __m512i *seen, list_ahead *f) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u), mantissa = _mm512_set1_epi32(0x007f007f);
    const __m512i table0 = _mm512_load_si512(exp2_mantissa), table1 = _mm512_load_si512(exp2_mantissa + 64);
    const __m512 least = _mm512_set1_ps(BIAS + FLOOR);
    CRIT_UNROLL_4 for (size_t j = 0; j < BLK; j += 2) {
        ahead_lines(f, AHEAD_EXP);
        const __m512 s0 = _mm512_load_ps(s + j * COL), s1 = _mm512_load_ps(s + (j + 1) * COL);
        __m512i on = high;
        __m512 t0, t1;
        if (all) {
            t0 = _mm512_add_ps(s0, base), t1 = _mm512_add_ps(s1, base);
        } else { /* what does not count, NaN even, is not looked at */
            const __mmask16 on0 = mask_of(k, j), on1 = mask_of(k, j + 1);
            t0 = _mm512_mask_add_ps(least, on0, s0, base), t1 = _mm512_mask_add_ps(least, on1, s1, base);
            on = _mm512_or_si512(_mm512_maskz_mov_epi32(on0, _mm512_set1_epi32(0xffff)),
                                 _mm512_maskz_mov_epi32(on1, high));
        }
        t0 = _mm512_max_ps(least, t0), t1 = _mm512_max_ps(least, t1); /* NaN stays */
        const __m512i b0 = _mm512_castps_si512(t0), b1 = _mm512_castps_si512(t1);
        *seen = _mm512_ternarylogic_epi32(*seen, b0, b1, 0xfe);
        const __m512i both = _mm512_mask_blend_epi16(0xaaaaaaaau, b0, _mm512_slli_epi32(b1, 16));
        const __m512i fraction = _mm512_permutex2var_epi8(table0, both, table1);
        __m512i w = _mm512_ternarylogic_epi32(mantissa, fraction, both, 0xca);
        if (!all) w = _mm512_and_si512(w, on);
        sum[0] = _mm512_add_ps(sum[0], _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)));
        sum[1] = _mm512_add_ps(sum[1], _mm512_castsi512_ps(_mm512_and_si512(w, high)));
        _mm512_store_si512(p + j * COL, w);
    }
}

/* NaN for the rows that met one: it shows in a sum only, P has no place for it. */
static __m512 nan_rows(const mask *k, const float *s, __m512 base) {
    __m512 x = _mm512_setzero_ps();
    for (size_t j = 0; j < BLK; j++) {
        const __m512 t = _mm512_add_ps(_mm512_load_ps(s + j * COL), base);
        x = _mm512_mask_add_ps(x, mask_of(k, j), x, _mm512_sub_ps(t, t));
    }
    return x;
}

#endif
