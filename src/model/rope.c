/* SPDX-License-Identifier: MIT */
/* Rotary position embedding: one frequency per rotating pair, with linear, llama3 or YaRN scaling folded in.
 *
 * llama3 scaling arrives as per-pair divisors in the tensor rope_freqs; YaRN (arXiv 2309.00071) blends the scaled and
 * the unscaled frequency over a ramp between two wavelengths and lengthens cos and sin a little. */
#include <math.h>
#include <string.h>

#include "model/model.h"

/* Index of the pair that turns `turns` times within the original context. */
static double yarn_dim(const crit_config *c, double turns) {
    return c->n_rot * log(c->yarn_ctx / (turns * 2 * 3.14159265358979323846)) / (2 * log(c->rope_base));
}

crit_status crit_rope_init(crit_rope *r, const crit_config *c, const float *freq_factors, crit_error *err) {
    r->n = c->n_rot / 2;
    r->mscale = c->yarn_attn; /* declared beside any scaling, or none */
    r->freq = crit_malloc(r->n, sizeof *r->freq);
    if (!r->freq) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    double inv = c->rope == CRIT_ROPE_LINEAR || c->rope == CRIT_ROPE_YARN ? 1.0 / c->rope_factor : 1.0;
    double lo = 0, hi = 0;
    if (c->rope == CRIT_ROPE_YARN) {
        lo = fmax(0, floor(yarn_dim(c, c->yarn_fast)));
        hi = fmin(c->n_rot - 1.0, ceil(yarn_dim(c, c->yarn_slow)));
        r->mscale *= 1.0 + 0.1 * log(fmax(1, c->rope_factor)) * (c->yarn_ext != 0);
    }
    for (uint32_t i = 0; i < r->n; i++) {
        double f = pow(c->rope_base, -2.0 * i / c->n_rot);
        if (freq_factors) f /= (double)freq_factors[i];
        double scaled = f * inv;
        if (c->rope == CRIT_ROPE_YARN) {
            double ramp = fmin(1, fmax(0, (i - lo) / fmax(0.001, hi - lo)));
            double keep = (1 - ramp) * c->yarn_ext; /* 1: fast pair, left as it is */
            scaled = scaled * (1 - keep) + f * keep;
        }
        r->freq[i] = scaled;
    }
    return CRIT_OK;
}

void crit_rope_clear(crit_rope *r) {
    crit_free(r->freq);
    memset(r, 0, sizeof *r);
}

void crit_rope_at(const crit_rope *r, uint32_t pos, float *cosv, float *sinv) {
    for (uint32_t i = 0; i < r->n; i++) {
        double a = pos * r->freq[i];
        cosv[i] = (float)(cos(a) * r->mscale);
        sinv[i] = (float)(sin(a) * r->mscale);
    }
}
