/* SPDX-License-Identifier: MIT */
/* See report.h.  Every text goes through html_text; a picture is an image of its own, so that neither its styles nor
 * anything inside it reach the page. */
#include "report.h"

#include <string.h>

#include "html.h"

enum { MAX_COLUMN = 64 };

static const char style[] =
    ":root{color-scheme:light dark;--line:#8884;--head:#8881;--code:#8882}\n"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\n"
    "h1{font-size:1.6rem;line-height:1.2}h2{font-size:1.2rem;margin-top:2em}\n"
    "p{max-width:45rem}.wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;margin:1em 0}\n"
    "th,td{padding:.25em .7em;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}\n"
    "th{background:var(--head);border-top:1px solid var(--line)}.r{text-align:right}\n"
    "code{font-family:ui-monospace,monospace;font-size:.9em;background:var(--code);padding:.1em "
    ".3em;border-radius:3px}\n"
    "figure{margin:1.5em 0}img{max-width:100%;height:auto;background:#fff}\n"
    "figcaption{font-size:.875rem;max-width:45rem}\n"
    "@media print{body{margin:0;max-width:none;font-size:10pt}table,figure{break-inside:avoid}"
    "h2{break-after:avoid}.wide{overflow:visible}}\n";

/* Text of one line, with `code`. */
static void put_inline(buf *out, const char *s, size_t n) {
    while (n) {
        const char *tick = memchr(s, '`', n);
        const char *end = tick ? memchr(tick + 1, '`', n - (size_t)(tick - s) - 1) : NULL;
        if (!end) {
            html_text(out, s, n);
            return;
        }
        html_text(out, s, (size_t)(tick - s));
        buf_str(out, "<code>");
        html_text(out, tick + 1, (size_t)(end - tick) - 1);
        buf_str(out, "</code>");
        n -= (size_t)(end - s) + 1;
        s = end + 1;
    }
}

static size_t line_len(const char *s) {
    return strcspn(s, "\n");
}

static const char *next_line(const char *s) {
    s += line_len(s);
    return *s ? s + 1 : s;
}

static void trim(const char **s, size_t *n) {
    while (*n && **s == ' ') ++*s, --*n;
    while (*n && (*s)[*n - 1] == ' ') --*n;
}

/* The next cell of a row: from behind a bar up to the next one.  false at the row's end. */
static bool next_cell(const char **at, const char *end, const char **cell, size_t *n) {
    if (*at >= end) return false;
    const char *bar = memchr(*at, '|', (size_t)(end - *at));
    *cell = *at;
    *n = (size_t)((bar ? bar : end) - *at);
    *at = bar ? bar + 1 : end;
    trim(cell, n);
    return bar || *n;
}

static bool is_rule(const char *s) { /* |---|--:| */
    const size_t n = line_len(s);
    return n > 1 && s[0] == '|' && strspn(s, "|-: ") >= n && memchr(s, '-', n);
}

/* Which columns stand right, from the rule under the header. */
static size_t alignments(const char *rule, bool *right) {
    const char *at = rule + 1, *end = rule + line_len(rule), *cell;
    size_t n, k = 0;
    while (k < MAX_COLUMN && next_cell(&at, end, &cell, &n)) right[k++] = n && cell[n - 1] == ':';
    return k;
}

static void put_row(buf *out, const char *s, const char *tag, const bool *right, size_t n_col) {
    const char *at = s + 1, *end = s + line_len(s), *cell;
    size_t n, k = 0;
    buf_str(out, "<tr>");
    while (next_cell(&at, end, &cell, &n)) {
        buf_fmt(out, "<%s%s>", tag, k < n_col && right[k] ? " class=\"r\"" : "");
        put_inline(out, cell, n);
        buf_fmt(out, "</%s>", tag);
        k++;
    }
    buf_str(out, "</tr>\n");
}

static const char *put_table(buf *out, const char *s) {
    bool right[MAX_COLUMN] = {false};
    const char *head = s, *second = next_line(s);
    const bool headed = is_rule(second);
    const size_t n_col = headed ? alignments(second, right) : 0;
    buf_str(out, "<div class=\"wide\"><table>\n");
    if (headed) {
        buf_str(out, "<thead>");
        put_row(out, head, "th", right, n_col);
        buf_str(out, "</thead>\n");
        s = next_line(second);
    }
    buf_str(out, "<tbody>\n");
    for (; *s == '|'; s = next_line(s)) put_row(out, s, "td", right, n_col);
    buf_str(out, "</tbody></table></div>\n");
    return s;
}

static const char *put_paragraph(buf *out, const char *s) {
    buf_str(out, "<p>");
    for (bool first = true; *s && *s != '\n' && *s != '|' && *s != '#'; s = next_line(s), first = false) {
        if (!first) buf_str(out, "\n");
        put_inline(out, s, line_len(s));
    }
    buf_str(out, "</p>\n");
    return s;
}

void report_markdown(report *r, const char *text) {
    buf *out = &r->body;
    for (const char *s = text; *s;) {
        const size_t marks = strspn(s, "#"), n = line_len(s);
        if (*s == '\n') {
            s++;
        } else if (*s == '|') {
            s = put_table(out, s);
        } else if ((marks == 1 || marks == 2) && s[marks] == ' ') {
            buf_fmt(out, "<h%zu>", marks);
            put_inline(out, s + marks + 1, n - marks - 1);
            buf_fmt(out, "</h%zu>\n", marks);
            s = next_line(s);
        } else if (*s == '#') { /* no heading of ours: text */
            buf_str(out, "<p>");
            put_inline(out, s, n);
            buf_str(out, "</p>\n");
            s = next_line(s);
        } else {
            s = put_paragraph(out, s);
        }
    }
}

static void put_picture(report *r, const char *type, const void *data, size_t n, const char *caption) {
    buf *out = &r->body;
    buf_fmt(out, "<figure><img src=\"data:%s;base64,", type);
    html_base64(out, data, n);
    buf_str(out, "\" alt=\"");
    html_text(out, caption, strlen(caption));
    buf_str(out, "\"><figcaption>");
    put_inline(out, caption, strlen(caption));
    buf_str(out, "</figcaption></figure>\n");
}

void report_svg(report *r, const char *svg, const char *caption) {
    put_picture(r, "image/svg+xml", svg, strlen(svg), caption);
}

void report_png(report *r, const void *png, size_t n, const char *caption) {
    put_picture(r, "image/png", png, n, caption);
}

void report_page(const report *r, const char *title, buf *out) {
    buf_str(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                 "<meta http-equiv=\"Content-Security-Policy\" "
                 "content=\"default-src 'none';style-src 'unsafe-inline';img-src data:\">\n<title>");
    html_text(out, title, strlen(title));
    buf_fmt(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n", style);
    if (!r->body.n || strncmp(r->body.s, "<h1>", 4)) { /* no heading of its own */
        buf_str(out, "<h1>");
        html_text(out, title, strlen(title));
        buf_str(out, "</h1>\n");
    }
    if (r->body.n) buf_add(out, r->body.s, r->body.n);
    buf_str(out, "</main>\n</body>\n</html>\n");
    out->oom = out->oom || r->body.oom;
}

void report_free(report *r) {
    buf_free(&r->body);
}
