/* SPDX-License-Identifier: MIT */
/* Where a cascade puts tokens: nothing twice, nothing out of order, as far back as the formula says; and turns of
 * rotated vectors by any number of positions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/cascade.h"
#include "tiny/tiny.h"

typedef struct cache {
    crit_rings r;
    uint32_t *id;
    float *score;
} cache;

static cache open_cache(uint32_t n, uint32_t len) {
    cache c = {.r = {.n = n, .len = len}};
    c.id = malloc((size_t)n * len * sizeof *c.id);
    c.score = malloc((size_t)n * len * sizeof *c.score);
    assert_true(c.id && c.score);
    return c;
}

static void close_cache(cache *c) {
    free(c->id);
    free(c->score);
}

/* Slot of the key that stands at place `at` of ring i, the oldest first. */
static uint32_t slot_at(const cache *c, uint32_t i, uint32_t at) {
    uint32_t number = c->r.n_push[i] - crit_ring_count(&c->r, i) + at, slot = i * c->r.len + number % c->r.len;
    assert_int_equal(crit_ring_number(&c->r, slot), number);
    return slot;
}

static uint32_t oldest(const cache *c) {
    uint32_t i = c->r.n - 1;
    while (!crit_ring_count(&c->r, i)) i--;
    return c->id[slot_at(c, i, 0)];
}

/* From the last ring's oldest to ring 0's newest: tokens ascend, so none is there twice. */
static void check_order(const cache *c, uint32_t newest) {
    uint32_t n = 0, last = 0;
    for (uint32_t i = c->r.n; i-- > 0;)
        for (uint32_t at = 0; at < crit_ring_count(&c->r, i); at++, n++) {
            uint32_t id = c->id[slot_at(c, i, at)];
            if (n) assert_true(id > last);
            last = id;
        }
    assert_int_equal(last, newest);
    uint32_t cap = c->r.n * c->r.len;
    assert_int_equal(n, newest < cap ? newest : cap);
    assert_int_equal(n, crit_rings_count(&c->r));
}

static void tokens_keep_their_order(void **state) {
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {1, 7}, {2, 5}, {3, 1}, {4, 16}, {5, 3}, {8, 4}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        cache c = open_cache(shapes[s][0], shapes[s][1]);
        crit_rings by_number = c.r;
        uint64_t rng = 77 + s;
        for (uint32_t t = 1; t <= 5000; t++) {
            crit_rings_insert(&c.r, t, (float)(tiny_rand(&rng) % 64), c.id, c.score);
            check_order(&c, t);
            crit_rings_advance(&by_number, 1);
            assert_memory_equal(&by_number, &c.r, sizeof by_number);
        }
        crit_rings skip = {.n = c.r.n, .len = c.r.len};
        crit_rings_advance(&skip, 5000);
        assert_memory_equal(&skip, &c.r, sizeof skip);
        close_cache(&c);
    }
}

/* n rings of len keys look back about len (2^n - 1) tokens: between that less one token of the last ring's thinning a
 * ring, and that. */
static void the_span_is_that_of_the_formula(void **state) {
    (void)state;
    static const struct span {
        uint32_t len, n, seen; /* seen: tokens from the oldest to the newest, at its largest */
    } spans[] = {{512, 4, 7673}, {256, 8, 65153}, {100, 1, 100}};
    for (size_t s = 0; s < sizeof spans / sizeof *spans; s++) {
        cache c = open_cache(spans[s].n, spans[s].len);
        uint32_t full = spans[s].len * ((1u << spans[s].n) - 1), most = 0;
        for (uint32_t t = 1; t <= 4 * full; t++) {
            crit_rings_insert(&c.r, t, 0, c.id, c.score);
            if (t > 3 * full && t - oldest(&c) + 1 > most) most = t - oldest(&c) + 1;
        }
        assert_int_equal(most, spans[s].seen);
        assert_true(most <= full && full - most < spans[s].n * (1u << spans[s].n));
        close_cache(&c);
    }
}

/* Of two neighbours that reach a ring which takes in one of two, the one that weighed more stays. */
static void a_weighty_token_survives(void **state) {
    (void)state;
    for (uint32_t needle = 40; needle < 48; needle++) {
        cache c = open_cache(3, 16);
        uint32_t until = needle + 16 * 5; /* behind the middle of the last ring */
        for (uint32_t t = 1; t <= until; t++) crit_rings_insert(&c.r, t, t == needle, c.id, c.score);
        bool there = false;
        uint32_t near = 0;
        for (uint32_t i = 0; i < 48; i++) {
            there |= c.id[i] == needle;
            near += c.id[i] >= 40 && c.id[i] < 48;
        }
        assert_true(there);
        assert_true(near <= 3); /* one of four, but the eight are not cut at fours */
        close_cache(&c);
    }
}

static void turns_are_exact(void **state) {
    (void)state;
    double freq[16];
    crit_kernels k;
    for (int neox = 0; neox < 2; neox++) {
        crit_kernels_init(&k, crit_cpu_detect());
        for (int i = 0; i < 16; i++) freq[i] = pow(10000, -i / 16.0);
        crit_decode_env e = {.kernels = &k, .d = 40, .n_rot = 32, .neox = neox, .rope_freq = freq};
        crit_turn t;
        float c[16], s[16], q[40], x[40];
        assert_int_equal(crit_turn_init(&t, &e, NULL), CRIT_OK);
        static const int64_t by[] = {0, 1, -1, 255, 256, -65537, 1000003, -16777216, 1073741824};
        for (size_t b = 0; b < sizeof by / sizeof *by; b++) {
            crit_turn_angles(&t, by[b], c, s);
            for (int i = 0; i < 16; i++) {
                /* the angle's own rounding, and that of a cosine in f32 */
                double a = (double)by[b] * freq[i], tol = 1e-7 + fabs(a) * 0x1p-50;
                assert_true(fabs((double)c[i] - cos(a)) < tol && fabs((double)s[i] - sin(a)) < tol);
            }
            /* A key turned by a number and a query by the same have the product they had. */
            uint64_t rng = b;
            double want = 0, got = 0, size = 0;
            for (int i = 0; i < 40; i++) {
                q[i] = (float)(tiny_rand(&rng) % 1000) / 500 - 1;
                x[i] = (float)(tiny_rand(&rng) % 1000) / 500 - 1;
                want += (double)q[i] * (double)x[i];
                size += fabs((double)q[i] * (double)x[i]);
            }
            crit_turn_rows(&t, c, s, q, 40, 1);
            crit_turn_rows(&t, c, s, x, 40, 1);
            for (int i = 0; i < 40; i++) got += (double)q[i] * (double)x[i];
            assert_true(fabs(want - got) < 1e-5 && size > 1);
        }
        crit_turn_clear(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_keep_their_order),
        cmocka_unit_test(the_span_is_that_of_the_formula),
        cmocka_unit_test(a_weighty_token_survives),
        cmocka_unit_test(turns_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
