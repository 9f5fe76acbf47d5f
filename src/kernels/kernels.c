/* SPDX-License-Identifier: MIT */
/* Builds the kernel table from kernels.inc: later rows are better, a row counts when the mask has all its bits. */
#include "kernels/kernels.h"

#include <string.h>

#include "core/core.h"

#define KERNEL(field, type, need, symbol) extern __typeof__(*(type)0) symbol;
#define ACT_KIND(type, need, kind)
#include "kernels/kernels.inc"
#undef KERNEL
#undef ACT_KIND

void crit_kernels_init(crit_kernels *t, unsigned cpu_mask) {
    memset(t, 0, sizeof *t);
    t->cpu = cpu_mask;
#define KERNEL(f, type, need, symbol)                                                                                  \
    if ((cpu_mask & (unsigned)(need)) == (unsigned)(need)) t->f = symbol;
#define ACT_KIND(type, need, kind)                                                                                     \
    if ((cpu_mask & (unsigned)(need)) == (unsigned)(need)) t->act_kind[type] = (unsigned char)(kind);
#include "kernels/kernels.inc"
#undef KERNEL
#undef ACT_KIND
}
