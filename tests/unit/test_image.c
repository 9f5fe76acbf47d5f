/* SPDX-License-Identifier: MIT */
/* Pictures read back: every cell has its colour, its size and its place among the others, whatever stands around. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cairo.h>
#include <math.h>
#include <string.h>

#include "image.h"

typedef struct bytes {
    const buf *b;
    size_t at;
} bytes;

static cairo_status_t next(void *user, unsigned char *data, unsigned n) {
    bytes *x = user;
    if (x->b->n - x->at < n) return CAIRO_STATUS_READ_ERROR;
    memcpy(data, x->b->s + x->at, n);
    x->at += n;
    return CAIRO_STATUS_SUCCESS;
}

typedef struct picture {
    cairo_surface_t *surface;
    int width, height;
} picture;

static picture decoded(const buf *png) {
    bytes x = {png, 0};
    assert_memory_equal(png->s, "\x89PNG\r\n\x1a\n", 8);
    picture p = {.surface = cairo_image_surface_create_from_png_stream(next, &x)};
    assert_int_equal(cairo_surface_status(p.surface), CAIRO_STATUS_SUCCESS);
    p.width = cairo_image_surface_get_width(p.surface);
    p.height = cairo_image_surface_get_height(p.surface);
    return p;
}

static uint32_t pixel(const picture *p, int x, int y) {
    const unsigned char *row =
        cairo_image_surface_get_data(p->surface) + (size_t)y * (size_t)cairo_image_surface_get_stride(p->surface);
    uint32_t v;
    memcpy(&v, row + 4 * x, 4);
    return v & 0xFFFFFF;
}

typedef struct box {
    int x0, y0, x1, y1;
    size_t n;
} box;

/* Where the pixels of one colour lie, left of x_end. */
static box box_of(const picture *p, uint32_t rgb, int x_end) {
    box b = {x_end, p->height, -1, -1, 0};
    for (int y = 0; y < p->height; y++)
        for (int x = 0; x < x_end; x++)
            if (pixel(p, x, y) == rgb) {
                b.n++;
                b.x0 = x < b.x0 ? x : b.x0, b.x1 = x > b.x1 ? x : b.x1;
                b.y0 = y < b.y0 ? y : b.y0, b.y1 = y > b.y1 ? y : b.y1;
            }
    return b;
}

/* n_y rows of n_x colours make one grid of equal rectangles without gaps. */
static void is_grid(const picture *p, const uint32_t *rgb, size_t n_x, size_t n_y, int x_end) {
    const box first = box_of(p, rgb[0], x_end);
    const int w = first.x1 - first.x0 + 1, h = first.y1 - first.y0 + 1;
    for (size_t y = 0; y < n_y; y++)
        for (size_t x = 0; x < n_x; x++) {
            const box b = box_of(p, rgb[y * n_x + x], x_end);
            assert_int_equal(b.n, (size_t)w * (size_t)h);
            assert_int_equal(b.x0, first.x0 + (int)x * w);
            assert_int_equal(b.y0, first.y0 + (int)y * h);
            assert_int_equal(b.x1 - b.x0 + 1, w);
            assert_int_equal(b.y1 - b.y0 + 1, h);
        }
}

static void colours_in_place(void **state) {
    (void)state;
    static const uint32_t rgb[6] = {0xFF0000, 0x00FF00, 0x0000FF, 0x123456, 0xABCDEF, 0x7F7F01};
    static const image_key key[] = {{0xFE0000,
                                     "a legend that is much longer than the picture is wide, so that the picture must "
                                     "become wider for it to be read"},
                                    {0x00FE00, "short"}};
    const pixmap m = {.title = "title",
                      .x_title = "x",
                      .y_title = "y",
                      .n_x = 3,
                      .n_y = 2,
                      .rgb = rgb,
                      .x_end = 96,
                      .y_end = 256,
                      .key = key,
                      .n_key = 2};
    buf png = {0};
    assert_int_equal(pixmap_png(&m, &png), 0);
    picture p = decoded(&png);
    is_grid(&p, rgb, 3, 2, p.width);
    assert_true(box_of(&p, 0xFE0000, p.width).n > 0);
    assert_true(box_of(&p, 0x00FE00, p.width).y0 > box_of(&p, 0xFE0000, p.width).y1);
    assert_true(p.width > 600); /* the legend's text */
    const size_t grid = 6 * box_of(&p, rgb[0], p.width).n, all = (size_t)p.width * (size_t)p.height;
    assert_true(box_of(&p, 0xFFFFFF, p.width).n + grid + 500 < all); /* text and lines */
    cairo_surface_destroy(p.surface);
    buf_free(&png);
}

static void values_have_their_colours(void **state) {
    (void)state;
    const double value[6] = {0.02, 0.2, 0.4, 0.6, (double)NAN, 0.97};
    static const char *const label[] = {"first", "second"};
    heatmap h = {.title = "t",
                 .x_title = "x",
                 .y_title = "y",
                 .n_x = 3,
                 .n_y = 2,
                 .value = value,
                 .lo = 0,
                 .hi = 1,
                 .y_label = label,
                 .unit = "found",
                 .decimals = -1};
    uint32_t rgb[6];
    for (int i = 0; i < 6; i++) rgb[i] = isnan(value[i]) ? IMAGE_EMPTY : image_heat(value[i]);
    buf plain = {0}, numbers = {0};
    assert_int_equal(heatmap_png(&h, &plain), 0);
    picture p = decoded(&plain);
    const int scale = box_of(&p, image_heat(1), p.width).x0; /* only the scale has it */
    assert_true(scale > 0 && scale < p.width);
    is_grid(&p, rgb, 3, 2, scale);
    h.decimals = 2; /* written over the cells */
    assert_int_equal(heatmap_png(&h, &numbers), 0);
    picture q = decoded(&numbers);
    assert_int_equal(q.width, p.width);
    assert_true(box_of(&q, rgb[0], scale).n < box_of(&p, rgb[0], scale).n);
    assert_int_equal(box_of(&q, rgb[4], scale).n, box_of(&p, rgb[4], scale).n); /* nothing in an empty one */
    cairo_surface_destroy(p.surface);
    cairo_surface_destroy(q.surface);
    buf_free(&plain);
    buf_free(&numbers);
}

static void scale_is_a_scale(void **state) {
    (void)state;
    double last = -1;
    for (int i = 0; i <= 100; i++) { /* brighter and brighter, in grey as well */
        const uint32_t c = image_heat(i / 100.0);
        const double grey = 0.2126 * (c >> 16) + 0.7152 * (c >> 8 & 255) + 0.0722 * (c & 255);
        assert_true(grey > last);
        last = grey;
    }
    assert_int_equal(image_heat(-3), image_heat(0));
    assert_int_equal(image_heat(7), image_heat(1));
    assert_int_equal(image_heat((double)NAN), image_heat(0));
}

static void sizes(void **state) {
    (void)state;
    static const double many[512 * 2];
    heatmap h = {.n_x = 512, .n_y = 2, .value = many, .hi = 1, .decimals = 3};
    buf png = {0};
    assert_int_equal(heatmap_png(&h, &png), 0); /* no titles; numbers do not fit and are left out */
    picture p = decoded(&png);
    assert_true(p.width >= 512);
    cairo_surface_destroy(p.surface);
    png.n = 0;
    h.n_x = 0;
    assert_int_equal(heatmap_png(&h, &png), 1);
    h.n_x = 100000;
    assert_int_equal(heatmap_png(&h, &png), 1);
    assert_int_equal(png.n, 0);
    buf_free(&png);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(colours_in_place), cmocka_unit_test(values_have_their_colours),
                                       cmocka_unit_test(scale_is_a_scale), cmocka_unit_test(sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
