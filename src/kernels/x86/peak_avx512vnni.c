/* SPDX-License-Identifier: MIT */
/* Peak loop of AVX-512 VNNI (kernels/peak.h). */
#include <immintrin.h>

#include "core/core.h"
#include "kernels/peak.h"
#include "kernels/peak_loop.h"

static void dpbusd_run(void *buf) {
    const __m512i u = _mm512_load_si512(buf), w = _mm512_load_si512((const char *)buf + 64);
    __m512i s = u;
#define STEP(v) _mm512_dpbusd_epi32(v, u, w)
    CRIT_PEAK_LOOP(__m512i, "v", STEP, _mm512_xor_si512, s);
    _mm512_store_si512((char *)buf + 128, s);
}

extern const crit_peak crit_peaks_avx512vnni[];
const crit_peak crit_peaks_avx512vnni[] = {
    {"u8 x s8 vpdpbusd", "avx512vnni", CRIT_CPU_AVX512 | CRIT_CPU_AVX512_VNNI, CRIT_PEAK_I8, CRIT_PEAK_OPS(2 * 64),
     dpbusd_run},
    {.name = NULL},
};
