/* SPDX-License-Identifier: MIT */
/* The chart of bench: names that do not touch and are not cut, lines that run from left to right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plot.h"

enum { NAME_HIGH = 12 };

/* Where the name stands. */
static void find_name(const buf *svg, const char *name, double *x, double *y) {
    char end[128];
    snprintf(end, sizeof end, "\">%s</text>", name);
    const char *at = strstr(svg->s, end);
    assert_non_null(at);
    while (strncmp(at, "<text", 5)) at--;
    assert_int_equal(sscanf(at, "<text x=\"%lf\" y=\"%lf\"", x, y), 2);
}

static void names_stand_apart(void **state) {
    (void)state;
    static const double ends[][3] = {{100, 101, 99}, {0, 0, 0}, {5000, 1, 2}, {5000, 4999, 4998}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        plot_line l[3] = {{.name = "dense"}, {.name = "cascade:C=64,stride=32,and=more"}, {.name = "criti"}};
        double x[3], y[3];
        buf svg = {0};
        int width, height;
        for (size_t k = 0; k < 3; k++) {
            l[k].n = 2;
            l[k].x[0] = 2048, l[k].x[1] = 4096;
            l[k].y[0] = 100, l[k].y[1] = ends[i][k];
        }
        plot_svg(&svg, "title", l, 3);
        assert_int_equal(sscanf(strstr(svg.s, "viewBox"), "viewBox=\"0 0 %d %d\"", &width, &height), 2);
        for (size_t k = 0; k < 3; k++) {
            find_name(&svg, l[k].name, &x[k], &y[k]);
            assert_true(y[k] > NAME_HIGH && y[k] < height - NAME_HIGH);
            assert_true(x[k] + 6.5 * (double)strlen(l[k].name) < width);
            for (size_t j = 0; j < k; j++) assert_true(fabs(y[j] - y[k]) >= NAME_HIGH);
        }
        buf_free(&svg);
    }
}

static void lines_go_right(void **state) {
    (void)state;
    plot_line l = {.name = "a<b", .x = {8192, 2048, 4096}, .y = {30, 10, 20}, .n = 3};
    double x[3], y[3], name_x, name_y;
    buf svg = {0};
    plot_svg(&svg, "title", &l, 1);
    assert_int_equal(sscanf(strstr(svg.s, "points="), "points=\"%lf,%lf %lf,%lf %lf,%lf\"", &x[0], &y[0], &x[1], &y[1],
                            &x[2], &y[2]),
                     6);
    assert_true(x[0] < x[1] && x[1] < x[2] && y[0] > y[1] && y[1] > y[2]);
    find_name(&svg, "a&lt;b", &name_x, &name_y);
    assert_true(name_x > x[2] && fabs(name_y - y[2]) < NAME_HIGH);
    buf_free(&svg);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_stand_apart), cmocka_unit_test(lines_go_right)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
