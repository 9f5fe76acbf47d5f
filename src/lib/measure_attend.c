/* SPDX-License-Identifier: MIT */
/* Attention on random keys and lists of blocks: dense, sparse, and the few rows of a decode step. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kv/kv.h"
#include "lib/measure_impl.h"
#include "sparse/sparse.h"

enum { FILL_KEYS = 64 * CRIT_BLK_LEN, MAX_KEYS = 131072, MAX_IDS = MAX_KEYS / CRIT_BLK_LEN + 1 };

typedef struct fill_arg {
    crit_kv *kv;
    const float *rows; /* [FILL_KEYS][d] */
    uint32_t n_tok;
} fill_arg;

static void fill_item(void *arg, size_t head, unsigned worker) {
    (void)worker;
    fill_arg *a = arg;
    for (uint32_t at = 0; at < a->n_tok; at += FILL_KEYS) {
        uint32_t n = a->n_tok - at < FILL_KEYS ? a->n_tok - at : FILL_KEYS;
        crit_kv_put(a->kv, (uint32_t)head, at, n, a->rows, a->kv->d, a->rows + (size_t)FILL_KEYS * a->kv->d, a->kv->d);
    }
}

crit_status meas_fill_kv(meas *m, crit_kv *kv, uint32_t n_kv_head, uint32_t d, uint32_t n_tok, crit_error *err) {
    crit_status st = crit_kv_init(kv, &m->kt, n_kv_head, d, n_tok, err);
    if (st) return st;
    /* 64 different blocks, over and over: speed depends on where a block lies, not on what is in it. */
    float *rows = crit_malloc(2 * (size_t)FILL_KEYS * d, sizeof *rows);
    if (!rows) return meas_no_memory(err);
    meas_normal(m, rows, 2 * (size_t)FILL_KEYS * d);
    fill_arg a = {kv, rows, n_tok};
    crit_pool_run(m->pool, n_kv_head, fill_item, &a);
    crit_kv_advance(kv, n_tok);
    crit_free(rows);
    return CRIT_OK;
}

unsigned char *meas_ready(const meas *m, const crit_kv *kv, size_t n_key) {
    const size_t bytes = (n_key + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN * CRIT_READY_BYTES(kv->d);
    if (!m->kt.attend_ready) return NULL;
    unsigned char *ready = crit_malloc(kv->n_kv_head, bytes);
    for (uint32_t h = 0; ready && h < kv->n_kv_head; h++)
        m->kt.attend_ready(crit_kv_k(kv, h), crit_kv_v(kv, h), n_key, kv->d, ready + h * bytes);
    return ready;
}

size_t meas_list(uint64_t *rng, uint32_t pos, uint32_t n_row, size_t n_far, uint32_t *ids, size_t *n_first) {
    uint32_t own = pos / CRIT_BLK_LEN, last = (pos + n_row - 1) / CRIT_BLK_LEN;
    uint32_t local = own > CRIT_LOCAL_BLK ? own - CRIT_LOCAL_BLK : 0;
    size_t n = 0, left = local > 1 ? local - 1 : 0, want = n_far < left ? n_far : left;
    if (local > 0) ids[n++] = 0;
    /* Each far block with the odds of what is still wanted among what is left: exactly want of them, ascending. */
    for (uint32_t b = 1; b < local; b++, left--)
        if (meas_u32(rng) % left < want) {
            ids[n++] = b;
            want--;
        }
    *n_first = n;
    for (uint32_t b = local; b <= last; b++) ids[n++] = b;
    return n;
}

size_t meas_span_list(uint64_t *rng, uint32_t pos, uint32_t n_row, size_t n_far, uint32_t *ids, uint8_t *want,
                      size_t *n_first) {
    /* Of the blocks that some tile of four wants, so many in 64 are wanted by one, two, three, four of them: measured
     * on Qwen2.5-Coder-0.5B, 8,192 tokens of code. */
    enum { ONE = 13, TWO = 11, THREE = 10, FOUR = 30, EACH = ONE + 2 * TWO + 3 * THREE + 4 * FOUR };
    size_t n = meas_list(rng, pos, n_row, n_far * 256 / EACH, ids, n_first), union_far = *n_first ? *n_first - 1 : 0;
    /* Too few blocks for that: tiles agree more. */
    double mean = union_far ? 4.0 * (double)n_far / (double)union_far : 0, base = EACH / 64.0;
    double all = mean <= base ? 0 : mean >= 4 ? 1 : (mean - base) / (4 - base);
    memset(want, 15, n);
    for (size_t i = 1; i < *n_first; i++) {
        uint32_t kind = meas_u32(rng) % 64, tile = meas_u32(rng) % 4, other = (tile + 1 + meas_u32(rng) % 3) % 4;
        if (meas_u32(rng) < all * 0x1p32) continue;
        want[i] = (uint8_t)(kind < ONE                 ? 1 << tile
                            : kind < ONE + TWO         ? 1 << tile | 1 << other
                            : kind < ONE + TWO + THREE ? 15 & ~(1 << tile)
                                                       : 15);
    }
    return n;
}

void meas_attend(const crit_kernels *kt, const crit_attend_args *a, uint32_t *own, void *scratch) {
    if (!a->want || !a->ready) {
        kt->attend(a, scratch);
        return;
    }
    crit_attend_args t = *a;
    t.want = NULL;
    t.blk = own;
    for (uint32_t r = 0; r < a->n_row; r += CRIT_TILE_LEN) {
        t.n_blk = t.n_far = 0;
        for (size_t i = 0; i < a->n_blk; i++)
            if (a->want[i] >> r / CRIT_TILE_LEN & 1) {
                own[t.n_blk++] = a->blk[i];
                t.n_far += i < a->n_far;
            }
        t.n_row = a->n_row - r < CRIT_TILE_LEN ? a->n_row - r : CRIT_TILE_LEN;
        t.q = a->q + r * a->q_stride;
        t.out = a->out + r * a->out_stride;
        t.lse = a->lse ? a->lse + r : NULL;
        t.pos0 = a->pos0 + r;
        kt->attend(&t, scratch);
    }
}

typedef struct attend_work {
    const meas *m;
    crit_attend_args a;
    uint32_t *own;
} attend_work;

static void run_attend(void *arg) {
    attend_work *w = arg;
    meas_attend(&w->m->kt, &w->a, w->own, w->m->scratch);
}

typedef struct load {
    const char *name;
    uint32_t n_key;
    double density; /* 1 = every block */
    uint32_t n_row; /* CRIT_ATTEND_ROWS: causal, at the end; fewer: heads of a decode step */
} load;

static double pairs_of(const crit_attend_args *a) {
    double pairs = 0;
    for (size_t i = 0; i < a->n_blk; i++)
        for (uint32_t r = 0; r < a->n_row; r++) {
            if (a->want && !(a->want[i] >> r / CRIT_TILE_LEN & 1)) continue;
            size_t first = (size_t)a->blk[i] * CRIT_BLK_LEN, end = first + CRIT_BLK_LEN;
            size_t seen = a->causal && a->pos0 + r + 1 < end ? a->pos0 + r + 1 : end;
            pairs += seen > first ? (double)(seen - first) : 0;
        }
    return pairs;
}

/* Returns the rate. */
static double attend_row(meas *m, const crit_kv *kv, const void *ready, const float *q, float *out, uint32_t *ids,
                         const load *l, double dense_rate) {
    bool causal = l->n_row == CRIT_ATTEND_ROWS;
    uint32_t d = kv->d, pos = l->n_key - (causal ? l->n_row : 1);
    float lse[CRIT_ATTEND_ROWS];
    attend_work w = {.m = m,
                     .a = {.q = q,
                           .q_stride = d,
                           .k = crit_kv_k(kv, 0),
                           .v = crit_kv_v(kv, 0),
                           .blk = ids,
                           .out = out,
                           .out_stride = d,
                           .lse = causal ? NULL : lse,
                           .pos0 = causal ? pos : 0,
                           .n_key = l->n_key,
                           .scale = 1.0f / sqrtf((float)d),
                           .n_row = l->n_row,
                           .d = d,
                           .causal = causal,
                           .ready = ready}};
    size_t n_blk = l->n_key / CRIT_BLK_LEN, n_far = n_blk;
    if (l->density < 1) n_far = (size_t)fmax(0, l->density * (double)n_blk - 9); /* sink, 4 local, 4 own */
    size_t first;
    uint8_t *want = (uint8_t *)(ids + 2 * MAX_IDS);
    w.own = ids + MAX_IDS;
    if (l->density < 1) {
        w.a.n_blk = meas_span_list(&m->rng, pos, l->n_row, n_far, ids, want, &first);
        w.a.want = want;
    } else
        w.a.n_blk = meas_list(&m->rng, pos, causal ? l->n_row : 1, n_far, ids, &first);
    if (causal) w.a.n_far = first;
    char name[16];
    snprintf(name, sizeof name, "d=%u", d);
    const char *isa = MEAS_ISA(m, attend);
    crit_measure_row r = {.group = causal ? "attend" : "decode",
                          .name = name,
                          .isa = isa,
                          .shape = l->name,
                          .by_byte = !causal,
                          .flop = 4.0 * d * pairs_of(&w.a),
                          .bytes = (double)w.a.n_blk * CRIT_BLK_LEN * d * 4 + (causal ? 8.0 * l->n_row * d : 0),
                          .efficiency = MEAS_NEVER};
    r.seconds = meas_cpu_time(m, run_attend, &w);
    double rate = (causal ? r.flop : r.bytes) / r.seconds;
    r.share = rate / (causal ? meas_peak_of(m, isa, (crit_act_kind)m->kt.attend_kind) : m->read_bps);
    if (l->density < 1) r.efficiency = rate / dense_rate;
    meas_row(m, r);
    return rate;
}

void meas_attend_rows(meas *m) {
    static const load full[] = {{"128 rows, 4096 keys", 4096, 1, 128},
                                {"128 rows, 16384 keys", 16384, 1, 128},
                                {"128 rows, 16384 keys, density .10", 16384, .10, 128},
                                {"128 rows, 16384 keys, density .03", 16384, .03, 128},
                                {"1 row, 131072 keys", MAX_KEYS, 1, 1},
                                {"7 rows, 131072 keys", MAX_KEYS, 1, 7}},
                      small[] = {{"128 rows, 1024 keys", 1024, 1, 128},
                                 {"128 rows, 1024 keys, density .50", 1024, .5, 128},
                                 {"7 rows, 1024 keys", 1024, 1, 7}};
    bool less = m->p.quick || m->kt.cpu == 0; /* the reference takes its time */
    const load *l = less ? small : full;
    size_t n = less ? 3 : 6, longest = 0; /* of the causal ones */
    for (size_t i = 0; i < n; i++)
        if (l[i].n_row == CRIT_ATTEND_ROWS && l[i].n_key > longest) longest = l[i].n_key;
    for (uint32_t d = 64; d <= 128 && !m->cancelled; d += 64) {
        crit_kv kv;
        float *q = crit_malloc(CRIT_ATTEND_ROWS * d, sizeof *q), *out = crit_malloc(CRIT_ATTEND_ROWS * d, sizeof *out);
        uint32_t *ids = crit_malloc(MAX_IDS, 2 * sizeof *ids + 1); /* of a span, of a tile; the span's wants */
        bool ok = meas_fill_kv(m, &kv, 1, d, less ? 1024 : MAX_KEYS, NULL) == CRIT_OK;
        if (ok && q && out && ids) {
            double dense = MEAS_NEVER;
            unsigned char *ready = meas_ready(m, &kv, longest);
            meas_normal(m, q, CRIT_ATTEND_ROWS * d);
            for (size_t i = 0; i < n && !m->cancelled; i++) {
                double rate = attend_row(m, &kv, ready, q, out, ids, &l[i], dense);
                if (l[i].density >= 1) dense = rate;
            }
            crit_free(ready);
        } else
            m->oom = true;
        crit_kv_clear(&kv);
        crit_free(q);
        crit_free(out);
        crit_free(ids);
    }
}
