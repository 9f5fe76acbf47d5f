/* SPDX-License-Identifier: MIT */
/* Tensor types of GGUF files: numbers, names and block geometry.  Data only; the layouts of the quantised
 * blocks are described beside the code that decodes them (kernels/c/dequant.c). */
#ifndef CRIT_KERNELS_QTYPE_H
#define CRIT_KERNELS_QTYPE_H

#include <stdbool.h>
#include <stdint.h>

/* Numbered as in the GGUF specification; only these are read. */
typedef enum crit_type {
    CRIT_T_F32 = 0,
    CRIT_T_F16 = 1,
    CRIT_T_Q4_0 = 2,
    CRIT_T_Q4_1 = 3,
    CRIT_T_Q5_0 = 6,
    CRIT_T_Q5_1 = 7,
    CRIT_T_Q8_0 = 8,
    CRIT_T_Q2_K = 10,
    CRIT_T_Q3_K = 11,
    CRIT_T_Q4_K = 12,
    CRIT_T_Q5_K = 13,
    CRIT_T_Q6_K = 14,
    CRIT_T_IQ4_NL = 20,
    CRIT_T_IQ4_XS = 23,
    CRIT_T_BF16 = 30,
    CRIT_T_COUNT = 31
} crit_type;

/* Elements and bytes of one block; false for a number that is not in the list above (any int may be passed). */
bool crit_type_geometry(unsigned type, uint32_t *blk_elems, uint32_t *blk_bytes);
const char *crit_type_name(unsigned type); /* "Q4_K"; NULL for an unknown number */

#endif
