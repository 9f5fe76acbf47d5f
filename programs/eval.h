/* SPDX-License-Identifier: MIT */
/* The kinds of eval; each takes checked options and returns the exit code. */
#ifndef PROG_EVAL_H
#define PROG_EVAL_H

#include "evalout.h"
#include "variants.h"

int eval_kl_main(const options *o);
int eval_ppl_main(const options *o);
int eval_tasks_main(
    const options *o); /* needle, passkey, kv, lines, chain, copy, lookup, ruler, longbench: o->kind tells */
int eval_operator_main(const options *o);
int eval_frontier_main(const options *o);
int eval_suite_main(const options *o);
int inspect_main(const options *o);

/* What every record's config starts with: model, cpu, threads, knobs.  Texts are not in it: each kind says which it has
 * read, by their hash, since a file's name and size do not tell one text from another. */
json_t *eval_config(const options *o, const crit_model *model, const crit_model_info *info);

#endif
