/* SPDX-License-Identifier: MIT */
/* A Markdown table in columns of fixed width, so that rows can be printed as they come. */
#ifndef PROG_MDTABLE_H
#define PROG_MDTABLE_H

#include "buf.h"

typedef struct md_col {
    const char *name;
    int width; /* at least the name's; longer cells are not cut */
    bool left; /* numbers stand right */
} md_col;

void md_head(buf *out, const md_col *cols, size_t n);
/* One cell after the other; the row ends itself with the last column.  fmt NULL or a NaN given to md_num: "-". */
void md_cell(buf *out, const md_col *cols, size_t n, size_t *at, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void md_num(buf *out, const md_col *cols, size_t n, size_t *at, double x, int decimals, const char *unit);

#endif
