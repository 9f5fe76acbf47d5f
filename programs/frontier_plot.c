/* SPDX-License-Identifier: MIT */
/* See frontier_plot.h.  Costs start at 0, KL is logarithmic.  Lengths are told apart by colour and legend; settings of
 * the same rule are dots with their name in a tooltip, a plain name (criti, paper, fast) is a square and written out.
 */
#include "frontier_plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plot.h"

enum { WIDTH = 1000, HEIGHT = 460, LEFT = 64, TOP = 56, BOTTOM = 84, PANEL = 400, GAP = 70, N_COLOUR = 6 };
static const double kl_least = 1e-7; /* below, and above 0, rounding */

static const char *const colour[N_COLOUR] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};
static const char *const x_title[FRONTIER_N_COST] = {"(query, key) pairs computed, share of dense attention's",
                                                     "time of attention with its planning, share of dense attention's"};

static bool usable(const frontier_point *p, int cost) {
    return isfinite(p->kl) && p->kl >= 0 && isfinite(p->cost[cost]) && p->cost[cost] >= 0;
}

void frontier_mark(frontier_point *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < FRONTIER_N_COST; c++) {
            bool best = usable(&p[i], c);
            for (size_t k = 0; k < n && best; k++) {
                if (p[k].ctx_tok != p[i].ctx_tok || !usable(&p[k], c)) continue;
                best = p[k].kl > p[i].kl || p[k].cost[c] > p[i].cost[c] ||
                       (p[k].kl == p[i].kl && p[k].cost[c] == p[i].cost[c]);
            }
            p[i].best[c] = best;
        }
}

typedef struct frame {
    double x0, x_top, y_lo, y_hi; /* left edge; largest cost; log10 of KL */
    int cost;
} frame;

static double at_x(const frame *f, double x) {
    return f->x0 + x / f->x_top * PANEL;
}

static double at_y(const frame *f, double kl) {
    /* an equal reading has no logarithm: it stands on the axis */
    const double y = kl > 0 ? fmax(log10(kl), f->y_lo) : f->y_lo;
    return HEIGHT - BOTTOM - (y - f->y_lo) / (f->y_hi - f->y_lo) * (HEIGHT - TOP - BOTTOM);
}

static frame frame_of(const frontier_point *p, size_t n, int cost) {
    double lo = HUGE_VAL, hi = -HUGE_VAL, top = 0;
    for (size_t i = 0; i < n; i++) {
        if (!usable(&p[i], cost)) continue;
        top = fmax(top, p[i].cost[cost]);
        if (p[i].kl < kl_least) continue;
        lo = fmin(lo, log10(p[i].kl));
        hi = fmax(hi, log10(p[i].kl));
    }
    if (!(lo <= hi)) lo = hi = -2; /* no points: an empty chart */
    frame f = {.x0 = LEFT + cost * (PANEL + GAP), .y_lo = floor(lo), .y_hi = ceil(hi), .cost = cost};
    if (f.y_hi <= f.y_lo) f.y_hi = f.y_lo + 1;
    f.x_top = fmax(ceil(top * 10.5) / 10, 0.2);
    return f;
}

static void put_axes(buf *out, const frame *f) {
    const double bottom = HEIGHT - BOTTOM, step = f->x_top > 1.25 ? 0.25 * ceil(f->x_top / 2.5) : 0.1;
    for (double e = f->y_lo; e <= f->y_hi; e++) {
        double y = at_y(f, pow(10, e));
        buf_fmt(out, "<path class=\"grid\" d=\"M%.1f %.1fh%d\"/>\n", f->x0, y, PANEL);
        buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", f->x0 - 8, y + 4, pow(10, e));
    }
    for (int i = 0; i * step <= f->x_top * 1.0001; i++) {
        double x = at_x(f, i * step);
        buf_fmt(out, "<path class=\"axis\" d=\"M%.1f %.1fv5\"/>\n", x, bottom);
        buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.3g</text>\n", x, bottom + 19, i * step);
    }
    buf_fmt(out, "<path class=\"axis\" d=\"M%.1f %.1fh%d\"/>\n", f->x0, bottom, PANEL);
    buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", f->x0 + PANEL / 2.0, bottom + 40,
            x_title[f->cost]);
    buf_fmt(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"end\">KL</text>\n", f->x0 - 8, TOP - 12);
}

static void put_point(buf *out, const frame *f, const frontier_point *p, size_t k) {
    double x = at_x(f, p->cost[f->cost]), y = at_y(f, p->kl);
    bool plain = !strchr(p->name, ':');
    const char *fill = p->best[f->cost] ? colour[k % N_COLOUR] : "#fff";
    buf_fmt(out, "<g class=\"point\" fill=\"%s\" stroke=\"%s\"><title>", fill, colour[k % N_COLOUR]);
    plot_escaped(out, p->name);
    buf_fmt(out, "\n%u tokens\nKL %.3g\ndensity %.3f\ntime %.3f</title>", p->ctx_tok, p->kl, p->cost[FRONTIER_DENSITY],
            p->cost[FRONTIER_TIME]);
    if (plain)
        buf_fmt(out, "<path d=\"M%.1f %.1fh9v9h-9z\"/>", x - 4.5, y - 4.5);
    else
        buf_fmt(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>", x, y);
    buf_str(out, "</g>\n");
    if (!plain) return;
    buf_fmt(out, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">", x + 8, y - 6, colour[k % N_COLOUR]);
    plot_escaped(out, p->name);
    buf_str(out, "</text>\n");
}

/* The best points of one length from left to right. */
static void put_line(buf *out, const frame *f, const frontier_point *p, size_t n, uint32_t ctx_tok, size_t k) {
    double last = -1;
    size_t n_on = 0;
    buf d = {0};
    for (;;) {
        const frontier_point *next = NULL;
        for (size_t i = 0; i < n; i++)
            if (p[i].ctx_tok == ctx_tok && p[i].best[f->cost] && p[i].cost[f->cost] > last &&
                (!next || p[i].cost[f->cost] < next->cost[f->cost]))
                next = &p[i];
        if (!next) break;
        last = next->cost[f->cost];
        buf_fmt(&d, "%s%.1f,%.1f", n_on++ ? " " : "", at_x(f, last), at_y(f, next->kl));
    }
    if (n_on > 1) buf_fmt(out, "<polyline class=\"line\" stroke=\"%s\" points=\"%s\"/>\n", colour[k % N_COLOUR], d.s);
    out->oom = out->oom || d.oom;
    buf_free(&d);
}

static bool is_first(const frontier_point *p, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (p[k].ctx_tok == p[i].ctx_tok) return false;
    return true;
}

void frontier_svg(buf *out, const char *title, const frontier_point *p, size_t n) {
    plot_open(out, WIDTH, HEIGHT, LEFT, title);
    for (int c = 0; c < FRONTIER_N_COST; c++) {
        frame f = frame_of(p, n, c);
        put_axes(out, &f);
        size_t k = 0;
        for (size_t i = 0; i < n; i++) {
            if (!is_first(p, i)) continue;
            put_line(out, &f, p, n, p[i].ctx_tok, k);
            for (size_t j = i; j < n; j++)
                if (p[j].ctx_tok == p[i].ctx_tok && usable(&p[j], c)) put_point(out, &f, &p[j], k);
            k++;
        }
    }
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_first(p, i)) continue;
        buf_fmt(out, "<text x=\"%zu\" y=\"%d\" fill=\"%s\">%u tokens</text>\n", LEFT + k * 110, HEIGHT - 14,
                colour[k % N_COLOUR], p[i].ctx_tok);
        k++;
    }
    buf_fmt(out,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">filled: no other setting is better at that cost; on the axis: "
            "KL 0</text>\n",
            LEFT + 2 * PANEL + GAP, HEIGHT - 14);
    buf_str(out, "</svg>\n");
}
