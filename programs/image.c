/* SPDX-License-Identifier: MIT */
/* See image.h.  A picture is as large as its parts need: the grid in whole pixels a cell, so that no cell is blurred
 * into its neighbour, the labels measured and thinned out until they do not overlap. */
#include "image.h"

#include <cairo.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "term.h"

enum {
    SIDE = 640,     /* pixels a grid gets about, each way */
    CELL_MAX = 44,  /* pixels a cell */
    GRID_MAX = 8192 /* cells a side; cairo's limit is 32767 pixels */
};
#define TEXT        12.0 /* font sizes, pixels as all of these */
#define TITLE       15.0
#define MARGIN      14.0
#define GAP         8.0
#define SCALE_WIDTH 16.0
#define KEY_STEP    (TEXT + 6)

/* Dark to light, readable in grey and with any colour vision. */
uint32_t image_heat(double t) {
    static const unsigned char stop[][3] = {
        {13, 25, 66}, {28, 76, 120}, {42, 128, 128}, {112, 178, 104}, {249, 228, 110}};
    enum { LAST = sizeof stop / sizeof *stop - 1 };
    if (!(t > 0)) t = 0;
    if (t > 1) t = 1;
    const double at = t * LAST;
    const int i = at < LAST ? (int)at : LAST - 1;
    uint32_t rgb = 0;
    for (int c = 0; c < 3; c++) {
        const double x = stop[i][c] + (at - i) * (stop[i + 1][c] - stop[i][c]);
        rgb = rgb << 8 | (uint32_t)lround(x);
    }
    return rgb;
}

static void set_rgb(cairo_t *c, uint32_t rgb) {
    cairo_set_source_rgb(c, (rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0);
}

/* ---- text ---- */

static double width_of(cairo_t *c, const char *s) {
    cairo_text_extents_t e;
    cairo_text_extents(c, s, &e);
    return e.x_advance;
}

/* The text with its anchor (0 left, 0.5 middle, 1 right) at x and its middle at the height y. */
static void put_text(cairo_t *c, double x, double y, double anchor, const char *s) {
    cairo_font_extents_t f;
    cairo_font_extents(c, &f);
    cairo_move_to(c, x - anchor * width_of(c, s), y + (f.ascent - f.descent) / 2);
    cairo_show_text(c, s);
}

static void put_upright(cairo_t *c, double x, double y, const char *s) {
    cairo_save(c);
    cairo_translate(c, x, y);
    cairo_rotate(c, -acos(0.0));
    put_text(c, 0, 0, 0.5, s);
    cairo_restore(c);
}

/* ---- axes ---- */

/* Labels of one axis: given ones, a cell each, or round numbers up to end. */
typedef struct axis {
    const char *title;
    const char *const *label; /* [n] or NULL */
    size_t n;
    double cell; /* pixels */
    double end;
    bool whole; /* a number names a cell, not a place between two */
} axis;

static double step_for(double end, double most) { /* 1, 2 or 5 times a power of ten, at most `most` of it */
    if (!(end > 0)) return 1;
    const double p = pow(10, floor(log10(end / most))), r = end / most / p;
    const double step = p * (r <= 1 ? 1 : r <= 2 ? 2 : r <= 5 ? 5 : 10);
    return step < 1 ? 1 : step;
}

static double tick_step(const axis *a) {
    const double most = a->cell * (double)a->n / 70;
    return step_for(a->end, most < 1 ? 1 : most);
}

static double widest(cairo_t *c, const axis *a) {
    double w = 0;
    char s[32];
    for (size_t i = 0; a->label && i < a->n; i++) w = fmax(w, width_of(c, a->label[i]));
    if (a->label) return w;
    snprintf(s, sizeof s, "%.0f", a->end);
    return width_of(c, s);
}

/* At which pixels labels stand; calls one for each. */
static void each_label(cairo_t *c, const axis *a, double room,
                       void (*one)(cairo_t *c, double at, const char *s, double x0, double y0), double x0, double y0) {
    if (a->label) {
        const size_t every = (size_t)ceil(fmax(1, room / a->cell));
        for (size_t i = 0; i < a->n; i += every) one(c, ((double)i + 0.5) * a->cell, a->label[i], x0, y0);
        return;
    }
    const double step = tick_step(a), scale = a->end > 0 ? a->cell * (double)a->n / a->end : 0;
    const double last = a->whole ? a->end - 1 : a->end * (1 + 1e-9);
    for (double v = 0; v <= last; v += step) {
        char s[32];
        snprintf(s, sizeof s, "%.0f", v);
        one(c, (a->whole ? v + 0.5 : v) * scale, s, x0, y0);
    }
}

static void tick(cairo_t *c, double x, double y, double dx, double dy) {
    cairo_move_to(c, x, y);
    cairo_rel_line_to(c, dx, dy);
    cairo_stroke(c);
}

static void x_label(cairo_t *c, double at, const char *s, double x0, double y0) {
    tick(c, x0 + at, y0, 0, 4);
    put_text(c, x0 + at, y0 + 6 + TEXT / 2, 0.5, s);
}

static void y_label(cairo_t *c, double at, const char *s, double x0, double y0) {
    tick(c, x0, y0 + at, -4, 0);
    put_text(c, x0 - 7, y0 + at, 1, s);
}

/* ---- the picture around a grid ---- */

typedef struct frame {
    const char *title;
    axis x, y;
    double x0, y0, width, height; /* of the grid */
    double right;                 /* room wanted beside it */
    const image_key *key;         /* legend under it */
    size_t n_key;
} frame;

static size_t cell_for(size_t n) {
    const size_t fit = SIDE / n;
    return fit < 1 ? 1 : fit > CELL_MAX ? CELL_MAX : fit;
}

static void start(cairo_t *c) {
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(c, TEXT);
}

/* Places the grid; the size of the whole picture. */
static void layout(cairo_t *c, frame *f, double *w, double *h) {
    f->width = f->x.cell * (double)f->x.n;
    f->height = f->y.cell * (double)f->y.n;
    f->x0 = ceil(MARGIN + (f->y.title ? TEXT + GAP : 0) + widest(c, &f->y) + GAP);
    f->y0 = ceil(MARGIN + (f->title ? TITLE + GAP : 0));
    *w = f->x0 + f->width + f->right + MARGIN;
    *h = f->y0 + f->height + 2 * GAP + TEXT + (f->x.title ? TEXT + GAP : 0) + MARGIN;
    if (f->n_key) *h += GAP + (double)f->n_key * KEY_STEP;
    for (size_t i = 0; i < f->n_key; i++) *w = fmax(*w, f->x0 + TEXT + 6 + width_of(c, f->key[i].text) + MARGIN);
    if (f->title) {
        cairo_set_font_size(c, TITLE);
        *w = fmax(*w, f->x0 + width_of(c, f->title) + MARGIN);
        cairo_set_font_size(c, TEXT);
    }
    *w = ceil(*w);
    *h = ceil(*h);
}

static void put_frame(cairo_t *c, const frame *f) {
    set_rgb(c, 0x222222);
    cairo_set_line_width(c, 1);
    if (f->title) {
        cairo_set_font_size(c, TITLE);
        put_text(c, f->x0, MARGIN + TITLE / 2, 0, f->title);
        cairo_set_font_size(c, TEXT);
    }
    cairo_rectangle(c, f->x0 - 0.5, f->y0 - 0.5, f->width + 1, f->height + 1);
    cairo_stroke(c);
    const double bottom = f->y0 + f->height;
    each_label(c, &f->x, widest(c, &f->x) + 6, x_label, f->x0, bottom);
    each_label(c, &f->y, TEXT + 3, y_label, f->x0, f->y0);
    if (f->x.title) put_text(c, f->x0 + f->width / 2, bottom + 2 * GAP + 1.5 * TEXT, 0.5, f->x.title);
    if (f->y.title) put_upright(c, MARGIN + TEXT / 2, f->y0 + f->height / 2, f->y.title);
}

/* ---- surfaces ---- */

typedef struct canvas {
    cairo_surface_t *surface;
    cairo_t *c;
} canvas;

static canvas open_canvas(double w, double h) {
    canvas v = {cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)w, (int)h), NULL};
    v.c = cairo_create(v.surface);
    start(v.c);
    set_rgb(v.c, 0xFFFFFF);
    cairo_paint(v.c);
    return v;
}

static cairo_status_t append(void *out, const unsigned char *data, unsigned n) {
    buf *b = out;
    buf_add(b, data, n);
    return b->oom ? CAIRO_STATUS_NO_MEMORY : CAIRO_STATUS_SUCCESS;
}

static int close_canvas(canvas *v, buf *png) {
    cairo_status_t st = cairo_status(v->c);
    if (!st) st = cairo_surface_write_to_png_stream(v->surface, append, png);
    cairo_destroy(v->c);
    cairo_surface_destroy(v->surface);
    return st ? fail("the picture cannot be drawn: %s", cairo_status_to_string(st)) : EXIT_OK;
}

/* Measures text before the size of the real surface is known. */
static void measure(frame *f, double *w, double *h) {
    canvas v = open_canvas(1, 1);
    layout(v.c, f, w, h);
    cairo_destroy(v.c);
    cairo_surface_destroy(v.surface);
}

static void cell(cairo_t *c, const frame *f, size_t x, size_t y, uint32_t rgb) {
    set_rgb(c, rgb);
    cairo_rectangle(c, f->x0 + (double)x * f->x.cell, f->y0 + (double)y * f->y.cell, f->x.cell, f->y.cell);
    cairo_fill(c);
}

static int too_large(size_t n_x, size_t n_y) {
    if (n_x && n_y && n_x <= GRID_MAX && n_y <= GRID_MAX) return EXIT_OK;
    return fail("a picture of %zu by %zu cells cannot be drawn", n_x, n_y);
}

/* ---- heat maps ---- */

static double share_of(const heatmap *h, double v) {
    return h->hi > h->lo ? (v - h->lo) / (h->hi - h->lo) : 0.5;
}

static void put_cells(cairo_t *c, const frame *f, const heatmap *h) {
    for (size_t y = 0; y < h->n_y; y++)
        for (size_t x = 0; x < h->n_x; x++) {
            const double v = h->value[y * h->n_x + x];
            cell(c, f, x, y, isnan(v) ? IMAGE_EMPTY : image_heat(share_of(h, v)));
        }
}

/* Numbers in the cells, when they fit: light on dark and dark on light. */
static void put_numbers(cairo_t *c, const frame *f, const heatmap *h) {
    char s[32];
    double need = 0;
    for (size_t i = 0; i < h->n_x * h->n_y; i++)
        if (!isnan(h->value[i])) {
            snprintf(s, sizeof s, "%.*f", h->decimals, h->value[i]);
            need = fmax(need, width_of(c, s));
        }
    if (need + 4 > f->x.cell || TEXT + 2 > f->y.cell) return;
    for (size_t y = 0; y < h->n_y; y++)
        for (size_t x = 0; x < h->n_x; x++) {
            const double v = h->value[y * h->n_x + x];
            if (isnan(v)) continue;
            set_rgb(c, share_of(h, v) > 0.6 ? 0x111111 : 0xFFFFFF);
            snprintf(s, sizeof s, "%.*f", h->decimals, v);
            put_text(c, f->x0 + ((double)x + 0.5) * f->x.cell, f->y0 + ((double)y + 0.5) * f->y.cell, 0.5, s);
        }
}

static void scale_text(char *s, size_t cap, double v) {
    snprintf(s, cap, "%.4g", v);
}

static void put_scale(cairo_t *c, const frame *f, const heatmap *h) {
    const double x = f->x0 + f->width + 3 * GAP, height = fmin(f->height, 240);
    for (int i = 0; i < (int)height; i++) {
        set_rgb(c, image_heat(1 - i / (height - 1)));
        cairo_rectangle(c, x, f->y0 + i, SCALE_WIDTH, 1);
        cairo_fill(c);
    }
    set_rgb(c, 0x222222);
    for (int i = 0; i <= 4; i++) {
        char s[32];
        scale_text(s, sizeof s, h->lo + (h->hi - h->lo) * (1 - i / 4.0));
        if (height < 60 && i % 4) continue;
        put_text(c, x + SCALE_WIDTH + 5, f->y0 + height * i / 4, 0, s);
    }
    if (h->unit) put_text(c, x, f->y0 + height + GAP + TEXT, 0, h->unit);
}

int heatmap_png(const heatmap *h, buf *png) {
    int rc = too_large(h->n_x, h->n_y);
    if (rc) return rc;
    frame f = {.title = h->title,
               .x = {h->x_title, h->x_label, h->n_x, (double)cell_for(h->n_x), (double)h->n_x, true},
               .y = {h->y_title, h->y_label, h->n_y, (double)cell_for(h->n_y), (double)h->n_y, true},
               .right = 3 * GAP + SCALE_WIDTH + 60};
    double w, hh;
    measure(&f, &w, &hh);
    canvas v = open_canvas(w, fmax(hh, f.y0 + 60 + MARGIN));
    put_cells(v.c, &f, h);
    if (h->decimals >= 0) put_numbers(v.c, &f, h);
    put_frame(v.c, &f);
    put_scale(v.c, &f, h);
    return close_canvas(&v, png);
}

/* ---- grids of colours ---- */

static void put_key(cairo_t *c, const frame *f) {
    double y = f->y0 + f->height + 3 * GAP + (f->x.title ? 2.5 : 1.5) * TEXT;
    for (size_t i = 0; i < f->n_key; i++, y += KEY_STEP) {
        set_rgb(c, f->key[i].rgb);
        cairo_rectangle(c, f->x0, y - TEXT / 2, TEXT, TEXT);
        cairo_fill_preserve(c);
        set_rgb(c, 0x888888);
        cairo_stroke(c);
        set_rgb(c, 0x222222);
        put_text(c, f->x0 + TEXT + 6, y, 0, f->key[i].text);
    }
}

int pixmap_png(const pixmap *p, buf *png) {
    int rc = too_large(p->n_x, p->n_y);
    if (rc) return rc;
    frame f = {.title = p->title,
               .x = {p->x_title, NULL, p->n_x, (double)cell_for(p->n_x), p->x_end, false},
               .y = {p->y_title, NULL, p->n_y, (double)cell_for(p->n_y), p->y_end, false},
               .right = 3 * GAP,
               .key = p->key,
               .n_key = p->n_key};
    double w, h;
    measure(&f, &w, &h);
    canvas v = open_canvas(w, h);
    for (size_t y = 0; y < p->n_y; y++)
        for (size_t x = 0; x < p->n_x; x++) cell(v.c, &f, x, y, p->rgb[y * p->n_x + x]);
    put_frame(v.c, &f);
    put_key(v.c, &f);
    return close_canvas(&v, png);
}
