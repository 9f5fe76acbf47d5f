/* SPDX-License-Identifier: MIT */
/* How far two ways of reading one prompt agree: the logits of its last positions.
 *
 * The first reading stores its rows, every later one is compared with them.  KL is that of the other distribution
 * from dense attention's, in nats. */
#ifndef PROG_AGREE_H
#define PROG_AGREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AGREE_TOK = 64 }; /* positions compared: the last ones of the prompt */

typedef struct agree {
    float *rows; /* [n_row][n_vocab] of the first reading */
    uint32_t n_row, n_vocab, from;
    bool stored;          /* the first reading is done */
    bool stored_is_dense; /* else the later one is */
    uint32_t n;           /* rows compared so far */
    double n_top1, kl_sum, kl_max;
    bool last_top1; /* of the last position */
} agree;

bool agree_init(agree *a, size_t n_prompt, uint32_t n_vocab, bool stored_is_dense); /* false: out of memory */
void agree_free(agree *a);
void agree_next(agree *a); /* between two readings: what follows is compared, from zero */
int agree_row(void *a, uint32_t pos, const float *logits, uint32_t n_vocab); /* a crit_logits_fn */
double agree_top1(const agree *a);    /* share of equal best tokens; NaN when nothing was compared */
double agree_kl_mean(const agree *a); /* likewise */
double agree_kl_max(const agree *a);

#endif
