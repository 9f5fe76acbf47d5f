/* SPDX-License-Identifier: MIT */
/* From queries and a KV store to a plan, and from a plan to attention: doc/ALGORITHM.md in code.
 *
 *   represent.c  queries of a tile -> representatives                          [alg:represent]
 *   score.c      representatives x block statistics -> shares of far attention [alg:score]
 *   calibrate.c  a few exact queries (probes) -> what shares are worth     [alg:calibrate]
 *   fuse.c       (paper) scores of this layer with those of the one before     [alg:fuse]
 *   select.c     shares -> sorted block ids                                    [alg:select]
 *   cost.c       what dense and sparse tiles cost at a CPU level: a tile is dense where sparse would not be faster
 *   plan_criti.c runs the above over a chunk, in parallel, and lets the probes judge the plans [alg:check]
 *   plan_paper.c the published rule's plan
 *   plan.c       one plan's memory, and whichever of the two makes it
 *   attend.c     executes any plan                                             [alg:attend]
 *
 * Tiles lie on the absolute grid of CRIT_TILE_LEN positions and what a tile reads depends on nothing behind it, so
 * neither the chunk length nor the number of threads changes a bit.  CRIT_SPAN_TILES tiles on the grid of
 * CRIT_ATTEND_ROWS positions are a span: its tiles go into one call, a work item of attention, as far as possible, but
 * where keys are made ready beforehand each tile whose list is its own is an item. */
#ifndef CRIT_SPARSE_H
#define CRIT_SPARSE_H

#include "core/core.h"
#include "core/blob.h"
#include "kernels/kernels.h"
#include "kv/kv.h"

#define CRIT_SINK_BLK    1 /* first 32 tokens: always kept, outside the normaliser */
#define CRIT_LOCAL_BLK   4 /* the 128 tokens before a tile: always kept */
#define CRIT_SPAN_TILES  (CRIT_ATTEND_ROWS / CRIT_TILE_LEN)
#define CRIT_PEAK_WEIGHT 0.2f /* a far key of more weight is a look-up        [alg:check] */

/* What far blocks of a head turned out to weigh, by their share against the even one, in octaves from 2^CRIT_GAIN_LOW
 * up; of one probe, rounded so that thousands of them can be kept.                         [alg:calibrate] */
enum { CRIT_GAIN_BINS = 16, CRIT_GAIN_LOW = -10, CRIT_NO_BIN = 255 };
typedef struct crit_mark {
    float sigma;                   /* weight on far blocks, outside the sink */
    uint16_t n[CRIT_GAIN_BINS];    /* blocks */
    uint16_t use[CRIT_GAIN_BINS];  /* bf16: sum of (weight outside the sink)^power */
    uint16_t mass[CRIT_GAIN_BINS]; /* bf16: sum of weights outside the sink */
    uint8_t peak;                  /* octave of the look-up, the strongest far key if it weighs > CRIT_PEAK_WEIGHT */
    uint8_t n_row; /* rows from the probe on that its tile had then, whose mean it judged; 0: no probe at that position */
} crit_mark;
/* The sum over probes. */
typedef struct crit_gain {
    double sigma;
    uint32_t n_probe;
    float n[CRIT_GAIN_BINS], use[CRIT_GAIN_BINS], mass[CRIT_GAIN_BINS], peak[CRIT_GAIN_BINS];
} crit_gain;
void crit_gain_add(crit_gain *g, const crit_mark *m, uint32_t weight);

/* A probe costs as many keys as lie before it, and what it adds to what thousands have told gets less: one query in
 * `step` is one up to CRIT_PROBE_FULL, half as many from there on and from each doubling of the position, so that a
 * chunk's probes never cost more than there.  Each stands for the positions up to the next.     [alg:calibrate] */
#define CRIT_PROBE_FULL 16384
static inline uint32_t crit_probe_every(uint64_t pos) { /* in steps */
    uint32_t n = 1;
    while (pos >= (uint64_t)CRIT_PROBE_FULL * n) n *= 2;
    return n;
}
/* How many steps the probe at entry * step stands for; 0: there is none. */
static inline uint32_t crit_probe_weight(uint64_t entry, uint32_t step) {
    uint32_t n = crit_probe_every(entry * step);
    return entry % n ? 0 : n;
}

/* One exact query of one head. */
typedef struct crit_probe {
    float peak;             /* weight of the strongest far key, and its block */
    uint32_t peak_blk;      /* 0 = no far key */
    float kept;             /* weight on the blocks of the plan                                      [alg:check] */
    bool peak_kept, judged; /* judged: its tile is not dense by position */
    crit_mark mark;
} crit_probe;

/* Running calibration of one layer.  Entry c belongs to position c * step, which may have no probe.
 *                                                                                             [alg:calibrate] */
typedef struct crit_calib {
    uint32_t n_head, step, n, cap; /* entries in use, allocated */
    crit_mark *marks;              /* [cap][n_head] */
    crit_gain *total;              /* [n_head] sum of the marks, always added in order */
} crit_calib;

void crit_calib_clear(crit_calib *c);
/* Room for the probes at positions < n_tok. */
crit_status crit_calib_reserve(crit_calib *c, uint32_t n_head, uint32_t step, uint32_t n_tok, crit_error *err);
/* Forgets probes that positions >= n_tok had a part in. */
void crit_calib_cut(crit_calib *c, uint32_t n_tok);
/* Appends an entry; probe [n_head], NULL = there is none at that position. */
void crit_calib_push(crit_calib *c, const crit_probe *probe);
size_t crit_calib_bytes(uint32_t n_head, uint32_t step, uint32_t n_tok);
/* Into and out of a snapshot (calib_file.c); load: of a timeline of n_tok tokens, CRIT_E_FORMAT when it is none. */
void crit_calib_save(const crit_calib *c, crit_blob *out);
crit_status crit_calib_load(crit_calib *c, uint32_t n_head, uint32_t n_tok, crit_blob_view *in, crit_error *err);

/* Costs of a CPU level on one core, and what follows from them (cost.c). */
typedef struct crit_cost {
    float attend_ns;   /* per (row, key) pair and value of d, Q K and P V together */
    float estimate_ns; /* per free block of a (head, tile) and value of d: score, share, select, its part of calibrating
                        */
    float efficiency;  /* rate on a sparse list / on a dense one */
    uint32_t chunk_tok;
} crit_cost;
crit_cost crit_cost_of(unsigned cpu_mask);
/* Whether estimating a tile of n_row rows is expected to save more than it costs. */
bool crit_cost_estimate_pays(const crit_cost *c, uint32_t n_row);
/* Whether a plan that keeps n_kept of n_free blocks is no faster than all of them. */
bool crit_cost_dense_wins(const crit_cost *c, size_t n_kept, size_t n_free);
/* Tokens per chunk: enough items for the threads, products long enough to pay for decoding the weights. */
uint32_t crit_cost_chunk(const crit_cost *c, unsigned n_thread, uint32_t n_head);

/* What is asked of one layer for one chunk. */
typedef struct crit_plan_job {
    const crit_kv *kv; /* holds the chunk's keys already */
    const float *q;    /* [n_tok][q_stride], head h at + h * d */
    size_t q_stride;
    uint32_t n_head;
    uint32_t pos0, n_tok; /* queries of this chunk */
    uint32_t n_rest;      /* prompt tokens behind this chunk */
    float scale;
    bool dense;            /* this layer is dense whatever the mode */
    const crit_plan *prev; /* plan of the layer before (may be the plan itself), NULL = none */
} crit_plan_job;

typedef struct crit_plan_row {
    const uint32_t *ids; /* ascending */
    uint32_t n, n_far;   /* the first n_far are visited last: they lie before the local blocks of the span */
    bool dense;          /* holds every block and is computed without skips */
} crit_plan_row_t;

/* What the probes say of the plans.                                                          [alg:check] */
typedef struct crit_check {
    double mass;                   /* sum of the weights kept */
    uint64_t n, n_peak, peak_kept; /* probes; those whose strongest far key is a look-up; of these, kept: each counted
                                      for the steps it stands for */
    uint64_t n_look_up;            /* those probes themselves */
} crit_check;

typedef struct crit_ready_room {
    unsigned char *at;
    size_t cap;
} crit_ready_room;

struct crit_plan {
    crit_pool *pool;
    const crit_kernels *kernels;
    crit_attn_params params;
    crit_cost cost;
    uint32_t n_head, n_kv_head, d;

    /* the chunk it was built for */
    uint32_t pos0, n_tok, tile0, n_tile;
    float scale;
    double pairs, pairs_causal; /* planned, all, over heads and rows */
    _Atomic uint64_t n_skip;    /* (row, far block) pairs left out by [alg:skip], summed until the owner resets it */

    crit_plan_row_t *rows; /* [n_head][n_tile] */
    uint32_t *slots;       /* [n_head][n_tile][stride] ids of sparse rows */
    uint32_t *all;         /* 0, 1, 2, ...: the ids of every dense row */
    size_t n_rows_cap, n_slots_cap, n_all;
    size_t stride;

    float *fused; /* paper: [n_fused_seg][n_kv_head][stride] F of this layer, of the segments from fused_seg0 on */
    uint32_t fused_seg0, n_fused_seg;
    size_t n_fused_cap;
    uint32_t seg0, n_seg;

    /* [n_kv_head][stride][CRIT_READY_BYTES(d)] of this chunk's layer, where that pays: own_ready, or what plans that are
     * run one at a time share. */
    crit_ready_room *ready, own_ready;
    bool use_ready, is_ready; /* is_ready: a plan whose probes read it has it made already */

    unsigned char *scratch; /* one slice per thread */
    size_t scratch_slice, n_scratch;

    crit_calib own_calib; /* tier 2 only: sessions keep one per layer */
    crit_probe *probes;   /* [n_probe][n_head] of the chunk */
    float *probe_mass;    /* [n_kv_head][n_probe][n_group][stride] */
    crit_gain *gains;     /* [n_probe + 1][n_head]: before the chunk, and after each of its probes */
    size_t n_probes_cap, n_probe_mass_cap, n_gains_cap, n_probe_at_cap;
    uint32_t *probe_at, n_probe; /* [n_probe] positions, ascending; how many */

    /* summed until the owner resets them */
    crit_check check;
    uint64_t estimate_ns, ready_ns; /* wall time; ready_ns: of making keys ready before the probes */
};

crit_status crit_plan_init(crit_plan *p, crit_pool *pool, const crit_kernels *kernels, uint32_t n_head,
                           uint32_t n_kv_head, uint32_t d, const crit_attn_params *params, crit_error *err);
void crit_plan_clear(crit_plan *p);
size_t crit_plan_used_bytes(const crit_plan *p); /* of what it has allocated */
/* Checks ranges; shared by sessions and tier 2. */
crit_status crit_attn_params_check(const crit_attn_params *p, crit_error *err);
/* Blocks before it are far from queries from position pos on. */
static inline uint32_t crit_first_near(uint32_t pos) {
    uint32_t own = pos / CRIT_BLK_LEN;
    return own < CRIT_LOCAL_BLK ? 0 : own - CRIT_LOCAL_BLK;
}
/* Chunks of a prompt start and end at multiples of this (the end of the prompt excepted). */
uint32_t crit_attn_align(const crit_attn_params *p);
/* Positions at the end of a prompt that are treated differently, hence must not be read before the end is known. */
uint32_t crit_attn_tail(const crit_attn_params *p);
/* Bytes a plan allocates for chunks of n_batch tokens with n_ctx keys (an upper estimate). */
size_t crit_plan_estimate_bytes(const crit_kernels *kt, const crit_attn_params *p, uint32_t n_head, uint32_t n_kv_head, uint32_t d,
                                uint32_t n_batch, uint32_t n_ctx, unsigned n_thread);

/* Builds the plan (estimate + select); calib is the layer's and is extended. */
crit_status crit_plan_make(crit_plan *p, const crit_plan_job *job, crit_calib *calib, crit_error *err);
/* Room on a worker's scratch for the list of a span and which of its tiles want each entry. */
void crit_plan_scratch_list(const crit_plan *p, unsigned worker, uint32_t **ids, uint8_t **want);
/* Executes it, as stages of a run in this order; a must live until that has ended.             [alg:attend] */
typedef struct crit_attend_job {
    crit_plan *plan;
    const crit_plan_job *job;
    float *out; /* [n_tok][out_stride] */
    size_t out_stride;
} crit_attend_job;
crit_stage crit_plan_ready_stage(crit_attend_job *a); /* nothing to do where the plan was made with it */
crit_stage crit_plan_attend_stage(crit_attend_job *a);

/* Keys and values of a KV head made ready, NULL where that does not pay. */
static inline unsigned char *crit_plan_ready(const crit_plan *p, uint32_t kv_head) {
    return p->use_ready ? p->ready->at + kv_head * p->stride * CRIT_READY_BYTES(p->d) : NULL;
}

static inline crit_plan_row_t *crit_plan_at(const crit_plan *p, uint32_t head, uint32_t tile) {
    return &p->rows[(size_t)head * p->n_tile + tile];
}

/* Spans of the chunk; the tiles [*t0, *t1) of one. */
static inline uint32_t crit_plan_n_span(const crit_plan *p) {
    return (p->tile0 + p->n_tile - 1) / CRIT_SPAN_TILES - p->tile0 / CRIT_SPAN_TILES + 1;
}
static inline void crit_plan_span(const crit_plan *p, uint32_t span, uint32_t *t0, uint32_t *t1) {
    uint32_t a = (p->tile0 / CRIT_SPAN_TILES + span) * CRIT_SPAN_TILES, z = a + CRIT_SPAN_TILES;
    *t0 = a < p->tile0 ? 0 : a - p->tile0;
    *t1 = z - p->tile0 < p->n_tile ? z - p->tile0 : p->n_tile;
}
/* The same of the span that holds a tile. */
static inline void crit_plan_span_of(const crit_plan *p, uint32_t tile, uint32_t *t0, uint32_t *t1) {
    crit_plan_span(p, (p->tile0 + tile) / CRIT_SPAN_TILES - p->tile0 / CRIT_SPAN_TILES, t0, t1);
}

/* First position of tile t of the plan, inside the chunk, and its number of rows. */
static inline uint32_t crit_plan_tile_pos(const crit_plan *p, uint32_t tile) {
    uint32_t at = (p->tile0 + tile) * CRIT_TILE_LEN;
    return at < p->pos0 ? p->pos0 : at;
}
static inline uint32_t crit_plan_tile_rows(const crit_plan *p, uint32_t tile) {
    uint32_t end = (p->tile0 + tile + 1) * CRIT_TILE_LEN, stop = p->pos0 + p->n_tok;
    return (end < stop ? end : stop) - crit_plan_tile_pos(p, tile);
}

/* ---- stages, each over one work item; see the files ---- */

/* Means of CRIT_REP_LEN consecutive queries of a tile on the absolute grid; rep [CRIT_TILE_REPS][d].  A tile that has
 * only one gets it twice. */
#define CRIT_TILE_REPS (CRIT_TILE_LEN / CRIT_REP_LEN)
void crit_represent_means(const crit_kernels *kt, const float *q, size_t q_stride, uint32_t pos, uint32_t n_row,
                          uint32_t d, float *rep);
/* qmid[i] = (max_r q[r][i] + min_r q[r][i]) / 2 over the rows of a segment. */
void crit_represent_mid(const float *q, size_t q_stride, uint32_t n_row, uint32_t d, float *qmid);

/* share [n_tile <= CRIT_SPAN_TILES][stride] of the far blocks [CRIT_SINK_BLK, CRIT_SINK_BLK + n_free[t]) of consecutive
 * tiles of a head, 0 behind them; n_free ascends; rep [n_tile][CRIT_TILE_REPS][d]; z [n_free of the last][8] scratch.
 */
void crit_score_share(const crit_kernels *kt, const crit_kv *kv, uint32_t kv_head, const float *rep, uint32_t n_tile,
                      const uint32_t *n_free, float scale, float *z, float *share, size_t stride);
/* prob [n_cand]: soft-max over candidate blocks of the published score, mean over the group's qmid [n_group][d]. */
void crit_score_paper(const crit_kernels *kt, const crit_kv *kv, uint32_t kv_head, const float *qmid, uint32_t n_group,
                      uint32_t n_cand, float *prob);

/* Exact soft-max weights by block of n_row <= CRIT_LSE_ROWS query rows of heads of one KV head, q [n_row][d], row r at
 * position pos[r], ascending: mass [n_row][stride >= pos[r]/32 + 1].  What one key weighs is e^(score - lse[r]); top
 * [n_row][stride] are the largest scores by block.  ready: the head's keys by attend_ready, or NULL. */
void crit_probe_weights(const crit_kernels *kt, const crit_kv *kv, uint32_t kv_head, const float *q, uint32_t n_row,
                        const uint32_t *pos, float scale, const void *ready, void *scratch, float *mass, float *top,
                        size_t stride, float *lse);
/* Weight outside the sinks, [n_blk] mass of all blocks.  Sinks carry mass but tiny values: they stay outside what
 * shares are taken of. */
double crit_rest_of(const float *mass);
/* What the weights of one probe say of the head; share [n_free] of the probe's tile, NULL = no gain. */
void crit_probe_judge(crit_probe *p, const float *mass, const float *top, float lse, const float *share,
                      uint32_t n_free, float power);
/* What a plan must keep of a head: blocks expected to weigh `least` and more, as mean of power `power`, and blocks
 * that hold the key of a look-up with more than this chance (0: any chance may be lost); of what the probes met at
 * least p_mass of the weight outside the sink and `recall` of the look-ups. */
typedef struct crit_gain_want {
    float power, least, chance, p_mass, recall;
} crit_gain_want;
/* The share above which blocks have to be kept for that. */
float crit_gain_threshold(const crit_gain *g, const crit_gain_want *want, uint32_t n_free);

/* fused = alpha * prev + (1 - alpha) * prob; prev NULL: fused = prob.  Any may be the same array. */
void crit_fuse(float *fused, const float *prev, const float *prob, uint32_t n, float alpha);

/* Ids b0 + b of the n_best largest share[b], ties to the lower id, ascending; keys [n] scratch.  Returns how many. */
size_t crit_select_top(const float *share, size_t n, size_t n_best, uint32_t b0, uint64_t *keys, uint32_t *ids);

#endif
