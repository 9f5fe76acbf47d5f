/* SPDX-License-Identifier: MIT */
/* What the tasks of `eval` are made of: scores, random numbers, words, prose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "prose.h"
#include "rng.h"
#include "scoring.h"
#include "words.h"

/* ---- scores ---- */

#define REFS(...) (&(refs){__VA_ARGS__})

static void scores(void **state) {
    (void)state;
    char found[4];
    assert_true(score_contains("The Answer is 42.", "answer IS 42"));
    assert_false(score_contains("The answer is 4", "42"));
    assert_true(score_contains("x", ""));
    assert_true(score_all("b, C", REFS("a\0b\0c", 3), found) == 2.0 / 3);
    assert_string_equal(found, "011");
    assert_true(score_all("nothing", REFS("7", 1), found) == 0);
    assert_true(score_part("b", REFS("a\0b", 2)) == 1);
    assert_true(score_part("z", REFS("a\0b", 2)) == 0);
    assert_true(score_exact(" Yes\n", REFS("no\0yes", 2)) == 1);
    assert_true(score_exact("yes it is", REFS("yes", 1)) == 0);
    assert_int_equal(score_common("x12345y", "0123459"), 5);
    assert_int_equal(score_common("abc", "xyz"), 0);
    assert_int_equal(score_common("", "xyz"), 0);
    assert_int_equal(score_common("ABAB", "abab"), 4);
    assert_true(score_piece("x12345y", REFS("0123459\0y", 2)) == 5.0 / 7);
    assert_true(score_piece("", REFS("a", 1)) == 0);
    assert_true(score_order("a then B, then c", REFS("a\0b\0c", 3), found) == 1);
    assert_string_equal(found, "111");
    assert_true(score_order("a c b", REFS("a\0b\0c", 3), found) == 2.0 / 3);
    assert_string_equal(found, "110");
    assert_true(score_order("b c", REFS("a\0b\0c", 3), found) == 0);
    assert_string_equal(found, "000");
    assert_true(score_order("aa", REFS("a\0a\0a", 3), found) == 2.0 / 3); /* one place is not two */
}

static void shared_words(void **state) {
    (void)state;
    assert_true(score_f1("The red fox.", REFS("a red fox", 1)) == 1); /* articles and points do not count */
    assert_true(fabs(score_f1("red fox ran far", REFS("red fox", 1)) - 2.0 * 2 / 6) < 1e-12);
    assert_true(fabs(score_f1("go", REFS("go go go", 1)) - 2.0 * 1 / 4) < 1e-12);
    assert_true(fabs(score_f1("go go go", REFS("go", 1)) - 2.0 * 1 / 4) < 1e-12);
    assert_true(score_f1("blue", REFS("red\0blue", 2)) == 1);
    assert_true(score_f1("", REFS("red", 1)) == 0);
    assert_true(score_f1("\xE2\x80\x9Cred\xE2\x80\x9D", REFS("red", 1)) == 1); /* curly quotes */
    /* three characters, two of them shared, a full stop between */
    assert_true(fabs(score_f1("\xE7\xBA\xA2\xE3\x80\x82\xE7\xBB\xBF\xE7\x99\xBD", REFS("\xE7\xBA\xA2\xE7\x99\xBD", 1)) -
                     0.8) < 1e-12);
}

/* ---- random numbers and words ---- */

static void generator(void **state) {
    (void)state;
    /* First outputs of the published generators: from state 1 2 3 4, and of splitmix64 from 0. */
    rng r = {{1, 2, 3, 4}};
    static const uint64_t want[] = {11520, 0, 1509978240, UINT64_C(1215971899390074240)};
    for (int i = 0; i < 4; i++) assert_true(rng_next(&r) == want[i]);
    rng_seed(&r, 0);
    assert_true(r.s[0] == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(hash_bytes(HASH_START, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c)); /* FNV-1a's test vector */
    unsigned hits[5] = {0};
    for (int i = 0; i < 50000; i++) hits[rng_below(&r, 5)]++;
    for (int i = 0; i < 5; i++) assert_in_range(hits[i], 10000 - 537, 10000 + 537); /* six standard deviations */
    for (uint32_t k = 0; k <= 9; k++) {
        uint32_t x[9], seen = 0;
        rng_pick(&r, x, 9, k);
        for (uint32_t i = 0; i < k; i++) seen |= 1u << x[i];
        assert_int_equal(__builtin_popcount(seen), k);
        rng_shuffle(&r, x, 9);
        seen = 0;
        for (uint32_t i = 0; i < 9; i++) seen |= 1u << x[i];
        assert_int_equal(seen, 511);
    }
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void words(void **state) {
    (void)state;
    assert_true(words_adjective.n >= 250 && words_noun.n >= 500 && words_verb.n >= 150);
    size_t n = words_any_n();
    const char **all = malloc(n * sizeof *all);
    assert_non_null(all);
    for (size_t i = 0; i < n; i++) {
        all[i] = words_any(i);
        assert_int_equal(strspn(all[i], "abcdefghijklmnopqrstuvwxyz"), strlen(all[i]));
    }
    assert_null(words_any(n));
    qsort(all, n, sizeof *all, by_text);
    for (size_t i = 1; i < n; i++) assert_string_not_equal(all[i - 1], all[i]);
    free(all);
}

/* No pattern is left unfilled, and long prose does not repeat itself. */
static void prose(void **state) {
    (void)state;
    buf b = {0};
    rng r;
    rng_seed(&r, 1);
    for (int i = 0; i < 300; i++) {
        size_t from = b.n;
        prose_sentence(&r, &b);
        assert_int_equal(b.s[b.n - 1], '.');
        if (from) {
            char one[200] = "";
            strncpy(one, b.s + from, sizeof one - 1);
            b.s[from] = 0;
            assert_null(strstr(b.s, one));
            b.s[from] = one[0];
        }
        buf_str(&b, " ");
    }
    for (int i = 0; i < 100; i++) prose_code(&r, &b);
    assert_null(strchr(b.s, '@'));
    assert_null(strstr(b.s, " a old "));
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(scores), cmocka_unit_test(shared_words),
                                       cmocka_unit_test(generator), cmocka_unit_test(words), cmocka_unit_test(prose)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
