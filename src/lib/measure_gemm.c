/* SPDX-License-Identifier: MIT */
/* Products on quantised weights: rates of every type at the row counts of a chunk, of a short prompt's end and of
 * decoding, the packing of the activations included. */
#include <math.h>
#include <stdio.h>

#include "lib/measure_impl.h"

typedef struct gemm_work {
    const meas *m;
    crit_gemm_args a;
    const float *x;
    unsigned char *act;
    crit_act_kind kind;
} gemm_work;

static void pack_rows(gemm_work *w) {
    for (size_t r = 0; r < w->a.n_row; r++)
        w->m->kt.act_pack[w->kind](w->x + r * w->a.n_in, w->a.n_in, w->act + crit_act_at(w->kind, w->a.n_in, r));
}

static void run_gemm(void *arg) {
    gemm_work *w = arg;
    pack_rows(w);
    w->m->kt.gemm[w->a.type](&w->a, 0, w->a.n_out, w->m->scratch);
}

static void run_gemv(void *arg) {
    gemm_work *w = arg;
    pack_rows(w); /* gemv_row has set the kind gemv reads */
    w->m->kt.gemv[w->a.type](&w->a, 0, w->a.n_out);
}

/* Operands of one product with up to max_row rows; false: out of memory. */
static bool open_work(gemm_work *w, meas *m, crit_type type, size_t n_out, size_t n_in, size_t max_row) {
    *w = (gemm_work){.m = m, .kind = (crit_act_kind)m->kt.act_kind[type]};
    size_t many = crit_act_bytes(w->kind, n_in, max_row);
    float *x = crit_malloc(max_row * n_in, sizeof *x);
    w->x = x;
    size_t one = crit_act_row_bytes((crit_act_kind)m->kt.act_kind_one[type], n_in);
    w->act = crit_malloc(1, one > many ? one : many);
    w->a = (crit_gemm_args){.n_out = n_out, .n_in = n_in, .out_stride = n_out, .type = type, .act = w->act};
    w->a.out = crit_malloc(max_row * n_out, sizeof(float));
    w->a.w = meas_weights(m, type, n_out, n_in, &w->a.w_row_bytes);
    if (!x || !w->act || !w->a.out || !w->a.w) return false;
    meas_normal(m, x, max_row * n_in);
    return true;
}

static void close_work(gemm_work *w) {
    crit_free((void *)(uintptr_t)w->x);
    crit_free((void *)(uintptr_t)w->a.w);
    crit_free(w->act);
    crit_free(w->a.out);
}

/* What moves when the operands come from memory once: weights, activations as f32, outputs. */
static double bytes_of(const crit_gemm_args *a) {
    return (double)a->n_out * (double)a->w_row_bytes + 4.0 * (double)a->n_row * (double)(a->n_in + a->n_out);
}

static bool gemm_row(meas *m, gemm_work *w, size_t n_row) {
    char shape[64];
    w->a.n_row = n_row;
    snprintf(shape, sizeof shape, "%zu rows, %zu x %zu", n_row, w->a.n_out, w->a.n_in);
    const char *isa = meas_isa_at(m, offsetof(crit_kernels, gemm) + (size_t)w->a.type * sizeof(crit_gemm_fn));
    crit_measure_row r = {.group = "gemm",
                          .name = crit_type_name((unsigned)w->a.type),
                          .isa = isa,
                          .shape = shape,
                          .flop = 2.0 * (double)n_row * (double)w->a.n_out * (double)w->a.n_in,
                          .bytes = bytes_of(&w->a),
                          .efficiency = MEAS_NEVER};
    r.seconds = meas_cpu_time(m, run_gemm, w);
    r.share = r.flop / r.seconds / meas_peak_of(m, isa, w->kind);
    return meas_row(m, r);
}

void meas_gemm_rows(meas *m) {
    /* The second shape is a small model's down projection; neither fits L1. */
    static const struct { size_t n_out, n_in; } shapes[] = {{1024, 2048}, {896, 4864}};
    for (unsigned t = 0; t < CRIT_T_COUNT && !m->cancelled; t++) {
        if (!crit_type_name(t)) continue;
        for (size_t i = 0; i < 2 && !m->cancelled; i++) {
            gemm_work w;
            size_t most = m->p.quick ? 32 : 512, few = m->p.quick ? 4 : 16;
            if (open_work(&w, m, (crit_type)t, m->p.quick ? 64 : shapes[i].n_out, m->p.quick ? 256 : shapes[i].n_in,
                          most)) {
                gemm_row(m, &w, most);
                if (i == 0 && !m->cancelled) gemm_row(m, &w, few);
            } else
                m->oom = true;
            close_work(&w);
            /* The reference takes a second a product: once is enough. */
            if (m->p.quick || m->kt.cpu == 0) break;
        }
    }
}

void meas_gemv_rows(meas *m) {
    for (unsigned t = 0; t < CRIT_T_COUNT && !m->cancelled; t++) {
        uint32_t elems, bytes;
        if (!crit_type_geometry(t, &elems, &bytes)) continue;
        size_t n_in = m->p.quick ? 256 : 2048, row = n_in / elems * bytes, n_out = meas_big_bytes(m) / row;
        if (m->p.quick) n_out = 128;
        n_out = n_out / CRIT_GEMM_NR * CRIT_GEMM_NR;
        gemm_work w;
        if (open_work(&w, m, (crit_type)t, n_out, n_in, 1)) {
            w.kind = (crit_act_kind)m->kt.act_kind_one[t];
            char shape[64];
            w.a.n_row = 1;
            const char *isa = meas_isa_at(m, offsetof(crit_kernels, gemv) + (size_t)t * sizeof(crit_gemv_fn));
            snprintf(shape, sizeof shape, "%zu in, %.0f MB", n_in, (double)n_out * (double)row * 1e-6);
            crit_measure_row r = {.group = "gemv",
                                  .name = crit_type_name(t),
                                  .isa = isa,
                                  .shape = shape,
                                  .by_byte = true,
                                  .flop = 2.0 * (double)n_out * (double)n_in,
                                  .bytes = (double)n_out * (double)row,
                                  .efficiency = MEAS_NEVER};
            r.seconds = meas_cpu_time(m, run_gemv, &w);
            /* Neighbours change the bandwidth from second to second: the same bytes, read now. */
            r.share = r.bytes / r.seconds / meas_read_rate(m, w.a.w, n_out * row);
            meas_row(m, r);
        } else
            m->oom = true;
        close_work(&w);
    }
}
