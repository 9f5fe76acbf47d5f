/* SPDX-License-Identifier: MIT */
/* Matrix products on weights of up to 6 bits with int8 activations, AVX2: 4 rows x 16 outputs by vpmaddubsw.
 *
 * The int16 lanes of vpmaddubsw are summed over a whole scale group before they are widened.  Lanes hold
 * sum (q - 2^SHIFT) a over 16 products (8 when scales cover 16 inputs): q <= 15 needs no shift, and with the offset
 * taken off 5-bit weights reach 16*16*127 and 6-bit ones 8*32*127, both 32,512.  q*a alone may leave int16 on the way;
 * int16 additions wrap, so only the final value has to fit.  Subtracting 2^SHIFT * sum(a) per lane costs one
 * instruction and replaces the minimum term of symmetric types.
 */
#include "kernels/act.h"
#include "kernels/protos.h"
#include "kernels/x86/gemm_tile.h"
#include "kernels/x86/panel_u8.h"

enum { AT_S = 32, AT_SUM = 36, AT_START_HALF = 40, AT_LANE_HALF = 48, AT_LANE = 56 }; /* within crit_act_i8 */
_Static_assert(offsetof(crit_act_i8, s) == AT_S && offsetof(crit_act_i8, sum) == AT_SUM &&
                   offsetof(crit_act_i8, start_half) == AT_START_HALF && offsetof(crit_act_i8, lane) == AT_LANE &&
                   offsetof(crit_act_i8, lane_half) == AT_LANE_HALF,
               "layout");

#define ROWS(X, t) X(0, t) X(1, t) X(2, t) X(3, t)

/* x: outputs 0-7, y: outputs 8-15 of one row */
#define LOAD_W(t)                                                                                                      \
    w0 = _mm256_load_si256((const __m256i *)(q + (t)*64));                                                             \
    w1 = _mm256_load_si256((const __m256i *)(q + (t)*64 + 32));
#define FIRST(r, t)                                                                                                    \
    if (MR > r) {                                                                                                      \
        __m256i b = bcast(a##r + 4 * (t));                                                                             \
        x##r = _mm256_maddubs_epi16(w0, b);                                                                            \
        y##r = _mm256_maddubs_epi16(w1, b);                                                                            \
        if (SHIFT) {                                                                                                   \
            b = _mm256_slli_epi16(bcast(a##r + lane_at), SHIFT);                                                       \
            x##r = _mm256_sub_epi16(x##r, b);                                                                          \
            y##r = _mm256_sub_epi16(y##r, b);                                                                          \
        }                                                                                                              \
        KEEP(x##r);                                                                                                    \
        KEEP(y##r);                                                                                                    \
    }
#define NEXT(r, t)                                                                                                     \
    if (MR > r) {                                                                                                      \
        __m256i b = bcast(a##r + 4 * (t));                                                                             \
        x##r = _mm256_add_epi16(x##r, _mm256_maddubs_epi16(w0, b));                                                    \
        y##r = _mm256_add_epi16(y##r, _mm256_maddubs_epi16(w1, b));                                                    \
        KEEP(x##r);                                                                                                    \
        KEEP(y##r);                                                                                                    \
    }
#define STEP(t) LOAD_W(t) ROWS(NEXT, t)

/* One group's int32 sums into the f32 tile; min terms follow.  Rows are re-read for every panel, from beyond L2 when
 * there are many: the same group of the next tile is fetched meanwhile. */
#define FINISH(r, t)                                                                                                   \
    if (MR > r) {                                                                                                      \
        __builtin_prefetch(a##r + ahead, 0, 3);                                                                        \
        __m256 rs = bcast_ps(a##r + AT_S);                                                                             \
        float *cr = c + 16 * r;                                                                                        \
        __m256 c0 = _mm256_fmadd_ps(_mm256_cvtepi32_ps(x##r), _mm256_mul_ps(s0, rs), _mm256_load_ps(cr));              \
        __m256 c1 = _mm256_fmadd_ps(_mm256_cvtepi32_ps(y##r), _mm256_mul_ps(s1, rs), _mm256_load_ps(cr + 8));          \
        if (MIN == 32) {                                                                                               \
            __m256 as = bcast_ps(a##r + AT_SUM);                                                                       \
            c0 = _mm256_fmadd_ps(as, _mm256_load_ps(m), c0);                                                           \
            c1 = _mm256_fmadd_ps(as, _mm256_load_ps(m + 8), c1);                                                       \
        }                                                                                                              \
        if (MIN == 16) {                                                                                               \
            rs = _mm256_mul_ps(rs, _mm256_set1_ps(CRIT_ACT_START_UNIT));                                               \
            __m256 as = _mm256_mul_ps(rs, _mm256_cvtepi32_ps(bcast(a##r + AT_START_HALF)));                            \
            __m256 at = _mm256_mul_ps(rs, _mm256_cvtepi32_ps(bcast(a##r + AT_START_HALF + 4)));                        \
            c0 = _mm256_fmadd_ps(as, _mm256_load_ps(m), c0);                                                           \
            c1 = _mm256_fmadd_ps(as, _mm256_load_ps(m + 8), c1);                                                       \
            c0 = _mm256_fmadd_ps(at, _mm256_load_ps(m + 16), c0);                                                      \
            c1 = _mm256_fmadd_ps(at, _mm256_load_ps(m + 24), c1);                                                      \
        }                                                                                                              \
        _mm256_store_ps(cr, c0);                                                                                       \
        _mm256_store_ps(cr + 8, c1);                                                                                   \
    }

/* Scales per 32: MR rows from a0 on, ng groups, added to c [MR][16]. */
#define WIDEN(r, t)                                                                                                    \
    if (MR > r) {                                                                                                      \
        x##r = _mm256_madd_epi16(x##r, one);                                                                           \
        y##r = _mm256_madd_epi16(y##r, one);                                                                           \
    }
CRIT_AI void tile32(const int MR, const int SHIFT, const int MIN, const panel *p, const uint8_t *a0, size_t row_bytes,
                    size_t ng, float *c) {
    const uint8_t *q = p->q, *a1 = a0 + row_bytes, *a2 = a1 + row_bytes, *a3 = a2 + row_bytes;
    const size_t ahead = (size_t)MR * row_bytes;
    const float *s = p->s, *m = p->m;
    const __m256i one = _mm256_set1_epi16(1), z = _mm256_setzero_si256();
    enum { lane_at = AT_LANE };
    for (size_t g = 0; g < ng; g++) {
        __m256i w0, w1, x0 = z, y0 = z, x1 = z, y1 = z, x2 = z, y2 = z, x3 = z, y3 = z;
        LOAD_W(0)
        ROWS(FIRST, 0)
        STEP(1)
        STEP(2)
        STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) ROWS(WIDEN, 0) __m256 s0 = _mm256_load_ps(s),
                                                                      s1 = _mm256_load_ps(s + 8);
        ROWS(FINISH, 0)
        q += 512, s += 16, m += 16;
        a0 += CRIT_ACT_I8_BYTES, a1 += CRIT_ACT_I8_BYTES, a2 += CRIT_ACT_I8_BYTES, a3 += CRIT_ACT_I8_BYTES;
    }
    (void)m;
}
#undef WIDEN

/* Scales per 16: the two halves are weighted by their integer sub-scales while they become int32.
 * Three rows at most, or the twelve accumulators and their operands leave the sixteen registers. */
#define LOW(r, t)                                                                                                      \
    if (MR > r) {                                                                                                      \
        u##r = _mm256_madd_epi16(x##r, w0);                                                                            \
        v##r = _mm256_madd_epi16(y##r, w1);                                                                            \
    }
#define HIGH(r, t)                                                                                                     \
    if (MR > r) {                                                                                                      \
        x##r = _mm256_add_epi32(u##r, _mm256_madd_epi16(x##r, w0));                                                    \
        y##r = _mm256_add_epi32(v##r, _mm256_madd_epi16(y##r, w1));                                                    \
    }
CRIT_AI void tile16(const int MR, const int SHIFT, const int MIN, const panel *p, const uint8_t *a0, size_t row_bytes,
                    size_t ng, float *c) {
    const uint8_t *q = p->q, *a1 = a0 + row_bytes, *a2 = a1 + row_bytes, *a3 = a2 + row_bytes;
    const size_t ahead = (size_t)MR * row_bytes;
    const float *s = p->s, *m = p->m;
    const int32_t *sub = p->sub;
    const __m256i z = _mm256_setzero_si256();
    for (size_t g = 0; g < ng; g++) {
        __m256i w0, w1, x0 = z, y0 = z, x1 = z, y1 = z, x2 = z, y2 = z, x3 = z, y3 = z;
        __m256i u0 = z, v0 = z, u1 = z, v1 = z, u2 = z, v2 = z, u3 = z, v3 = z;
        {
            enum { lane_at = AT_LANE_HALF };
            LOAD_W(0)
            ROWS(FIRST, 0)
        }
        STEP(1)
        STEP(2)
        STEP(3) w0 = _mm256_load_si256((const __m256i *)sub),
                w1 = _mm256_load_si256((const __m256i *)(sub + 8));
        ROWS(LOW, 0) {
            enum { lane_at = AT_LANE_HALF + 4 };
            LOAD_W(4)
            ROWS(FIRST, 4)
        }
        STEP(5)
        STEP(6)
        STEP(7) w0 = _mm256_load_si256((const __m256i *)(sub + 16)),
                w1 = _mm256_load_si256((const __m256i *)(sub + 24));
        ROWS(HIGH, 0)
        __m256 s0 = _mm256_load_ps(s), s1 = _mm256_load_ps(s + 8);
        ROWS(FINISH, 0)
        q += 512, s += 16, m += 32, sub += 32;
        a0 += CRIT_ACT_I8_BYTES, a1 += CRIT_ACT_I8_BYTES, a2 += CRIT_ACT_I8_BYTES, a3 += CRIT_ACT_I8_BYTES;
    }
    (void)m;
}

typedef void (*tile_fn)(const panel *p, const uint8_t *act, size_t row_bytes, size_t ng, float *c);

typedef struct kind {
    decode8_fn decode;
    tile_fn tile[4]; /* by rows - 1 */
    size_t max_rows;
    uint32_t blk_groups, blk_bytes;
} kind;

typedef struct scratch_u8 {
    panel p;
    float c[4 * CRIT_GEMM_NR];
} scratch_u8;

static void gemm_u8(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch, const kind *k) {
    scratch_u8 *w = scratch;
    const size_t n_grp = a->n_in / CRIT_ACT_LEN, row_bytes = crit_act_row_bytes(CRIT_ACT_I8, a->n_in);
    memset(w->c, 0, sizeof w->c);
    for (size_t n = n0; n < n1; n += CRIT_GEMM_NR) {
        size_t nv = n1 - n < CRIT_GEMM_NR ? n1 - n : CRIT_GEMM_NR;
        const uint8_t *row[CRIT_GEMM_NR];
        panel_rows(a, n, nv, row);
        for (size_t g0 = 0; g0 < n_grp; g0 += PANEL_GROUPS) {
            size_t ng = n_grp - g0 < PANEL_GROUPS ? n_grp - g0 : PANEL_GROUPS;
            k->decode(row, ng, &w->p, 0);
            k->decode(row + 8, ng, &w->p, 1);
            for (size_t j = 0; j < CRIT_GEMM_NR; j++) row[j] += ng / k->blk_groups * k->blk_bytes;
            const uint8_t *act = (const uint8_t *)a->act + g0 * CRIT_ACT_I8_BYTES;
            for (size_t r = 0; r < a->n_row; r += k->max_rows) {
                size_t nr = a->n_row - r < k->max_rows ? a->n_row - r : k->max_rows;
                tile_begin(a, w->c, r, nr, n, nv, g0 == 0);
                prefetch_out(a, r + nr, k->max_rows, n);
                k->tile[nr - 1](&w->p, act + r * row_bytes, row_bytes, ng, w->c);
                tile_end(a, w->c, r, nr, n, nv);
            }
        }
    }
}

#define TILE(name, tile, mr, shift, min)                                                                               \
    static void name(const panel *p, const uint8_t *act, size_t row_bytes, size_t ng, float *c) {                      \
        tile(mr, shift, min, p, act, row_bytes, ng, c);                                                                \
    }
#define TILES(name, tile, shift, min)                                                                                  \
    TILE(name##_1, tile, 1, shift, min)                                                                                \
    TILE(name##_2, tile, 2, shift, min)                                                                                \
    TILE(name##_3, tile, 3, shift, min)
TILES(plain_shift3, tile32, 3, 0)
TILE(plain_shift3_4, tile32, 4, 3, 0)
TILES(min_shift0, tile32, 0, 32)
TILE(min_shift0_4, tile32, 4, 0, 32)
TILES(plain_shift4, tile32, 4, 0)
TILE(plain_shift4_4, tile32, 4, 4, 0)
TILES(min_shift4, tile32, 4, 32)
TILE(min_shift4_4, tile32, 4, 4, 32)
TILES(half_shift5, tile16, 5, 0)
TILES(half_shift2, tile16, 2, 0)
TILES(half_min, tile16, 0, 16)

#define GEMM(type, dec, t, t4, rows, groups, bytes)                                                                    \
    void crit_gemm_##type##_avx2(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                       \
        static const kind k = {dec, {t##_1, t##_2, t##_3, t4}, rows, groups, bytes};                                   \
        gemm_u8(a, n0, n1, scratch, &k);                                                                               \
    }
GEMM(q4_0, decode8_q4_0, plain_shift3, plain_shift3_4, 4, 1, 18)
GEMM(q4_1, decode8_q4_1, min_shift0, min_shift0_4, 4, 1, 20)
GEMM(q5_0, decode8_q5_0, plain_shift4, plain_shift4_4, 4, 1, 22)
GEMM(q5_1, decode8_q5_1, min_shift4, min_shift4_4, 4, 1, 24)
GEMM(q4_k, decode8_q4_k, min_shift0, min_shift0_4, 4, 8, 144)
GEMM(q5_k, decode8_q5_k, min_shift4, min_shift4_4, 4, 8, 176)
GEMM(q6_k, decode8_q6_k, half_shift5, NULL, 3, 8, 210)
GEMM(q3_k, decode8_q3_k, half_shift2, NULL, 3, 8, 110)
GEMM(q2_k, decode8_q2_k, half_min, NULL, 3, 8, 84)
