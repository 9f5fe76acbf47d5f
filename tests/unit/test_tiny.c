/* SPDX-License-Identifier: MIT */
/* The tests' own tools: the synthetic model is the same bytes twice and its quantisers make blocks that decode to about
 * what went in; the oracle is causal, honours its mask and tells the parameters apart.
 *
 * The oracle itself was compared with llama.cpp's logits (peer/oracle_logits.py: all variants agree to the 2e-4 of its
 * 16-bit log file); here only what can break unnoticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/kernels.h"
#include "tiny/oracle.h"
#include "tiny/quant.h"
#include "tiny/tiny.h"

static char path[300];

static int make_path(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/crit-tiny-XXXXXX", base && *base ? base : P_tmpdir);
    const int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    return 0;
}

static int drop_path(void **state) {
    (void)state;
    return unlink(path);
}

static void same_bytes_twice(void **state) {
    (void)state;
    tiny_params p;
    size_t a_len, b_len;
    tiny_params_init(&p);
    unsigned char *a = tiny_build(&p, &a_len), *b = tiny_build(&p, &b_len);
    assert_int_equal(a_len, b_len);
    assert_memory_equal(a, b, a_len);
    free(b);
    p.seed++;
    b = tiny_build(&p, &b_len);
    assert_int_equal(a_len, b_len);
    assert_memory_not_equal(a, b, a_len);
    free(a);
    free(b);
}

/* Root mean square error of normal values, relative to their deviation: about step / sqrt(12) where the step spans
 * 2 x 2.2 to 2 x 3 deviations a block; the figures are upper ends, wrong nibble orders give 1.4. */
static void quantisers_round_trip(void **state) {
    (void)state;
    static const struct {
        crit_type t;
        double rms;
    } want[] = {{CRIT_T_F32, 0},       {CRIT_T_F16, 3e-4},  {CRIT_T_BF16, 3e-3}, {CRIT_T_Q8_0, 7e-3},
                {CRIT_T_Q6_K, 0.03},   {CRIT_T_Q5_0, 0.06}, {CRIT_T_Q5_1, 0.05}, {CRIT_T_Q5_K, 0.06},
                {CRIT_T_Q4_0, 0.12},   {CRIT_T_Q4_1, 0.1},  {CRIT_T_Q4_K, 0.11}, {CRIT_T_IQ4_NL, 0.12},
                {CRIT_T_IQ4_XS, 0.14}, {CRIT_T_Q3_K, 0.25}, {CRIT_T_Q2_K, 0.45}};
    enum { N = 2048 };
    static float x[N], y[N];
    static unsigned char q[4 * N];
    crit_kernels kt;
    crit_kernels_init(&kt, 0);
    uint64_t s = 3;
    for (int i = 0; i < N; i++) x[i] = tiny_normal(&s);
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        tiny_quantize(want[k].t, x, q, N);
        kt.dequant[want[k].t](q, y, N);
        double sum = 0;
        for (int i = 0; i < N; i++) sum += (double)(x[i] - y[i]) * (double)(x[i] - y[i]);
        const double rms = sqrt(sum / N);
        if (!(rms <= want[k].rms))
            fail_msg("%s: error %.3g, expected at most %.3g", crit_type_name(want[k].t), rms, want[k].rms);
    }
}

enum { N_TOK = 24 };
static const int32_t tokens[N_TOK] = {5, 77, 130, 9, 9,  250, 31, 2,  180, 64, 12, 200,
                                      5, 77, 130, 8, 90, 91,  92, 17, 33,  5,  77, 1};

static double *logits_of(const tiny_params *p, const int32_t *tok, const oracle_opts *opts) {
    assert_int_equal(tiny_write(path, p), 0);
    oracle *o = oracle_open(path);
    assert_non_null(o);
    double *l = malloc(N_TOK * oracle_n_vocab(o) * sizeof *l);
    assert_non_null(l);
    oracle_logits(o, tok, N_TOK, 0, opts, l);
    oracle_close(o);
    return l;
}

static double max_gap(const double *a, const double *b, size_t n) {
    double m = 0;
    for (size_t i = 0; i < n; i++) m = fmax(m, fabs(a[i] - b[i]));
    return m;
}

static bool keep_near(void *user, uint32_t layer, uint32_t head, uint32_t row, uint32_t key) {
    const uint32_t *width = user;
    (void)layer;
    (void)head;
    return row - key < *width;
}

static void oracle_is_causal_and_masks(void **state) {
    (void)state;
    tiny_params p;
    tiny_params_init(&p);
    double *a = logits_of(&p, tokens, NULL);
    int32_t other[N_TOK];
    memcpy(other, tokens, sizeof other);
    other[10] = 111;
    double *b = logits_of(&p, other, NULL);
    assert_true(max_gap(a, b, 10 * p.n_vocab) <= 0);
    assert_true(max_gap(a + 10 * p.n_vocab, b + 10 * p.n_vocab, p.n_vocab) > 1);
    assert_true(max_gap(a + 23 * p.n_vocab, b + 23 * p.n_vocab, p.n_vocab) > 1e-3); /* attention carries it forward */
    free(b);

    uint32_t width = N_TOK;
    const oracle_opts wide = {.keep = keep_near, .user = &width};
    b = logits_of(&p, tokens, &wide);
    assert_true(max_gap(a, b, N_TOK * p.n_vocab) <= 0);
    free(b);
    width = 3; /* two layers: a token reaches 4 positions on, not 5 */
    b = logits_of(&p, tokens, &wide);
    double *c = logits_of(&p, other, &wide);
    assert_true(max_gap(a, b, N_TOK * p.n_vocab) > 0.1);
    assert_true(max_gap(b + 14 * p.n_vocab, c + 14 * p.n_vocab, p.n_vocab) > 0);
    assert_true(max_gap(b + 15 * p.n_vocab, c + 15 * p.n_vocab, 9 * p.n_vocab) <= 0);
    free(b);
    free(c);
    free(a);
}

/* Every variant changes the result: a parameter that is written but not read would pass unseen. */
static void oracle_tells_variants_apart(void **state) {
    (void)state;
    tiny_params p[9];
    double *l[9];
    for (int i = 0; i < 9; i++) {
        tiny_params_init(&p[i]);
        p[i].rope_base = 500;
    }
    p[1].rope = TINY_ROPE_LINEAR;
    p[2].rope = TINY_ROPE_YARN;
    p[3].rope = TINY_ROPE_LLAMA3;
    p[4].rope_base = 9000;
    p[5].rope = TINY_ROPE_YARN, p[5].rope_attn = 1.2f;
    p[6].arch = "qwen2";
    p[7].arch = "qwen3";
    p[8].tied = true;
    for (int i = 0; i < 9; i++) {
        l[i] = logits_of(&p[i], tokens, NULL);
        double top = 0;
        for (uint32_t j = 0; j < N_TOK * p[i].n_vocab; j++) {
            assert_true(isfinite(l[i][j]));
            top = fmax(top, fabs(l[i][j]));
        }
        assert_true(top > 3 && top < 60);
        for (int k = 0; k < i; k++)
            if (!(max_gap(l[i], l[k], N_TOK * p[i].n_vocab) > 0.05)) fail_msg("variants %d and %d agree", i, k);
    }
    for (int i = 0; i < 9; i++) free(l[i]);
}

static void f16_store_is_a_small_change(void **state) {
    (void)state;
    tiny_params p;
    tiny_params_init(&p);
    const oracle_opts f16 = {.f16_kv = true};
    double *a = logits_of(&p, tokens, NULL), *b = logits_of(&p, tokens, &f16);
    const double gap = max_gap(a, b, N_TOK * p.n_vocab);
    assert_true(gap > 0 && gap < 0.1);
    float row[320];
    for (int i = 0; i < 320; i++) row[i] = (float)b[23 * 320 + i];
    const double kl = oracle_kl(a + 23 * 320, row, 320);
    assert_true(kl >= -1e-12 && kl < 1e-3);
    free(a);
    free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_twice),
        cmocka_unit_test(quantisers_round_trip),
        cmocka_unit_test(oracle_is_causal_and_masks),
        cmocka_unit_test(oracle_tells_variants_apart),
        cmocka_unit_test(f16_store_is_a_small_change),
    };
    return cmocka_run_group_tests(tests, make_path, drop_path);
}
