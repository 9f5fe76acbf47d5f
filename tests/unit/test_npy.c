/* SPDX-License-Identifier: MIT */
/* .npy files byte by byte, as the format's description has them; tests/cli reads them with NumPy where it is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "npy.h"

static const char path[] = "test-npy.npy";

/* The file's data; its header's text [len] goes to head. */
static unsigned char *read_back(char *head, size_t cap, size_t *n_data) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    unsigned char start[10];
    assert_int_equal(fread(start, 1, 10, f), 10);
    assert_memory_equal(start, "\x93NUMPY\x01\x00", 8);
    const size_t len = start[8] + 256u * start[9];
    assert_int_equal((10 + len) % 64, 0);
    assert_true(len < cap);
    assert_int_equal(fread(head, 1, len, f), len);
    head[len] = 0;
    assert_int_equal(head[len - 1], '\n');
    unsigned char *data = malloc(1 << 16);
    assert_non_null(data);
    *n_data = fread(data, 1, 1 << 16, f);
    fclose(f);
    return data;
}

static void rows_of_floats(void **state) {
    (void)state;
    const float x[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, want[8] = {0, 1, 2, 3, 6, 7, 10, 11};
    const size_t dim[] = {99, 2};
    char head[512];
    size_t n;
    npy a;
    assert_int_equal(npy_open(&a, path, NPY_F32, dim, 2), 0);
    assert_int_equal(npy_write(&a, x, 2), 0);
    assert_int_equal(npy_write_strided(&a, x + 6, 2, 4), 0);
    assert_int_equal(npy_close(&a), 0);
    assert_int_equal(npy_close(&a), 0);
    unsigned char *data = read_back(head, sizeof head, &n);
    assert_non_null(strstr(head, "'shape': (4, 2)"));
    assert_non_null(strstr(head, "'fortran_order': False"));
    assert_non_null(strstr(head, "f4'"));
    assert_int_equal(n, sizeof want);
    assert_memory_equal(data, want, sizeof want);
    free(data);
    unlink(path);
}

static void integers_and_none(void **state) {
    (void)state;
    const int64_t x[3] = {-1, 0, (int64_t)1 << 40};
    const size_t dim[] = {0};
    char head[512];
    size_t n;
    npy a;
    assert_int_equal(npy_open(&a, path, NPY_I64, dim, 1), 0);
    assert_int_equal(npy_write(&a, x, 3), 0);
    assert_int_equal(npy_close(&a), 0);
    unsigned char *data = read_back(head, sizeof head, &n);
    assert_non_null(strstr(head, "i8'"));
    assert_non_null(strstr(head, "'shape': (3, )"));
    assert_int_equal(n, sizeof x);
    assert_memory_equal(data, x, sizeof x);
    free(data);
    assert_int_equal(npy_open(&a, path, NPY_I32, dim, 1), 0);
    assert_int_equal(npy_close(&a), 0);
    data = read_back(head, sizeof head, &n);
    assert_non_null(strstr(head, "'shape': (0, )"));
    assert_int_equal(n, 0);
    free(data);
    unlink(path);
}

static void failures(void **state) {
    (void)state;
    const size_t dim[] = {0};
    npy a;
    assert_int_equal(npy_open(&a, "no/such/folder.npy", NPY_I32, dim, 1), 1);
    assert_null(a.f);
    npy_drop(&a);
    assert_int_equal(npy_open(&a, path, NPY_I32, dim, 1), 0);
    npy_drop(&a);
    assert_int_not_equal(access(path, F_OK), 0);
    if (access("/dev/full", W_OK)) return;
    assert_int_equal(npy_open(&a, "/dev/full", NPY_I32, dim, 1), 0); /* still in the buffer */
    a.path[0] = ' ';                                                 /* nothing of that name may be removed */
    assert_int_equal(npy_close(&a), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_of_floats), cmocka_unit_test(integers_and_none),
                                       cmocka_unit_test(failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
