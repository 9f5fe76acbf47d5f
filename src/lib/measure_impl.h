/* SPDX-License-Identifier: MIT */
/* What the measuring files share: a run's state, the stop-watch, random operands, rows for the callback.
 *
 *   measure_run.c      the state, time, operands        measure_peaks.c    crit_measure_peaks
 *   measure_kernels.c  crit_measure_kernels: the order, estimation, vectors
 *   measure_gemm.c     products     measure_attend.c    attention
 *   measure_layer.c    one layer's products on all threads
 *   measure_shape.c    crit_measure_shape               measure_tune.c     crit_measure_tune
 *   measure_batch.c    crit_measure_batch */
#ifndef CRIT_LIB_MEASURE_IMPL_H
#define CRIT_LIB_MEASURE_IMPL_H

#include "critiprefill/measure.h"

#include "core/core.h"
#include "kernels/kernels.h"
#include "kernels/peak.h"

enum { MEAS_ISAS = 6 };
#define MEAS_NEVER ((double)__builtin_nanf(""))

typedef struct meas {
    crit_measure_params p;
    crit_kernels kt; /* of the level asked for */
    crit_pool *pool;
    unsigned char *scratch; /* one slice per thread: GEMM and attention */
    size_t scratch_slice;
    void *peak_buf; /* [CRIT_PEAK_BYTES] */
    double want_s;  /* a figure is read again until it has had so many seconds */
    uint64_t rng;
    crit_measure_fn fn;
    void *user;
    bool cancelled, oom;
    double flops[CRIT_PEAK_KINDS][MEAS_ISAS]; /* one core, by kind and meas_isa_slot; NaN where unknown */
    double read_bps;                          /* one core, memory */
} meas;

/* meas_close is due whatever it returns. */
crit_status meas_open(meas *m, const crit_measure_params *params, crit_measure_fn fn, void *user, crit_error *err);
void meas_close(meas *m);
crit_status meas_no_memory(crit_error *err);
crit_status meas_status(const meas *m, crit_error *err); /* CRIT_E_CANCELLED, CRIT_E_NOMEM or CRIT_OK */

/* Best seconds of a call: once to warm up, then until want_s has passed; a slow one (the C reference) only once. */
typedef void (*meas_work)(void *arg);
double meas_cpu_time(const meas *m, meas_work work, void *arg);  /* CPU time of this thread */
double meas_wall_time(const meas *m, meas_work work, void *arg); /* of work that uses the pool */
double meas_thread_seconds(void);

struct crit_kv;
/* n_row <= CRIT_LSE_ROWS probe rows, all at pos, as sparse/plan_criti.c does them; mem [2][CRIT_LSE_ROWS][n_blk]. */
void meas_probes(const crit_kernels *kt, const struct crit_kv *kv, uint32_t kv_head, const float *q, uint32_t n_row,
                 uint32_t pos, const void *ready, uint32_t n_free, const float *share, float *mem, void *scratch);
uint32_t meas_u32(uint64_t *rng);
void meas_normal(meas *m, float *x, size_t n); /* about N(0, 1) */
/* n_blk blocks of random weights: every quant, scales of a sensible size.  At most 64 rows differ when rows > 64. */
void *meas_weights(meas *m, crit_type type, size_t n_out, size_t n_in, size_t *row_bytes);

/* The C symbol's last part says which instructions it is made of: "avx2", "c". */
const char *meas_isa_at(const meas *m, size_t field_offset);
#define MEAS_ISA(m, field) meas_isa_at(m, offsetof(crit_kernels, field))
int meas_isa_slot(const char *isa); /* -1: no peaks are known of it */
/* The multiply peak that bounds a kernel of that instruction set on that kind of activations (attention: attend_kind). */
double meas_peak_of(const meas *m, const char *isa, crit_act_kind kind);

/* Fills in rate and tells the callback; false when it wants no more. */
bool meas_row(meas *m, crit_measure_row r);
/* Peaks of one core into m, and as rows; all = of every instruction set, else of the level's. */
void meas_peaks(meas *m, bool all, bool at_end);
size_t meas_big_bytes(const meas *m);                        /* memory larger than any cache */
double meas_read_rate(meas *m, const void *p, size_t bytes); /* of one core, B/s, here and now */

void meas_gemm_rows(meas *m);
void meas_gemv_rows(meas *m);
void meas_attend_rows(meas *m);

/* ---- attention on random K and V ---- */

/* n_tok keys of n_kv_head heads in m's layout; freed by crit_kv_clear. */
struct crit_kv;
crit_status meas_fill_kv(meas *m, struct crit_kv *kv, uint32_t n_kv_head, uint32_t d, uint32_t n_tok, crit_error *err);
/* The store's keys in attend's own form, head h's blocks from h * n_blk on, n_blk of n_key keys; freed by crit_free.
 * NULL where the level has none, or out of memory: then the calls make it. */
unsigned char *meas_ready(const meas *m, const struct crit_kv *kv, size_t n_key);
/* Attention as a prefill has it (sparse/attend.c): the tiles of a span in one call, or where keys are made ready each
 * over the list of its own; own [n_blk] scratch. */
void meas_attend(const crit_kernels *kt, const crit_attend_args *a, uint32_t *own, void *scratch);
/* Lists of one tile at pos: sink, local, own and n_far others of the blocks between, ascending.  Returns the count. */
size_t meas_list(uint64_t *rng, uint32_t pos, uint32_t n_row, size_t n_far, uint32_t *ids, size_t *n_first);
/* The same for the tiles of a span, n_far others each, chosen as differently as those of a model's neighbouring tiles:
 * want [blocks] out. */
size_t meas_span_list(uint64_t *rng, uint32_t pos, uint32_t n_row, size_t n_far, uint32_t *ids, uint8_t *want,
                      size_t *n_first);

/* ---- one layer's products ---- */
typedef struct meas_layer meas_layer;
crit_status meas_layer_open(meas_layer **out, meas *m, const crit_shape *s, size_t max_row, crit_error *err);
void meas_layer_close(meas_layer **l);
typedef struct meas_layer_times {
    double linear_s, kv_s; /* all seven products with norms and packing; K and V with theirs */
    double rest_s;         /* RoPE and K/V packing */
    double flop;
} meas_layer_times;
void meas_layer_time(meas_layer *l, size_t n_row, meas_layer_times *t);
double meas_vocab_time(meas_layer *l);
double meas_embed_time(meas_layer *l); /* of one row */
crit_status meas_shape_check(const crit_shape *s, crit_type *type, crit_error *err);

#endif
