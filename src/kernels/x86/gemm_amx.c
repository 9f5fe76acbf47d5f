/* SPDX-License-Identifier: MIT */
/* Matrix products in bf16 on AMX tiles, every weight type: 32 rows x 32 outputs at a time in four accumulators.
 *
 * Per K block the weights of up to 128 outputs are decoded to bf16 panels (64 KB, in L2) and then serve up to 1,024
 * rows; the activations are the A operand as they lie, read at their own stride.  Between K blocks the sums rest in
 * scratch, tile by tile: rows of out often lie a power of two apart, where 32 of them do not fit a cache's set.  A sum
 * runs over K in steps of 32 from what out holds (or the bias, or 0), whatever the shape around it, and a tile row meets
 * no other: no cut shows in the bits.  Rows that do not fill a tile get tiles of fewer rows, so nothing behind the last
 * row is read or written.  Tile products take subnormals for 0. */
#include "kernels/protos.h"
#include "kernels/x86/amx.h"
#include "kernels/x86/gemm_tile.h"
#include "kernels/x86/panel_bf16.h"

enum {
    KB = 256,     /* inputs a block: the operands of two tiles by two panels are 32 KB, so they stay in L1 */
    PANELS = 8,   /* decoded at a time */
    ROWS = 1024,  /* a multiple of 32: sums of so many rows and PANELS panels are 512 KB */
    STEPS = KB / BF16_STEP,
    TILE_LEN = AMX_ROWS * CRIT_GEMM_NR
};

typedef struct scratch_amx {
    uint16_t w[PANELS][STEPS * BF16_STEP_LEN];
    float c[4][TILE_LEN]; /* of tile t, when out cannot be loaded or stored as it lies */
    panel p;
    float sum[ROWS / AMX_ROWS][PANELS][TILE_LEN]; /* between K blocks; last, so that short products do not touch it */
} scratch_amx;
_Static_assert(sizeof(scratch_amx) <= 616 << 10, "crit_gemm_scratch_bytes");

/* Tiles 0-3 accumulate, 4 and 5 hold activations: n_row rows each; 6 and 7 hold weights. */
static void configure(size_t n_row) {
    struct {
        uint8_t palette, start_row, zero[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } cfg __attribute__((aligned(64))) = {.palette = 1};
    for (int t = 0; t < 8; t++) cfg.colsb[t] = AMX_BYTES, cfg.rows[t] = t < 6 ? (uint8_t)n_row : AMX_ROWS;
    __asm__ volatile("" ::"r"(&cfg) : "memory");
    _tile_loadconfig(&cfg);
}

/* Where a call of tiles() stands. */
typedef struct spot {
    size_t r, n_row; /* first row; rows of each row tile */
    size_t n;        /* first output */
    size_t nv[2];    /* outputs of each panel */
    float *sum;      /* of the first row tile and panel; row tiles are PANELS tiles apart */
    int first, last; /* K block */
} spot;

/* What a tile starts from: sums of the block before, out, 0, or the two cases that need a detour (bias, fewer than 16
 * outputs). */
#define LOAD_C(t, rt, pt)                                                                                              \
    if ((rt) < RT && (pt) < NP) {                                                                                      \
        if (!at->first)                                                                                                \
            _tile_loadd(t, at->sum + ((rt)*PANELS + (pt)) * TILE_LEN, AMX_BYTES);                                      \
        else if (!a->bias && !a->accumulate)                                                                           \
            _tile_zero(t);                                                                                             \
        else if (at->nv[pt] == CRIT_GEMM_NR && !a->bias)                                                               \
            _tile_loadd(t, out + (rt)*AMX_ROWS * a->out_stride + (pt)*CRIT_GEMM_NR, stride);                           \
        else {                                                                                                         \
            tile_begin(a, s->c[t], at->r + (rt)*AMX_ROWS, at->n_row, at->n + (pt)*CRIT_GEMM_NR, at->nv[pt], 1);        \
            AMX_FENCE();                                                                                               \
            _tile_loadd(t, s->c[t], AMX_BYTES);                                                                        \
        }                                                                                                              \
    }
#define STORE_C(t, rt, pt)                                                                                             \
    if ((rt) < RT && (pt) < NP) {                                                                                      \
        if (!at->last)                                                                                                 \
            _tile_stored(t, at->sum + ((rt)*PANELS + (pt)) * TILE_LEN, AMX_BYTES);                                     \
        else if (at->nv[pt] == CRIT_GEMM_NR)                                                                           \
            _tile_stored(t, out + (rt)*AMX_ROWS * a->out_stride + (pt)*CRIT_GEMM_NR, stride);                          \
        else {                                                                                                         \
            _tile_stored(t, s->c[t], AMX_BYTES);                                                                       \
            AMX_FENCE();                                                                                               \
            tile_end(a, s->c[t], at->r + (rt)*AMX_ROWS, at->n_row, at->n + (pt)*CRIT_GEMM_NR, at->nv[pt]);             \
        }                                                                                                              \
    }

/* RT row tiles, NP panels from w on; act is the first row's K block. */
CRIT_AI void tiles(const int RT, const int NP, const crit_gemm_args *a, scratch_amx *s, const spot *at,
                   const uint16_t *w, const uint8_t *act, size_t row_bytes, size_t steps) {
    float *out = a->out + at->r * a->out_stride + at->n;
    const size_t stride = a->out_stride * sizeof *out;
    LOAD_C(0, 0, 0)
    LOAD_C(1, 0, 1)
    LOAD_C(2, 1, 0)
    LOAD_C(3, 1, 1)
    /* Stores of a tile's 16 far-apart lines stall on misses (a quarter of the time at 896 inputs): fetch them early. */
    size_t ahead = RT > 1 && NP > 1 && at->last ? 0 : 2 * AMX_ROWS;
    for (size_t k = 0; k < steps; k++, act += AMX_BYTES, w += BF16_STEP_LEN) {
        for (int i = 0; i < 4 && ahead < 2 * AMX_ROWS; i++, ahead++) {
            __builtin_prefetch(out + ahead * a->out_stride, 1, 3);
            __builtin_prefetch(out + ahead * a->out_stride + CRIT_GEMM_NR, 1, 3);
        }
        _tile_loadd(4, act, row_bytes);
        _tile_loadd(6, w, AMX_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        if (NP > 1) {
            _tile_loadd(7, w + STEPS * BF16_STEP_LEN, AMX_BYTES);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (RT > 1) {
            _tile_loadd(5, act + AMX_ROWS * row_bytes, row_bytes);
            _tile_dpbf16ps(2, 5, 6);
            if (NP > 1) _tile_dpbf16ps(3, 5, 7);
        }
    }
    STORE_C(0, 0, 0)
    STORE_C(1, 0, 1)
    STORE_C(2, 1, 0)
    STORE_C(3, 1, 1)
}

typedef void (*tiles_fn)(const crit_gemm_args *a, scratch_amx *s, const spot *at, const uint16_t *w, const uint8_t *act,
                         size_t row_bytes, size_t steps);
#define TILES(rt, np)                                                                                                  \
    static void tiles_##rt##_##np(const crit_gemm_args *a, scratch_amx *s, const spot *at, const uint16_t *w,          \
                                  const uint8_t *act, size_t row_bytes, size_t steps) {                                \
        tiles(rt, np, a, s, at, w, act, row_bytes, steps);                                                             \
    }
TILES(1, 1)
TILES(1, 2)
TILES(2, 1)
TILES(2, 2)

/* Rows [r0, r1), at most ROWS, of np panels from output n on, all of K.  kind is NULL for floats. */
CRIT_AI void rows_of_panels(const crit_gemm_args *a, scratch_amx *s, size_t r0, size_t r1, size_t n, size_t np,
                            const size_t *nv, crit_type type, const bf16_kind *kind) {
    static const tiles_fn fn[2][2] = {{tiles_1_1, tiles_1_2}, {tiles_2_1, tiles_2_2}}; /* [row tiles][panels] - 1 */
    const size_t row_bytes = crit_act_row_bytes(CRIT_ACT_BF16, a->n_in), float_bytes = type == CRIT_T_F32 ? 4 : 2;
    const size_t block_bytes = kind ? KB / kind->blk_elems * kind->blk_bytes : KB * float_bytes;
    const uint8_t *row[PANELS][CRIT_GEMM_NR];
    size_t configured = 0;
    for (size_t p = 0; p < np; p++) panel_rows(a, n + p * CRIT_GEMM_NR, nv[p], row[p]);
    for (size_t k = 0; k < a->n_in; k += KB) {
        const size_t nk = a->n_in - k < KB ? a->n_in - k : KB, steps = (nk + BF16_STEP - 1) / BF16_STEP;
        for (size_t p = 0; p < np; p++) {
            if (kind)
                bf16_panel_quant(row[p], nk, s->w[p], kind, &s->p);
            else
                bf16_panel_float(row[p], nk, s->w[p], type);
            for (size_t j = 0; j < CRIT_GEMM_NR; j++) row[p][j] += block_bytes;
        }
        AMX_FENCE();
        for (size_t r = r0; r < r1;) {
            const size_t left = r1 - r, two = left >= 2 * AMX_ROWS;
            spot at = {.r = r,
                       .n_row = left < AMX_ROWS ? left : AMX_ROWS,
                       .first = k == 0,
                       .last = k + KB >= a->n_in};
            const uint8_t *act = (const uint8_t *)a->act + r * row_bytes + k * sizeof(uint16_t);
            if (configured != at.n_row) configure(configured = at.n_row);
            for (size_t p = 0; p < np; p += 2) {
                at.n = n + p * CRIT_GEMM_NR, at.nv[0] = nv[p], at.nv[1] = p + 1 < np ? nv[p + 1] : 0;
                at.sum = s->sum[(r - r0) / AMX_ROWS][p];
                fn[two][p + 1 < np](a, s, &at, s->w[p], act, row_bytes, steps);
            }
            r += two ? 2 * AMX_ROWS : at.n_row;
        }
    }
}

CRIT_AI void gemm_bf16(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch, crit_type type,
                       const bf16_kind *kind) {
    if (n0 >= n1 || a->n_row == 0) return;
    for (size_t n = n0; n < n1; n += PANELS * CRIT_GEMM_NR) {
        size_t nv[PANELS], np = 0;
        for (; np < PANELS && n + np * CRIT_GEMM_NR < n1; np++) {
            size_t left = n1 - n - np * CRIT_GEMM_NR;
            nv[np] = left < CRIT_GEMM_NR ? left : CRIT_GEMM_NR;
        }
        for (size_t r = 0; r < a->n_row; r += ROWS)
            rows_of_panels(a, scratch, r, a->n_row - r < ROWS ? a->n_row : r + ROWS, n, np, nv, type, kind);
    }
    amx_end();
}

#define FLOAT_TYPE(name, type)                                                                                         \
    void crit_gemm_##name##_amx(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                        \
        gemm_bf16(a, n0, n1, scratch, type, NULL);                                                                     \
    }
FLOAT_TYPE(f32, CRIT_T_F32)
FLOAT_TYPE(f16, CRIT_T_F16)
FLOAT_TYPE(bf16, CRIT_T_BF16)

static void gemm_quant(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch, const bf16_kind *kind) {
    gemm_bf16(a, n0, n1, scratch, a->type, kind);
}

#define QUANT_TYPE(name, ...)                                                                                          \
    void crit_gemm_##name##_amx(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                        \
        static const bf16_kind kind = {decode8_##name, __VA_ARGS__};                                                   \
        gemm_quant(a, n0, n1, scratch, &kind);                                                                         \
    }
/* block's values and bytes, SHIFT, minimum's inputs, scales per 16 */
QUANT_TYPE(q4_0, 32, 18, 3, 0, 0)
QUANT_TYPE(q4_1, 32, 20, 0, 32, 0)
QUANT_TYPE(q5_0, 32, 22, 4, 0, 0)
QUANT_TYPE(q5_1, 32, 24, 4, 32, 0)
QUANT_TYPE(q8_0, 32, 34, 7, 0, 0)
QUANT_TYPE(q2_k, 256, 84, 0, 16, 1)
QUANT_TYPE(q3_k, 256, 110, 2, 0, 1)
QUANT_TYPE(q4_k, 256, 144, 0, 32, 0)
QUANT_TYPE(q5_k, 256, 176, 4, 32, 0)
QUANT_TYPE(q6_k, 256, 210, 5, 0, 1)
QUANT_TYPE(iq4_nl, 32, 18, 7, 0, 0)
QUANT_TYPE(iq4_xs, 256, 136, 7, 0, 0)
