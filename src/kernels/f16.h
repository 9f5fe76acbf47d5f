/* SPDX-License-Identifier: MIT */
/* One binary16 value to f32 in plain C, exact, for the C references and for tails.  Arrays go through the kernel
 * f16_to_f32.  Invariant: every finite value, infinity and the sign of zero come through; a NaN stays a NaN. */
#ifndef CRIT_KERNELS_F16_H
#define CRIT_KERNELS_F16_H

#include <stdint.h>
#include <string.h>

static inline float crit_f16_value(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, mag = h & 0x7fffu, bits;
    float f;
    if (mag >= 0x7c00u)
        bits = sign | 0x7f800000u | (mag & 0x3ffu) << 13;
    else if (mag >= 0x0400u)
        bits = sign | ((mag << 13) + 0x38000000u);
    else { /* zero and subnormals: a multiple of 2^-24 */
        f = (float)mag * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
        bits |= sign;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

#endif
