/* SPDX-License-Identifier: MIT */
/* One layer without a model: its seven products on random weights of the shape, with the norms and the packing that
 * feed them, cut into the same work items as the forward pass (model/steps.c). */
#include <math.h>
#include <string.h>

#include "kv/kv.h"
#include "lib/measure_impl.h"
#include "model/steps.h"

enum { ROWS_PER_ITEM = 8, WQ = 0, WK, WV, WO, GATE, UP, DOWN, N_MAT };
#define VOCAB_BYTES ((size_t)256 << 20) /* of the vocabulary: larger ones are scaled up from a slice */

typedef struct mat {
    void *w;
    size_t row_bytes, n_out, n_in;
} mat;

struct meas_layer {
    meas *m;
    crit_shape s;
    crit_type type;
    crit_act_kind kind, kind_one; /* gemm's, gemv's */
    mat mats[N_MAT], vocab;
    size_t max_row, n_row;
    float *x, *q, *k, *v, *att, *gate, *up, *logits, *ones, *cosv, *sinv;
    float *rows; /* [n_thread][row_cap] */
    size_t row_cap;
    unsigned char *act;
    double *busy; /* [n_thread][8] seconds of work, a cache line each */
    crit_kv kv;
};

/* ---- phases ---- */

typedef struct phase {
    meas_layer *l;
    const float *x, *up; /* rows to pack, NULL = they are; up: silu(x) * up first */
    void *act;           /* where they are packed; NULL = act of the layer */
    const float *gate;   /* of a gated product, which leaves its rows packed in `out` */
    size_t n;
    bool norm;
    const mat *mats[3];
    float *out[3];
    bool accumulate, one;
} phase;

static void pack_work(phase *p, size_t item, unsigned worker) {
    meas_layer *l = p->l;
    const crit_kernels *kt = &l->m->kt;
    crit_act_kind kind = p->one ? l->kind_one : l->kind;
    float *row = l->rows + worker * l->row_cap;
    size_t r1 = (item + 1) * ROWS_PER_ITEM < l->n_row ? (item + 1) * ROWS_PER_ITEM : l->n_row;
    for (size_t r = item * ROWS_PER_ITEM; r < r1; r++) {
        const float *x = p->x + r * p->n;
        if (p->norm) kt->rmsnorm(x, l->ones, row, p->n, 1e-5f);
        if (p->up) kt->silu_mul(x, p->up + r * p->n, row, p->n);
        kt->act_pack[kind](p->norm || p->up ? row : x, p->n, l->act + crit_act_at(kind, p->n, r));
    }
}

static void pack_item(void *arg, size_t item, unsigned worker) {
    phase *p = arg;
    double t0 = meas_thread_seconds();
    pack_work(p, item, worker);
    p->l->busy[worker * 8] += meas_thread_seconds() - t0;
}

static crit_output_cut cut_of(const phase *p, size_t i) {
    const meas *m = p->l->m;
    return crit_cut_outputs(&m->kt, crit_pool_size(m->pool), p->mats[i]->n_out, p->mats[i]->row_bytes, p->l->n_row);
}

static void product_work(phase *p, size_t item, unsigned worker) {
    meas_layer *l = p->l;
    size_t i = 0;
    crit_output_cut cut = cut_of(p, i);
    while (item >= cut.n_item) {
        item -= cut.n_item;
        cut = cut_of(p, ++i);
    }
    const mat *w = p->mats[i];
    size_t n0 = crit_cut_at(&cut, item), n1 = crit_cut_at(&cut, item + 1);
    crit_gemm_args g = {.w = w->w,
                        .w_row_bytes = w->row_bytes,
                        .n_out = w->n_out,
                        .n_in = w->n_in,
                        .act = p->act ? p->act : l->act,
                        .n_row = l->n_row,
                        .type = l->type,
                        .accumulate = p->accumulate};
    if (p->gate)
        g.gate = p->gate, g.gate_stride = w->n_out, g.packed = p->out[i];
    else
        g.out = p->out[i], g.out_stride = w->n_out;
    if (p->one)
        l->m->kt.gemv[l->type](&g, n0, n1);
    else
        l->m->kt.gemm[l->type](&g, n0, n1, l->m->scratch + worker * l->m->scratch_slice);
}

static void product_item(void *arg, size_t item, unsigned worker) {
    phase *p = arg;
    double t0 = meas_thread_seconds();
    product_work(p, item, worker);
    p->l->busy[worker * 8] += meas_thread_seconds() - t0;
}

static void run_phase(phase p) {
    meas_layer *l = p.l;
    if (p.x) crit_pool_run(l->m->pool, (l->n_row + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM, pack_item, &p);
    size_t n = 0;
    for (size_t i = 0; i < 3 && p.mats[i]; i++) n += cut_of(&p, i).n_item;
    crit_pool_run(l->m->pool, n, product_item, &p);
}

static void run_linear(void *arg) {
    meas_layer *l = arg;
    const mat *w = l->mats;
    size_t e = l->s.n_embd;
    run_phase(
        (phase){.l = l, .x = l->x, .n = e, .norm = true, .mats = {&w[WQ], &w[WK], &w[WV]}, .out = {l->q, l->k, l->v}});
    run_phase((phase){.l = l, .x = l->att, .n = w[WO].n_in, .mats = {&w[WO]}, .out = {l->x}, .accumulate = true});
    if (l->m->kt.gemm_gated && l->kind == CRIT_ACT_BF16 && w[UP].n_out % CRIT_ACT_STEP == 0 &&
        l->max_row >= CRIT_ACT_TILE) {
        run_phase((phase){.l = l, .x = l->x, .n = e, .norm = true, .mats = {&w[GATE]}, .out = {l->gate}});
        run_phase((phase){.l = l, .mats = {&w[UP]}, .gate = l->gate, .out = {l->up}});
        run_phase((phase){.l = l, .act = l->up, .mats = {&w[DOWN]}, .out = {l->x}, .accumulate = true});
        return;
    }
    run_phase((phase){.l = l, .x = l->x, .n = e, .norm = true, .mats = {&w[GATE], &w[UP]}, .out = {l->gate, l->up}});
    run_phase((phase){
        .l = l, .x = l->gate, .up = l->up, .n = w[DOWN].n_in, .mats = {&w[DOWN]}, .out = {l->x}, .accumulate = true});
}

static void run_kv(void *arg) {
    meas_layer *l = arg;
    run_phase((phase){
        .l = l, .x = l->x, .n = l->s.n_embd, .norm = true, .mats = {&l->mats[WK], &l->mats[WV]}, .out = {l->k, l->v}});
}

/* One KV head's rows of one block: rotate keys and queries, pack. */
static void rest_work(meas_layer *l, size_t item, unsigned worker) {
    (void)worker;
    const crit_shape *s = &l->s;
    size_t head = item % s->n_kv_head, p0 = item / s->n_kv_head * CRIT_BLK_LEN, d = s->d_head;
    size_t p1 = p0 + CRIT_BLK_LEN < l->n_row ? p0 + CRIT_BLK_LEN : l->n_row, g = s->n_head / s->n_kv_head;
    size_t n_q = (size_t)s->n_head * d, n_kv = (size_t)s->n_kv_head * d;
    for (size_t r = p0; r < p1; r++) {
        l->m->kt.rope_neox(l->k + r * n_kv + head * d, 1, s->d_head, s->d_head, l->cosv, l->sinv);
        l->m->kt.rope_neox(l->q + r * n_q + head * g * d, g, s->d_head, s->d_head, l->cosv, l->sinv);
    }
    crit_kv_put(&l->kv, (uint32_t)head, (uint32_t)p0, (uint32_t)(p1 - p0), l->k + p0 * n_kv + head * d, n_kv,
                l->v + p0 * n_kv + head * d, n_kv);
}

static void rest_item(void *arg, size_t item, unsigned worker) {
    meas_layer *l = arg;
    double t0 = meas_thread_seconds();
    rest_work(l, item, worker);
    l->busy[worker * 8] += meas_thread_seconds() - t0;
}

static void run_rest(void *arg) {
    meas_layer *l = arg;
    crit_pool_run(l->m->pool, (l->n_row + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN * l->s.n_kv_head, rest_item, l);
}

static void run_vocab(void *arg) {
    meas_layer *l = arg;
    run_phase((phase){
        .l = l, .x = l->x, .n = l->s.n_embd, .norm = true, .mats = {&l->vocab}, .out = {l->logits}, .one = true});
}

static void run_embed(void *arg) {
    meas_layer *l = arg;
    l->m->kt.dequant[l->type](l->vocab.w, l->rows, l->s.n_embd);
}

/* ---- */

/* Seconds with all threads busy: their CPU time over their number, which a neighbour's load does not enter.  Best of
 * several; large shapes take seconds a pass. */
static double one_pass(meas_layer *l, meas_work work) {
    unsigned n = crit_pool_size(l->m->pool);
    double sum = 0;
    memset(l->busy, 0, n * 8 * sizeof *l->busy);
    work(l);
    for (unsigned i = 0; i < n; i++) sum += l->busy[(size_t)i * 8];
    return fmax(sum / n, 1e-9);
}

static double time_pass(meas_layer *l, meas_work work) {
    double best = one_pass(l, work), spent = 0;
    if (l->m->p.quick || best > 5) return best;
    for (int i = 0; i < 2 || spent < l->m->want_s; i++) {
        double t = one_pass(l, work);
        best = fmin(best, t);
        spent += t;
    }
    return best;
}

void meas_layer_time(meas_layer *l, size_t n_row, meas_layer_times *t) {
    l->n_row = n_row < l->max_row ? n_row : l->max_row;
    double n_w = 0;
    for (int i = 0; i < N_MAT; i++) n_w += (double)l->mats[i].n_out * (double)l->mats[i].n_in;
    t->flop = 2 * n_w * (double)l->n_row;
    t->linear_s = time_pass(l, run_linear);
    t->kv_s = time_pass(l, run_kv);
    t->rest_s = time_pass(l, run_rest);
}

double meas_vocab_time(meas_layer *l) {
    l->n_row = 1;
    return time_pass(l, run_vocab) * l->s.n_vocab / (double)l->vocab.n_out;
}

double meas_embed_time(meas_layer *l) {
    return meas_cpu_time(l->m, run_embed, l);
}

crit_status meas_shape_check(const crit_shape *s, crit_type *type, crit_error *err) {
    uint32_t elems = 0, bytes;
    bool known = false;
    for (unsigned t = 0; t < CRIT_T_COUNT && !known && s->type; t++)
        if (crit_type_name(t) && !strcmp(crit_type_name(t), s->type)) {
            *type = (crit_type)t;
            known = crit_type_geometry(t, &elems, &bytes);
        }
    if (!known) return crit_fail(err, CRIT_E_ARG, "unknown tensor type '%s'", s->type ? s->type : "");
    const uint32_t sizes[] = {s->n_layer, s->n_embd, s->n_ff, s->n_head, s->n_kv_head, s->d_head, s->n_vocab};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] == 0 || sizes[i] > 1u << 20)
            return crit_fail(err, CRIT_E_ARG, "a size of the shape is not in 1..2^20");
    if (s->n_head % s->n_kv_head || s->d_head % 8 || s->d_head > CRIT_D_HEAD_MAX ||
        s->n_head / s->n_kv_head > CRIT_ATTEND_ROWS || s->n_embd > 65536 || s->n_ff > 1u << 18)
        return crit_fail(err, CRIT_E_ARG, "a shape of %u heads on %u of %u values, %u wide", s->n_head, s->n_kv_head,
                         s->d_head, s->n_embd);
    if (s->n_embd % elems || s->n_ff % elems || s->n_head * s->d_head % elems)
        return crit_fail(err, CRIT_E_ARG, "%s comes in blocks of %u: rows of %u, %u and %u values do not all fit",
                         s->type, elems, s->n_embd, s->n_ff, s->n_head * s->d_head);
    return CRIT_OK;
}

static bool open_mat(meas_layer *l, mat *w, size_t n_out, size_t n_in) {
    w->n_out = n_out;
    w->n_in = n_in;
    w->w = meas_weights(l->m, l->type, n_out, n_in, &w->row_bytes);
    return w->w != NULL;
}

static float *rows_of(meas *m, size_t n_row, size_t n) {
    float *x = crit_malloc(n_row * n, sizeof *x);
    if (x) meas_normal(m, x, n_row * n < 1 << 16 ? n_row * n : 1 << 16);
    for (size_t i = 1 << 16; x && i < n_row * n; i++) x[i] = x[i - (1 << 16)];
    return x;
}

crit_status meas_layer_open(meas_layer **out, meas *m, const crit_shape *s, size_t max_row, crit_error *err) {
    crit_type type;
    *out = NULL;
    crit_status st = meas_shape_check(s, &type, err);
    if (st) return st;
    meas_layer *l = crit_calloc(1, sizeof *l);
    if (!l) return meas_no_memory(err);
    l->m = m;
    l->s = *s;
    l->type = type;
    l->kind = (crit_act_kind)m->kt.act_kind[type];
    l->kind_one = (crit_act_kind)m->kt.act_kind_one[type];
    l->max_row = max_row;
    size_t e = s->n_embd, ff = s->n_ff, n_q = (size_t)s->n_head * s->d_head, n_kv = (size_t)s->n_kv_head * s->d_head;
    size_t wide = e > ff ? e : ff;
    if (n_q > wide) wide = n_q;
    l->row_cap = (wide + 15) / 16 * 16;
    uint32_t elems, bytes;
    crit_type_geometry((unsigned)type, &elems, &bytes);
    size_t most = VOCAB_BYTES / (e / elems * bytes), n_vocab = s->n_vocab;
    if (m->p.quick) most = 1024;
    if (n_vocab > most) n_vocab = most / CRIT_GEMM_NR * CRIT_GEMM_NR;
    bool ok = open_mat(l, &l->mats[WQ], n_q, e) && open_mat(l, &l->mats[WK], n_kv, e) &&
              open_mat(l, &l->mats[WV], n_kv, e) && open_mat(l, &l->mats[WO], e, n_q) &&
              open_mat(l, &l->mats[GATE], ff, e) && open_mat(l, &l->mats[UP], ff, e) &&
              open_mat(l, &l->mats[DOWN], e, ff) && open_mat(l, &l->vocab, n_vocab, e);
    l->x = rows_of(m, max_row, e);
    l->q = rows_of(m, max_row, n_q);
    l->k = rows_of(m, max_row, n_kv);
    l->v = rows_of(m, max_row, n_kv);
    l->att = rows_of(m, max_row, n_q);
    l->gate = rows_of(m, max_row, ff);
    l->up = rows_of(m, max_row, ff);
    l->logits = rows_of(m, 1, n_vocab);
    l->ones = rows_of(m, 1, e);
    l->cosv = rows_of(m, 1, s->d_head);
    l->sinv = rows_of(m, 1, s->d_head);
    l->rows = crit_malloc(crit_pool_size(m->pool) * l->row_cap, sizeof(float));
    size_t many = crit_act_bytes(l->kind, wide, max_row), one = crit_act_row_bytes(l->kind_one, wide);
    l->act = crit_malloc(1, many > one ? many : one);
    l->busy = crit_malloc(crit_pool_size(m->pool), 8 * sizeof *l->busy);
    ok = ok && l->x && l->q && l->k && l->v && l->att && l->gate && l->up && l->logits && l->ones && l->cosv &&
         l->sinv && l->rows && l->busy && l->act;
    if (ok) {
        for (size_t i = 0; i < e; i++) l->ones[i] = 1;
        for (size_t i = 0; i < s->d_head; i++) l->cosv[i] = 0.6f, l->sinv[i] = 0.8f;
        st = crit_kv_init(&l->kv, &m->kt, s->n_kv_head, s->d_head, (uint32_t)max_row, err);
    } else
        st = meas_no_memory(err);
    if (st) meas_layer_close(&l);
    *out = l;
    return st;
}

void meas_layer_close(meas_layer **pl) {
    meas_layer *l = *pl;
    if (!l) return;
    for (int i = 0; i < N_MAT; i++) crit_free(l->mats[i].w);
    crit_free(l->vocab.w);
    float *const all[] = {l->x,  l->q,      l->k,    l->v,    l->att,  l->gate,
                          l->up, l->logits, l->ones, l->cosv, l->sinv, l->rows};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) crit_free(all[i]);
    crit_free(l->act);
    crit_free(l->busy);
    crit_kv_clear(&l->kv);
    crit_free(l);
    *pl = NULL;
}
