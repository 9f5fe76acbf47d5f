/* SPDX-License-Identifier: MIT */
/* Attention over a list of blocks, the reference: one row, one key at a time, sums in double.   [alg:attend]
 *
 * Owns the size of the scratch that every level shares; the C level itself needs none.  A row's result is the plain
 * online soft-max over its visible keys in visiting order, so it cannot depend on anything else. */
#include <math.h>
#include <stdbool.h>

#include "kernels/attend_scratch.h"
#include "kernels/f16.h"
#include "kernels/protos.h"

size_t crit_attend_scratch_bytes(uint32_t d) {
    const size_t vector = sizeof(float) * crit_attend_scratch_floats(d), bf16 = crit_attend_bf16_scratch_bytes(d);
    return vector > bf16 ? vector : bf16;
}

static double dot_f16(const float *q, const uint16_t *k, uint32_t d) {
    double s = 0;
    for (uint32_t i = 0; i < d; i++) s += (double)q[i] * (double)crit_f16_value(k[i]);
    return s;
}

typedef struct row_state {
    const float *q;
    size_t end; /* keys before it are seen */
    double o[CRIT_D_HEAD_MAX], top, sum;
} row_state;

/* The largest score of a block for a row, -inf when it sees no key of it. */
static double block_top(const crit_attend_args *a, const row_state *t, size_t base) {
    double top = -(double)INFINITY;
    for (size_t j = base; j < base + CRIT_BLK_LEN && j < t->end; j++)
        top = fmax(top, (double)a->scale * dot_f16(t->q, a->k + j * crit_attend_dk(a), crit_attend_dk(a)));
    return top;
}

static void attend_block(const crit_attend_args *a, row_state *t, size_t base) {
    for (size_t j = base; j < base + CRIT_BLK_LEN && j < t->end; j++) {
        const double s = (double)a->scale * dot_f16(t->q, a->k + j * crit_attend_dk(a), crit_attend_dk(a));
        if (s > t->top) {
            const double f = exp(t->top - s);
            for (uint32_t e = 0; e < a->d; e++) t->o[e] *= f;
            t->sum *= f;
            t->top = s;
        }
        const double p = exp(s - t->top);
        t->sum += p;
        for (uint32_t e = 0; e < a->d; e++) t->o[e] += p * (double)crit_f16_value(a->v[j * a->d + e]);
    }
}

static bool wants(const crit_attend_args *a, uint32_t r, size_t i) {
    return !a->want || a->want[i] >> r / CRIT_TILE_LEN & 1;
}

static void attend_row(const crit_attend_args *a, uint32_t r) {
    row_state t = {.q = a->q + r * a->q_stride, .end = a->n_key, .top = -(double)INFINITY};
    if (a->causal && a->pos0 + r + 1 < t.end) t.end = a->pos0 + r + 1;
    for (size_t i = a->n_far; i < a->n_blk; i++)
        if (wants(a, r, i)) attend_block(a, &t, (size_t)a->blk[i] * CRIT_BLK_LEN);
    for (size_t g = 0; g < a->n_far; g += CRIT_ATTEND_GROUP) {
        const double met = t.top;
        for (size_t i = g; i < a->n_far && i < g + CRIT_ATTEND_GROUP; i++) {
            if (!wants(a, r, i)) continue;
            const size_t base = (size_t)a->blk[i] * CRIT_BLK_LEN;
            const bool skip = a->skip > 0 && block_top(a, &t, base) < met - (double)a->skip;
            if (!skip)
                attend_block(a, &t, base);
            else if (a->n_skip)
                ++*a->n_skip;
        }
    }
    for (uint32_t e = 0; e < a->d; e++) a->out[r * a->out_stride + e] = t.sum == 0 ? 0.0f : (float)(t.o[e] / t.sum);
    if (a->lse) a->lse[r] = t.sum == 0 ? -INFINITY : (float)(t.top + log(t.sum));
}

void crit_attend_c(const crit_attend_args *a, void *scratch) {
    (void)scratch;
    for (uint32_t r = 0; r < a->n_row; r++) attend_row(a, r);
}

void crit_block_lse_c(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, const void *ready,
                      size_t n_key, uint32_t d, float scale, float *lse, float *top_out, size_t stride,
                      void *scratch) {
    (void)ready, (void)scratch;
    for (size_t base = 0; base < n_key; base += CRIT_BLK_LEN) {
        const size_t n = n_key - base < CRIT_BLK_LEN ? n_key - base : CRIT_BLK_LEN;
        float *out = lse + base / CRIT_BLK_LEN, *best = top_out + base / CRIT_BLK_LEN;
        for (uint32_t r = 0; r < n_row; r++, out += stride, best += stride) {
            double s[CRIT_BLK_LEN], top = -(double)INFINITY, sum = 0;
            for (size_t j = 0; j < n; j++) {
                s[j] = (double)scale * dot_f16(q + r * q_stride, k + (base + j) * d, d);
                top = s[j] > top ? s[j] : top;
            }
            for (size_t j = 0; j < n; j++) sum += exp(s[j] - top);
            *out = (float)(top + log(sum));
            *best = (float)top;
        }
    }
}
