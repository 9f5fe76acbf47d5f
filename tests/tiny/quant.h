/* SPDX-License-Identifier: MIT */
/* Plain round-to-nearest quantisers for every type the library reads: valid blocks, no search for better scales. */
#ifndef CRIT_TESTS_QUANT_H
#define CRIT_TESTS_QUANT_H

#include <stddef.h>

#include "kernels/qtype.h"

/* n values, whole blocks; dst has room for them.  Layouts: src/kernels/c/dequant.c. */
void tiny_quantize(crit_type type, const float *x, void *dst, size_t n);

#endif
