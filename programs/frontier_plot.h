/* SPDX-License-Identifier: MIT */
/* What quality costs: KL from dense attention against the share of pairs computed and against the time of attention,
 * side by side as SVG, with the settings that nothing else beats joined by a line. */
#ifndef PROG_FRONTIER_PLOT_H
#define PROG_FRONTIER_PLOT_H

#include "buf.h"

#include <stdint.h>

enum { FRONTIER_DENSITY, FRONTIER_TIME, FRONTIER_N_COST };

typedef struct frontier_point {
    const char *name;
    uint32_t ctx_tok; /* points of one length are compared */
    double kl;
    double cost[FRONTIER_N_COST]; /* share of dense attention's pairs, of its time */
    bool best[FRONTIER_N_COST];   /* set by frontier_mark */
} frontier_point;

/* A point is best when no other of its length has a KL and a cost that are both at most its own and one of them less.
 * Points with a figure that is not finite are never best and beat nothing. */
void frontier_mark(frontier_point *p, size_t n);
void frontier_svg(buf *out, const char *title, const frontier_point *p, size_t n);

#endif
