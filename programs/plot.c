/* SPDX-License-Identifier: MIT */
/* See plot.h.  The x axis is logarithmic (contexts double), the y axis starts at zero.  Colours are told apart by
 * people with any colour vision, and each line has its own marker and its name at its end; names of lines that end
 * close together are pushed apart, and the picture is as wide as the longest wants. */
#include "plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 720, HEIGHT = 420, LEFT = 64, RIGHT = 76, TOP = 48, BOTTOM = 52, LETTER_WIDE = 7, NAME_HIGH = 14 };

static const char *const colour[PLOT_MAX_LINE] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                  "#e69f00", "#56b4e9", "#000000", "#999999"};

typedef struct frame {
    double x0, x1, y1; /* log2 of the ends, top of the y axis */
} frame;

static double at_x(const frame *f, double x) {
    return LEFT + (log2(x) - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const frame *f, double y) {
    return HEIGHT - BOTTOM - y / f->y1 * (HEIGHT - TOP - BOTTOM);
}

void plot_escaped(buf *out, const char *s) {
    buf clean = {0};
    buf_clean(&clean, s, strlen(s));
    for (size_t i = 0; i < clean.n; i++) {
        char c = clean.s[i];
        if (c == '&')
            buf_str(out, "&amp;");
        else if (c == '<')
            buf_str(out, "&lt;");
        else if (c == '>')
            buf_str(out, "&gt;");
        else
            buf_add(out, &c, 1);
    }
    out->oom = out->oom || clean.oom;
    buf_free(&clean);
}

/* 1, 2 or 5 times a power of ten, so that top needs at most five of it. */
static double step_for(double top) {
    double p = pow(10, floor(log10(top / 5)));
    double r = top / 5 / p;
    return p * (r <= 1 ? 1 : r <= 2 ? 2 : r <= 5 ? 5 : 10);
}

static frame frame_of(const plot_line *line, size_t n_line) {
    double lo = HUGE_VAL, hi = 0, top = 1;
    for (size_t k = 0; k < n_line; k++)
        for (size_t i = 0; i < line[k].n; i++) {
            lo = fmin(lo, line[k].x[i]);
            hi = fmax(hi, line[k].x[i]);
            top = fmax(top, line[k].y[i]);
        }
    if (hi == 0) lo = hi = 1024; /* no points: an empty chart */
    double step = step_for(top);
    return (frame){log2(lo) - 0.1, log2(hi) + 0.1, step * ceil(top * 1.02 / step)};
}

static void put_axes(buf *out, const frame *f, const plot_line *line, size_t n_line) {
    double step = step_for(f->y1);
    for (int i = 0; i * step <= f->y1 * 1.0001; i++) {
        double y = at_y(f, i * step);
        buf_fmt(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", LEFT, y, WIDTH - RIGHT);
        buf_fmt(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT - 8, y + 4, i * step);
    }
    double used = -1e9; /* labels that would overlap are left out */
    const plot_line *l = &line[0];
    for (size_t k = 1; k < n_line; k++)
        if (line[k].n > l->n) l = &line[k];
    for (size_t i = 0; n_line && i < l->n; i++) {
        double x = at_x(f, l->x[i]);
        buf_fmt(out, "<path class=\"axis\" d=\"M%.1f %dv5\"/>\n", x, HEIGHT - BOTTOM);
        if (fabs(x - used) < 44) continue;
        buf_fmt(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", x, HEIGHT - BOTTOM + 19,
                l->x[i]);
        used = x;
    }
    buf_fmt(out, "<path class=\"axis\" d=\"M%d %dH%d\"/>\n", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT);
    buf_fmt(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">prompt length, tokens</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
    buf_fmt(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">tokens/s</text>\n", LEFT - 8, TOP - 12);
}

static void put_marker(buf *out, size_t k, double x, double y) {
    if (k % 3 == 0)
        buf_fmt(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x, y, colour[k]);
    else if (k % 3 == 1)
        buf_fmt(out, "<path d=\"M%.1f %.1fh8v8h-8z\" fill=\"%s\"/>\n", x - 4, y - 4, colour[k]);
    else
        buf_fmt(out, "<path d=\"M%.1f %.1fl5 9h-10z\" fill=\"%s\"/>\n", x, y - 6, colour[k]);
}

void plot_open(buf *out, int width, int height, int left, const char *title) {
    buf_fmt(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
            "font-size=\"12\">\n",
            width, height);
    buf_str(out, "<style>.grid{stroke:#ddd}.axis{stroke:#333}.line{fill:none;stroke-width:2}</style>\n");
    buf_fmt(out, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", width, height);
    buf_fmt(out, "<text x=\"%d\" y=\"20\" font-size=\"14\">", left);
    plot_escaped(out, title);
    buf_str(out, "</text>\n");
}

/* In the order of x: lengths are measured in the order they are named. */
static plot_line sorted(const plot_line *line) {
    plot_line l = *line;
    for (size_t i = 1; i < l.n; i++)
        for (size_t k = i; k > 0 && l.x[k - 1] > l.x[k]; k--) {
            const double x = l.x[k], y = l.y[k];
            l.x[k] = l.x[k - 1], l.y[k] = l.y[k - 1];
            l.x[k - 1] = x, l.y[k - 1] = y;
        }
    return l;
}

/* Heights of the names: as near to their lines' ends as they stand without touching. */
static void place_names(const frame *f, const plot_line *line, size_t n_line, double y[PLOT_MAX_LINE]) {
    size_t order[PLOT_MAX_LINE], n = 0;
    for (size_t k = 0; k < n_line; k++) {
        if (!line[k].n) continue;
        y[k] = at_y(f, line[k].y[line[k].n - 1]);
        size_t i = n++;
        for (; i > 0 && y[order[i - 1]] > y[k]; i--) order[i] = order[i - 1];
        order[i] = k;
    }
    for (size_t i = 1; i < n; i++) y[order[i]] = fmax(y[order[i]], y[order[i - 1]] + NAME_HIGH);
    for (size_t i = n; i-- > 0;)
        y[order[i]] = fmin(y[order[i]], i + 1 < n ? y[order[i + 1]] - NAME_HIGH : HEIGHT - BOTTOM);
}

static int width_for(const plot_line *line, size_t n_line) {
    size_t right = RIGHT;
    for (size_t k = 0; k < n_line; k++) {
        const size_t want = LETTER_WIDE * strlen(line[k].name) + 16;
        right = want > right ? want : right;
    }
    return WIDTH - RIGHT + (int)right;
}

void plot_svg(buf *out, const char *title, const plot_line *line, size_t n_line) {
    plot_line by_x[PLOT_MAX_LINE];
    double name_y[PLOT_MAX_LINE];
    for (size_t k = 0; k < n_line; k++) by_x[k] = sorted(&line[k]);
    frame f = frame_of(by_x, n_line);
    plot_open(out, width_for(by_x, n_line), HEIGHT, LEFT, title);
    put_axes(out, &f, by_x, n_line);
    place_names(&f, by_x, n_line, name_y);
    for (size_t k = 0; k < n_line; k++) {
        const plot_line *l = &by_x[k];
        if (!l->n) continue;
        buf_fmt(out, "<polyline class=\"line\" stroke=\"%s\" points=\"", colour[k]);
        for (size_t i = 0; i < l->n; i++)
            buf_fmt(out, "%s%.1f,%.1f", i ? " " : "", at_x(&f, l->x[i]), at_y(&f, l->y[i]));
        buf_str(out, "\"/>\n");
        for (size_t i = 0; i < l->n; i++) put_marker(out, k, at_x(&f, l->x[i]), at_y(&f, l->y[i]));
        buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">", at_x(&f, l->x[l->n - 1]) + 10, name_y[k] + 4,
                colour[k]);
        plot_escaped(out, l->name);
        buf_str(out, "</text>\n");
    }
    buf_str(out, "</svg>\n");
}
