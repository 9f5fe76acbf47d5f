/* SPDX-License-Identifier: MIT */
/* attend on products of bf16 pairs, K and V as KV_BF16T.                                              [alg:attend]
 *
 * Transposed like attend_tmpl.h: S^T = K Q^T and O^T += V^T P^T, 16 query rows in the columns of a tile or the lanes of
 * a vector.  K row-major and V^T are read as they lie in the store; Q is packed once a call to bf16 pairs with
 * scale * log2 e in it, P leaves the soft-max as pairs of keys, both in the order of a product's second operand.
 *
 * A strip is 32 rows, two columns.  Keys come in chunks of up to CRIT_ATTEND_BF16_PEND blocks; a strip takes a chunk's
 * groups one after the other, and their P waits in pend, so that O goes through the accumulators once a chunk.
 * That changes no bit: O's chain of additions is the same however often it rests in memory.  A row's column never meets
 * another one, and a block that only other rows need adds P = 0.
 *
 * The soft-max sums P as rounded to bf16: the weights that P V uses then add up to 1, a key that outweighs all others
 * comes out as its V exactly, and results merged by lse equal the result in one piece.
 *
 * The file in front defines WIDE(d), values of a row once it is as wide as its products want it (at most d filled up to
 * a multiple of 32); BEGIN() and END(), around all products of a call; and the products:
 *   qk(n_col, q, k, apart, d, s, ahead): S of one block, s [n_col][KEYS][16]: 32 keys of k, rows `apart` values apart
 *     and d = WIDE values long, against q [n_col][d/2][16][2].  A narrow row is read on into the next: Q is 0 there.
 *   pv(n_col, p, v, n_blk, d, o, ahead): O [n_col][d][16] += V^T P^T over n_blk blocks in their order, p [n_blk]
 *     [STRIP_COLS][16 pairs of keys][16][2]. */
#ifndef CRIT_KERNELS_X86_ATTEND_BF16_TMPL_H
#define CRIT_KERNELS_X86_ATTEND_BF16_TMPL_H

#define MIN_NORMAL 0x1p-126f

/* Running state of one strip. */
typedef struct strip {
    const uint16_t *qt; /* [n_col][d/2][16][2], scaled */
    float *ot;          /* [n_col][d][16] */
    float *m, *l, *met; /* [n_col * 16] m (base 2), sum of P, and for [alg:skip] the largest score so far, base 2 */
    size_t row0, n_row;
    int n_col, begun;
} strip;

/* What a strip is at: scores of one group, and the blocks whose P V is still to be done. */
typedef struct work {
    float *s;    /* [STRIP_COLS][KEYS][16] */
    uint16_t *p; /* [PEND][STRIP_COLS][16 pairs of keys][16][2] */
    const uint16_t *v[PEND];
    size_t n_pend, d;
    size_t dk, k_apart; /* width of Q in whole tiles, and from key to key */
    list_ahead *ahead;
} work;

/* O += V^T P^T over the waiting blocks, in their order. */
static void flush(const strip *t, work *w) {
    if (w->n_pend) pv(t->n_col, w->p, w->v, w->n_pend, w->d, t->ot, w->ahead);
    w->n_pend = 0;
}

/* ------------------------------------------------------------------------------------------------------- soft-max */

/* One group's blocks as a strip sees them, in order. */
typedef struct view {
    size_t n_blk;
    const float *s[GROUP]; /* [STRIP_COLS][KEYS][16] from the block's first key on */
    const uint16_t *v[GROUP];
    mask k[GROUP][STRIP_COLS];
} view;

/* m rises for the rows whose scores outgrew it (on the first group: is set for all); l and O shrink, the other rows
 * keep their bits.  O is made free of subnormals, which products would flush or not, as other rows have it. */
static void raise_m(const strip *t, work *w, const view *g, int first) {
    if (!first) flush(t, w); /* what waits is relative to the old m */
    for (int c = 0; c < t->n_col; c++) {
        float *m_at = t->m + c * COL, *l_at = t->l + c * COL, *o = t->ot + (size_t)c * w->d * COL;
        __m512 mx = _mm512_set1_ps(-INFINITY);
        for (size_t b = 0; b < g->n_blk; b++) mx = _mm512_max_ps(block_max(&g->k[b][c], g->s[b] + c * KEYS * COL), mx);
        const __m512 m = _mm512_load_ps(m_at), to = lead_of(mx);
        const __mmask16 up = first ? _mm512_cmp_ps_mask(mx, _mm512_set1_ps(-0x1.fffffep+127f), _CMP_GT_OQ)
                                   : is_loud(_mm512_castps_si512(place(mx, base_of(m))));
        _mm512_store_ps(m_at, _mm512_mask_blend_ps(up, m, to));
        if (first || !up) continue;
        const __m512 shrink = exp2_neg(_mm512_maskz_sub_ps(up, m, to));
        _mm512_store_ps(l_at, _mm512_mul_ps(_mm512_load_ps(l_at), shrink));
        for (size_t i = 0; i < w->d; i++, o += COL) {
            const __m512 x = _mm512_mul_ps(_mm512_load_ps(o), shrink);
            const __mmask16 normal =
                _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(MIN_NORMAL), _CMP_NLT_UQ); /* and NaN */
            _mm512_store_ps(o, _mm512_maskz_mov_ps(normal, x));
        }
    }
}

/* P of a group to pend, relative to m, and its sums.  Says whether some score outgrew m, or is NaN or infinite. */
static int weigh(const strip *t, const work *w, const view *g, __m512 *sum) {
    __m512i seen = _mm512_setzero_si512();
    for (int c = 0; c < t->n_col; c++) {
        const __m512 base = base_of(_mm512_load_ps(t->m + c * COL));
        __m512 part[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (size_t b = 0; b < g->n_blk; b++) {
            const mask *k = &g->k[b][c];
            const float *s = g->s[b] + c * KEYS * COL;
            uint16_t *p = w->p + ((w->n_pend + b) * STRIP_COLS + (size_t)c) * P_TILE;
            if (!k->by_key && k->rows == 0xffff)
                weights(1, k, s, base, p, part, &seen, w->ahead);
            else
                weights(0, k, s, base, p, part, &seen, w->ahead);
        }
        sum[c] = _mm512_add_ps(part[0], part[1]);
    }
    return is_loud(seen) != 0;
}

/* P of a group to pend, l; m rises when it has to. */
static void soft_max(const strip *t, work *w, const view *g, int first) {
    __m512 sum[STRIP_COLS];
    if (w->n_pend + g->n_blk > PEND) flush(t, w);
    if (first) raise_m(t, w, g, 1);
    int loud = weigh(t, w, g, sum);
    if (loud && !first) {
        raise_m(t, w, g, 0);
        loud = weigh(t, w, g, sum); /* once more, relative to the new m */
    }
    for (int c = 0; c < t->n_col; c++) {
        float *l = t->l + c * COL;
        for (size_t b = 0; loud && b < g->n_blk; b++)
            sum[c] = _mm512_add_ps(
                sum[c], nan_rows(&g->k[b][c], g->s[b] + c * KEYS * COL, base_of(_mm512_load_ps(t->m + c * COL))));
        _mm512_store_ps(l, _mm512_add_ps(_mm512_load_ps(l), sum[c]));
    }
    for (size_t b = 0; b < g->n_blk; b++) w->v[w->n_pend++] = g->v[b];
}

/* ----------------------------------------------------------------------------------------- groups of list entries */

/* One group: where its blocks' K and V are, copied and padded where they cannot be read in place. */
typedef struct group {
    size_t n_in, base[GROUP], n_key[GROUP]; /* position of a block's first key; keys before the end of what is seen */
    const uint16_t *k[GROUP], *v[GROUP];
    const uint8_t *want; /* of its entries, or NULL */
    int far;
} group;

/* [alg:skip]: the edge in base 2 and where left-out pairs are counted. */
typedef struct skip_rule {
    float edge;
    uint64_t *count;
} skip_rule;

/* Rows of a column from the one on that first sees the key, which lies `ahead` positions beyond the column's first. */
static __mmask16 rows_from(int64_t ahead) {
    return ahead <= 0 ? 0xffff : ahead >= COL ? 0 : (__mmask16)(0xffffu << ahead);
}

static void see(const crit_attend_args *a, const group *g, size_t b, size_t col_row, mask *k) {
    const int64_t ahead = a->causal ? (int64_t)(g->base[b] - (a->pos0 + col_row)) : -BLK; /* modulo 2^64 */
    k->rows = 0xffff;
    k->by_key = g->n_key[b] < BLK || ahead + BLK - 1 > 0;
    if (!k->by_key) return;
    for (size_t j = 0; j < BLK; j++) k->key[j] = j < g->n_key[b] ? rows_from(ahead + (int64_t)j) : 0;
}

/* Far blocks: `rows` becomes the rows that keep the block; blocks no row keeps leave the view. */
static void leave_out(const strip *t, const skip_rule *rule, view *g) {
    __m512 met[STRIP_COLS], top[STRIP_COLS];
    size_t n = 0;
    for (int c = 0; c < t->n_col; c++) met[c] = top[c] = _mm512_load_ps(t->met + c * COL);
    for (size_t b = 0; b < g->n_blk; b++) {
        size_t n_keep = 0;
        for (int c = 0; c < t->n_col; c++) {
            const __m512 mx = block_max(&g->k[b][c], g->s[b] + c * KEYS * COL);
            const __m512 least = _mm512_sub_ps(met[c], _mm512_set1_ps(rule->edge));
            const __mmask16 keep = _mm512_cmp_ps_mask(mx, least, _CMP_GE_OQ);
            n_keep += (size_t)__builtin_popcount(keep);
            top[c] = _mm512_max_ps(mx, top[c]);
            g->k[n][c].by_key = 0;
            g->k[n][c].rows = keep;
        }
        *rule->count += t->n_row - n_keep;
        g->s[n] = g->s[b], g->v[n] = g->v[b];
        n += n_keep != 0;
    }
    for (int c = 0; c < t->n_col; c++) _mm512_store_ps(t->met + c * COL, top[c]);
    g->n_blk = n;
}

static void strip_group(const crit_attend_args *a, strip *t, const group *g, const skip_rule *rule, work *w) {
    const size_t last = a->pos0 + t->row0 + t->n_row - 1;
    view see_now = {.n_blk = 0};
    for (size_t b = 0; b < g->n_in; b++) {
        if (g->n_key[b] == 0 || (a->causal && g->base[b] > last)) break; /* positions ascend */
        if (g->want && !(g->want[b] >> t->row0 / CRIT_TILE_LEN & 1)) continue;
        const size_t n = see_now.n_blk;
        float *s = w->s + b * BLK * COL;
        qk(t->n_col, t->qt, g->k[b], w->k_apart, w->dk, s, w->ahead);
        for (int c = 0; c < t->n_col; c++) see(a, g, b, t->row0 + (size_t)c * COL, &see_now.k[n][c]);
        see_now.s[n] = s, see_now.v[n] = g->v[b];
        see_now.n_blk++;
    }
    if (rule && g->far)
        leave_out(t, rule, &see_now);
    else if (rule) {
        for (int c = 0; c < t->n_col; c++) {
            __m512 met = _mm512_load_ps(t->met + c * COL);
            for (size_t b = 0; b < see_now.n_blk; b++)
                met = _mm512_max_ps(block_max(&see_now.k[b][c], see_now.s[b] + c * KEYS * COL), met);
            _mm512_store_ps(t->met + c * COL, met);
        }
    }
    if (see_now.n_blk == 0) return;
    soft_max(t, w, &see_now, !t->begun);
    t->begun = 1;
}

/* --------------------------------------------------------------------------------------------------- in and out */

/* 1 / l, and 0 for rows that saw no key. */
CRIT_INLINE __m256 inverse(const float *l) {
    const __m256 x = _mm256_load_ps(l);
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_EQ_OQ), _mm256_div_ps(_mm256_set1_ps(1.0f), x));
}

/* out rows = O / l; adding 0 turns -0 into 0, so that a row cannot tell whether it was once scaled to nothing. */
static void unpack_o(const strip *t, size_t w, size_t d, float *out, size_t out_stride) {
    for (size_t r = 0; r < t->n_row; r += 8) {
        const float *col = t->ot + r / COL * w * COL + r % COL;
        const __m256 inv = inverse(t->l + r), zero = _mm256_setzero_ps();
        for (size_t e = 0; e < d; e += 8) {
            __m256 x[8];
            CRIT_UNROLL for (size_t i = 0; i < 8; i++) x[i] =
                _mm256_add_ps(_mm256_mul_ps(inv, _mm256_load_ps(col + (e + i) * COL)), zero);
            crit_transpose_8x8(x);
            CRIT_UNROLL for (size_t i = 0; i < 8; i++) if (r + i < t->n_row)
                _mm256_storeu_ps(out + (t->row0 + r + i) * out_stride + e, x[i]);
        }
    }
}

/* V^T, d rows of 32 keys -> w rows; keys from n on become 0, because P = 0 does not silence a NaN. */
static void pad_v(const uint16_t *v, size_t n, size_t d, size_t w, uint16_t *to) {
    memset(to, 0, w * BLK * sizeof *to);
    for (size_t i = 0; i < d; i++) memcpy(to + i * BLK, v + i * BLK, n * sizeof *to);
}

static float lse_of(float m, float l) {
    return l == 0 ? -INFINITY : (float)(log((double)l) + (double)m * 0x1.62e42fefa39efp-1);
}

/* -------------------------------------------------------------------------------------------------- the kernel */

static void attend(const crit_attend_args *a, void *scratch) {
    const size_t d = a->d, w = WIDE(d), n_row = a->n_row;
    const size_t dk = crit_attend_dk(a), wk = WIDE(dk);
    const size_t end = a->causal ? size_min(a->pos0 + n_row, a->n_key) : a->n_key; /* of what the last row sees */
    const int pad = w != d && !a->dk;                                              /* keys are copied */
    const size_t max_groups = w == d ? PEND / GROUP : 1; /* there is room for copies of one group */
    float *ot = scratch, *s = ot + CRIT_ATTEND_ROWS * w, *m = s + KEYS * STRIP;
    float *l = m + CRIT_ATTEND_ROWS, *met = l + CRIT_ATTEND_ROWS;
    uint16_t *qt = (uint16_t *)(void *)(met + CRIT_ATTEND_ROWS), *p = qt + CRIT_ATTEND_ROWS * w;
    uint16_t *k_copy = p + PEND * STRIP_COLS * P_TILE, *v_copy = k_copy + GROUP * BLK * w;
    strip strips[CRIT_ATTEND_ROWS / STRIP];
    size_t n_strip = 0;

    for (size_t r = 0; r < n_row; r += STRIP) {
        const size_t n = size_min(n_row - r, STRIP), n_col = (n + COL - 1) / COL;
        strips[n_strip++] = (strip){.qt = qt + r * w,
                                    .ot = ot + r * w,
                                    .m = m + r,
                                    .l = l + r,
                                    .met = met + r,
                                    .row0 = r,
                                    .n_row = n,
                                    .n_col = (int)n_col};
        for (size_t c = 0; c < n_col; c++)
            pack_q(a->q + (r + c * COL) * a->q_stride, a->q_stride, n - c * COL, dk, wk, a->scale * LOG2E,
                   qt + r * w + c * COL * wk);
        memset(ot + r * w, 0, n_col * COL * w * sizeof *ot);
        memset(m + r, 0, n_col * COL * sizeof *m);
        memset(l + r, 0, n_col * COL * sizeof *l);
        for (size_t i = 0; i < n_col * COL; i++)
            met[r + i] = i < n ? -INFINITY : INFINITY; /* lanes without a row keep nothing */
    }
    uint64_t skipped = 0;
    const skip_rule rule = {.edge = a->skip * LOG2E, .count = &skipped};
    const skip_rule *skip = a->n_far && a->skip > 0 && a->skip < INFINITY ? &rule : NULL;
    list_ahead asks = ahead_begin(a, n_strip == 1);
    BEGIN();
    for (size_t at = a->n_far < a->n_blk ? a->n_far : 0, left = a->n_blk; left;) {
        group g[PEND / GROUP];
        size_t n_group = 0, n_copy = 0;
        while (left && n_group < max_groups) {
            group *x = &g[n_group];
            const size_t stop = at < a->n_far ? a->n_far : a->n_blk;
            *x = (group){
                .n_in = size_min(stop - at, GROUP), .want = a->want ? a->want + at : NULL, .far = at < a->n_far};
            for (size_t i = 0; i < x->n_in; i++) {
                x->base[i] = (size_t)a->blk[at + i] * BLK;
                x->n_key[i] = x->base[i] >= end ? 0 : size_min(end - x->base[i], BLK);
                x->k[i] = a->k + x->base[i] * dk, x->v[i] = a->v + x->base[i] * d;
                if (x->n_key[i] == 0) continue;
                if (pad) {
                    pad_k(x->k[i], d, w, k_copy + n_copy * BLK * w);
                    x->k[i] = k_copy + n_copy * BLK * w;
                }
                if (w != d || x->n_key[i] < BLK) { /* one block at most holds the end */
                    pad_v(x->v[i], x->n_key[i], d, w, v_copy + n_copy * BLK * w);
                    x->v[i] = v_copy + n_copy++ * BLK * w;
                }
            }
            left -= x->n_in, at += x->n_in;
            if (at == a->n_blk) at = 0;
            if (x->n_key[0] == 0) continue; /* nor does any later entry of this part hold a key that is seen */
            n_group++;
        }
        for (size_t i = 0; i < n_strip; i++) {
            work now = {.s = s, .p = p, .d = w, .dk = wk, .k_apart = pad ? w : dk, .ahead = &asks};
            for (size_t j = 0; j < n_group; j++) strip_group(a, &strips[i], &g[j], skip, &now);
            flush(&strips[i], &now);
        }
    }
    END();
    if (a->n_skip) *a->n_skip += skipped;
    for (size_t i = 0; i < n_strip; i++) {
        const strip *t = &strips[i];
        unpack_o(t, w, d, a->out, a->out_stride);
        for (size_t r = 0; a->lse && r < t->n_row; r++) a->lse[t->row0 + r] = lse_of(t->m[r], t->l[r]);
    }
}

#endif
