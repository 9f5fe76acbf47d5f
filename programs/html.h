/* SPDX-License-Identifier: MIT */
/* Pieces of HTML pages: text that stays text, and bytes inside them. */
#ifndef PROG_HTML_H
#define PROG_HTML_H

#include "buf.h"

/* n bytes as text of an element or a quoted attribute; control characters but newline and tab become '?', invalid UTF-8
 * U+FFFD. */
void html_text(buf *out, const char *s, size_t n);
void html_base64(buf *out, const void *data, size_t n);
/* JSON that may stand inside a script element: no byte of it can end the element or be taken for markup. */
void html_json(buf *out, const char *json);

#endif
