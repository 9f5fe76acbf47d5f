/* SPDX-License-Identifier: MIT */
/* Matrix products on quantised weights with int8 activations, AVX-512 VNNI: 6 rows x 32 outputs by vpdpbusd.
 *
 * The panels are those of AVX2 (one step of 16 outputs is one zmm), two at a time; an odd last one runs alone.
 * vpdpbusd multiplies unsigned by signed into int32.  Types with an offset are brought to one of 128 whatever their
 * bits, so that the accumulator starts at a number the activations carry: a load where the offset took a multiply.
 * tests/emul runs this source everywhere. */
#include "kernels/act.h"
#include "kernels/protos.h"
#include "kernels/x86/gemm_tile.h"
#include "kernels/x86/panel_s8.h"
#include "kernels/x86/panel_u8.h"

#ifndef KEEP_V /* tests/emul has structs for vectors */
#define KEEP_V(v) __asm__("" : "+v"(v))
#define TILE_FN   CRIT_AI
#endif

enum {
    GROUPS = 16, /* of a K block: two panels of them are half of L1 */
    BLOCKS = 14, /* K blocks that are decoded at a time, into L2 */
    MR = 6,
    STRIPS = 16, /* of MR rows, whose sums wait for the next K block */
    WIDTH = 2 * CRIT_GEMM_NR,
};
_Static_assert((int)GROUPS <= (int)PANEL_GROUPS, "panels hold a K block");

enum { AT_S = 32, AT_SUM = 36, AT_START_HALF = 40, AT_START = 60 }; /* within crit_act_i8 */
_Static_assert(offsetof(crit_act_i8, s) == AT_S && offsetof(crit_act_i8, sum) == AT_SUM &&
                   offsetof(crit_act_i8, start_half) == AT_START_HALF && offsetof(crit_act_i8, start) == AT_START,
               "layout");

/* One K block of two panels. */
typedef struct block {
    panel p[2];
    float s16[2][GROUPS * 32]; /* s * sub */
} block;

typedef struct scratch_vnni {
    block b[BLOCKS];
    float c[STRIPS][2 * MR * CRIT_GEMM_NR]; /* [panel][row][16] */
} scratch_vnni;
_Static_assert(sizeof(scratch_vnni) <= 832 << 10, "crit_gemm_scratch_bytes");

/* ---- micro-kernel ---- */

CRIT_AI __m512i bcast_512(const uint8_t *p) {
    return _mm512_set1_epi32((int)load_u32(p));
}
CRIT_AI __m512 bcast_512ps(const uint8_t *p) {
    float f;
    memcpy(&f, p, sizeof f);
    return _mm512_set1_ps(f);
}

#define ROWS(X, t) X(0, t) X(1, t) X(2, t) X(3, t) X(4, t) X(5, t)
#define ROW(r)     (a + (r)*row_bytes)

#define BEGIN(r, t)                                                                                                    \
    if (NR > r) {                                                                                                      \
        c##r = _mm512_loadu_ps(c + 16 * r);                                                                            \
        if (NP > 1) d##r = _mm512_loadu_ps(c + 16 * (MR + r));                                                         \
    }
#define START(r, at)                                                                                                   \
    if (NR > r) {                                                                                                      \
        x##r = OFFSET ? bcast_512(ROW(r) + at) : z;                                                                    \
        if (NP > 1) y##r = x##r;                                                                                       \
    }
#define NEXT(r, t)                                                                                                     \
    if (NR > r) {                                                                                                      \
        __m512i b = bcast_512(ROW(r) + 4 * (t));                                                                       \
        x##r = _mm512_dpbusd_epi32(x##r, w0, b);                                                                       \
        if (NP > 1) y##r = _mm512_dpbusd_epi32(y##r, w1, b);                                                           \
        KEEP_V(x##r);                                                                                                  \
        if (NP > 1) KEEP_V(y##r);                                                                                      \
    }
#define STEP(t)                                                                                                        \
    w0 = _mm512_loadu_si512(q0 + (t)*64);                                                                              \
    if (NP > 1) w1 = _mm512_loadu_si512(q1 + (t)*64);                                                                  \
    ROWS(NEXT, t)
#define SCALE(r, t)                                                                                                    \
    if (NR > r) {                                                                                                      \
        __m512 rs = bcast_512ps(ROW(r) + AT_S);                                                                        \
        c##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x##r), _mm512_mul_ps(s0, rs), c##r);                                 \
        if (NP > 1) d##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(y##r), _mm512_mul_ps(s1, rs), d##r);                     \
    }
/* Two halves are weighed before the activations' scale, which then multiplies once. */
#define FIRST_HALF(r, t)                                                                                               \
    if (NR > r) {                                                                                                      \
        u##r = _mm512_mul_ps(_mm512_cvtepi32_ps(x##r), s0);                                                            \
        if (NP > 1) v##r = _mm512_mul_ps(_mm512_cvtepi32_ps(y##r), s1);                                                \
    }
#define SECOND_HALF(r, t)                                                                                              \
    if (NR > r) {                                                                                                      \
        u##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x##r), s0, u##r);                                                    \
        if (NP > 1) v##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(y##r), s1, v##r);                                        \
    }
#define MIN_HALF(r, at)                                                                                                \
    if (NR > r) {                                                                                                      \
        __m512 as = _mm512_mul_ps(unit, _mm512_cvtepi32_ps(bcast_512(ROW(r) + at)));                                   \
        u##r = _mm512_fmadd_ps(as, s0, u##r);                                                                          \
        if (NP > 1) v##r = _mm512_fmadd_ps(as, s1, v##r);                                                              \
    }
#define BOTH_HALVES(r, t)                                                                                              \
    if (NR > r) {                                                                                                      \
        __m512 rs = bcast_512ps(ROW(r) + AT_S);                                                                        \
        c##r = _mm512_fmadd_ps(u##r, rs, c##r);                                                                        \
        if (NP > 1) d##r = _mm512_fmadd_ps(v##r, rs, d##r);                                                            \
    }
#define ADD_MIN(r, t)                                                                                                  \
    if (NR > r) {                                                                                                      \
        __m512 as = bcast_512ps(ROW(r) + AT_SUM);                                                                      \
        c##r = _mm512_fmadd_ps(as, s0, c##r);                                                                          \
        if (NP > 1) d##r = _mm512_fmadd_ps(as, s1, d##r);                                                              \
    }
#define LOAD_S(p0, p1)                                                                                                 \
    s0 = _mm512_loadu_ps(p0);                                                                                          \
    if (NP > 1) s1 = _mm512_loadu_ps(p1);
#define END(r, t)                                                                                                      \
    if (NR > r) {                                                                                                      \
        _mm512_storeu_ps(c + 16 * r, c##r);                                                                            \
        if (NP > 1) _mm512_storeu_ps(c + 16 * (MR + r), d##r);                                                         \
    }

TILE_FN void tile(const int NR, const int NP, const int OFFSET, const int MIN, const int HALVES, const block *w,
                  float *c, const uint8_t *a, size_t row_bytes, size_t ng) {
    const __m512i z = _mm512_setzero_si512();
    const __m512 unit = _mm512_set1_ps(CRIT_ACT_START_UNIT);
    __m512 c0 = _mm512_set1_ps(0), c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0;
    __m512 u0 = c0, u1 = c0, u2 = c0, u3 = c0, u4 = c0, u5 = c0, v0 = c0, v1 = c0, v2 = c0, v3 = c0, v4 = c0, v5 = c0;
    __m512 d0 = c0, d1 = c0, d2 = c0, d3 = c0, d4 = c0, d5 = c0, s0 = c0, s1 = c0;
    __m512i x0 = z, x1 = z, x2 = z, x3 = z, x4 = z, x5 = z, y0 = z, y1 = z, y2 = z, y3 = z, y4 = z, y5 = z, w0 = z,
            w1 = z;
    ROWS(BEGIN, 0)
    for (size_t g = 0; g < ng; g++, a += CRIT_ACT_I8_BYTES) {
        const uint8_t *q0 = w->p[0].q + g * 512, *q1 = w->p[1].q + g * 512;
        if (HALVES) {
            ROWS(START, AT_START_HALF)
            STEP(0)
            STEP(1)
            STEP(2)
            STEP(3)
            LOAD_S(w->s16[0] + g * 32, w->s16[1] + g * 32)
            ROWS(FIRST_HALF, 0)
            ROWS(START, AT_START_HALF + 4)
            STEP(4)
            STEP(5)
            STEP(6)
            STEP(7)
            LOAD_S(w->s16[0] + g * 32 + 16, w->s16[1] + g * 32 + 16)
            ROWS(SECOND_HALF, 0)
            if (MIN) {
                LOAD_S(w->p[0].m + g * 32, w->p[1].m + g * 32)
                ROWS(MIN_HALF, AT_START_HALF)
                LOAD_S(w->p[0].m + g * 32 + 16, w->p[1].m + g * 32 + 16)
                ROWS(MIN_HALF, AT_START_HALF + 4)
            }
            ROWS(BOTH_HALVES, 0)
        } else {
            ROWS(START, AT_START)
            STEP(0)
            STEP(1)
            STEP(2)
            STEP(3)
            STEP(4)
            STEP(5)
            STEP(6)
            STEP(7)
            LOAD_S(w->p[0].s + g * 16, w->p[1].s + g * 16)
            ROWS(SCALE, 0)
            if (MIN) {
                LOAD_S(w->p[0].m + g * 16, w->p[1].m + g * 16)
                ROWS(ADD_MIN, 0)
            }
        }
    }
    ROWS(END, 0)
}

typedef void (*tile_fn)(const block *w, float *c, const uint8_t *a, size_t row_bytes, size_t ng);

typedef struct kind {
    decode8_fn decode;
    tile_fn tile[2][MR]; /* by panels - 1, rows - 1 */
    uint32_t blk_groups, blk_bytes;
    int shift; /* of the decoder's offset; 0 if it has none */
    int halves;
} kind;

/* Groups [0, ng) of np panels, whose rows move on. */
static void decode(block *b, const uint8_t *row[2][CRIT_GEMM_NR], size_t np, size_t ng, const kind *k) {
    for (size_t p = 0; p < np; p++) {
        panel *d = &b->p[p];
        k->decode(row[p], ng, d, 0);
        k->decode(row[p] + 8, ng, d, 1);
        for (size_t j = 0; j < CRIT_GEMM_NR; j++) row[p][j] += ng / k->blk_groups * k->blk_bytes;
        if (k->shift && k->shift < 7) /* to an offset of 128 */
            for (size_t i = 0; i < ng * 512; i++) d->q[i] = (uint8_t)(d->q[i] + 128 - (1 << k->shift));
        if (k->halves) /* sub holds its int16 twice */
            for (size_t i = 0; i < ng * 32; i++)
                b->s16[p][i] = d->s[i / 32 * 16 + i % 16] * (float)(int16_t)(d->sub[i] & 0xffff);
    }
}

/* All K blocks that fit into L2 are decoded first; then STRIPS strips of rows take one after the other, so that out is
 * read and written once for them all. */
static void gemm_vnni(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch, const kind *k) {
    scratch_vnni *w = scratch;
    const size_t n_grp = a->n_in / CRIT_ACT_LEN, row_bytes = crit_act_row_bytes(CRIT_ACT_I8, a->n_in);
    memset((void *)w->c, 0, sizeof w->c);
    for (size_t n = n0; n < n1; n += WIDTH) {
        const uint8_t *row[2][CRIT_GEMM_NR];
        size_t nv[2] = {0, 0};
        const size_t np = panel_pair(a, n, n1, row, nv);
        for (size_t g0 = 0; g0 < n_grp; g0 += BLOCKS * GROUPS) {
            const size_t g1 = n_grp - g0 < BLOCKS * GROUPS ? n_grp : g0 + BLOCKS * GROUPS;
            for (size_t g = g0; g < g1; g += GROUPS)
                decode(&w->b[(g - g0) / GROUPS], row, np, g1 - g < GROUPS ? g1 - g : GROUPS, k);
            for (size_t r0 = 0; r0 < a->n_row; r0 += STRIPS * MR) {
                const size_t r1 = a->n_row - r0 < STRIPS * MR ? a->n_row : r0 + STRIPS * MR;
                for (size_t g = g0; g < g1; g += GROUPS) {
                    const size_t ng = g1 - g < GROUPS ? g1 - g : GROUPS;
                    const uint8_t *act = (const uint8_t *)a->act + g * CRIT_ACT_I8_BYTES;
                    float *c = w->c[0];
                    for (size_t r = r0; r < r1; r += MR, c += 2 * MR * CRIT_GEMM_NR) {
                        const size_t nr = r1 - r < MR ? r1 - r : MR;
                        for (size_t p = 0; p < np && g == g0; p++)
                            tile_begin(a, c + p * MR * CRIT_GEMM_NR, r, nr, n + p * CRIT_GEMM_NR, nv[p], g0 == 0);
                        if (g + GROUPS >= g1)
                            for (size_t p = 0; p < np; p++) prefetch_out(a, r + MR, MR, n + p * CRIT_GEMM_NR);
                        k->tile[np - 1][nr - 1](&w->b[(g - g0) / GROUPS], c, act + r * row_bytes, row_bytes, ng);
                        for (size_t p = 0; p < np && g + GROUPS >= g1; p++)
                            tile_end(a, c + p * MR * CRIT_GEMM_NR, r, nr, n + p * CRIT_GEMM_NR, nv[p]);
                    }
                }
            }
        }
    }
}

#define TILE(name, nr, np, offset, min, halves)                                                                        \
    static void name##_##np##_##nr(const block *w, float *c, const uint8_t *a, size_t row_bytes, size_t ng) {          \
        tile(nr, np, offset, min, halves, w, c, a, row_bytes, ng);                                                     \
    }
#define TILES(name, offset, min, halves)                                                                               \
    TILE(name, 1, 1, offset, min, halves)                                                                              \
    TILE(name, 2, 1, offset, min, halves)                                                                              \
    TILE(name, 3, 1, offset, min, halves)                                                                              \
    TILE(name, 4, 1, offset, min, halves)                                                                              \
    TILE(name, 5, 1, offset, min, halves)                                                                              \
    TILE(name, 6, 1, offset, min, halves)                                                                              \
    TILE(name, 1, 2, offset, min, halves)                                                                              \
    TILE(name, 2, 2, offset, min, halves)                                                                              \
    TILE(name, 3, 2, offset, min, halves)                                                                              \
    TILE(name, 4, 2, offset, min, halves)                                                                              \
    TILE(name, 5, 2, offset, min, halves)                                                                              \
    TILE(name, 6, 2, offset, min, halves)
TILES(plain, 1, 0, 0)
TILES(min, 0, 1, 0)
TILES(plain_min, 1, 1, 0)
TILES(half, 1, 0, 1)
TILES(half_min, 0, 1, 1)

#define GEMM(type, dec, t, groups, bytes, shift, halves)                                                               \
    void crit_gemm_##type##_avx512vnni(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                 \
        static const kind k = {dec,                                                                                    \
                               {{t##_1_1, t##_1_2, t##_1_3, t##_1_4, t##_1_5, t##_1_6},                                \
                                {t##_2_1, t##_2_2, t##_2_3, t##_2_4, t##_2_5, t##_2_6}},                               \
                               groups,                                                                                 \
                               bytes,                                                                                  \
                               shift,                                                                                  \
                               halves};                                                                                \
        gemm_vnni(a, n0, n1, scratch, &k);                                                                             \
    }
GEMM(q4_0, decode8_q4_0, plain, 1, 18, 3, 0)
GEMM(q4_1, decode8_q4_1, min, 1, 20, 0, 0)
GEMM(q5_0, decode8_q5_0, plain, 1, 22, 4, 0)
GEMM(q5_1, decode8_q5_1, plain_min, 1, 24, 4, 0)
GEMM(q8_0, decode8_q8_0, plain, 1, 34, 7, 0)
GEMM(iq4_nl, decode8_iq4_nl, plain, 1, 18, 7, 0)
GEMM(iq4_xs, decode8_iq4_xs, plain, 8, 136, 7, 0)
GEMM(q4_k, decode8_q4_k, min, 8, 144, 0, 0)
GEMM(q5_k, decode8_q5_k, plain_min, 8, 176, 4, 0)
GEMM(q6_k, decode8_q6_k, half, 8, 210, 5, 1)
GEMM(q3_k, decode8_q3_k, half, 8, 110, 2, 1)
GEMM(q2_k, decode8_q2_k, half_min, 8, 84, 0, 1)
