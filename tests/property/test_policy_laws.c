/* SPDX-License-Identifier: MIT */
/* Laws of every decode policy: with parameters that keep everything it is full attention; what it returns is exact
 * attention over the keys it says it read, so that the identity
 *     o_kept - o_full = (1 - p) (mean value kept - mean value left out)
 * holds with the p it reports; threads change no bit; query head h reads KV head h / group; a cut timeline leaves
 * nothing behind. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy_bed.h"

static const bed_shape shapes[] = {{2, 4, 4, 64}, {1, 6, 2, 40}, {2, 7, 1, 128}, {1, 16, 2, 64}};
enum { N_SHAPE = sizeof shapes / sizeof *shapes };

/* bf16 keys and queries make scores coarser. */
static double tolerance(const bed *b) {
    return b->kernels.kv_layout == CRIT_KV_BF16T ? 5e-2 : 3e-5;
}

/* One decoded token in every layer: the result against exact attention over what was kept.  Returns the mean share of
 * the weight. */
static double check_step(bed *b) {
    uint32_t *pos = malloc(b->n_tok * sizeof *pos), d = b->s.d, n_group = b->env.n_group;
    double *x = malloc(4 * d * sizeof *x), p_sum = 0;
    assert_true(pos && x);
    for (uint32_t l = 0; l < b->s.n_layer; l++) {
        bed_decode(b, l);
        for (uint32_t h = 0; h < b->s.n_head; h++) {
            uint32_t n = b->policy->kept(b->state, l, h / n_group, b->n_tok, pos);
            double *in = x + d, *out = x + 2 * d, *full = x + 3 * d;
            double p = bed_exact(b, l, h, pos, n, x, in, out), size = 0;
            for (uint32_t i = 0; i < d; i++) size = fmax(size, fabs(x[i]));
            for (uint32_t i = 0; i < d; i++) {
                double got = (double)b->out[(size_t)h * d + i];
                if (!(fabs(got - x[i]) <= tolerance(b) * fmax(size, 1)))
                    fail_msg("%s layer %u head %u at %u tokens, %u kept: %g, exact %g", b->policy->name, l, h, b->n_tok,
                             n, got, x[i]);
            }
            for (uint32_t i = 0; i < b->n_tok; i++) pos[i] = i;
            bed_exact(b, l, h, pos, b->n_tok, full, NULL, NULL);
            for (uint32_t i = 0; i < d; i++)
                assert_true(fabs(x[i] - full[i] - (1 - p) * (in[i] - out[i])) < 1e-12 * fmax(1, size));
            p_sum += p;
        }
    }
    free(pos), free(x);
    return p_sum / (b->s.n_layer * b->s.n_head);
}

typedef struct spec {
    const char *sparse, *all; /* policies: keeping some, and everything */
    double least_mass;        /* of the sparse one on these data */
} spec;
static const spec specs[] = {
    {"full", "full", 1},
    {"recycled:K=128,S=6", "recycled:K=100000", .5},
    {"recycled:K=128,S=6", "recycled:S=1,K=32", .5},
    {"recycled:K=192,qc=3,s=0.3,pool=1", "recycled:K=64,qc=1,s=1.1", .5},
    {"recycled:K=128,S=6", "recycled:K=310", .5}, /* below K and an eighth */
    {"recycled:K=128,S=6", "recycled:K=64,min=400", .5},
    {"tokenselect:k=128,init=40,local=64,theta=0.5,min=0", "tokenselect:k=100000", .4},
    {"tokenselect:k=200,init=0,local=33,theta=1.1,vote=scaled,pool=5,min=0", "tokenselect:k=64,local=400", .4},
    {"subgen:k=96,window=64,sinks=32", "subgen:k=200,window=64,sinks=100", .1},
    {"subgen:k=200,window=33,sinks=0", "subgen:window=400,k=1", .1},
    {"squeezed:min=64,levels=1,q=0.7", "squeezed:min=100000", .5},
    {"squeezed:min=64,levels=2,q=0.6,c=0.2,c1=0.05,W=40", "squeezed:min=100000", .5},
};

static void keeps_what_it_says(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof specs / sizeof *specs; p++)
        for (size_t i = 0; i < N_SHAPE; i++) {
            bed b;
            double mass = 0;
            uint32_t n = 21;
            bed_open(&b, shapes[i], 700 + 13 * (uint32_t)i, 760, 3 + i, 2, specs[p].sparse);
            for (uint32_t t = 0; t < n; t++) {
                bed_token(&b);
                mass += check_step(&b) / n;
            }
            if (mass < specs[p].least_mass - 1e-9) fail_msg("%s keeps %g of the weight", specs[p].sparse, mass);
            bed_close(&b);
        }
}

static void everything_is_full(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof specs / sizeof *specs; p++)
        for (size_t i = 0; i < N_SHAPE; i++) {
            bed b, f;
            bed_open(&b, shapes[i], 333, 360, 17 + i, 2, specs[p].all);
            bed_open(&f, shapes[i], 333, 360, 17 + i, 2, "full");
            for (uint32_t t = 0; t < 9; t++) {
                bed_token(&b);
                bed_token(&f);
                for (uint32_t l = 0; l < b.s.n_layer; l++) {
                    bed_decode(&b, l);
                    bed_decode(&f, l);
                    assert_memory_equal(b.out, f.out, (size_t)b.s.n_head * b.s.d * sizeof *b.out);
                }
            }
            bed_close(&b);
            bed_close(&f);
        }
}

static void threads_change_nothing(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof specs / sizeof *specs; p++) {
        bed b, c;
        bed_open(&b, shapes[1], 2100, 2140, 29, 1, specs[p].sparse);
        bed_open(&c, shapes[1], 2100, 2140, 29, 3, specs[p].sparse);
        for (uint32_t t = 0; t < 16; t++) {
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

/* Back to an earlier token and on with others: as if those between had never been. */
static void cut_leaves_nothing(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof specs / sizeof *specs; p++) {
        bed b;
        bed_open(&b, shapes[0], 500, 560, 31, 2, specs[p].sparse);
        for (uint32_t t = 0; t < 11; t++) {
            bed_token(&b);
            check_step(&b);
        }
        if (b.policy->cut) b.policy->cut(b.state, 505);
        for (uint32_t l = 0; l < b.s.n_layer; l++) crit_kv_cut(&b.kv[l], 505);
        b.n_tok = 505;
        for (uint32_t t = 0; t < 11; t++) {
            /* other tokens than before */
            size_t q = (size_t)b.s.n_layer * b.s.n_head * b.s.d, k = (size_t)b.s.n_layer * b.s.n_kv_head * b.s.d;
            memcpy(b.q + b.n_tok * q, b.q + (b.n_tok + 40) * q, q * sizeof *b.q);
            memcpy(b.k + b.n_tok * k, b.k + (b.n_tok + 40) * k, k * sizeof *b.k);
            memcpy(b.v + b.n_tok * k, b.v + (b.n_tok + 40) * k, k * sizeof *b.v);
            bed_token(&b);
            check_step(&b);
        }
        bed_close(&b);
    }
}

/* ---- recycled ---- */

/* What each of the first n keys of a head weighs at most for a query head of the last of them. */
static void best_weights(const bed *b, uint32_t h, uint32_t n, double *best) {
    uint32_t d = b->s.d;
    float *k = malloc((size_t)n * d * sizeof *k);
    double *w = malloc(n * sizeof *w);
    assert_true(k && w);
    crit_kv_get(&b->kv[0], h, 0, n, k, NULL);
    for (uint32_t j = 0; j < n; j++) best[j] = 0;
    for (uint32_t g = 0; g < b->env.n_group; g++) {
        const float *q = bed_q(b, 0, n - 1) + (size_t)(h * b->env.n_group + g) * d;
        double sum = 0;
        for (uint32_t j = 0; j < n; j++) {
            w[j] = 0;
            for (uint32_t i = 0; i < d; i++) w[j] += (double)q[i] * (double)k[(size_t)j * d + i];
            sum += w[j] = exp(w[j] * (double)b->env.scale);
        }
        for (uint32_t j = 0; j < n; j++) best[j] = fmax(best[j], w[j] / sum);
    }
    free(k), free(w);
}

/* The K best of the last choice, then those of them that weighed least make room for what came since. */
static void recycled_keeps_the_best(void **state) {
    (void)state;
    bed b;
    enum { K = 96, S = 90 };
    bed_open(&b, shapes[1], 900, 1000, 41, 2, "recycled:K=96,S=90,pool=1");
    uint32_t pos[1024], chosen = b.n_tok; /* keys when the copy was last chosen */
    double best[1024];
    for (uint32_t t = 0; t < S + 4; t++) {
        bed_token(&b);
        bed_decode(&b, 0);
        bool full = t % S == S - 1; /* the copy chosen from the prompt's last query serves S - 1 steps */
        uint32_t since = b.n_tok - chosen;
        for (uint32_t h = 0; h < b.s.n_kv_head; h++) {
            uint32_t n = b.policy->kept(b.state, 0, h, b.n_tok, pos);
            assert_int_equal(n, full ? b.n_tok : K + 1);
            if (full) continue;
            for (uint32_t i = 0; i < since; i++) assert_int_equal(pos[n - 1 - i], b.n_tok - 1 - i);
            best_weights(&b, h, chosen, best);
            double worst_in = 1, best_out = 0;
            for (uint32_t j = 0, i = 0; j < chosen; j++) {
                bool in = i < n && pos[i] == j;
                i += in;
                if (in) worst_in = fmin(worst_in, best[j]);
                if (!in) best_out = fmax(best_out, best[j]);
            }
            /* key_scores sums in f32 at every level, over keys as they are stored: no bf16 in it */
            assert_true(worst_in > best_out * (1 - 3e-5));
        }
        if (full) chosen = b.n_tok;
    }
    bed_close(&b);
}

/* The copy begins where the timeline is long enough for it, with a full step that chooses. */
static void recycled_begins_where_it_pays(void **state) {
    (void)state;
    bed b;
    bed_open(&b, shapes[0], 280, 300, 45, 1, "recycled:K=256");
    uint32_t pos[1024];
    for (uint32_t t = 0; t < 20; t++) {
        bed_token(&b);
        bed_decode(&b, 0);
        assert_int_equal(b.policy->kept(b.state, 0, 0, b.n_tok, pos), b.n_tok <= 288 ? b.n_tok : 257);
    }
    bed_close(&b);
}

/* Every token since the last full step stays in the copy, and can be chosen by the next. */
static void recycled_loses_no_token(void **state) {
    (void)state;
    bed b;
    bed_open(&b, shapes[3], 300, 420, 43, 2, "recycled:K=64,S=50");
    uint32_t pos[1024];
    for (uint32_t t = 0; t < 49; t++) {
        bed_token(&b);
        bed_decode(&b, 0);
        uint32_t n = b.policy->kept(b.state, 0, 1, b.n_tok, pos);
        assert_int_equal(n, 65);
        for (uint32_t i = 0; i <= t; i++) assert_int_equal(pos[n - 1 - i], b.n_tok - 1 - i);
    }
    bed_token(&b);
    bed_decode(&b, 0);
    assert_int_equal(b.policy->kept(b.state, 0, 1, b.n_tok, pos), b.n_tok);
    bed_close(&b);
}

static void recycled_goes_by_the_query(void **state) {
    (void)state;
    uint32_t pos[1024];
    for (int never = 0; never < 2; never++) {
        bed b;
        bed_open(&b, shapes[0], 300, 420, 47, 1, never ? "recycled:K=64,qc=1,s=-1.1" : "recycled:K=64,qc=2,s=1.1");
        for (uint32_t t = 0; t < 20; t++) {
            bed_token(&b);
            bed_decode(&b, 0);
            bool full = !never && t % 2 == 1;
            assert_int_equal(b.policy->kept(b.state, 0, 0, b.n_tok, pos), full ? b.n_tok : 65);
        }
        bed_close(&b);
    }
}

/* ---- texts ---- */

static void refuses(const char *text, const char *why) {
    crit_error err = {0};
    assert_int_equal(crit_policy_check(CRIT_POLICY_DECODE, text, &err), CRIT_E_ARG);
    if (!strstr(err.message, why)) fail_msg("'%s': '%s' does not say '%s'", text, err.message, why);
}

static void texts_are_judged(void **state) {
    (void)state;
    assert_int_equal(crit_policy_check(CRIT_POLICY_DECODE, NULL, NULL), CRIT_OK);
    assert_int_equal(crit_policy_check(CRIT_POLICY_DECODE, "recycled:S=8,K=64,s=-1e-1", NULL), CRIT_OK);
    refuses("recycle", "'recycle' is none of full, recycled");
    assert_int_equal(crit_policy_check(CRIT_POLICY_DECODE, "tokenselect:k=64:vote=scaled", NULL), CRIT_OK);
    refuses("tokenselect:vote=loud", "not one of its words");
    refuses("recycled:K=31", "K=31 is not in 32..");
    refuses("recycled:K=64.5", "not a whole number");
    refuses("recycled:K=", "not a whole number");
    refuses("recycled:K=0x100", "not a whole number");
    refuses("recycled:K= 64", "not a whole number");
    refuses("recycled:s=nan", "not a number");
    refuses("recycled:s=1,s=0", "given twice");
    refuses("recycled:K", "no option 'K'");
    refuses("recycled:depth=3", "no option 'depth=3'");
    refuses("recycled:", "no option ''");
    refuses("full:x=1", "no option 'x=1'");
    crit_policy_info info = {.struct_size = sizeof info};
    for (size_t i = 0; i < crit_policy_count(); i++) {
        assert_int_equal(crit_policy_get(i, &info), CRIT_OK);
        assert_true(info.name && info.summary && info.source && info.combines);
        assert_true(info.n_option <= CRIT_OPTIONS_MAX);
        for (size_t k = 0; k < info.n_option; k++)
            assert_true(info.options[k].choices ||
                        (info.options[k].lo <= info.options[k].def && info.options[k].def <= info.options[k].hi));
    }
    assert_int_equal(crit_policy_get(crit_policy_count(), &info), CRIT_E_ARG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_it_says),
        cmocka_unit_test(everything_is_full),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(cut_leaves_nothing),
        cmocka_unit_test(recycled_keeps_the_best),
        cmocka_unit_test(recycled_loses_no_token),
        cmocka_unit_test(recycled_goes_by_the_query),
        cmocka_unit_test(texts_are_judged),
        cmocka_unit_test(recycled_begins_where_it_pays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
