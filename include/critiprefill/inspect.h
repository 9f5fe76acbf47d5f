/* SPDX-License-Identifier: MIT */
/* critiprefill, looking inside: what one layer saw, planned and computed, and what dense attention would weigh.
 *
 * Set crit_prefill_params.on_layer and the callback is given every layer of every chunk, after its attention: queries,
 * keys, values, the plan and the result.  The exact weights are computed from what the view holds, so that a sparse
 * run can be judged against dense attention on the very same queries and keys.  For instruments: a prefill that is
 * looked at computes every row of the last layer as well.
 *
 * A view and all it points at is valid during the callback only; its functions are called from there. */
#ifndef CRITIPREFILL_INSPECT_H
#define CRITIPREFILL_INSPECT_H

#include "critiprefill/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CRIT_VIEW_BLK_LEN   32  /* keys a block */
#define CRIT_VIEW_TILE_LEN  32  /* queries a tile, on the absolute grid of positions */
#define CRIT_VIEW_SINK_TOK  32  /* first tokens that every criti plan keeps */
#define CRIT_VIEW_LOCAL_TOK 128 /* tokens before a tile that every criti plan keeps */

struct crit_layer_view {
    size_t struct_size;
    uint32_t layer, n_layer;
    uint32_t pos0, n_tok; /* queries of the chunk: positions [pos0, pos0 + n_tok) */
    uint32_t n_head, n_kv_head, d_head;
    float scale;           /* of the soft-max */
    const float *q;        /* [n_tok][q_stride] after RoPE, head h at + h * d_head */
    size_t q_stride;       /* elements */
    const float *out;      /* [n_tok][out_stride] attention's result, likewise, before the output projection */
    size_t out_stride;     /* elements */
    const crit_kv *kv;     /* keys and values of positions [0, pos0 + n_tok) */
    const crit_plan *plan; /* crit_plan_row, crit_plan_n_tile, crit_plan_density; its tile 0 is that of pos0 */
};

/* Keys and values of n positions from pos on, as attention reads them (rounded to 16 bits), as f32.
 * k, v [n][d_head] out, either may be NULL. */
CRIT_API crit_status crit_view_kv(const crit_layer_view *view, uint32_t kv_head, uint32_t pos, uint32_t n, float *k,
                                  float *v, crit_error *err);
/* Exact dense soft-max weights of queries by key block, for every head, in parallel.
 *   pos [n_pos] positions inside the chunk;
 *   mass [n_head][n_pos][n_blk] sum of the weights of block b's keys, 0 behind the query; sums to 1 over b;
 *   peak [n_head][n_pos][n_blk] largest single weight in the block; may be NULL.
 * n_blk = crit_view_n_blk(view). */
CRIT_API uint32_t crit_view_n_blk(const crit_layer_view *view);
CRIT_API crit_status crit_view_weights(const crit_layer_view *view, const uint32_t *pos, uint32_t n_pos, float *mass,
                                       float *peak, crit_error *err);

#ifdef __cplusplus
}
#endif
#endif
