/* SPDX-License-Identifier: MIT */
/* Peak loop of AVX-512 BF16 (kernels/peak.h): half the rate of f32 FMA on some CPUs, twice on others. */
#include <immintrin.h>

#include "core/core.h"
#include "kernels/peak.h"
#include "kernels/peak_loop.h"

static void dpbf16_run(void *buf) {
    const __m512bh x = (__m512bh)_mm512_load_si512(buf), y = (__m512bh)_mm512_load_si512((const char *)buf + 64);
    __m512 s = _mm512_setzero_ps();
#define STEP(v) _mm512_dpbf16_ps(v, x, y)
    CRIT_PEAK_LOOP(__m512, "v", STEP, _mm512_add_ps, s);
    _mm512_store_ps((float *)((char *)buf + 128), s);
}

extern const crit_peak crit_peaks_avx512bf16[];
const crit_peak crit_peaks_avx512bf16[] = {
    {"bf16 vdpbf16ps", "avx512bf16", CRIT_CPU_AVX512 | CRIT_CPU_AVX512_BF16, CRIT_PEAK_BF16, CRIT_PEAK_OPS(2 * 32),
     dpbf16_run},
    {.name = NULL},
};
