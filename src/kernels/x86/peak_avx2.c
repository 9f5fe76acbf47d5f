/* SPDX-License-Identifier: MIT */
/* Peak loops of AVX2 (kernels/peak.h): f32 FMA, and the two integer chains our GEMM is made of. */
#include <immintrin.h>

#include "core/core.h"
#include "kernels/peak.h"
#include "kernels/peak_loop.h"

/* Named variables: gcc keeps an array in memory whose elements are operands of an asm. */
static void fma_run(void *buf) {
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_load_ps(buf);
    __m256 s = y;
#define STEP(v) _mm256_fmadd_ps(v, x, y)
    CRIT_PEAK_LOOP(__m256, "x", STEP, _mm256_add_ps, s);
#undef STEP
    _mm256_store_ps(buf, _mm256_min_ps(s, _mm256_set1_ps(1)));
}

/* The same operand, but the compiler cannot know: otherwise all chains would share one product. */
static inline __attribute__((always_inline)) __m256i anew(__m256i *w) {
    __asm__("" : "+x"(*w));
    return *w;
}

static void maddubs_run(void *buf) {
    __m256i u = _mm256_load_si256(buf), w = _mm256_load_si256((const __m256i *)buf + 1), s = u;
#define STEP(v) _mm256_add_epi16(v, _mm256_maddubs_epi16(u, anew(&w)))
    CRIT_PEAK_LOOP(__m256i, "x", STEP, _mm256_xor_si256, s);
#undef STEP
    _mm256_store_si256((__m256i *)buf + 2, s);
}

static void madd_run(void *buf) {
    __m256i u = _mm256_load_si256(buf), w = _mm256_load_si256((const __m256i *)buf + 1), s = u;
#define STEP(v) _mm256_add_epi32(v, _mm256_madd_epi16(u, anew(&w)))
    CRIT_PEAK_LOOP(__m256i, "x", STEP, _mm256_xor_si256, s);
#undef STEP
    _mm256_store_si256((__m256i *)buf + 2, s);
}

void crit_read_avx2(const void *p, size_t bytes);
void crit_read_avx2(const void *p, size_t bytes) {
    const __m256i *x = p, *end = x + bytes / sizeof *x;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (; x < end; x += 8) {
        a = _mm256_xor_si256(_mm256_xor_si256(a, _mm256_loadu_si256(x)), _mm256_loadu_si256(x + 4));
        b = _mm256_xor_si256(_mm256_xor_si256(b, _mm256_loadu_si256(x + 1)), _mm256_loadu_si256(x + 5));
        c = _mm256_xor_si256(_mm256_xor_si256(c, _mm256_loadu_si256(x + 2)), _mm256_loadu_si256(x + 6));
        d = _mm256_xor_si256(_mm256_xor_si256(d, _mm256_loadu_si256(x + 3)), _mm256_loadu_si256(x + 7));
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    __asm__ volatile("" ::"x"(a));
}

extern const crit_peak crit_peaks_avx2[];
const crit_peak crit_peaks_avx2[] = {
    {"f32 fma", "avx2", CRIT_CPU_AVX2, CRIT_PEAK_F32, CRIT_PEAK_OPS(2 * 8), fma_run},
    {"u8 x s8 vpmaddubsw", "avx2", CRIT_CPU_AVX2, CRIT_PEAK_I8, CRIT_PEAK_OPS(2 * 32), maddubs_run},
    {"s16 x s16 vpmaddwd", "avx2", CRIT_CPU_AVX2, CRIT_PEAK_I16, CRIT_PEAK_OPS(2 * 16), madd_run},
    {.name = NULL},
};
