/* SPDX-License-Identifier: MIT */
/* Laws of TokenSelect's compact positions, against keys and queries without rotations that the test keeps itself: what
 * is read stands side by side, from 0 on in the order of the text, the query behind it; votes see no candidate farther
 * away than they may; parts, calls and threads change no bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/tokenselect.h"
#include "policy_bed.h"

static const bed_shape shapes[] = {{2, 6, 2, 40}, {2, 4, 1, 64}}; /* pairs of neighbours, of halves */
enum { TURN_KEYS = 256 };

static void *array(size_t n, size_t size) {
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

/* A bed whose keys and queries are kept as they were before RoPE. */
typedef struct plain {
    bed b;
    float *q, *k;
} plain;

static void turn(const bed *b, const float *x, double by, double *out) {
    uint32_t half = b->env.n_rot / 2;
    for (uint32_t i = 0; i < b->s.d; i++) out[i] = (double)x[i];
    for (uint32_t i = 0; i < half; i++) {
        uint32_t one = b->env.neox ? i : 2 * i, two = b->env.neox ? i + half : 2 * i + 1;
        double c = cos(by * b->freq[i]), s = sin(by * b->freq[i]), u = out[one], v = out[two];
        out[one] = u * c - v * s;
        out[two] = u * s + v * c;
    }
}

static void rotate_rows(const bed *b, float *x, uint32_t n_head) {
    double y[64];
    for (size_t r = 0; r < (size_t)b->n_ctx * b->s.n_layer * n_head; r++) {
        float *row = x + r * b->s.d;
        turn(b, row, (double)(r / n_head / b->s.n_layer), y);
        for (uint32_t i = 0; i < b->s.d; i++) row[i] = (float)y[i];
    }
}

static void open_plain(plain *p, bed_shape s, uint32_t n_prompt, uint32_t n_ctx, uint64_t seed, unsigned threads,
                       const char *text) {
    bed *b = &p->b;
    bed_open(b, s, 0, n_ctx, seed, threads, text);
    size_t n_q = (size_t)n_ctx * s.n_layer * s.n_head * s.d, n_k = (size_t)n_ctx * s.n_layer * s.n_kv_head * s.d;
    p->q = array(n_q, sizeof *p->q);
    p->k = array(n_k, sizeof *p->k);
    memcpy(p->q, b->q, n_q * sizeof *p->q);
    memcpy(p->k, b->k, n_k * sizeof *p->k);
    rotate_rows(b, b->q, s.n_head);
    rotate_rows(b, b->k, s.n_kv_head);
    while (b->n_tok < n_prompt) bed_token(b);
}

static void close_plain(plain *p) {
    free(p->q), free(p->k);
    bed_close(&p->b);
}

static const float *plain_q(const plain *p, uint32_t layer, uint32_t pos, uint32_t head) {
    const bed_shape *s = &p->b.s;
    return p->q + (((size_t)pos * s->n_layer + layer) * s->n_head + head) * s->d;
}

static const float *plain_k(const plain *p, uint32_t layer, uint32_t pos, uint32_t kv_head) {
    const bed_shape *s = &p->b.s;
    return p->k + (((size_t)pos * s->n_layer + layer) * s->n_kv_head + kv_head) * s->d;
}

static double dot(const double *a, const double *b, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Attention of the query at position `at` over pos [n], its own the last: each key at its place, or, with gaps, at its
 * position. */
static void reference(const plain *p, uint32_t layer, uint32_t head, uint32_t at, const uint32_t *pos, uint32_t n,
                      bool gaps, double *out) {
    const bed *b = &p->b;
    uint32_t d = b->s.d, kv_head = head / b->env.n_group;
    double q[64], k[64], *w = array(n, sizeof *w), top = -(double)INFINITY, sum = 0;
    float *v = array((size_t)(at + 1) * d, sizeof *v);
    crit_kv_get(&b->kv[layer], kv_head, 0, at + 1, NULL, v);
    assert_int_equal(pos[n - 1], at);
    turn(b, plain_q(p, layer, at, head), gaps ? at : n - 1, q);
    for (uint32_t i = 0; i < n; i++) {
        turn(b, plain_k(p, layer, pos[i], kv_head), gaps ? pos[i] : i, k);
        w[i] = dot(q, k, d) * (double)b->env.scale;
        top = fmax(top, w[i]);
    }
    for (uint32_t i = 0; i < d; i++) out[i] = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += w[i] = exp(w[i] - top);
        for (uint32_t j = 0; j < d; j++) out[j] += w[i] * (double)v[(size_t)pos[i] * d + j];
    }
    for (uint32_t j = 0; j < d; j++) out[j] /= sum;
    free(w), free(v);
}

/* Largest difference of a head's result from the reference; *gap: of the reference from one with the text's positions.
 */
static double difference(const plain *p, uint32_t layer, uint32_t head, uint32_t at, const uint32_t *pos, uint32_t n,
                         const float *got, double *gap) {
    double want[64], far[64], worst = 0;
    reference(p, layer, head, at, pos, n, false, want);
    reference(p, layer, head, at, pos, n, true, far);
    for (uint32_t i = 0; i < p->b.s.d; i++) {
        worst = fmax(worst, fabs((double)got[i] - want[i]));
        *gap = fmax(*gap, fabs(far[i] - want[i]));
    }
    return worst;
}

/* Keys are rounded twice, to 11 bits or 8; with bf16 tiles queries and weights are, too. */
static double tolerance(const bed *b) {
    return b->kernels.kv_layout == CRIT_KV_BF16T ? 6e-2 : 4e-3;
}

static void decoding_reads_side_by_side(void **state) {
    (void)state;
    static const char *const texts[] = {"tokenselect:k=96,init=40,local=64,theta=1.1,min=0,positions=compact",
                                        "tokenselect:k=64,init=0,local=32,theta=-1,min=0,positions=compact"};
    for (size_t i = 0; i < 4; i++) {
        plain p;
        double gap = 0;
        uint32_t *pos = array(1300, sizeof *pos), h = 0;
        open_plain(&p, shapes[i / 2], 1100, 1300, 3 + i, 2, texts[i % 2]);
        bed *b = &p.b;
        for (uint32_t t = 0; t < 90; t++) {
            bed_token(b);
            for (uint32_t l = 0; l < b->s.n_layer; l++) {
                bed_decode(b, l);
                uint32_t n = b->policy->kept(b->state, l, 0, b->n_tok, pos);
                assert_true(n <= b->policy->span(&b->values) && n < b->n_tok);
                h = (h + 1) % b->s.n_head;
                double worst = difference(&p, l, h, b->n_tok - 1, pos, n, b->out + (size_t)h * b->s.d, &gap);
                if (!(worst <= tolerance(b)))
                    fail_msg("%s: %g off at %u tokens, head %u", texts[i % 2], worst, b->n_tok, h);
            }
        }
        assert_true(gap > 4 * tolerance(b)); /* other positions would show */
        free(pos);
        close_plain(&p);
    }
}

/* ---- the prompt ---- */

static float *read_part(plain *p, const char *text, uint32_t pos0, uint32_t n) {
    bed *b = &p->b;
    const crit_policy *policy;
    crit_policy_values values;
    crit_error err = {0};
    void *state;
    size_t row = (size_t)b->s.n_head * b->s.d;
    float *out = array(n * row, sizeof *out);
    if (crit_policy_parse(CRIT_POLICY_PREFILL, text, &policy, &values, &err)) fail_msg("%s", err.message);
    assert_int_equal(policy->open(&state, &b->env, &values, &err), CRIT_OK);
    crit_prefill_job job = {.env = &b->env,
                            .kv = &b->kv[0],
                            .pos0 = pos0,
                            .n_tok = n,
                            .q = bed_q(b, 0, pos0),
                            .q_stride = row * b->s.n_layer,
                            .out = out,
                            .out_stride = row};
    assert_int_equal(policy->chunk(state, &job, &err), CRIT_OK);
    policy->close(state);
    return out;
}

/* The votes on [from, to) of queries q [n_head][d] without rotation, in double: each run of candidates sees them at
 * min(to + local, the run's last + far). */
static void votes_of(const plain *p, const double *q, uint32_t from, uint32_t to, uint32_t local, uint32_t far,
                     double *vote) {
    const bed *b = &p->b;
    uint32_t d = b->s.d, n = to - from;
    float *stored = array((size_t)n * d, sizeof *stored);
    double *w = array(n, sizeof *w);
    memset(vote, 0, n * sizeof *vote);
    for (uint32_t h = 0; h < b->s.n_head; h++) {
        double top = -(double)INFINITY, sum = 0;
        crit_kv_get(&b->kv[0], h / b->env.n_group, from, n, stored, NULL); /* rotated by their positions */
        for (uint32_t j = 0; j < n; j++) {
            uint32_t last = from + j / TURN_KEYS * TURN_KEYS + TURN_KEYS - 1;
            if (last > to - 1) last = to - 1;
            double at = last + far < to + local ? last + far : to + local, k[64];
            float flat[64];
            double turned[64];
            for (uint32_t i = 0; i < d; i++) flat[i] = (float)q[(size_t)h * d + i];
            turn(b, flat, at, turned);
            for (uint32_t i = 0; i < d; i++) k[i] = (double)stored[(size_t)j * d + i];
            w[j] = dot(turned, k, d);
            top = fmax(top, w[j]);
        }
        for (uint32_t j = 0; j < n; j++) sum += w[j] = exp(w[j] - top);
        for (uint32_t j = 0; j < n; j++) vote[j] += w[j] / sum;
    }
    free(stored), free(w);
}

/* The n_pick positions of most votes; *edge: how close, relatively, the worst of them is to the best of the others. */
static void best_of(const double *vote, uint32_t from, uint32_t n, uint32_t n_pick, uint32_t *pos, double *edge) {
    uint32_t at = 0;
    double in = (double)INFINITY, out = 0;
    for (uint32_t j = 0; j < n; j++) {
        uint32_t better = 0;
        for (uint32_t o = 0; o < n; o++) better += vote[o] > vote[j];
        if (better < n_pick)
            pos[at++] = from + j, in = fmin(in, vote[j]);
        else
            out = fmax(out, vote[j]);
    }
    assert_int_equal(at, n_pick);
    *edge = in / out - 1;
}

/* Parts of a prompt: the choice by the mean of queries without rotations, then each row.  A choice on the edge, where
 * sums in f32 may decide otherwise, is left to another seed. */
static void reading_is_side_by_side(void **state) {
    (void)state;
    enum { INIT = 40, K = 100, LOCAL = 64, POS0 = 1152, N = 256, CHUNK = 256, FAR = 300 };
    const char *text = "tokenselect:k=100,init=40,local=64,chunk=256,min=0,positions=compact";
    unsigned n_checked = 0;
    for (uint64_t seed = 1; seed < 12; seed++) {
        plain p, c;
        bed_shape s = shapes[seed % 2];
        open_plain(&p, s, POS0 + N, 1500, seed, 1, "full");
        open_plain(&c, s, POS0 + N, 1500, seed, 3, "full");
        p.b.env.n_ctx_train = c.b.env.n_ctx_train = FAR * 4 / 3;
        float *out = read_part(&p, text, POS0, N), *other = read_part(&c, text, POS0, N);
        assert_memory_equal(out, other, (size_t)N * s.n_head * s.d * sizeof *out);
        double *mean = array((size_t)s.n_head * s.d, sizeof *mean), *vote = array(POS0, sizeof *vote), edge, gap = 0;
        uint32_t *pos = array(POS0 + N, sizeof *pos);
        for (uint32_t t = 0; t < N; t++)
            for (uint32_t i = 0; i < s.n_head * s.d; i++) mean[i] += (double)plain_q(&p, 0, POS0 + t, 0)[i] / N;
        votes_of(&p, mean, INIT, POS0, LOCAL, FAR, vote);
        best_of(vote, INIT, POS0 - INIT, K, pos + INIT, &edge);
        for (uint32_t i = 0; i < INIT; i++) pos[i] = i;
        for (uint32_t r = 0; r < N && edge > 1e-3; r += 51) {
            for (uint32_t i = 0; i <= r; i++) pos[INIT + K + i] = POS0 + i;
            for (uint32_t h = 0; h < s.n_head; h++) {
                const float *got = out + ((size_t)r * s.n_head + h) * s.d;
                double worst = difference(&p, 0, h, POS0 + r, pos, INIT + K + r + 1, got, &gap);
                if (!(worst <= tolerance(&p.b))) fail_msg("seed %d row %u head %u: %g off", (int)seed, r, h, worst);
            }
        }
        if (edge > 1e-3) {
            assert_true(gap > 4 * tolerance(&p.b));
            n_checked++;
        }
        free(out), free(other), free(mean), free(vote), free(pos);
        close_plain(&p), close_plain(&c);
    }
    assert_true(n_checked >= 3);
}

/* Without a gap there is nothing to turn. */
static void room_for_all_is_full(void **state) {
    (void)state;
    plain p, f;
    open_plain(&p, shapes[0], 700, 800, 9, 2, "tokenselect:k=800,positions=compact");
    open_plain(&f, shapes[0], 700, 800, 9, 2, "full");
    for (uint32_t t = 0; t < 5; t++) {
        bed_token(&p.b), bed_token(&f.b);
        bed_decode(&p.b, 0), bed_decode(&f.b, 0);
        assert_memory_equal(p.b.out, f.b.out, (size_t)6 * 40 * sizeof *p.b.out);
    }
    float *some = read_part(&p, "tokenselect:k=512,init=0,local=128,chunk=128,min=0,positions=compact", 512, 128);
    float *all = read_part(&f, "tokenselect:k=512,init=0,local=128,chunk=128,min=0", 512, 128);
    assert_memory_equal(some, all, (size_t)128 * 6 * 40 * sizeof *some);
    free(some), free(all);
    close_plain(&p), close_plain(&f);
}

static void spans_are_told(void **state) {
    (void)state;
    assert_int_equal(crit_policy_span(CRIT_POLICY_DECODE, "tokenselect"), 0);
    assert_int_equal(crit_policy_span(CRIT_POLICY_DECODE, "full"), 0);
    assert_int_equal(crit_policy_span(CRIT_POLICY_DECODE, NULL), 0);
    assert_int_equal(crit_policy_span(CRIT_POLICY_DECODE, "nothing"), 0);
    assert_int_equal(crit_policy_span((crit_policy_place)9, "tokenselect:positions=compact"), 0);
    assert_int_equal(crit_policy_span(CRIT_POLICY_DECODE, "tokenselect:k=100,init=10,local=50,positions=compact"),
                     100 + 10 + 2 * 50 + CRIT_BLK_LEN);
    assert_int_equal(crit_policy_span(CRIT_POLICY_PREFILL, "tokenselect:k=100,init=10,chunk=1024,positions=compact"),
                     100 + 10 + 1024 + CRIT_BLK_LEN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_reads_side_by_side),
        cmocka_unit_test(reading_is_side_by_side),
        cmocka_unit_test(room_for_all_is_full),
        cmocka_unit_test(spans_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
