/* SPDX-License-Identifier: MIT */
/* key_scores and mix_values for a few rows, in the lanes of whichever lanes_<isa>.h stands in front of this.
 *
 * Values of d are the lanes of both.  Scores: a register tile of rows x keys of such vectors, added up across lanes at
 * its end, eight at a time, so that q is loaded once for several keys and each value of K widened once for four rows.
 * Values: rows x vectors of O, widened V against weights broadcast.  Memory bounds both up to four rows, FMA more.
 * Tiles do not show in the bits: a (row, key) or (row, value) has one chain, in the order of d or of keys.
 *
 * The file in front defines l_sums (lane sums of eight vectors, each in the same order of additions), MIX_E (vectors of
 * O for so many rows: enough chains for FMA's latency, few enough for the registers) and KEYS_AHEAD (how many
 * 16-bit values ahead of its reads a kernel prefetches). */
#ifndef CRIT_KEYS_TMPL_H
#define CRIT_KEYS_TMPL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/unroll.h"

typedef lvec (*const keys_load)(const uint16_t *); /* widens L_W values */

/* Keys of a tile of nr rows, and how many vectors it holds: 8 to 12 chains hide FMA's latency. */
#define SCORE_KEYS(nr) ((nr) == 1 ? 8 : (nr) <= 3 ? 4 : 2)

/* out[r][p] = q[r].k[p] for nr rows and SCORE_KEYS(nr) keys, out of the group's eight. */
CRIT_INLINE void score_tile(keys_load load, const int nr, const float *q, size_t q_stride, const uint16_t *const *key,
                            size_t d, float (*out)[8]) {
    const int nk = SCORE_KEYS(nr);
    lvec acc[16];
    CRIT_UNROLL for (int i = 0; i < 8; i++) acc[i] = acc[i + 8] = L_ZERO();
    for (size_t e = 0; e < d; e += L_W) {
        lvec k[8];
        CRIT_UNROLL for (int p = 0; p < nk; p++) k[p] = load(key[p] + e);
        CRIT_UNROLL for (int r = 0; r < nr; r++) {
            const lvec x = L_LOAD_ANY(q + (size_t)r * q_stride + e);
            CRIT_UNROLL for (int p = 0; p < nk; p++) acc[r * nk + p] = L_FMA(x, k[p], acc[r * nk + p]);
        }
    }
    float sums[16];
    l_sums(acc, sums);
    if (nr * nk > 8) l_sums(acc + 8, sums + 8);
    CRIT_UNROLL for (int r = 0; r < nr; r++) memcpy(out[r], sums + r * nk, (size_t)nk * sizeof *sums);
}

/* Rows [0, nr) against the eight keys of a group. */
CRIT_INLINE void score_rows(keys_load load, const int nr, const float *q, size_t q_stride, const uint16_t *const *key,
                            size_t d, float (*out)[8]) {
    CRIT_UNROLL for (int p = 0; p < 8; p += SCORE_KEYS(nr)) {
        float part[4][8];
        score_tile(load, nr, q, q_stride, key + p, d, part);
        CRIT_UNROLL for (int r = 0; r < nr; r++) memcpy(out[r] + p, part[r], SCORE_KEYS(nr) * sizeof **out);
    }
}

CRIT_INLINE void key_scores_of(keys_load load, const int nr, const float *q, size_t q_stride, const uint16_t *k,
                               size_t n_key, size_t d, float scale, float *s, size_t s_stride) {
    for (size_t j = 0; j < n_key; j += 8) {
        const size_t n = n_key - j < 8 ? n_key - j : 8;
        const uint16_t *key[8];
        float out[8][8];
        /* a group that is not full meets its last key again */
        CRIT_UNROLL for (size_t p = 0; p < 8; p++) key[p] = k + (j + (p < n ? p : n - 1)) * d;
        for (size_t e = 0; e < 8 * d; e += 32) __builtin_prefetch(key[0] + KEYS_AHEAD + e);
        score_rows(load, nr < 4 ? nr : 4, q, q_stride, key, d, out);
        if (nr > 4) score_rows(load, nr - 4, q + 4 * q_stride, q_stride, key, d, out + 4);
        for (size_t r = 0; r < (size_t)nr; r++) {
            CRIT_UNROLL for (size_t p = 0; p < 8; p++) out[r][p] *= scale;
            memcpy(s + r * s_stride + j, out[r], n * sizeof *s);
        }
    }
}

/* o[row][0 ..] += sum_j p[row][j] v[j][0 ..] for ne vectors; n keys of one block, p [nr][CRIT_BLK_LEN]. */
CRIT_INLINE void mix_tile(keys_load load, const int nr, const int ne, const float *p, const uint16_t *v, size_t n,
                          size_t d, float *o, size_t o_stride, const uint16_t *ahead) {
    lvec acc[8][8];
    CRIT_UNROLL for (int r = 0; r < nr; r++) {
        CRIT_UNROLL for (int e = 0; e < ne; e++) acc[r][e] = L_LOAD_ANY(o + (size_t)r * o_stride + e * L_W);
    }
    for (size_t j = 0; j < n; j++) {
        lvec x[8];
        __builtin_prefetch(ahead + j * (size_t)ne * L_W);
        if (ne * L_W > 32) __builtin_prefetch(ahead + j * (size_t)ne * L_W + 32);
        CRIT_UNROLL for (int e = 0; e < ne; e++) x[e] = load(v + j * d + (size_t)e * L_W);
        CRIT_UNROLL for (int r = 0; r < nr; r++) {
            const lvec y = L_SET1(p[r * CRIT_BLK_LEN + j]);
            CRIT_UNROLL for (int e = 0; e < ne; e++) acc[r][e] = L_FMA(y, x[e], acc[r][e]);
        }
    }
    CRIT_UNROLL for (int r = 0; r < nr; r++) {
        CRIT_UNROLL for (int e = 0; e < ne; e++) L_STORE_ANY(o + (size_t)r * o_stride + e * L_W, acc[r][e]);
    }
}

/* Rows [0, nr) of one block, V row-major. */
CRIT_INLINE void mix_rows(keys_load load, const int nr, const float *p, const uint16_t *v, size_t n, size_t d, float *o,
                          size_t o_stride) {
    size_t e = 0;
    /* The tiles of a block, wide ones first, ask for the next block's lines in their order. */
    const uint16_t *ahead = v + CRIT_BLK_LEN * d;
#define MIX_TILES(ne)                                                                                                  \
    for (; e + (ne)*L_W <= d; e += (ne)*L_W)                                                                           \
        mix_tile(load, nr, ne, p, v + e, n, d, o + e, o_stride, ahead + e * CRIT_BLK_LEN);
    MIX_TILES(MIX_E(nr))
    if (MIX_E(nr) > 4) MIX_TILES(4)
    if (MIX_E(nr) > 2) MIX_TILES(2)
    MIX_TILES(1)
#undef MIX_TILES
}

CRIT_INLINE void mix_values_of(keys_load load, const int nr, const float *p, size_t p_stride, const uint16_t *v,
                               size_t n_key, size_t d, float *o, size_t o_stride) {
    for (size_t j = 0; j < n_key; j += CRIT_BLK_LEN) {
        const size_t n = n_key - j < CRIT_BLK_LEN ? n_key - j : CRIT_BLK_LEN;
        float w[8 * CRIT_BLK_LEN]; /* one stride for all rows: one address */
        for (size_t r = 0; r < (size_t)nr; r++) memcpy(w + r * CRIT_BLK_LEN, p + r * p_stride + j, n * sizeof *p);
        mix_rows(load, nr < MIX_R ? nr : MIX_R, w, v + j * d, n, d, o, o_stride);
        if (nr > MIX_R)
            mix_rows(load, nr - MIX_R, w + MIX_R * CRIT_BLK_LEN, v + j * d, n, d, o + MIX_R * o_stride, o_stride);
    }
}

/* One function a number of rows, so that a tile is code of its own. */
#define KEYS_EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)

#define KEY_SCORES_ROWS(load, nr)                                                                                      \
    static __attribute__((noinline)) void key_scores_##nr(const float *q, size_t q_stride, const uint16_t *k,          \
                                                          size_t n_key, size_t d, float scale, float *s,               \
                                                          size_t s_stride) {                                           \
        key_scores_of(load, nr, q, q_stride, k, n_key, d, scale, s, s_stride);                                         \
    }
#define MIX_VALUES_ROWS(load, nr)                                                                                      \
    static __attribute__((noinline)) void mix_values_##nr(const float *p, size_t p_stride, const uint16_t *v,          \
                                                          size_t n_key, size_t d, float *o, size_t o_stride) {         \
        mix_values_of(load, nr, p, p_stride, v, n_key, d, o, o_stride);                                                \
    }

#define KEY_SCORES_CASE(nr)                                                                                            \
    case nr:                                                                                                           \
        key_scores_##nr(q, q_stride, k, n_key, d, scale, s, s_stride);                                                 \
        break;
#define MIX_VALUES_CASE(nr)                                                                                            \
    case nr:                                                                                                           \
        mix_values_##nr(p, p_stride, v, n_key, d, o, o_stride);                                                        \
        break;

#endif
