/* SPDX-License-Identifier: MIT */
/* See policy_bed.h. */
#include "policy_bed.h"

#include "kv/narrow.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float uniform(uint64_t *rng) {
    *rng = *rng * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*rng >> 32) * 0x1p-31f;
}

static size_t q_row(const bed *b) {
    return (size_t)b->s.n_head * b->s.d;
}
static size_t kv_row(const bed *b) {
    return (size_t)b->s.n_kv_head * b->s.d;
}
static size_t at(const bed *b, uint32_t pos, uint32_t layer) {
    return (size_t)pos * b->s.n_layer + layer;
}

const float *bed_q(const bed *b, uint32_t layer, uint32_t pos) {
    return b->q + at(b, pos, layer) * q_row(b);
}

/* Keys drift; two thirds of the heads look for single far keys, and successive queries of a head for the same ones for
 * a while, as real heads do. */
static void fill(bed *b, uint64_t seed) {
    uint64_t rng = seed * 2 + 1;
    uint32_t n_group = b->s.n_head / b->s.n_kv_head, d = b->s.d;
    for (uint32_t l = 0; l < b->s.n_layer; l++)
        for (uint32_t t = 0; t < b->n_ctx; t++) {
            float *k = b->k + at(b, t, l) * kv_row(b), *v = b->v + at(b, t, l) * kv_row(b);
            for (size_t i = 0; i < kv_row(b); i++) {
                k[i] = uniform(&rng) + (t ? 0.8f * b->k[at(b, t - 1, l) * kv_row(b) + i] : 0);
                v[i] = uniform(&rng);
            }
            for (uint32_t h = 0; h < b->s.n_head; h++) {
                size_t far = (t / 24 * 2654435761u + h * 40503u) % (t / 24 * 24 + 1);
                const float *to = b->k + at(b, (uint32_t)far, l) * kv_row(b) + (size_t)(h / n_group) * d;
                float *q = b->q + at(b, t, l) * q_row(b) + (size_t)h * d;
                for (uint32_t i = 0; i < d; i++) q[i] = uniform(&rng) + 0.9f * (float)(h % 3) * to[i];
            }
        }
}

void bed_token(bed *b) {
    assert_true(b->n_tok < b->n_ctx);
    for (uint32_t l = 0; l < b->s.n_layer; l++) {
        size_t from = at(b, b->n_tok, l) * kv_row(b);
        for (uint32_t h = 0; h < b->s.n_kv_head; h++)
            crit_kv_put(&b->kv[l], h, b->n_tok, 1, b->k + from + (size_t)h * b->s.d, kv_row(b),
                        b->v + from + (size_t)h * b->s.d, kv_row(b));
        crit_kv_advance(&b->kv[l], 1);
    }
    b->n_tok++;
}

static void show_queries(bed *b) {
    crit_error err = {0};
    uint32_t n_q = b->policy->n_query < b->n_tok ? b->policy->n_query : b->n_tok;
    for (uint32_t l = 0; l < b->s.n_layer && n_q; l++)
        if (b->policy->prompt(b->state, &b->env, l, &b->kv[l], bed_q(b, l, b->n_tok - n_q), b->s.n_layer * q_row(b),
                              n_q, &err))
            fail_msg("%s", err.message);
}

void bed_open(bed *b, bed_shape s, uint32_t n_prompt, uint32_t n_ctx, uint64_t seed, unsigned threads,
              const char *policy) {
    crit_error err = {0};
    *b = (bed){.s = s, .n_prompt = n_prompt, .n_ctx = n_ctx};
    crit_kernels_init(&b->kernels, crit_cpu_detect());
    assert_int_equal(crit_pool_open(&b->pool, threads, false, NULL), CRIT_OK);
    b->kv = calloc(s.n_layer, sizeof *b->kv);
    b->q = malloc((size_t)n_ctx * s.n_layer * q_row(b) * sizeof *b->q);
    b->k = malloc((size_t)n_ctx * s.n_layer * kv_row(b) * sizeof *b->k);
    b->v = malloc((size_t)n_ctx * s.n_layer * kv_row(b) * sizeof *b->v);
    b->out = malloc(q_row(b) * sizeof *b->out);
    uint32_t n_blk = n_ctx / CRIT_BLK_LEN + 1;
    b->all_blk = malloc(n_blk * sizeof *b->all_blk);
    assert_true(b->kv && b->q && b->k && b->v && b->out && b->all_blk);
    for (uint32_t i = 0; i < n_blk; i++) b->all_blk[i] = i;
    for (uint32_t l = 0; l < s.n_layer; l++)
        assert_int_equal(crit_kv_init(&b->kv[l], &b->kernels, s.n_kv_head, s.d, n_ctx, NULL), CRIT_OK);
    size_t slice = (crit_attend_scratch_bytes(s.d) + 127) & ~(size_t)63;
    b->env = (crit_decode_env){.pool = b->pool,
                               .kernels = &b->kernels,
                               .n_layer = s.n_layer,
                               .n_head = s.n_head,
                               .n_kv_head = s.n_kv_head,
                               .n_group = s.n_head / s.n_kv_head,
                               .d = s.d,
                               .n_ctx = n_ctx,
                               .scale = 1 / sqrtf((float)s.d),
                               .store_share = 1,
                               .n_rot = s.d / 2 / 2 * 2, /* some rotate */
                               .neox = s.d % 16 == 0,
                               .all_blk = b->all_blk,
                               .scratch = crit_malloc(threads, slice),
                               .scratch_slice = slice};
    for (uint32_t i = 0; i < b->env.n_rot / 2; i++) b->freq[i] = pow(10000, -2.0 * i / b->env.n_rot);
    b->env.rope_freq = b->freq;
    fill(b, seed);
    if (crit_policy_parse(CRIT_POLICY_DECODE, policy, &b->policy, &b->values, &err)) fail_msg("%s", err.message);
    if (b->policy->open && b->policy->open(&b->state, &b->env, &b->values, &err)) fail_msg("%s", err.message);
    while (b->n_tok < n_prompt) bed_token(b);
    show_queries(b);
}

void bed_store(bed *b, const char *text, uint32_t first) {
    crit_error err = {0};
    crit_policy_values values;
    if (!b->kv_policy) {
        if (crit_policy_parse(CRIT_POLICY_KV, text, &b->kv_policy, &values, &err)) fail_msg("%s", err.message);
        assert_int_equal(crit_policy_pair(b->policy, b->kv_policy, &err), CRIT_OK);
        if (b->kv_policy->open(&b->kv_state, &b->env, &values, &err)) fail_msg("%s", err.message);
    }
    uint32_t n_q = b->kv_policy->n_query < b->n_tok ? b->kv_policy->n_query : b->n_tok;
    for (uint32_t l = 0; l < b->s.n_layer; l++) {
        crit_narrow_open(&b->kv[l], b->pool);
        if (b->kv_policy->store(b->kv_state, &b->env, l, &b->kv[l], first, bed_q(b, l, b->n_tok - n_q),
                                b->s.n_layer * q_row(b), n_q, &err))
            fail_msg("%s", err.message);
        crit_narrow_shut(&b->kv[l]);
    }
    show_queries(b);
}

void bed_close(bed *b) {
    if (b->policy->close) b->policy->close(b->state);
    if (b->kv_policy) b->kv_policy->close(b->kv_state);
    for (uint32_t l = 0; l < b->s.n_layer; l++) crit_kv_clear(&b->kv[l]);
    crit_decode_env_clear(&b->env);
    crit_free(b->env.scratch);
    crit_pool_close(&b->pool);
    free(b->kv);
    free(b->q);
    free(b->k);
    free(b->v);
    free(b->out);
    free(b->all_blk);
}

void bed_decode(bed *b, uint32_t layer) {
    crit_error err = {0};
    crit_decode_job job = {&b->env, layer, &b->kv[layer], b->n_tok, bed_q(b, layer, b->n_tok - 1), b->out};
    memset(b->out, 0xff, q_row(b) * sizeof *b->out);
    if (b->policy->stages) {
        crit_pieces p;
        crit_stage stage[2];
        crit_piece *piece = malloc(crit_pieces_of(b->n_tok / CRIT_BLK_LEN + 1) * sizeof *piece);
        assert_non_null(piece);
        if (b->policy->stages(&job, &p, piece, stage, &err)) fail_msg("%s", err.message);
        crit_pool_run_stages(b->pool, stage, 2);
        free(piece);
    } else if (b->policy->decode(b->state, &job, &err)) {
        fail_msg("%s", err.message);
    }
}

double bed_chunk_bound(const bed *b) {
    switch (b->kernels.attend_kind) {
    case CRIT_ACT_BF16:
        return 5e-2;
    case CRIT_ACT_I16: /* 64 u = 1e-3 of the largest value at most, if all roundings of P agree */
        return 1e-3;
    default:
        return 3e-5;
    }
}

double bed_exact(const bed *b, uint32_t layer, uint32_t head, const uint32_t *pos, uint32_t n, double *out,
                 double *vbar_in, double *vbar_out) {
    uint32_t d = b->s.d, kv_head = head / (b->s.n_head / b->s.n_kv_head);
    const float *q = bed_q(b, layer, b->n_tok - 1) + (size_t)head * d;
    float *k = malloc((size_t)b->n_tok * d * sizeof *k), *v = malloc((size_t)b->n_tok * d * sizeof *v);
    double *w = malloc(b->n_tok * sizeof *w), top = -(double)INFINITY, in = 0, all = 0;
    bool *has = calloc(b->n_tok, sizeof *has);
    assert_true(k && v && w && has);
    crit_kv_get(&b->kv[layer], kv_head, 0, b->n_tok, k, v);
    for (uint32_t j = 0; j < b->n_tok; j++) {
        w[j] = 0;
        for (uint32_t i = 0; i < d; i++) w[j] += (double)q[i] * (double)k[(size_t)j * d + i];
        w[j] *= (double)b->env.scale;
        if (w[j] > top) top = w[j];
    }
    for (uint32_t i = 0; i < n; i++) {
        assert_true(pos[i] < b->n_tok && !has[pos[i]]); /* of the timeline, each once */
        has[pos[i]] = true;
    }
    double *vin = calloc(d, sizeof *vin), *vout = calloc(d, sizeof *vout);
    assert_true(vin && vout);
    for (uint32_t j = 0; j < b->n_tok; j++) {
        w[j] = exp(w[j] - top);
        all += w[j];
        in += has[j] ? w[j] : 0;
        for (uint32_t i = 0; i < d; i++) (has[j] ? vin : vout)[i] += w[j] * (double)v[(size_t)j * d + i];
    }
    for (uint32_t i = 0; i < d; i++) {
        out[i] = vin[i] / in;
        if (vbar_in) vbar_in[i] = vin[i] / in;
        if (vbar_out) vbar_out[i] = in < all ? vout[i] / (all - in) : 0;
    }
    free(k), free(v), free(w), free(has), free(vin), free(vout);
    return in / all;
}
