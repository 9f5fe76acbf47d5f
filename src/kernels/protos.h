/* SPDX-License-Identifier: MIT */
/* Declares every kernel of kernels.inc, for the files that define or call one by name. */
#ifndef CRIT_KERNELS_PROTOS_H
#define CRIT_KERNELS_PROTOS_H

#include "core/core.h"
#include "kernels/kernels.h"

#define KERNEL(field, type, need, symbol) extern __typeof__(*(type)0) symbol;
#define ACT_KIND(type, need, kind)
#define SET(field, need, value)
#include "kernels/kernels.inc"
#undef KERNEL
#undef ACT_KIND
#undef SET

#endif
