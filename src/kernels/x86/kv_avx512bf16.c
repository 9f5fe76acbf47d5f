/* SPDX-License-Identifier: MIT */
/* Packing of keys and values as KV_BF16T and the statistics of its key blocks.     [alg:represent]
 *
 * AVX2 is enough here: a token is packed once and read by every later one. */
#include <string.h>

#include "kernels/protos.h"
#include "kernels/x86/bf16.h"

static float value_bf16(uint16_t h) {
    const uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#define STATS_LOAD(p)  bf16_load(p)
#define STATS_VALUE(h) value_bf16(h)
#include "kernels/stats_tmpl.h"

/* Values e .. e + 7 of keys [j0, j0 + 8), as far as they are in [at, at + n), into their columns. */
CRIT_INLINE void put_v(const float *v, size_t v_stride, size_t at, size_t n, size_t j0, uint16_t *col) {
    __m256 x[8];
    CRIT_UNROLL for (size_t j = 0; j < 8; j++) {
        const size_t key = j0 + j;
        x[j] = key >= at && key - at < n ? _mm256_loadu_ps(v + (key - at) * v_stride) : _mm256_setzero_ps();
    }
    crit_transpose_8x8(x);
    const size_t from = at > j0 ? at - j0 : 0, to = at + n - j0 < 8 ? at + n - j0 : 8;
    CRIT_UNROLL for (size_t i = 0; i < 8; i++, col += CRIT_BLK_LEN) {
        uint16_t h[8];
        _mm_storeu_si128((__m128i *)(void *)h, bf16_8(x[i]));
        memcpy(col + j0 + from, h + from, (to - from) * sizeof *h); /* neighbours belong to others */
    }
}

void crit_kv_put_avx512bf16(const float *k, size_t k_stride, const float *v, size_t v_stride, size_t at, size_t n,
                            uint32_t d, uint16_t *kblk, uint16_t *vblk) {
    for (size_t j = 0; j < n; j++)
        for (size_t e = 0; e < d; e += 8)
            _mm_storeu_si128((__m128i *)(void *)(kblk + (at + j) * d + e),
                             bf16_8(_mm256_loadu_ps(k + j * k_stride + e)));
    for (size_t j0 = at / 8 * 8; j0 < at + n; j0 += 8)
        for (size_t e = 0; e < d; e += 8) put_v(v + e, v_stride, at, n, j0, vblk + e * CRIT_BLK_LEN);
}

void crit_block_stats_avx512bf16(const uint16_t *k, size_t n_new, size_t n_old, uint32_t d, float *kmax, float *kmin,
                                 float *ksum) {
    block_stats(k, n_new, n_old, d, kmax, kmin, ksum);
}
