/* SPDX-License-Identifier: MIT */
/* See mdtable.h. */
#include "mdtable.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

static int width_of(const md_col *c) {
    int n = (int)strlen(c->name);
    return c->width > n ? c->width : n;
}

void md_head(buf *out, const md_col *cols, size_t n) {
    for (size_t i = 0; i < n; i++) buf_fmt(out, cols[i].left ? "| %-*s " : "| %*s ", width_of(&cols[i]), cols[i].name);
    buf_str(out, "|\n");
    for (size_t i = 0; i < n; i++) {
        buf_str(out, "|");
        for (int k = width_of(&cols[i]) + (cols[i].left ? 2 : 1); k > 0; k--) buf_str(out, "-");
        if (!cols[i].left) buf_str(out, ":");
    }
    buf_str(out, "|\n");
}

void md_cell(buf *out, const md_col *cols, size_t n, size_t *at, const char *fmt, ...) {
    const md_col *c = &cols[*at];
    buf text = {0}; /* as long as it is: a policy with its options, or all samples of a peer */
    va_list ap;
    va_start(ap, fmt);
    if (fmt)
        buf_vfmt(&text, fmt, ap);
    else
        buf_str(&text, "-");
    va_end(ap);
    buf_fmt(out, c->left ? "| %-*s " : "| %*s ", width_of(c), text.s ? text.s : "");
    out->oom = out->oom || text.oom;
    buf_free(&text);
    if (++*at == n) {
        buf_str(out, "|\n");
        *at = 0;
    }
}

void md_num(buf *out, const md_col *cols, size_t n, size_t *at, double x, int decimals, const char *unit) {
    if (fabs(x) < .5 * pow(10, -decimals)) x = 0; /* not -0.00 */
    if (isfinite(x))
        md_cell(out, cols, n, at, "%.*f%s", decimals, x, unit);
    else
        md_cell(out, cols, n, at, "-");
}
