/* SPDX-License-Identifier: MIT */
/* What the x86 GEMM drivers share: row pointers of a panel, and moving the f32 tile between out and scratch.
 *
 * A tile starts from what out holds (a later K block, or accumulate) or from 0, plus the bias once, so an element's
 * additions run in the order of K whatever the tile's shape. */
#ifndef CRIT_GEMM_TILE_H
#define CRIT_GEMM_TILE_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/x86/panel_avx2.h"

/* gcc spills or reorders accumulators without it, and keeps arrays of them in memory with it: named variables only. */
#define KEEP(v) __asm__("" : "+x"(v))

CRIT_AI __m256i bcast(const uint8_t *p) {
    return _mm256_set1_epi32((int)load_u32(p));
}
CRIT_AI __m256 bcast_ps(const uint8_t *p) {
    return _mm256_castsi256_ps(bcast(p));
}

/* A ragged panel repeats its last row; the columns are dropped. */
CRIT_AI void panel_rows(const crit_gemm_args *a, size_t n, size_t nv, const uint8_t *row[CRIT_GEMM_NR]) {
    for (size_t j = 0; j < CRIT_GEMM_NR; j++)
        row[j] = (const uint8_t *)a->w + (n + (j < nv ? j : nv - 1)) * a->w_row_bytes;
}

/* Rows of the panel of outputs from n on and, if n1 lies behind it, of the next; nv: outputs of each.  Returns how many
 * panels. */
CRIT_AI size_t panel_pair(const crit_gemm_args *a, size_t n, size_t n1, const uint8_t *row[2][CRIT_GEMM_NR],
                          size_t nv[2]) {
    const size_t np = n1 - n > CRIT_GEMM_NR ? 2 : 1;
    for (size_t p = 0; p < np; p++, n += CRIT_GEMM_NR) {
        nv[p] = n1 - n < CRIT_GEMM_NR ? n1 - n : CRIT_GEMM_NR;
        panel_rows(a, n, nv[p], row[p]);
    }
    return np;
}

CRIT_AI void tile_begin(const crit_gemm_args *a, float *c, size_t r0, size_t n_row, size_t n, size_t nv, int first) {
    if (nv == CRIT_GEMM_NR) {
        __m256 b0 = _mm256_setzero_ps(), b1 = b0;
        int biased = first && a->bias, old = !first || a->accumulate;
        if (biased) b0 = _mm256_loadu_ps(a->bias + n), b1 = _mm256_loadu_ps(a->bias + n + 8);
        for (size_t r = 0; r < n_row; r++) {
            const float *o = a->out + (r0 + r) * a->out_stride + n;
            __m256 c0 = b0, c1 = b1;
            if (old) {
                c0 = _mm256_loadu_ps(o), c1 = _mm256_loadu_ps(o + 8);
                if (biased) c0 = _mm256_add_ps(c0, b0), c1 = _mm256_add_ps(c1, b1);
            }
            _mm256_storeu_ps(c + r * CRIT_GEMM_NR, c0);
            _mm256_storeu_ps(c + r * CRIT_GEMM_NR + 8, c1);
        }
        return;
    }
    for (size_t r = 0; r < n_row; r++)
        for (size_t j = 0; j < nv; j++) {
            float v = !first || a->accumulate ? a->out[(r0 + r) * a->out_stride + n + j] : 0.0f;
            c[r * CRIT_GEMM_NR + j] = first && a->bias ? v + a->bias[n + j] : v;
        }
}

/* The next tile's cells of out, a whole line each: they were last touched a panel or a K block ago. */
CRIT_AI void prefetch_out(const crit_gemm_args *a, size_t r0, size_t n_row, size_t n) {
    for (size_t r = r0; r < r0 + n_row && r < a->n_row; r++) __builtin_prefetch(a->out + r * a->out_stride + n, 1, 3);
}

CRIT_AI void tile_end(const crit_gemm_args *a, const float *c, size_t r0, size_t n_row, size_t n, size_t nv) {
    for (size_t r = 0; r < n_row; r++) {
        float *o = a->out + (r0 + r) * a->out_stride + n;
        if (nv == CRIT_GEMM_NR) {
            _mm256_storeu_ps(o, _mm256_loadu_ps(c + r * CRIT_GEMM_NR));
            _mm256_storeu_ps(o + 8, _mm256_loadu_ps(c + r * CRIT_GEMM_NR + 8));
        } else
            memcpy((void *)o, c + r * CRIT_GEMM_NR, sizeof(float) * nv);
    }
}

#endif
