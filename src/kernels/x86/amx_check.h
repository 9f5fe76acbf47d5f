/* SPDX-License-Identifier: MIT */
/* The start-up check of the AMX level; see check_amx.c. */
#ifndef CRIT_KERNELS_X86_AMX_CHECK_H
#define CRIT_KERNELS_X86_AMX_CHECK_H

/* 1 when a tile product comes out right.  To be called only where crit_cpu_detect reports CRIT_CPU_AMX. */
int crit_amx_works(void);

#endif
