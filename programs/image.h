/* SPDX-License-Identifier: MIT */
/* Pictures of grids of numbers as PNG (cairo): heat maps with axes, and plain pixels. */
#ifndef PROG_IMAGE_H
#define PROG_IMAGE_H

#include "buf.h"

typedef struct heatmap {
    const char *title, *x_title, *y_title;
    size_t n_x, n_y;
    const double *value;                         /* [n_y][n_x], row 0 on top; NaN = empty */
    double lo, hi;                               /* range of the colours */
    const char *const *x_label, *const *y_label; /* [n_x], [n_y]; may be NULL */
    const char *unit;                            /* beside the colour scale; NULL = none */
    int decimals;                                /* of the number written into each cell; < 0: none */
} heatmap;

int heatmap_png(const heatmap *h, buf *png); /* EXIT_OK or EXIT_FAIL after a line on stderr */

#endif
