/* SPDX-License-Identifier: MIT */
/* Matrix products on float weights (F32, F16, BF16) with f32 activations, NEON: 6 rows x 16 outputs of FMLA by lane.
 *
 * The panel is [input][16 outputs] f32, transposed four rows by four inputs at a time.  Four inputs of a tile are 6
 * loads of activations, 16 of weights and 96 FMLA.  The one-row product streams the rows as they lie. */
#include "kernels/arm/lanes_neon.h"
#include "kernels/arm/tile_neon.h"
#include "kernels/protos.h"

enum { KC = 256, MR = 6 };

typedef struct panel_f32 {
    float w[KC * CRIT_GEMM_NR];
    float c[MR * CRIT_GEMM_NR];
} panel_f32;

/* n weights at p, 4 at most, exact, 0 behind */
CRIT_INLINE float32x4_t load_w(const uint8_t *p, size_t n, crit_type type) {
    uint8_t t[16] = {0};
    const size_t bytes = type == CRIT_T_F32 ? 4 : 2;
    if (n < 4) {
        memcpy(t, p, n * bytes);
        p = t;
    }
    if (type == CRIT_T_F32) return vreinterpretq_f32_u8(vld1q_u8(p));
    const uint16x4_t h = vreinterpret_u16_u8(vld1_u8(p));
    if (type == CRIT_T_F16) return vcvt_f32_f16(vreinterpret_f16_u16(h));
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

/* Inputs [k0, k0 + nk) of sixteen rows; zeros behind, up to a multiple of four. */
CRIT_INLINE void decode_panel(const uint8_t *const *row, size_t k0, size_t nk, float *dst, crit_type type) {
    const size_t bytes = type == CRIT_T_F32 ? 4 : 2;
    for (size_t k = 0; k < nk; k += 4)
        for (size_t j = 0; j < CRIT_GEMM_NR; j += 4) {
            float32x4_t v[4];
            CRIT_UNROLL for (size_t i = 0; i < 4; i++) v[i] = load_w(row[j + i] + (k0 + k) * bytes, nk - k, type);
            crit_transpose_4x4(v);
            CRIT_UNROLL for (size_t i = 0; i < 4; i++) vst1q_f32(dst + (k + i) * CRIT_GEMM_NR + j, v[i]);
        }
}

#define STEP(l)                                                                                                        \
    CRIT_UNROLL for (int v = 0; v < 4; v++) {                                                                          \
        const float32x4_t b = vld1q_f32(w + (l)*CRIT_GEMM_NR + 4 * v);                                                 \
        CRIT_KEEP_ORDER();                                                                                             \
        CRIT_UNROLL for (int r = 0; r < NR; r++) CRIT_FMA_LANE(acc[r][v], b, x[r], l);                                 \
    }
CRIT_INLINE void tile(const int NR, const float *w, const uint8_t *a, size_t row_bytes, size_t nk, float *c) {
    float32x4_t acc[MR][4], x[MR];
    CRIT_UNROLL for (int r = 0; r < NR; r++) {
        CRIT_UNROLL for (int v = 0; v < 4; v++) acc[r][v] = vld1q_f32(c + 16 * r + 4 * v);
    }
    size_t k = 0;
    for (; k + 4 <= nk; k += 4, a += 16, w += 4 * CRIT_GEMM_NR) {
        CRIT_UNROLL for (int r = 0; r < NR; r++) x[r] = vreinterpretq_f32_u8(vld1q_u8(a + (size_t)r * row_bytes));
        STEP(0)
        STEP(1)
        STEP(2)
        STEP(3)
    }
    for (; k < nk; k++, a += 4, w += CRIT_GEMM_NR) {
        CRIT_UNROLL for (int r = 0; r < NR; r++) {
            float f;
            memcpy(&f, a + (size_t)r * row_bytes, sizeof f);
            x[r] = vdupq_n_f32(f);
        }
        STEP(0)
    }
    CRIT_UNROLL for (int r = 0; r < NR; r++) {
        CRIT_UNROLL for (int v = 0; v < 4; v++) vst1q_f32(c + 16 * r + 4 * v, acc[r][v]);
    }
}

#include "kernels/gemm_f32_tmpl.h"

CRIT_INLINE void gemv_float(const crit_gemm_args *a, size_t n0, size_t n1, crit_type type) {
    const size_t bytes = type == CRIT_T_F32 ? 4 : 2;
    const uint8_t *x = a->act;
    for (size_t n = n0; n < n1; n++) {
        const uint8_t *w = (const uint8_t *)a->w + n * a->w_row_bytes;
        float32x4_t s[8];
        CRIT_UNROLL for (int i = 0; i < 8; i++) s[i] = vdupq_n_f32(0);
        size_t k = 0;
        for (; k + 32 <= a->n_in; k += 32) {
            CRIT_UNROLL for (size_t i = 0; i < 8; i++) s[i] =
                vfmaq_f32(s[i], load_w(w + (k + 4 * i) * bytes, 4, type), load_w(x + (k + 4 * i) * 4, 4, CRIT_T_F32));
        }
        for (; k < a->n_in; k += 4) {
            const size_t nk = a->n_in - k;
            s[0] = vfmaq_f32(s[0], load_w(w + k * bytes, nk, type), load_w(x + k * 4, nk, CRIT_T_F32));
        }
        CRIT_UNROLL for (int i = 0; i < 4; i++) s[i] = vaddq_f32(s[i], s[i + 4]);
        float o = vaddvq_f32(vaddq_f32(vaddq_f32(s[0], s[1]), vaddq_f32(s[2], s[3])));
        if (a->accumulate) o += a->out[n];
        if (a->bias) o += a->bias[n];
        a->out[n] = o;
    }
}

#define FLOAT_TYPE(name, type)                                                                                         \
    void crit_gemm_##name##_neon(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                       \
        gemm_float(a, n0, n1, scratch, type);                                                                          \
    }                                                                                                                  \
    void crit_gemv_##name##_neon(const crit_gemm_args *a, size_t n0, size_t n1) {                                      \
        gemv_float(a, n0, n1, type);                                                                                   \
    }
FLOAT_TYPE(f32, CRIT_T_F32)
FLOAT_TYPE(f16, CRIT_T_F16)
FLOAT_TYPE(bf16, CRIT_T_BF16)
