/* SPDX-License-Identifier: MIT */
/* References of the rest of a layer: norm, rotation, gate, sum, and packing of keys and values. */
#include <math.h>

#include "kernels/c/half.h"
#include "kernels/protos.h"

void crit_rmsnorm_c(const float *x, const float *w, float *y, size_t n, float eps) {
    double ss = 0;
    for (size_t i = 0; i < n; i++) ss += (double)x[i] * (double)x[i];
    double scale = n ? 1.0 / sqrt(ss / (double)n + (double)eps) : 0;
    for (size_t i = 0; i < n; i++) y[i] = (float)((double)x[i] * scale) * w[i];
}

static void rotate(float *a, float *b, float c, float s) {
    float x = *a, y = *b;
    *a = x * c - y * s;
    *b = x * s + y * c;
}

void crit_rope_norm_c(float *x, size_t n_head, uint32_t d, uint32_t n_rot, const float *cosv, const float *sinv) {
    for (size_t h = 0; h < n_head; h++)
        for (size_t i = 0; i < n_rot / 2; i++) rotate(x + h * d + 2 * i, x + h * d + 2 * i + 1, cosv[i], sinv[i]);
}

void crit_rope_neox_c(float *x, size_t n_head, uint32_t d, uint32_t n_rot, const float *cosv, const float *sinv) {
    size_t half = n_rot / 2;
    for (size_t h = 0; h < n_head; h++)
        for (size_t i = 0; i < half; i++) rotate(x + h * d + i, x + h * d + half + i, cosv[i], sinv[i]);
}

void crit_silu_mul_c(const float *g, const float *u, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double x = (double)g[i], e = exp(-fabs(x)); /* e^-x would make -inf / inf of g = -inf */
        double gate = x < 0 ? (e > 0 ? x * e : -0.0) / (1.0 + e) : x / (1.0 + e);
        y[i] = (float)gate * u[i];
    }
}

double crit_soft_max_c(float *x, size_t n, float *top) {
    float most = -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
    for (size_t i = 0; i < n; i++) {
        x[i] = x[i] - most >= -87 ? (float)exp((double)x[i] - (double)most) : 0; /* -inf - -inf is NaN: 0 */
        sum += (double)x[i];
    }
    *top = most;
    return sum;
}

void crit_add_c(const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

void crit_kv_put_c(const float *k, size_t k_stride, const float *v, size_t v_stride, size_t at, size_t n, uint32_t d,
                   uint16_t *kblk, uint16_t *vblk) {
    for (size_t j = 0; j < n; j++)
        for (uint32_t i = 0; i < d; i++) {
            kblk[(at + j) * d + i] = crit_f16_bits(k[j * k_stride + i]);
            vblk[(at + j) * d + i] = crit_f16_bits(v[j * v_stride + i]);
        }
}
