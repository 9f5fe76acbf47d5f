/* SPDX-License-Identifier: MIT */
/* Matrix products on float weights (F32, F16, BF16) with f32 activations, AVX2: 6 rows x 16 outputs of FMAs.
 *
 * The panel is [input][16 outputs] f32, transposed eight rows by eight inputs at a time; 256 inputs are half of L1.
 * The one-row product streams the rows as they lie. */
#include "kernels/protos.h"
#include "kernels/x86/gemm_tile.h"
#include "kernels/x86/panel_f32.h"

enum { KC = 256, MR = 6 };

typedef struct panel_f32 {
    float w[KC * CRIT_GEMM_NR];
    float c[MR * CRIT_GEMM_NR];
} panel_f32;

#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define BEGIN(r)                                                                                                       \
    if (NR > r) x##r = _mm256_load_ps(c + 16 * r), y##r = _mm256_load_ps(c + 16 * r + 8);
#define STEP(r)                                                                                                        \
    if (NR > r) {                                                                                                      \
        __m256 b = bcast_ps(a + r * row_bytes);                                                                        \
        x##r = _mm256_fmadd_ps(w0, b, x##r);                                                                           \
        y##r = _mm256_fmadd_ps(w1, b, y##r);                                                                           \
        KEEP(x##r);                                                                                                    \
        KEEP(y##r);                                                                                                    \
    }
#define END(r)                                                                                                         \
    if (NR > r) _mm256_store_ps(c + 16 * r, x##r), _mm256_store_ps(c + 16 * r + 8, y##r);

CRIT_AI void tile(const int NR, const float *w, const uint8_t *a, size_t row_bytes, size_t nk, float *c) {
    const __m256 z = _mm256_setzero_ps();
    __m256 x0 = z, y0 = z, x1 = z, y1 = z, x2 = z, y2 = z, x3 = z, y3 = z, x4 = z, y4 = z, x5 = z, y5 = z;
    ROWS(BEGIN)
    for (size_t k = 0; k < nk; k++, a += 4, w += CRIT_GEMM_NR) {
        __m256 w0 = _mm256_load_ps(w), w1 = _mm256_load_ps(w + 8);
        ROWS(STEP)
    }
    ROWS(END)
}

CRIT_AI void decode_panel(const uint8_t *const *row, size_t k, size_t nk, float *w, crit_type type) {
    decode8_f32(row, k, nk, w, type);
    decode8_f32(row + 8, k, nk, w + 8, type);
}

#include "kernels/gemm_f32_tmpl.h"

CRIT_AI void gemv_float(const crit_gemm_args *a, size_t n0, size_t n1, crit_type type) {
    const size_t bytes = type == CRIT_T_F32 ? 4 : 2;
    const uint8_t *x = a->act;
    for (size_t n = n0; n < n1; n++) {
        const uint8_t *w = (const uint8_t *)a->w + n * a->w_row_bytes;
        __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
        size_t k = 0;
        for (; k + 32 <= a->n_in; k += 32) {
            _mm_prefetch((const char *)w + k * bytes + 2048, _MM_HINT_T0);
            if (bytes == 4) _mm_prefetch((const char *)w + k * bytes + 2112, _MM_HINT_T0);
            s0 = _mm256_fmadd_ps(load_w(w + k * bytes, 8, type), load_w(x + k * 4, 8, CRIT_T_F32), s0);
            s1 = _mm256_fmadd_ps(load_w(w + (k + 8) * bytes, 8, type), load_w(x + (k + 8) * 4, 8, CRIT_T_F32), s1);
            s2 = _mm256_fmadd_ps(load_w(w + (k + 16) * bytes, 8, type), load_w(x + (k + 16) * 4, 8, CRIT_T_F32), s2);
            s3 = _mm256_fmadd_ps(load_w(w + (k + 24) * bytes, 8, type), load_w(x + (k + 24) * 4, 8, CRIT_T_F32), s3);
        }
        for (; k < a->n_in; k += 8) {
            size_t nk = a->n_in - k;
            s0 = _mm256_fmadd_ps(load_w(w + k * bytes, nk, type), load_w(x + k * 4, nk, CRIT_T_F32), s0);
        }
        s0 = _mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3));
        __m128 t = _mm_add_ps(_mm256_castps256_ps128(s0), _mm256_extractf128_ps(s0, 1));
        t = _mm_add_ps(t, _mm_movehl_ps(t, t));
        float o = _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
        if (a->accumulate) o += a->out[n];
        if (a->bias) o += a->bias[n];
        a->out[n] = o;
    }
}

#define FLOAT_TYPE(name, type)                                                                                         \
    void crit_gemm_##name##_avx2(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                       \
        gemm_float(a, n0, n1, scratch, type);                                                                          \
    }                                                                                                                  \
    void crit_gemv_##name##_avx2(const crit_gemm_args *a, size_t n0, size_t n1) {                                      \
        gemv_float(a, n0, n1, type);                                                                                   \
    }
FLOAT_TYPE(f32, CRIT_T_F32)
FLOAT_TYPE(f16, CRIT_T_F16)
FLOAT_TYPE(bf16, CRIT_T_BF16)
