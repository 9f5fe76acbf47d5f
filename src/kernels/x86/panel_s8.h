/* SPDX-License-Identifier: MIT */
/* Signed 8-bit weights (Q8_0, IQ4_NL, IQ4_XS) in panels of unsigned ones: stored with 128 added, SHIFT 7 of panel_u8.h.
 */
#ifndef CRIT_PANEL_S8_H
#define CRIT_PANEL_S8_H

#include "kernels/x86/panel_u8.h"

static void decode8_q8_0(const uint8_t *const *row, size_t ng, panel *p, size_t half) {
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    for (size_t g = 0; g < ng; g++) {
        __m256i v[8];
        rows_32(row, g * 34 + 2, v);
        for (size_t t = 0; t < 8; t++) put_q(p, g, t, half, _mm256_xor_si256(v[t], flip));
        put_f(p->s, g, half, f16_of_rows(row, g * 34));
    }
}

CRIT_AI void iq4_group(const uint8_t *const *row, size_t off, panel *p, size_t g, size_t half) {
    const __m256i values =
        _mm256_xor_si256(_mm256_setr_epi8(CRIT_IQ4_VALUES, CRIT_IQ4_VALUES), _mm256_set1_epi8((char)0x80));
    __m256i v[4];
    rows_16(row, off, v);
    for (size_t t = 0; t < 4; t++) {
        put_q(p, g, t, half, _mm256_shuffle_epi8(values, lo4(v[t])));
        put_q(p, g, t + 4, half, _mm256_shuffle_epi8(values, hi4(v[t])));
    }
}

static void decode8_iq4_nl(const uint8_t *const *row, size_t ng, panel *p, size_t half) {
    for (size_t g = 0; g < ng; g++) {
        iq4_group(row, g * 18 + 2, p, g, half);
        put_f(p->s, g, half, f16_of_rows(row, g * 18));
    }
}

static void decode8_iq4_xs(const uint8_t *const *row, size_t ng, panel *p, size_t half) {
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

#endif
