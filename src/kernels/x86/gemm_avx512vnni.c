/* SPDX-License-Identifier: MIT */
/* Matrix products on quantised weights with int8 activations, AVX-512 VNNI: 6 rows x 32 outputs by vpdpbusd.
 *
 * The panels are those of AVX2 (one step of 16 outputs is one zmm), two at a time; an odd last one runs alone.
 * vpdpbusd multiplies unsigned by signed into int32, so offsets 2^SHIFT of the weights start the accumulator as
 * -2^SHIFT times the activations' lane sums; signed 8-bit weights are stored with 128 added (SHIFT 7).
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
        c##r = _mm512_loadu_ps(c + 16 * r);                                                                         \
        if (NP > 1) d##r = _mm512_loadu_ps(c + 16 * (MR + r));                                                      \
    }
#define START(r, lane_at)                                                                                              \
    if (NR > r) {                                                                                                      \
        x##r = SHIFT ? _mm512_dpwssd_epi32(z, bcast_512(ROW(r) + lane_at), offset) : z;                                \
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
        __m512 rs = bcast_512ps(ROW(r) + 32);                                                                          \
        c##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x##r), _mm512_mul_ps(s0, rs), c##r);                                 \
        if (NP > 1) d##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(y##r), _mm512_mul_ps(s1, rs), d##r);                     \
    }
#define ADD_MIN(r, sum_at)                                                                                             \
    if (NR > r) {                                                                                                      \
        __m512 as = bcast_512ps(ROW(r) + sum_at);                                                                      \
        c##r = _mm512_fmadd_ps(as, s0, c##r);                                                                          \
        if (NP > 1) d##r = _mm512_fmadd_ps(as, s1, d##r);                                                              \
    }
#define LOAD_S(p0, p1)                                                                                                 \
    s0 = _mm512_loadu_ps(p0);                                                                                          \
    if (NP > 1) s1 = _mm512_loadu_ps(p1);
#define END(r, t)                                                                                                      \
    if (NR > r) {                                                                                                      \
        _mm512_storeu_ps(c + 16 * r, c##r);                                                                         \
        if (NP > 1) _mm512_storeu_ps(c + 16 * (MR + r), d##r);                                                      \
    }

TILE_FN void tile(const int NR, const int NP, const int SHIFT, const int MIN, const int HALVES, const block *w,
                  float *c, const uint8_t *a, size_t row_bytes, size_t ng) {
    const __m512i z = _mm512_setzero_si512(), offset = _mm512_set1_epi16((short)-(1 << SHIFT));
    __m512 c0 = _mm512_set1_ps(0), c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0;
    __m512 d0 = c0, d1 = c0, d2 = c0, d3 = c0, d4 = c0, d5 = c0, s0 = c0, s1 = c0;
    __m512i x0 = z, x1 = z, x2 = z, x3 = z, x4 = z, x5 = z, y0 = z, y1 = z, y2 = z, y3 = z, y4 = z, y5 = z, w0 = z,
            w1 = z;
    ROWS(BEGIN, 0)
    for (size_t g = 0; g < ng; g++, a += CRIT_ACT_I8_BYTES) {
        const uint8_t *q0 = w->p[0].q + g * 512, *q1 = w->p[1].q + g * 512;
        if (HALVES) {
            ROWS(START, 48)
            STEP(0)
            STEP(1)
            STEP(2)
            STEP(3) LOAD_S(w->s16[0] + g * 32, w->s16[1] + g * 32) ROWS(SCALE, 0) ROWS(START, 52) STEP(4) STEP(5)
                STEP(6) STEP(7) LOAD_S(w->s16[0] + g * 32 + 16, w->s16[1] + g * 32 + 16) ROWS(SCALE, 0)
        } else {
            ROWS(START, 56)
            STEP(0)
            STEP(1)
            STEP(2)
            STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) LOAD_S(w->p[0].s + g * 16, w->p[1].s + g * 16) ROWS(SCALE, 0)
        }
        if (MIN == 32) {
            LOAD_S(w->p[0].m + g * 16, w->p[1].m + g * 16)
            ROWS(ADD_MIN, 36)
        }
        if (MIN == 16) {
            LOAD_S(w->p[0].m + g * 32, w->p[1].m + g * 32)
            ROWS(ADD_MIN, 40)
            LOAD_S(w->p[0].m + g * 32 + 16, w->p[1].m + g * 32 + 16)
            ROWS(ADD_MIN, 44)
        }
    }
    ROWS(END, 0)
}

typedef void (*tile_fn)(const block *w, float *c, const uint8_t *a, size_t row_bytes, size_t ng);

typedef struct kind {
    decode8_fn decode;
    tile_fn tile[2][MR]; /* by panels - 1, rows - 1 */
    uint32_t blk_groups, blk_bytes;
    int halves;
} kind;

/* Groups [0, ng) of np panels, whose rows move on. */
static void decode(block *b, const uint8_t *row[2][CRIT_GEMM_NR], size_t np, size_t ng, const kind *k) {
    for (size_t p = 0; p < np; p++) {
        panel *d = &b->p[p];
        k->decode(row[p], ng, d, 0);
        k->decode(row[p] + 8, ng, d, 1);
        for (size_t j = 0; j < CRIT_GEMM_NR; j++) row[p][j] += ng / k->blk_groups * k->blk_bytes;
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
                        k->tile[np - 1][nr - 1](&w->b[(g - g0) / GROUPS], c, act + r * row_bytes, row_bytes, ng);
                        for (size_t p = 0; p < np && g + GROUPS >= g1; p++)
                            tile_end(a, c + p * MR * CRIT_GEMM_NR, r, nr, n + p * CRIT_GEMM_NR, nv[p]);
                    }
                }
            }
        }
    }
}

#define TILE(name, nr, np, shift, min, halves)                                                                         \
    static void name##_##np##_##nr(const block *w, float *c, const uint8_t *a, size_t row_bytes, size_t ng) {          \
        tile(nr, np, shift, min, halves, w, c, a, row_bytes, ng);                                                      \
    }
#define TILES(name, shift, min, halves)                                                                                \
    TILE(name, 1, 1, shift, min, halves)                                                                               \
    TILE(name, 2, 1, shift, min, halves)                                                                               \
    TILE(name, 3, 1, shift, min, halves)                                                                               \
    TILE(name, 4, 1, shift, min, halves) TILE(name, 5, 1, shift, min, halves) TILE(name, 6, 1, shift, min, halves)     \
        TILE(name, 1, 2, shift, min, halves) TILE(name, 2, 2, shift, min, halves) TILE(name, 3, 2, shift, min, halves) \
            TILE(name, 4, 2, shift, min, halves) TILE(name, 5, 2, shift, min, halves)                                  \
                TILE(name, 6, 2, shift, min, halves)
TILES(plain3, 3, 0, 0)
TILES(plain4, 4, 0, 0)
TILES(plain7, 7, 0, 0)
TILES(min0, 0, 32, 0)
TILES(min4, 4, 32, 0)
TILES(half5, 5, 0, 1)
TILES(half2, 2, 0, 1)
TILES(half_min, 0, 16, 1)

#define GEMM(type, dec, t, groups, bytes, halves)                                                                      \
    void crit_gemm_##type##_avx512vnni(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                 \
        static const kind k = {dec,                                                                                    \
                               {{t##_1_1, t##_1_2, t##_1_3, t##_1_4, t##_1_5, t##_1_6},                                \
                                {t##_2_1, t##_2_2, t##_2_3, t##_2_4, t##_2_5, t##_2_6}},                               \
                               groups,                                                                                 \
                               bytes,                                                                                  \
                               halves};                                                                                \
        gemm_vnni(a, n0, n1, scratch, &k);                                                                             \
    }
GEMM(q4_0, decode8_q4_0, plain3, 1, 18, 0)
GEMM(q4_1, decode8_q4_1, min0, 1, 20, 0)
GEMM(q5_0, decode8_q5_0, plain4, 1, 22, 0)
GEMM(q5_1, decode8_q5_1, min4, 1, 24, 0)
GEMM(q8_0, decode8_q8_0, plain7, 1, 34, 0)
GEMM(iq4_nl, decode8_iq4_nl, plain7, 1, 18, 0)
GEMM(iq4_xs, decode8_iq4_xs, plain7, 8, 136, 0)
GEMM(q4_k, decode8_q4_k, min0, 8, 144, 0)
GEMM(q5_k, decode8_q5_k, min4, 8, 176, 0)
GEMM(q6_k, decode8_q6_k, half5, 8, 210, 1)
GEMM(q3_k, decode8_q3_k, half2, 8, 110, 1)
GEMM(q2_k, decode8_q2_k, half_min, 8, 84, 1)
