/* SPDX-License-Identifier: MIT */
/* The state of a measuring call, its clock and its random operands. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "lib/measure_impl.h"
#include "sparse/sparse.h"

void crit_measure_params_init(crit_measure_params *p) {
    *p = (crit_measure_params){.struct_size = sizeof *p};
}

crit_status meas_no_memory(crit_error *err) {
    return crit_fail(err, CRIT_E_NOMEM, "out of memory for the measurement");
}

crit_status meas_open(meas *m, const crit_measure_params *params, crit_measure_fn fn, void *user, crit_error *err) {
    memset(m, 0, sizeof *m);
    crit_measure_params_init(&m->p);
    if (params) {
        if (params->struct_size != sizeof *params)
            return crit_fail(err, CRIT_E_ARG, "crit_measure_params: struct_size not set");
        m->p = *params;
    }
    unsigned mask;
    crit_status st = crit_cpu_mask(m->p.cpu, &mask, err);
    if (st) return st;
    crit_kernels_init(&m->kt, mask);
    m->fn = fn;
    m->user = user;
    m->want_s = m->p.quick ? 0 : 0.08;
    m->rng = 0x9e3779b97f4a7c15u;
    m->read_bps = MEAS_NEVER;
    for (int k = 0; k < CRIT_PEAK_KINDS; k++)
        for (size_t i = 0; i < sizeof m->flops[k] / sizeof *m->flops[k]; i++) m->flops[k][i] = MEAS_NEVER;
    st = crit_pool_open(&m->pool, m->p.n_threads, m->p.pin, err);
    if (st) return st;
    size_t gemm = crit_gemm_scratch_bytes(), attend = crit_attend_scratch_bytes(CRIT_D_HEAD_MAX);
    m->scratch_slice = ((gemm > attend ? gemm : attend) + CRIT_ALIGN - 1) & ~(size_t)(CRIT_ALIGN - 1);
    m->scratch = crit_malloc(crit_pool_size(m->pool), m->scratch_slice);
    m->peak_buf = crit_malloc(1, CRIT_PEAK_BYTES);
    if (!m->scratch || !m->peak_buf) return meas_no_memory(err);
    crit_peak_fill(m->peak_buf);
    return CRIT_OK;
}

void meas_close(meas *m) {
    crit_pool_close(&m->pool);
    crit_free(m->scratch);
    crit_free(m->peak_buf);
}

crit_status meas_status(const meas *m, crit_error *err) {
    if (m->oom) return meas_no_memory(err);
    return m->cancelled ? crit_fail(err, CRIT_E_CANCELLED, "cancelled") : CRIT_OK;
}

/* ---- time ---- */

double meas_thread_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double wall_seconds(void) {
    return 1e-9 * (double)crit_now_ns();
}

/* Batches of calls of at least 1 ms, so that reading the clock costs nothing. */
static double best_time(const meas *m, meas_work work, void *arg, double (*now)(void)) {
    double t0 = now();
    work(arg);
    double first = now() - t0, best = first;
    if (first > 4 * m->want_s) return best > 1e-9 ? best : 1e-9;
    size_t n = 1;
    for (;;) {
        t0 = now();
        for (size_t i = 0; i < n; i++) work(arg);
        double t = now() - t0;
        best = fmin(best, t / (double)n);
        if (t >= 1e-3 || m->p.quick) break;
        n *= 2;
    }
    double end = now() + m->want_s;
    while (now() < end) {
        t0 = now();
        for (size_t i = 0; i < n; i++) work(arg);
        best = fmin(best, (now() - t0) / (double)n);
    }
    return best > 1e-9 ? best : 1e-9;
}

double meas_cpu_time(const meas *m, meas_work work, void *arg) {
    return best_time(m, work, arg, meas_thread_seconds);
}

double meas_wall_time(const meas *m, meas_work work, void *arg) {
    return best_time(m, work, arg, wall_seconds);
}

/* ---- operands ---- */

uint32_t meas_u32(uint64_t *rng) { /* xorshift64* */
    *rng ^= *rng >> 12;
    *rng ^= *rng << 25;
    *rng ^= *rng >> 27;
    return (uint32_t)((*rng * 0x2545f4914f6cdd1du) >> 32);
}

void meas_normal(meas *m, float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        /* The sum of four bytes: variance 4 (256^2 - 1) / 12. */
        uint32_t u = meas_u32(&m->rng);
        int s = (int)((u & 0xff) + (u >> 8 & 0xff) + (u >> 16 & 0xff) + (u >> 24)) - 510;
        x[i] = (float)s * 6.7659e-3f;
    }
}

/* Where the f16 scales of a block stand; -1: none. */
static void scale_at(crit_type type, int at[2]) {
    at[0] = 0;
    at[1] = -1;
    switch (type) {
    case CRIT_T_Q4_1:
    case CRIT_T_Q5_1:
    case CRIT_T_Q4_K:
    case CRIT_T_Q5_K:
        at[1] = 2;
        break;
    case CRIT_T_Q2_K:
        at[0] = 80;
        at[1] = 82;
        break;
    case CRIT_T_Q3_K:
        at[0] = 108;
        break;
    case CRIT_T_Q6_K:
        at[0] = 208;
        break;
    default:
        break;
    }
}

static void fill_blocks(meas *m, crit_type type, unsigned char *w, size_t n_blk, size_t bytes) {
    int at[2];
    scale_at(type, at);
    for (size_t b = 0; b < n_blk; b++, w += bytes) {
        float x;
        uint32_t u;
        meas_normal(m, &x, 1);
        x *= 0.05f;
        memcpy(&u, &x, sizeof u);
        uint16_t bf16 = (uint16_t)(u >> 16),
                 f16 = (uint16_t)((u >> 16 & 0x8000) | (0x2000 + (meas_u32(&m->rng) & 0x7ff)));
        if (type == CRIT_T_F32)
            memcpy(w, &x, sizeof x);
        else if (type == CRIT_T_BF16)
            memcpy(w, &bf16, sizeof bf16);
        else if (type == CRIT_T_F16)
            memcpy(w, &f16, sizeof f16);
        else {
            for (size_t i = 0; i < bytes; i++) w[i] = (unsigned char)(meas_u32(&m->rng) >> 8);
            for (int i = 0; i < 2; i++)
                if (at[i] >= 0) memcpy(w + at[i], &f16, sizeof f16); /* 2^-7 .. 2^-5 */
        }
    }
}

void *meas_weights(meas *m, crit_type type, size_t n_out, size_t n_in, size_t *row_bytes) {
    uint32_t elems, bytes;
    if (!crit_type_geometry((unsigned)type, &elems, &bytes)) return NULL;
    *row_bytes = n_in / elems * bytes;
    unsigned char *w = crit_malloc(n_out, *row_bytes);
    if (!w) return NULL;
    size_t n = n_out < 64 ? n_out : 64;
    fill_blocks(m, type, w, n * (n_in / elems), bytes);
    for (size_t r = n; r < n_out; r += 64) {
        size_t k = n_out - r < 64 ? n_out - r : 64;
        memcpy(w + r * *row_bytes, w, k * *row_bytes);
    }
    return w;
}

/* ---- what a figure is compared with ---- */

const char *meas_isa_at(const meas *m, size_t field_offset) {
    static const struct {
        size_t at;
        unsigned need;
        const char *symbol;
    } list[] = {
#define KERNEL(f, type, bits, sym) {offsetof(crit_kernels, f), (unsigned)(bits), #sym},
#define ACT_KIND(type, bits, kind)
#define SET(f, bits, value)
#include "kernels/kernels.inc"
#undef KERNEL
#undef ACT_KIND
#undef SET
    };
    const char *symbol = "_c";
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].at == field_offset && (list[i].need & m->kt.cpu) == list[i].need) symbol = list[i].symbol;
    return strrchr(symbol, '_') + 1;
}

static const char *const isa_names[MEAS_ISAS] = {"avx2", "avx512", "avx512vnni", "avx512bf16", "amx", "neon"};

int meas_isa_slot(const char *isa) {
    for (int i = 0; i < MEAS_ISAS; i++)
        if (!strcmp(isa_names[i], isa)) return i;
    return -1;
}

double meas_peak_of(const meas *m, const char *isa, crit_act_kind kind) {
    int i = meas_isa_slot(isa);
    if (i < 0) return MEAS_NEVER;
    if (kind == CRIT_ACT_I8 && isfinite(m->flops[CRIT_PEAK_I8][i])) return m->flops[CRIT_PEAK_I8][i];
    if (kind == CRIT_ACT_I16 && isfinite(m->flops[CRIT_PEAK_I16][i])) return m->flops[CRIT_PEAK_I16][i];
    if (isfinite(m->flops[CRIT_PEAK_BF16][i])) return m->flops[CRIT_PEAK_BF16][i];
    if (!strcmp(isa, "avx512vnni")) i = meas_isa_slot("avx512");
    return m->flops[CRIT_PEAK_F32][i];
}

bool meas_row(meas *m, crit_measure_row r) {
    r.rate = (r.by_byte ? r.bytes : r.flop) / r.seconds;
    r.here = isfinite(r.seconds);
    if (!r.shape) r.shape = "";
    if (!r.n_threads) r.n_threads = 1;
    if (!m->cancelled && m->fn && m->fn(m->user, &r)) m->cancelled = true;
    return !m->cancelled;
}

void meas_probes(const crit_kernels *kt, const crit_kv *kv, uint32_t kv_head, const float *q, uint32_t n_row,
                 uint32_t pos, const void *ready, uint32_t n_free, const float *share, float *mem, void *scratch) {
    size_t n_blk = pos / CRIT_BLK_LEN + 1;
    float lse[CRIT_LSE_ROWS], *top = mem + CRIT_LSE_ROWS * n_blk;
    uint32_t at[CRIT_LSE_ROWS];
    crit_probe probe;
    for (uint32_t r = 0; r < n_row; r++) at[r] = pos;
    crit_probe_weights(kt, kv, kv_head, q, n_row, at, 1.0f / sqrtf((float)kv->d), ready, scratch, mem, top, n_blk,
                       lse);
    for (uint32_t r = 0; r < n_row; r++)
        crit_probe_judge(&probe, mem + r * n_blk, top + r * n_blk, lse[r], share, n_free, 1);
}
