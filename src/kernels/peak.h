/* SPDX-License-Identifier: MIT */
/* What one core can do at most: loops of independent multiply-adds from registers, one table for each instruction set,
 * and plain reads of memory.  Figures of kernels are told as shares of these, measured in the same run.
 *
 * A loop has 10 to 12 chains (latency times pipes is at most 10 on the CPUs known) that an empty asm keeps the compiler
 * from merging, hoisting or dropping; it runs for about a millisecond and may be repeated. */
#ifndef CRIT_KERNELS_PEAK_H
#define CRIT_KERNELS_PEAK_H

#include <stddef.h>

typedef enum crit_peak_kind {
    CRIT_PEAK_F32,     /* f32 fused multiply-add */
    CRIT_PEAK_I8,      /* 8-bit products summed as our GEMM sums them */
    CRIT_PEAK_I16,     /* 16-bit products, 32-bit sums */
    CRIT_PEAK_BF16,    /* bf16 products, f32 sums */
    CRIT_PEAK_I8_L1,   /* the same with every operand loaded from L1 (tiles) */
    CRIT_PEAK_BF16_L1, /* likewise */
    CRIT_PEAK_KINDS
} crit_peak_kind;

typedef struct crit_peak {
    const char *name; /* "f32 fma"; NULL ends a table */
    const char *isa;  /* suffix of the file: "avx2" */
    unsigned need;    /* CPU bits */
    crit_peak_kind kind;
    double ops; /* of one run, two for a multiply-add */
    /* buf [CRIT_PEAK_BYTES], 64-byte aligned, filled by crit_peak_fill before; in: operands, out: what was summed */
    void (*run)(void *buf);
} crit_peak;

#define CRIT_PEAK_BYTES (16 << 10)
void crit_peak_fill(void *buf); /* small positive numbers, whether read as f32, bf16 or bytes */

/* Loop i of all tables there are, those of other instruction sets included (run is NULL then); NULL past the end. */
const crit_peak *crit_peak_at(size_t i);

/* Reads bytes (a multiple of 512) once, from low to high, with the widest loads of the CPU mask and no prefetch hint,
 * as the kernels do.  *isa: "avx512", "avx2", "c". */
typedef void (*crit_read_fn)(const void *p, size_t bytes);
crit_read_fn crit_peak_reader(unsigned cpu_mask, const char **isa);

#endif
