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
    size_t n0 = (item - a->first[i]) * a->per_item[i], n1 = n0 + a->per_item[i];
    if (n1 > m->n_out) n1 = m->n_out;
    size_t r0 = part * a->rows_per_item, n_row = a->n_row - r0 < a->rows_per_item ? a->n_row - r0 : a->rows_per_item;
    crit_gemm_args g = {
        .w = m->w,
        .w_row_bytes = m->row_bytes,
        .n_out = m->n_out,
        .n_in = m->n_in,
        .act = a->f->act[kind] + crit_act_at(kind, m->n_in, a->row0 + r0),
        .act_row = kind == CRIT_ACT_BF16 ? (a->row0 + r0) % CRIT_ACT_TILE : 0,
        .n_row = n_row,
        .out = p->out + r0 * p->out_stride,
        .out_stride = p->out_stride,
        .bias = p->bias,
        .type = m->type,
        .accumulate = p->accumulate,
    };
    if (one)
        kt->gemv[m->type](&g, n0, n1);
    else
        kt->gemm[m->type](&g, n0, n1, a->f->scratch + worker * a->f->scratch_slice);
}

/* Items for one thread to hold the others up by at most a few per cent. */
enum { ITEMS_PER_THREAD = 8, MIN_ROWS_PER_ITEM = 96 };

void crit_steps_products(crit_steps *s, const crit_product *p, size_t n_p, size_t row0, size_t n_row) {
    if (n_row == 0) return;
    crit_products *a = &s->products[s->n_products++];
    *a = (crit_products){.f = s->f, .n_p = n_p, .row0 = row0, .n_row = n_row, .rows_per_item = n_row};
    for (size_t i = 0; i < n_p; i++) {
        /* Many rows: what the level likes, or less to have four items a thread.  Few rows: worth handing out. */
        size_t per = s->f->model->kernels.gemm_item, share = p[i].m->n_out / (4 * (size_t)crit_pool_size(s->f->pool));
        if (per > share) per = (share + CRIT_GEMM_NR - 1) / CRIT_GEMM_NR * CRIT_GEMM_NR;
        if (per < CRIT_GEMM_NR) per = CRIT_GEMM_NR;
        if (n_row < 64) {
            size_t want = (size_t)(128 << 10) / (p[i].m->row_bytes ? p[i].m->row_bytes : 1);
            if (want > per) per = (want + CRIT_GEMM_NR - 1) / CRIT_GEMM_NR * CRIT_GEMM_NR;
        }
        a->p[i] = p[i];
        a->per_item[i] = per;
        a->first[i + 1] = a->first[i] + (p[i].m->n_out + per - 1) / per;
    }
    /* With many threads one panel an item is too coarse: rows are cut too, at the price of decoding the panel again. */
    size_t n_panel = a->first[n_p], want = ITEMS_PER_THREAD * (size_t)crit_pool_size(s->f->pool), n_part = 1;
    if (n_panel < want) n_part = (want + n_panel - 1) / n_panel;
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
    crit_product kv[2] = {{&l->wk, l->bk, f->k, n_kv, false}, {&l->wv, l->bv, f->v, n_kv, false}};
    crit_product qkv[3] = {{&l->wq, l->bq, f->q + q_from * n_q, n_q, false}, kv[0], kv[1]};
    if (q_from == 0) {
        crit_steps_products(s, qkv, 3, 0, n_row);
    } else {
        crit_steps_products(s, kv, 2, 0, n_row);
        crit_steps_products(s, qkv, 1, q_from, n_row - q_from);
    }
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
    crit_product out = {&l->wo, l->bo, f->x + row0 * e, e, true};
    crit_steps_products(s, &out, 1, row0, n_row);
    crit_steps_pack(s, (crit_pack){.x = f->x,
                                   .norm = l->ffn_norm,
                                   .x_stride = e,
                                   .n = e,
                                   .row0 = row0,
                                   .n_row = n_row,
                                   .kinds = crit_kinds_of(f, &l->gate, &l->up, NULL)});
    crit_product gu[2] = {{&l->gate, NULL, f->gate + row0 * c->n_ff, c->n_ff, false},
                          {&l->up, NULL, f->up + row0 * c->n_ff, c->n_ff, false}};
    crit_steps_products(s, gu, 2, row0, n_row);
    crit_steps_pack(s, (crit_pack){.x = f->gate,
                                   .up = f->up,
                                   .x_stride = c->n_ff,
                                   .n = c->n_ff,
                                   .row0 = row0,
                                   .n_row = n_row,
                                   .kinds = crit_kinds_of(f, &l->down, NULL, NULL)});
    crit_product down = {&l->down, NULL, f->x + row0 * e, e, true};
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
