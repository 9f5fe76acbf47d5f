/* SPDX-License-Identifier: MIT */
/* Pictures of grids of numbers as PNG (cairo): heat maps with axes, and plain pixels. */
#ifndef PROG_IMAGE_H
#define PROG_IMAGE_H

#include <stdint.h>

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

enum { IMAGE_EMPTY = 0xE9E7EC }; /* of a NaN */
/* The colour of t in [0, 1] on the scale of heat maps, 0xRRGGBB. */
uint32_t image_heat(double t);

typedef struct image_key {
    uint32_t rgb;
    const char *text;
} image_key;

/* A grid of colours, one or more pixels a cell, with axes in the caller's units and a legend. */
typedef struct pixmap {
    const char *title, *x_title, *y_title;
    size_t n_x, n_y;
    const uint32_t *rgb; /* [n_y][n_x] 0xRRGGBB, row 0 on top */
    double x_end, y_end; /* what the axes count to */
    const image_key *key;
    size_t n_key;
} pixmap;

int pixmap_png(const pixmap *p, buf *png); /* likewise */

#endif
