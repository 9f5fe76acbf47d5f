/* SPDX-License-Identifier: MIT */
/* Which settings no other beats, and a picture that holds every point. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "frontier_plot.h"

static frontier_point point(const char *name, uint32_t ctx_tok, double kl, double density, double time) {
    frontier_point p = {.name = name, .ctx_tok = ctx_tok, .kl = kl};
    p.cost[FRONTIER_DENSITY] = density;
    p.cost[FRONTIER_TIME] = time;
    return p;
}

static void the_best_are_marked(void **s) {
    (void)s;
    frontier_point p[] = {
        point("a", 8192, 0.010, 0.2, 0.5),          /* best in both */
        point("b", 8192, 0.020, 0.3, 0.4),          /* beaten by a in density, fastest */
        point("c", 8192, 0.001, 0.6, 0.9),          /* least KL */
        point("d", 8192, 0.001, 0.6, 0.95),         /* c is as good in density, better in time */
        point("e", 4096, 0.500, 0.9, 0.99),         /* alone at its length */
        point("f", 8192, (double)NAN, 0.1, 0.1),    /* not measured: beats nothing */
        point("g", 8192, 0.015, 0.25, (double)NAN), /* beaten in density */
        point("h", 8192, 0, 1, 1),                  /* dense */
    };
    static const bool density[] = {true, false, true, true, true, false, false, true};
    static const bool time[] = {true, true, true, false, true, false, false, true};
    frontier_mark(p, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(p[i].best[FRONTIER_DENSITY], density[i]);
        assert_int_equal(p[i].best[FRONTIER_TIME], time[i]);
    }
}

static size_t count(const char *s, const char *what) {
    size_t n = 0;
    for (s = strstr(s, what); s; s = strstr(s + 1, what)) n++;
    return n;
}

static void every_point_is_drawn(void **s) {
    (void)s;
    frontier_point p[] = {
        point("criti", 8192, 0.01, 0.2, 0.5),
        point("criti:theta=1", 8192, 0.1, 0.1, 0.3),
        point("dense", 8192, 0, 1, 1),
        point("criti:theta=<&>", 4096, 0.02, 0.4, 1.7),
        point("paper", 8192, (double)NAN, 0.1, 0.1),
    };
    buf out = {0};
    frontier_mark(p, 5);
    frontier_svg(&out, "a < b", p, 5);
    assert_false(out.oom);
    assert_int_equal(count(out.s, "class=\"point\""), 2 * 4);
    assert_int_equal(count(out.s, "<polyline"), 2); /* a line needs two points */
    assert_int_equal(count(out.s, "theta=&lt;&amp;&gt;"), 2);
    assert_non_null(strstr(out.s, "a &lt; b"));
    assert_non_null(strstr(out.s, "4096 tokens"));
    assert_null(strstr(out.s, "nan"));
    assert_null(strstr(out.s, "inf"));
    buf_free(&out);
    frontier_svg(&out, "nothing", p, 0);
    assert_non_null(strstr(out.s, "</svg>"));
    assert_null(strstr(out.s, "nan"));
    buf_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_best_are_marked), cmocka_unit_test(every_point_is_drawn)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
