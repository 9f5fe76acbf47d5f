/* SPDX-License-Identifier: MIT */
/* Peak loop of AVX-512 VNNI (kernels/peak.h). */
#include <immintrin.h>

#include "core/core.h"
#include "kernels/peak.h"

#define TWELVE(X) X(a0) X(a1) X(a2) X(a3) X(a4) X(a5) X(a6) X(a7) X(a8) X(a9) X(a10) X(a11)
enum { ROUNDS = 100000 };

static void dpbusd_run(void *buf) {
    const __m512i u = _mm512_load_si512(buf), w = _mm512_load_si512((const char *)buf + 64);
#define X(v) __m512i v = u;
    TWELVE(X)
#undef X
    for (int n = 0; n < ROUNDS; n++) {
#define X(v)                                                                                                           \
    v = _mm512_dpbusd_epi32(v, u, w);                                                                                  \
    __asm__("" : "+v"(v));
        TWELVE(X)
#undef X
    }
    __m512i s = u;
#define X(v) s = _mm512_xor_si512(s, v);
    TWELVE(X)
#undef X
    _mm512_store_si512((char *)buf + 128, s);
}

extern const crit_peak crit_peaks_avx512vnni[];
const crit_peak crit_peaks_avx512vnni[] = {
    {"u8 x s8 vpdpbusd", "avx512vnni", CRIT_CPU_AVX512 | CRIT_CPU_AVX512_VNNI, CRIT_PEAK_I8, 12.0 * ROUNDS * 64 * 2,
     dpbusd_run},
    {.name = NULL},
};
