/* SPDX-License-Identifier: MIT */
/* See agree.h. */
#include "agree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "klrow.h"

bool agree_init(agree *a, size_t n_prompt, uint32_t n_vocab, bool stored_is_dense) {
    uint32_t n_row = n_prompt < AGREE_TOK ? (uint32_t)n_prompt : AGREE_TOK;
    *a = (agree){
        .n_row = n_row, .n_vocab = n_vocab, .from = (uint32_t)n_prompt - n_row, .stored_is_dense = stored_is_dense};
    a->rows = malloc((size_t)n_row * n_vocab * sizeof *a->rows);
    return a->rows != NULL;
}

void agree_free(agree *a) {
    free(a->rows);
    *a = (agree){0};
}

void agree_next(agree *a) {
    a->stored = true;
    a->n = 0;
    a->n_top1 = a->kl_sum = a->kl_max = 0;
}

int agree_row(void *user, uint32_t pos, const float *logits, uint32_t n_vocab) {
    agree *a = user;
    if (pos < a->from || pos - a->from >= a->n_row || n_vocab != a->n_vocab) return 0;
    float *row = a->rows + (size_t)(pos - a->from) * n_vocab;
    if (!a->stored) {
        memcpy(row, logits, n_vocab * sizeof *row);
        return 0;
    }
    const float *p = a->stored_is_dense ? row : logits, *q = a->stored_is_dense ? logits : row;
    const klrow ps = klrow_of(p, n_vocab), qs = klrow_of(q, n_vocab);
    const double kl = klrow_kl(p, &ps, q, &qs, n_vocab);
    a->n++;
    a->last_top1 = ps.best == qs.best;
    a->n_top1 += ps.best == qs.best;
    a->kl_sum += kl;
    if (!(kl <= a->kl_max)) a->kl_max = kl; /* keeps a NaN */
    return 0;
}

double agree_top1(const agree *a) {
    return a->n ? a->n_top1 / a->n : (double)NAN;
}
double agree_kl_mean(const agree *a) {
    return a->n ? a->kl_sum / a->n : (double)NAN;
}
double agree_kl_max(const agree *a) {
    return a->n ? a->kl_max : (double)NAN;
}
