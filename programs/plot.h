/* SPDX-License-Identifier: MIT */
/* A line chart as SVG text: tokens per second against prompt length, one line a mode. */
#ifndef PROG_PLOT_H
#define PROG_PLOT_H

#include "buf.h"

enum { PLOT_MAX_POINT = 32, PLOT_MAX_LINE = 8 };

typedef struct plot_line {
    const char *name;
    double x[PLOT_MAX_POINT], y[PLOT_MAX_POINT]; /* x in tokens, > 0 */
    size_t n;
} plot_line;

void plot_escaped(buf *out, const char *s); /* as text of an element */
/* The start of a picture on white: style of grid, axes and lines, and the title. */
void plot_open(buf *out, int width, int height, int left, const char *title);
void plot_svg(buf *out, const char *title, const plot_line *line, size_t n_line);

#endif
