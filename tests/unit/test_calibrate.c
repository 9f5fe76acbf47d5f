/* SPDX-License-Identifier: MIT */
/* Probes: exact weights against soft-max in double, what they say of a head, running sums, and the threshold. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sparse/sparse.h"

enum { D = 64, N_KEY = 1000, N_BLK = (N_KEY + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN };

static uint64_t rng = 9;
static float uniform(void) {
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(rng >> 32) * 0x1p-31f;
}

static void weights_are_exact(void **state) {
    (void)state;
    crit_kernels kt;
    crit_kernels_init(&kt, crit_cpu_detect());
    crit_kv kv;
    assert_int_equal(crit_kv_init(&kv, &kt, 2, D, N_KEY, NULL), CRIT_OK);
    float *k = malloc(sizeof *k * N_KEY * D), *q = malloc(sizeof *q * 3 * D);
    for (size_t i = 0; i < N_KEY * D; i++) k[i] = uniform();
    for (size_t i = 0; i < 3 * D; i++) q[i] = 3 * uniform();
    for (size_t i = 0; i < D; i++) k[700 * D + i] = 2 * q[i]; /* what row 0 looks up */
    for (uint32_t h = 0; h < 2; h++) crit_kv_put(&kv, h, 0, N_KEY, k, D, k, D);
    crit_kv_advance(&kv, N_KEY);

    /* The store gives back what attention reads. */
    float *kx = malloc(sizeof *kx * N_KEY * D), *vx = malloc(sizeof *vx * N_KEY * D);
    crit_kv_get(&kv, 1, 0, N_KEY, kx, vx);
    for (size_t i = 0; i < N_KEY * D; i++) {
        assert_true(fabsf(kx[i] - k[i]) <= 0x1p-8f * fabsf(k[i]) + 0x1p-24f);
        assert_true(kx[i] == vx[i]);
    }

    void *scratch = crit_malloc(crit_attend_scratch_bytes(D), 1);
    float mass[3][N_BLK + 1], top[3][N_BLK + 1], lse[3];
    const uint32_t at[] = {N_KEY - 100, N_KEY - 5, N_KEY - 5}; /* what the first one sees is read for all three */
    crit_probe_weights(&kt, &kv, 1, q, 3, at, 0.125f, NULL, scratch, mass[0], top[0], N_BLK + 1, lse);
    for (size_t r = 0; r < 3; r++) {
        const uint32_t pos = at[r];
        double s[N_KEY], all = 0, most = -1e300, sum = 0;
        for (size_t j = 0; j <= pos; j++) {
            s[j] = 0;
            for (size_t i = 0; i < D; i++) s[j] += (double)q[r * D + i] * (double)kx[j * D + i];
            s[j] *= 0.125;
            most = fmax(most, s[j]);
        }
        for (size_t j = 0; j <= pos; j++) all += exp(s[j] - most);
        for (size_t b = 0; b <= pos / CRIT_BLK_LEN; b++) {
            double w = 0, best = 0;
            for (size_t j = b * CRIT_BLK_LEN; j < (b + 1) * CRIT_BLK_LEN && j <= pos; j++) {
                w += exp(s[j] - most) / all;
                best = fmax(best, exp(s[j] - most) / all);
            }
            /* AMX rounds q to bf16: 2^-8 of the scores */
            assert_true(fabs((double)mass[r][b] - w) <= 0.05 * w + 1e-6);
            assert_true(fabs(exp((double)(top[r][b] - lse[r])) - best) <= 0.05 * best + 1e-6);
            sum += (double)mass[r][b];
        }
        assert_true(fabs(sum - 1) < 1e-5);
    }
    crit_probe pr;
    crit_probe_judge(&pr, mass[0], top[0], lse[0], NULL, 24, 1);
    assert_int_equal(pr.peak_blk, 700 / CRIT_BLK_LEN);
    assert_true(pr.peak > CRIT_PEAK_WEIGHT);
    crit_probe_judge(&pr, mass[0], top[0], lse[0], NULL, 10, 1); /* the key is not far now */
    assert_true(pr.peak_blk <= 10 && pr.peak < CRIT_PEAK_WEIGHT);
    free(k), free(q), free(kx), free(vx);
    crit_free(scratch);
    crit_kv_clear(&kv);
}

static void judge_counts_by_octave(void **state) {
    (void)state;
    enum { FREE = 8 };
    /* sink .5; far weights, of which the third block's is one key */
    const float mass[] = {.5f, .1f, .05f, .25f, 0, 0, 0, 0, 0, .1f};
    const float top[] = {-1, -5, -6, -1.386294f, -9, -9, -9, -9, -9, -2}; /* e^-1.386294 = .25 */
    const float share[FREE] = {.5f,    .25f,   .0625f,  .1f,
                               .0125f, .0125f, .03125f, .03125f}; /* * 8: 4 2 .5 .8 .1 .1 .25 .25 */
    crit_probe p;
    crit_gain g = {0};
    crit_probe_judge(&p, mass, top, 0, share, FREE, 1);
    crit_gain_add(&g, &p.mark, 1);
    assert_true(fabs(g.sigma - .8) < 1e-6); /* (.1 + .05 + .25) / .5 */
    assert_int_equal(p.peak_blk, 3);
    float n = 0;
    for (int k = 0; k < CRIT_GAIN_BINS; k++) n += g.n[k];
    assert_true(n == FREE);
    assert_true(g.n[2 - CRIT_GAIN_LOW] == 1 && fabsf(g.use[2 - CRIT_GAIN_LOW] - .2f) < .01f * .2f);
    assert_true(g.n[-1 - CRIT_GAIN_LOW] == 2 && fabsf(g.use[-1 - CRIT_GAIN_LOW] - .5f) < .01f * .5f);
    assert_true(g.peak[-1 - CRIT_GAIN_LOW] == 1);
    crit_probe_judge(&p, mass, top, 0, share, FREE, 2);
    crit_gain_add(&g, &p.mark, 1);
    assert_int_equal(g.n_probe, 2);
    assert_true(fabsf(g.use[-1 - CRIT_GAIN_LOW] - .75f) < .01f * .75f); /* .5 + .5^2 */
    assert_true(fabsf(g.mass[-1 - CRIT_GAIN_LOW] - 1) < .01f);
}

static void running_sums_and_cuts(void **state) {
    (void)state;
    crit_calib c = {0};
    crit_probe p[2];
    assert_int_equal(crit_calib_reserve(&c, 2, 64, 640, NULL), CRIT_OK);
    for (uint32_t e = 0; e < 10; e++) {
        memset(p, 0, sizeof p);
        p[0].mark = (crit_mark){.sigma = (float)e, .peak = e == 5 ? 4 : CRIT_NO_BIN, .n_row = 1};
        p[1].mark = (crit_mark){.sigma = 1, .peak = CRIT_NO_BIN, .n_row = 1};
        p[0].mark.n[3] = 1;
        crit_calib_push(&c, e < 2 ? NULL : p); /* the first two positions have no probe */
    }
    assert_true(c.n == 10 && c.total[0].n_probe == 8 && c.total[0].sigma == 44 && c.total[0].n[3] == 8);
    assert_true(c.total[1].sigma == 8 && c.total[0].peak[4] == 1);
    crit_calib_cut(&c, 64 * 5 + 1); /* the probe at 320 stays */
    assert_true(c.n == 6 && c.total[0].sigma == 14 && c.total[0].n_probe == 4 && c.total[0].peak[4] == 1);
    assert_int_equal(crit_calib_reserve(&c, 2, 64, 64000, NULL), CRIT_OK); /* growing keeps */
    crit_calib_cut(&c, 64 * 5);
    assert_true(c.n == 5 && c.total[0].sigma == 9 && c.total[0].n[3] == 3 && c.total[0].peak[4] == 0);
    crit_calib_clear(&c);
}

/* Up to 16,384 every step has a probe, then every second, from 32,768 every fourth one; each counts for the steps to the
 * next, so that sums are those of all steps if probes say the same; a cut and a snapshot give them again. */
static void probes_get_rare_and_count_for_more(void **state) {
    (void)state;
    assert_true(crit_probe_weight(0, 64) == 1 && crit_probe_weight(255, 64) == 1 && crit_probe_weight(256, 64) == 2);
    assert_true(crit_probe_weight(257, 64) == 0 && crit_probe_weight(512, 64) == 4 && crit_probe_weight(514, 64) == 0);
    assert_true(crit_probe_weight(1 << 26, 64) == 1 << 19); /* a position of 2^32 */
    enum { STEP = 64, N = 40960 / STEP };
    crit_calib c = {0}, again = {0};
    crit_probe p = {.mark = {.sigma = .5f, .peak = 4, .n_row = 1}};
    p.mark.n[3] = 1;
    assert_int_equal(crit_calib_reserve(&c, 1, STEP, 40960, NULL), CRIT_OK);
    uint32_t n_probe = 0, sum = 0;
    for (uint32_t e = 0; e < N; e++) {
        const uint32_t steps = crit_probe_weight(e, STEP);
        crit_calib_push(&c, steps ? &p : NULL);
        n_probe += steps > 0;
        sum += steps;
    }
    assert_true(n_probe == 256 + 128 + 32 && sum == N);
    assert_true(c.total[0].n_probe == N && c.total[0].n[3] == N && c.total[0].peak[4] == N);
    assert_true(c.total[0].sigma == .5 * N);
    crit_blob out = {0};
    crit_calib_save(&c, &out);
    crit_blob_view in = {.p = out.p, .n = out.n};
    assert_int_equal(crit_calib_load(&again, 1, 40960, &in, NULL), CRIT_OK);
    assert_memory_equal(again.total, c.total, sizeof *c.total);
    /* It is that of no shorter timeline: the last entry, of position 40,896, has to lie before the end. */
    in.at = 0;
    assert_int_equal(crit_calib_load(&again, 1, 40897, &in, NULL), CRIT_OK);
    for (uint32_t n_tok = 40896; n_tok; n_tok /= 2) {
        in.at = 0;
        assert_int_equal(crit_calib_load(&again, 1, n_tok, &in, NULL), CRIT_E_FORMAT);
    }
    crit_calib_cut(&c, 32768);
    assert_true(c.n == 512 && c.total[0].n_probe == 512 && c.total[0].n[3] == 512);
    crit_calib_clear(&c), crit_calib_clear(&again);
    crit_free(out.p);
}

static const uint32_t n_free = 200;
static float above(const crit_gain *g, int power, float least, float chance, float p_mass, float recall) {
    return crit_gain_threshold(g, &(crit_gain_want){(float)power, least, chance, p_mass, recall}, n_free);
}

/* Blocks that weigh exactly sigma * share: the threshold is that of the straight line. */
static void threshold_follows_the_gain(void **state) {
    (void)state;
    for (int power = 1; power <= 2; power++) {
        crit_gain g = {.sigma = 40, .n_probe = 100};
        for (int k = 0; k < CRIT_GAIN_BINS; k++) {
            g.n[k] = 1000;
            g.use[k] = 1000 * powf(.4f * ldexpf(1.5f, k + CRIT_GAIN_LOW) / (float)n_free, (float)power);
        }
        const float least = .3f / (float)n_free, t = above(&g, power, least, 0, 0, 0);
        /* middles of octaves stand for 1.5 times their lower ends in one place and sqrt 2 in the other */
        assert_true(t * .4f > .9f * least && t * .4f < 1.1f * least);
        assert_true(above(&g, power, 2 * least, 0, 0, 0) > 1.9f * t);
        /* A head whose small shares hide as much weight as twice the want: everything is kept. */
        crit_gain flat = g;
        for (int k = 0; k < CRIT_GAIN_BINS; k++)
            if (flat.use[k] < 1000 * powf(2 * least, (float)power)) flat.use[k] = 1000 * powf(2 * least, (float)power);
        assert_true(above(&flat, power, least, 0, 0, 0) == 0);
        /* One whose blocks never weigh anything loses nearly all of them. */
        crit_gain none = g;
        memset(none.use, 0, sizeof none.use);
        none.sigma = 1e-4;
        assert_true(above(&none, power, least, 0, 0, 0) * (float)n_free > 8);
        /* Look-ups below the threshold pull it down to their octave, unless so many may be lost. */
        g.peak[2 - CRIT_GAIN_LOW] = 30;
        g.peak[-6 - CRIT_GAIN_LOW] = 1;
        const float low = ldexpf(1, -6) / (float)n_free;
        assert_true(above(&g, power, least, 0, 0, .99f) == low);
        assert_true(above(&g, power, least, 0, 0, .95f) == t);
        /* One look-up in 1,000 blocks of that octave, none in the seven above: one in 8,000 together, then 30. */
        assert_true(above(&g, power, least, 1 / 7500.f, 0, 0) == t);
        assert_true(above(&g, power, least, 1 / 8500.f, 0, 0) == low);
        g.peak[-6 - CRIT_GAIN_LOW] = 0;
        const float four = ldexpf(1, 2) / (float)n_free;
        assert_true(above(&g, power, 1000 * least, .008f, 0, 0) > four);
        assert_true(above(&g, power, 1000 * least, .007f, 0, 0) == four);
        /* At most .03 of the weight may lie below: that is all of the three lowest octaves. */
        for (int k = 0; k < 4; k++) g.mass[k] = 1; /* .01 a probe */
        const float three = above(&g, power, least, 0, .97f, 0);
        assert_true(fabsf(three * (float)n_free / ldexpf(1, 3 + CRIT_GAIN_LOW) - 1) < 1e-3f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_exact),
        cmocka_unit_test(judge_counts_by_octave),
        cmocka_unit_test(running_sums_and_cuts),
        cmocka_unit_test(probes_get_rare_and_count_for_more),
        cmocka_unit_test(threshold_follows_the_gain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
