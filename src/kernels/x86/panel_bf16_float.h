/* SPDX-License-Identifier: MIT */
/* Weight panels in bf16: their order, and those of float weights; AVX-512 with bf16 conversions.
 *
 * A panel holds CRIT_GEMM_NR = 16 outputs of some steps of 32 inputs, 1 KB a step, as the AMX tile product wants its B
 * operand and vdpbf16ps its lanes:
 *   [step][16 pairs of inputs][16 outputs][2]  bf16
 * Inputs behind the row are 0. */
#ifndef CRIT_PANEL_BF16_FLOAT_H
#define CRIT_PANEL_BF16_FLOAT_H

#include "kernels/kernels.h"
#include "kernels/x86/panel_avx2.h"

#ifndef BF16_BITS /* tests/emul has structs for vectors */
#define BF16_BITS(v) ((__m512i)(v))
#endif

enum { BF16_STEP = 32, BF16_STEP_LEN = BF16_STEP * CRIT_GEMM_NR };

/* lo in words 0..15, hi in words 16..31 */
CRIT_AI __m512i bf16_two(__m512 hi, __m512 lo) {
    return BF16_BITS(_mm512_cvtne2ps_pbh(hi, lo));
}

/* n <= 32 float weights at src -> 32 bf16, 0 behind */
CRIT_AI void bf16_row(const uint8_t *src, size_t n, uint16_t *dst, crit_type type) {
    const size_t bytes = type == CRIT_T_F32 ? 4 : 2;
    uint8_t t[BF16_STEP * 4];
    if (n < BF16_STEP) {
        memset(t, 0, sizeof t);
        memcpy(t, src, n * bytes);
        src = t;
    }
    if (type == CRIT_T_BF16)
        memcpy(dst, src, BF16_STEP * 2);
    else if (type == CRIT_T_F16)
        _mm512_storeu_si512(dst, bf16_two(_mm512_cvtph_ps(load_256(src + 32)), _mm512_cvtph_ps(load_256(src))));
    else
        _mm512_storeu_si512(dst, bf16_two(_mm512_loadu_ps(src + 64), _mm512_loadu_ps(src)));
}

/* Any nk inputs of sixteen rows of floats; the last step is filled up with 0. */
CRIT_AI void bf16_panel_float(const uint8_t *const *row, size_t nk, uint16_t *dst, crit_type type) {
    const size_t bytes = type == CRIT_T_F32 ? 4 : 2;
    uint16_t t[CRIT_GEMM_NR][BF16_STEP];
    for (size_t k = 0; k < nk; k += BF16_STEP, dst += BF16_STEP_LEN) {
        const uint8_t *at[CRIT_GEMM_NR];
        for (size_t r = 0; r < CRIT_GEMM_NR; r++) {
            at[r] = row[r] + k * bytes;
            if (type == CRIT_T_BF16 && nk - k >= BF16_STEP) continue;
            bf16_row(at[r], nk - k < BF16_STEP ? nk - k : BF16_STEP, t[r], type);
            at[r] = (const uint8_t *)t[r];
        }
        for (size_t half = 0; half < 2; half++)
            for (size_t j = 0; j < 2; j++) { /* eight pairs of eight rows */
                __m256i v[8];
                rows_32(at + 8 * half, j * 32, v);
                for (size_t i = 0; i < 8; i++)
                    _mm256_storeu_si256((__m256i *)(dst + (8 * j + i) * 32 + 16 * half), v[i]);
            }
    }
}

#endif
