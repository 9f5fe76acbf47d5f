/* SPDX-License-Identifier: MIT */
/* Matrix products on float weights (F32, F16, BF16) with f32 activations, AVX-512: 12 rows x 32 outputs of FMAs.
 *
 * Two panels of [input][16 outputs] f32 side by side; an odd last one runs alone.  192 inputs of both are 24 KB: they
 * and the rows fit L1 of every part so far.  24 chains of latency 4 on two pipes.  tests/emul runs this source
 * everywhere. */
#include "kernels/protos.h"
#include "kernels/x86/gemm_tile.h"
#include "kernels/x86/panel_f32.h"

#ifndef KEEP_V /* tests/emul has structs for vectors */
#define KEEP_V(v) __asm__("" : "+v"(v))
#define TILE_FN   CRIT_AI
#endif

enum { KC = 192, MR = 12 };

typedef struct panel_512 {
    float w[2][KC * CRIT_GEMM_NR];
    float c[2][MR * CRIT_GEMM_NR];
} panel_512;
_Static_assert(sizeof(panel_512) <= 64 << 10, "crit_gemm_scratch_bytes");

#define ROWS(X)    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define DECLARE(r) __m512 x##r = z, y##r = z;
#define BEGIN(r)                                                                                                       \
    if (NR > r) {                                                                                                      \
        x##r = _mm512_loadu_ps(p->c[0] + 16 * r);                                                                      \
        if (NP > 1) y##r = _mm512_loadu_ps(p->c[1] + 16 * r);                                                          \
    }
#define STEP(r)                                                                                                        \
    if (NR > r) {                                                                                                      \
        float v;                                                                                                       \
        memcpy(&v, a + r * row_bytes, sizeof v);                                                                       \
        __m512 b = _mm512_set1_ps(v);                                                                                  \
        x##r = _mm512_fmadd_ps(w0, b, x##r);                                                                           \
        KEEP_V(x##r);                                                                                                  \
        if (NP > 1) {                                                                                                  \
            y##r = _mm512_fmadd_ps(w1, b, y##r);                                                                       \
            KEEP_V(y##r);                                                                                              \
        }                                                                                                              \
    }
#define END(r)                                                                                                         \
    if (NR > r) {                                                                                                      \
        _mm512_storeu_ps(p->c[0] + 16 * r, x##r);                                                                      \
        if (NP > 1) _mm512_storeu_ps(p->c[1] + 16 * r, y##r);                                                          \
    }

TILE_FN void tile(const int NR, const int NP, panel_512 *p, const uint8_t *a, size_t row_bytes, size_t nk) {
    const __m512 z = _mm512_set1_ps(0);
    const float *w = p->w[0], *u = p->w[1];
    ROWS(DECLARE)
    ROWS(BEGIN)
    for (size_t k = 0; k < nk; k++, a += 4, w += CRIT_GEMM_NR, u += CRIT_GEMM_NR) {
        __m512 w0 = _mm512_loadu_ps(w), w1 = NP > 1 ? _mm512_loadu_ps(u) : z;
        ROWS(STEP)
    }
    ROWS(END)
}

typedef void (*tile_fn)(panel_512 *p, const uint8_t *a, size_t row_bytes, size_t nk);
#define TILE(n, np)                                                                                                    \
    static void tile_##np##_##n(panel_512 *p, const uint8_t *a, size_t row_bytes, size_t nk) {                         \
        tile(n, np, p, a, row_bytes, nk);                                                                              \
    }
#define TILES(X, np)                                                                                                   \
    X(1, np) X(2, np) X(3, np) X(4, np) X(5, np) X(6, np) X(7, np) X(8, np) X(9, np) X(10, np) X(11, np) X(12, np)
TILES(TILE, 1)
TILES(TILE, 2)

CRIT_AI void gemm_float(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch, crit_type type) {
#define NAME(n, np) tile_##np##_##n,
    static const tile_fn fn[2][MR] = {{TILES(NAME, 1)}, {TILES(NAME, 2)}};
#undef NAME
    panel_512 *s = scratch;
    const size_t row_bytes = crit_act_row_bytes(CRIT_ACT_F32, a->n_in);
    memset((void *)s->c, 0, sizeof s->c);
    for (size_t n = n0; n < n1; n += 2 * CRIT_GEMM_NR) {
        const uint8_t *row[2][CRIT_GEMM_NR];
        size_t nv[2] = {0, 0};
        const size_t np = panel_pair(a, n, n1, row, nv);
        for (size_t k = 0; k < a->n_in; k += KC) {
            const size_t nk = a->n_in - k < KC ? a->n_in - k : KC;
            for (size_t p = 0; p < np; p++)
                for (size_t half = 0; half < 2; half++) decode8_f32(row[p] + 8 * half, k, nk, s->w[p] + 8 * half, type);
            for (size_t r = 0; r < a->n_row; r += MR) {
                const size_t nr = a->n_row - r < MR ? a->n_row - r : MR;
                const uint8_t *act = (const uint8_t *)a->act + r * row_bytes + k * sizeof(float);
                for (size_t p = 0; p < np; p++) tile_begin(a, s->c[p], r, nr, n + p * CRIT_GEMM_NR, nv[p], k == 0);
                fn[np - 1][nr - 1](s, act, row_bytes, nk);
                for (size_t p = 0; p < np; p++) tile_end(a, s->c[p], r, nr, n + p * CRIT_GEMM_NR, nv[p]);
            }
        }
    }
}

#define FLOAT_TYPE(name, type)                                                                                         \
    void crit_gemm_##name##_avx512(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                     \
        gemm_float(a, n0, n1, scratch, type);                                                                          \
    }
FLOAT_TYPE(f32, CRIT_T_F32)
FLOAT_TYPE(f16, CRIT_T_F16)
FLOAT_TYPE(bf16, CRIT_T_BF16)
