/* SPDX-License-Identifier: MIT */
/* Numbers of the page of inspect, read back as page/inspect.js reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "pagecode.h"

static double weight_of(unsigned code) {
    return code ? pow(10, (code - 1) / 254.0 * 6 - 6) : 0;
}
static double missed_of(unsigned code) {
    return code & 15 ? pow(10, ((int)(code & 15) - 15) / 5.0) : 0;
}

static void weights(void **state) {
    (void)state;
    assert_int_equal(pagecode_weight(0), 0);
    assert_int_equal(pagecode_weight(9e-7), 0);
    assert_int_equal(pagecode_weight((double)NAN), 0);
    assert_int_equal(pagecode_weight(1), 255);
    assert_int_equal(pagecode_weight(1.01), 255); /* rounding of a sum */
    for (double w = 1e-6; w <= 1; w *= 1.3) assert_true(fabs(log10(weight_of(pagecode_weight(w)) / w)) <= 3.001 / 254);
}

static void shares(void **state) {
    (void)state;
    assert_int_equal(pagecode_shares(0, .5, .5), 15);
    assert_int_equal(pagecode_shares(1, .5, 0), 15 << 4);
    assert_int_equal(pagecode_shares(0, 0, 0), 0);
    assert_int_equal(pagecode_shares((double)NAN, .5, 0), 0);
    for (int n = 1; n < 64; n++) { /* of 64 pairs of a tile and a block */
        const unsigned kept = pagecode_shares(n / 64.0, .5, .1) >> 4;
        assert_true(kept > 0 && kept < 15 && fabs(kept / 15.0 - n / 64.0) < 1 / 15.0);
    }
    for (double x = 1; x > 1.0 / 600; x *= .9)
        assert_true(fabs(log10(missed_of(pagecode_shares(.5, .3, .3 * x)) / x)) <= .1001);
    assert_int_equal(pagecode_shares(.5, .3, 1e-7) & 15, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights), cmocka_unit_test(shares)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
