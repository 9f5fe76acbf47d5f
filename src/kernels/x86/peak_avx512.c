/* SPDX-License-Identifier: MIT */
/* Peak loop of AVX-512 without its extensions (kernels/peak.h): f32 FMA; and 64-byte reads. */
#include <immintrin.h>

#include "core/core.h"
#include "kernels/peak.h"
#include "kernels/peak_loop.h"

static void fma_run(void *buf) {
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_load_ps(buf);
    __m512 s = y;
#define STEP(v) _mm512_fmadd_ps(v, x, y)
    CRIT_PEAK_LOOP(__m512, "v", STEP, _mm512_add_ps, s);
    _mm512_store_ps(buf, _mm512_min_ps(s, _mm512_set1_ps(1)));
}

void crit_read_avx512(const void *p, size_t bytes);
void crit_read_avx512(const void *p, size_t bytes) {
    const char *x = p, *end = x + bytes;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (; x < end; x += 512) {
        a = _mm512_xor_si512(_mm512_xor_si512(a, _mm512_loadu_si512(x)), _mm512_loadu_si512(x + 256));
        b = _mm512_xor_si512(_mm512_xor_si512(b, _mm512_loadu_si512(x + 64)), _mm512_loadu_si512(x + 320));
        c = _mm512_xor_si512(_mm512_xor_si512(c, _mm512_loadu_si512(x + 128)), _mm512_loadu_si512(x + 384));
        d = _mm512_xor_si512(_mm512_xor_si512(d, _mm512_loadu_si512(x + 192)), _mm512_loadu_si512(x + 448));
    }
    a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    __asm__ volatile("" ::"v"(a));
}

extern const crit_peak crit_peaks_avx512[];
const crit_peak crit_peaks_avx512[] = {
    {"f32 fma", "avx512", CRIT_CPU_AVX512, CRIT_PEAK_F32, CRIT_PEAK_OPS(2 * 16), fma_run},
    {.name = NULL},
};
