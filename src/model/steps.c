/* SPDX-License-Identifier: MIT */
/* Packing and matrix products as stages.  Several matrices on the same packed rows make one stage. */
#include "model/steps.h"

#include <string.h>

static void product_item(void *arg, size_t item, unsigned worker) {
    const crit_products *a = arg;
    size_t n_panel = a->first[a->n_p], part = item / n_panel, i = 0;
    item %= n_panel;
    while (i + 1 < a->n_p && item >= a->first[i + 1]) i++;
    const crit_product *p = &a->p[i];
    const crit_kernels *kt = &a->f->model->kernels;
    const crit_mat *m = p->m;
    const bool one = a->n_row == 1 && a->f->one;
    crit_act_kind kind = (crit_act_kind)(one ? kt->act_kind_one : kt->act_kind)[m->type];
    size_t n0 = crit_cut_at(&a->cut[i], item - a->first[i]), n1 = crit_cut_at(&a->cut[i], item - a->first[i] + 1);
    size_t r0 = part * a->rows_per_item, n_row = a->n_row - r0 < a->rows_per_item ? a->n_row - r0 : a->rows_per_item;
    crit_gemm_args g = {
        .w = m->w,
        .w_row_bytes = m->row_bytes,
        .n_out = m->n_out,
        .n_in = m->n_in,
        .act = (p->act ? p->act : a->f->act[kind]) + crit_act_at(kind, m->n_in, a->row0 + r0),
        .act_row = kind == CRIT_ACT_BF16 ? (a->row0 + r0) % CRIT_ACT_TILE : 0,
        .n_row = n_row,
        .out = p->out ? p->out + r0 * p->out_stride : NULL,
        .out_stride = p->out_stride,
        .bias = p->bias,
        .type = m->type,
        .accumulate = p->accumulate,
    };
    if (p->gate) {
        g.gate = p->gate + r0 * p->gate_stride;
        g.gate_stride = p->gate_stride;
        g.packed = p->packed + crit_act_at(kind, m->n_out, a->row0 + r0);
        g.gated_row = g.act_row;
    }
    if (one)
        kt->gemv[m->type](&g, n0, n1);
    else
        kt->gemm[m->type](&g, n0, n1, a->f->scratch + worker * a->f->scratch_slice);
}

/* Items a thread, of the same size, and when they do not come out even: for one to hold the others up by at most an
 * eighth.  Bytes of weights of an item for few rows; rows that are worth decoding weights for. */
enum { EVEN_ITEMS = 4, ITEMS = 8, MIN_ITEM_BYTES = 128 << 10, MIN_ROWS_PER_ITEM = 96 };

crit_output_cut crit_cut_outputs(const crit_kernels *kt, unsigned n_thread, size_t n_out, size_t row_bytes,
                                 size_t n_row) {
    /* Wide kernels take panels in pairs. */
    crit_output_cut c = {.n_out = n_out, .unit = kt->gemm_item % (2 * CRIT_GEMM_NR) ? CRIT_GEMM_NR : 2 * CRIT_GEMM_NR};
    const size_t most = kt->gemm_item / c.unit, work = n_out * row_bytes / MIN_ITEM_BYTES;
    c.n_unit = (n_out + c.unit - 1) / c.unit;
    c.n_item = (c.n_unit + most - 1) / most;
    /* Many rows: what the level likes, or less to have some items a thread.  Few rows: worth handing out. */
    if (c.n_item < EVEN_ITEMS * (size_t)n_thread) c.n_item = EVEN_ITEMS * (size_t)n_thread;
    if (n_row < 64 && c.n_item > work) c.n_item = work;
    if (c.n_item > c.n_unit) c.n_item = c.n_unit;
    if (c.n_item == 0) c.n_item = 1;
    return c;
}

size_t crit_cut_at(const crit_output_cut *c, size_t item) {
    const size_t n = c->n_unit * item / c->n_item * c->unit;
    return n < c->n_out ? n : c->n_out;
}

void crit_steps_products(crit_steps *s, const crit_product *p, size_t n_p, size_t row0, size_t n_row) {
    if (n_row == 0) return;
    crit_products *a = &s->products[s->n_products++];
    *a = (crit_products){.f = s->f, .n_p = n_p, .row0 = row0, .n_row = n_row, .rows_per_item = n_row};
    for (size_t i = 0; i < n_p; i++) {
        a->p[i] = p[i];
        a->cut[i] = crit_cut_outputs(&s->f->model->kernels, crit_pool_size(s->f->pool), p[i].m->n_out,
                                     p[i].m->row_bytes, n_row);
        a->first[i + 1] = a->first[i] + a->cut[i].n_item;
    }
    /* With many threads one panel an item is too coarse: rows are cut too, at the price of decoding the panel again. */
    const size_t n_panel = a->first[n_p], n_thread = crit_pool_size(s->f->pool);
    const size_t want = (n_panel % n_thread ? ITEMS : EVEN_ITEMS) * n_thread;
    size_t n_part = n_panel < want ? (want + n_panel - 1) / n_panel : 1;
    if (n_part > n_row / MIN_ROWS_PER_ITEM) n_part = n_row / MIN_ROWS_PER_ITEM;
    if (n_part > 1) {
        a->rows_per_item = ((n_row + n_part - 1) / n_part + 15) / 16 * 16;
        n_part = (n_row + a->rows_per_item - 1) / a->rows_per_item;
    } else
        n_part = 1;
    crit_steps_add(s, (crit_stage){.n_item = n_panel * n_part, .task = product_item, .arg = a}, &s->f->stats.gemm_ns);
}

static void pack_item(void *arg, size_t item, unsigned worker) {
    const crit_pack *a = arg;
    const crit_kernels *kt = &a->f->model->kernels;
    float *row = (float *)(a->f->scratch + worker * a->f->scratch_slice);
    size_t r0 = item * CRIT_ROWS_PER_ITEM, r1 = r0 + CRIT_ROWS_PER_ITEM;
    if (r1 > a->n_row) r1 = a->n_row;
    for (size_t r = a->row0 + r0; r < a->row0 + r1; r++) {
        const float *x = a->x + r * a->x_stride;
        if (a->norm)
            kt->rmsnorm(x, a->norm, row, a->n, a->f->model->config.eps);
        else if (a->up)
            kt->silu_mul(x, a->up + r * a->x_stride, row, a->n);
        const float *src = a->norm || a->up ? row : x;
        for (int k = 0; k < CRIT_ACT_KINDS; k++)
            if (a->kinds >> k & 1) kt->act_pack[k](src, a->n, a->f->act[k] + crit_act_at((crit_act_kind)k, a->n, r));
    }
}

void crit_steps_pack(crit_steps *s, crit_pack pack) {
    crit_pack *a = &s->pack[s->n_pack++];
    *a = pack;
    a->f = s->f;
    size_t n_item = (a->n_row + CRIT_ROWS_PER_ITEM - 1) / CRIT_ROWS_PER_ITEM;
    crit_steps_add(s, (crit_stage){.n_item = n_item, .task = pack_item, .arg = a}, &s->f->stats.gemm_ns);
}

unsigned crit_kinds_of(const crit_forward *f, const crit_mat *a, const crit_mat *b, const crit_mat *c) {
    const crit_kernels *kt = &f->model->kernels;
    const unsigned char *kind = f->one ? kt->act_kind_one : kt->act_kind;
    unsigned k = 1u << kind[a->type];
    if (b) k |= 1u << kind[b->type];
    if (c) k |= 1u << kind[c->type];
    return k;
}

void crit_steps_qkv(crit_steps *s, const crit_layer *l, size_t n_row, size_t q_from) {
    crit_forward *f = s->f;
    const crit_config *c = &f->model->config;
    size_t n_q = (size_t)c->n_head * c->d_head, n_kv = (size_t)c->n_kv_head * c->d_head;
    crit_steps_pack(s, (crit_pack){.x = f->x,
                                   .norm = l->attn_norm,
                                   .x_stride = c->n_embd,
                                   .n = c->n_embd,
                                   .n_row = n_row,
                                   .kinds = crit_kinds_of(f, &l->wq, &l->wk, &l->wv)});
    crit_product kv[2] = {{.m = &l->wk, .bias = l->bk, .out = f->k, .out_stride = n_kv},
                          {.m = &l->wv, .bias = l->bv, .out = f->v, .out_stride = n_kv}};
    crit_product qkv[3] = {{.m = &l->wq, .bias = l->bq, .out = f->q + q_from * n_q, .out_stride = n_q}, kv[0], kv[1]};
    if (q_from == 0) {
        crit_steps_products(s, qkv, 3, 0, n_row);
    } else {
        crit_steps_products(s, kv, 2, 0, n_row);
        crit_steps_products(s, qkv, 1, q_from, n_row - q_from);
    }
}

/* Whether `up` can end in SiLU, product and packing for `down`. */
static bool can_gate(const crit_forward *f, const crit_layer *l) {
    const crit_kernels *kt = &f->model->kernels;
    return kt->gemm_gated && !f->one && f->n_batch >= CRIT_ACT_TILE && f->model->config.n_ff % CRIT_ACT_STEP == 0 &&
           crit_kinds_of(f, &l->up, &l->down, NULL) == 1u << CRIT_ACT_BF16;
}

void crit_steps_rest(crit_steps *s, const crit_layer *l, size_t row0, size_t n_row) {
    crit_forward *f = s->f;
    const crit_config *c = &f->model->config;
    size_t e = c->n_embd, n_q = (size_t)c->n_head * c->d_head;
    crit_steps_pack(s, (crit_pack){.x = f->att,
                                   .x_stride = n_q,
                                   .n = n_q,
                                   .row0 = row0,
                                   .n_row = n_row,
                                   .kinds = crit_kinds_of(f, &l->wo, NULL, NULL)});
    crit_product out = {.m = &l->wo, .bias = l->bo, .out = f->x + row0 * e, .out_stride = e, .accumulate = true};
    crit_steps_products(s, &out, 1, row0, n_row);
    crit_steps_pack(s, (crit_pack){.x = f->x,
                                   .norm = l->ffn_norm,
                                   .x_stride = e,
                                   .n = e,
                                   .row0 = row0,
                                   .n_row = n_row,
                                   .kinds = crit_kinds_of(f, &l->gate, &l->up, NULL)});
    crit_product gate = {.m = &l->gate, .out = f->gate + row0 * c->n_ff, .out_stride = c->n_ff},
                 up = {.m = &l->up, .out = f->up + row0 * c->n_ff, .out_stride = c->n_ff},
                 down = {.m = &l->down, .out = f->x + row0 * e, .out_stride = e, .accumulate = true};
    if (can_gate(f, l)) {
        /* What is packed for `down` lies where `up` would have been, which is twice as large. */
        up = (crit_product){.m = &l->up, .gate = gate.out, .gate_stride = c->n_ff, .packed = (unsigned char *)f->up};
        down.act = up.packed;
        crit_steps_products(s, &gate, 1, row0, n_row);
        crit_steps_products(s, &up, 1, row0, n_row);
    } else {
        crit_product gu[2] = {gate, up};
        crit_steps_products(s, gu, 2, row0, n_row);
        crit_steps_pack(s, (crit_pack){.x = f->gate,
                                       .up = f->up,
                                       .x_stride = c->n_ff,
                                       .n = c->n_ff,
                                       .row0 = row0,
                                       .n_row = n_row,
                                       .kinds = crit_kinds_of(f, &l->down, NULL, NULL)});
    }
    crit_steps_products(s, &down, 1, row0, n_row);
}

void crit_steps_begin(crit_steps *s, crit_forward *f) {
    s->f = f;
    s->n = s->n_pack = s->n_products = 0;
}

void crit_steps_add(crit_steps *s, crit_stage stage, uint64_t *timer) {
    s->stage[s->n] = stage;
    s->timer[s->n++] = timer;
}

void crit_steps_run(crit_steps *s) {
    uint64_t t = crit_now_ns();
    crit_pool_run_stages(s->f->pool, s->stage, s->n);
    for (unsigned i = 0; i < s->n; i++) {
        if (s->timer[i] && s->stage[i].end_ns > t) *s->timer[i] += s->stage[i].end_ns - t;
        t = s->stage[i].end_ns;
    }
    crit_steps_begin(s, s->f);
}
