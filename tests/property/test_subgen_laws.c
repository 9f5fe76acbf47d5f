/* SPDX-License-Identifier: MIT */
/* Laws of SubGen as a way of decoding, beside those of every policy (test_policy_laws): what a step returns is what the
 * formulas give for the clusters it holds, the exact keys merged in; a window over everything is full attention; what
 * leaves the window is fed once, in order; bytes grow with what is kept and not with the prompt; threads change no
 * bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/subgen.h"
#include "policy_bed.h"

/* the last has more heads in a group than a scoring call takes rows */
static const bed_shape shapes[] = {{2, 4, 4, 64}, {1, 6, 2, 40}, {2, 7, 1, 128}, {1, 24, 2, 64}};
enum { N_SHAPE = sizeof shapes / sizeof *shapes };

/* rest: the share of the weight that exact keys have.  Their scores are coarser with bf16 queries; those of clusters
 * are not, at any level. */
static double tolerance(const bed *b, double rest) {
    return 1e-4 + (b->kernels.kv_layout == CRIT_KV_BF16T ? 5e-2 * rest : 0);
}

/* A sum of weighted values in double: e^l relative to e^top. */
typedef struct sum {
    const bed *b;
    const float *q;
    uint32_t layer, kv_head;
    double top, weight, v[CRIT_D_HEAD_MAX];
} sum;

static double logit(const sum *s, const float *k) {
    double l = 0;
    for (uint32_t i = 0; i < s->b->s.d; i++) l += (double)s->q[i] * (double)k[i];
    return l * (double)s->b->env.scale;
}

/* Position pos with weight w in the numerator, and in the denominator when `both`. */
static void add(sum *s, uint32_t pos, double w, bool both) {
    float k[CRIT_D_HEAD_MAX], v[CRIT_D_HEAD_MAX];
    crit_kv_get(&s->b->kv[s->layer], s->kv_head, pos, 1, k, v);
    double e = w * exp(logit(s, k) - s->top);
    if (both) s->weight += e;
    for (uint32_t i = 0; i < s->b->s.d; i++) s->v[i] += e * (double)v[i];
}

static void add_sketch(sum *s, const crit_sketch *k) {
    const crit_sketch_shape *a = &k->shape;
    const crit_sketch_head *h = &k->head[s->kv_head];
    sum own = *s;
    own.weight = 0;
    memset(own.v, 0, sizeof own.v);
    float key[CRIT_D_HEAD_MAX];
    for (uint32_t c = 0; c < h->n_cluster; c++)
        for (uint32_t r = 0; r < a->t; r++) {
            size_t at = (size_t)s->kv_head * a->m + c;
            crit_key_f32(k->kernels, k->slot + (at * a->t + r) * a->d, a->d, key);
            own.weight += (double)k->count[at] / a->t * exp(logit(s, key) - s->top);
        }
    for (uint32_t r = 0; r < a->s; r++) {
        size_t at = (size_t)s->kv_head * a->s + r;
        add(&own, k->src[at], h->mu / a->s * (double)k->inv[at], false);
    }
    double len = 0;
    for (uint32_t i = 0; i < a->d; i++) len += own.v[i] * own.v[i];
    double f = fmin(1, sqrt(h->v_max2) * own.weight / sqrt(len));
    s->weight += own.weight;
    for (uint32_t i = 0; i < a->d; i++) s->v[i] += f * own.v[i];
}

/* The last step of a layer against the formulas, for every query head. */
static void check_step(bed *b, uint32_t layer) {
    const crit_subgen *g = b->state;
    const crit_subgen_layer *l = &g->layers[layer];
    uint32_t n_group = b->s.n_head / b->s.n_kv_head, k = crit_subgen_opt(&g->o, CRIT_SUBGEN_K);
    bool stream = crit_subgen_opt(&g->o, CRIT_SUBGEN_MODE) == CRIT_SUBGEN_STREAM;
    assert_true(l->hi > l->lo);
    for (uint32_t h = 0; h < b->s.n_head; h++) {
        sum s = {.b = b, .layer = layer, .kv_head = h / n_group};
        s.q = bed_q(b, layer, b->n_tok - 1) + (size_t)h * b->s.d;
        s.top = -(double)INFINITY;
        for (uint32_t j = 0; j < b->n_tok; j++) {
            float key[CRIT_D_HEAD_MAX];
            crit_kv_get(&b->kv[layer], s.kv_head, j, 1, key, NULL);
            s.top = fmax(s.top, logit(&s, key));
        }
        if (stream)
            add_sketch(&s, &l->sketch);
        else
            for (uint32_t c = 0; c < k; c++)
                add(&s, l->center[(size_t)s.kv_head * k + c], l->size[(size_t)s.kv_head * k + c], true);
        double own = s.weight;
        for (uint32_t j = 0; j < b->n_tok; j = j + 1 == l->lo ? l->hi : j + 1)
            if (j < l->lo || j >= l->hi) add(&s, j, 1, true);
        double size = 1;
        for (uint32_t i = 0; i < b->s.d; i++) size = fmax(size, fabs(s.v[i] / s.weight));
        for (uint32_t i = 0; i < b->s.d; i++) {
            double got = (double)b->out[(size_t)h * b->s.d + i], want = s.v[i] / s.weight;
            if (!(fabs(got - want) <= tolerance(b, 1 - own / s.weight) * size))
                fail_msg("layer %u head %u at %u tokens: %g, by the formula %g", layer, h, b->n_tok, got, want);
        }
    }
}

static void steps_follow_the_formulas(void **state) {
    (void)state;
    static const char *const policies[] = {"subgen:k=90,window=64,sinks=32,correct=1",
                                           "subgen:mode=stream,m=40,t=3,s=100,window=64,sinks=32",
                                           "subgen:mode=stream,m=30,t=1,s=64,window=40,sinks=64,delta=4,seed=9"};
    for (size_t p = 0; p < sizeof policies / sizeof *policies; p++)
        for (size_t i = 0; i < N_SHAPE; i++) {
            bed b;
            bed_open(&b, shapes[i], 700 + 13 * (uint32_t)i, 800, 3 + i, 2, policies[p]);
            for (uint32_t t = 0; t < 45; t++) { /* more than a block: the sketch takes tokens in */
                bed_token(&b);
                for (uint32_t l = 0; l < b.s.n_layer; l++) {
                    bed_decode(&b, l);
                    if (t % 11 == 0) check_step(&b, l);
                }
            }
            bed_close(&b);
        }
}

static void a_window_over_all_is_full(void **state) {
    (void)state;
    bed b, f;
    bed_open(&b, shapes[1], 500, 520, 17, 2, "subgen:mode=stream,window=520,m=2,t=1,s=1");
    bed_open(&f, shapes[1], 500, 520, 17, 2, "full");
    for (uint32_t t = 0; t < 9; t++) {
        bed_token(&b);
        bed_token(&f);
        bed_decode(&b, 0);
        bed_decode(&f, 0);
        assert_memory_equal(b.out, f.out, (size_t)b.s.n_head * b.s.d * sizeof *b.out);
    }
    bed_close(&b);
    bed_close(&f);
}

/* Nothing but the sketch decides: as if it had been fed by hand, block by block. */
static void the_stream_is_fed_in_order(void **state) {
    (void)state;
    bed b;
    enum { M = 40, T = 3, S = 50 };
    crit_sketch hand;
    const crit_sketch_shape shape = {shapes[0].n_kv_head, shapes[0].d, M, T, S};
    float delta[4] = {3, 3, 3, 3};
    bed_open(&b, shapes[0], 600, 720, 23, 2, "subgen:mode=stream,m=40,t=3,s=50,window=64,sinks=32,delta=3,seed=5");
    const crit_subgen_layer *l = &((crit_subgen *)b.state)->layers[1];
    assert_int_equal(crit_sketch_init(&hand, &b.kernels, &shape, NULL), CRIT_OK);
    crit_sketch_start(&hand, 5, 1, delta);
    for (uint32_t t = 0; t < 110; t++) {
        bed_token(&b);
        bed_decode(&b, 0);
        bed_decode(&b, 1);
        assert_true(b.n_tok - l->hi >= 64 && b.n_tok - l->hi < 64 + CRIT_BLK_LEN);
    }
    for (uint32_t h = 0; h < shape.n_kv_head; h++) crit_sketch_feed(&hand, h, &b.kv[1], 32, l->hi);
    for (uint32_t h = 0; h < shape.n_kv_head; h++) {
        uint32_t n = hand.head[h].n_cluster;
        assert_memory_equal(&hand.head[h], &l->sketch.head[h], sizeof *hand.head);
        assert_memory_equal(hand.count + h * M, l->sketch.count + h * M, n * sizeof *hand.count);
        size_t slot = (size_t)h * M * T * shape.d;
        assert_memory_equal(hand.slot + slot, l->sketch.slot + slot, (size_t)n * T * shape.d * sizeof *hand.slot);
    }
    assert_memory_equal(hand.src, l->sketch.src, (size_t)shape.n_kv_head * S * sizeof *hand.src);
    assert_memory_equal(hand.sample.k, l->sketch.sample.k, hand.sample.map_bytes);
    crit_sketch_clear(&hand);
    bed_close(&b);
}

static void threads_change_nothing(void **state) {
    (void)state;
    static const char *const policies[] = {"subgen:k=300,window=64,correct=1",
                                           "subgen:mode=stream,m=100,t=2,s=200,window=64"};
    for (size_t p = 0; p < 2; p++) {
        bed b, c;
        bed_open(&b, shapes[1], 2100, 2150, 29, 1, policies[p]);
        bed_open(&c, shapes[1], 2100, 2150, 29, 5, policies[p]);
        for (uint32_t t = 0; t < 40; t++) {
            bed_token(&b);
            bed_token(&c);
            bed_decode(&b, 0);
            bed_decode(&c, 0);
            assert_memory_equal(b.out, c.out, (size_t)b.s.n_head * b.s.d * sizeof *b.out);
        }
        bed_close(&b);
        bed_close(&c);
    }
}

/* Cut back into what the sketch stands for: full attention until the next prompt; into the window: it goes on. */
static void cuts_are_noticed(void **state) {
    (void)state;
    static const char *const policies[] = {"subgen:k=90,window=64,sinks=32",
                                           "subgen:mode=stream,m=40,t=3,s=50,window=64,sinks=32"};
    for (size_t p = 0; p < 2; p++) {
        bed b;
        uint32_t pos[1024];
        bed_open(&b, shapes[1], 600, 720, 23, 2, policies[p]);
        const crit_subgen_layer *l = &((crit_subgen *)b.state)->layers[0];
        for (uint32_t t = 0; t < 50; t++) {
            bed_token(&b);
            bed_decode(&b, 0);
        }
        assert_true(b.policy->kept(b.state, 0, 0, b.n_tok, pos) < b.n_tok);
        for (uint32_t back = 0; back < 2; back++) {
            uint32_t to = l->hi - back;
            b.policy->cut(b.state, to);
            crit_kv_cut(&b.kv[0], to);
            b.n_tok = to;
            bed_token(&b);
            bed_decode(&b, 0);
            assert_true((l->hi == 0) == (back == 1));
            assert_true((b.policy->kept(b.state, 0, 0, b.n_tok, pos) == b.n_tok) == (back == 1));
        }
        bed_close(&b);
    }
}

/* n_cluster: of all KV heads, of a stream. */
static double bytes_of(const char *policy, uint32_t n_prompt, double *expected, uint32_t *n_cluster) {
    bed b;
    bed_open(&b, shapes[0], n_prompt, n_prompt + 8, 37, 2, policy);
    bed_token(&b);
    b.env.moved_bytes = 0;
    bed_decode(&b, 0);
    double moved = b.env.moved_bytes;
    *expected = b.policy->traffic(b.state, &b.env, &b.values, b.n_tok) * 4 * b.n_tok * b.s.d * b.s.n_kv_head;
    const crit_subgen_layer *l = ((crit_subgen *)b.state)->layers;
    for (uint32_t h = 0; n_cluster && h < b.s.n_kv_head; h++)
        *n_cluster = (h ? *n_cluster : 0) + l->sketch.head[h].n_cluster;
    bed_close(&b);
    return moved;
}

/* Bytes a step reads: linear in k, or in m t + 2 s, and the same behind a prompt twice as long. */
static void bytes_grow_with_what_is_kept(void **state) {
    (void)state;
    const double row = 4.0 * 64 * 4; /* key and value of every KV head */
    double want;
    double a = bytes_of("subgen:k=128,window=64,sinks=32", 1024, &want, NULL);
    assert_true(a == row * (128 + 32 + 96) && fabs(a - want) <= 32 * row);
    assert_true(bytes_of("subgen:k=128,window=64,sinks=32", 2048, &want, NULL) == a);
    assert_true(bytes_of("subgen:k=256,window=64,sinks=32", 1024, &want, NULL) == a + 128 * row);
    assert_true(bytes_of("subgen:k=256,window=64,sinks=32,correct=1", 1024, &want, NULL) == a + 128 * row);
    a = bytes_of("subgen:mode=stream,m=64,t=2,s=100,window=64,sinks=32,delta=1e9", 1024, &want, NULL);
    assert_true(a == row * (128 + 2 / 2.0 + 100)); /* one cluster */
    assert_true(bytes_of("subgen:mode=stream,m=64,t=2,s=100,window=64,sinks=32,delta=1e9", 2048, &want, NULL) == a);
    uint32_t n;
    a = bytes_of("subgen:mode=stream,m=64,t=2,s=300,window=64,sinks=32", 2048, &want, &n);
    assert_true(n > 20 && a == row * (128 + 300) + n * 2 * 2.0 * 64);
    a = bytes_of("subgen:mode=stream,m=200,t=2,s=300,window=64,sinks=32,delta=10", 2048, &want, &n);
    assert_true(n > 4 && a == row * (128 + 300) + n * 2 * 2.0 * 64 && a <= want + 32 * row);
}

/* Values of zero have no chance of being sampled: the sketch's part is zero, and nothing is NaN. */
static void values_of_zero_are_no_harm(void **state) {
    (void)state;
    bed b;
    bed_open(&b, shapes[1], 8, 700, 41, 2, "subgen:mode=stream,m=40,t=2,s=50,window=64,sinks=32");
    memset(b.v, 0, (size_t)b.n_ctx * b.s.n_layer * b.s.n_kv_head * b.s.d * sizeof *b.v);
    while (b.n_tok < 600) bed_token(&b);
    crit_kv_cut(&b.kv[0], 0);
    b.n_tok = 0;
    while (b.n_tok < 600) bed_token(&b);
    assert_int_equal(b.policy->prompt(b.state, &b.env, 0, &b.kv[0], bed_q(&b, 0, 599), 0, 1, NULL), CRIT_OK);
    bed_token(&b);
    bed_decode(&b, 0);
    for (uint32_t i = 0; i < b.s.n_head * b.s.d; i++) assert_true(b.out[i] == 0);
    bed_close(&b);
}

static void refuses(const char *text, const char *why) {
    crit_error err = {0};
    assert_int_equal(crit_policy_check(CRIT_POLICY_DECODE, text, &err), CRIT_E_ARG);
    if (!strstr(err.message, why)) fail_msg("'%s': '%s' does not say '%s'", text, err.message, why);
}

static void options_are_judged(void **state) {
    (void)state;
    assert_int_equal(crit_policy_check(CRIT_POLICY_DECODE, "subgen:mode=stream,delta=2.5,seed=0", NULL), CRIT_OK);
    refuses("subgen:mode=cluster", "not one of its words, the first is kcenter");
    refuses("subgen:k=0", "k=0 is not in 1..");
    refuses("subgen:window=31", "window=31 is not in 32..");
    refuses("subgen:m=1", "m=1 is not in 2..");
    refuses("subgen:delta=-1", "delta=-1 is not in 0..");
    refuses("subgen:t=1.5", "not a whole number");
    refuses("subgen:correct=2", "correct=2 is not in 0..1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_follow_the_formulas),  cmocka_unit_test(a_window_over_all_is_full),
        cmocka_unit_test(the_stream_is_fed_in_order), cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(cuts_are_noticed),           cmocka_unit_test(bytes_grow_with_what_is_kept),
        cmocka_unit_test(values_of_zero_are_no_harm), cmocka_unit_test(options_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
