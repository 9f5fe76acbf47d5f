/* SPDX-License-Identifier: MIT */
/* Scalar conversions between f32 and the two 16-bit floats, for the C references and for tests; f16 -> f32 is
 * crit_f16_value of f16.h.  Arrays go through the kernels.
 *
 * To 16 bits they round to nearest, ties to even, from normal and subnormal alike; overflow gives infinity; a NaN stays
 * a NaN (quiet, upper payload bits kept).  No floating-point arithmetic: the caller's rounding mode does not matter. */
#ifndef CRIT_KERNELS_C_HALF_H
#define CRIT_KERNELS_C_HALF_H

#include <stdint.h>
#include <string.h>

#include "kernels/f16.h"

/* a / 2^s to the nearest integer, ties to even; 1 <= s <= 31 */
static inline uint32_t crit_shift_even(uint32_t a, unsigned s) {
    const uint32_t low = a & ((UINT32_C(1) << s) - 1), half = UINT32_C(1) << (s - 1), q = a >> s;
    return q + (low > half || (low == half && (q & 1)));
}

static inline uint16_t crit_f16_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000u, mag = bits & 0x7fffffffu;
    if (mag > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (mag >> 13 & 0x3ffu));
    if (mag >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); /* 65536 and more; 65520..65536 carry over below */
    if (mag >= 0x38800000u) return (uint16_t)(sign | crit_shift_even(mag - 0x38000000u, 13));
    if (mag < 0x33000000u) return (uint16_t)sign; /* under 2^-25, half the smallest subnormal */
    /* subnormal result: the significand in units of 2^-24 */
    const uint32_t sig = (mag & 0x7fffffu) | 0x800000u;
    return (uint16_t)(sign | crit_shift_even(sig, 126 - (mag >> 23)));
}

static inline float crit_bf16_value(uint16_t h) {
    const uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint16_t crit_bf16_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x0040u);
    return (uint16_t)crit_shift_even(bits, 16);
}

#endif
