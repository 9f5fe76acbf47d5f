/* SPDX-License-Identifier: MIT */
/* One row times quantised weights, AVX2: streams the file's rows once, in order, at memory speed.
 *
 * Everything that costs per group is kept to unpack, multiply, widen, fma: f16 scales are converted eight at a time,
 * and the minimum or offset terms are a second small dot product over groups (scales against the activations' sums).
 * The activations' scales and sums are therefore gathered once per call into contiguous arrays.
 *
 * Scales of a batch of eight groups are made ready (prep_*) before the batch in front of it is multiplied: from the
 * file's bytes to a broadcast factor it is some 40 cycles, a batch is 150 instructions, and no more than two of them
 * are in flight at once.  Operations that cross lanes cost two to three times the others on Zen 3: halves come from
 * memory or from a shift by lane instead (Q4_0 from L2: 13 -> 20 GB/s, IQ4_NL 8 -> 11). */
#include "kernels/act.h"
#include "kernels/protos.h"
#include "kernels/x86/panel_avx2.h"

enum { CHUNK = 512 }; /* groups whose scales lie on the stack: 16,384 inputs, 38 KB */

typedef struct side {
    float s[CHUNK];        /* zero behind the last group, to a multiple of 8 */
    float sum[2 * CHUNK];  /* of groups, or of halves for types with scales per 16 */
    uint8_t x[CHUNK * 64]; /* values in another order, see gather */
} side;

/* acc: lanes to be added up, two chains because one fma per 4 cycles is slower than memory; low: sum of
 * scale * sum products, weighted at the end */
typedef struct partial {
    __m256 acc[2], low;
} partial;

/* What a batch needs beside the quants: the factor of each group, what it adds to low, sub-scales (see subs). */
typedef struct prep {
    __m256 ds, low;
    __m256i sub;
} prep;

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

CRIT_AI __m256 add_i8(__m256 acc, __m256i w, const uint8_t *a, __m256i weight, const float *scale) {
    __m256i p = _mm256_madd_epi16(_mm256_maddubs_epi16(w, load_256(a)), weight);
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(p), _mm256_broadcast_ss(scale), acc);
}

CRIT_AI __m256 add_i16(__m256 acc, __m256i w0, __m256i w1, const uint8_t *a, const float *scale) {
    __m256i p = _mm256_add_epi32(_mm256_madd_epi16(w0, load_256(a)), _mm256_madd_epi16(w1, load_256(a + 32)));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(p), _mm256_broadcast_ss(scale), acc);
}

/* Eight groups of one row.  prep_x and dot_x get the place of their first block; nb < 8 when fewer are left, for types
 * with one group a block. */

CRIT_AI prep prep_q45(const uint8_t *w, size_t nb, const float *s, const float *sum, int five, int has_m) {
    const size_t bytes = 18u + (has_m ? 2 : 0) + (five ? 4 : 0);
    prep r;
    __m256 d = f16_strided(w, bytes, nb);
    r.ds = _mm256_mul_ps(d, _mm256_loadu_ps(s));
    r.low = _mm256_mul_ps(has_m ? f16_strided(w + 2, bytes, nb) : d, _mm256_loadu_ps(sum));
    r.sub = _mm256_setzero_si256();
    return r;
}

/* Two groups at a time, one a lane (i and i + nb/2, so that factors are spread within lanes): low nibbles of 16 bytes
 * are a group's first half, high ones its second, hence the two products add up in 16 bits (4 * 31 * 127 fits) and one
 * widening and one fma serve both. */
CRIT_AI void dot_q45(const uint8_t *w, size_t nb, const prep *r, const uint8_t *x, partial *p, int five, int has_m) {
    const size_t bytes = 18u + (has_m ? 2 : 0) + (five ? 4 : 0), at = bytes - 16;
    const __m256i one = _mm256_set1_epi16(1), five_bit = _mm256_set1_epi8(16);
    /* bit i of a 32-bit word h, from byte i/8 of h << 4 (bytes 4..7) or of h: at bit 4, 5, 6 or 7 of its byte */
    const __m256i pick0 = _mm256_broadcastsi128_si256(_mm_setr_epi8(4, 4, 4, 4, 0, 0, 0, 0, 5, 5, 5, 5, 1, 1, 1, 1));
    const __m256i pick1 = _mm256_add_epi8(pick0, _mm256_set1_epi8(2));
    const __m256i mask = _mm256_set1_epi32((int)0x80402010u), up = _mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4);
    __m256 ds = nb == 4 ? _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(r->ds), 0x50)) : r->ds;
#define PAIR(i)                                                                                                        \
    if (2 * (i) < nb) {                                                                                                \
        const uint8_t *b0 = w + (i)*bytes + at, *b1 = b0 + nb / 2 * bytes;                                             \
        __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)b0)),              \
                                            _mm_loadu_si128((const __m128i *)b1), 1);                                  \
        __m256i q0 = lo4(v), q1 = hi4(v);                                                                              \
        if (five) {                                                                                                    \
            __m256i h = _mm256_blend_epi32(_mm256_set1_epi32((int)load_u32(b0 - 4)),                                   \
                                           _mm256_set1_epi32((int)load_u32(b1 - 4)), 0xf0);                            \
            h = _mm256_sllv_epi32(h, up);                                                                              \
            __m256i h0 = _mm256_and_si256(_mm256_shuffle_epi8(h, pick0), mask);                                        \
            __m256i h1 = _mm256_and_si256(_mm256_shuffle_epi8(h, pick1), mask);                                        \
            q0 = _mm256_or_si256(q0, _mm256_min_epu8(h0, five_bit));                                                   \
            q1 = _mm256_or_si256(q1, _mm256_min_epu8(h1, five_bit));                                                   \
        }                                                                                                              \
        __m256i t = _mm256_add_epi16(_mm256_maddubs_epi16(q0, load_256(x + 64 * (i))),                                 \
                                     _mm256_maddubs_epi16(q1, load_256(x + 64 * (i) + 32)));                           \
        p->acc[(i)&1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_madd_epi16(t, one)),                                 \
                                        _mm256_permute_ps(ds, (i)*0x55), p->acc[(i)&1]);                               \
    }
    PAIR(0)
    PAIR(1)
    PAIR(2)
    PAIR(3)
#undef PAIR
}

CRIT_AI prep prep_k45(const uint8_t *w, const float *s, const float *sum) {
    uint32_t u0 = load_u32(w + 4), u1 = load_u32(w + 8), u2 = load_u32(w + 12);
    uint64_t sc = (u0 & 0x3f3f3f3f) | (uint64_t)((u2 & 0x0f0f0f0f) | (u0 >> 2 & 0x30303030)) << 32;
    uint64_t mn = (u1 & 0x3f3f3f3f) | (uint64_t)((u2 >> 4 & 0x0f0f0f0f) | (u1 >> 2 & 0x30303030)) << 32;
    __m128 dm = _mm_cvtph_ps(_mm_cvtsi32_si128((int)load_u32(w)));
    __m256 d = _mm256_broadcastss_ps(dm), dmin = _mm256_broadcastss_ps(_mm_movehdup_ps(dm));
    __m256 vs = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)sc)));
    __m256 vm = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)mn)));
    prep r;
    r.ds = _mm256_mul_ps(_mm256_mul_ps(d, vs), _mm256_loadu_ps(s));
    r.low = _mm256_mul_ps(_mm256_mul_ps(dmin, vm), _mm256_loadu_ps(sum));
    r.sub = _mm256_setzero_si256();
    return r;
}

CRIT_AI void dot_k45(const uint8_t *w, const prep *r, const uint8_t *a, partial *p, int five) {
    const __m256i one = _mm256_set1_epi16(1);
    const uint8_t *qs = w + (five ? 48 : 16);
    float ds[8];
    _mm256_storeu_ps(ds, r->ds);
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
 * group's two (sub_at). */
CRIT_AI __m256i subs(__m128i sc) {
    return _mm256_cvtepi8_epi16(
        _mm_shuffle_epi8(sc, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15)));
}
/* Their products with the sums of halves, times d. */
CRIT_AI __m256 subs_low(__m128i sc, __m256 d, const float *sum) {
    __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(sc)), _mm256_loadu_ps(sum));
    t = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(sc, 8))), _mm256_loadu_ps(sum + 8), t);
    return _mm256_mul_ps(d, t);
}
CRIT_AI __m256i sub_at(__m256i v, int g) {
    return _mm256_shuffle_epi8(v, _mm256_set1_epi16((short)(0x0100 + 0x0202 * g)));
}
CRIT_AI __m256 f16_bcast(const uint8_t *p) {
    return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(p))));
}

CRIT_AI prep prep_q6(const uint8_t *w, const float *s, const float *sum) {
    __m256 d = f16_bcast(w + 208);
    __m128i sc = _mm_loadu_si128((const __m128i *)(w + 192));
    prep r = {_mm256_mul_ps(d, _mm256_loadu_ps(s)), subs_low(sc, d, sum), subs(sc)};
    return r;
}

CRIT_AI void dot_q6(const uint8_t *w, const prep *r, const uint8_t *a, partial *p) {
    const __m256i k = _mm256_set1_epi8(0x30), sub = r->sub;
    float ds[8];
    _mm256_storeu_ps(ds, r->ds);
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

CRIT_AI prep prep_q3(const uint8_t *w, const float *s, const float *sum) {
    __m256 d = f16_bcast(w + 108);
    uint32_t u0 = load_u32(w + 96), u1 = load_u32(w + 100), u2 = load_u32(w + 104);
    const uint32_t k4 = 0x0f0f0f0f, k2 = 0x30303030;
    __m128i sc = _mm_setr_epi32((int)((u0 & k4) | (u2 << 4 & k2)), (int)((u1 & k4) | (u2 << 2 & k2)),
                                (int)((u0 >> 4 & k4) | (u2 & k2)), (int)((u1 >> 4 & k4) | (u2 >> 2 & k2)));
    sc = _mm_sub_epi8(sc, _mm_set1_epi8(32));
    prep r = {_mm256_mul_ps(d, _mm256_loadu_ps(s)), subs_low(sc, d, sum), subs(sc)};
    return r;
}

CRIT_AI void dot_q3(const uint8_t *w, const prep *r, const uint8_t *a, partial *p) {
    __m256i h = load_256(w), sub = r->sub;
    float ds[8];
    _mm256_storeu_ps(ds, r->ds);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m256i q = bits(load_256(w + 32 + 32 * (g / 4)), 2 * (g % 4), 3);
        q = _mm256_or_si256(q, _mm256_slli_epi16(bits(h, g, 1), 2));
        p->acc[g & 1] = add_i8(p->acc[g & 1], q, a + g * CRIT_ACT_I8_BYTES, sub_at(sub, g), ds + g);
    }
}

CRIT_AI prep prep_q2(const uint8_t *w, const float *s, const float *sum) {
    __m128i sm = _mm_loadu_si128((const __m128i *)w), k4 = _mm_set1_epi8(15);
    prep r = {_mm256_mul_ps(f16_bcast(w + 80), _mm256_loadu_ps(s)),
              subs_low(_mm_and_si128(_mm_srli_epi16(sm, 4), k4), f16_bcast(w + 82), sum), subs(_mm_and_si128(sm, k4))};
    return r;
}

CRIT_AI void dot_q2(const uint8_t *w, const prep *r, const uint8_t *a, partial *p) {
    float ds[8];
    _mm256_storeu_ps(ds, r->ds);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m256i q = bits(load_256(w + 16 + 32 * (g / 4)), 2 * (g % 4), 3);
        p->acc[g & 1] = add_i8(p->acc[g & 1], q, a + g * CRIT_ACT_I8_BYTES, sub_at(r->sub, g), ds + g);
    }
}

/* Signed 8-bit weights: no low part. */
CRIT_AI prep prep_signed(__m256 d, const float *s) {
    prep r = {_mm256_mul_ps(d, _mm256_loadu_ps(s)), _mm256_setzero_ps(), _mm256_setzero_si256()};
    return r;
}

/* Widening from memory: from a register it crosses lanes, twice the cost on Zen 3. */
CRIT_AI __m256i widen(const uint8_t *p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}

CRIT_AI void dot_q8_0(const uint8_t *w, size_t nb, const prep *r, const uint8_t *a, partial *p) {
    float ds[8];
    _mm256_storeu_ps(ds, r->ds);
#pragma GCC unroll 8
    for (size_t i = 0; i < nb; i++) {
        const uint8_t *b = w + i * 34 + 2;
        p->acc[i & 1] = add_i16(p->acc[i & 1], widen(b), widen(b + 16), a + i * CRIT_ACT_I16_BYTES, ds + i);
    }
}

/* Activations with even values first, then odd ones (gather): 16-bit halves of the looked-up bytes need no lane
 * crossing. */
CRIT_AI void dot_iq4(const uint8_t *w, size_t nb, size_t bytes, const prep *r, const uint8_t *x, partial *p) {
    const __m256i values = _mm256_setr_epi8(CRIT_IQ4_VALUES, CRIT_IQ4_VALUES);
    const __m256i high = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    float ds[8];
    _mm256_storeu_ps(ds, r->ds);
#pragma GCC unroll 8
    for (size_t i = 0; i < nb; i++) {
        __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(w + i * bytes)));
        v = _mm256_shuffle_epi8(values, lo4(_mm256_srlv_epi32(v, high)));
        p->acc[i & 1] = add_i16(p->acc[i & 1], _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8),
                                x + i * 64, ds + i);
    }
}

enum { PLAIN, PAIRS, EVEN_ODD }; /* order of the activations' values in side.x; PLAIN: not copied */

/* Scales and sums of groups [g0, g0 + ng) of the activation row, and its values in the order dot_x wants. */
CRIT_AI void gather(side *v, const uint8_t *act, size_t ng, int i16, int halves, int order) {
    const size_t rec = i16 ? CRIT_ACT_I16_BYTES : CRIT_ACT_I8_BYTES;
    size_t pad = (ng + 7) / 8 * 8;
    if (order == PAIRS) memset(v->x + ng / 8 * 256, 0, (pad - ng / 8 * 8) * 32);
    for (size_t g = 0; g < ng; g++) {
        const uint8_t *x = act + g * rec;
        memcpy((void *)&v->s[g], x + (i16 ? 64 : 32), 4);
        if (halves) crit_act_half_sums(x, &v->sum[2 * g]);
        if (!halves && !i16) memcpy((void *)&v->sum[g], x + 36, 4);
        if (order == PAIRS) { /* a last batch of four: see dot_q45 */
            size_t first = g / 8 * 8, half = first + 4 == ng ? 2 : 4, i = g - first;
            uint8_t *to = v->x + first * 32 + i % half * 64 + i / half * 16;
            memcpy(to, x, 16);
            memcpy(to + 32, x + 16, 16);
        }
        if (order == EVEN_ODD) {
            for (size_t i = 0; i < 16; i++) {
                memcpy(v->x + g * 64 + 2 * i, x + 4 * i, 2);
                memcpy(v->x + g * 64 + 32 + 2 * i, x + 4 * i + 2, 2);
            }
        }
    }
    for (size_t g = ng; g < pad; g++) v->s[g] = v->sum[g] = 0;
}

/* One kernel: blk groups a block, fold: factor of the low sums.  The batch behind the last one of a row is the first of
 * the next row; behind the last row's it is the same one again, whose prep nobody uses. */
#define GEMV(type, i16, halves, order, blk, bytes, fold, PREP, DOT)                                                    \
    void crit_gemv_##type##_avx2(const crit_gemm_args *a, size_t n0, size_t n1) {                                      \
        const size_t n_grp = a->n_in / CRIT_ACT_LEN, rec = (i16) ? CRIT_ACT_I16_BYTES : CRIT_ACT_I8_BYTES;             \
        side v;                                                                                                        \
        if (n0 >= n1) return;                                                                                          \
        for (size_t g0 = 0; g0 < n_grp; g0 += CHUNK) {                                                                 \
            size_t ng = n_grp - g0 < CHUNK ? n_grp - g0 : CHUNK, nb0 = ng < 8 ? ng : 8;                                \
            const uint8_t *act = (const uint8_t *)a->act + g0 * rec;                                                   \
            const uint8_t *row = (const uint8_t *)a->w + n0 * a->w_row_bytes + g0 / (blk) * (bytes);                   \
            (void)nb0;                                                                                                 \
            gather(&v, act, ng, i16, halves, order);                                                                   \
            prep next = PREP(row, nb0, 0);                                                                             \
            for (size_t n = n0; n < n1; n++, row += a->w_row_bytes) {                                                  \
                partial p = {{_mm256_setzero_ps(), _mm256_setzero_ps()}, _mm256_setzero_ps()};                         \
                for (size_t g = 0; g < ng; g += 8) {                                                                   \
                    const uint8_t *w = row + g / (blk) * (bytes);                                                      \
                    const prep now = next;                                                                             \
                    fetch_ahead(w, 8 / (blk) * (bytes));                                                               \
                    p.low = _mm256_add_ps(p.low, now.low);                                                             \
                    if (g + 16 <= ng)                                                                                  \
                        next = PREP(w + 8 / (blk) * (bytes), 8, g + 8);                                                \
                    else if (g + 8 < ng)                                                                               \
                        next = PREP(w + 8 / (blk) * (bytes), ng - g - 8, g + 8);                                       \
                    else                                                                                               \
                        next = PREP(row + (n + 1 < n1 ? a->w_row_bytes : 0), nb0, 0);                                  \
                    if (g + 8 <= ng)                                                                                   \
                        DOT(w, 8, g);                                                                                  \
                    else if (g + 4 == ng)                                                                              \
                        DOT(w, 4, g);                                                                                  \
                    else { /* zeros behind the row */                                                                  \
                        uint8_t tail[8 * 34] = {0};                                                                    \
                        memcpy(tail, w, (ng - g) * (bytes));                                                           \
                        DOT(tail, ng - g, g);                                                                          \
                    }                                                                                                  \
                }                                                                                                      \
                float o = hsum(_mm256_fmadd_ps(p.low, _mm256_set1_ps(fold), _mm256_add_ps(p.acc[0], p.acc[1])));       \
                if (g0 > 0 || a->accumulate) o += a->out[n];                                                           \
                if (g0 == 0 && a->bias) o += a->bias[n];                                                               \
                a->out[n] = o;                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
    }
#define ACT_AT(g)           (act + (g)*rec)
#define P45(w, nb, g, f, m) prep_q45(w, nb, v.s + (g), v.sum + (g), f, m)
#define D45(w, nb, g, f, m) dot_q45(w, (nb) == 4 ? 4 : 8, &now, v.x + (g)*32, &p, f, m)
#define P_Q4_0(w, nb, g)    P45(w, nb, g, 0, 0)
#define D_Q4_0(w, nb, g)    D45(w, nb, g, 0, 0)
#define P_Q4_1(w, nb, g)    P45(w, nb, g, 0, 1)
#define D_Q4_1(w, nb, g)    D45(w, nb, g, 0, 1)
#define P_Q5_0(w, nb, g)    P45(w, nb, g, 1, 0)
#define D_Q5_0(w, nb, g)    D45(w, nb, g, 1, 0)
#define P_Q5_1(w, nb, g)    P45(w, nb, g, 1, 1)
#define D_Q5_1(w, nb, g)    D45(w, nb, g, 1, 1)
#define P_K45(w, nb, g)     prep_k45(w, v.s + (g), v.sum + (g))
#define D_Q4_K(w, nb, g)    dot_k45(w, &now, ACT_AT(g), &p, 0)
#define D_Q5_K(w, nb, g)    dot_k45(w, &now, ACT_AT(g), &p, 1)
#define P_Q6_K(w, nb, g)    prep_q6(w, v.s + (g), v.sum + 2 * (g))
#define D_Q6_K(w, nb, g)    dot_q6(w, &now, ACT_AT(g), &p)
#define P_Q3_K(w, nb, g)    prep_q3(w, v.s + (g), v.sum + 2 * (g))
#define D_Q3_K(w, nb, g)    dot_q3(w, &now, ACT_AT(g), &p)
#define P_Q2_K(w, nb, g)    prep_q2(w, v.s + (g), v.sum + 2 * (g))
#define D_Q2_K(w, nb, g)    dot_q2(w, &now, ACT_AT(g), &p)
#define P_Q8_0(w, nb, g)    prep_signed(f16_strided(w, 34, nb), v.s + (g))
#define D_Q8_0(w, nb, g)    dot_q8_0(w, nb, &now, ACT_AT(g), &p)
#define P_IQ4_NL(w, nb, g)  prep_signed(f16_strided(w, 18, nb), v.s + (g))
#define D_IQ4_NL(w, nb, g)  dot_iq4((w) + 2, nb, 18, &now, v.x + (g)*64, &p)
#define P_IQ4_XS(w, nb, g)  prep_signed(_mm256_mul_ps(f16_bcast(w), _mm256_cvtepi32_ps(iq4_xs_scales(w))), v.s + (g))
#define D_IQ4_XS(w, nb, g)  dot_iq4((w) + 8, 8, 16, &now, v.x + (g)*64, &p)
GEMV(q4_0, 0, 0, PAIRS, 1, 18, -8.0f, P_Q4_0, D_Q4_0)
GEMV(q4_1, 0, 0, PAIRS, 1, 20, 1.0f, P_Q4_1, D_Q4_1)
GEMV(q5_0, 0, 0, PAIRS, 1, 22, -16.0f, P_Q5_0, D_Q5_0)
GEMV(q5_1, 0, 0, PAIRS, 1, 24, 1.0f, P_Q5_1, D_Q5_1)
GEMV(q4_k, 0, 0, PLAIN, 8, 144, -1.0f, P_K45, D_Q4_K)
GEMV(q5_k, 0, 0, PLAIN, 8, 176, -1.0f, P_K45, D_Q5_K)
GEMV(q6_k, 0, 1, PLAIN, 8, 210, -32.0f, P_Q6_K, D_Q6_K)
GEMV(q3_k, 0, 1, PLAIN, 8, 110, -4.0f, P_Q3_K, D_Q3_K)
GEMV(q2_k, 0, 1, PLAIN, 8, 84, -1.0f, P_Q2_K, D_Q2_K)
GEMV(q8_0, 1, 0, PLAIN, 1, 34, 0.0f, P_Q8_0, D_Q8_0)
GEMV(iq4_nl, 1, 0, EVEN_ODD, 1, 18, 0.0f, P_IQ4_NL, D_IQ4_NL)
GEMV(iq4_xs, 1, 0, EVEN_ODD, 8, 136, 0.0f, P_IQ4_XS, D_IQ4_XS)
