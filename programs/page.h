/* SPDX-License-Identifier: MIT */
/* The files of page/, built in by cmake/embed.cmake; NUL-terminated. */
#ifndef PROG_PAGE_H
#define PROG_PAGE_H

extern const unsigned char page_inspect_css[], page_inspect_html[], page_inspect_js[];

#endif
