/* SPDX-License-Identifier: MIT */
/* Laws of TokenSelect: what is chosen has the most votes of all heads, by a count of its own in double; a choice serves
 * until the query turns away or the window has grown; a part of the prompt attends exactly to what was chosen for it,
 * whatever the threads; and to everything where everything fits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/tokenselect.h"
#include "policy_bed.h"

static const bed_shape shape = {2, 6, 2, 40};

static void *array(size_t n, size_t size) {
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

/* Sum over heads of the soft-max of q over keys [from, to). */
static void votes_of(const bed *b, uint32_t layer, const float *q, double scale, uint32_t from, uint32_t to,
                     double *vote) {
    uint32_t d = b->s.d, n = to - from;
    float *k = array((size_t)n * d, sizeof *k);
    double *w = array(n, sizeof *w);
    memset(vote, 0, n * sizeof *vote);
    for (uint32_t h = 0; h < b->s.n_head; h++) {
        double top = -(double)INFINITY, sum = 0;
        crit_kv_get(&b->kv[layer], h / b->env.n_group, from, n, k, NULL);
        for (uint32_t j = 0; j < n; j++) {
            w[j] = 0;
            for (uint32_t i = 0; i < d; i++) w[j] += (double)q[h * d + i] * (double)k[(size_t)j * d + i];
            w[j] *= scale;
            top = fmax(top, w[j]);
        }
        for (uint32_t j = 0; j < n; j++) sum += w[j] = exp(w[j] - top);
        for (uint32_t j = 0; j < n; j++) vote[j] += w[j] / sum;
    }
    free(k), free(w);
}

static void choose(crit_voters *v, bed *b, uint32_t layer, const crit_vote_rule *rule, uint32_t from, uint32_t to,
                   const float *q, uint32_t *pos) {
    crit_vote vote = {v, &b->env, rule, &b->kv[layer], from, to, q, NULL, 0, pos, 0, 0};
    crit_stage stage[CRIT_VOTE_STAGES];
    crit_pool_run_stages(b->pool, stage, crit_vote_stages(&vote, stage));
}

static void the_most_votes_are_chosen(void **state) {
    (void)state;
    for (int scaled = 0; scaled < 2; scaled++) {
        bed b;
        bed_open(&b, shape, 1500, 1600, 5, 2, "full");
        crit_voters v;
        const crit_vote_rule rule = {.n_pick = 90, .pool = 1, .scaled = scaled};
        assert_int_equal(crit_voters_init(&v, &b.env, NULL), CRIT_OK);
        uint32_t from = 37, to = 1411, pos[90];
        double *vote = array(to - from, sizeof *vote), in = (double)INFINITY, out = 0;
        const float *q = bed_q(&b, 1, 1499);
        choose(&v, &b, 1, &rule, from, to, q, pos);
        votes_of(&b, 1, q, scaled ? (double)b.env.scale : 1, from, to, vote);
        for (uint32_t j = from, i = 0; j < to; j++) {
            bool is = i < 90 && pos[i] == j;
            i += is;
            if (is)
                in = fmin(in, vote[j - from]);
            else
                out = fmax(out, vote[j - from]);
        }
        for (uint32_t i = 1; i < 90; i++) assert_true(pos[i - 1] < pos[i]);
        assert_true(pos[0] >= from && pos[89] < to);
        /* logits and soft-max in f32: errors of some 1e-5 of a logit of up to about 30 */
        assert_true(in > out * (1 - 2e-3));
        free(vote);
        crit_voters_clear(&v);
        bed_close(&b);
    }
}

/* Whatever the number of tiles, ties, smoothing and threads: the choice of a full sort by its own votes. */
static void the_choice_is_that_of_a_sort(void **state) {
    (void)state;
    static const struct {
        uint32_t from, to, n_pick, pool;
        float far;
    } cases[] = {{0, 97, 96, 1, 1},     {5, 2300, 40, 1, 1},    {5, 2300, 2200, 1, 1},
                 {64, 2048, 700, 7, 1}, {0, 2048, 512, 129, 1}, {3, 2051, 300, 1, 400} /* most votes are 0 */};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bed b;
        crit_voters v;
        bed_open(&b, shape, 2310, 2400, 51 + i, 1 + (unsigned)i % 3, "full");
        assert_int_equal(crit_voters_init(&v, &b.env, NULL), CRIT_OK);
        uint32_t from = cases[i].from, n = cases[i].to - from, n_pick = cases[i].n_pick;
        uint32_t *pos = array(n_pick, sizeof *pos);
        float q[6 * 40], *by = array(n, sizeof *by);
        for (size_t j = 0; j < sizeof q / sizeof *q; j++) q[j] = cases[i].far * bed_q(&b, 0, 2300)[j];
        for (int again = 0; again < 2; again++) { /* nothing is left of the first */
            const crit_vote_rule rule = {.n_pick = n_pick, .pool = cases[i].pool};
            choose(&v, &b, 0, &rule, from, cases[i].to, q, pos);
            memcpy(by, v.vote, n * sizeof *by);
            if (cases[i].pool > 1) crit_max_pool(v.vote, n, cases[i].pool, by);
            uint32_t at = 0;
            for (uint32_t j = 0; j < n; j++) {
                uint32_t better = 0;
                for (uint32_t o = 0; o < n; o++) better += by[o] > by[j] || (by[o] >= by[j] && o < j);
                if (better < n_pick) assert_int_equal(pos[at++], from + j);
            }
            assert_int_equal(at, n_pick);
        }
        free(pos), free(by);
        crit_voters_clear(&v);
        bed_close(&b);
    }
}

/* The same positions serve until the window has grown by n_local, or from step to step anew. */
static void a_choice_serves_again(void **state) {
    (void)state;
    uint32_t pos[2048], was[2048];
    for (int always = 0; always < 2; always++) {
        bed b;
        bed_open(&b, shape, 1200, 1400, 7, 2,
                 always ? "tokenselect:k=64,init=32,local=64,theta=1.1,min=0"
                        : "tokenselect:k=64,init=32,local=64,theta=-1.1,min=0");
        uint32_t n_new = 0, first = 0;
        for (uint32_t t = 0; t < 150; t++) {
            bed_token(&b);
            for (uint32_t l = 0; l < shape.n_layer; l++) bed_decode(&b, l);
            uint32_t n = b.policy->kept(b.state, 1, 0, b.n_tok, pos);
            assert_int_equal(pos[n - 1], b.n_tok - 1);
            assert_true(n >= 32 + 64 + 64 && n <= 32 + 64 + 2 * 64 + 2 * CRIT_BLK_LEN);
            bool anew = t == 0 || memcmp(pos + 32, was, 64 * sizeof *pos);
            if (anew && !always && n_new++) assert_true(t - first > 64);
            if (anew) first = t;
            memcpy(was, pos + 32, 64 * sizeof *pos);
            double traffic = b.policy->traffic(b.state, &b.env, &b.values, b.n_tok);
            assert_true(always ? traffic > .5 : traffic < .5 || anew);
        }
        /* with 1,201 tokens the window begins at 1,120; it may hold 160, and the next begins at 1,216 */
        if (!always) assert_int_equal(n_new, 2);
        bed_close(&b);
    }
}

typedef struct reading {
    const crit_policy *policy;
    crit_policy_values values;
    void *state;
    float *out; /* [n_tok][n_head][d] */
} reading;

static void read_part(const bed *b, reading *r, const char *text, uint32_t pos0, uint32_t n, double *pairs) {
    crit_error err = {0};
    size_t row = (size_t)b->s.n_head * b->s.d;
    crit_decode_env env = b->env;
    if (crit_policy_parse(CRIT_POLICY_PREFILL, text, &r->policy, &r->values, &err)) fail_msg("%s", err.message);
    assert_int_equal(r->policy->open(&r->state, &env, &r->values, &err), CRIT_OK);
    r->out = array(n * row, sizeof *r->out);
    crit_prefill_job job = {.env = &env,
                            .layer = 0,
                            .kv = &b->kv[0],
                            .pos0 = pos0,
                            .n_tok = n,
                            .q = bed_q(b, 0, pos0),
                            .q_stride = row * b->s.n_layer,
                            .out = r->out,
                            .out_stride = row};
    assert_int_equal(r->policy->chunk(r->state, &job, &err), CRIT_OK);
    *pairs = job.pairs;
    r->policy->close(r->state);
}

/* The part's mean query, its choice among [init, first), and each row exactly. */
static void check_part(bed *b, uint32_t pos0, uint32_t n, uint32_t n_init, uint32_t n_pick, uint32_t first,
                       const float *got) {
    uint32_t d = b->s.d, n_tok = b->n_tok, *pos = array(n_tok, sizeof *pos);
    size_t row = (size_t)b->s.n_head * d;
    float *mean = array(row, sizeof *mean);
    double *x = array(d, sizeof *x);
    crit_voters v;
    for (uint32_t h = 0; h < b->s.n_head; h++)
        b->kernels.mean_rows(bed_q(b, 0, pos0) + (size_t)h * d, row * b->s.n_layer, n, d, mean + (size_t)h * d);
    for (uint32_t i = 0; i < n_init; i++) pos[i] = i;
    assert_int_equal(crit_voters_init(&v, &b->env, NULL), CRIT_OK);
    choose(&v, b, 0, &(crit_vote_rule){.n_pick = n_pick, .pool = 1}, n_init, first, mean, pos + n_init);
    for (uint32_t r = 0; r < n; r += 37) {
        uint32_t n_pos = n_init + n_pick;
        for (uint32_t j = first; j <= pos0 + r; j++) pos[n_pos++] = j;
        b->n_tok = pos0 + r + 1; /* bed_exact takes the last token's query */
        for (uint32_t h = 0; h < b->s.n_head; h++) {
            bed_exact(b, 0, h, pos, n_pos, x, NULL, NULL);
            for (uint32_t i = 0; i < d; i++) {
                double tol = bed_chunk_bound(b), y = (double)got[r * row + h * d + i];
                if (!(fabs(y - x[i]) <= tol * fmax(1, fabs(x[i]))))
                    fail_msg("position %u head %u: %g, exact %g", pos0 + r, h, y, x[i]);
            }
        }
        b->n_tok = n_tok;
    }
    crit_voters_clear(&v);
    free(pos), free(mean), free(x);
}

static void a_part_attends_to_its_choice(void **state) {
    (void)state;
    static const struct part {
        const char *text;
        uint32_t pos0, n, n_init, n_pick, first;
    } parts[] = {
        {"tokenselect:k=100,init=40,local=64,chunk=256,min=0", 1024, 256, 40, 100, 1024},
        {"tokenselect:k=100,init=0,local=64,chunk=128,min=0", 1024, 70, 0, 100, 1024},  /* the prompt's end */
        {"tokenselect:k=64,init=32,local=600,chunk=256,min=0", 1024, 256, 32, 64, 672}, /* a window before the part */
        {"tokenselect:k=64,init=32,local=600,chunk=256,min=0", 1031, 249, 32, 64,
         672}, /* a turn that begins anywhere */
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const struct part *p = &parts[i];
        bed b, c;
        reading r, s;
        double pairs, same, want = 0;
        bed_open(&b, shape, p->pos0 + p->n, 1400, 11 + i, 1, "full");
        bed_open(&c, shape, p->pos0 + p->n, 1400, 11 + i, 3, "full");
        read_part(&b, &r, p->text, p->pos0, p->n, &pairs);
        read_part(&c, &s, p->text, p->pos0, p->n, &same);
        assert_memory_equal(r.out, s.out, (size_t)p->n * shape.n_head * shape.d * sizeof *r.out);
        check_part(&b, p->pos0, p->n, p->n_init, p->n_pick, p->first, r.out);
        for (uint32_t t = 0; t < p->n; t++) want += p->n_init + p->n_pick + p->pos0 + t + 1 - p->first;
        assert_true(fabs(pairs - want * shape.n_head) < 0.5 && pairs == same);
        free(r.out), free(s.out);
        bed_close(&b), bed_close(&c);
    }
}

static void what_fits_is_dense(void **state) {
    (void)state;
    bed b;
    reading r;
    double pairs, want = 0;
    uint32_t *pos = array(1024, sizeof *pos);
    double x[64];
    bed_open(&b, shape, 640, 700, 3, 2, "full");
    read_part(&b, &r, "tokenselect:k=480,init=32,local=128,chunk=128,min=0", 512, 128, &pairs);
    for (uint32_t t = 0; t < 128; t++) want += 512 + t + 1;
    assert_true(fabs(pairs - want * shape.n_head) < 0.5);
    for (uint32_t i = 0; i < 640; i++) pos[i] = i;
    for (uint32_t h = 0; h < shape.n_head; h++) {
        bed_exact(&b, 0, h, pos, 640, x, NULL, NULL);
        for (uint32_t i = 0; i < shape.d; i++)
            assert_true(fabs((double)r.out[(127 * shape.n_head + h) * shape.d + i] - x[i]) <
                        bed_chunk_bound(&b));
    }
    free(r.out), free(pos);
    bed_close(&b);
}

/* Up to min tokens both ways are full attention to the bit, and not beyond; with compact positions never beyond what
 * they span. */
static void short_texts_are_full(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint32_t full;
    } cases[] = {{"tokenselect:k=64,init=32,local=64,min=700", 700},
                 {"tokenselect:k=64,init=32,local=64,min=700,positions=compact", 32 + 64 + 2 * 64 + CRIT_BLK_LEN},
                 {"tokenselect:k=64,init=32,local=64,min=0", 32 + 64 + 64 + CRIT_BLK_LEN - 1}};
    for (size_t i = 0; i < 3; i++) {
        bed b, f;
        bed_open(&b, shape, cases[i].full - 4, 800, 5, 2, cases[i].text);
        bed_open(&f, shape, cases[i].full - 4, 800, 5, 2, "full");
        for (uint32_t t = 0; t < 6; t++) {
            bed_token(&b), bed_token(&f);
            bed_decode(&b, 1), bed_decode(&f, 1);
            bool same = !memcmp(b.out, f.out, (size_t)shape.n_head * shape.d * sizeof *b.out);
            assert_true(same == (b.n_tok <= cases[i].full));
            double traffic = b.policy->traffic(b.state, &b.env, &b.values, b.n_tok);
            assert_true((fabs(traffic - 1) < 1e-9) == (b.n_tok <= cases[i].full));
        }
        bed_close(&b), bed_close(&f);
    }
    for (uint32_t min = 639; min < 641; min++) {
        bed b;
        reading r, all;
        double pairs, whole;
        char text[96];
        bed_open(&b, shape, 640, 700, 3, 2, "full");
        snprintf(text, sizeof text, "tokenselect:k=64,init=32,local=128,chunk=128,min=%u", min);
        read_part(&b, &r, text, 512, 128, &pairs);
        read_part(&b, &all, "tokenselect:k=600,chunk=128", 512, 128, &whole);
        assert_true((pairs < whole) == (min < 640));
        assert_true(!memcmp(r.out, all.out, 128 * shape.n_head * shape.d * sizeof *r.out) == (min == 640));
        free(r.out), free(all.out);
        bed_close(&b);
    }
}

static void chunks_are_judged(void **state) {
    (void)state;
    crit_error err = {0};
    assert_int_equal(crit_policy_check(CRIT_POLICY_PREFILL, "tokenselect:chunk=300", &err), CRIT_E_ARG);
    assert_non_null(strstr(err.message, "chunk=300 is not a multiple of 128"));
    assert_int_equal(crit_policy_check(CRIT_POLICY_PREFILL, "recycled", &err), CRIT_E_ARG);
    assert_non_null(strstr(err.message, "--attn: 'recycled' is none of tokenselect"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_votes_are_chosen), cmocka_unit_test(the_choice_is_that_of_a_sort),
        cmocka_unit_test(a_choice_serves_again),     cmocka_unit_test(a_part_attends_to_its_choice),
        cmocka_unit_test(what_fits_is_dense),        cmocka_unit_test(short_texts_are_full),
        cmocka_unit_test(chunks_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
