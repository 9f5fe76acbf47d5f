/* SPDX-License-Identifier: MIT */
/* Values that stand in a prompt and are read, not generated: found when each of their tokens was the likeliest, given
 * the right ones before it.
 *
 *     forced_open -> crit_prefill with forced_row as on_logits, from f.first on -> forced_complete -> forced_score */
#ifndef PROG_FORCED_H
#define PROG_FORCED_H

#include "prompt.h"
#include "tasks.h"

typedef struct forced {
    const crit_model *model;
    const prompt *p;
    uint8_t *value_of;          /* [p->n] 1 + the value that the next token belongs to; 0 = none */
    int32_t *said;              /* [p->n] the likeliest next token of the rows that came */
    uint32_t first, last;       /* rows of logits that are wanted */
    uint32_t begin[LOOKUP_MAX]; /* first row of each value */
    uint32_t n_row[LOOKUP_MAX]; /* rows it has, and those met so far */
    uint32_t n_seen[LOOKUP_MAX];
    bool missed[LOOKUP_MAX];
} forced;

/* Which tokens of p the sample's values are, told by the bytes of each.  EXIT_OK or the exit code after a line on
 * stderr; to be freed either way. */
int forced_open(forced *f, const crit_model *model, const sample *s, const prompt *p);
int forced_row(void *f, uint32_t pos, const float *logits, uint32_t n_vocab); /* a crit_logits_fn */
/* Did all rows come?  If not: EXIT_FAIL after a line. */
int forced_complete(const forced *f, const sample *s);
/* Score; what was said in the values' places, a line each; what was asked in the prompt's last positions and found, and
 * before them. */
void forced_score(const forced *f, const sample *s, uint32_t last_tok, json_t *j);
void forced_free(forced *f);

#endif
