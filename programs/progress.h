/* SPDX-License-Identifier: MIT */
/* A progress bar on stderr: only on a terminal, only once a prefill has lasted a second, gone at its end.
 * Its step is the library's progress callback, which is also how Ctrl-C stops a prefill. */
#ifndef PROG_PROGRESS_H
#define PROG_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    bool on, shown;
    const char *label;
    double start_ms, last_ms; /* last: of the bar on screen */
    double mark_ms, mark_tok; /* start of the stretch the speed is taken from */
    double tok_per_ms;
} progress;

void progress_start(progress *p, bool wanted, const char *label);
int progress_step(void *p, double done_tok, uint32_t total_tok); /* a crit_progress_fn; cancels when interrupted */
void progress_end(progress *p);

#endif
