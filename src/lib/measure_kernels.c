/* SPDX-License-Identifier: MIT */
/* Every kernel of a level, between two readings of its peaks; and the small ones: estimation, KV store, vectors. */
#include <math.h>
#include <stdio.h>

#include "lib/measure_impl.h"

enum { N_BLK = 512, N_VEC = 4096, D_MAX = 128 };

/* Operands of all small kernels, one allocation each; d is the head's. */
typedef struct small {
    meas *m;
    uint32_t d;
    float *x, *y, *z, *w;              /* [N_VEC] */
    float *rep, *stat, *score, *share; /* [8][d], [N_BLK][d], [2][N_BLK][CRIT_LSE_ROWS], [4][N_BLK] */
    uint32_t *ids;                     /* [N_BLK] */
    uint16_t *k, *v;                   /* [N_BLK][CRIT_BLK_LEN][d] */
    unsigned char *ready, *act;        /* ready: of k and v, NULL where the level has none */
} small;

static void run_mean(void *arg) {
    small *s = arg;
    for (uint32_t r = 0; r < CRIT_REP_MAX; r++)
        s->m->kt.mean_rows(s->stat + (size_t)r * CRIT_REP_LEN * s->d, s->d, CRIT_REP_LEN, s->d, s->rep + r * s->d);
}
static void run_score(void *arg) {
    small *s = arg;
    s->m->kt.score(s->rep, CRIT_REP_MAX, s->stat, N_BLK, s->d, 0.125f, s->score);
}
/* share overwrites its input: as scores of the time before it stays in range. */
static void run_share(void *arg) {
    small *s = arg;
    s->m->kt.share(s->score, N_BLK, 2, CRIT_REP_MAX / 2, s->share, N_BLK);
}
static void run_select(void *arg) {
    small *s = arg;
    (void)s->m->kt.select_above(s->share, N_BLK, 1.0f / N_BLK, 0, s->ids);
}
static void run_lse(void *arg) {
    small *s = arg;
    s->m->kt.block_lse(s->stat, s->d, CRIT_LSE_ROWS, s->k, s->ready, N_BLK * CRIT_BLK_LEN, s->d, 0.125f, s->score,
                       s->score + N_BLK * CRIT_LSE_ROWS, N_BLK, s->m->scratch);
}
static void run_put(void *arg) {
    small *s = arg;
    for (size_t b = 0; b < 4; b++)
        s->m->kt.kv_put(s->stat, s->d, s->stat + CRIT_BLK_LEN * (size_t)s->d, s->d, 0, CRIT_BLK_LEN, s->d,
                        s->k + b * CRIT_BLK_LEN * s->d, s->v + b * CRIT_BLK_LEN * s->d);
}
static void run_stats(void *arg) {
    small *s = arg;
    for (size_t b = 0; b < 4; b++)
        s->m->kt.block_stats(s->k + b * CRIT_BLK_LEN * s->d, CRIT_BLK_LEN, 0, s->d, s->x, s->y, s->z);
}
static void run_norm(void *arg) {
    small *s = arg;
    s->m->kt.rmsnorm(s->x, s->w, s->y, N_VEC, 1e-5f);
}
static void run_rope_norm(void *arg) {
    small *s = arg;
    s->m->kt.rope_norm(s->y, N_VEC / s->d, s->d, s->d, s->z, s->z + s->d);
}
static void run_rope_neox(void *arg) {
    small *s = arg;
    s->m->kt.rope_neox(s->y, N_VEC / s->d, s->d, s->d, s->z, s->z + s->d);
}
static void run_silu(void *arg) {
    small *s = arg;
    s->m->kt.silu_mul(s->x, s->w, s->y, N_VEC);
}
static void run_add(void *arg) {
    small *s = arg;
    s->m->kt.add(s->x, s->y, N_VEC);
    s->y[0] = 0; /* grows by x each time: far from overflow in the calls made, but let it be seen */
}

static void row(small *s, const char *group, const char *name, const char *isa, const char *shape, double flop,
                double bytes, bool by_byte, meas_work work) {
    meas *m = s->m;
    if (m->cancelled) return;
    crit_measure_row r = {.group = group,
                          .name = name,
                          .isa = isa,
                          .shape = shape,
                          .flop = flop,
                          .bytes = bytes,
                          .by_byte = by_byte,
                          .share = MEAS_NEVER,
                          .efficiency = MEAS_NEVER};
    r.seconds = meas_cpu_time(m, work, s);
    /* Exact queries multiply as attention does. */
    crit_act_kind kind = work == run_lse ? (crit_act_kind)m->kt.attend_kind : CRIT_ACT_F32;
    if (!by_byte) r.share = flop / r.seconds / meas_peak_of(m, isa, kind);
    meas_row(m, r);
}

/* In L1 and L2, where these work during a prefill: rates in bytes read and written have no bound to compare with. */
static void head_rows(small *s) {
    meas *m = s->m;
    double d = s->d, n = N_BLK;
    char shape[64];
    snprintf(shape, sizeof shape, "d=%u, %d blocks", s->d, N_BLK);
    row(s, "estimate", "mean_rows", MEAS_ISA(m, mean_rows), s->d == 64 ? "d=64, 128 rows" : "d=128, 128 rows", 0,
        4 * d * (CRIT_REP_MAX * (CRIT_REP_LEN + 1)), true, run_mean);
    row(s, "estimate", "score", MEAS_ISA(m, score), shape, 2 * 8 * n * d, 4 * n * (d + 8), false, run_score);
    row(s, "estimate", "share", MEAS_ISA(m, share), shape, 0, n * 9 * 4, true, run_share);
    row(s, "estimate", "select_above", MEAS_ISA(m, select_above), shape, 0, n * 4, true, run_select);
    row(s, "estimate", "block_lse", MEAS_ISA(m, block_lse), shape, 2 * CRIT_LSE_ROWS * n * CRIT_BLK_LEN * d,
        n * CRIT_BLK_LEN * d * 2, false, run_lse);
    row(s, "estimate", "block_stats", MEAS_ISA(m, block_stats), s->d == 64 ? "d=64, 4 blocks" : "d=128, 4 blocks", 0,
        4 * (CRIT_BLK_LEN * d * 2 + 12 * d), true, run_stats);
    row(s, "layer", "kv_put", MEAS_ISA(m, kv_put), s->d == 64 ? "d=64, 4 blocks" : "d=128, 4 blocks", 0,
        4 * CRIT_BLK_LEN * d * 12, true, run_put);
}

typedef struct pack_work {
    small *s;
    crit_act_kind kind;
} pack_work;

static void run_pack(void *arg) {
    pack_work *w = arg;
    w->s->m->kt.act_pack[w->kind](w->s->x, N_VEC, w->s->act);
}

static void pack_rows(small *s) {
    meas *m = s->m;
    for (unsigned k = 0; k < CRIT_ACT_KINDS && !m->cancelled; k++) {
        bool used = false;
        const char *type = NULL;
        for (unsigned t = 0; t < CRIT_T_COUNT && !used; t++)
            if ((type = crit_type_name(t)) && (m->kt.act_kind[t] == k || m->kt.act_kind_one[t] == k)) used = true;
        if (!used || !m->kt.act_pack[k]) continue;
        pack_work w = {s, (crit_act_kind)k};
        char shape[64];
        snprintf(shape, sizeof shape, "%d values, for %s", N_VEC, type);
        crit_measure_row r = {
            .group = "layer",
            .name = "act_pack",
            .isa = meas_isa_at(m, offsetof(crit_kernels, act_pack) + k * sizeof(crit_act_pack_fn)),
            .shape = shape,
            .bytes = N_VEC * 4.0 + (double)crit_act_row_bytes((crit_act_kind)k, N_VEC),
            .by_byte = true,
            .share = MEAS_NEVER,
            .efficiency = MEAS_NEVER,
        };
        r.seconds = meas_cpu_time(m, run_pack, &w);
        meas_row(m, r);
    }
}

static void vector_rows(small *s) {
    meas *m = s->m;
    const char *shape = "4096 values";
    row(s, "layer", "rmsnorm", MEAS_ISA(m, rmsnorm), shape, 0, N_VEC * 12, true, run_norm);
    row(s, "layer", "rope_norm", MEAS_ISA(m, rope_norm), shape, 0, N_VEC * 8, true, run_rope_norm);
    row(s, "layer", "rope_neox", MEAS_ISA(m, rope_neox), shape, 0, N_VEC * 8, true, run_rope_neox);
    row(s, "layer", "silu_mul", MEAS_ISA(m, silu_mul), shape, 0, N_VEC * 12, true, run_silu);
    row(s, "layer", "add", MEAS_ISA(m, add), shape, 0, N_VEC * 12, true, run_add);
    pack_rows(s);
}

static crit_status small_rows(meas *m, crit_error *err) {
    size_t act = 0;
    for (unsigned k = 0; k < CRIT_ACT_KINDS; k++) {
        size_t n = crit_act_bytes((crit_act_kind)k, N_VEC, 1);
        if (n > act) act = n;
    }
    small s = {.m = m,
               .x = crit_malloc(N_VEC, 4),
               .y = crit_malloc(N_VEC, 4),
               .z = crit_malloc(N_VEC, 4),
               .w = crit_malloc(N_VEC, 4),
               .rep = crit_malloc(8 * D_MAX, 4),
               .stat = crit_malloc(N_BLK * D_MAX, 4),
               .score = crit_malloc(2 * N_BLK * CRIT_LSE_ROWS, 4),
               .share = crit_malloc(CRIT_REP_MAX / 2 * N_BLK, 4),
               .ids = crit_malloc(N_BLK, 4),
               .k = crit_malloc(N_BLK * CRIT_BLK_LEN * D_MAX, 2),
               .v = crit_malloc(N_BLK * CRIT_BLK_LEN * D_MAX, 2),
               .ready = m->kt.attend_ready ? crit_malloc(N_BLK, CRIT_READY_BYTES(D_MAX)) : NULL,
               .act = crit_malloc(1, act)};
    bool ok = s.x && s.y && s.z && s.w && s.rep && s.stat && s.score && s.share && s.ids && s.k && s.v && s.act &&
              (s.ready || !m->kt.attend_ready);
    if (ok) {
        for (uint32_t d = 64; d <= D_MAX; d += 64) {
            s.d = d;
            meas_normal(m, s.rep, 8 * (size_t)d);
            meas_normal(m, s.stat, N_BLK * (size_t)d);
            for (size_t b = 0; b < N_BLK; b++)
                m->kt.kv_put(s.stat + b % 8 * CRIT_BLK_LEN * d, d, s.stat + (8 + b % 8) * CRIT_BLK_LEN * d, d, 0,
                             CRIT_BLK_LEN, d, s.k + b * CRIT_BLK_LEN * d, s.v + b * CRIT_BLK_LEN * d);
            if (s.ready) m->kt.attend_ready(s.k, s.v, N_BLK * CRIT_BLK_LEN, d, s.ready);
            head_rows(&s);
        }
        meas_normal(m, s.x, N_VEC);
        meas_normal(m, s.w, N_VEC);
        meas_normal(m, s.y, N_VEC);
        for (size_t i = 0; i < N_VEC; i++)
            s.z[i] = i % (2 * s.d) < s.d ? 0.6f : 0.8f; /* a rotation: y keeps its length */
        vector_rows(&s);
    }
    crit_free(s.x);
    crit_free(s.y);
    crit_free(s.z);
    crit_free(s.w);
    crit_free(s.rep);
    crit_free(s.stat);
    crit_free(s.score);
    crit_free(s.share);
    crit_free(s.ids);
    crit_free(s.k);
    crit_free(s.v);
    crit_free(s.ready);
    crit_free(s.act);
    return ok ? CRIT_OK : meas_no_memory(err);
}

crit_status crit_measure_kernels(const crit_measure_params *params, crit_measure_fn fn, void *user, crit_error *err) {
    meas m;
    if (!fn) return crit_fail(err, CRIT_E_ARG, "crit_measure_kernels: fn is required");
    crit_status st = meas_open(&m, params, fn, user, err);
    if (!st) {
        meas_peaks(&m, false, false);
        meas_gemm_rows(&m);
        meas_attend_rows(&m);
        if (!m.cancelled) st = small_rows(&m, err);
        meas_gemv_rows(&m);
        if (!m.cancelled) meas_peaks(&m, false, true);
        if (!st) st = meas_status(&m, err);
    }
    meas_close(&m);
    return st;
}
