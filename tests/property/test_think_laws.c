/* SPDX-License-Identifier: MIT */
/* Laws of ThinK, on stores: the channels that go are those with the smallest ||Q_j|| ||K_j||; channels of zeros go
 * first, and cost nothing; what the others cost stays within its bounds; every way of decoding that says so reads what
 * is left, exactly; memory goes down by what was dropped; threads change no bit; opening, cutting, a prompt that fails
 * and a later one leave what they should. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "kv/narrow.h"
#include "policy_bed.h"

static const bed_shape shapes[] = {{2, 4, 4, 64}, {1, 6, 2, 40}, {2, 7, 1, 128}, {1, 16, 2, 64}};
enum { N_SHAPE = sizeof shapes / sizeof *shapes };

/* bf16 keys and queries make scores coarser. */
static double tolerance(const bed *b) {
    return b->kernels.kv_layout == CRIT_KV_BF16T ? 5e-2 : 3e-5;
}

/* Keys of a head at full width, as attention reads them: [n_tok][d]. */
static float *keys_of(const bed *b, uint32_t layer, uint32_t head, uint32_t n) {
    float *k = malloc((size_t)n * b->s.d * sizeof *k);
    assert_non_null(k);
    crit_kv_get(&b->kv[layer], head, 0, n, k, NULL);
    return k;
}

/* A decoded token in every layer, against exact attention over what the policy says it read, as the store has it. */
static void check_step(bed *b) {
    uint32_t *pos = malloc(b->n_tok * sizeof *pos), d = b->s.d;
    double *x = malloc(d * sizeof *x);
    assert_true(pos && x);
    for (uint32_t l = 0; l < b->s.n_layer; l++) {
        bed_decode(b, l);
        for (uint32_t h = 0; h < b->s.n_head; h++) {
            uint32_t n = b->policy->kept(b->state, l, h / b->env.n_group, b->n_tok, pos);
            double size = 1;
            bed_exact(b, l, h, pos, n, x, NULL, NULL);
            for (uint32_t i = 0; i < d; i++) size = fmax(size, fabs(x[i]));
            for (uint32_t i = 0; i < d; i++) {
                double got = (double)b->out[(size_t)h * d + i];
                if (!(fabs(got - x[i]) <= tolerance(b) * size))
                    fail_msg("%s layer %u head %u at %u tokens: %g, exact %g", b->policy->name, l, h, b->n_tok, got,
                             x[i]);
            }
        }
    }
    free(pos), free(x);
}

static const struct {
    const char *decode, *kv;
} pairs[] = {
    {"full", "think:lambda=0.4,from=0"},
    {"full", "think:lambda=0.7,from=0,unit=pair,recent=100"},
    {"recycled:K=128,S=6", "think:lambda=0.5,from=0"},
    {"recycled:K=128,S=6", "think:lambda=0.5,from=0,when=never"},
    {"tokenselect:k=96,init=40,local=64,min=0", "think:lambda=0.4,from=0"},
};

static void any_decoding_reads_it(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++)
        for (size_t i = 0; i < N_SHAPE; i++) {
            bed b;
            bed_open(&b, shapes[i], 700 + 13 * (uint32_t)i, 760, 3 + i, 2, pairs[p].decode);
            bed_store(&b, pairs[p].kv, 0);
            assert_true(b.kv[0].n_narrow >= 576 && b.kv[0].narrow->dk < shapes[i].d);
            for (uint32_t t = 0; t < 15; t++) {
                bed_token(&b);
                check_step(&b);
            }
            bed_close(&b);
        }
}

static void threads_change_nothing(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
        bed b[2];
        for (unsigned i = 0; i < 2; i++) {
            bed_open(&b[i], shapes[1], 2500, 2540, 29, 1 + 2 * i, pairs[p].decode);
            bed_store(&b[i], pairs[p].kv, 0);
        }
        for (uint32_t t = 0; t < 12; t++) {
            for (unsigned i = 0; i < 2; i++) {
                bed_token(&b[i]);
                bed_decode(&b[i], 0);
            }
            assert_memory_equal(b[0].out, b[1].out, (size_t)b[0].s.n_head * b[0].s.d * sizeof *b[0].out);
        }
        bed_close(&b[0]);
        bed_close(&b[1]);
    }
}

static void nothing_dropped_is_nothing_done(void **state) {
    (void)state;
    bed b;
    bed_open(&b, shapes[0], 333, 360, 17, 2, "full");
    bed_store(&b, "think:lambda=0.1,from=0", 0); /* 6 of 64: less than a multiple of 8 */
    assert_true(b.kv[0].n_narrow == 0 && !b.kv[0].narrow);
    bed_close(&b);
    bed_open(&b, shapes[0], 333, 360, 17, 2, "full");
    bed_store(&b, "think:lambda=0.5,from=334", 0); /* too short */
    assert_int_equal(b.kv[0].n_narrow, 0);
    bed_close(&b);
}

/* ---- the choice ---- */

/* || Q_j K_j^T ||_F over the last 32 queries of the head's group, all products one by one; [d]. */
static void brute_scores(const bed *b, uint32_t layer, uint32_t head, const float *k, uint32_t n, double *s) {
    uint32_t d = b->s.d;
    for (uint32_t j = 0; j < d; j++) {
        double sum = 0;
        for (uint32_t t = b->n_tok - 32; t < b->n_tok; t++)
            for (uint32_t g = 0; g < b->env.n_group; g++) {
                double q = (double)bed_q(b, layer, t)[(size_t)(head * b->env.n_group + g) * d + j];
                for (uint32_t i = 0; i < n; i++)
                    sum += q * (double)k[(size_t)i * d + j] * q * (double)k[(size_t)i * d + j];
            }
        s[j] = sqrt(sum);
    }
}

static bool has(const crit_kv *kv, uint32_t head, uint32_t channel) {
    for (uint32_t i = 0; i < kv->narrow->dk; i++)
        if (kv->narrow->chan[head * kv->narrow->dk + i] == channel) return true;
    return false;
}

static void the_least_go(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SHAPE; i++) {
        bed b;
        bed_open(&b, shapes[i], 420, 430, 51 + i, 2, "full");
        float *k[4];
        for (uint32_t h = 0; h < b.s.n_kv_head; h++) k[h] = keys_of(&b, 0, h, b.n_tok);
        bed_store(&b, "think:lambda=0.4,from=0", 0);
        const crit_kv *kv = &b.kv[0];
        assert_int_equal(kv->n_narrow, (420 - 32) / 32 * 32);
        assert_int_equal(kv->narrow->dk, (b.s.d - (uint32_t)(0.4 * b.s.d) + 7) / 8 * 8);
        for (uint32_t h = 0; h < b.s.n_kv_head; h++) {
            double s[128], most_out = 0, least_in = (double)INFINITY, sum = 0, da = 0;
            brute_scores(&b, 0, h, k[h], kv->n_narrow, s);
            for (uint32_t j = 0; j < b.s.d; j++) {
                if (has(kv, h, j)) least_in = fmin(least_in, s[j]);
                if (!has(kv, h, j)) most_out = fmax(most_out, s[j]), sum += s[j];
            }
            assert_true(most_out <= least_in * (1 + 1e-9));
            /* what all scores lose together: at most the sum of what went */
            for (uint32_t t = b.n_tok - 32; t < b.n_tok; t++)
                for (uint32_t g = 0; g < b.env.n_group; g++)
                    for (uint32_t n = 0; n < kv->n_narrow; n++) {
                        const float *q = bed_q(&b, 0, t) + (size_t)(h * b.env.n_group + g) * b.s.d;
                        double x = 0;
                        for (uint32_t j = 0; j < b.s.d; j++)
                            if (!has(kv, h, j)) x += (double)q[j] * (double)k[h][(size_t)n * b.s.d + j];
                        da += x * x;
                    }
            assert_true(sum > 0 && sqrt(da) <= sum * (1 + 1e-9));
            free(k[h]);
        }
        bed_close(&b);
    }
}

static void pairs_go_together(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SHAPE; i++) {
        bed b;
        bed_open(&b, shapes[i], 420, 430, 61 + i, 2, "full");
        bed_store(&b, "think:lambda=0.6,from=0,unit=pair", 0);
        uint32_t half = b.env.n_rot / 2;
        for (uint32_t h = 0; h < b.s.n_kv_head; h++)
            for (uint32_t j = 0; j < half; j++)
                assert_int_equal(has(&b.kv[0], h, b.env.neox ? j : 2 * j),
                                 has(&b.kv[0], h, b.env.neox ? j + half : 2 * j + 1));
        bed_close(&b);
    }
}

/* 24 of 64 channels of the keys are 0, others in each head: those go, and the result is that of full attention. */
static void zeros_go_first_and_cost_nothing(void **state) {
    (void)state;
    bed b, f;
    bed *both[] = {&b, &f};
    for (int i = 0; i < 2; i++) { /* the stores are filled again, with zeros */
        bed *x = both[i];
        bed_open(x, shapes[3], 400, 420, 71, 2, "full");
        for (uint32_t t = 0; t < x->n_ctx; t++)
            for (uint32_t h = 0; h < 2; h++)
                for (uint32_t j = 0; j < 24; j++) x->k[((size_t)t * 2 + h) * 64 + (j * 5 + 7 * h + 3) % 64] = 0;
        crit_kv_cut(&x->kv[0], 0);
        for (x->n_tok = 0; x->n_tok < 400;) bed_token(x);
    }
    bed_store(&b, "think:lambda=0.4,from=0", 0);
    assert_int_equal(b.kv[0].narrow->dk, 40);
    for (uint32_t h = 0; h < 2; h++)
        for (uint32_t j = 0; j < 24; j++) assert_false(has(&b.kv[0], h, (j * 5 + 7 * h + 3) % 64));
    for (uint32_t t = 0; t < 12; t++) {
        bed_token(&b);
        bed_token(&f);
        check_step(&b);
        bed_decode(&f, 0);
        for (uint32_t i = 0; i < 16 * 64; i++)
            assert_true(fabs((double)(b.out[i] - f.out[i])) <= (b.kernels.kv_layout == CRIT_KV_BF16T ? 2e-2 : 1e-6));
    }
    bed_close(&b);
    bed_close(&f);
}

/* || do || <= (e^{2 eta} - 1) max || v ||, eta the largest change of a score. */
static void error_within_eta(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SHAPE; i++) {
        bed b;
        bed_open(&b, shapes[i], 500, 520, 81 + i, 2, "full");
        uint32_t d = b.s.d, n_group = b.env.n_group, pos[520];
        float *k[4];
        for (uint32_t h = 0; h < b.s.n_kv_head; h++) k[h] = keys_of(&b, 0, h, 500);
        double *full = malloc((size_t)b.s.n_head * d * sizeof *full), narrow[128];
        assert_non_null(full);
        for (uint32_t t = 0; t < 500; t++) pos[t] = t;
        for (uint32_t h = 0; h < b.s.n_head; h++) bed_exact(&b, 0, h, pos, 500, full + (size_t)h * d, NULL, NULL);
        bed_store(&b, "think:lambda=0.3,from=0", 0);
        for (uint32_t h = 0; h < b.s.n_head; h++) {
            const float *q = bed_q(&b, 0, 499) + (size_t)h * d, *kh = k[h / n_group];
            float *v = malloc((size_t)500 * d * sizeof *v);
            double eta = 0, most = 0, off = 0;
            assert_non_null(v);
            crit_kv_get(&b.kv[0], h / n_group, 0, 500, NULL, v);
            for (uint32_t t = 0; t < 500; t++) {
                double x = 0, v2 = 0;
                for (uint32_t j = 0; j < d; j++) {
                    if (t < b.kv[0].n_narrow && !has(&b.kv[0], h / n_group, j))
                        x += (double)q[j] * (double)kh[(size_t)t * d + j];
                    v2 += (double)v[(size_t)t * d + j] * (double)v[(size_t)t * d + j];
                }
                eta = fmax(eta, (double)b.env.scale * fabs(x));
                most = fmax(most, sqrt(v2));
            }
            bed_exact(&b, 0, h, pos, 500, narrow, NULL, NULL);
            for (uint32_t j = 0; j < d; j++) off += pow(narrow[j] - full[(size_t)h * d + j], 2);
            assert_true(eta > 0 && off > 0 && sqrt(off) <= expm1(2 * eta) * most);
            free(v);
        }
        for (uint32_t h = 0; h < b.s.n_kv_head; h++) free(k[h]);
        free(full);
        bed_close(&b);
    }
}

/* ---- memory ---- */

static size_t resident_key_bytes(const crit_kv *kv) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 0;
    uintptr_t from = (uintptr_t)kv->k & ~(page - 1), end = (uintptr_t)kv->v;
    for (; from + page <= end; from += page) {
        unsigned char in = 0;
        if (mincore((void *)from, page, &in) == 0) n += in & 1 ? page : 0;
    }
    return n;
}

static void memory_goes(void **state) {
    (void)state;
    for (int never = 0; never < 2; never++) {
        bed b;
        bed_open(&b, (bed_shape){1, 4, 2, 64}, 8192 + 32, 8300, 91, 2, "full");
        size_t before = crit_kv_used_bytes(&b.kv[0]), pages = resident_key_bytes(&b.kv[0]);
        assert_true(pages >= (size_t)2 * 8192 * 64 * 2); /* or the system cannot tell */
        bed_store(&b, never ? "think:lambda=0.5,when=never" : "think:lambda=0.5", 0);
        assert_int_equal(b.kv[0].n_narrow, 8192);
        size_t rows = (size_t)2 * 8192 * 32 * 2, full = (size_t)2 * 8192 * 64 * 2;
        assert_int_equal(crit_narrow_bytes(&b.kv[0]), rows);
        assert_int_equal(crit_kv_used_bytes(&b.kv[0]), before + rows - (never ? 0 : full));
        assert_true(b.kv[0].narrow->room->map_bytes <= rows + 4096);
        size_t left = resident_key_bytes(&b.kv[0]);
        if (never) assert_int_equal(left, pages);
        /* of each head the part that shares pages with its neighbours stays */
        if (!never) assert_true(left <= pages - full + 4 * 4096);
        b.env.moved_bytes = 0;
        bed_token(&b);
        bed_decode(&b, 0);
        assert_true(b.env.moved_bytes == 2.0 * 2 * (8192 * (64 + 32) + 64 * (64 + 64)));
        bed_close(&b);
    }
}

/* ---- open, cut, later prompts ---- */

static void same_keys(const bed *b, uint32_t n, float *const *want, const char *what) {
    for (uint32_t l = 0; l < b->s.n_layer; l++)
        for (uint32_t h = 0; h < b->s.n_kv_head; h++) {
            float *k = keys_of(b, l, h, n);
            if (memcmp(k, want[l * b->s.n_kv_head + h], (size_t)n * b->s.d * sizeof *k)) fail_msg("keys %s", what);
            free(k);
        }
}

static void take_keys(const bed *b, uint32_t n, float **to) {
    for (uint32_t l = 0; l < b->s.n_layer; l++)
        for (uint32_t h = 0; h < b->s.n_kv_head; h++) to[l * b->s.n_kv_head + h] = keys_of(b, l, h, n);
}

/* Full keys as raw readers see them, and the statistics of every whole block are those of such keys. */
static void check_open(bed *b, float *const *want, const char *what) {
    uint32_t d = b->s.d, n_blk = b->n_tok / CRIT_BLK_LEN;
    for (uint32_t l = 0; l < b->s.n_layer; l++) crit_narrow_open(&b->kv[l], b->pool);
    for (uint32_t l = 0; l < b->s.n_layer; l++) assert_int_equal(b->kv[l].n_narrow, 0);
    same_keys(b, b->n_tok, want, what);
    for (uint32_t l = 0; l < b->s.n_layer; l++)
        for (uint32_t h = 0; h < b->s.n_kv_head; h++)
            for (uint32_t blk = 0; blk < n_blk; blk++) {
                float top[128], low[128], sum[128];
                size_t at = ((size_t)h * b->kv[l].n_blk_cap + blk) * d;
                b->kernels.block_stats(crit_kv_k(&b->kv[l], h) + (size_t)blk * CRIT_BLK_LEN * d, CRIT_BLK_LEN, 0, d,
                                       top, low, sum);
                assert_memory_equal(top, b->kv[l].kmax + at, d * sizeof *top);
                assert_memory_equal(low, b->kv[l].kmin + at, d * sizeof *low);
                assert_memory_equal(sum, b->kv[l].ksum + at, d * sizeof *sum);
            }
    for (uint32_t l = 0; l < b->s.n_layer; l++) crit_narrow_shut(&b->kv[l]);
}

static void opens_to_what_attention_reads(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SHAPE; i++) {
        bed b;
        float *exact[8], *want[8];
        bed_open(&b, shapes[i], 500, 520, 101 + i, 2, "full");
        take_keys(&b, 500, exact);
        bed_store(&b, "think:lambda=0.4,from=0,when=never", 0);
        check_open(&b, exact, "that were to stay");
        take_keys(&b, 500, want);
        bed_close(&b);
        bed_open(&b, shapes[i], 500, 520, 101 + i, 2, "full");
        bed_store(&b, "think:lambda=0.4,from=0", 0);
        same_keys(&b, 500, want, "are others when full ones are freed");
        check_open(&b, want, "filled again");
        check_step(&b);
        bed_close(&b);
        for (uint32_t k = 0; k < shapes[i].n_layer * shapes[i].n_kv_head; k++) free(want[k]), free(exact[k]);
    }
}

static void cut_keeps_what_is_before(void **state) {
    (void)state;
    static const uint32_t to[] = {490, 448, 447, 301, 32, 5, 0};
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        bed b;
        float *want[8];
        bed_open(&b, shapes[0], 500, 560, 111, 2, "full");
        bed_store(&b, "think:lambda=0.4,from=0", 0);
        take_keys(&b, 500, want);
        for (uint32_t l = 0; l < 2; l++) crit_kv_cut(&b.kv[l], to[i]);
        b.n_tok = to[i];
        assert_int_equal(b.kv[1].n_narrow, to[i] < 448 ? to[i] / 32 * 32 : 448);
        if (to[i]) same_keys(&b, to[i], want, "before the cut");
        for (uint32_t t = 0; t < 40; t++) {
            bed_token(&b);
            check_step(&b);
        }
        for (int k = 0; k < 8; k++) free(want[k]);
        take_keys(&b, b.n_tok, want);
        check_open(&b, want, "behind a cut");
        bed_close(&b);
        for (int k = 0; k < 8; k++) free(want[k]);
    }
}

/* A later prompt: what stood before keeps its channels, what came since loses the same ones; when it fails, all is as
 * before. */
static void later_prompts(void **state) {
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        bed b;
        float *old[8], *want[8];
        bed_open(&b, shapes[0], 300, 700, 121, 2, "full");
        bed_store(&b, "think:lambda=0.4,from=0", 0);
        for (uint32_t t = 0; t < 45; t++) bed_token(&b); /* an answer */
        take_keys(&b, 345, old);
        while (b.n_tok < 600) bed_token(&b); /* and a second prompt */
        take_keys(&b, 600, want);
        uint16_t chan[4 * 40];
        memcpy(chan, b.kv[0].narrow->chan, sizeof chan);
        bed_store(&b, "think:lambda=0.4,from=0", 345);
        assert_int_equal(b.kv[0].n_narrow, 544);
        assert_memory_equal(chan, b.kv[0].narrow->chan, sizeof chan);
        for (uint32_t l = 0; l < 2; l++) {
            if (fails) {
                crit_narrow_undo(&b.kv[l]);
                crit_kv_cut(&b.kv[l], 345);
                continue;
            }
            crit_narrow_settle(&b.kv[l]);
            for (uint32_t h = 0; h < 4; h++)
                for (uint32_t t = 0; t < 544; t++)
                    for (uint32_t j = 0; j < 64; j++)
                        if (!has(&b.kv[l], h, j)) want[l * 4 + h][(size_t)t * 64 + j] = 0;
        }
        if (fails) {
            b.n_tok = 345;
            assert_int_equal(b.kv[0].n_narrow, 256);
            same_keys(&b, 345, old, "behind a prompt that failed");
            check_open(&b, old, "behind a prompt that failed, opened");
        } else {
            same_keys(&b, 600, want, "behind a second prompt");
            check_open(&b, want, "behind a second prompt, opened");
        }
        for (uint32_t t = 0; t < 8; t++) {
            bed_token(&b);
            check_step(&b);
        }
        bed_close(&b);
        for (int i = 0; i < 8; i++) free(old[i]), free(want[i]);
    }
}

static void pairs_are_judged(void **state) {
    (void)state;
    crit_error err = {0};
    const crit_policy *think;
    crit_policy_values v;
    assert_int_equal(crit_policy_parse(CRIT_POLICY_KV, "think", &think, &v, &err), CRIT_OK);
    crit_policy narrow_minded = crit_policy_full;
    narrow_minded.name = "reader";
    narrow_minded.any_store = false;
    assert_int_equal(crit_policy_pair(&narrow_minded, think, &err), CRIT_E_ARG);
    assert_non_null(strstr(err.message, "reader reads keys at full width: it does not go with --kv think"));
    assert_int_equal(crit_policy_pair(&narrow_minded, &crit_policy_full_kv, &err), CRIT_OK);
    assert_int_equal(crit_policy_check(CRIT_POLICY_KV, NULL, &err), CRIT_OK);
    assert_int_equal(crit_policy_check(CRIT_POLICY_KV, "think:lambda=0.91", &err), CRIT_E_ARG);
    assert_non_null(strstr(err.message, "lambda=0.91 is not in 0..0.9"));
    assert_int_equal(crit_policy_check(CRIT_POLICY_KV, "recycled", &err), CRIT_E_ARG);
    assert_non_null(strstr(err.message, "--kv: 'recycled' is none of full, think"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_decoding_reads_it),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(nothing_dropped_is_nothing_done),
        cmocka_unit_test(the_least_go),
        cmocka_unit_test(pairs_go_together),
        cmocka_unit_test(zeros_go_first_and_cost_nothing),
        cmocka_unit_test(error_within_eta),
        cmocka_unit_test(memory_goes),
        cmocka_unit_test(opens_to_what_attention_reads),
        cmocka_unit_test(cut_keeps_what_is_before),
        cmocka_unit_test(later_prompts),
        cmocka_unit_test(pairs_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
