/* SPDX-License-Identifier: MIT */
/* One self-contained HTML file: headings, text and tables out of Markdown, pictures inline.  No network, no script
 * unless a part brings its own. */
#ifndef PROG_REPORT_H
#define PROG_REPORT_H

#include "buf.h"

typedef struct report {
    buf body; /* HTML */
} report;

/* Markdown as this program writes it: "# " and "## " headings, paragraphs, | tables |, `code`. */
void report_markdown(report *r, const char *text);
void report_svg(report *r, const char *svg, const char *caption);
void report_png(report *r, const void *png, size_t n, const char *caption);
/* The whole page: style, title (as the heading too, unless the body begins with one), body. */
void report_page(const report *r, const char *title, buf *out);
void report_free(report *r);

#endif
