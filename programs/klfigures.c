/* SPDX-License-Identifier: MIT */
/* See klfigures.h. */
#include "klfigures.h"

#include <math.h>
#include <stdlib.h>

#include "jsonout.h"
#include "stats.h"

bool klfigures_init(klfigures *f, uint32_t n_tok, uint32_t n_last, size_t cap) {
    *f = (klfigures){.n_tok = n_tok, .n_last = n_last, .cap = cap};
    f->kl = malloc((cap ? cap : 1) * sizeof *f->kl);
    return f->kl != NULL;
}

void klfigures_free(klfigures *f) {
    free(f->kl);
    *f = (klfigures){0};
}

void klfigures_add(klfigures *f, const klposition *p) {
    if (f->n == f->cap) return;
    f->kl[f->n++] = p->kl;
    f->n_top1 += p->top1;
    if (f->n_tok - p->pos <= f->n_last) {
        f->n_at_end++;
        f->kl_last += p->kl;
        f->n_top1_last += p->top1;
    }
    if (p->pos >= KL_DENSE_FIRST && f->n_tok - p->pos > KL_DENSE_LAST) {
        f->n_sparse++;
        f->kl_sparse += p->kl;
    }
    if (p->has_next) {
        f->n_nll++;
        f->nll += p->nll;
        f->nll_base += p->nll_base;
    }
}

static double per(double sum, size_t n) {
    return n ? sum / (double)n : (double)NAN;
}

json_t *klfigures_json(klfigures *f, const crit_stats *s, const crit_stats *dense) {
    const double nll = per(f->nll, f->n_nll), nll_base = per(f->nll_base, f->n_nll);
    json_t *j = json_object();
    json_put(j, "positions", json_size(f->n));
    json_put(j, "kl_mean", json_num(stats_mean(f->kl, f->n)));
    json_put(j, "kl_median", json_num(stats_quantile(f->kl, f->n, 0.5)));
    json_put(j, "kl_p99", json_num(stats_quantile(f->kl, f->n, 0.99)));
    json_put(j, "kl_max", json_num(stats_quantile(f->kl, f->n, 1)));
    json_put(j, "kl_last", json_num(per(f->kl_last, f->n_at_end)));
    json_put(j, "kl_sparse", json_num(per(f->kl_sparse, f->n_sparse)));
    json_put(j, "top1", json_num(per((double)f->n_top1, f->n)));
    json_put(j, "top1_last", json_num(per((double)f->n_top1_last, f->n_at_end)));
    json_put(j, "ppl_dense", json_num(exp(nll_base)));
    json_put(j, "ppl", json_num(exp(nll)));
    json_put(j, "dnll", json_num(nll - nll_base));
    json_put(j, "density", json_num(s->density));
    json_put(j, "skipped", json_num(s->skipped));
    json_put(j, "mass_measured", json_num(s->mass_measured));
    json_put(j, "peak_recall_measured", json_num(s->peak_recall_measured));
    /* Rows of logits are the instrument's, not the prefill's. */
    json_put(j, "prefill_s", json_num((s->prefill_ms - s->logits_ms) / 1e3));
    json_put(j, "prefill_dense_s", dense ? json_num((dense->prefill_ms - dense->logits_ms) / 1e3) : json_null());
    json_put(j, "estimate_s", json_num(s->estimate_ms / 1e3));
    json_put(j, "attend_s", json_num(s->attend_ms / 1e3));
    json_put(j, "dense_attend_s", dense ? json_num(dense->attend_ms / 1e3) : json_null());
    return j;
}
