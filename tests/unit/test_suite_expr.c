/* SPDX-License-Identifier: MIT */
/* Expressions of a suite: their values, their roundings, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "suite_expr.h"

static void gives(const char *text, double n_tok, double ratio, const char *want) {
    const suite_env env = {n_tok, ratio};
    char why[160] = "";
    buf out = {0};
    if (!suite_expand(&out, text, &env, why, sizeof why)) fail_msg("%s: %s", text, why);
    assert_string_equal(out.s, want);
    buf_free(&out);
}

static void refuses(const char *text, double ratio, const char *reason) {
    const suite_env env = {4096, ratio};
    char why[160] = "";
    buf out = {0};
    assert_false(suite_expand(&out, text, &env, why, sizeof why));
    if (!strstr(why, reason)) fail_msg("%s: '%s' does not say '%s'", text, why, reason);
    buf_free(&out);
}

static void values(void **state) {
    (void)state;
    gives("", 1, 0, "");
    gives("full", 1, 0, "full");
    gives("recycled:K={N/r},S=50", 16384, 4, "recycled:K=4096,S=50");
    gives("{N/ratio}", 16384, 8, "2048");
    gives("{2+3*4-6/2}", 1, 0, "11");
    gives("{(2+3)*4}{10-2-3}{64/4/4}", 1, 0, "2054");
    gives("{ N - 32 * ( r + 1 ) }", 1000, 3, "872");
    gives("{((((1))))}", 1, 0, "1");
}

/* Whole numbers go down, decimals to the nearest; a rounding of doubles costs no unit. */
static void roundings(void **state) {
    (void)state;
    gives("{N/r}", 1000, 6, "166");
    gives("{N/r*r}", 1000, 3, "1000");
    gives("{N*r/10}", 30, 0.1 * 3, "0");
    gives("{1-N}", 3, 0, "-2");
    gives("{(1-N)/2}", 4, 0, "-2");
    gives("{2-2/r:3}", 1, 3, "1.333");
    gives("{1/r:9}", 1, 3, "0.333333333");
    gives("{7/2:0}", 1, 0, "4");
    gives("{0-0}", 1, 0, "0");
}

static void refusals(void **state) {
    (void)state;
    refuses("{N/r", 2, "a } is missing");
    refuses("N/r}", 2, "a } without its {");
    refuses("{}", 2, "a number, N, r or ( is wanted at '}'");
    refuses("{N/}", 2, "wanted at '}'");
    refuses("{N/x}", 2, "wanted at 'x}'");
    refuses("{NN}", 2, "wanted at 'NN}'");
    refuses("{R}", 2, "wanted");
    refuses("{-1}", 2, "wanted at '-1}'");
    refuses("{N 2}", 2, "+ - * / or } is wanted at '2}'");
    refuses("{(N+1}", 2, "a ) is missing");
    refuses("{N)}", 2, "wanted at ')}'");
    refuses("{N/(r-2)}", 2, "division by zero");
    refuses("{N/r}", 0, "no \"ratio\"");
    refuses("{1/3:}", 2, "decimals");
    refuses("{1/3:x}", 2, "decimals");
    refuses("{1.5}", 2, "wanted at '.5}'");
    refuses("{9999999999999999}", 2, "too large");
    refuses("{999999999999999*999999999999999}", 2, "too large");
    char deep[200] = "{";
    memset(deep + 1, '(', 100);
    refuses(deep, 2, "too many parentheses");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values), cmocka_unit_test(roundings),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
