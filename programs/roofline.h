/* SPDX-License-Identifier: MIT */
/* A roofline as SVG text: what each kernel does against how often it uses a byte, under the roofs of the same run. */
#ifndef PROG_ROOFLINE_H
#define PROG_ROOFLINE_H

#include "buf.h"
#include "critiprefill/measure.h"

typedef struct roof_point {
    char group[12], name[32], isa[16], shape[64];
    double flop_per_byte, flops; /* a roof: NaN, and FLOP/s or B/s */
    bool is_roof, by_byte;
} roof_point;

typedef struct roofline {
    roof_point *v; /* freed by roofline_free */
    size_t n, cap;
    bool oom;
} roofline;

/* Peaks and memory of one core become roofs; kernels whose operations and bytes are counted, points. */
void roofline_add(roofline *r, const crit_measure_row *row);
double roofline_roof(const roofline *r, const char *name, const char *isa); /* rate; NaN: no such roof */
void roofline_svg(buf *out, const char *title, const roofline *r);
void roofline_free(roofline *r);

#endif
