/* SPDX-License-Identifier: MIT */
/* What a policy's answers are worth against what they cost, as SVG: one panel a cost.  Policies of one family, which
 * differ in their ratio only, are joined; full attention is a dotted line across. */
#ifndef PROG_SUITE_PLOT_H
#define PROG_SUITE_PLOT_H

#include <stdint.h>

#include "buf.h"

enum { SUITE_COST_MOVED, SUITE_COST_TOKEN, SUITE_COST_FIRST, SUITE_N_COST };

typedef struct suite_point {
    const char *name;
    size_t family;
    bool full;
    double y;                  /* score in percent, or perplexity */
    double cost[SUITE_N_COST]; /* share of the bytes full attention moves a step; ms a token; s to the first token */
} suite_point;

/* ppl: y is a perplexity and low is good; else percent.  Points whose figures are not finite are left out. */
void suite_svg(buf *out, const char *title, bool ppl, const suite_point *p, size_t n);

#endif
