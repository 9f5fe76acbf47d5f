/* SPDX-License-Identifier: MIT */
/* Type geometry, the C decoders and the scalar half-precision conversions.
 *
 * Decoders are compared bit for bit with vectors made by another implementation (golden/dequant/make_vectors.py): every
 * product is exact in f32 and the one addition of the types with a minimum rounds correctly, so no tolerance is due. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/c/half.h"
#include "kernels/kernels.h"

static const crit_type types[] = {CRIT_T_F32,  CRIT_T_F16,  CRIT_T_BF16, CRIT_T_Q4_0,   CRIT_T_Q4_1,
                                  CRIT_T_Q5_0, CRIT_T_Q5_1, CRIT_T_Q8_0, CRIT_T_Q2_K,   CRIT_T_Q3_K,
                                  CRIT_T_Q4_K, CRIT_T_Q5_K, CRIT_T_Q6_K, CRIT_T_IQ4_NL, CRIT_T_IQ4_XS};
enum { N_TYPES = sizeof types / sizeof types[0] };

static void every_known_type_has_geometry_and_name(void **state) {
    (void)state;
    size_t known = 0;
    for (unsigned t = 0; t < 300; t++) {
        uint32_t elems = 7, bytes = 7;
        const bool ok = crit_type_geometry(t, &elems, &bytes);
        assert_int_equal(ok, crit_type_name(t) != NULL);
        if (!ok) continue;
        known++;
        assert_true(elems == 1 || elems == 32 || elems == 256);
        assert_in_range(bytes, 2, 255);
    }
    assert_int_equal(known, N_TYPES);
    assert_null(crit_type_name(~0u));
    assert_string_equal(crit_type_name(CRIT_T_IQ4_XS), "IQ4_XS");
    assert_string_equal(crit_type_name(CRIT_T_Q4_K), "Q4_K");
}

static unsigned char *slurp(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be opened", path);
    unsigned char *buf = malloc(1 << 20);
    assert_non_null(buf);
    *len = fread(buf, 1, 1 << 20, f);
    fclose(f);
    return buf;
}

static void decoders_match_golden(void **state) {
    (void)state;
    crit_kernels kt;
    crit_kernels_init(&kt, 0);
    for (int i = 0; i < N_TYPES; i++) {
        char path[512], *name;
        snprintf(path, sizeof path, "%s/golden/dequant/%s.bin", CRIT_TEST_DIR, crit_type_name(types[i]));
        name = strrchr(path, '/');
        for (char *p = name; *p; p++)
            if (*p >= 'A' && *p <= 'Z') *p = (char)(*p + 32);
        size_t len;
        unsigned char *file = slurp(path, &len);
        uint32_t n, elems, bytes;
        memcpy(&n, file, 4);
        assert_true(crit_type_geometry((unsigned)types[i], &elems, &bytes));
        assert_int_equal(n % elems, 0);
        const size_t raw = (size_t)n / elems * bytes;
        assert_int_equal(len, 4 + raw + 4 * (size_t)n);

        /* exact-size heap copies, so that a sanitizer sees any step outside; the source sits at an odd address */
        unsigned char *src = malloc(raw + 1);
        float *dst = malloc(n * sizeof *dst);
        assert_true(src && dst);
        memcpy(src + 1, file + 4, raw);
        memset(dst, 0xff, n * sizeof *dst);
        assert_non_null(kt.dequant[types[i]]);
        kt.dequant[types[i]](src + 1, dst, n);
        for (uint32_t j = 0; j < n; j++) {
            uint32_t want, got;
            memcpy(&want, file + 4 + raw + 4 * (size_t)j, 4);
            memcpy(&got, &dst[j], 4);
            if (want != got) fail_msg("%s value %u: %08x, expected %08x", path, j, got, want);
        }
        free(src);
        free(dst);
        free(file);
    }
}

static void bad_scales_show(void **state) {
    (void)state;
    crit_kernels kt;
    crit_kernels_init(&kt, 0);
    for (int i = 3; i < N_TYPES; i++) {
        unsigned char block[256];
        float y[256];
        uint32_t elems, bytes;
        crit_type_geometry((unsigned)types[i], &elems, &bytes);
        memset(block, 0xff, sizeof block); /* every f16 in it is a NaN */
        kt.dequant[types[i]](block, y, elems);
        for (uint32_t j = 0; j < elems; j++) assert_true(isnan(y[j]));
    }
}

static void half_round_trip(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = crit_f16_value((uint16_t)h), b = crit_bf16_value((uint16_t)h);
        if ((h & 0x7fff) > 0x7c00) {
            assert_true(isnan(f) && isnan(crit_f16_value(crit_f16_bits(f))));
        } else {
            assert_int_equal(crit_f16_bits(f), h);
            const int e = (int)(h >> 10 & 31);
            const double m = h & 0x3ff, sign = h & 0x8000 ? -1 : 1;
            if (e < 31) assert_true((double)f == sign * (e ? ldexp(1024 + m, e - 25) : ldexp(m, -24)));
        }
        if ((h & 0x7fff) > 0x7f80)
            assert_true(isnan(crit_bf16_value(crit_bf16_bits(b))));
        else
            assert_int_equal(crit_bf16_bits(b), h);
    }
}

/* Between two neighbours: below, at and above the middle. */
static void half_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        const float lo = crit_f16_value((uint16_t)h), hi = crit_f16_value((uint16_t)(h + 1));
        const float mid = (lo + hi) / 2; /* exact: 12 bits */
        assert_int_equal(crit_f16_bits(mid), h & 1 ? h + 1 : h);
        assert_int_equal(crit_f16_bits(nextafterf(mid, 0)), h);
        assert_int_equal(crit_f16_bits(nextafterf(mid, INFINITY)), h + 1);
        assert_int_equal(crit_f16_bits(-mid), 0x8000 | (h & 1 ? h + 1 : h));
    }
    assert_int_equal(crit_f16_bits(65519.996f), 0x7bff);
    assert_int_equal(crit_f16_bits(65520.0f), 0x7c00);
    assert_int_equal(crit_f16_bits(1e30f), 0x7c00);
    assert_int_equal(crit_f16_bits(-INFINITY), 0xfc00);
    assert_int_equal(crit_f16_bits(1e-40f), 0);
    for (uint32_t h = 0; h < 0x7f7f; h += 13) {
        const uint32_t bits = h << 16 | 0x8000u;
        float mid;
        memcpy(&mid, &bits, 4);
        assert_int_equal(crit_bf16_bits(mid), h & 1 ? h + 1 : h);
        assert_int_equal(crit_bf16_bits(nextafterf(mid, INFINITY)), h + 1);
    }
    assert_int_equal(crit_bf16_bits(3.4028235e38f), 0x7f80);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_known_type_has_geometry_and_name),
        cmocka_unit_test(decoders_match_golden),
        cmocka_unit_test(bad_scales_show),
        cmocka_unit_test(half_round_trip),
        cmocka_unit_test(half_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
