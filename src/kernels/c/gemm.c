/* SPDX-License-Identifier: MIT */
/* Reference matrix products: rows are decoded exactly and multiplied with f32 activations in double.
 *
 * One function serves every type; the decoder comes from the table, so a type counts here as soon as it has one. */
#include "kernels/protos.h"

enum { CHUNK = 8192 }; /* values decoded at a time: a multiple of every type's block, half of the scratch */

static crit_dequant_fn decoder(crit_type type) {
    crit_kernels t;
    crit_kernels_init(&t, 0);
    return (unsigned)type < CRIT_T_COUNT ? t.dequant[type] : NULL;
}

static double dot(const float *w, const float *x, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)w[i] * (double)x[i];
    return s;
}

static void product(const crit_gemm_args *a, size_t n0, size_t n1, float *buf, size_t chunk, size_t n_row) {
    crit_dequant_fn decode = decoder(a->type);
    uint32_t blk_elems, blk_bytes;
    if (!decode || !crit_type_geometry(a->type, &blk_elems, &blk_bytes)) return;
    const size_t row_bytes = crit_act_row_bytes(CRIT_ACT_F32, a->n_in);
    for (size_t n = n0; n < n1; n++) {
        const char *w = (const char *)a->w + n * a->w_row_bytes;
        for (size_t k = 0; k < a->n_in; k += chunk) {
            size_t len = a->n_in - k < chunk ? a->n_in - k : chunk;
            decode(w + k / blk_elems * blk_bytes, buf, len);
            for (size_t r = 0; r < n_row; r++) {
                const float *x = (const float *)((const char *)a->act + r * row_bytes) + k;
                float *o = a->out + r * a->out_stride + n;
                double s = dot(buf, x, len);
                if (k > 0 || a->accumulate) s += (double)*o;
                if (k == 0 && a->bias) s += (double)a->bias[n];
                *o = (float)s;
            }
        }
    }
}

void crit_gemm_c(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {
    product(a, n0, n1, scratch, CHUNK, a->n_row);
}

void crit_gemv_c(const crit_gemm_args *a, size_t n0, size_t n1) {
    float buf[512];
    product(a, n0, n1, buf, 512, 1);
}
