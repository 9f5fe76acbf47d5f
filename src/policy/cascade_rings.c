/* SPDX-License-Identifier: MIT */
/* Where tokens of a cascade go.
 *
 * Ring i takes in a token where the count of tokens is a multiple of 2^i; its oldest then goes on to ring i + 1.  Where
 * it takes none in, what comes contends with its newest, and the better score stays.  So what a ring holds is thinned
 * by 2^i, and n rings of len keys look back about len (2^n - 1) tokens.  While there is room, all rings take in all. */
#include "policy/cascade.h"

void crit_rings_insert(crit_rings *r, uint32_t x, float s, uint32_t *id, float *score) {
    r->t++;
    const bool eager = r->t <= r->n * r->len;
    for (uint32_t i = 0; i < r->n; i++) {
        if (eager || r->t % (1u << i) == 0) {
            const uint32_t n = r->n_push[i]++, at = i * r->len + n % r->len, was = id[at];
            const float was_score = score[at];
            id[at] = x;
            score[at] = s;
            if (n < r->len) return;
            x = was;
            s = was_score;
        } else {
            /* Full: no ring has room once this happens. */
            const uint32_t at = i * r->len + (r->n_push[i] - 1) % r->len;
            if (s < score[at]) return;
            id[at] = x;
            score[at] = s;
            return;
        }
    }
}

void crit_rings_advance(crit_rings *r, uint32_t n) {
    for (; n; n--) {
        r->t++;
        const bool eager = r->t <= r->n * r->len;
        for (uint32_t i = 0; i < r->n && (eager || r->t % (1u << i) == 0); i++)
            if (r->n_push[i]++ < r->len) break;
    }
}
