/* SPDX-License-Identifier: MIT */
/* See turn.h.  Angles are sums of those of the four bytes of a number, put together in double: a cache turns keys all
 * the time, each by another number, and sines of the system would cost more than the attention they serve. */
#include "policy/turn.h"

#include <math.h>
#include <string.h>

enum { DIGITS = 4, BASE = 256 };

size_t crit_turn_bytes(const crit_decode_env *e) {
    return (size_t)DIGITS * BASE * (e->n_rot / 2) * 2 * sizeof(double);
}

crit_status crit_turn_init(crit_turn *t, const crit_decode_env *e, crit_error *err) {
    *t = (crit_turn){.n = e->n_rot / 2, .n_rot = e->n_rot, .d = e->d};
    t->rope = e->neox ? e->kernels->rope_neox : e->kernels->rope_norm;
    t->table = crit_malloc(crit_turn_bytes(e), 1);
    if (!t->table) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    double *to = t->table;
    for (int place = 0; place < DIGITS; place++)
        for (uint32_t digit = 0; digit < BASE; digit++)
            for (uint32_t i = 0; i < t->n; i++) {
                double a = (double)((uint64_t)digit << 8 * place) * e->rope_freq[i];
                *to++ = cos(a);
                *to++ = sin(a);
            }
    return CRIT_OK;
}

void crit_turn_clear(crit_turn *t) {
    crit_free(t->table);
    memset(t, 0, sizeof *t);
}

void crit_turn_angles(const crit_turn *t, int64_t by, float *cosv, float *sinv) {
    uint64_t m = by < 0 ? 0 - (uint64_t)by : (uint64_t)by;
    const double *part[DIGITS];
    int n = 0;
    for (int place = 0; place < DIGITS; place++) {
        size_t digit = m >> 8 * place & (BASE - 1);
        if (digit) part[n++] = t->table + ((size_t)place * BASE + digit) * t->n * 2;
    }
    for (uint32_t i = 0; i < t->n; i++) {
        double c = 1, s = 0;
        for (int k = 0; k < n; k++) {
            double pc = part[k][2 * i], ps = part[k][2 * i + 1], was = c;
            c = was * pc - s * ps;
            s = was * ps + s * pc;
        }
        cosv[i] = (float)c;
        sinv[i] = (float)(by < 0 ? -s : s);
    }
}

void crit_turn_rows(const crit_turn *t, const float *cosv, const float *sinv, float *x, size_t stride, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) t->rope(x + i * stride, 1, t->d, t->n_rot, cosv, sinv);
}
