/* SPDX-License-Identifier: MIT */
/* Panels of panel_bf16_float.h from quantised weights.
 *
 * Rows become the small integers and f32 scales of panel_u8.h first, eight groups at a time so that these stay in L1;
 * s q + m is one fma in f32, rounded to bf16 once. */
#ifndef CRIT_PANEL_BF16_H
#define CRIT_PANEL_BF16_H

#include "kernels/kernels.h"
#include "kernels/x86/panel_bf16_float.h"
#include "kernels/x86/panel_s8.h"

enum { BF16_GROUPS = 8 };

/* How a quantised type's integers become weights (panel_u8.h). */
typedef struct bf16_kind {
    decode8_fn decode;
    uint32_t blk_elems, blk_bytes;
    int shift, min, halves; /* min: 0, or inputs that share one (32, 16) */
} bf16_kind;

/* Groups [0, ng) of p -> steps of dst. */
CRIT_AI void bf16_spread(const panel *p, size_t ng, uint16_t *dst, const bf16_kind *k) {
    static const uint16_t interleave[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                            8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i order = _mm512_loadu_si512(interleave), low = _mm512_set1_epi32(255);
    const __m512 offset = _mm512_set1_ps(k->shift ? -(float)(1 << k->shift) : 0.0f);
    for (size_t h = 0; h < 2 * ng; h++) { /* halves of groups */
        __m512 s = _mm512_loadu_ps(p->s + h / 2 * 16), m = _mm512_set1_ps(0);
        if (k->halves) {
            __m512i sub = _mm512_loadu_si512(p->sub + h * 16);
            s = _mm512_mul_ps(s, _mm512_cvtepi32_ps(_mm512_srai_epi32(sub, 16)));
        }
        if (k->min) m = _mm512_loadu_ps(p->m + (k->min == 16 ? h : h / 2) * 16);
        m = _mm512_fmadd_ps(s, offset, m);
        for (size_t t = 0; t < 4; t++) { /* four inputs: two pairs */
            __m512i q = _mm512_loadu_si512(p->q + (4 * h + t) * 64);
            __m512i q1 = _mm512_and_si512(_mm512_srli_epi32(q, 8), low);
            __m512i q2 = _mm512_and_si512(_mm512_srli_epi32(q, 16), low), q3 = _mm512_srli_epi32(q, 24);
            __m512 w0 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_and_si512(q, low)), s, m);
            __m512 w1 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(q1), s, m);
            __m512 w2 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(q2), s, m);
            __m512 w3 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(q3), s, m);
            uint16_t *to = dst + (4 * h + t) * 64;
            _mm512_storeu_si512(to, _mm512_permutexvar_epi16(order, bf16_two(w1, w0)));
            _mm512_storeu_si512(to + 32, _mm512_permutexvar_epi16(order, bf16_two(w3, w2)));
        }
    }
}

/* nk inputs (a multiple of 32, of the block unless the row ends there) of sixteen rows. */
static void bf16_panel_quant(const uint8_t *const *row, size_t nk, uint16_t *dst, const bf16_kind *k, panel *p) {
    const uint8_t *at[CRIT_GEMM_NR];
    memcpy(at, row, sizeof at);
    const size_t step = BF16_GROUPS * 32 / k->blk_elems * k->blk_bytes;
    for (size_t g = 0; g < nk / 32; g += BF16_GROUPS, dst += BF16_GROUPS * BF16_STEP_LEN) {
        size_t ng = nk / 32 - g < BF16_GROUPS ? nk / 32 - g : BF16_GROUPS;
        k->decode(at, ng, p, 0);
        k->decode(at + 8, ng, p, 1);
        bf16_spread(p, ng, dst, k);
        for (size_t j = 0; j < CRIT_GEMM_NR; j++) at[j] += step;
    }
}

#endif
