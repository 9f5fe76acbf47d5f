/* SPDX-License-Identifier: MIT */
/* See suite_plot.h.  Costs start at 0; percents go from 0 to 100, perplexities over what there is. */
#include "suite_plot.h"

#include <math.h>
#include <string.h>

#include "plot.h"

enum { WIDTH = 1160, HEIGHT = 380, LEFT = 64, TOP = 60, BOTTOM = 56, PANEL = 310, GAP = 64, N_COLOUR = 6 };

static const char *const colour[N_COLOUR] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};
static const char *const x_title[SUITE_N_COST] = {"bytes moved a step, share of full attention's", "ms a token",
                                                  "s to the first token"};

typedef struct frame {
    double x0, x_top, y_lo, y_hi;
    int cost;
} frame;

static bool usable(const suite_point *p, int cost) {
    return isfinite(p->y) && isfinite(p->cost[cost]) && p->cost[cost] >= 0;
}

static double at_x(const frame *f, double x) {
    return f->x0 + x / f->x_top * PANEL;
}

static double at_y(const frame *f, double y) {
    return HEIGHT - BOTTOM - (y - f->y_lo) / (f->y_hi - f->y_lo) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten, so that x needs at most five of it. */
static double step_of(double x) {
    const double p = pow(10, floor(log10(x / 5))), r = x / 5 / p;
    return p * (r <= 1 ? 1 : r <= 2 ? 2 : r <= 5 ? 5 : 10);
}

static frame frame_of(const suite_point *p, size_t n, bool ppl, int cost) {
    frame f = {LEFT + cost * (PANEL + GAP), 0, 0, 100, cost};
    double lo = HUGE_VAL, hi = -HUGE_VAL;
    for (size_t i = 0; i < n; i++) {
        if (!usable(&p[i], cost)) continue;
        f.x_top = fmax(f.x_top, p[i].cost[cost] * 1.08);
        lo = fmin(lo, p[i].y);
        hi = fmax(hi, p[i].y);
    }
    if (!(f.x_top > 0)) f.x_top = 1;
    if (ppl && lo <= hi) {
        const double room = fmax((hi - lo) * .1, fmax(hi * .002, 1e-3)), step = step_of(hi - lo + 2 * room);
        f.y_lo = floor((lo - room) / step) * step;
        f.y_hi = ceil((hi + room) / step) * step;
    }
    return f;
}

static void put_axes(buf *out, const frame *f, bool ppl) {
    const double bottom = HEIGHT - BOTTOM, sx = step_of(f->x_top), sy = ppl ? step_of(f->y_hi - f->y_lo) : 25;
    for (int i = 0; f->y_lo + i * sy <= f->y_hi + sy * 1e-6; i++) {
        const double v = f->y_lo + i * sy, y = at_y(f, v);
        buf_fmt(out, "<path class=\"grid\" d=\"M%.1f %.1fh%d\"/>\n", f->x0, y, PANEL);
        buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n", f->x0 - 8, y + 4, v);
    }
    for (int i = 0; i * sx <= f->x_top * 1.0001; i++) {
        const double x = at_x(f, i * sx);
        buf_fmt(out, "<path class=\"axis\" d=\"M%.1f %.1fv5\"/>\n", x, bottom);
        buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.4g</text>\n", x, bottom + 19, i * sx);
    }
    buf_fmt(out, "<path class=\"axis\" d=\"M%.1f %.1fh%d\"/>\n", f->x0, bottom, PANEL);
    buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", f->x0 + PANEL / 2.0, bottom + 40,
            x_title[f->cost]);
    buf_fmt(out, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", f->x0 - 30, TOP - 14,
            ppl ? "perplexity (low is good)" : "score, %");
}

/* From left to right, the points of one family. */
static void put_line(buf *out, const frame *f, const suite_point *p, size_t n, size_t family, const char *stroke) {
    double last = -1;
    size_t n_on = 0;
    buf d = {0};
    for (;;) {
        const suite_point *next = NULL;
        for (size_t i = 0; i < n; i++)
            if (p[i].family == family && usable(&p[i], f->cost) && p[i].cost[f->cost] > last &&
                (!next || p[i].cost[f->cost] < next->cost[f->cost]))
                next = &p[i];
        if (!next) break;
        last = next->cost[f->cost];
        buf_fmt(&d, "%s%.1f,%.1f", n_on++ ? " " : "", at_x(f, last), at_y(f, next->y));
    }
    if (n_on > 1) buf_fmt(out, "<polyline class=\"line\" stroke=\"%s\" points=\"%s\"/>\n", stroke, d.s);
    out->oom = out->oom || d.oom;
    buf_free(&d);
}

/* Names of one panel: each stands beside its point, or as far above as the ones before leave room. */
enum { MAX_LABEL = 64, LABEL_HIGH = 11, LETTER_WIDE = 6 };
typedef struct labels {
    double left[MAX_LABEL], right[MAX_LABEL], y[MAX_LABEL];
    size_t n;
} labels;

static void put_label(buf *out, const frame *f, labels *l, const suite_point *p, const char *fill) {
    const double x = at_x(f, p->cost[f->cost]), wide = LETTER_WIDE * (double)strlen(p->name);
    const double left = x + 7 + wide > f->x0 + PANEL ? x - 7 - wide : x + 7; /* within the panel */
    double y = at_y(f, p->y) - 7;
    if (l->n == MAX_LABEL) return;
    for (size_t i = 0; i < l->n; i++) {
        if (fabs(l->y[i] - y) >= LABEL_HIGH || l->left[i] > left + wide || l->right[i] < left) continue;
        y = l->y[i] - LABEL_HIGH;
        i = (size_t)-1; /* and once more against all: y only falls, so this ends */
    }
    l->left[l->n] = left;
    l->right[l->n] = left + wide;
    l->y[l->n++] = y;
    buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"10\" fill=\"%s\">", left, y, fill);
    plot_escaped(out, p->name);
    buf_str(out, "</text>\n");
}

static void put_point(buf *out, const frame *f, labels *l, const suite_point *p, const char *fill) {
    const double x = at_x(f, p->cost[f->cost]), y = at_y(f, p->y);
    if (p->full) buf_fmt(out, "<path class=\"axis\" stroke-dasharray=\"2 4\" d=\"M%.1f %.1fh%d\"/>\n", f->x0, y, PANEL);
    buf_fmt(out, "<g class=\"point\" fill=\"%s\"><title>", fill);
    plot_escaped(out, p->name);
    buf_fmt(out, "\n%.4g\nbytes %.3f of full\n%.2f ms a token\n%.2f s to the first</title>", p->y,
            p->cost[SUITE_COST_MOVED], p->cost[SUITE_COST_TOKEN], p->cost[SUITE_COST_FIRST]);
    if (p->full)
        buf_fmt(out, "<path d=\"M%.1f %.1fh9v9h-9z\"/></g>\n", x - 4.5, y - 4.5);
    else
        buf_fmt(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/></g>\n", x, y);
    put_label(out, f, l, p, fill);
}

static bool is_first(const suite_point *p, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (p[k].family == p[i].family) return false;
    return true;
}

void suite_svg(buf *out, const char *title, bool ppl, const suite_point *p, size_t n) {
    plot_open(out, WIDTH, HEIGHT, LEFT, title);
    for (int c = 0; c < SUITE_N_COST; c++) {
        const frame f = frame_of(p, n, ppl, c);
        labels l = {.n = 0};
        size_t k = 0;
        put_axes(out, &f, ppl);
        for (size_t i = 0; i < n; i++) {
            if (!is_first(p, i)) continue;
            const char *fill = p[i].full ? "#333" : colour[k++ % N_COLOUR];
            put_line(out, &f, p, n, p[i].family, fill);
            for (size_t j = i; j < n; j++)
                if (p[j].family == p[i].family && usable(&p[j], c)) put_point(out, &f, &l, &p[j], fill);
        }
    }
    buf_str(out, "</svg>\n");
}
