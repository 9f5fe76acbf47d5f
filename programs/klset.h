/* SPDX-License-Identifier: MIT */
/* What `eval kl` and `eval frontier` share: several attentions against dense attention, on every text of -f and every
 * length of -c, one record each.  Records that --out holds are not measured again. */
#ifndef PROG_KLSET_H
#define PROG_KLSET_H

#include "eval.h"
#include "prompt.h"

typedef struct klset {
    const options *o;
    const char *kind;
    crit_model *model;
    crit_model_info info;
    variants list; /* no name twice */
    u32_list ctx;
    size_t n_text;
    prompt *text;      /* [n_text] as long as the longest length */
    const char **name; /* [n_text] borrowed */
    evalout *out;
} klset;

/* list: what is held against dense attention.  EXIT_OK or the exit code after a line on stderr (as all of these);
 * klset_close is due either way. */
int klset_open(klset *s, const options *o, const char *kind, const variants *list);
int klset_measure(klset *s);                /* everything; records in s->out */
int klset_close(klset *s, int rc);          /* rc: what happened so far */
void klset_title(const klset *s, buf *out); /* "model, cpu, n threads" */

/* Is the model good for n_tok?  A line when not (never with --force). */
int eval_check_length(const options *o, const crit_model_info *info, uint32_t n_tok);
/* The token that the model wants in front of a text, or -1. */
int32_t eval_bos(const crit_model *model, int *rc);
/* The whole text (-f joined, or our own), that token in front, nothing behind. */
int eval_read_text(const options *o, const crit_model *model, prompt *out, int32_t *bos);

/* Numbers out of a record; NaN where it has none. */
double record_num(const json_t *record, const char *key);
const char *record_str(const json_t *record, const char *key); /* "" where it has none */

#endif
