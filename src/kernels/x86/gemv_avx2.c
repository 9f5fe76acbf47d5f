/* SPDX-License-Identifier: MIT */
/* One row times quantised weights, AVX2: streams the file's rows once, in order, at memory speed.
 *
 * Everything that costs per group is kept to unpack, multiply, widen, fma: f16 scales are converted eight at a time,
 * and the minimum or offset terms are a second small dot product over groups (scales against the activations' sums).
 * The activations' scales and sums are therefore gathered once per call into contiguous arrays. */
#include "kernels/act.h"
#include "kernels/protos.h"
#include "kernels/x86/panel_avx2.h"

enum { CHUNK = 1024 }; /* groups whose scales lie on the stack: 32,768 inputs, 12 KB */

typedef struct side {
    float s[CHUNK];       /* zero behind the last group, to a multiple of 8 */
    float sum[2 * CHUNK]; /* of groups, or of halves for types with scales per 16 */
} side;

/* acc: lanes to be added up, two chains because one fma per 4 cycles is slower than memory; low: sum of
 * scale * sum products, weighted at the end */
typedef struct partial {
    __m256 acc[2], low;
} partial;

CRIT_AI float hsum(__m256 v) {
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

/* f16 values at p, p + stride, ..: nb <= 8 of them, 0 behind.  4 and 8 avoid reading what was just stored in pieces. */
CRIT_AI __m256 f16_strided(const uint8_t *p, size_t stride, size_t nb) {
    if (nb == 8 || nb == 4) {
        __m128i v = _mm_cvtsi32_si128(load_u16(p));
        v = _mm_insert_epi16(v, load_u16(p + stride), 1);
        v = _mm_insert_epi16(v, load_u16(p + 2 * stride), 2);
        v = _mm_insert_epi16(v, load_u16(p + 3 * stride), 3);
        if (nb == 4) return _mm256_cvtph_ps(v);
        v = _mm_insert_epi16(v, load_u16(p + 4 * stride), 4);
        v = _mm_insert_epi16(v, load_u16(p + 5 * stride), 5);
        v = _mm_insert_epi16(v, load_u16(p + 6 * stride), 6);
        v = _mm_insert_epi16(v, load_u16(p + 7 * stride), 7);
        return _mm256_cvtph_ps(v);
    }
    uint16_t t[8] = {0};
    for (size_t i = 0; i < nb; i++) t[i] = load_u16(p + i * stride);
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)t));
}

CRIT_AI __m256i nibbles(const uint8_t *p) { /* 16 bytes: low nibbles, then high ones */
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    return lo4(_mm256_inserti128_si256(_mm256_castsi128_si256(v), _mm_srli_epi16(v, 4), 1));
}

CRIT_AI __m256i bits32(uint32_t h) { /* bit i of h -> bit 4 of byte i */
    const __m256i pick = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i mask = _mm256_set1_epi64x((long long)0x8040201008040201u);
    __m256i b = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)h), pick), mask);
    return _mm256_and_si256(_mm256_cmpeq_epi8(b, mask), _mm256_set1_epi8(16));
}

CRIT_AI __m256 add_i8(__m256 acc, __m256i w, const uint8_t *a, __m256i weight, const float *scale) {
    __m256i p = _mm256_madd_epi16(_mm256_maddubs_epi16(w, load_256(a)), weight);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(p), _mm256_broadcast_ss(scale), acc);
}

CRIT_AI __m256 add_i16(__m256 acc, __m256i w, const uint8_t *a, const float *scale) {
    __m256i lo = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(w));
    __m256i hi = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(w, 1));
    __m256i p = _mm256_add_epi32(_mm256_madd_epi16(lo, load_256(a)), _mm256_madd_epi16(hi, load_256(a + 32)));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(p), _mm256_broadcast_ss(scale), acc);
}

enum { AHEAD = 2048 }; /* bytes; the hardware stops at 4 KB pages */
CRIT_AI void prefetch(const uint8_t *p) {
    _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
}

/* Eight groups (nb when fewer are left) of one row.  A batch function gets the place of its first block. */

CRIT_AI void batch_q45(const uint8_t *w, size_t nb, const uint8_t *a, const float *s, const float *sum, partial *p,
                       int five, int has_m) {
    const size_t bytes = 18u + (has_m ? 2 : 0) + (five ? 4 : 0), at = bytes - 16;
    const __m256i one = _mm256_set1_epi16(1);
    __m256 d = f16_strided(w, bytes, nb);
    float ds[8];
    _mm256_storeu_ps(ds, _mm256_mul_ps(d, _mm256_loadu_ps(s)));
    p->low = _mm256_fmadd_ps(has_m ? f16_strided(w + 2, bytes, nb) : d, _mm256_loadu_ps(sum), p->low);
    prefetch(w), prefetch(w + 64), prefetch(w + 128);
#pragma GCC unroll 8
    for (size_t i = 0; i < nb; i++) {
        __m256i q = nibbles(w + i * bytes + at);
        if (five) q = _mm256_or_si256(q, bits32(load_u32(w + i * bytes + at - 4)));
        p->acc[i & 1] = add_i8(p->acc[i & 1], q, a + i * CRIT_ACT_I8_BYTES, one, ds + i);
    }
}

CRIT_AI void batch_k45(const uint8_t *w, const uint8_t *a, const float *s, const float *sum, partial *p, int five) {
    const __m256i one = _mm256_set1_epi16(1);
    const uint8_t *qs = w + (five ? 48 : 16);
    uint32_t u0 = load_u32(w + 4), u1 = load_u32(w + 8), u2 = load_u32(w + 12);
    uint64_t sc = (u0 & 0x3f3f3f3f) | (uint64_t)((u2 & 0x0f0f0f0f) | (u0 >> 2 & 0x30303030)) << 32;
    uint64_t mn = (u1 & 0x3f3f3f3f) | (uint64_t)((u2 >> 4 & 0x0f0f0f0f) | (u1 >> 2 & 0x30303030)) << 32;
    __m128 dm = _mm_cvtph_ps(_mm_cvtsi32_si128((int)load_u32(w)));
    __m256 d = _mm256_broadcastss_ps(dm), dmin = _mm256_broadcastss_ps(_mm_movehdup_ps(dm));
    __m256 vs = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)sc)));
    __m256 vm = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)mn)));
    float ds[8];
    _mm256_storeu_ps(ds, _mm256_mul_ps(_mm256_mul_ps(d, vs), _mm256_loadu_ps(s)));
    p->low = _mm256_fmadd_ps(_mm256_mul_ps(dmin, vm), _mm256_loadu_ps(sum), p->low);
    prefetch(w), prefetch(w + 64), prefetch(w + 128);
    __m256i h = five ? load_256(w + 16) : _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m256i v = load_256(qs + 32 * j), lo = lo4(v), hi = hi4(v);
        if (five) {
            lo = _mm256_or_si256(lo, _mm256_slli_epi16(bits(h, 2 * j, 1), 4));
            hi = _mm256_or_si256(hi, _mm256_slli_epi16(bits(h, 2 * j + 1, 1), 4));
        }
        p->acc[0] = add_i8(p->acc[0], lo, a + 2 * j * CRIT_ACT_I8_BYTES, one, ds + 2 * j);
        p->acc[1] = add_i8(p->acc[1], hi, a + (2 * j + 1) * CRIT_ACT_I8_BYTES, one, ds + 2 * j + 1);
    }
}

/* Sixteen int8 sub-scales -> even ones in the low lane, odd ones in the high lane, so that one shuffle gives a
 * group's two; and their products with the sums of halves, added to low. */
CRIT_AI __m256i subs(__m128i sc, __m256 d, const float *sum, __m256 *low) {
    __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(sc)), _mm256_loadu_ps(sum));
    t = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(sc, 8))), _mm256_loadu_ps(sum + 8), t);
    *low = _mm256_fmadd_ps(d, t, *low);
    return _mm256_cvtepi8_epi16(
        _mm_shuffle_epi8(sc, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15)));
}
CRIT_AI __m256i sub_at(__m256i v, int g) {
    return _mm256_shuffle_epi8(v, _mm256_set1_epi16((short)(0x0100 + 0x0202 * g)));
}

CRIT_AI void batch_q6(const uint8_t *w, const uint8_t *a, const float *s, const float *sum, partial *p) {
    __m256 d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(w + 208))));
    __m256i sub = subs(_mm_loadu_si128((const __m128i *)(w + 192)), d, sum, &p->low);
    const __m256i k = _mm256_set1_epi8(0x30);
    float ds[8];
    _mm256_storeu_ps(ds, _mm256_mul_ps(d, _mm256_loadu_ps(s)));
    prefetch(w), prefetch(w + 64), prefetch(w + 128), prefetch(w + 192);
#pragma GCC unroll 2
    for (int n = 0; n < 2; n++) {
        const uint8_t *an = a + n * 4 * CRIT_ACT_I8_BYTES;
        __m256i l0 = load_256(w + 64 * n), l1 = load_256(w + 64 * n + 32), h = load_256(w + 128 + 32 * n);
        __m256i q0 = _mm256_or_si256(lo4(l0), _mm256_and_si256(_mm256_slli_epi16(h, 4), k));
        __m256i q1 = _mm256_or_si256(lo4(l1), _mm256_and_si256(_mm256_slli_epi16(h, 2), k));
        __m256i q2 = _mm256_or_si256(hi4(l0), _mm256_and_si256(h, k));
        __m256i q3 = _mm256_or_si256(hi4(l1), _mm256_and_si256(_mm256_srli_epi16(h, 2), k));
        p->acc[0] = add_i8(p->acc[0], q0, an, sub_at(sub, 4 * n), ds + 4 * n);
        p->acc[1] = add_i8(p->acc[1], q1, an + CRIT_ACT_I8_BYTES, sub_at(sub, 4 * n + 1), ds + 4 * n + 1);
        p->acc[0] = add_i8(p->acc[0], q2, an + 2 * CRIT_ACT_I8_BYTES, sub_at(sub, 4 * n + 2), ds + 4 * n + 2);
        p->acc[1] = add_i8(p->acc[1], q3, an + 3 * CRIT_ACT_I8_BYTES, sub_at(sub, 4 * n + 3), ds + 4 * n + 3);
    }
}

CRIT_AI void batch_q3(const uint8_t *w, const uint8_t *a, const float *s, const float *sum, partial *p) {
    __m256 d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(w + 108))));
    uint32_t u0 = load_u32(w + 96), u1 = load_u32(w + 100), u2 = load_u32(w + 104);
    const uint32_t k4 = 0x0f0f0f0f, k2 = 0x30303030;
    __m128i sc = _mm_setr_epi32((int)((u0 & k4) | (u2 << 4 & k2)), (int)((u1 & k4) | (u2 << 2 & k2)),
                                (int)((u0 >> 4 & k4) | (u2 & k2)), (int)((u1 >> 4 & k4) | (u2 >> 2 & k2)));
    __m256i sub = subs(_mm_sub_epi8(sc, _mm_set1_epi8(32)), d, sum, &p->low), h = load_256(w);
    float ds[8];
    _mm256_storeu_ps(ds, _mm256_mul_ps(d, _mm256_loadu_ps(s)));
    prefetch(w), prefetch(w + 64);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m256i q = bits(load_256(w + 32 + 32 * (g / 4)), 2 * (g % 4), 3);
        q = _mm256_or_si256(q, _mm256_slli_epi16(bits(h, g, 1), 2));
        p->acc[g & 1] = add_i8(p->acc[g & 1], q, a + g * CRIT_ACT_I8_BYTES, sub_at(sub, g), ds + g);
    }
}

CRIT_AI void batch_q2(const uint8_t *w, const uint8_t *a, const float *s, const float *sum, partial *p) {
    __m256 d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(w + 80))));
    __m256 dmin = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(w + 82))));
    __m128i sm = _mm_loadu_si128((const __m128i *)w), k4 = _mm_set1_epi8(15);
    (void)subs(_mm_and_si128(_mm_srli_epi16(sm, 4), k4), dmin, sum, &p->low);
    __m256 unused = _mm256_setzero_ps();
    __m256i sub = subs(_mm_and_si128(sm, k4), d, sum, &unused);
    float ds[8];
    _mm256_storeu_ps(ds, _mm256_mul_ps(d, _mm256_loadu_ps(s)));
    prefetch(w), prefetch(w + 64);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m256i q = bits(load_256(w + 16 + 32 * (g / 4)), 2 * (g % 4), 3);
        p->acc[g & 1] = add_i8(p->acc[g & 1], q, a + g * CRIT_ACT_I8_BYTES, sub_at(sub, g), ds + g);
    }
}

CRIT_AI void batch_q8_0(const uint8_t *w, size_t nb, const uint8_t *a, const float *s, partial *p) {
    float ds[8];
    _mm256_storeu_ps(ds, _mm256_mul_ps(f16_strided(w, 34, nb), _mm256_loadu_ps(s)));
    prefetch(w), prefetch(w + 64), prefetch(w + 128), prefetch(w + 192), prefetch(w + 256);
#pragma GCC unroll 8
    for (size_t i = 0; i < nb; i++)
        p->acc[i & 1] = add_i16(p->acc[i & 1], load_256(w + i * 34 + 2), a + i * CRIT_ACT_I16_BYTES, ds + i);
}

CRIT_AI __m256i iq4_values(__m256i idx) {
    return _mm256_shuffle_epi8(_mm256_setr_epi8(CRIT_IQ4_VALUES, CRIT_IQ4_VALUES), idx);
}

CRIT_AI void batch_iq4_nl(const uint8_t *w, size_t nb, const uint8_t *a, const float *s, partial *p) {
    float ds[8];
    _mm256_storeu_ps(ds, _mm256_mul_ps(f16_strided(w, 18, nb), _mm256_loadu_ps(s)));
    prefetch(w), prefetch(w + 64), prefetch(w + 128);
#pragma GCC unroll 8
    for (size_t i = 0; i < nb; i++)
        p->acc[i & 1] = add_i16(p->acc[i & 1], iq4_values(nibbles(w + i * 18 + 2)), a + i * CRIT_ACT_I16_BYTES, ds + i);
}

CRIT_AI void batch_iq4_xs(const uint8_t *w, const uint8_t *a, const float *s, partial *p) {
    __m256 d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(w))));
    float ds[8];
    _mm256_storeu_ps(ds, _mm256_mul_ps(_mm256_mul_ps(d, _mm256_cvtepi32_ps(iq4_xs_scales(w))), _mm256_loadu_ps(s)));
    prefetch(w), prefetch(w + 64), prefetch(w + 128);
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++)
        p->acc[i & 1] = add_i16(p->acc[i & 1], iq4_values(nibbles(w + 8 + i * 16)), a + i * CRIT_ACT_I16_BYTES, ds + i);
}

/* Scales and sums of groups [g0, g0 + ng) of the activation row. */
static void gather(side *v, const uint8_t *act, size_t ng, int i16, int halves) {
    size_t pad = (ng + 7) / 8 * 8;
    for (size_t g = 0; g < ng; g++) {
        if (i16)
            memcpy((void *)&v->s[g], act + g * CRIT_ACT_I16_BYTES + 64, 4);
        else {
            memcpy((void *)&v->s[g], act + g * CRIT_ACT_I8_BYTES + 32, 4);
            if (halves)
                memcpy((void *)&v->sum[2 * g], act + g * CRIT_ACT_I8_BYTES + 40, 8);
            else
                memcpy((void *)&v->sum[g], act + g * CRIT_ACT_I8_BYTES + 36, 4);
        }
    }
    for (size_t g = ng; g < pad; g++) v->s[g] = v->sum[g] = 0;
}

/* One kernel: blk groups a block, fold: factor of the low sums. */
#define GEMV(type, i16, halves, blk, bytes, fold, BATCH)                                                               \
    void crit_gemv_##type##_avx2(const crit_gemm_args *a, size_t n0, size_t n1) {                                      \
        const size_t n_grp = a->n_in / CRIT_ACT_LEN, rec = (i16) ? CRIT_ACT_I16_BYTES : CRIT_ACT_I8_BYTES;             \
        side v;                                                                                                        \
        if (n0 >= n1) return;                                                                                          \
        for (size_t g0 = 0; g0 < n_grp; g0 += CHUNK) {                                                                 \
            size_t ng = n_grp - g0 < CHUNK ? n_grp - g0 : CHUNK;                                                       \
            const uint8_t *act = (const uint8_t *)a->act + g0 * rec;                                                   \
            gather(&v, act, ng, i16, halves);                                                                          \
            for (size_t n = n0; n < n1; n++) {                                                                         \
                const uint8_t *row = (const uint8_t *)a->w + n * a->w_row_bytes + g0 / (blk) * (bytes);                \
                partial p = {{_mm256_setzero_ps(), _mm256_setzero_ps()}, _mm256_setzero_ps()};                         \
                size_t g = 0;                                                                                          \
                for (; g + 8 <= ng; g += 8) BATCH(row + g / (blk) * (bytes), 8, act + g * rec, g);                     \
                if ((blk) == 1 && g + 4 == ng)                                                                         \
                    BATCH(row + g * (bytes), 4, act + g * rec, g);                                                     \
                else if ((blk) == 1 && g < ng)                                                                         \
                    BATCH(row + g * (bytes), ng - g, act + g * rec, g);                                                \
                float o = hsum(_mm256_add_ps(p.acc[0], p.acc[1])) + (fold)*hsum(p.low);                                \
                if (g0 > 0 || a->accumulate) o += a->out[n];                                                           \
                if (g0 == 0 && a->bias) o += a->bias[n];                                                               \
                a->out[n] = o;                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
    }
#define B_Q4_0(w, nb, x, g)   batch_q45(w, nb, x, v.s + (g), v.sum + (g), &p, 0, 0)
#define B_Q4_1(w, nb, x, g)   batch_q45(w, nb, x, v.s + (g), v.sum + (g), &p, 0, 1)
#define B_Q5_0(w, nb, x, g)   batch_q45(w, nb, x, v.s + (g), v.sum + (g), &p, 1, 0)
#define B_Q5_1(w, nb, x, g)   batch_q45(w, nb, x, v.s + (g), v.sum + (g), &p, 1, 1)
#define B_Q4_K(w, nb, x, g)   batch_k45(w, x, v.s + (g), v.sum + (g), &p, 0)
#define B_Q5_K(w, nb, x, g)   batch_k45(w, x, v.s + (g), v.sum + (g), &p, 1)
#define B_Q6_K(w, nb, x, g)   batch_q6(w, x, v.s + (g), v.sum + 2 * (g), &p)
#define B_Q3_K(w, nb, x, g)   batch_q3(w, x, v.s + (g), v.sum + 2 * (g), &p)
#define B_Q2_K(w, nb, x, g)   batch_q2(w, x, v.s + (g), v.sum + 2 * (g), &p)
#define B_Q8_0(w, nb, x, g)   batch_q8_0(w, nb, x, v.s + (g), &p)
#define B_IQ4_NL(w, nb, x, g) batch_iq4_nl(w, nb, x, v.s + (g), &p)
#define B_IQ4_XS(w, nb, x, g) batch_iq4_xs(w, x, v.s + (g), &p)
GEMV(q4_0, 0, 0, 1, 18, -8.0f, B_Q4_0)
GEMV(q4_1, 0, 0, 1, 20, 1.0f, B_Q4_1)
GEMV(q5_0, 0, 0, 1, 22, -16.0f, B_Q5_0)
GEMV(q5_1, 0, 0, 1, 24, 1.0f, B_Q5_1)
GEMV(q4_k, 0, 0, 8, 144, -1.0f, B_Q4_K)
GEMV(q5_k, 0, 0, 8, 176, -1.0f, B_Q5_K)
GEMV(q6_k, 0, 1, 8, 210, -32.0f, B_Q6_K)
GEMV(q3_k, 0, 1, 8, 110, -4.0f, B_Q3_K)
GEMV(q2_k, 0, 1, 8, 84, -1.0f, B_Q2_K)
GEMV(q8_0, 1, 0, 1, 34, 0.0f, B_Q8_0)
GEMV(iq4_nl, 1, 0, 1, 18, 0.0f, B_IQ4_NL)
GEMV(iq4_xs, 1, 0, 8, 136, 0.0f, B_IQ4_XS)
