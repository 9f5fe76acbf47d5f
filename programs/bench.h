/* SPDX-License-Identifier: MIT */
/* What the kinds of bench share. */
#ifndef PROG_BENCH_H
#define PROG_BENCH_H

#include "answer.h"
#include "critiprefill/measure.h"

/* Each takes checked options and returns the exit code. */
int bench_kernels_main(const options *o); /* --peak, --kernels */
int bench_shape_main(const options *o);   /* --shape */
int bench_tune_main(const options *o);    /* --tune */
int bench_vs_main(const options *o);      /* --vs */
int bench_decode_main(const options *o);  /* --decode */
int bench_batch_main(const options *o);   /* --batch */

/* Text for prompts of up to longest tokens, repeated when it is too short. */
int bench_text(const options *o, const crit_model *model, uint32_t longest, prompt *out);
/* Reads the first n_tok tokens of text and decodes n_predict; g may be NULL; a is to be freed either way. */
int bench_once(const options *o, const crit_model *model, const prompt *text, uint32_t mode, uint32_t n_tok,
               uint32_t n_predict, agree *g, answer *a);
double bench_median(double *x, size_t n); /* sorts x */
int bench_check_plot(const char *path);   /* can it be written?  Better known before the measurement. */

crit_measure_params bench_measure_params(const options *o);
void bench_cpu_text(buf *out); /* what the system calls the CPU */

/* Named shapes. */
typedef struct named_shape {
    const char *name;
    crit_shape shape;
} named_shape;
extern const named_shape named_shapes[];               /* ended by name NULL */
const named_shape *bench_find_shape(const char *name); /* NULL after a usage line on stderr */
/* The next name of a comma-separated list; NULL at its end or, with *rc set, when it is no shape's. */
const named_shape *bench_next_shape(const char **at, int *rc);

#endif
