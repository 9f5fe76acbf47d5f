/* SPDX-License-Identifier: MIT */
/* Attention of at most 8 rows that all see every key: decoding.  Included by attend_avx2.c behind attend_tmpl.h.
 *
 * With 8 lanes of rows at most, broadcasting K and V costs a load per multiplication and widening them into scratch
 * first a fifth of the time.  So here keys are the lanes of Q K^T (K transposed while still f16, 8 x 8 values at a
 * time) and values of d the lanes of P V (V widened on the fly).  Every element still goes through attend_tmpl.h's
 * chain of operations in the same order, so a row has the same bits on both ways. */
#include "kernels/x86/ahead.h"

/* 8 keys x d, f16 -> [d][8] f32; keys from n on are 0. */
CRIT_INLINE void transpose_keys(const uint16_t *k, size_t n, size_t d, float *kt, list_ahead *f) {
    for (size_t e = 0; e < d; e += 8, kt += 64) {
        ahead_lines(f, 2);
        __m128i a[8], b[8];
        CRIT_UNROLL for (size_t j = 0; j < 8; j++) a[j] =
            j < n ? _mm_loadu_si128((const __m128i *)(const void *)(k + j * d + e)) : _mm_setzero_si128();
        CRIT_UNROLL for (int j = 0; j < 4; j++) {
            b[2 * j] = _mm_unpacklo_epi16(a[2 * j], a[2 * j + 1]);
            b[2 * j + 1] = _mm_unpackhi_epi16(a[2 * j], a[2 * j + 1]);
        }
        CRIT_UNROLL for (int j = 0; j < 2; j++) {
            a[4 * j] = _mm_unpacklo_epi32(b[4 * j], b[4 * j + 2]);
            a[4 * j + 1] = _mm_unpackhi_epi32(b[4 * j], b[4 * j + 2]);
            a[4 * j + 2] = _mm_unpacklo_epi32(b[4 * j + 1], b[4 * j + 3]);
            a[4 * j + 3] = _mm_unpackhi_epi32(b[4 * j + 1], b[4 * j + 3]);
        }
        CRIT_UNROLL for (int j = 0; j < 4; j++) {
            _mm256_store_ps(kt + 16 * j, _mm256_cvtph_ps(_mm_unpacklo_epi64(a[j], a[j + 4])));
            _mm256_store_ps(kt + 16 * j + 8, _mm256_cvtph_ps(_mm_unpackhi_epi64(a[j], a[j + 4])));
        }
    }
}

/* s[key][8 rows] = q[row].k[key] - m[row] for np panels of 8 keys, kt [np][d][8]. */
CRIT_INLINE void few_qk(const int nr, const int np, const float *qt, const float *kt, size_t d, const float *minus_m,
                        float *s) {
    __m256 acc[4][8];
    CRIT_UNROLL for (int p = 0; p < np; p++) {
        CRIT_UNROLL for (int r = 0; r < 8; r++) acc[p][r] =
            r < nr ? _mm256_broadcast_ss(minus_m + r) : _mm256_setzero_ps();
    }
    for (size_t i = 0; i < d; i++) {
        __m256 k[4];
        CRIT_UNROLL for (int p = 0; p < np; p++) k[p] = _mm256_load_ps(kt + ((size_t)p * d + i) * 8);
        CRIT_UNROLL for (int r = 0; r < nr; r++) {
            const __m256 q = _mm256_broadcast_ss(qt + i * 8 + r);
            CRIT_UNROLL for (int p = 0; p < np; p++) acc[p][r] = _mm256_fmadd_ps(q, k[p], acc[p][r]);
        }
    }
    CRIT_UNROLL for (int p = 0; p < np; p++) {
        crit_transpose_8x8(acc[p]);
        CRIT_UNROLL for (int j = 0; j < 8; j++) _mm256_store_ps(s + (p * 8 + j) * 8, acc[p][j]);
    }
}

/* o[row][e ...] += sum_j p[j][row] v[j][e ...] for ne vectors of 8 values; n keys of one block. */
CRIT_INLINE void few_pv(const int nr, const int ne, const float *p, const uint16_t *v, size_t n, size_t d, float *o,
                        list_ahead *f) {
    __m256 acc[8][8];
    CRIT_UNROLL for (int r = 0; r < nr; r++) {
        CRIT_UNROLL for (int e = 0; e < ne; e++) acc[r][e] = _mm256_load_ps(o + (size_t)r * d + e * 8);
    }
    for (size_t j = 0; j < n; j++) {
        __m256 x[8];
        if (j % 4 == 0) ahead_lines(f, (size_t)ne);
        CRIT_UNROLL for (int e = 0; e < ne; e++) x[e] = crit_load_f16(v + j * d + e * 8);
        CRIT_UNROLL for (int r = 0; r < nr; r++) {
            const __m256 y = _mm256_broadcast_ss(p + j * 8 + r);
            CRIT_UNROLL for (int e = 0; e < ne; e++) acc[r][e] = _mm256_fmadd_ps(y, x[e], acc[r][e]);
        }
    }
    CRIT_UNROLL for (int r = 0; r < nr; r++) {
        CRIT_UNROLL for (int e = 0; e < ne; e++) _mm256_store_ps(o + (size_t)r * d + e * 8, acc[r][e]);
    }
}

/* Register tiles: about 8 chains in flight, whatever the number of rows. */
#define FEW_PANELS(nr)  ((nr) <= 2 ? 4 : (nr) <= 4 ? 2 : 1)
#define FEW_VECTORS(nr) ((nr) == 1 ? 8 : (nr) == 2 ? 4 : (nr) <= 4 ? 2 : 1)

CRIT_INLINE void few_group(const int nr, const crit_attend_args *a, const strip *t, const view *w, int first, float *kt,
                           float *s, list_ahead *f) {
    const size_t d = a->d, dk = crit_attend_dk(a), step = FEW_PANELS(nr) * 8;
    for (int again = 0;; again++) {
        for (size_t j = 0; j < w->n_vis; j += step) {
            for (size_t p = 0; p < FEW_PANELS(nr); p++) {
                const size_t at = j + p * 8, n = at >= w->n_vis ? 0 : size_min(w->n_vis - at, 8);
                if (n)
                    transpose_keys(a->k + (w->base[at / BLK] + at % BLK) * dk, n, dk, kt + p * 8 * dk, f);
                else
                    memset(kt + p * 8 * dk, 0, 8 * dk * sizeof *kt);
            }
            few_qk(nr, FEW_PANELS(nr), t->qt, kt, dk, t->minus_m, s + j * 8);
        }
        if (first || again) {
            vec delta, shrink;
            float by[8] __attribute__((aligned(32)));
            raise_m(1, t, w, s, first, &delta, &shrink);
            _mm256_store_ps(by, shrink);
            for (size_t r = 0; !first && r < (size_t)nr; r++)
                for (size_t e = r * d; e < (r + 1) * d; e += 8)
                    _mm256_store_ps(t->ot + e, _mm256_mul_ps(_mm256_load_ps(t->ot + e), _mm256_set1_ps(by[r])));
            exp_group(1, 1, t, w, &delta, s);
            break;
        }
        if (!exp_group(1, 0, t, w, NULL, s)) break;
    }
    for (size_t j = 0; j < w->n_vis; j += BLK) {
        const uint16_t *v = a->v + w->base[j / BLK] * d;
        const size_t n = size_min(w->n_vis - j, BLK);
        size_t e = 0;
        for (; e + FEW_VECTORS(nr) * 8 <= d; e += FEW_VECTORS(nr) * 8)
            few_pv(nr, FEW_VECTORS(nr), s + j * 8, v + e, n, d, t->ot + e, f);
        for (; e < d; e += 8) few_pv(nr, 1, s + j * 8, v + e, n, d, t->ot + e, f);
    }
}

#define FEW_GROUP(nr)                                                                                                  \
    static __attribute__((noinline)) void few_group_##nr(const crit_attend_args *a, const strip *t, const view *w,     \
                                                         int first, float *kt, float *s, list_ahead *f) {              \
        few_group(nr, a, t, w, first, kt, s, f);                                                                       \
    }
FEW_GROUP(1)
FEW_GROUP(2)
FEW_GROUP(3)
FEW_GROUP(4)
FEW_GROUP(5)
FEW_GROUP(6)
FEW_GROUP(7)
FEW_GROUP(8)

/* a->causal == 0, a->n_row <= 8 */
static void attend_few(const crit_attend_args *a, float *mem) {
    const size_t d = a->d, n_row = a->n_row;
    float *qt = mem, *ot = qt + 8 * d, *kt = ot + 8 * d, *s = kt + 32 * d, *minus_m = s + KEYS * 8, *l = minus_m + 8;
    const strip t = {.qt = qt, .ot = ot, .minus_m = minus_m, .l = l, .row0 = 0, .n_row = n_row};
    list_ahead asks = ahead_begin(a, 1);
    pack_q(a->q, a->q_stride, n_row, 8, crit_attend_dk(a), a->scale * 0x1.715476p+0f, qt); /* log2 e */
    memset(ot, 0, 8 * d * sizeof *ot);
    memset(minus_m, 0, 8 * sizeof *minus_m);
    memset(l, 0, 8 * sizeof *l);
    for (size_t g = 0; g < a->n_blk; g += CRIT_ATTEND_GROUP) {
        const size_t n_in = size_min(a->n_blk - g, CRIT_ATTEND_GROUP);
        view w = {.n_vis = 0};
        for (size_t i = 0; i < n_in; i++) {
            w.base[i] = (size_t)a->blk[g + i] * BLK;
            w.n_vis += w.base[i] >= a->n_key ? 0 : size_min(a->n_key - w.base[i], BLK);
        }
        if (w.n_vis == 0) break;
        w.n_all = w.n_vis;
        switch (n_row) {
        case 1:
            few_group_1(a, &t, &w, g == 0, kt, s, &asks);
            break;
        case 2:
            few_group_2(a, &t, &w, g == 0, kt, s, &asks);
            break;
        case 3:
            few_group_3(a, &t, &w, g == 0, kt, s, &asks);
            break;
        case 4:
            few_group_4(a, &t, &w, g == 0, kt, s, &asks);
            break;
        case 5:
            few_group_5(a, &t, &w, g == 0, kt, s, &asks);
            break;
        case 6:
            few_group_6(a, &t, &w, g == 0, kt, s, &asks);
            break;
        case 7:
            few_group_7(a, &t, &w, g == 0, kt, s, &asks);
            break;
        default:
            few_group_8(a, &t, &w, g == 0, kt, s, &asks);
            break;
        }
    }
    float inv[8] __attribute__((aligned(32)));
    _mm256_store_ps(inv, l_inverse(_mm256_load_ps(l)));
    for (size_t r = 0; r < n_row; r++) {
        for (size_t e = 0; e < d; e += 8)
            _mm256_storeu_ps(a->out + r * a->out_stride + e,
                             _mm256_add_ps(_mm256_mul_ps(_mm256_set1_ps(inv[r]), _mm256_load_ps(ot + r * d + e)),
                                           _mm256_setzero_ps()));
        if (a->lse) a->lse[r] = lse_of(minus_m[r], l[r]);
    }
}
