/* SPDX-License-Identifier: MIT */
/* The folder of one run, a policy with a task: DIR/POLICY+TASK with
 *
 *     policy_config.json task_config.json   what was asked for
 *     raw_results.jsonl                     every generation and score, in the order of lengths, samples and depths
 *     output_config.json                    what it ran on, when, and what the records come to
 *     log.txt                               a line a record, as they came
 *
 * All but the log are made anew out of the records, so a folder is right however often its run was stopped. */
#ifndef PROG_SUITE_FOLDER_H
#define PROG_SUITE_FOLDER_H

#include "suite_figures.h"

/* EXIT_OK or the exit code after a line on stderr, as all of these. */
int suite_folder_log(const suite *s, const char *dir, size_t i_policy, size_t i_task, const char *line);
/* config: what the records were made with beside both configurations. */
int suite_folder_write(const suite *s, const char *dir, const evalout *e, const json_t *config, size_t i_policy,
                       size_t i_task);

#endif
