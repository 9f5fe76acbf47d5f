/* SPDX-License-Identifier: MIT */
/* Builds the kernel table from kernels.inc: later rows are better, a row counts when the mask has all its bits. */
#include "kernels/kernels.h"

#include <string.h>

#include "core/core.h"
#if defined(__x86_64__)
#include "kernels/x86/amx_check.h"
#endif

#define KERNEL(field, type, need, symbol) extern __typeof__(*(type)0) symbol;
#define ACT_KIND(type, need, kind)
#define SET(field, need, value)
#include "kernels/kernels.inc"
#undef KERNEL
#undef ACT_KIND
#undef SET

void crit_kernels_init(crit_kernels *t, unsigned cpu_mask) {
#if defined(__x86_64__)
    /* Asked where the machine says it has AMX; a table for another machine is filled as it was ordered. */
    if ((cpu_mask & CRIT_CPU_AMX) && (crit_cpu_detect() & CRIT_CPU_AMX) && !crit_amx_works())
        cpu_mask &= ~(unsigned)CRIT_CPU_AMX;
#endif
    memset(t, 0, sizeof *t);
    t->cpu = cpu_mask;
#define KERNEL(f, type, need, symbol)                                                                                  \
    if ((cpu_mask & (unsigned)(need)) == (unsigned)(need)) t->f = symbol;
#define ACT_KIND(type, need, kind)                                                                                     \
    if ((cpu_mask & (unsigned)(need)) == (unsigned)(need))                                                             \
        t->act_kind[type] = t->act_kind_one[type] = (unsigned char)(kind);
#define SET(f, need, value)                                                                                            \
    if ((cpu_mask & (unsigned)(need)) == (unsigned)(need)) t->f = value;
#include "kernels/kernels.inc"
#undef KERNEL
#undef ACT_KIND
#undef SET
}
