/* SPDX-License-Identifier: MIT */
/* Attention over a list of blocks, for any vector width: included once by attend_<isa>.c.             [alg:attend]
 *
 * Everything is transposed: S^T = K Q^T and O^T += V^T P^T with query rows in vector lanes, so a lane never meets
 * another one, K and V elements are broadcast, and no operation is horizontal.  A lane's chain of operations is fixed:
 * S sums over d ascending, the soft-max runs per group of list entries, O sums over keys ascending.  Tile sizes only
 * choose which chains are in flight, so they never change a bit.
 *
 * The includer defines the vector type and its operations (V_*), V_W lanes, the register tiles (STRIP_NV vectors of
 * rows by TILE_N(nv) keys or values of d, TILE_R(nv) for what is left over), and includes lanes_<isa>.h for the way
 * between row-major and lanes (L_*).  One that multiplies by a lane of a register rather than by a broadcast brings its
 * own qk_tile and pv and says so by ATTEND_OWN_TILES.  One whose operands are no floats says so by ATTEND_OWN_OPERANDS
 * and brings pack_q, qk, widen_k, widen_v, group_scores, group_mix, KEY_STEP, VALUE_STEP and READY. */

#include <math.h>
#include <string.h>

#include "kernels/attend_scratch.h"
#include "kernels/lanes_log.h"
#include "kernels/unroll.h"

enum { KEYS = CRIT_ATTEND_KEYS, BLK = CRIT_BLK_LEN, LSE_NV = V_W >= 8 ? CRIT_LSE_ROWS / V_W : 4 };

/* The exponent that P is relative to, m, is the maximum of the first group and then lags behind: P is 2^(S - m) until
 * some round(S - m) reaches LAG.  So common groups need no maximum and no rescaling of O; a group that finds out
 * afterwards (the bits LAG_BITS of x + BIG) is done again with a new m. */
#define LAG        16
#define RISE_ABOVE 0x1.effffep+3f /* the largest x with round(x) < LAG */
#define BIG                                                                                                            \
    0x1.7fffep+23f /* 2^23 + 2^22 - LAG: x + BIG holds round(x) in its low bits, and bit 22 once it reaches LAG */
#define LAG_BITS                                                                                                       \
    0x34c00000 /* what no sum of -100 <= round(x) < LAG has set: bit 22, and the zeros of BIG's exponent               \
                */
/* P is at least this: nothing beside the 1 of the maximum, and times the smallest f16 still a normal number. */
#define X_MIN (-100.0f)

/* 2^x for X_MIN <= x < LAG: 1.7e-7 relative, exactly 1 at 0, NaN for NaN; *t is x + BIG.
 * The polynomial gives 2^(f + LAG) for f in [-1/2, 1/2]; the low bits of t, which are n - LAG, go to the exponent. */
CRIT_INLINE vec v_exp2(vec x, vec *t) {
    x = V_AT_LEAST(V_SET1(X_MIN), x);
    *t = V_ADD(x, V_SET1(BIG));
    const vec f = V_SUB(x, V_SUB(*t, V_SET1(BIG)));
    vec p = V_SET1(0x1.5bba14p+6f);
    p = V_FMA(p, f, V_SET1(0x1.3cea88p+9f));
    p = V_FMA(p, f, V_SET1(0x1.c6b752p+11f));
    p = V_FMA(p, f, V_SET1(0x1.ebf9bcp+13f));
    p = V_FMA(p, f, V_SET1(0x1.62e42ap+15f));
    p = V_FMA(p, f, V_SET1(0x1.0p+16f));
    return V_ADD_EXPONENT(p, *t);
}

#ifndef ATTEND_OWN_OPERANDS
/* Floats of a key in the forms of K and V, by which the blocks of a group lie apart; and such forms made beforehand. */
#define KEY_STEP(dk)  (dk)
#define VALUE_STEP(d) 8
#define READY(made)   ((void)(made), (const float *)NULL)

#ifndef ATTEND_OWN_TILES
/* s[j][row] = q[row].k[j] - m[row] for kt keys; minus_m [nv*V_W]. */
CRIT_INLINE void qk_tile(const int nv, const int kt, const float *qt, const float *k, size_t d, const float *minus_m,
                         float *s) {
    vec acc[8][4];
    CRIT_UNROLL for (int v = 0; v < nv; v++) {
        const vec m = V_LOAD(minus_m + v * V_W);
        CRIT_UNROLL for (int j = 0; j < kt; j++) acc[j][v] = m;
    }
    CRIT_UNROLL_4 for (size_t i = 0; i < d; i++) {
        vec b[8];
        CRIT_UNROLL for (int j = 0; j < kt; j++) b[j] = V_SET1(k[(size_t)j * d + i]);
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            const vec q = V_LOAD(qt + (i * (size_t)nv + (size_t)v) * V_W);
            CRIT_UNROLL for (int j = 0; j < kt; j++) acc[j][v] = V_FMA(q, b[j], acc[j][v]);
        }
    }
    CRIT_UNROLL for (int j = 0; j < kt; j++) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) V_STORE(s + (j * nv + v) * V_W, acc[j][v]);
    }
}

/* o[e][row] += sum_j p[j][row] v[j][e] for dt values of d from e on; v in panels of 8 values, see widen_v. */
CRIT_INLINE void pv_tile(const int nv, const int dt, const float *p, const float *vp, size_t e, size_t n_key,
                         float *o) {
    vec acc[8][4];
    const float *col[8];
    CRIT_UNROLL for (int j = 0; j < dt; j++) {
        const size_t at = e + (size_t)j;
        col[j] = vp + at / 8 * (KEYS * 8) + at % 8;
        CRIT_UNROLL for (int v = 0; v < nv; v++) acc[j][v] = V_LOAD(o + (j * nv + v) * V_W);
    }
    CRIT_UNROLL_4 for (size_t i = 0; i < n_key; i++) {
        vec b[8];
        CRIT_UNROLL for (int j = 0; j < dt; j++) b[j] = V_SET1(col[j][i * 8]);
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            const vec x = V_LOAD(p + (i * (size_t)nv + (size_t)v) * V_W);
            CRIT_UNROLL for (int j = 0; j < dt; j++) acc[j][v] = V_FMA(x, b[j], acc[j][v]);
        }
    }
    CRIT_UNROLL for (int j = 0; j < dt; j++) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) V_STORE(o + (j * nv + v) * V_W, acc[j][v]);
    }
}

CRIT_INLINE void pv(const int nv, const float *p, const float *vp, size_t n_key, size_t d, float *o) {
    const size_t w = (size_t)nv * V_W;
    size_t e = 0;
    for (; d - e >= TILE_N(nv) && d - e != 2 * TILE_R(nv); e += TILE_N(nv))
        pv_tile(nv, TILE_N(nv), p, vp, e, n_key, o + e * w);
    for (; d - e >= TILE_R(nv); e += TILE_R(nv)) pv_tile(nv, TILE_R(nv), p, vp, e, n_key, o + e * w);
    for (; e < d; e++) pv_tile(nv, 1, p, vp, e, n_key, o + e * w);
}
#endif

CRIT_INLINE void qk(const int nv, const float *qt, const float *k, size_t n_key, size_t d, const float *minus_m,
                    float *s) {
    const size_t w = (size_t)nv * V_W;
    while (n_key >= TILE_N(nv) && n_key != 2 * TILE_R(nv)) {
        qk_tile(nv, TILE_N(nv), qt, k, d, minus_m, s);
        k += TILE_N(nv) * d, s += TILE_N(nv) * w, n_key -= TILE_N(nv);
    }
    while (n_key >= TILE_R(nv)) {
        qk_tile(nv, TILE_R(nv), qt, k, d, minus_m, s);
        k += TILE_R(nv) * d, s += TILE_R(nv) * w, n_key -= TILE_R(nv);
    }
    for (; n_key; n_key--, k += d, s += w) qk_tile(nv, 1, qt, k, d, minus_m, s);
}
#endif

CRIT_INLINE size_t size_min(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Running state of one strip of nv vectors of rows. */
typedef struct strip {
    const float *qt;    /* [d][nv*V_W] scaled */
    float *ot;          /* [d][nv*V_W] */
    float *minus_m, *l; /* [nv*V_W] -m (base 2) and sum of P */
    float *met;         /* [nv*V_W] the largest score so far, base 2; kept only for [alg:skip] */
    size_t row0, n_row;
    int begun; /* has met a key */
} strip;

/* [alg:skip]: the edge in base 2 and where left-out pairs are counted. */
typedef struct skip_rule {
    float edge;
    uint64_t *count;
} skip_rule;

/* What one strip sees of a group: the first n_all keys all rows, the ones up to n_vis the rows from first_row(j) on. */
typedef struct view {
    size_t n_all, n_vis;
    size_t
        base[CRIT_ATTEND_GROUP]; /* position of each block's first key, relative to the strip's first row, mod 2^64 */
} view;

static const float iota[CRIT_ATTEND_STRIP_MAX] __attribute__((aligned(64))) = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

CRIT_INLINE float first_row(const view *w, size_t j) {
    return (float)(w->base[j / BLK] + j % BLK);
}

/* s becomes P = 2^(s - delta), 0 for what a row may not see or (keep != NULL: bits per lane) leaves out; adds to l;
 * returns whether some s - delta was >= LAG (or NaN).  With shift == 0 delta is not looked at. */
CRIT_INLINE int exp_keys(const int nv, const int shift, const int masked, const view *w, size_t j0, size_t j1,
                         const vec *delta, const vec *keep, float *s, vec *sum) {
    vec seen = V_ZERO();
    for (size_t j = j0; j < j1; j++) {
        float *at = s + j * (size_t)nv * V_W;
        const vec from = masked ? V_SET1(first_row(w, j)) : V_ZERO();
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            vec t, x = V_LOAD(at + v * V_W);
            if (shift) x = V_SUB(x, delta[v]);
            if (masked) x = V_SELECT_GT(from, V_LOAD(iota + v * V_W), V_SET1(X_MIN), x);
            vec p = v_exp2(x, &t);
            if (masked) p = V_SELECT_GT(from, V_LOAD(iota + v * V_W), V_ZERO(), p);
            if (keep) p = V_AND(p, keep[v]);
            V_STORE(at + v * V_W, p);
            sum[v] = V_ADD(sum[v], p);
            seen = V_OR(seen, t);
        }
    }
    return V_ANY_BITS(seen, LAG_BITS);
}

CRIT_INLINE void add_to_l(const int nv, const strip *t, const vec *sum) {
    CRIT_UNROLL for (int v = 0; v < nv; v++) V_STORE(t->l + v * V_W, V_ADD(V_LOAD(t->l + v * V_W), sum[v]));
}

CRIT_INLINE int exp_group(const int nv, const int shift, const strip *t, const view *w, const vec *delta, float *s) {
    vec sum[4];
    CRIT_UNROLL for (int v = 0; v < nv; v++) sum[v] = V_ZERO();
    int rose = exp_keys(nv, shift, 0, w, 0, w->n_all, delta, NULL, s, sum);
    if (w->n_all < w->n_vis) rose |= exp_keys(nv, shift, 1, w, w->n_all, w->n_vis, delta, NULL, s, sum);
    if (rose && !shift) return 1;
    add_to_l(nv, t, sum);
    return 0;
}

/* m rises to the maximum of s for the rows that outgrew it (on the first group: for all) and l shrinks accordingly.
 * delta is what s has to come down by, 2^-delta what O has to shrink by: 0 and 1 for the other rows, which keep their
 * bits. */
CRIT_INLINE void raise_m(const int nv, const strip *t, const view *w, const float *s, int first, vec *delta,
                         vec *shrink) {
    vec mx[4];
    CRIT_UNROLL for (int v = 0; v < nv; v++) mx[v] = V_SET1(-INFINITY);
    for (size_t j = 0; j < w->n_vis; j++, s += nv * V_W) {
        const vec from = j < w->n_all ? V_ZERO() : V_SET1(first_row(w, j));
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            const vec x = V_MAX(V_LOAD(s + v * V_W), mx[v]);
            mx[v] = V_SELECT_GT(from, V_LOAD(iota + v * V_W), mx[v], x);
        }
    }
    CRIT_UNROLL for (int v = 0; v < nv; v++) {
        vec unused;
        delta[v] = V_SELECT_GT(mx[v], V_SET1(first ? -0x1.fffffep+127f : RISE_ABOVE), mx[v], V_ZERO());
        V_STORE(t->minus_m + v * V_W, V_SUB(V_LOAD(t->minus_m + v * V_W), delta[v]));
        shrink[v] = v_exp2(V_SUB(V_ZERO(), delta[v]), &unused);
        if (!first) V_STORE(t->l + v * V_W, V_MUL(V_LOAD(t->l + v * V_W), shrink[v]));
    }
}

/* What the strips of a tile share of one group: the keys widened, the values when the first strip wants them. */
typedef struct group {
    const crit_attend_args *a;
    const size_t *base; /* position of each block's first key */
    size_t n_in, n_key[CRIT_ATTEND_GROUP];
    size_t dk; /* width of a key */
    float *k[CRIT_ATTEND_GROUP], *v[CRIT_ATTEND_GROUP]; /* of each block */
    int first, far, have_v;
} group;

static void widen_group_v(group *g);
static void pack_q(const float *q, size_t q_stride, size_t n_row, size_t w, size_t d, float scale, float *qt);
static void widen_k(const uint16_t *k, size_t n_key, size_t dk, float *to);
static void widen_v(const uint16_t *v, size_t n_key, size_t d, float *to);

#ifndef ATTEND_OWN_OPERANDS
/* Scores of a strip and the first n keys. */
CRIT_INLINE void group_scores(const int nv, const strip *t, const group *g, size_t n, float *s) {
    qk(nv, t->qt, g->k[0], n, g->dk, t->minus_m, s);
}

/* O of a strip takes the keys [j0, j1), p of all. */
CRIT_INLINE void group_mix(const int nv, const strip *t, const group *g, size_t j0, size_t j1, float *p) {
    pv(nv, p + j0 * (size_t)nv * V_W, g->v[0] + j0 * VALUE_STEP(g->a->d), j1 - j0, g->a->d, t->ot);
}
#else
CRIT_INLINE void group_scores(const int nv, const strip *t, const group *g, size_t n, float *s);
CRIT_INLINE void group_mix(const int nv, const strip *t, const group *g, size_t j0, size_t j1, float *p);
#endif

/* m rises after s turned out too large: s comes back relative to the new m, delta says by how much. */
CRIT_INLINE void redo_with_higher_m(const int nv, const strip *t, const view *w, const group *g, float *s, vec *delta) {
    vec shrink[4];
    group_scores(nv, t, g, w->n_vis, s);
    raise_m(nv, t, w, s, 0, delta, shrink);
    float *o = t->ot;
    for (size_t i = 0; i < g->a->d; i++, o += nv * V_W) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) V_STORE(o + v * V_W, V_MUL(V_LOAD(o + v * V_W), shrink[v]));
    }
}

/* Largest score of keys [j0, j1), in units of s (relative to m). */
CRIT_INLINE void block_max(const int nv, const float *s, size_t j0, size_t j1, vec *mx) {
    CRIT_UNROLL for (int v = 0; v < nv; v++) mx[v] = V_SET1(-INFINITY);
    for (size_t j = j0; j < j1; j++) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) mx[v] = V_MAX(V_LOAD(s + (j * (size_t)nv + (size_t)v) * V_W), mx[v]);
    }
}

/* Before far groups: the largest score of every row's visible keys of a group it attends anyway. */
CRIT_INLINE void note_met(const int nv, const strip *t, const view *w, const float *s) {
    vec mx[4];
    block_max(nv, s, 0, w->n_all, mx);
    for (size_t j = w->n_all; j < w->n_vis; j++) {
        const vec from = V_SET1(first_row(w, j));
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            const vec x = V_MAX(V_LOAD(s + (j * (size_t)nv + (size_t)v) * V_W), mx[v]);
            mx[v] = V_SELECT_GT(from, V_LOAD(iota + v * V_W), mx[v], x);
        }
    }
    CRIT_UNROLL for (int v = 0; v < nv; v++) {
        const vec x = V_SUB(mx[v], V_LOAD(t->minus_m + v * V_W));
        V_STORE(t->met + v * V_W, V_MAX(x, V_LOAD(t->met + v * V_W)));
    }
}

/* One group of keys for one strip; s is scratch. */
CRIT_INLINE void strip_group(const int nv, const strip *t, const view *w, group *g, const skip_rule *rule, float *s) {
    vec delta[4], unused[4];
    group_scores(nv, t, g, w->n_vis, s);
    if (rule) note_met(nv, t, w, s);
    if (g->first) {
        raise_m(nv, t, w, s, 1, delta, unused);
        exp_group(nv, 1, t, w, delta, s);
    } else if (exp_group(nv, 0, t, w, NULL, s)) {
        redo_with_higher_m(nv, t, w, g, s, delta);
        exp_group(nv, 1, t, w, delta, s);
    }
    widen_group_v(g);
    group_mix(nv, t, g, 0, w->n_vis, s);
}

/* The same for a group every row sees whole, leaving out what [alg:skip] leaves out.  A row's P is 0 where it leaves a
 * block out, so whether the strip's other rows made it compute the block does not show. */
CRIT_INLINE void strip_far(const int nv, const strip *t, const view *w, group *g, const skip_rule *rule, float *s) {
    vec keep[CRIT_ATTEND_GROUP][4], top[4], delta[4], sum[4];
    size_t j0 = w->n_all, j1 = 0; /* keys of the blocks some row keeps */
    group_scores(nv, t, g, w->n_all, s);
    CRIT_UNROLL for (int v = 0; v < nv; v++) top[v] = V_LOAD(t->met + v * V_W);
    for (size_t b = 0, j = 0; b < g->n_in; j += g->n_key[b++]) {
        vec mx[4];
        size_t n_keep = 0;
        block_max(nv, s, j, j + g->n_key[b], mx);
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            const vec minus_m = V_LOAD(t->minus_m + v * V_W), met = V_LOAD(t->met + v * V_W);
            const vec x = V_SUB(mx[v], minus_m);
            keep[b][v] = V_GE(x, V_SUB(met, V_SET1(rule->edge)));
            n_keep += V_COUNT(keep[b][v]);
            top[v] = V_MAX(x, top[v]);
        }
        *rule->count += t->n_row - n_keep;
        if (!n_keep) continue;
        if (j0 > j) j0 = j;
        j1 = j + g->n_key[b];
    }
    CRIT_UNROLL for (int v = 0; v < nv; v++) V_STORE(t->met + v * V_W, top[v]);
    if (j1 == 0) return;
    for (int shift = 0; shift < 2; shift++) {
        int rose = 0;
        CRIT_UNROLL for (int v = 0; v < nv; v++) sum[v] = V_ZERO();
        for (size_t b = 0, j = 0; b < g->n_in; j += g->n_key[b++]) {
            if (j < j0 || j >= j1) continue;
            rose |= shift ? exp_keys(nv, 1, 0, w, j, j + g->n_key[b], delta, keep[b], s, sum)
                          : exp_keys(nv, 0, 0, w, j, j + g->n_key[b], NULL, keep[b], s, sum);
        }
        if (shift || !rose) break;
        redo_with_higher_m(nv, t, w, g, s, delta);
    }
    add_to_l(nv, t, sum);
    widen_group_v(g);
    group_mix(nv, t, g, j0, j1, s);
}

#define STRIP_GROUP(nv)                                                                                                \
    static __attribute__((noinline)) void strip_group_##nv(const strip *t, const view *w, group *g,                    \
                                                           const skip_rule *rule, float *s) {                          \
        if (rule && g->far)                                                                                            \
            strip_far(nv, t, w, g, rule, s);                                                                           \
        else                                                                                                           \
            strip_group(nv, t, w, g, rule, s);                                                                         \
    }
STRIP_GROUP(1)
STRIP_GROUP(2)
STRIP_GROUP(3)
STRIP_GROUP(4)

/* ---------------------------------------------------------------------------------- between row-major and lanes */

#ifndef ATTEND_OWN_OPERANDS
/* q rows -> [d][w] lanes, scaled; lanes behind the last row are 0. */
static void pack_q(const float *q, size_t q_stride, size_t n_row, size_t w, size_t d, float scale, float *qt) {
    const lvec f = L_SET1(scale);
    for (size_t r = 0; r < w; r += L_W) {
        for (size_t e = 0; e < d; e += L_W) {
            lvec x[L_W];
            CRIT_UNROLL for (size_t i = 0; i < L_W; i++) x[i] =
                r + i < n_row ? L_MUL(f, L_LOAD_ANY(q + (r + i) * q_stride + e)) : L_ZERO();
            L_TRANSPOSE(x);
            CRIT_UNROLL for (size_t i = 0; i < L_W; i++) L_STORE(qt + (e + i) * w + r, x[i]);
        }
    }
}
#endif

static float lse_of(float minus_m, float l) {
    return l == 0 ? -INFINITY : (float)(log((double)l) - (double)minus_m * 0x1.62e42fefa39efp-1);
}

/* out rows = O / l, 0 for rows that saw no key; adding 0 turns -0 into 0, so that a row cannot tell whether it was once
 * scaled to nothing. */
static void unpack_o(const strip *t, size_t w, size_t d, float *out, size_t out_stride) {
    for (size_t r = 0; r < t->n_row; r += L_W) {
        const lvec inv = l_inverse(L_LOAD(t->l + r)), zero = L_ZERO();
        for (size_t e = 0; e < d; e += L_W) {
            lvec x[L_W];
            CRIT_UNROLL for (size_t i = 0; i < L_W; i++) x[i] =
                L_ADD(L_MUL(inv, L_LOAD(t->ot + (e + i) * w + r)), zero);
            L_TRANSPOSE(x);
            CRIT_UNROLL for (size_t i = 0; i < L_W; i++) if (r + i < t->n_row)
                L_STORE_ANY(out + (t->row0 + r + i) * out_stride + e, x[i]);
        }
    }
}

#ifndef ATTEND_OWN_OPERANDS
static void widen_k(const uint16_t *k, size_t n_key, size_t dk, float *kf) {
    const size_t n = n_key * dk;
    size_t i = 0;
    for (; i + 2 * L_W <= n; i += 2 * L_W) {
        L_STORE(kf + i, L_LOAD_F16(k + i));
        L_STORE(kf + i + L_W, L_LOAD_F16_TOO(k + i + L_W));
    }
    for (; i < n; i += L_W) L_STORE(kf + i, L_LOAD_F16(k + i));
}

/* Values come in panels [d/8][KEYS][8], so that a register tile walks consecutive lines: column-wise through row-major
 * V it would touch 64 lines that all fall into 8 of the first-level cache's 64 sets. */
static void widen_v(const uint16_t *v, size_t n_key, size_t d, float *vp) {
    for (size_t j = 0; j < n_key; j++, vp += 8)
        for (size_t e = 0; e < d; e += 16) {
            CRIT_UNROLL for (size_t i = 0; i < 8; i += L_W) L_STORE(vp + e * KEYS + i, L_LOAD_F16(v + j * d + e + i));
            if (e + 8 == d) break;
            CRIT_UNROLL for (size_t i = 8; i < 16; i += L_W)
                L_STORE(vp + e * KEYS + 8 * (KEYS - 1) + i, L_LOAD_F16_TOO(v + j * d + e + i));
        }
}
#endif

static void widen_group_v(group *g) {
    if (g->have_v) return;
    const size_t d = g->a->d;
    for (size_t i = 0; i < g->n_in; i++) widen_v(g->a->v + g->base[i] * d, g->n_key[i], d, g->v[i]);
    g->have_v = 1;
}

/* ------------------------------------------------------------------------------------------------- the kernel */

/* Keys of a group that a row at this position sees; positions ascend, so they are its first ones. */
static size_t seen_from(size_t pos, const size_t *base, size_t n_base) {
    size_t n = 0;
    for (size_t i = 0; i < n_base; i++) n += base[i] > pos ? 0 : size_min(pos + 1 - base[i], BLK);
    return n;
}

/* What strip t sees of n_in blocks of a group that begin at the positions base[] and hold n_key keys. */
static view view_of(const crit_attend_args *a, const strip *t, const size_t *base, size_t n_in, size_t n_key) {
    view w = {.n_all = n_key, .n_vis = n_key};
    if (!a->causal) return w;
    const size_t pos = a->pos0 + t->row0;
    w.n_vis = size_min(n_key, seen_from(pos + t->n_row - 1, base, n_in));
    w.n_all = size_min(w.n_vis, seen_from(pos, base, n_in));
    for (size_t j = 0; j < n_in; j++) w.base[j] = base[j] - pos;
    return w;
}

/* The part of a group that the strip's tile wants; want: of the group's entries. */
static group wanted_of(const group *g, const strip *t, const uint8_t *want) {
    const unsigned tile = (unsigned)(t->row0 / CRIT_TILE_LEN);
    size_t from = 0, n_in = g->n_in;
    while (n_in && !(want[from] >> tile & 1)) from++, n_in--;
    while (n_in && !(want[from + n_in - 1] >> tile & 1)) n_in--;
    group part = *g;
    part.base += from, part.n_in = n_in;
    for (size_t i = 0; i < n_in; i++)
        part.k[i] = g->k[from + i], part.v[i] = g->v[from + i], part.n_key[i] = g->n_key[from + i];
    return part;
}

static void attend(const crit_attend_args *a, float *mem) {
    const size_t d = a->d, dk = crit_attend_dk(a), n_row = a->n_row, n_key = a->n_key;
    const size_t end = a->causal ? size_min(a->pos0 + n_row, n_key) : n_key; /* of what the last row sees */
    float *qt = mem, *ot = qt + CRIT_ATTEND_ROWS * d, *k = ot + CRIT_ATTEND_ROWS * d, *v = k + KEYS * d,
          *s = v + KEYS * d;
    float *minus_m = s + KEYS * CRIT_ATTEND_STRIP_MAX, *l = minus_m + CRIT_ATTEND_ROWS, *met = l + CRIT_ATTEND_ROWS;
    enum { WIDE = STRIP_NV * V_W, NARROW = WIDE < CRIT_TILE_LEN ? WIDE : CRIT_TILE_LEN };
    const size_t strip_len = a->want ? NARROW : WIDE; /* a strip is of one tile */
    strip strips[CRIT_ATTEND_ROWS / NARROW];
    size_t nvs[CRIT_ATTEND_ROWS / NARROW], n_strip = 0;

    for (size_t r = 0; r < n_row; r += strip_len) {
        const size_t n = size_min(n_row - r, strip_len), nv = (n + V_W - 1) / V_W, w = nv * V_W;
        nvs[n_strip] = nv;
        strips[n_strip++] = (strip){.qt = qt + r * d,
                                    .ot = ot + r * d,
                                    .minus_m = minus_m + r,
                                    .l = l + r,
                                    .met = met + r,
                                    .row0 = r,
                                    .n_row = n};
        pack_q(a->q + r * a->q_stride, a->q_stride, n, w, dk, a->scale * 0x1.715476p+0f, qt + r * d); /* log2 e */
        memset(ot + r * d, 0, w * d * sizeof *ot);
        memset(minus_m + r, 0, w * sizeof *minus_m);
        memset(l + r, 0, w * sizeof *l);
        for (size_t i = 0; i < w; i++) met[r + i] = i < n ? -INFINITY : INFINITY; /* lanes without a row keep nothing */
    }
    uint64_t skipped = 0;
    const skip_rule rule = {.edge = a->skip * 0x1.715476p+0f, .count = &skipped};
    const float *ready = READY(a->ready);
    const skip_rule *skip = a->n_far && a->skip > 0 && a->skip < INFINITY ? &rule : NULL;
    for (size_t at = a->n_far < a->n_blk ? a->n_far : 0, left = a->n_blk; left;) {
        const size_t stop = at < a->n_far ? a->n_far : a->n_blk, n_in = size_min(stop - at, CRIT_ATTEND_GROUP);
        size_t base[CRIT_ATTEND_GROUP], have = 0;
        group g = {.a = a, .base = base, .n_in = n_in, .dk = dk, .far = at < a->n_far, .have_v = ready != NULL};
        const uint8_t *want = a->want ? a->want + at : NULL;
        for (size_t i = 0; i < n_in; i++) {
            base[i] = (size_t)a->blk[at + i] * BLK;
            g.n_key[i] = base[i] >= end ? 0 : size_min(end - base[i], BLK);
            if (ready) {
                g.k[i] = (float *)(uintptr_t)ready + base[i] * (KEY_STEP(d) + VALUE_STEP(d));
                g.v[i] = g.k[i] + BLK * KEY_STEP(d);
            } else {
                g.k[i] = k + have * KEY_STEP(dk), g.v[i] = v + have * VALUE_STEP(d);
                widen_k(a->k + base[i] * dk, g.n_key[i], dk, g.k[i]);
            }
            have += g.n_key[i];
        }
        left -= n_in, at += n_in;
        if (at == a->n_blk) at = 0;
        for (size_t i = 0; i < n_strip && have; i++) {
            strip *t = &strips[i];
            group part;
            size_t n_wanted = have;
            if (want) {
                part = wanted_of(&g, t, want);
                if (part.n_in == 0) continue;
                n_wanted = 0;
                for (size_t j = 0; j < part.n_in; j++) n_wanted += part.n_key[j];
                if (part.n_in < n_in) widen_group_v(&g), part.have_v = 1;
            }
            group *now = want && part.n_in < n_in ? &part : &g;
            now->first = !t->begun;
            const view w = view_of(a, t, now->base, now->n_in, n_wanted);
            if (w.n_vis == 0) continue;
            t->begun = 1;
            switch (nvs[i]) {
            case 1:
                strip_group_1(t, &w, now, skip, s);
                break;
            case 2:
                strip_group_2(t, &w, now, skip, s);
                break;
            case 3:
                strip_group_3(t, &w, now, skip, s);
                break;
            default:
                strip_group_4(t, &w, now, skip, s);
                break;
            }
        }
    }
    if (a->n_skip) *a->n_skip += skipped;
    for (size_t i = 0; i < n_strip; i++) {
        const strip *t = &strips[i];
        unpack_o(t, nvs[i] * V_W, d, a->out, a->out_stride);
        for (size_t r = 0; a->lse && r < t->n_row; r++) a->lse[t->row0 + r] = lse_of(t->minus_m[r], t->l[r]);
    }
}

/* ---------------------------------------------------------------------------------------------------- block_lse */

/* One block for nv vectors of rows: lse and top of row r at r * stride. */
CRIT_INLINE void block_lse_rows(const int nv, const float *qt, const float *k, size_t n, size_t d, float *mem,
                                size_t n_row, float *lse, float *best, size_t stride) {
    enum { W = LSE_NV * V_W };
    const size_t w = (size_t)nv * V_W;
    float *zero = mem, *top = zero + W, *sum = top + W, *s = sum + W;
    qk(nv, qt, k, n, d, zero, s);
    CRIT_UNROLL for (int v = 0; v < nv; v++) {
        vec m = V_SET1(-INFINITY), l = V_ZERO(), t;
        for (size_t j = 0; j < n; j++) m = V_MAX(V_LOAD(s + j * w + v * V_W), m);
        for (size_t j = 0; j < n; j++) l = V_ADD(l, v_exp2(V_SUB(V_LOAD(s + j * w + v * V_W), m), &t));
        V_STORE(top + v * V_W, m);
        V_STORE(sum + v * V_W, l);
    }
    for (size_t r = 0; r < w; r += L_W) {
        const lvec ln2 = L_SET1(0x1.62e430p-1f), m = L_LOAD(top + r);
        L_STORE(sum + r, L_FMA(m, ln2, l_log(L_LOAD(sum + r))));
        L_STORE(top + r, L_MUL(m, ln2));
    }
    for (size_t r = 0; r < n_row; r++) lse[r * stride] = sum[r], best[r * stride] = top[r];
}

/* A function each: gcc 12 keeps a sum of the wider ones in memory where all are inlined into one. */
#define BLOCK_LSE_ROWS(nv)                                                                                             \
    static __attribute__((noinline)) void block_lse_rows_##nv(const float *qt, const float *k, size_t n, size_t d,     \
                                                              float *mem, size_t n_row, float *lse, float *best,       \
                                                              size_t stride) {                                         \
        block_lse_rows(nv, qt, k, n, d, mem, n_row, lse, best, stride);                                                \
    }
BLOCK_LSE_ROWS(1)
BLOCK_LSE_ROWS(2)
BLOCK_LSE_ROWS(3)
BLOCK_LSE_ROWS(4)

static void block_lse(const float *q, size_t q_stride, size_t n_row, const uint16_t *key, const void *made,
                      size_t n_key, size_t d, float scale, float *lse, float *best, size_t stride, float *mem) {
    enum { W = LSE_NV * V_W };
    float *qt = mem, *wide = qt + CRIT_LSE_ROWS * d, *rest = wide + BLK * d;
    const float *ready = READY(made);
    for (size_t r = 0; r < n_row; r += W) {
        const size_t n = size_min(n_row - r, W), w = (n + V_W - 1) / V_W * V_W;
        pack_q(q + r * q_stride, q_stride, n, w, d, scale * 0x1.715476p+0f, qt + r * d); /* log2 e */
    }
    CRIT_UNROLL for (int v = 0; v < LSE_NV; v++) V_STORE(rest + v * V_W, V_ZERO());
    for (size_t base = 0; base < n_key; base += BLK, lse++, best++) {
        const size_t n = size_min(n_key - base, BLK);
        const float *k = wide;
        if (ready)
            k = ready + base * (KEY_STEP(d) + VALUE_STEP(d));
        else
            widen_k(key + base * d, n, d, wide);
        for (size_t r = 0; r < n_row; r += W) {
            const size_t rows = size_min(n_row - r, W);
            float *at = lse + r * stride, *top = best + r * stride;
            switch ((rows + V_W - 1) / V_W) {
            case 1:
                block_lse_rows_1(qt + r * d, k, n, d, rest, rows, at, top, stride);
                break;
            case 2:
                block_lse_rows_2(qt + r * d, k, n, d, rest, rows, at, top, stride);
                break;
            case 3:
                block_lse_rows_3(qt + r * d, k, n, d, rest, rows, at, top, stride);
                break;
            default:
                block_lse_rows_4(qt + r * d, k, n, d, rest, rows, at, top, stride);
                break;
            }
        }
    }
}
