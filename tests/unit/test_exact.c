/* SPDX-License-Identifier: MIT */
/* Attention in double against a plain second implementation, and the identity: it holds for what a plan says, and
 * breaks when one block more or less was computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exact.h"
#include "probe.h"
#include "tiny/tiny.h"

enum { D = 16, N = 300, BLOCKS = (N + 31) / 32 };

typedef struct sample {
    float q[D], k[N * D], v[N * D], out[D];
    unsigned char kept[BLOCKS];
    double work[N + 3 * D];
    exact_query x;
} sample;

static sample *make(uint64_t seed) {
    sample *s = calloc(1, sizeof *s);
    assert_non_null(s);
    for (int i = 0; i < D; i++) s->q[i] = 2 * tiny_normal(&seed);
    for (int i = 0; i < N * D; i++) s->k[i] = tiny_normal(&seed), s->v[i] = tiny_normal(&seed);
    for (int b = 0; b < BLOCKS; b++) s->kept[b] = b % 3 != 1;
    double k_norm = 0, v_max = 0;
    for (int j = 0; j < N; j++) {
        double n = 0;
        for (int i = 0; i < D; i++) {
            n += (double)s->k[j * D + i] * (double)s->k[j * D + i];
            v_max = fmax(v_max, fabs((double)s->v[j * D + i]));
        }
        k_norm = fmax(k_norm, sqrt(n));
    }
    s->x = (exact_query){.q = s->q,
                         .k = s->k,
                         .v = s->v,
                         .n_key = N,
                         .d = D,
                         .scale = 0.25f,
                         .kept = s->kept,
                         .out = s->out,
                         .k_norm = k_norm,
                         .v_max = v_max};
    return s;
}

/* Soft-max attention over the marked blocks; returns their share of all weights. */
static double attend(const sample *s, const unsigned char *kept, double *o) {
    double sum = 0, all = 0;
    memset(o, 0, D * sizeof *o);
    for (int j = 0; j < N; j++) {
        double z = 0;
        for (int i = 0; i < D; i++) z += (double)s->q[i] * (double)s->k[j * D + i];
        const double w = exp(z * (double)s->x.scale);
        all += w;
        if (!kept[j / 32]) continue;
        sum += w;
        for (int i = 0; i < D; i++) o[i] += w * (double)s->v[j * D + i];
    }
    for (int i = 0; i < D; i++) o[i] /= sum;
    return sum / all;
}

static void agrees(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        sample *s = make(seed);
        unsigned char every[BLOCKS];
        double o[D], dense[D], diff = 0, size = 0;
        exact_result r;
        memset(every, 1, sizeof every);
        const double p = attend(s, s->kept, o);
        attend(s, every, dense);
        for (int i = 0; i < D; i++) {
            s->out[i] = (float)o[i];
            diff += ((double)s->out[i] - dense[i]) * ((double)s->out[i] - dense[i]);
            size += dense[i] * dense[i];
        }
        exact_attention(&s->x, s->work, &r);
        assert_true(fabs(r.mass - p) < 1e-12);
        assert_true(fabs(r.error - sqrt(diff / size)) < 1e-9);
        assert_true(r.error > 1e-3);
        assert_true(r.identity < 1e-6);
        assert_true(r.of_bound < 1);
        free(s);
    }
}

static void breaks(void **state) {
    (void)state;
    for (int n = 0; n < 2 * BLOCKS; n++) { /* a block that the plan has was not computed, or the other way round */
        const int b = n % BLOCKS;
        sample *s = make(7);
        s->x.rounding = n < BLOCKS ? EXACT_F32 : EXACT_I16;
        double o[D];
        exact_result r;
        unsigned char other[BLOCKS];
        memcpy(other, s->kept, sizeof other);
        other[b] = !other[b];
        attend(s, other, o);
        for (int i = 0; i < D; i++) s->out[i] = (float)o[i];
        exact_attention(&s->x, s->work, &r);
        assert_true(r.of_bound > 1);
        s->out[3] = NAN;
        exact_attention(&s->x, s->work, &r);
        assert_false(r.of_bound <= 1);
        assert_false(r.identity <= 1);
        free(s);
    }
}

/* A block that skip may leave out is forgiven, one that it may not is not. */
static void skipped(void **state) {
    (void)state;
    sample *s = make(3);
    double o[D];
    exact_result r;
    unsigned char other[BLOCKS];
    for (int i = 0; i < 32 * D; i++) s->k[2 * 32 * D + i] = -s->q[i % D] / 4; /* block 2: far below the others */
    s->kept[2] = 1;
    s->x.end_far = 5;
    memcpy(other, s->kept, sizeof other);
    other[2] = 0;
    attend(s, other, o);
    for (int i = 0; i < D; i++) s->out[i] = (float)o[i];
    exact_attention(&s->x, s->work, &r);
    assert_true(r.of_bound > 1);
    s->x.skip = 3;
    exact_attention(&s->x, s->work, &r);
    assert_true(r.of_bound <= 1);
    s->x.end_far = 2;
    exact_attention(&s->x, s->work, &r);
    assert_true(r.of_bound > 1);
    free(s);
}

static void worse(void **state) {
    (void)state;
    assert_true(exact_worse(1, 2) == 2 && exact_worse(2, 1) == 2);
    assert_true(isnan(exact_worse((double)NAN, 1)) && isnan(exact_worse(1, (double)NAN)));
}

static void tiles_and_pairs(void **state) {
    (void)state;
    const crit_layer_view v = {.pos0 = 384, .n_tok = 76};
    assert_int_equal(view_n_tile(&v), 3);
    for (uint32_t i = 0; i < 3; i++) {
        const view_tile t = view_tile_at(&v, i);
        assert_int_equal(t.pos, 384 + 32 * i);
        assert_int_equal(t.n, i < 2 ? 32 : 12);
        assert_int_equal(t.first_free, 1);
        assert_int_equal(t.end_free, t.pos / 32 - 4);
        double pairs = 0, plain = 0;
        for (uint32_t b = 0; b < t.n_blk; b++) pairs += probe_block_pairs(&t, b);
        for (uint32_t p = t.pos; p < t.pos + t.n; p++) plain += p + 1;
        assert_true(pairs == plain && probe_pairs(&t) == plain);
        for (uint32_t n = 1; n <= 32; n *= 2) {
            uint32_t pos[32], again[32];
            const uint32_t got = probe_positions(&t, n, 42, pos), most = n < t.n ? n : t.n;
            assert_int_equal(got, most);
            for (uint32_t k = 0; k < got; k++)
                assert_in_range(pos[k], t.pos + t.n * k / most, t.pos + t.n * (k + 1) / most - 1);
            probe_positions(&t, n, 42, again);
            assert_memory_equal(pos, again, got * sizeof *pos);
            probe_positions(&t, n, 43, again);
            if (n > 1 && n < 12) assert_memory_not_equal(pos, again, got * sizeof *pos);
        }
    }
    const crit_layer_view early = {.n_tok = 33}; /* no free blocks yet */
    assert_int_equal(view_tile_at(&early, 1).end_free, 0);
    assert_int_equal(view_tile_at(&early, 1).n, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees), cmocka_unit_test(breaks), cmocka_unit_test(skipped),
                                       cmocka_unit_test(worse), cmocka_unit_test(tiles_and_pairs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
