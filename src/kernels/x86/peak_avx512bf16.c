/* SPDX-License-Identifier: MIT */
/* Peak loop of AVX-512 BF16 (kernels/peak.h): half the rate of f32 FMA on some CPUs, twice on others. */
#include <immintrin.h>

#include "core/core.h"
#include "kernels/peak.h"

#define TWELVE(X) X(a0) X(a1) X(a2) X(a3) X(a4) X(a5) X(a6) X(a7) X(a8) X(a9) X(a10) X(a11)
enum { ROUNDS = 100000 };

static void dpbf16_run(void *buf) {
    const __m512bh x = (__m512bh)_mm512_load_si512(buf), y = (__m512bh)_mm512_load_si512((const char *)buf + 64);
#define X(v) __m512 v = _mm512_setzero_ps();
    TWELVE(X)
#undef X
    for (int n = 0; n < ROUNDS; n++) {
#define X(v)                                                                                                           \
    v = _mm512_dpbf16_ps(v, x, y);                                                                                     \
    __asm__("" : "+v"(v));
        TWELVE(X)
#undef X
    }
    __m512 s = _mm512_setzero_ps();
#define X(v) s = _mm512_add_ps(s, v);
    TWELVE(X)
#undef X
    _mm512_store_ps((float *)((char *)buf + 128), s);
}

extern const crit_peak crit_peaks_avx512bf16[];
const crit_peak crit_peaks_avx512bf16[] = {
    {"bf16 vdpbf16ps", "avx512bf16", CRIT_CPU_AVX512 | CRIT_CPU_AVX512_BF16, CRIT_PEAK_BF16, 12.0 * ROUNDS * 32 * 2,
     dpbf16_run},
    {.name = NULL},
};
