/* SPDX-License-Identifier: MIT */
/* attend and block_lse for AVX2 with products of 16-bit integers: where vpmaddwd has the rate of FMA it multiplies twice
 * as many pairs.  The algorithm is attend_tmpl.h's, strips of 32 rows; the operands of the products are integers with a
 * scale each:
 *
 *   q of a row       / |q| * 32767             a key of K       / |k| * 32767     (Euclidean norms)
 *   a value of V     / max|v| of its key * 32767
 *   P of a row       * max|v| of the key / the sum of that over the group * 32767
 *
 * By Cauchy and Schwarz no sum of products of q and k passes 2^30, nor does one of P and V, whose weights sum to 32767:
 * int32 holds every sum of a group exactly, in any order.  A scale depends on its own row or key, and for P on what the
 * row sees of the group, so a row's bits are as independent of its neighbours as the template's.
 *
 * Two values that are multiplied and added together share the 32 bits of a lane: of q and k the values e and e + 8 of
 * every 16 (e and e + 4 of a last 8), of P and V those of keys 2 i and 2 i + 1. */
#include "kernels/protos.h"
#include "kernels/x86/attend_vec_avx2.h"
#include "kernels/x86/lanes_avx2.h"

/* A block of K: [key][d / 2 pairs, then the scale and 3 unused]; of V: panels of 8 values, [d / 8][pair of keys]
 * [8 pairs], and one more with the scales of the two keys.  Both take the same room; ready forms are K and V of each
 * block. */
#define ATTEND_OWN_OPERANDS 1
#define KEY_STEP(dk)        ((dk) / 2 + 4)
#define VALUE_STEP(d)       KEY_STEP(d)
#define READY(made)         ((const float *)(made))

/* 8 accumulators, 2 broadcasts, a load and a product: 6 loads for 8 products and 8 additions. */
#define STRIP_NV   4
#define TILE_N(nv) ((nv) == 4 ? 2 : (nv) == 3 ? 3 : (nv) == 2 ? 4 : 8)

enum { PANEL = CRIT_BLK_LEN * 4 }; /* floats of a panel of V */

#define ONE 32767.0f
/* Weights of a group that sum to less are nothing beside the others' (X_MIN); times the largest f16, ONE / LEAST is
 * finite. */
#define LEAST 0x1p-96f

CRIT_INLINE __m256i pairs_at(const float *p) {
    return _mm256_load_si256((const __m256i *)(const void *)p);
}
CRIT_INLINE __m256i pair_of(const float *p) { /* to all lanes */
    return _mm256_castps_si256(_mm256_broadcast_ss(p));
}
CRIT_INLINE __m256i add_products(__m256i sum, __m256i a, __m256i b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

/* x * f rounded, |x * f| < 2^15, in the low 16 bits: adding 1.5 * 2^23 leaves them there. */
CRIT_INLINE __m256i rounded(__m256 x, __m256 f) {
    return _mm256_castps_si256(_mm256_fmadd_ps(x, f, _mm256_set1_ps(0x1.8p+23f)));
}
/* The low halves of lo's lanes and of hi's above them. */
CRIT_INLINE __m256i paired(__m256i lo, __m256i hi) {
    return _mm256_blend_epi16(lo, _mm256_slli_epi32(hi, 16), 0xaa);
}

/* The scale that makes a norm ONE; a row of zeros stays one. */
CRIT_INLINE __m256 to_one(__m256 norm) {
    return _mm256_div_ps(_mm256_set1_ps(ONE), _mm256_max_ps(norm, _mm256_set1_ps(0x1p-100f)));
}

/* s[j][row] = q[row].k[j] - m[row] for kt keys; minus_m [nv*8]. */
CRIT_INLINE void qk_tile(const int nv, const int kt, const float *qt, const float *k, size_t d, const float *minus_m,
                         float *s) {
    const size_t step = KEY_STEP(d), n = d / 2;
    __m256i acc[8][4];
    CRIT_UNROLL for (int j = 0; j < kt; j++) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) acc[j][v] = _mm256_setzero_si256();
    }
    CRIT_UNROLL_4 for (size_t i = 0; i < n; i++) {
        __m256i b[8];
        CRIT_UNROLL for (int j = 0; j < kt; j++) b[j] = pair_of(k + (size_t)j * step + i);
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            const __m256i q = pairs_at(qt + (i * (size_t)nv + (size_t)v) * 8);
            CRIT_UNROLL for (int j = 0; j < kt; j++) acc[j][v] = add_products(acc[j][v], q, b[j]);
        }
    }
    const float *q_scale = qt + n * (size_t)nv * 8;
    CRIT_UNROLL for (int j = 0; j < kt; j++) {
        const __m256 k_scale = _mm256_broadcast_ss(k + (size_t)j * step + n);
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[j][v]), k_scale);
            _mm256_store_ps(s + (j * nv + v) * 8, _mm256_fmadd_ps(x, _mm256_load_ps(q_scale + v * 8),
                                                                  _mm256_load_ps(minus_m + v * 8)));
        }
    }
}

CRIT_INLINE void qk(const int nv, const float *qt, const float *k, size_t n_key, size_t d, const float *minus_m,
                    float *s) {
    const size_t w = (size_t)nv * 8, step = KEY_STEP(d);
    for (; n_key >= TILE_N(nv); n_key -= TILE_N(nv), k += TILE_N(nv) * step, s += TILE_N(nv) * w)
        qk_tile(nv, TILE_N(nv), qt, k, d, minus_m, s);
    for (; n_key; n_key--, k += step, s += w) qk_tile(nv, 1, qt, k, d, minus_m, s);
}

/* Pairs of keys of one block. */
typedef struct pairs {
    const float *p, *v; /* [n][nv*8]; panels */
    size_t n;
} pairs;

/* o[e][row] += f[row] sum_j p[j][row] v[j][e] for dt values of d from e on, all of one panel. */
CRIT_INLINE void pv_tile(const int nv, const int dt, const pairs *part, size_t n_part, size_t e, const __m256 *f,
                         float *o) {
    __m256i acc[8][4];
    CRIT_UNROLL for (int j = 0; j < dt; j++) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) acc[j][v] = _mm256_setzero_si256();
    }
    for (size_t k = 0; k < n_part; k++) {
        const float *p = part[k].p, *col = part[k].v + e / 8 * PANEL + e % 8;
        CRIT_UNROLL_4 for (size_t i = 0; i < part[k].n; i++) {
            __m256i b[8];
            CRIT_UNROLL for (int j = 0; j < dt; j++) b[j] = pair_of(col + i * 8 + (size_t)j);
            CRIT_UNROLL for (int v = 0; v < nv; v++) {
                const __m256i x = pairs_at(p + (i * (size_t)nv + (size_t)v) * 8);
                CRIT_UNROLL for (int j = 0; j < dt; j++) acc[j][v] = add_products(acc[j][v], x, b[j]);
            }
        }
    }
    CRIT_UNROLL for (int j = 0; j < dt; j++) {
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            float *at = o + (j * nv + v) * 8;
            _mm256_store_ps(at, _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[j][v]), f[v], _mm256_load_ps(at)));
        }
    }
}

/* sum[row] += sum_j p[j][row] top[j]; top of key j at j / 2 * 8 + j % 2. */
CRIT_INLINE void add_weights(const int nv, const float *p, const float *top, size_t n_key, __m256 *sum) {
    for (size_t j = 0; j < n_key; j++) {
        const __m256 t = _mm256_broadcast_ss(top + j / 2 * 8 + j % 2);
        CRIT_UNROLL for (int v = 0; v < nv; v++) sum[v] =
            _mm256_fmadd_ps(t, _mm256_load_ps(p + (j * (size_t)nv + (size_t)v) * 8), sum[v]);
    }
}

/* p [n_key][nv*8] floats turn into [n_key / 2, rounded up][nv*8] pairs of p * top * up, in place. */
CRIT_INLINE void pair_weights(const int nv, float *p, const float *top, size_t n_key, const __m256 *up) {
    const size_t w = (size_t)nv * 8;
    for (size_t i = 0; 2 * i < n_key; i++) {
        const __m256 t0 = _mm256_broadcast_ss(top + i * 8), t1 = _mm256_broadcast_ss(top + i * 8 + 1);
        const float *p0 = p + 2 * i * w, *p1 = 2 * i + 1 < n_key ? p0 + w : NULL;
        CRIT_UNROLL for (int v = 0; v < nv; v++) {
            const __m256i lo = rounded(_mm256_load_ps(p0 + v * 8), _mm256_mul_ps(t0, up[v]));
            const __m256i hi =
                p1 ? rounded(_mm256_load_ps(p1 + v * 8), _mm256_mul_ps(t1, up[v])) : _mm256_setzero_si256();
            _mm256_store_si256((__m256i *)(void *)(p + i * w + (size_t)v * 8), paired(lo, hi));
        }
    }
}

#include "kernels/attend_tmpl.h"

CRIT_INLINE void group_scores(const int nv, const strip *t, const group *g, size_t n, float *s) {
    for (size_t b = 0; n; b++, s += BLK * (size_t)nv * 8) {
        const size_t n_here = size_min(n, BLK);
        qk(nv, t->qt, g->k[b], n_here, g->dk, t->minus_m, s);
        n -= n_here;
    }
}

/* Blocks but for a group's last have BLK keys, and j0 is the first of one. */
CRIT_INLINE void group_mix(const int nv, const strip *t, const group *g, size_t j0, size_t j1, float *p) {
    const int dt = nv == 3 ? 2 : TILE_N(nv); /* divides 8 */
    const size_t d = g->a->d, w = (size_t)nv * 8;
    pairs part[CRIT_ATTEND_GROUP];
    size_t n_part = 0;
    __m256 f[4], up[4];
    CRIT_UNROLL for (int v = 0; v < nv; v++) f[v] = _mm256_setzero_ps();
    for (size_t j = j0; j < j1; j += BLK)
        add_weights(nv, p + j * w, g->v[j / BLK] + d / 8 * PANEL, size_min(j1 - j, BLK), f);
    CRIT_UNROLL for (int v = 0; v < nv; v++) {
        up[v] = _mm256_div_ps(_mm256_set1_ps(ONE), _mm256_max_ps(f[v], _mm256_set1_ps(LEAST)));
        f[v] = _mm256_mul_ps(f[v], _mm256_set1_ps(1 / (ONE * ONE)));
    }
    for (size_t j = j0; j < j1; j += BLK) {
        const size_t n = size_min(j1 - j, BLK);
        pair_weights(nv, p + j * w, g->v[j / BLK] + d / 8 * PANEL, n, up);
        part[n_part++] = (pairs){.p = p + j * w, .v = g->v[j / BLK], .n = (n + 1) / 2};
    }
    for (size_t e = 0; e < d; e += (size_t)dt) pv_tile(nv, dt, part, n_part, e, f, t->ot + e * w);
}

/* q rows -> [d / 2][w] lanes of pairs, then [w] scales, which hold `scale` too; lanes behind the last row are 0. */
static void pack_q(const float *q, size_t q_stride, size_t n_row, size_t w, size_t d, float scale, float *qt) {
    for (size_t r = 0; r < w; r += 8) {
        __m256 norm = _mm256_setzero_ps();
        for (size_t e = 0; e < d; e += 8) {
            __m256 x[8];
            CRIT_UNROLL for (size_t i = 0; i < 8; i++) x[i] =
                r + i < n_row ? _mm256_loadu_ps(q + (r + i) * q_stride + e) : _mm256_setzero_ps();
            crit_transpose_8x8(x);
            CRIT_UNROLL for (int i = 0; i < 8; i++) norm = _mm256_fmadd_ps(x[i], x[i], norm);
        }
        norm = _mm256_sqrt_ps(norm);
        const __m256 f = to_one(norm);
        _mm256_store_ps(qt + d / 2 * w + r, _mm256_mul_ps(norm, _mm256_set1_ps(scale / ONE)));
        for (size_t e = 0; e < d; e += 8) {
            __m256 x[8];
            __m256i y[8];
            CRIT_UNROLL for (size_t i = 0; i < 8; i++) x[i] =
                r + i < n_row ? _mm256_loadu_ps(q + (r + i) * q_stride + e) : _mm256_setzero_ps();
            crit_transpose_8x8(x);
            CRIT_UNROLL for (int i = 0; i < 8; i++) y[i] = rounded(x[i], f);
            float *at = qt + e / 2 * w + r;
            if (e % 16 == 0 && e + 8 == d) {
                CRIT_UNROLL for (size_t i = 0; i < 4; i++)
                    _mm256_store_si256((__m256i *)(void *)(at + i * w), paired(y[i], y[i + 4]));
            } else if (e % 16 == 0) {
                CRIT_UNROLL for (size_t i = 0; i < 8; i++) _mm256_store_si256((__m256i *)(void *)(at + i * w), y[i]);
            } else {
                at -= 4 * w;
                CRIT_UNROLL for (size_t i = 0; i < 8; i++)
                    _mm256_store_si256((__m256i *)(void *)(at + i * w), paired(pairs_at(at + i * w), y[i]));
            }
        }
    }
}

static void widen_k(const uint16_t *k, size_t n_key, size_t dk, float *kp) {
    const size_t step = KEY_STEP(dk), n = dk / 2;
    for (size_t j = 0; j < n_key; j++, k += dk, kp += step) {
        __m256 a = _mm256_setzero_ps(), b = a;
        size_t e = 0;
        for (; e + 16 <= dk; e += 16) {
            const __m256 x = crit_load_f16(k + e), y = crit_load_f16_by_bits(k + e + 8);
            a = _mm256_fmadd_ps(x, x, a);
            b = _mm256_fmadd_ps(y, y, b);
        }
        if (e < dk) {
            const __m256 x = crit_load_f16(k + e);
            a = _mm256_fmadd_ps(x, x, a);
        }
        a = _mm256_add_ps(a, b);
        __m128 c = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        c = _mm_add_ps(c, _mm_movehl_ps(c, c));
        c = _mm_sqrt_ss(_mm_add_ss(c, _mm_movehdup_ps(c)));
        const __m256 norm = _mm256_broadcastss_ps(c), f = to_one(norm);
        for (e = 0; e + 16 <= dk; e += 16) {
            const __m256i x = rounded(crit_load_f16(k + e), f), y = rounded(crit_load_f16_by_bits(k + e + 8), f);
            _mm256_storeu_si256((__m256i *)(void *)(kp + e / 2), paired(x, y));
        }
        if (e < dk) {
            const __m256i x = rounded(crit_load_f16(k + e), f);
            const __m256i y = paired(x, _mm256_permute2x128_si256(x, x, 0x81));
            _mm_storeu_si128((__m128i *)(void *)(kp + e / 2), _mm256_castsi256_si128(y));
        }
        kp[n] = _mm256_cvtss_f32(norm) * (1 / ONE);
    }
}

/* The largest |v| of a key. */
CRIT_INLINE float largest(const uint16_t *v, size_t d) {
    __m128i m = _mm_setzero_si128();
    for (size_t e = 0; e < d; e += 8) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(v + e));
        m = _mm_max_epu16(m, _mm_and_si128(x, _mm_set1_epi16(0x7fff)));
    }
    m = _mm_minpos_epu16(_mm_xor_si128(m, _mm_set1_epi16(-1)));
    return _cvtsh_ss((unsigned short)~_mm_cvtsi128_si32(m));
}

static void widen_v(const uint16_t *v, size_t n_key, size_t d, float *vp) {
    for (size_t j = 0; j < n_key; j += 2, vp += 8, v += 2 * d) {
        const int two = j + 1 < n_key;
        const float top0 = largest(v, d), top1 = two ? largest(v + d, d) : 0;
        const __m256 f0 = to_one(_mm256_set1_ps(top0)), f1 = to_one(_mm256_set1_ps(top1));
        for (size_t e = 0; e < d; e += 8) {
            const __m256i x = rounded(crit_load_f16(v + e), f0);
            const __m256i y = two ? rounded(crit_load_f16_by_bits(v + d + e), f1) : _mm256_setzero_si256();
            _mm256_store_si256((__m256i *)(void *)(vp + e / 8 * PANEL), paired(x, y));
        }
        vp[d / 8 * PANEL] = top0, vp[d / 8 * PANEL + 1] = top1;
    }
}

void crit_attend_ready_i16_avx2(const uint16_t *k, const uint16_t *v, size_t n_key, uint32_t d, void *ready) {
    for (float *to = ready; n_key; to += BLK * (KEY_STEP(d) + VALUE_STEP(d)), k += BLK * d, v += BLK * d) {
        const size_t n = size_min(n_key, BLK);
        widen_k(k, n, d, to);
        widen_v(v, n, d, to + BLK * KEY_STEP(d));
        n_key -= n;
    }
}

void crit_block_lse_i16_avx2(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, const void *ready,
                             size_t n_key, uint32_t d, float scale, float *lse, float *top, size_t stride,
                             void *scratch) {
    block_lse(q, q_stride, n_row, k, ready, n_key, d, scale, lse, top, stride, scratch);
}

void crit_attend_i16_avx2(const crit_attend_args *a, void *scratch) {
    if (a->causal)
        attend(a, scratch);
    else
        crit_attend_avx2(a, scratch);
}
