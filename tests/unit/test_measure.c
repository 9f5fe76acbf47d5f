/* SPDX-License-Identifier: MIT */
/* The measuring instruments give every row they promise, complete and finite; nothing here looks at how fast. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "critiprefill/measure.h"

#include "core/core.h"
#include "kernels/kernels.h"
#include "kernels/peak.h"

enum { MAX_ROW = 256 };

typedef struct seen {
    size_t n, stop_at;
    struct {
        char group[16], name[48], isa[16], shape[64];
        crit_measure_row r;
    } row[MAX_ROW];
} seen;

static seen got;

static int on_row(void *user, const crit_measure_row *r) {
    seen *s = user;
    assert_true(s->n < MAX_ROW);
    assert_non_null(r->group);
    assert_non_null(r->name);
    assert_non_null(r->isa);
    assert_non_null(r->shape);
    assert_true(r->n_threads >= 1);
    snprintf(s->row[s->n].group, sizeof s->row[s->n].group, "%s", r->group);
    snprintf(s->row[s->n].name, sizeof s->row[s->n].name, "%s", r->name);
    snprintf(s->row[s->n].isa, sizeof s->row[s->n].isa, "%s", r->isa);
    snprintf(s->row[s->n].shape, sizeof s->row[s->n].shape, "%s", r->shape);
    s->row[s->n].r = *r;
    s->n++;
    return s->n == s->stop_at;
}

static crit_measure_params quick(const char *cpu) {
    crit_measure_params p;
    crit_measure_params_init(&p);
    p.cpu = cpu;
    p.n_threads = 2;
    p.quick = true;
    got.n = 0;
    got.stop_at = 0;
    return p;
}

static void sane(const crit_measure_row *r) {
    if (!r->here) {
        assert_true(isnan(r->seconds));
        return;
    }
    bool cost = !strcmp(r->group, "cost"); /* the rest of a straight line, which may be nothing */
    assert_true(isfinite(r->seconds) && (r->seconds > 0 || (cost && r->seconds == 0)));
    assert_true(r->flop >= 0 && r->bytes >= 0);
    assert_true(cost || (isfinite(r->rate) && r->rate > 0));
    assert_true(isnan(r->share) || r->share > 0);
    assert_true(isnan(r->efficiency) || r->efficiency > 0);
}

static size_t count(const char *group, const char *name) {
    size_t n = 0;
    for (size_t i = 0; i < got.n; i++)
        n += !strcmp(got.row[i].group, group) && (!name || !strcmp(got.row[i].name, name));
    return n;
}

static void peaks(void **state) {
    (void)state;
    crit_measure_params p = quick(NULL);
    p.pin = true;
    assert_int_equal(crit_measure_peaks(&p, on_row, &got, NULL), CRIT_OK);
    unsigned have = crit_cpu_detect();
    size_t n_here = 0, n_all = 0;
    const crit_peak *k;
    while ((k = crit_peak_at(n_all))) {
        n_all++;
        n_here += k->run && (k->need & have) == k->need;
    }
    for (size_t i = 0; i < got.n; i++) sane(&got.row[i].r);
    /* One core: all there are, the absent ones named; all cores: those that run. */
    assert_int_equal(count("peak", NULL), n_all + n_here);
    assert_int_equal(count("read", NULL), 4 + 2);
    assert_int_equal(count("read", "memory"), 2);
    /* Work was counted for as many threads as there were. */
    for (size_t i = 0; i < got.n; i++) assert_true(got.row[i].r.n_threads == 1 || got.row[i].r.n_threads == 2);
}

static void kernels_of_a_level(const char *cpu) {
    crit_measure_params p = quick(cpu);
    assert_int_equal(crit_measure_kernels(&p, on_row, &got, NULL), CRIT_OK);
    size_t n_type = 0, n_end = 0;
    for (unsigned t = 0; t < CRIT_T_COUNT; t++) n_type += crit_type_name(t) != NULL;
    assert_int_equal(count("gemm", NULL), 2 * n_type);
    assert_int_equal(count("gemv", NULL), n_type);
    assert_int_equal(count("attend", "d=64"), 2);
    assert_int_equal(count("attend", "d=128"), 2);
    assert_int_equal(count("decode", NULL), 2);
    static const char *const once[] = {"rmsnorm", "rope_norm", "rope_neox", "silu_mul", "add"};
    static const char *const twice[] = {"mean_rows", "score", "share", "select_above", "block_lse", "block_stats"};
    for (size_t i = 0; i < 5; i++) assert_int_equal(count("layer", once[i]), 1);
    for (size_t i = 0; i < 6; i++) assert_int_equal(count("estimate", twice[i]), 2);
    assert_int_equal(count("layer", "kv_put"), 2);
    assert_true(count("layer", "act_pack") >= 1);
    for (size_t i = 0; i < got.n; i++) {
        const crit_measure_row *r = &got.row[i].r;
        sane(r);
        assert_true(r->here);
        n_end += r->at_end;
        /* A sparse row and only that has an efficiency. */
        bool sparse = strstr(got.row[i].shape, "density") != NULL;
        assert_true(isfinite(r->efficiency) == sparse);
        if (!strcmp(cpu, "c") && strcmp(got.row[i].group, "read")) assert_string_equal(got.row[i].isa, "c");
    }
    assert_int_equal(n_end, (count("peak", NULL) + count("read", NULL)) / 2);
    assert_int_equal(count("read", NULL), 2);
}

static void kernels_c(void **state) {
    (void)state;
    kernels_of_a_level("c");
}

static void kernels_auto(void **state) {
    (void)state;
    kernels_of_a_level("auto");
    bool vector = (crit_cpu_detect() & (CRIT_CPU_AVX2 | CRIT_CPU_NEON)) != 0;
    if (vector) assert_true(count("peak", NULL) >= 2);
}

static void stops_when_told(void **state) {
    (void)state;
    crit_error err = {0};
    for (size_t at = 1; at < 30; at += 7) {
        crit_measure_params p = quick(NULL);
        got.stop_at = at;
        assert_int_equal(crit_measure_kernels(&p, on_row, &got, &err), CRIT_E_CANCELLED);
        assert_int_equal(got.n, at);
    }
}

static crit_shape_params small_shape(uint32_t n_tok) {
    crit_shape_params s;
    crit_shape_params_init(&s);
    s.shape = (crit_shape){.n_layer = 3,
                           .n_embd = 256,
                           .n_ff = 512,
                           .n_head = 4,
                           .n_kv_head = 2,
                           .d_head = 64,
                           .n_vocab = 2000,
                           .type = "Q4_K"};
    s.n_tok = n_tok;
    s.budget_s = 0.5;
    return s;
}

static void shape_terms(void **state) {
    (void)state;
    static const uint32_t lengths[] = {1, 127, 1000, 3000, 8192};
    for (size_t i = 0; i < 5; i++) {
        crit_measure_params p = quick(NULL);
        p.quick = i == 4;
        crit_shape_params s = small_shape(lengths[i]);
        crit_shape_times t = {.struct_size = sizeof t};
        s.density = 0.5;
        assert_int_equal(crit_measure_shape(&p, &s, &t, NULL), CRIT_OK);
        assert_int_equal(t.n_threads, 2);
        assert_int_equal(t.n_item, (lengths[i] + 127) / 128 * 4);
        assert_true(t.linear_s > 0 && t.rest_s > 0 && t.vocab_s > 0 && t.embed_s > 0);
        /* Four matrices of n_embd^2 or a half of it, three of n_ff n_embd. */
        double weights = 256.0 * (256 + 128 + 128 + 256) + 3.0 * 512 * 256;
        assert_float_equal((float)(t.linear_flop / (2 * weights * lengths[i])), 1, 1e-5f);
        const crit_shape_attn *a[2] = {&t.dense, &t.sparse};
        for (int k = 0; k < 2; k++) {
            assert_true(a[k]->measured && a[k]->attend_s > 0 && a[k]->flop > 0);
            assert_true(a[k]->n_item_measured >= 1 && a[k]->n_item_measured <= t.n_item);
            double sum = 2 * (t.linear_s + t.rest_s + a[k]->attend_s + a[k]->estimate_s);
            assert_true(a[k]->total_s > sum); /* and what is done once */
        }
        assert_true(t.dense.estimate_s == 0 && t.dense.density == 1);
        double pairs = 0.5 * lengths[i] * (lengths[i] + 1.0);
        assert_float_equal((float)(t.dense.flop / (4.0 * 64 * 4 * pairs)), 1, 1e-5f);
        /* Short prompts are dense whatever is asked for; long ones come out as asked. */
        if (lengths[i] <= 1000)
            assert_true(t.sparse.density == 1 && t.sparse.estimate_s == 0);
        else if (lengths[i] == 8192) {
            assert_true(fabs(t.sparse.density - 0.5) < 0.01);
            assert_true(t.sparse.estimate_s > 0);
        }
    }
}

static void every_item_counts_once(void **state) {
    (void)state;
    crit_measure_params p = quick(NULL);
    p.quick = false;
    crit_shape_params s = small_shape(600);
    crit_shape_times t = {.struct_size = sizeof t};
    s.budget_s = 1000; /* all of it */
    assert_int_equal(crit_measure_shape(&p, &s, &t, NULL), CRIT_OK);
    assert_int_equal(t.dense.n_item_measured, t.n_item);
    assert_false(t.sparse.measured);
    assert_true(t.sparse.total_s == 0);
}

static void tune_rows(void **state) {
    (void)state;
    crit_measure_params p = quick(NULL);
    crit_shape_params s = small_shape(1);
    assert_int_equal(crit_measure_tune(&p, &s.shape, on_row, &got, NULL), CRIT_OK);
    for (size_t i = 0; i < got.n; i++) sane(&got.row[i].r);
    assert_int_equal(count("chunk", NULL), 2);
    static const char *const names[] = {"attend pair",    "attend sparse", "attend tile",
                                        "estimate block", "estimate tile", "calibrate block"};
    for (size_t i = 0; i < 6; i++)
        for (int d = 64; d <= 128; d += 64) {
            char name[48];
            snprintf(name, sizeof name, "%s d=%d", names[i], d);
            assert_int_equal(count("cost", name), 1);
        }
}

static void refuses(void **state) {
    (void)state;
    crit_error err;
    crit_measure_params p = quick("pentium");
    assert_int_equal(crit_measure_peaks(&p, on_row, &got, &err), CRIT_E_ARG);
    p = quick(NULL);
    assert_int_equal(crit_measure_peaks(&p, NULL, NULL, &err), CRIT_E_ARG);
    p.struct_size = 1;
    assert_int_equal(crit_measure_kernels(&p, on_row, &got, &err), CRIT_E_ARG);
    p = quick(NULL);
    crit_shape_times t = {.struct_size = sizeof t};
    crit_shape_params s = small_shape(128);
    s.shape.type = "Q9_9";
    assert_int_equal(crit_measure_shape(&p, &s, &t, &err), CRIT_E_ARG);
    assert_non_null(strstr(err.message, "Q9_9"));
    s = small_shape(128);
    s.shape.n_embd = 320; /* not of whole blocks of 256 */
    assert_int_equal(crit_measure_shape(&p, &s, &t, &err), CRIT_E_ARG);
    s = small_shape(128);
    s.shape.n_head = 3;
    assert_int_equal(crit_measure_shape(&p, &s, &t, &err), CRIT_E_ARG);
    s = small_shape(0);
    assert_int_equal(crit_measure_shape(&p, &s, &t, &err), CRIT_E_ARG);
    s = small_shape(128);
    s.density = 1.5;
    assert_int_equal(crit_measure_shape(&p, &s, &t, &err), CRIT_E_ARG);
    s = small_shape(128);
    s.dense = false;
    assert_int_equal(crit_measure_shape(&p, &s, &t, &err), CRIT_E_ARG);
    s = small_shape(128);
    t.struct_size = 0;
    assert_int_equal(crit_measure_shape(&p, &s, &t, &err), CRIT_E_ARG);
    assert_int_equal(got.n, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peaks),           cmocka_unit_test(kernels_c),   cmocka_unit_test(kernels_auto),
        cmocka_unit_test(stops_when_told), cmocka_unit_test(shape_terms), cmocka_unit_test(every_item_counts_once),
        cmocka_unit_test(tune_rows),       cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
