/* SPDX-License-Identifier: MIT */
/* See exact.h. */
#include "exact.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "critiprefill/inspect.h"

enum { BLK = CRIT_VIEW_BLK_LEN };

exact_rounding exact_rounding_of(const char *cpu) {
    if (strcmp(cpu, "amx") == 0 || strcmp(cpu, "avx512bf16") == 0) return EXACT_BF16;
    return strcmp(cpu, "avx2i16") == 0 ? EXACT_I16 : EXACT_F32;
}

double exact_worse(double a, double b) {
    return isnan(a) || a >= b ? a : b;
}

/* Four sums side by side: the order is fixed, and the additions do not wait for each other. */
static double dot(const float *a, const float *b, uint32_t d) {
    double s[4] = {0};
    for (uint32_t i = 0; i + 4 <= d; i += 4) /* d is a multiple of 8 */
        for (uint32_t l = 0; l < 4; l++) s[l] += (double)a[i + l] * (double)b[i + l];
    return s[0] + s[1] + (s[2] + s[3]);
}

/* Scores; the largest of all keys and of the kept ones. */
static void scores(const exact_query *x, double *z, double *top, double *top_kept) {
    *top = *top_kept = -(double)INFINITY;
    for (uint32_t j = 0; j < x->n_key; j++) {
        z[j] = (double)x->scale * dot(x->q, x->k + (size_t)j * x->d, x->d);
        *top = fmax(*top, z[j]);
        if (x->kept[j / BLK]) *top_kept = fmax(*top_kept, z[j]);
    }
}

/* Share of the kept weight in planned blocks that [alg:skip] may have left out: a bound, since what a row had met when
 * it came to a block is at most the largest score. */
static double skippable(const exact_query *x, const double *w, double top, double top_kept, double exponent,
                        double kept_sum) {
    if (!(x->skip > 0)) return 0;
    const double edge = exp(top_kept - top - (double)x->skip + 2 * exponent);
    double sum = 0;
    for (uint32_t b = 0; b < x->end_far; b++) {
        if (!x->kept[b]) continue;
        double blk = 0, most = 0;
        for (uint32_t j = b * BLK; j < (b + 1) * BLK && j < x->n_key; j++) blk += w[j], most = fmax(most, w[j]);
        if (most < edge) sum += blk;
    }
    return kept_sum > 0 ? sum / kept_sum : 1;
}

void exact_attention(const exact_query *x, double *work, exact_result *r) {
    const uint32_t d = x->d;
    double *w = work, *kept = w + x->n_key, *dropped = kept + d, *size = dropped + d;
    double top, top_kept, kept_sum = 0, dropped_sum = 0, n_kept = 0;
    scores(x, w, &top, &top_kept);
    memset(kept, 0, 3 * d * sizeof *kept);
    for (uint32_t j = 0; j < x->n_key; j++) {
        w[j] = exp(w[j] - top);
        const float *v = x->v + (size_t)j * d;
        if (x->kept[j / BLK]) {
            kept_sum += w[j], n_kept++;
            for (uint32_t i = 0; i < d; i++) kept[i] += w[j] * (double)v[i];
            for (uint32_t i = 0; i < d; i++) size[i] += w[j] * fabs((double)v[i]);
        } else {
            dropped_sum += w[j];
            for (uint32_t i = 0; i < d; i++) dropped[i] += w[j] * (double)v[i];
        }
    }
    const double sum = kept_sum + dropped_sum, p = kept_sum / sum;
    const double mag = (double)x->scale * sqrt(dot(x->q, x->q, d)) * x->k_norm; /* scale sum|q||k_j| is no larger */
    const bool bf16 = x->rounding == EXACT_BF16, i16 = x->rounding == EXACT_I16;
    /* i16 (CRIT_ATTEND_UNIT in src/kernels/kernels.h): of each norm a unit is lost, and |q| sum|k| is no more than
     * sqrt(d) of the norms' product */
    const double unit = 0.505 / 32767, coarse = bf16 ? 0x1p-8 : i16 ? 2 * unit * sqrt(d) : 0;
    const double exponent = ((d + 16) * 0x1p-24 + coarse) * mag;
    const double weight = exponent + (bf16 ? 0x1p-8 + 0x1p-13 : 0x1p-22), rounding = (n_kept + 16) * 0x1p-24;
    const double left_out = 2 * x->v_max * skippable(x, w, top, top_kept, exponent, kept_sum);
    const double mixing = i16 ? (2 * BLK + 1) * unit * x->v_max : 0; /* units of P and V in a group of two blocks */
    double diff2 = 0, dense2 = 0;
    r->mass = p;
    r->identity = r->of_bound = 0;
    for (uint32_t i = 0; i < d; i++) {
        const double dense = (kept[i] + dropped[i]) / sum, o = (double)x->out[i];
        const double v_kept = kept[i] / kept_sum, v_dropped = dropped_sum > 0 ? dropped[i] / dropped_sum : 0;
        const double off = fabs((o - dense) - (1 - p) * (v_kept - v_dropped));
        const double scale = size[i] / kept_sum, bound = 2 * (expm1(weight) + rounding) * scale + left_out + mixing +
                                                         1e-13 * (scale + fabs(dense)) + 0x1p-126;
        diff2 += (o - dense) * (o - dense), dense2 += dense * dense;
        if (!(off == 0)) r->identity = exact_worse(r->identity, off / scale);
        r->of_bound = exact_worse(r->of_bound, off / bound);
    }
    r->error = dense2 > 0 ? sqrt(diff2 / dense2) : sqrt(diff2);
}
