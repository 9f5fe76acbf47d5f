/* SPDX-License-Identifier: MIT */
/* Asking for the lines of listed blocks before attention reads them.
 *
 * A block's keys are a page or less, and so are its values: the hardware's prefetchers lose every page's first lines,
 * and never run far ahead of a kernel that computes between its loads.  So a call walks its list a few blocks ahead of
 * itself, a few lines after each piece of work: asked for in one go they would fill the line buffers and hold up the
 * loads of the work itself.  For calls of few rows, which read a block once: there memory is what they wait for. */
#ifndef CRIT_KERNELS_X86_AHEAD_H
#define CRIT_KERNELS_X86_AHEAD_H

#include "kernels/kernels.h"
#include "kernels/unroll.h"

enum { AHEAD_BLOCKS = 2, AHEAD_LINE = 64 };

typedef struct list_ahead {
    const crit_attend_args *a;
    size_t next;         /* list entry whose keys come next */
    const char *at, *to; /* keys or values of one block; NULL = nothing left */
    int in_values;
} list_ahead;

static __attribute__((noinline)) void ahead_turn(list_ahead *f) {
    const crit_attend_args *a = f->a;
    const size_t k_bytes = (size_t)CRIT_BLK_LEN * crit_attend_dk(a) * sizeof *a->k;
    const size_t v_bytes = (size_t)CRIT_BLK_LEN * a->d * sizeof *a->v;
    f->in_values = f->at && !f->in_values;
    if (f->in_values) {
        f->at = (const char *)a->v + a->blk[f->next - 1] * v_bytes;
        f->to = f->at + v_bytes;
    } else if (f->next < a->n_blk) {
        f->at = (const char *)a->k + a->blk[f->next++] * k_bytes;
        f->to = f->at + k_bytes;
    } else {
        f->at = NULL;
    }
}

/* The next n lines, or as many as the keys or values at hand still have. */
CRIT_INLINE void ahead_lines(list_ahead *f, size_t n) {
    const char *p = f->at;
    if (!p) return;
    for (size_t i = 0; i < n; i++) __builtin_prefetch(p + i * AHEAD_LINE, 0, 2);
    f->at = p + n * AHEAD_LINE;
    if (f->at >= f->to) ahead_turn(f);
}

/* From the list's start on; on = 0: never asks for anything. */
CRIT_INLINE list_ahead ahead_begin(const crit_attend_args *a, int on) {
    list_ahead f = {.a = a};
    if (!on) return f;
    ahead_turn(&f);
    while (f.at && f.next <= AHEAD_BLOCKS) ahead_lines(&f, 8);
    return f;
}

#endif
