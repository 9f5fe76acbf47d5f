/* SPDX-License-Identifier: MIT */
/* key_scores and mix_values in plain C: sums of scores in double, values in the chain of fma that the contract names.
 */
#include <math.h>

#include "kernels/f16.h"
#include "kernels/protos.h"

void crit_key_scores_c(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, size_t n_key, uint32_t d,
                       float scale, float *s, size_t s_stride) {
    for (uint32_t r = 0; r < n_row; r++) {
        for (size_t j = 0; j < n_key; j++) {
            double sum = 0;
            for (uint32_t e = 0; e < d; e++) sum += (double)q[r * q_stride + e] * (double)crit_f16_value(k[j * d + e]);
            s[r * s_stride + j] = (float)((double)scale * sum);
        }
    }
}

void crit_mix_values_c(const float *p, size_t p_stride, uint32_t n_row, const uint16_t *v, size_t n_key, uint32_t d,
                       float *o, size_t o_stride) {
    for (size_t j = 0; j < n_key; j++)
        for (uint32_t e = 0; e < d; e++) {
            const float x = crit_f16_value(v[j * d + e]);
            for (uint32_t r = 0; r < n_row; r++)
                o[r * o_stride + e] = fmaf(p[r * p_stride + j], x, o[r * o_stride + e]);
        }
}
