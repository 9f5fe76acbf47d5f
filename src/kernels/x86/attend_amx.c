/* SPDX-License-Identifier: MIT */
/* attend on AMX tiles: the products of attend_bf16_tmpl.h.  K [16 keys][32 values] and V^T [16 values][32 keys] load
 * straight from the store, query rows are the 16 columns of a tile. */
#include "kernels/protos.h"
#include "kernels/x86/amx.h"
#include "kernels/x86/bf16_weights.h"

enum { AHEAD_QK = 16, AHEAD_PV = 8 }; /* lines asked for at a time, see ahead.h */

#define WIDE(d) whole_tiles(d)
#define BEGIN() amx_begin()
#define END()   amx_end()

/* S of one block, s [columns][KEYS][16]: 32 keys of k, rows `apart` apart, against the strip's Q, d a multiple of 32.
 * A narrow row is read on into the next one: Q is 0 there. */
static void qk(int n_col, const uint16_t *q, const uint16_t *k, size_t apart, size_t d, float *s, list_ahead *f) {
    const uint16_t *k1 = k + 16 * apart, *q1 = q + COL * d;
    const long row = (long)(apart * sizeof *k);
    AMX_FENCE();
    _tile_zero(0);
    _tile_zero(2);
    if (n_col == 1) {
        for (size_t e = 0; e < d; e += AMX_DEPTH) {
            _tile_loadd(6, q + e * COL, AMX_BYTES);
            _tile_loadd(4, k + e, row);
            _tile_dpbf16ps(0, 4, 6);
            ahead_lines(f, AHEAD_QK);
            _tile_loadd(5, k1 + e, row);
            _tile_dpbf16ps(2, 5, 6);
            ahead_lines(f, AHEAD_QK);
        }
    } else {
        _tile_zero(1);
        _tile_zero(3);
        for (size_t e = 0; e < d; e += AMX_DEPTH) {
            _tile_loadd(4, k + e, row);
            _tile_loadd(6, q + e * COL, AMX_BYTES);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, q1 + e * COL, AMX_BYTES);
            _tile_dpbf16ps(1, 4, 7);
            ahead_lines(f, AHEAD_QK);
            _tile_loadd(5, k1 + e, row);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            ahead_lines(f, AHEAD_QK);
        }
        _tile_stored(1, s + KEYS * COL, AMX_BYTES);
        _tile_stored(3, s + KEYS * COL + 16 * COL, AMX_BYTES);
    }
    _tile_stored(0, s, AMX_BYTES);
    _tile_stored(2, s + 16 * COL, AMX_BYTES);
}

static void pv(int n_col, const uint16_t *p0, const uint16_t *const *v0, size_t n_blk, size_t d, float *ot,
               list_ahead *f) {
    AMX_FENCE();
    for (size_t e = 0; e < d; e += 2 * AMX_ROWS) {
        float *o = ot + e * COL, *o1 = o + d * COL;
        const uint16_t *p = p0;
        _tile_loadd(0, o, AMX_BYTES);
        _tile_loadd(2, o + AMX_ROWS * COL, AMX_BYTES);
        if (n_col == 1) {
            for (size_t i = 0; i < n_blk; i++, p += STRIP_COLS * P_TILE) {
                const uint16_t *v = v0[i] + e * BLK;
                _tile_loadd(6, p, AMX_BYTES);
                _tile_loadd(4, v, AMX_BYTES);
                _tile_dpbf16ps(0, 4, 6);
                ahead_lines(f, AHEAD_PV);
                _tile_loadd(5, v + AMX_ROWS * BLK, AMX_BYTES);
                _tile_dpbf16ps(2, 5, 6);
                ahead_lines(f, AHEAD_PV);
            }
        } else {
            _tile_loadd(1, o1, AMX_BYTES);
            _tile_loadd(3, o1 + AMX_ROWS * COL, AMX_BYTES);
            for (size_t i = 0; i < n_blk; i++, p += STRIP_COLS * P_TILE) {
                const uint16_t *v = v0[i] + e * BLK;
                _tile_loadd(4, v, AMX_BYTES);
                _tile_loadd(6, p, AMX_BYTES);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, p + P_TILE, AMX_BYTES);
                _tile_dpbf16ps(1, 4, 7);
                ahead_lines(f, AHEAD_PV);
                _tile_loadd(5, v + AMX_ROWS * BLK, AMX_BYTES);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
                ahead_lines(f, AHEAD_PV);
            }
            _tile_stored(1, o1, AMX_BYTES);
            _tile_stored(3, o1 + AMX_ROWS * COL, AMX_BYTES);
        }
        _tile_stored(0, o, AMX_BYTES);
        _tile_stored(2, o + AMX_ROWS * COL, AMX_BYTES);
    }
}

#include "kernels/x86/attend_bf16_tmpl.h"

void crit_attend_amx(const crit_attend_args *a, void *scratch) {
    attend(a, scratch);
}
