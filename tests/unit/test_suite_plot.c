/* SPDX-License-Identifier: MIT */
/* The curves of a suite: what is drawn, where, and that names stay text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "suite_plot.h"

static size_t count(const char *s, const char *what) {
    size_t n = 0;
    for (s = strstr(s, what); s; s = strstr(s + 1, what)) n++;
    return n;
}

/* Where circle number i stands. */
static void circle(const char *svg, size_t i, double *x, double *y) {
    const char *s = strstr(svg, "<circle cx=\"");
    while (i--) s = strstr(s + 1, "<circle cx=\"");
    *x = strtod(s + strlen("<circle cx=\""), NULL);
    *y = strtod(strstr(s, "cy=\"") + 4, NULL);
}

static void points_and_lines(void **state) {
    (void)state;
    const suite_point p[] = {{"full", 0, true, 90, {1, 10, 2}},
                             {"a-2x", 1, false, 80, {.5, 8, 2}},
                             {"a-4x", 1, false, 40, {.25, 6, 2.5}},
                             {"<b>", 2, false, 85, {.75, (double)NAN, 3}}};
    buf svg = {0};
    suite_svg(&svg, "T & T", false, p, 4);
    assert_false(svg.oom);
    assert_int_equal(count(svg.s, "<g class=\"point\""), 4 + 3 + 4); /* the point without a time is not in that panel */
    assert_int_equal(count(svg.s, "<polyline"), 3);                  /* the family of two, in every panel */
    assert_int_equal(count(svg.s, "stroke-dasharray"), 3);
    assert_int_equal(count(svg.s, "score, %"), 3);
    assert_int_equal(count(svg.s, "<b>"), 0);
    assert_non_null(strstr(svg.s, "&lt;b&gt;"));
    assert_non_null(strstr(svg.s, "T &amp; T"));
    double x2, y2, x4, y4;
    circle(svg.s, 0, &x2, &y2);
    circle(svg.s, 1, &x4, &y4);
    assert_true(x4 < x2 && y4 > y2);                   /* fewer bytes to the left, a worse score below */
    assert_true(fabs((x4 - 64) * 2 - (x2 - 64)) < .2); /* costs start at 0 */
    buf_free(&svg);
}

/* Names of points in one place stand above each other. */
static void names_do_not_meet(void **state) {
    (void)state;
    suite_point p[12];
    double y[12];
    buf svg = {0};
    for (size_t i = 0; i < 12; i++) p[i] = (suite_point){"name", i, i == 0, 50, {.5, 5, 1}};
    suite_svg(&svg, "T", false, p, 12);
    assert_int_equal(count(svg.s, ">name</text>"), 36);
    const char *s = svg.s;
    for (size_t i = 0; i < 12; i++) { /* of the first panel */
        s = strstr(s + 1, "font-size=\"10\"");
        const char *at = s;
        while (strncmp(at, "y=\"", 3)) at--;
        y[i] = strtod(at + 3, NULL);
        for (size_t k = 0; k < i; k++) assert_true(fabs(y[i] - y[k]) > 10);
    }
    buf_free(&svg);
}

/* A perplexity axis spans what there is; nothing to draw is an empty chart. */
static void perplexities(void **state) {
    (void)state;
    suite_point p[] = {{"full", 0, true, 12.5, {1, 10, 2}}, {"a", 1, false, 13.5, {.5, 8, 2}}};
    buf svg = {0};
    suite_svg(&svg, "T", true, p, 2);
    assert_int_equal(count(svg.s, "low is good"), 3);
    assert_non_null(strstr(svg.s, ">13<"));
    assert_null(strstr(svg.s, ">100<"));
    buf_free(&svg);
    p[0].y = p[1].y = (double)NAN;
    suite_svg(&svg, "T", true, p, 2);
    assert_int_equal(count(svg.s, "<g class=\"point\""), 0);
    assert_null(strstr(svg.s, "nan"));
    assert_null(strstr(svg.s, "inf"));
    buf_free(&svg);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(points_and_lines), cmocka_unit_test(names_do_not_meet),
                                       cmocka_unit_test(perplexities)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
