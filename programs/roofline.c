/* SPDX-License-Identifier: MIT */
/* See roofline.h.  Both axes are logarithmic.  A point's title, shown when the pointer rests on it, says what it is. */
#include "roofline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plot.h"

enum { WIDTH = 860, HEIGHT = 560, LEFT = 64, RIGHT = 150, TOP = 48, BOTTOM = 76, N_GROUP = 5 };

static const struct {
    const char *group, *label, *colour;
} groups[N_GROUP] = {{"gemm", "GEMM", "#0072b2"},
                     {"gemv", "GEMV", "#e69f00"},
                     {"attend", "attention", "#d55e00"},
                     {"decode", "decode attention", "#cc79a7"},
                     {"estimate", "estimation", "#009e73"}};

/* Their forms differ too, for readers who do not tell the colours apart. */
static const char *const markers[N_GROUP] = {"m0 -4a4 4 0 1 0 .1 0z", "m-4 -4h8v8h-8z", "m0 -5l5 9h-10z",
                                             "m-5 0l5 -5 5 5 -5 5z", "m-4 -1h3v-3h2v3h3v2h-3v3h-2v-3h-3z"};

void roofline_free(roofline *r) {
    free(r->v);
    *r = (roofline){0};
}

void roofline_add(roofline *r, const crit_measure_row *row) {
    bool peak = !strcmp(row->group, "peak"), memory = !strcmp(row->group, "read") && !strcmp(row->name, "memory");
    if (!row->here || row->n_threads != 1 || (!peak && !memory && !(row->flop > 0 && row->bytes > 0))) return;
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        roof_point *v = realloc(r->v, cap * sizeof *v);
        if (!v) {
            r->oom = true;
            return;
        }
        r->v = v;
        r->cap = cap;
    }
    roof_point *p = &r->v[r->n++];
    *p = (roof_point){.flop_per_byte = row->flop / row->bytes,
                      .flops = peak || memory ? row->rate : row->flop / row->seconds,
                      .is_roof = peak || memory,
                      .by_byte = memory};
    snprintf(p->group, sizeof p->group, "%s", row->group);
    snprintf(p->name, sizeof p->name, "%s", row->name);
    snprintf(p->isa, sizeof p->isa, "%s", row->isa);
    snprintf(p->shape, sizeof p->shape, "%s", row->shape);
}

double roofline_roof(const roofline *r, const char *name, const char *isa) {
    for (size_t i = 0; i < r->n; i++)
        if (r->v[i].is_roof && !strcmp(r->v[i].name, name) && !strcmp(r->v[i].isa, isa)) return r->v[i].flops;
    return (double)NAN;
}

/* ---- the chart ---- */

typedef struct frame {
    double x0, x1, y0, y1; /* log10 of the ends */
} frame;

static double at_x(const frame *f, double x) {
    return LEFT + (log10(x) - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const frame *f, double y) {
    return HEIGHT - BOTTOM - (log10(y) - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM);
}

static frame frame_of(const roofline *r, double top, double memory) {
    double lo = 1, hi = 100, low = top / 30;
    for (size_t i = 0; i < r->n; i++)
        if (!r->v[i].is_roof) {
            lo = fmin(lo, r->v[i].flop_per_byte);
            hi = fmax(hi, r->v[i].flop_per_byte);
            low = fmin(low, r->v[i].flops);
        }
    if (memory > 0) low = fmin(low, memory * lo);
    return (frame){log10(lo / 1.5), log10(hi * 2), log10(low / 1.5), log10(top * 1.5)};
}

/* 1, 2 and 5 times powers of ten. */
static void put_grid(buf *out, const frame *f) {
    static const int steps[] = {1, 2, 5};
    for (int e = -3; e < 8; e++)
        for (int s = 0; s < 3; s++) {
            double v = steps[s] * pow(10, e);
            if (log10(v) > f->x0 && log10(v) < f->x1) {
                double x = at_x(f, v);
                buf_fmt(out, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>\n", x, TOP, HEIGHT - BOTTOM);
                buf_fmt(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", x, HEIGHT - BOTTOM + 18,
                        v);
            }
            if (log10(v * 1e9) > f->y0 && log10(v * 1e9) < f->y1) {
                double y = at_y(f, v * 1e9);
                buf_fmt(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", LEFT, y, WIDTH - RIGHT);
                buf_fmt(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT - 8, y + 4, v);
            }
        }
    buf_fmt(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">operations per byte from memory</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 36);
    buf_fmt(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">GFLOP/s</text>\n", LEFT - 8, TOP - 10);
}

static void put_roofs(buf *out, const frame *f, const roofline *r, double memory, double top) {
    double used = -1e9, x0 = pow(10, f->x0), x1 = pow(10, f->x1);
    for (size_t i = 0; i < r->n; i++) {
        const roof_point *p = &r->v[i];
        if (!p->is_roof || p->by_byte) continue;
        double from = memory > 0 ? fmax(x0, p->flops / memory) : x0, y = at_y(f, p->flops);
        if (from >= x1) continue;
        buf_fmt(out, "<path class=\"roof\" d=\"M%.1f %.1fH%d\"/>\n", at_x(f, from), y, WIDTH - RIGHT);
        buf_fmt(out, "<text x=\"%d\" y=\"%.1f\" font-size=\"10\">", WIDTH - RIGHT + 6,
                fabs(y - used) < 11 ? y + 11 : y + 3);
        plot_escaped(out, p->name);
        buf_fmt(out, " %.0f</text>\n", p->flops * 1e-9);
        used = y;
    }
    if (!(memory > 0)) return;
    double a = fmax(x0, pow(10, f->y0) / memory), b = fmin(x1, top / memory);
    buf_fmt(out, "<path class=\"roof\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", at_x(f, a), at_y(f, a * memory), at_x(f, b),
            at_y(f, b * memory));
    double m = sqrt(a * b);
    buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"10\" text-anchor=\"end\">read %.1f GB/s</text>\n",
            at_x(f, m) - 6, at_y(f, m * memory) - 4, memory * 1e-9);
}

static void put_point(buf *out, const frame *f, const roof_point *p, int g) {
    double x = at_x(f, p->flop_per_byte), y = at_y(f, p->flops);
    buf_fmt(out, "<g fill=\"%s\"><title>", groups[g].colour);
    plot_escaped(out, p->name);
    buf_str(out, " ");
    plot_escaped(out, p->isa);
    buf_str(out, ", ");
    plot_escaped(out, p->shape);
    buf_fmt(out, ": %.1f GFLOP/s</title>", p->flops * 1e-9);
    buf_fmt(out, "<path d=\"M%.1f %.1f%s\"/></g>\n", x, y, markers[g]);
}

void roofline_svg(buf *out, const char *title, const roofline *r) {
    double top = 1e9, memory = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (r->v[i].by_byte)
            memory = r->v[i].flops;
        else
            top = fmax(top, r->v[i].flops);
    }
    frame f = frame_of(r, top, memory);
    buf_fmt(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
            "font-size=\"12\">\n",
            WIDTH, HEIGHT);
    buf_str(out, "<style>.grid{stroke:#e4e4e4}.roof{stroke:#333;fill:none;stroke-width:1.5}</style>\n");
    buf_fmt(out, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", WIDTH, HEIGHT);
    buf_fmt(out, "<text x=\"%d\" y=\"20\" font-size=\"14\">", LEFT);
    plot_escaped(out, title);
    buf_str(out, "</text>\n");
    put_grid(out, &f);
    put_roofs(out, &f, r, memory, top);
    double x = LEFT;
    for (int g = 0; g < N_GROUP; g++) {
        bool any = false;
        for (size_t i = 0; i < r->n; i++)
            if (!r->v[i].is_roof && !strcmp(r->v[i].group, groups[g].group)) {
                put_point(out, &f, &r->v[i], g);
                any = true;
            }
        if (!any) continue;
        buf_fmt(out, "<path fill=\"%s\" d=\"M%.0f %d%s\"/>\n", groups[g].colour, x + 4, HEIGHT - 18, markers[g]);
        x += 14;
        buf_fmt(out, "<text x=\"%.0f\" y=\"%d\" fill=\"%s\">%s</text>\n", x, HEIGHT - 14, groups[g].colour,
                groups[g].label);
        x += 40 + 7 * (double)strlen(groups[g].label);
    }
    buf_str(out, "</svg>\n");
    out->oom = out->oom || r->oom;
}
