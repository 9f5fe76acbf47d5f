/* SPDX-License-Identifier: MIT */
/* Matrix products on 8-bit signed weights (Q8_0, IQ4_NL, IQ4_XS) with int16 activations, AVX2: 4 x 16 by vpmaddwd.
 *
 * As fast as int8 with the sign trick, and two orders more accurate.  The panel holds weights widened to int16:
 * [group][16 steps][16 outputs][2].  32 products of 16 by 8 bits stay below 2^28. */
#include "kernels/act.h"
#include "kernels/protos.h"
#include "kernels/x86/gemm_tile.h"
#include "kernels/x86/panel_avx2.h"

enum { GROUPS = 16 }; /* 16 KB of weights: half of L1 */

typedef struct panel_i16 {
    int16_t q[GROUPS * 512];
    float s[GROUPS * 16];
    float c[4 * CRIT_GEMM_NR];
} panel_i16;

/* Signed bytes, 4 inputs of eight rows in v, become steps 2t and 2t+1 of the group. */
CRIT_AI void put_i16(panel_i16 *p, size_t g, size_t t, size_t half, __m256i v) {
    const __m256i even = _mm256_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1, 0, -1, 1, -1, 4,
                                          -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    int16_t *d = p->q + g * 512 + t * 64 + half * 16;
    _mm256_storeu_si256((__m256i *)d, _mm256_srai_epi16(_mm256_shuffle_epi8(v, even), 8));
    v = _mm256_srli_epi32(v, 16);
    _mm256_storeu_si256((__m256i *)(d + 32), _mm256_srai_epi16(_mm256_shuffle_epi8(v, even), 8));
}

static void decode8_q8_0(const uint8_t *const *row, size_t ng, panel_i16 *p, size_t half) {
    for (size_t g = 0; g < ng; g++) {
        __m256i v[8];
        rows_32(row, g * 34 + 2, v);
#pragma GCC unroll 8
        for (size_t t = 0; t < 8; t++) put_i16(p, g, t, half, v[t]);
        put_f(p->s, g, half, f16_of_rows(row, g * 34));
    }
}

CRIT_AI void iq4_group(const uint8_t *const *row, size_t off, panel_i16 *p, size_t g, size_t half) {
    const __m256i values = _mm256_setr_epi8(CRIT_IQ4_VALUES, CRIT_IQ4_VALUES);
    __m256i v[4];
    rows_16(row, off, v);
#pragma GCC unroll 4
    for (size_t t = 0; t < 4; t++) {
        put_i16(p, g, t, half, _mm256_shuffle_epi8(values, lo4(v[t])));
        put_i16(p, g, t + 4, half, _mm256_shuffle_epi8(values, hi4(v[t])));
    }
}

static void decode8_iq4_nl(const uint8_t *const *row, size_t ng, panel_i16 *p, size_t half) {
    for (size_t g = 0; g < ng; g++) {
        iq4_group(row, g * 18 + 2, p, g, half);
        put_f(p->s, g, half, f16_of_rows(row, g * 18));
    }
}

static void decode8_iq4_xs(const uint8_t *const *row, size_t ng, panel_i16 *p, size_t half) {
    for (size_t g = 0; g < ng; g += 8) {
        const size_t off = g / 8 * 136;
        __m256 scale[8];
        iq4_xs_scales_of_rows(row, off, scale);
        for (size_t j = 0; j < 8; j++) {
            iq4_group(row, off + 8 + 16 * j, p, g + j, half);
            put_f(p->s, g + j, half, scale[j]);
        }
    }
}

#define ROWS(X, t) X(0, t) X(1, t) X(2, t) X(3, t)
#define FIRST(r, t)                                                                                                    \
    if (MR > r) {                                                                                                      \
        __m256i b = bcast(a##r + 4 * (t));                                                                             \
        x##r = _mm256_madd_epi16(w0, b);                                                                               \
        y##r = _mm256_madd_epi16(w1, b);                                                                               \
        KEEP(x##r);                                                                                                    \
        KEEP(y##r);                                                                                                    \
    }
#define NEXT(r, t)                                                                                                     \
    if (MR > r) {                                                                                                      \
        __m256i b = bcast(a##r + 4 * (t));                                                                             \
        x##r = _mm256_add_epi32(x##r, _mm256_madd_epi16(w0, b));                                                       \
        y##r = _mm256_add_epi32(y##r, _mm256_madd_epi16(w1, b));                                                       \
        KEEP(x##r);                                                                                                    \
        KEEP(y##r);                                                                                                    \
    }
#define LOAD_W(t)                                                                                                      \
    w0 = _mm256_load_si256((const __m256i *)(q + (t)*32));                                                             \
    w1 = _mm256_load_si256((const __m256i *)(q + (t)*32 + 16));
#define STEP(t) LOAD_W(t) ROWS(NEXT, t)
#define FINISH(r, t)                                                                                                   \
    if (MR > r) {                                                                                                      \
        __builtin_prefetch(a##r + ahead, 0, 3);                                                                        \
        __builtin_prefetch(a##r + ahead + 64, 0, 3);                                                                   \
        __m256 rs = bcast_ps(a##r + 64);                                                                               \
        float *cr = c + 16 * r;                                                                                        \
        _mm256_store_ps(cr, _mm256_fmadd_ps(_mm256_cvtepi32_ps(x##r), _mm256_mul_ps(s0, rs), _mm256_load_ps(cr)));     \
        _mm256_store_ps(cr + 8,                                                                                        \
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(y##r), _mm256_mul_ps(s1, rs), _mm256_load_ps(cr + 8)));     \
    }

CRIT_AI void tile(const int MR, panel_i16 *p, const uint8_t *a0, size_t row_bytes, size_t ng) {
    const uint8_t *a1 = a0 + row_bytes, *a2 = a1 + row_bytes, *a3 = a2 + row_bytes;
    const size_t ahead = (size_t)MR * row_bytes; /* see gemm_u8_avx2.c */
    const int16_t *q = p->q;
    const float *s = p->s;
    float *c = p->c;
    const __m256i z = _mm256_setzero_si256();
    for (size_t g = 0; g < ng; g++) {
        __m256i w0, w1, x0 = z, y0 = z, x1 = z, y1 = z, x2 = z, y2 = z, x3 = z, y3 = z;
        LOAD_W(0)
        ROWS(FIRST, 0)
        STEP(1)
        STEP(2)
        STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11) STEP(12) STEP(13) STEP(14) STEP(15)
            __m256 s0 = _mm256_load_ps(s),
                   s1 = _mm256_load_ps(s + 8);
        ROWS(FINISH, 0)
        q += 512, s += 16;
        a0 += CRIT_ACT_I16_BYTES, a1 += CRIT_ACT_I16_BYTES, a2 += CRIT_ACT_I16_BYTES, a3 += CRIT_ACT_I16_BYTES;
    }
}

static void tile_1(panel_i16 *p, const uint8_t *a, size_t row_bytes, size_t ng) {
    tile(1, p, a, row_bytes, ng);
}
static void tile_2(panel_i16 *p, const uint8_t *a, size_t row_bytes, size_t ng) {
    tile(2, p, a, row_bytes, ng);
}
static void tile_3(panel_i16 *p, const uint8_t *a, size_t row_bytes, size_t ng) {
    tile(3, p, a, row_bytes, ng);
}
static void tile_4(panel_i16 *p, const uint8_t *a, size_t row_bytes, size_t ng) {
    tile(4, p, a, row_bytes, ng);
}

typedef void (*decode_fn)(const uint8_t *const *row, size_t ng, panel_i16 *p, size_t half);

static void gemm_i16(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch, decode_fn decode, size_t blk_groups,
                     size_t blk_bytes) {
    static void (*const tiles[4])(panel_i16 *, const uint8_t *, size_t, size_t) = {tile_1, tile_2, tile_3, tile_4};
    panel_i16 *p = scratch;
    const size_t n_grp = a->n_in / CRIT_ACT_LEN, row_bytes = crit_act_row_bytes(CRIT_ACT_I16, a->n_in);
    memset((void *)p->c, 0, sizeof p->c);
    for (size_t n = n0; n < n1; n += CRIT_GEMM_NR) {
        size_t nv = n1 - n < CRIT_GEMM_NR ? n1 - n : CRIT_GEMM_NR;
        const uint8_t *row[CRIT_GEMM_NR];
        panel_rows(a, n, nv, row);
        for (size_t g0 = 0; g0 < n_grp; g0 += GROUPS) {
            size_t ng = n_grp - g0 < GROUPS ? n_grp - g0 : GROUPS;
            decode(row, ng, p, 0);
            decode(row + 8, ng, p, 1);
            for (size_t j = 0; j < CRIT_GEMM_NR; j++) row[j] += ng / blk_groups * blk_bytes;
            const uint8_t *act = (const uint8_t *)a->act + g0 * CRIT_ACT_I16_BYTES;
            for (size_t r = 0; r < a->n_row; r += 4) {
                size_t nr = a->n_row - r < 4 ? a->n_row - r : 4;
                tile_begin(a, p->c, r, nr, n, nv, g0 == 0);
                prefetch_out(a, r + nr, 4, n);
                tiles[nr - 1](p, act + r * row_bytes, row_bytes, ng);
                tile_end(a, p->c, r, nr, n, nv);
            }
        }
    }
}

void crit_gemm_q8_0_avx2(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {
    gemm_i16(a, n0, n1, scratch, decode8_q8_0, 1, 34);
}
void crit_gemm_iq4_nl_avx2(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {
    gemm_i16(a, n0, n1, scratch, decode8_iq4_nl, 1, 18);
}
void crit_gemm_iq4_xs_avx2(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {
    gemm_i16(a, n0, n1, scratch, decode8_iq4_xs, 8, 136);
}
