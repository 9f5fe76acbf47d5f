/* SPDX-License-Identifier: MIT */
/* What sharing a prefix saves: one layer's attention over random keys, shared and unshared in turn. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/measure_impl.h"
#include "policy/bifurcated.h"

enum { READINGS = 9 };

void crit_batch_measure_init(crit_batch_measure *b) {
    *b = (crit_batch_measure){.struct_size = sizeof *b, .n_seq = 16, .n_tok = 8192, .tail_tok = 64};
}

typedef struct stage_mem {
    crit_decode_env env;
    crit_segment **leaf; /* [n_seq] */
    float *q, *out[2];   /* [n_head][n_seq][d]; shared, separate */
    crit_piece *piece[2];
    crit_pieces pieces[2];
} stage_mem;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

static double reading(stage_mem *s, int way) {
    uint64_t t = crit_now_ns();
    crit_pieces_run(&s->pieces[way]);
    return (double)(crit_now_ns() - t) * 1e-9;
}

static crit_status prepare(meas *m, stage_mem *s, crit_batch_measure *b, crit_kv *prefix, crit_error *err) {
    const crit_shape *sh = &b->shape;
    uint32_t longest = b->n_tok > b->tail_tok ? b->n_tok : b->tail_tok, n_blk = longest / CRIT_BLK_LEN + 1;
    uint32_t *all = crit_malloc(n_blk, sizeof *all);
    size_t n_value = (size_t)b->n_seq * sh->n_head * sh->d_head;
    s->env = (crit_decode_env){.pool = m->pool,
                               .kernels = &m->kt,
                               .n_layer = 1,
                               .n_head = sh->n_head,
                               .n_kv_head = sh->n_kv_head,
                               .n_group = sh->n_head / sh->n_kv_head,
                               .d = sh->d_head,
                               .n_ctx = longest,
                               .scale = 1 / sqrtf((float)sh->d_head),
                               .all_blk = all,
                               .scratch = m->scratch,
                               .scratch_slice = m->scratch_slice};
    s->leaf = crit_calloc(b->n_seq, sizeof(crit_segment *));
    s->q = crit_malloc(n_value, sizeof *s->q);
    if (!all || !s->leaf || !s->q) return meas_no_memory(err);
    for (uint32_t i = 0; i < n_blk; i++) all[i] = i;
    meas_normal(m, s->q, n_value);
    crit_segment *root = NULL;
    crit_status st = crit_segment_borrow(&root, prefix, 1, b->n_tok, 0, err);
    for (uint32_t r = 0; r < b->n_seq && !st; r++) {
        st = crit_segment_open(&s->leaf[r], root, r + 1, &s->env, b->tail_tok, err);
        if (st) break;
        crit_kv_clear(&s->leaf[r]->kv[0]);
        st = meas_fill_kv(m, &s->leaf[r]->kv[0], sh->n_kv_head, sh->d_head, b->tail_tok, err);
        s->leaf[r]->n_tok = b->tail_tok;
    }
    crit_segment_release(root);
    for (int way = 0; way < 2 && !st; way++) {
        uint32_t n = crit_bifurcated_pieces(&s->env, s->leaf, b->n_seq, 0, way == 0, NULL);
        s->piece[way] = crit_malloc(n, sizeof(crit_piece));
        s->out[way] = crit_malloc(n_value, sizeof(float));
        if (!s->piece[way] || !s->out[way]) return meas_no_memory(err);
        s->pieces[way] = (crit_pieces){
            .env = &s->env, .q = s->q, .n_row = b->n_seq * s->env.n_group, .piece = s->piece[way], .out = s->out[way]};
        s->pieces[way].n_piece = crit_bifurcated_pieces(&s->env, s->leaf, b->n_seq, 0, way == 0, s->piece[way]);
        st = crit_pieces_prepare(&s->pieces[way], err);
    }
    return st;
}

static void compare(const stage_mem *s, crit_batch_measure *b) {
    float size = 0, off = 0;
    for (size_t i = 0; i < (size_t)b->n_seq * b->shape.n_head * b->shape.d_head; i++) {
        float x = fabsf(s->out[1][i]), dx = fabsf(s->out[0][i] - s->out[1][i]);
        size = x > size ? x : size;
        off = dx > off ? dx : off;
    }
    b->error = (double)off / (double)size;
}

static crit_status run(meas *m, crit_batch_measure *b, crit_error *err) {
    const crit_shape *sh = &b->shape;
    stage_mem s = {.leaf = NULL};
    crit_kv prefix;
    crit_status st = meas_fill_kv(m, &prefix, sh->n_kv_head, sh->d_head, b->n_tok, err);
    if (!st) st = prepare(m, &s, b, &prefix, err);
    if (!st) {
        double t[2][READINGS];
        int n = m->p.quick ? 1 : READINGS;
        for (int way = 0; way < 2; way++) reading(&s, way);
        for (int i = 0; i < n; i++)
            for (int way = 0; way < 2; way++) t[way][i] = reading(&s, way);
        b->shared_s = median(t[0], n);
        b->separate_s = median(t[1], n);
        compare(&s, b);
        double per_tok = 2.0 * sizeof(uint16_t) * sh->n_kv_head * sh->d_head, tails = (double)b->n_seq * b->tail_tok;
        b->kv_bytes = per_tok * (b->n_tok + tails);
        b->separate_bytes = per_tok * ((double)b->n_seq * b->n_tok + tails);
        b->flop = 4.0 * sh->d_head * sh->n_head * b->n_seq * ((double)b->n_tok + b->tail_tok);
        b->n_threads = crit_pool_size(m->pool);
        meas_peaks(m, false, false);
        double peak = meas_peak_of(m, MEAS_ISA(m, attend), CRIT_ACT_F32);
        b->share = b->flop / b->shared_s / (peak * b->n_threads);
    }
    for (uint32_t r = 0; s.leaf && r < b->n_seq; r++) crit_segment_release(s.leaf[r]);
    crit_free(s.leaf);
    crit_free((void *)s.env.all_blk);
    crit_free(s.q);
    for (int way = 0; way < 2; way++) {
        crit_free(s.piece[way]);
        crit_free(s.out[way]);
    }
    crit_decode_env_clear(&s.env);
    crit_kv_clear(&prefix);
    return st;
}

crit_status crit_measure_batch(const crit_measure_params *params, crit_batch_measure *b, crit_error *err) {
    crit_type type;
    if (!b || b->struct_size != sizeof *b) return crit_fail(err, CRIT_E_ARG, "crit_measure_batch: struct_size not set");
    crit_status st = meas_shape_check(&b->shape, &type, err);
    if (st) return st;
    if (b->n_seq == 0 || b->n_seq > 1024 || b->n_tok == 0 || b->n_tok > 1u << 20 || b->tail_tok == 0 ||
        b->tail_tok > 1u << 20)
        return crit_fail(err, CRIT_E_ARG, "crit_measure_batch: %u sequences, %u + %u tokens", b->n_seq, b->n_tok,
                         b->tail_tok);
    meas m;
    st = meas_open(&m, params, NULL, NULL, err);
    if (!st) st = run(&m, b, err);
    meas_close(&m);
    return st;
}
