/* SPDX-License-Identifier: MIT */
/* Files with questions: read into the form the tasks take.  name is for messages.  EXIT_OK, or the exit code after a
 * line on stderr. */
#ifndef PROG_TASK_QA_H
#define PROG_TASK_QA_H

#include "tasks.h"

int qa_squad(const char *name, const buf *text, json_t **out);
int qa_hotpot(const char *name, const buf *text, json_t **out);
/* LongBench's samples, one JSON object a line; appended to out, an array. */
int longbench_lines(const char *name, const buf *text, json_t *out);

#endif
