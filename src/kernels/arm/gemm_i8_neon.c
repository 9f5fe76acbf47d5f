/* SPDX-License-Identifier: MIT */
/* Matrix products on quantised weights with int8 activations, NEON: 4 rows x 16 outputs by SDOT.
 *
 * Panel: [group][8 steps][16 outputs][4 inputs] signed bytes.  SDOT takes four bytes of one lane of the activations
 * against the four of each of four outputs, so nothing is broadcast: half a group of a tile is 4 loads of activations,
 * 16 of weights and 64 SDOT into 16 accumulators.  |sum| <= 32 * 128 * 127 per group. */
#include "kernels/act.h"
#include "kernels/arm/tile_neon.h"
#include "kernels/arm/unpack_neon.h"
#include "kernels/protos.h"

enum { GROUPS = 32 /* K block: 1,024 inputs, 16 KB of q */, MR = 4, BLK_MAX = 8 /* groups of a block */ };
enum { AT_S = 32, AT_SUM = 36, AT_START_HALF = 40 }; /* within crit_act_i8 */
_Static_assert(offsetof(crit_act_i8, s) == AT_S && offsetof(crit_act_i8, sum) == AT_SUM &&
                   offsetof(crit_act_i8, start_half) == AT_START_HALF,
               "layout");

/* w = s q + m; s and m per group, or per half group: [group][2][16]. */
typedef struct panel_i8 {
    int8_t q[GROUPS * 512];
    float s[GROUPS * 32], m[GROUPS * 32];
    float c[MR * CRIT_GEMM_NR];
} panel_i8;
_Static_assert(sizeof(panel_i8) <= 64 << 10, "crit_gemm_scratch_bytes");

/* One block of one row, decoded: q [groups][32], s and m [groups or halves]. */
typedef struct row_blk {
    int8_t q[BLK_MAX * 32];
    float s[2 * BLK_MAX], m[2 * BLK_MAX];
} row_blk;

CRIT_INLINE void put_group(row_blk *b, int g, const int8x16_t v[2]) {
    vst1q_s8(b->q + 32 * g, v[0]);
    vst1q_s8(b->q + 32 * g + 16, v[1]);
}

CRIT_INLINE void put_scaled(float *dst, const int32x4_t sub[4], float d) {
    CRIT_UNROLL for (int i = 0; i < 4; i++) vst1q_f32(dst + 4 * i, vmulq_n_f32(vcvtq_f32_s32(sub[i]), d));
}

CRIT_INLINE void decode_block(const uint8_t *w, crit_type type, row_blk *b) {
    int8x16_t v[2];
    int32x4_t sub[4];
    float32x4_t f[2];
    uint8x8_t scale, min;
    float d, dmin;
    switch (type) {
    case CRIT_T_Q4_0:
        b->s[0] = f16_at(w);
        unpack_nibbles(w + 2, 8, v), put_group(b, 0, v);
        break;
    case CRIT_T_Q4_1:
        b->s[0] = f16_at(w), b->m[0] = f16_at(w + 2);
        unpack_nibbles(w + 4, 0, v), put_group(b, 0, v);
        break;
    case CRIT_T_Q5_0:
        b->s[0] = f16_at(w);
        unpack_q5(w + 6, load_u32(w + 2), 1, v), put_group(b, 0, v);
        break;
    case CRIT_T_Q5_1:
        b->s[0] = f16_at(w), b->m[0] = f16_at(w + 2);
        unpack_q5(w + 8, load_u32(w + 4), 0, v), put_group(b, 0, v);
        break;
    case CRIT_T_Q8_0:
        b->s[0] = f16_at(w);
        unpack_q8(w + 2, v), put_group(b, 0, v);
        break;
    case CRIT_T_IQ4_NL:
        b->s[0] = f16_at(w);
        unpack_iq4(w + 2, v), put_group(b, 0, v);
        break;
    case CRIT_T_IQ4_XS:
        d = f16_at(w);
        iq4_xs_scales(w, sub);
        for (int i = 0; i < 2; i++) vst1q_f32(b->s + 4 * i, vmulq_n_f32(vcvtq_f32_s32(sub[i]), d));
        for (int g = 0; g < 8; g++) unpack_iq4(w + 8 + 16 * g, v), put_group(b, g, v);
        break;
    case CRIT_T_Q4_K:
    case CRIT_T_Q5_K:
        d = f16_at(w), dmin = -f16_at(w + 2);
        k45_scales(w + 4, &scale, &min);
        widen_u8(scale, f);
        for (int i = 0; i < 2; i++) vst1q_f32(b->s + 4 * i, vmulq_n_f32(f[i], d));
        widen_u8(min, f);
        for (int i = 0; i < 2; i++) vst1q_f32(b->m + 4 * i, vmulq_n_f32(f[i], dmin));
        CRIT_UNROLL for (int g = 0; g < 8; g++) {
            if (type == CRIT_T_Q4_K)
                unpack_k45(w + 16, NULL, g, v);
            else
                unpack_k45(w + 48, w + 16, g, v);
            put_group(b, g, v);
        }
        break;
    case CRIT_T_Q6_K:
        widen_s8(as_s8(vld1q_u8(w + 192)), sub);
        put_scaled(b->s, sub, f16_at(w + 208));
        CRIT_UNROLL for (int g = 0; g < 8; g++) unpack_q6(w, g, v), put_group(b, g, v);
        break;
    case CRIT_T_Q3_K:
        widen_s8(q3_scales(w + 96), sub);
        put_scaled(b->s, sub, f16_at(w + 108));
        CRIT_UNROLL for (int g = 0; g < 8; g++) unpack_q3(w, g, v), put_group(b, g, v);
        break;
    default: /* Q2_K */
        widen_s8(as_s8(lo4(vld1q_u8(w))), sub);
        put_scaled(b->s, sub, f16_at(w + 80));
        widen_s8(as_s8(hi4(vld1q_u8(w))), sub);
        put_scaled(b->m, sub, -f16_at(w + 82));
        CRIT_UNROLL for (int g = 0; g < 8; g++) unpack_q2(w, g, v), put_group(b, g, v);
        break;
    }
}

/* Four rows' blocks into columns [col, col + 4) of the panel from group g0 on. */
CRIT_INLINE void put_quad(panel_i8 *p, size_t g0, size_t groups, size_t col, const row_blk b[4], int halves,
                          int has_m) {
    for (size_t g = 0; g < groups; g++) {
        CRIT_UNROLL for (size_t i = 0; i < 2; i++) {
            int32x4_t r[4];
            CRIT_UNROLL for (size_t j = 0; j < 4; j++) r[j] = vreinterpretq_s32_s8(vld1q_s8(b[j].q + 32 * g + 16 * i));
            const int32x4x2_t x = vtrnq_s32(r[0], r[1]), y = vtrnq_s32(r[2], r[3]);
            int8_t *q = p->q + (g0 + g) * 512 + i * 256 + col * 4;
            vst1q_s8(q, vreinterpretq_s8_s32(vcombine_s32(vget_low_s32(x.val[0]), vget_low_s32(y.val[0]))));
            vst1q_s8(q + 64, vreinterpretq_s8_s32(vcombine_s32(vget_low_s32(x.val[1]), vget_low_s32(y.val[1]))));
            vst1q_s8(q + 128, vreinterpretq_s8_s32(vcombine_s32(vget_high_s32(x.val[0]), vget_high_s32(y.val[0]))));
            vst1q_s8(q + 192, vreinterpretq_s8_s32(vcombine_s32(vget_high_s32(x.val[1]), vget_high_s32(y.val[1]))));
        }
    }
    const size_t n = halves ? 2 : 1;
    for (size_t h = 0; h < n * groups; h++)
        for (size_t j = 0; j < 4; j++) {
            p->s[(n * g0 + h) * 16 + col + j] = b[j].s[h];
            if (has_m) p->m[(n * g0 + h) * 16 + col + j] = b[j].m[h];
        }
}

/* ---- micro-kernel ---- */

/* Step 4 i + l of a group against lane l of x[row] = inputs 16 i .. 16 i + 15. */
#define STEP(l)                                                                                                        \
    CRIT_UNROLL for (int v = 0; v < 4; v++) {                                                                          \
        const int8x16_t w = vld1q_s8(q + (l)*64 + 16 * v);                                                             \
        CRIT_UNROLL for (int r = 0; r < NR; r++) acc[r][v] = vdotq_laneq_s32(acc[r][v], w, x[r], l);                   \
    }

/* NR rows from a on, ng groups, added to c [NR][16]. */
CRIT_INLINE void tile(const int NR, const int HALVES, const int MIN, const panel_i8 *p, const uint8_t *a,
                      size_t row_bytes, size_t ng, float *c) {
    const int8_t *q = p->q;
    const float *s = p->s, *m = p->m;
    for (size_t g = 0; g < ng; g++, a += CRIT_ACT_I8_BYTES) {
        int32x4_t acc[MR][4];
        CRIT_UNROLL for (int i = 0; i < 2; i++, q += 256) {
            int8x16_t x[MR];
            CRIT_UNROLL for (int r = 0; r < NR; r++) {
                x[r] = vreinterpretq_s8_u8(vld1q_u8(a + (size_t)r * row_bytes + 16 * i));
                if (i == 0 || HALVES) {
                    CRIT_UNROLL for (int v = 0; v < 4; v++) acc[r][v] = vdupq_n_s32(0);
                }
            }
            STEP(0)
            STEP(1)
            STEP(2)
            STEP(3)
            if (i == 0 && !HALVES) continue;
            CRIT_UNROLL for (int r = 0; r < NR; r++) {
                float rs, sum = 0;
                CRIT_KEEP_ORDER();
                memcpy(&rs, a + (size_t)r * row_bytes + AT_S, sizeof rs);
                if (MIN && HALVES) {
                    int32_t start;
                    memcpy(&start, a + (size_t)r * row_bytes + AT_START_HALF + 4 * i, sizeof start);
                    sum = rs * CRIT_ACT_START_UNIT * (float)start;
                } else if (MIN)
                    memcpy(&sum, a + (size_t)r * row_bytes + AT_SUM, sizeof sum);
                CRIT_UNROLL for (int v = 0; v < 4; v++) {
                    float32x4_t t = vld1q_f32(c + 16 * r + 4 * v);
                    t = vfmaq_f32(t, vcvtq_f32_s32(acc[r][v]), vmulq_n_f32(vld1q_f32(s + 4 * v), rs));
                    if (MIN) t = vfmaq_n_f32(t, vld1q_f32(m + 4 * v), sum);
                    vst1q_f32(c + 16 * r + 4 * v, t);
                }
            }
            s += 16, m += 16;
        }
    }
}

typedef void (*tile_fn)(const panel_i8 *p, const uint8_t *a, size_t row_bytes, size_t ng, float *c);
#define TILE(name, nr, halves, min)                                                                                    \
    static void name##_##nr(const panel_i8 *p, const uint8_t *a, size_t row_bytes, size_t ng, float *c) {              \
        tile(nr, halves, min, p, a, row_bytes, ng, c);                                                                 \
    }
#define TILES(name, halves, min)                                                                                       \
    TILE(name, 1, halves, min)                                                                                         \
    TILE(name, 2, halves, min)                                                                                         \
    TILE(name, 3, halves, min)                                                                                         \
    TILE(name, 4, halves, min)                                                                                         \
    static const tile_fn name[MR] = {name##_1, name##_2, name##_3, name##_4};
TILES(plain, 0, 0)
TILES(with_min, 0, 1)
TILES(half, 1, 0)
TILES(half_min, 1, 1)

typedef void (*decode_fn)(const uint8_t *const *row, size_t ng, panel_i8 *p);

static void gemm_i8(const crit_gemm_args *a, size_t n0, size_t n1, panel_i8 *p, decode_fn decode,
                    const tile_fn tiles[MR], size_t blk_groups, size_t blk_bytes) {
    const size_t n_grp = a->n_in / CRIT_ACT_LEN, row_bytes = crit_act_row_bytes(CRIT_ACT_I8, a->n_in);
    memset((void *)p->c, 0, sizeof p->c);
    for (size_t n = n0; n < n1; n += CRIT_GEMM_NR) {
        const size_t nv = n1 - n < CRIT_GEMM_NR ? n1 - n : CRIT_GEMM_NR;
        const uint8_t *row[CRIT_GEMM_NR];
        panel_rows(a, n, nv, row);
        for (size_t g0 = 0; g0 < n_grp; g0 += GROUPS) {
            const size_t ng = n_grp - g0 < GROUPS ? n_grp - g0 : GROUPS;
            decode(row, ng, p);
            for (size_t j = 0; j < CRIT_GEMM_NR; j++) row[j] += ng / blk_groups * blk_bytes;
            const uint8_t *act = (const uint8_t *)a->act + g0 * CRIT_ACT_I8_BYTES;
            for (size_t r = 0; r < a->n_row; r += MR) {
                const size_t nr = a->n_row - r < MR ? a->n_row - r : MR;
                tile_begin(a, p->c, r, nr, n, nv, g0 == 0);
                tiles[nr - 1](p, act + r * row_bytes, row_bytes, ng, p->c);
                tile_end(a, p->c, r, nr, n, nv);
            }
        }
    }
}

#define GEMM(name, type, tiles, halves, has_m, groups, bytes)                                                          \
    static void decode_##name(const uint8_t *const *row, size_t ng, panel_i8 *p) {                                     \
        for (size_t j = 0; j < CRIT_GEMM_NR; j += 4)                                                                   \
            for (size_t g = 0; g < ng; g += (groups)) {                                                                \
                row_blk b[4];                                                                                          \
                for (size_t i = 0; i < 4; i++) decode_block(row[j + i] + g / (groups) * (bytes), type, &b[i]);         \
                put_quad(p, g, groups, j, b, halves, has_m);                                                           \
            }                                                                                                          \
    }                                                                                                                  \
    void crit_gemm_##name##_neon(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                       \
        gemm_i8(a, n0, n1, scratch, decode_##name, tiles, groups, bytes);                                              \
    }
GEMM(q4_0, CRIT_T_Q4_0, plain, 0, 0, 1, 18)
GEMM(q4_1, CRIT_T_Q4_1, with_min, 0, 1, 1, 20)
GEMM(q5_0, CRIT_T_Q5_0, plain, 0, 0, 1, 22)
GEMM(q5_1, CRIT_T_Q5_1, with_min, 0, 1, 1, 24)
GEMM(q8_0, CRIT_T_Q8_0, plain, 0, 0, 1, 34)
GEMM(iq4_nl, CRIT_T_IQ4_NL, plain, 0, 0, 1, 18)
GEMM(iq4_xs, CRIT_T_IQ4_XS, plain, 0, 0, 8, 136)
GEMM(q4_k, CRIT_T_Q4_K, with_min, 0, 1, 8, 144)
GEMM(q5_k, CRIT_T_Q5_K, with_min, 0, 1, 8, 176)
GEMM(q6_k, CRIT_T_Q6_K, half, 1, 0, 8, 210)
GEMM(q3_k, CRIT_T_Q3_K, half, 1, 0, 8, 110)
GEMM(q2_k, CRIT_T_Q2_K, half_min, 1, 1, 8, 84)
