/* SPDX-License-Identifier: MIT */
/* Names and block geometry of the tensor types we read, by their GGUF number.  A number that is not in the table is
 * unknown, whatever the specification says of it: refusing is the caller's business. */
#include "kernels/qtype.h"

#include <stddef.h>

typedef struct geometry {
    const char *name; /* NULL: a hole in the numbering, or a type we do not read */
    uint16_t elems, bytes;
} geometry;

static const geometry table[CRIT_T_COUNT] = {
    [CRIT_T_F32] = {"F32", 1, 4},       [CRIT_T_F16] = {"F16", 1, 2},         [CRIT_T_BF16] = {"BF16", 1, 2},
    [CRIT_T_Q4_0] = {"Q4_0", 32, 18},   [CRIT_T_Q4_1] = {"Q4_1", 32, 20},     [CRIT_T_Q5_0] = {"Q5_0", 32, 22},
    [CRIT_T_Q5_1] = {"Q5_1", 32, 24},   [CRIT_T_Q8_0] = {"Q8_0", 32, 34},     [CRIT_T_Q2_K] = {"Q2_K", 256, 84},
    [CRIT_T_Q3_K] = {"Q3_K", 256, 110}, [CRIT_T_Q4_K] = {"Q4_K", 256, 144},   [CRIT_T_Q5_K] = {"Q5_K", 256, 176},
    [CRIT_T_Q6_K] = {"Q6_K", 256, 210}, [CRIT_T_IQ4_NL] = {"IQ4_NL", 32, 18}, [CRIT_T_IQ4_XS] = {"IQ4_XS", 256, 136},
};

bool crit_type_geometry(unsigned type, uint32_t *blk_elems, uint32_t *blk_bytes) {
    if (type >= CRIT_T_COUNT || !table[type].name) return false;
    *blk_elems = table[type].elems;
    *blk_bytes = table[type].bytes;
    return true;
}

const char *crit_type_name(unsigned type) {
    return type < CRIT_T_COUNT ? table[type].name : NULL;
}
