/* SPDX-License-Identifier: MIT */
/* One row times signed 8-bit weights (Q8_0, IQ4_NL, IQ4_XS) and int8 activations, AVX-512 VNNI on 256 bits.
 *
 * Exists because gemm of these types reads int8 activations at this level, int16 at AVX2; the other types' AVX2
 * gemv is bound by memory already.  Weights are multiplied with 128 added and the surplus taken off at the end. */
#include "kernels/act.h"
#include "kernels/protos.h"
#include "kernels/unroll.h"
#include "kernels/x86/panel_avx2.h"

CRIT_AI __m256i iq4_bytes(const uint8_t *p) {
    const __m256i values =
        _mm256_xor_si256(_mm256_setr_epi8(CRIT_IQ4_VALUES, CRIT_IQ4_VALUES), _mm256_set1_epi8((char)0x80));
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    return _mm256_shuffle_epi8(values,
                               lo4(_mm256_inserti128_si256(_mm256_castsi128_si256(v), _mm_srli_epi16(v, 4), 1)));
}

CRIT_AI float f16_at(const uint8_t *p) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(load_u16(p))));
}

CRIT_AI float hsum(__m256 v) {
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

/* Sums of a row, of even and odd groups. */
typedef struct sums {
    __m256 acc[2];
    float low[2];
} sums;

/* Group g: its 32 weights as bytes plus 128 times their activations at x, scale d. */
CRIT_AI void add_group(sums *t, size_t g, __m256i q, float d, const uint8_t *x) {
    float s[2]; /* the activations' scale and sum */
    memcpy(s, x + 32, sizeof s);
    const __m256i p = _mm256_dpbusd_epi32(_mm256_setzero_si256(), q, load_256(x));
    t->acc[g & 1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(p), _mm256_set1_ps(d * s[0]), t->acc[g & 1]);
    t->low[g & 1] += d * s[1];
}

/* A block of IQ4_XS, which is 8 groups, or n groups of the other types.  Unrolled whole: where the compiler does not
 * know g & 1 the sums live in memory, which is three times as slow. */
CRIT_AI void add_blocks(sums *t, crit_type type, const size_t n, const uint8_t *w, const uint8_t *x) {
    if (type == CRIT_T_IQ4_XS) {
        float sc[8];
        _mm256_storeu_ps(sc, _mm256_mul_ps(_mm256_set1_ps(f16_at(w)), _mm256_cvtepi32_ps(iq4_xs_scales(w))));
        CRIT_UNROLL for (size_t g = 0; g < 8; g++)
            add_group(t, g, iq4_bytes(w + 8 + g * 16), sc[g], x + g * CRIT_ACT_I8_BYTES);
        return;
    }
    const size_t bytes = type == CRIT_T_Q8_0 ? 34 : 18;
    CRIT_UNROLL for (size_t g = 0; g < n; g++) {
        const uint8_t *blk = w + g * bytes;
        const __m256i q = type == CRIT_T_IQ4_NL ? iq4_bytes(blk + 2)
                                                : _mm256_xor_si256(load_256(blk + 2), _mm256_set1_epi8((char)0x80));
        add_group(t, g, q, f16_at(blk), x + g * CRIT_ACT_I8_BYTES);
    }
}

CRIT_AI void gemv_vnni(const crit_gemm_args *a, size_t n0, size_t n1, crit_type type) {
    const size_t n_grp = a->n_in / CRIT_ACT_LEN, step = type == CRIT_T_IQ4_XS ? 8 : 2;
    const size_t bytes = type == CRIT_T_IQ4_XS ? 136 : type == CRIT_T_Q8_0 ? 2 * 34 : 2 * 18;
    for (size_t n = n0; n < n1; n++) {
        const uint8_t *w = (const uint8_t *)a->w + n * a->w_row_bytes, *x = a->act;
        sums t = {.low = {0, 0}};
        size_t g = 0;
        for (; g + step <= n_grp; g += step, w += bytes, x += step * CRIT_ACT_I8_BYTES) {
            fetch_ahead(w, bytes);
            add_blocks(&t, type, 2, w, x);
        }
        if (g < n_grp) add_blocks(&t, type, 1, w, x); /* Q8_0 and IQ4_NL only */
        float o = hsum(_mm256_add_ps(t.acc[0], t.acc[1])) - 128.0f * (t.low[0] + t.low[1]);
        if (a->accumulate) o += a->out[n];
        if (a->bias) o += a->bias[n];
        a->out[n] = o;
    }
}

void crit_gemv_q8_0_avx512vnni(const crit_gemm_args *a, size_t n0, size_t n1) {
    gemv_vnni(a, n0, n1, CRIT_T_Q8_0);
}
void crit_gemv_iq4_nl_avx512vnni(const crit_gemm_args *a, size_t n0, size_t n1) {
    gemv_vnni(a, n0, n1, CRIT_T_IQ4_NL);
}
void crit_gemv_iq4_xs_avx512vnni(const crit_gemm_args *a, size_t n0, size_t n1) {
    gemv_vnni(a, n0, n1, CRIT_T_IQ4_XS);
}
