/* SPDX-License-Identifier: MIT */
/* Files of saved logits: a row comes back within half a step, and files that are not whole are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "baselogits.h"

enum { CTX = 9, CHUNKS = 2, ROWS = CTX - 1 - CTX / 2, EXIT_OK = 0 };

static const char path[] = "baselogits.tmp";
static uint64_t state;

static double uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

static void fill(float *x, size_t n, double spread) {
    for (size_t i = 0; i < n; i++) x[i] = (float)(spread * (uniform() - 0.5));
}

static void write_file(uint32_t n_vocab, double spread) {
    baselogits b;
    int32_t ids[CTX * CHUNKS];
    float *x = malloc(n_vocab * sizeof *x);
    assert_non_null(x);
    for (int i = 0; i < CTX * CHUNKS; i++) ids[i] = i % (int32_t)n_vocab;
    assert_int_equal(base_create(&b, path, CTX, n_vocab, CHUNKS, ids), EXIT_OK);
    state = n_vocab;
    for (int i = 0; i < ROWS * CHUNKS; i++) {
        fill(x, n_vocab, spread);
        klrow s = klrow_of(x, n_vocab);
        assert_int_equal(base_write(&b, x, &s), EXIT_OK);
    }
    assert_int_equal(base_close(&b, EXIT_OK), EXIT_OK);
    free(x);
}

static void rows_come_back(void **s) {
    (void)s;
    static const uint32_t vocab[] = {2, 3, 300, 1001};
    static const double spread[] = {0, 4, 40}; /* 40: the lower half is beyond the range */
    for (size_t v = 0; v < 4; v++)
        for (size_t k = 0; k < 3; k++) {
            const uint32_t n = vocab[v];
            baselogits b;
            float *x = malloc(n * sizeof *x);
            assert_non_null(x);
            write_file(n, spread[k]);
            assert_int_equal(base_open(&b, path), EXIT_OK);
            assert_true(b.n_ctx == CTX && b.n_vocab == n && b.n_chunk == CHUNKS);
            for (int i = 0; i < CTX * CHUNKS; i++) assert_int_equal(b.ids[i], i % (int32_t)n);
            state = n;
            for (size_t c = 0; c < CHUNKS; c++)
                for (uint32_t pos = CTX / 2; pos + 1 < CTX; pos++) {
                    fill(x, n, spread[k]);
                    klrow r = klrow_of(x, n);
                    assert_int_equal(base_read(&b, c, pos), EXIT_OK);
                    for (uint32_t i = 0; i < n; i++) {
                        double lost = base_nll(&b, i) - klrow_nll(x, &r, i);
                        if (r.max - x[i] < 15.99f)
                            assert_true(fabs(lost) < 16.0 / 65535 / 2 + 4e-6);
                        else
                            assert_true(lost < 1e-3); /* clipped to a higher probability */
                    }
                    assert_int_equal(base_best(&b), r.best);
                    /* rounding by up to half a step each way: its square, and what the floor of 16 nats cuts off */
                    assert_true(fabs(base_kl(&b, x, &r)) < 1.3e-4);
                }
            assert_int_equal(base_close(&b, EXIT_OK), EXIT_OK);
            free(x);
        }
    unlink(path);
}

static void another_distribution_diverges(void **s) {
    (void)s;
    baselogits b;
    float x[300], y[300];
    write_file(300, 6);
    assert_int_equal(base_open(&b, path), EXIT_OK);
    state = 300;
    fill(x, 300, 6);
    fill(y, 300, 6);
    klrow xs = klrow_of(x, 300), ys = klrow_of(y, 300);
    assert_int_equal(base_read(&b, 0, CTX / 2), EXIT_OK);
    double want = klrow_kl(x, &xs, y, &ys, 300);
    assert_true(want > 1);
    assert_true(fabs(base_kl(&b, y, &ys) - want) < 1e-3);
    assert_int_equal(base_close(&b, EXIT_OK), EXIT_OK);
    unlink(path);
}

static void refused(const char *what) {
    baselogits b;
    print_message("%s\n", what);
    int rc = base_open(&b, path);
    assert_int_equal(base_close(&b, rc), 1);
}

static void damaged_files_are_refused(void **s) {
    (void)s;
    write_file(300, 4);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    assert_int_equal(size, 20 + 4 * CTX * CHUNKS + ROWS * CHUNKS * (8 + 2 * 300));
    assert_int_equal(ftruncate(fileno(f), size - 1), 0);
    refused("one byte short");
    uint32_t huge = 1u << 29;
    fseek(f, 16, SEEK_SET);
    assert_int_equal(fwrite(&huge, 4, 1, f), 1);
    fflush(f);
    refused("more windows than bytes");
    fseek(f, 0, SEEK_SET);
    fputc('x', f);
    fflush(f);
    refused("another magic");
    assert_int_equal(ftruncate(fileno(f), 10), 0);
    refused("half a head");
    fclose(f);
    write_file(300, 4);
    f = fopen(path, "r+b");
    assert_non_null(f);
    int32_t id = 300;
    fseek(f, 20, SEEK_SET);
    assert_int_equal(fwrite(&id, 4, 1, f), 1);
    fclose(f);
    refused("a token outside the vocabulary");
    unlink(path);
    refused("no file");
}

static void a_failed_file_is_removed(void **s) {
    (void)s;
    baselogits b;
    int32_t ids[CTX] = {0};
    assert_int_equal(base_create(&b, path, CTX, 300, 1, ids), EXIT_OK);
    assert_int_equal(base_close(&b, 1), 1);
    assert_int_equal(access(path, F_OK), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(another_distribution_diverges),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(a_failed_file_is_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
