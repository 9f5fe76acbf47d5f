/* SPDX-License-Identifier: MIT */
/* Matrix products on float weights (F32, F16, BF16) in bf16, AVX-512 with vdpbf16ps: 8 rows x 32 outputs.
 *
 * Panels are those of the AMX level (panel_bf16_float.h), two side by side; all of K that fits is decoded into L2, then
 * half tiles of packed rows take one K block after the other, and their sums wait in scratch, so that out is read and
 * written once.  Rows of a half tile that are not asked for are multiplied and dropped: a row's sums see no other. */
#include "kernels/act.h"
#include "kernels/protos.h"
#include "kernels/x86/dot_bf16.h"
#include "kernels/x86/gemm_tile.h"
#include "kernels/x86/panel_bf16_float.h"

enum {
    STEPS = 8, /* of 32 inputs in a K block: two panels of them are half of L1 */
    BLOCKS = 24,
    STRIPS = 12, /* whose sums wait for the next K block */
    BLOCK_LEN = STEPS * BF16_STEP_LEN,
    TILE_STEP = CRIT_ACT_TILE * CRIT_ACT_STEP, /* values of a packed tile's step */
};
_Static_assert(CRIT_ACT_TILE == 2 * DOT_ROWS && CRIT_GEMM_NR == DOT_LANES, "half a packed tile by two panels");

typedef struct scratch_dot {
    _Alignas(64) uint16_t w[BLOCKS][2][BLOCK_LEN];
    float c[STRIPS][2][DOT_ROWS * CRIT_GEMM_NR];
} scratch_dot;
_Static_assert(sizeof(scratch_dot) <= 832 << 10, "crit_gemm_scratch_bytes");

/* One half tile by the panels of one K block. */
CRIT_INLINE void multiply(const int np, const uint16_t *act, const uint16_t *w, size_t steps,
                          float (*c)[DOT_ROWS * CRIT_GEMM_NR]) {
    __m512 acc[DOT_COLS][DOT_ROWS];
    CRIT_UNROLL for (int p = 0; p < np; p++) {
        CRIT_UNROLL for (size_t i = 0; i < DOT_ROWS; i++) acc[p][i] = _mm512_loadu_ps(c[p] + i * CRIT_GEMM_NR);
    }
    for (size_t s = 0; s < steps; s++, act += TILE_STEP, w += BF16_STEP_LEN)
        dot_tile(np, act, CRIT_ACT_STEP, w, BLOCK_LEN, CRIT_ACT_STEP, acc);
    CRIT_UNROLL for (int p = 0; p < np; p++) {
        CRIT_UNROLL for (size_t i = 0; i < DOT_ROWS; i++) _mm512_storeu_ps(c[p] + i * CRIT_GEMM_NR, acc[p][i]);
    }
}

/* A half tile: its rows of out, and where its first row's values are. */
typedef struct half {
    size_t r, n_row, skip; /* rows [r, r + n_row) are its rows from `skip` on */
    const uint16_t *act;
} half;

static half half_at(const crit_gemm_args *a, size_t r) {
    const size_t place = a->act_row + r, in_half = place % DOT_ROWS, left = a->n_row - r;
    const size_t tile_len = CRIT_ACT_TILE * crit_act_row_bytes(CRIT_ACT_BF16, a->n_in) / sizeof(uint16_t);
    const size_t in_tile = place % CRIT_ACT_TILE - in_half;
    return (half){.r = r,
                  .n_row = DOT_ROWS - in_half < left ? DOT_ROWS - in_half : left,
                  .skip = in_half,
                  .act = (const uint16_t *)a->act + place / CRIT_ACT_TILE * tile_len + in_tile * CRIT_ACT_STEP -
                         a->act_row * CRIT_ACT_STEP};
}

CRIT_AI void gemm_float(const crit_gemm_args *a, size_t n0, size_t n1, scratch_dot *s, crit_type type) {
    const size_t len = STEPS * BF16_STEP, all = BLOCKS * len, bytes = type == CRIT_T_F32 ? 4 : 2;
    memset((void *)s->c, 0, sizeof s->c);
    for (size_t n = n0; n < n1; n += 2 * CRIT_GEMM_NR) {
        const uint8_t *row[2][CRIT_GEMM_NR];
        size_t nv[2] = {0, 0};
        const size_t np = panel_pair(a, n, n1, row, nv);
        for (size_t k0 = 0; k0 < a->n_in; k0 += all) {
            const size_t k1 = a->n_in - k0 < all ? a->n_in : k0 + all;
            for (size_t k = k0; k < k1; k += len)
                for (size_t p = 0; p < np; p++) {
                    const size_t nk = k1 - k < len ? k1 - k : len;
                    bf16_panel_float(row[p], nk, s->w[(k - k0) / len][p], type);
                    for (size_t j = 0; j < CRIT_GEMM_NR; j++) row[p][j] += nk * bytes;
                }
            for (size_t r = 0; r < a->n_row;) {
                half h[STRIPS];
                size_t n_half = 0;
                for (; n_half < STRIPS && r < a->n_row; r += h[n_half++].n_row) h[n_half] = half_at(a, r);
                for (size_t k = k0; k < k1; k += len) {
                    const size_t steps = ((k1 - k < len ? k1 - k : len) + BF16_STEP - 1) / BF16_STEP;
                    for (size_t i = 0; i < n_half; i++) {
                        float(*c)[DOT_ROWS * CRIT_GEMM_NR] = s->c[i];
                        const size_t skip = h[i].skip * CRIT_GEMM_NR;
                        const uint16_t *act = h[i].act + k / BF16_STEP * TILE_STEP, *w = s->w[(k - k0) / len][0];
                        for (size_t p = 0; p < np && k == k0; p++)
                            tile_begin(a, c[p] + skip, h[i].r, h[i].n_row, n + p * CRIT_GEMM_NR, nv[p], k == 0);
                        if (np == 2)
                            multiply(2, act, w, steps, c);
                        else
                            multiply(1, act, w, steps, c);
                        for (size_t p = 0; p < np && k + len >= k1; p++)
                            tile_end(a, c[p] + skip, h[i].r, h[i].n_row, n + p * CRIT_GEMM_NR, nv[p]);
                    }
                }
            }
        }
    }
}

#define FLOAT_TYPE(name, type)                                                                                         \
    void crit_gemm_##name##_avx512bf16(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                 \
        gemm_float(a, n0, n1, scratch, type);                                                                          \
    }
FLOAT_TYPE(f32, CRIT_T_F32)
FLOAT_TYPE(f16, CRIT_T_F16)
FLOAT_TYPE(bf16, CRIT_T_BF16)
