/* SPDX-License-Identifier: MIT */
/* Records of tasks as tables and heat maps: attentions side by side, each against the first on the same samples. */
#ifndef PROG_TASK_TABLE_H
#define PROG_TASK_TABLE_H

#include "evalout.h"
#include "tasks.h"
#include "variants.h"

/* What was asked for: every combination is a sample. */
typedef struct task_grid {
    const options *o;
    const task *task[16];
    size_t n_task;
    u32_list ctx, depth;   /* depth.n 0: not by depth */
    uint64_t n_sample[16]; /* of each task */
    variants vs;
} task_grid;

/* Number of samples of a task at one length and depth, and the name of one's record. */
size_t grid_n_depth(const task_grid *g);
void grid_key(const task_grid *g, size_t i_task, uint32_t ctx, size_t depth, uint64_t number, size_t i_attn, buf *out);

/* Of what the first found, adds what was asked, and what was found here too: by reference where records tell, else by
 * the lower score. */
void grid_kept(const json_t *first, const json_t *this, double *asked, double *kept);

/* Tables of all there is.  EXIT_OK or the exit code after a line on stderr, as grid_pictures. */
int grid_tables(const task_grid *g, evalout *e);
/* needle-VARIANT.png of grids by depth, into --out and the report. */
int grid_pictures(const task_grid *g, evalout *e);

#endif
