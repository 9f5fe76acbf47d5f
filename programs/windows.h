/* SPDX-License-Identifier: MIT */
/* A text read in windows, as llama-perplexity reads it: each window is a prompt of its own, starting with BOS (in place
 * of its first token) when the model wants one, and only its later positions are scored. */
#ifndef PROG_WINDOWS_H
#define PROG_WINDOWS_H

#include "evalout.h"
#include "variants.h"

/* Logits of position pos of window i, which predict the window's token pos + 1; non-zero stops (after a line). */
typedef int (*window_row_fn)(void *user, size_t i, uint32_t pos, const float *logits);

typedef struct windows {
    const options *o;
    const crit_model *model;
    const int32_t *ids; /* window i starts at ids + i * step */
    uint32_t n_ctx;     /* tokens of a window */
    uint32_t step;
    uint32_t from; /* first position whose prediction is scored; the last one scored is n_ctx - 2 */
    size_t n;
    int32_t bos; /* -1 = none */
    const variant *v;
    window_row_fn row;
    void *user;
    evalout *out;     /* told of the progress: n_ctx of work a window; NULL = nobody */
    crit_stats stats; /* out: times summed, shares averaged over the windows */
} windows;

/* EXIT_OK or the exit code after a line on stderr. */
int windows_run(windows *w);

#endif
