/* SPDX-License-Identifier: MIT */
/* Matrix products in bf16 on AMX tiles, every weight type: 32 rows x 32 outputs at a time in four accumulators.
 *
 * Per K block the weights of up to 64 outputs are decoded to bf16 panels (64 KB, in L2) and then serve all rows; the
 * activations are the A operand as they lie, read at their own stride.  An accumulator's sum runs over K in steps of
 * 32 from what out holds, whatever the shape around it, and a tile row meets no other: no cut shows in the bits.
 * Rows that do not fill a tile get tiles of fewer rows, so nothing behind the last row is read or written.
 * Tile products take subnormals for 0. tests/emul runs this source everywhere; no hardware has run it yet. */
#include "kernels/protos.h"
#include "kernels/x86/amx.h"
#include "kernels/x86/gemm_tile.h"
#include "kernels/x86/panel_bf16.h"

enum {
    KB = 512,   /* inputs a block: 32 rows or outputs of one are 32 KB, so one operand stays in L1 */
    PANELS = 4, /* decoded at a time */
    STEPS = KB / BF16_STEP
};

typedef struct scratch_amx {
    uint16_t w[PANELS][STEPS * BF16_STEP_LEN];
    float c[4][AMX_ROWS * CRIT_GEMM_NR]; /* of tile t, when out cannot be loaded or stored as it lies */
    panel p;
} scratch_amx;
_Static_assert(sizeof(scratch_amx) <= 104 << 10, "crit_gemm_scratch_bytes");

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

/* What a tile starts from: out, 0, or the two cases that need a detour (bias, fewer than 16 outputs). */
#define LOAD_C(t, rt, pt)                                                                                              \
    if ((rt) < RT && (pt) < NP) {                                                                                      \
        if (first && !a->bias && !a->accumulate)                                                                       \
            _tile_zero(t);                                                                                             \
        else if (nv[pt] == CRIT_GEMM_NR && !(first && a->bias))                                                        \
            _tile_loadd(t, out + (rt)*AMX_ROWS * a->out_stride + (pt)*CRIT_GEMM_NR, stride);                           \
        else {                                                                                                         \
            tile_begin(a, s->c[t], r + (rt)*AMX_ROWS, n_row, n + (pt)*CRIT_GEMM_NR, nv[pt], first);                    \
            AMX_FENCE();                                                                                               \
            _tile_loadd(t, s->c[t], AMX_BYTES);                                                                        \
        }                                                                                                              \
    }
#define STORE_C(t, rt, pt)                                                                                             \
    if ((rt) < RT && (pt) < NP) {                                                                                      \
        if (nv[pt] == CRIT_GEMM_NR)                                                                                    \
            _tile_stored(t, out + (rt)*AMX_ROWS * a->out_stride + (pt)*CRIT_GEMM_NR, stride);                          \
        else {                                                                                                         \
            _tile_stored(t, s->c[t], AMX_BYTES);                                                                       \
            AMX_FENCE();                                                                                               \
            tile_end(a, s->c[t], r + (rt)*AMX_ROWS, n_row, n + (pt)*CRIT_GEMM_NR, nv[pt]);                             \
        }                                                                                                              \
    }

/* RT row tiles of n_row rows from row r on, NP panels from w on; act is row r's K block. */
CRIT_AI void tiles(const int RT, const int NP, const crit_gemm_args *a, scratch_amx *s, const uint16_t *w, size_t r,
                   size_t n_row, size_t n, const size_t *nv, const uint8_t *act, size_t row_bytes, size_t steps,
                   int first) {
    float *out = a->out + r * a->out_stride + n;
    const size_t stride = a->out_stride * sizeof *out;
    LOAD_C(0, 0, 0)
    LOAD_C(1, 0, 1)
    LOAD_C(2, 1, 0)
    LOAD_C(3, 1, 1)
    for (size_t k = 0; k < steps; k++, act += AMX_BYTES, w += BF16_STEP_LEN) {
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

typedef void (*tiles_fn)(const crit_gemm_args *a, scratch_amx *s, const uint16_t *w, size_t r, size_t n_row, size_t n,
                         const size_t *nv, const uint8_t *act, size_t row_bytes, size_t steps, int first);
#define TILES(rt, np)                                                                                                  \
    static void tiles_##rt##_##np(const crit_gemm_args *a, scratch_amx *s, const uint16_t *w, size_t r, size_t n_row,  \
                                  size_t n, const size_t *nv, const uint8_t *act, size_t row_bytes, size_t steps,      \
                                  int first) {                                                                         \
        tiles(rt, np, a, s, w, r, n_row, n, nv, act, row_bytes, steps, first);                                         \
    }
TILES(1, 1)
TILES(1, 2)
TILES(2, 1)
TILES(2, 2)

/* kind is NULL for floats */
CRIT_AI void gemm_bf16(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch, crit_type type,
                       const bf16_kind *kind) {
    static const tiles_fn fn[2][2] = {{tiles_1_1, tiles_1_2}, {tiles_2_1, tiles_2_2}}; /* [row tiles][panels] - 1 */
    scratch_amx *s = scratch;
    const size_t row_bytes = crit_act_row_bytes(CRIT_ACT_BF16, a->n_in);
    const size_t float_bytes = type == CRIT_T_F32 ? 4 : 2;
    size_t configured = 0;
    if (n0 >= n1 || a->n_row == 0) return;
    for (size_t n = n0; n < n1; n += PANELS * CRIT_GEMM_NR) {
        const uint8_t *row[PANELS][CRIT_GEMM_NR];
        size_t nv[PANELS], np = 0;
        for (; np < PANELS && n + np * CRIT_GEMM_NR < n1; np++) {
            size_t left = n1 - n - np * CRIT_GEMM_NR;
            nv[np] = left < CRIT_GEMM_NR ? left : CRIT_GEMM_NR;
            panel_rows(a, n + np * CRIT_GEMM_NR, nv[np], row[np]);
        }
        for (size_t k = 0; k < a->n_in; k += KB) {
            const size_t nk = a->n_in - k < KB ? a->n_in - k : KB, steps = (nk + BF16_STEP - 1) / BF16_STEP;
            for (size_t p = 0; p < np; p++) {
                if (kind)
                    bf16_panel_quant(row[p], nk, s->w[p], kind, &s->p);
                else
                    bf16_panel_float(row[p], nk, s->w[p], type);
                size_t step = kind ? KB / kind->blk_elems * kind->blk_bytes : KB * float_bytes;
                for (size_t j = 0; j < CRIT_GEMM_NR; j++) row[p][j] += step;
            }
            AMX_FENCE();
            for (size_t r = 0; r < a->n_row;) {
                const size_t left = a->n_row - r, nr = left < AMX_ROWS ? left : AMX_ROWS;
                const int two = left >= 2 * AMX_ROWS;
                const uint8_t *act = (const uint8_t *)a->act + r * row_bytes + k * sizeof(uint16_t);
                if (configured != nr) configure(configured = nr);
                for (size_t p = 0; p < np; p += 2)
                    fn[two][p + 1 < np](a, s, s->w[p], r, nr, n + p * CRIT_GEMM_NR, nv + p, act, row_bytes, steps,
                                        k == 0);
                r += two ? 2 * AMX_ROWS : nr;
            }
        }
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
