/* SPDX-License-Identifier: MIT */
/* eval kl against a file of another engine's log-probabilities, and writing one. */
#ifndef PROG_EVAL_BASE_H
#define PROG_EVAL_BASE_H

#include "eval.h"

int eval_base_save(const options *o);                          /* --save-all-logits */
int eval_base_compare(const options *o, const variants *list); /* --kl-divergence-base */
int eval_kl_tables(evalout *e, const char *against);           /* eval_kl.c */

#endif
