/* SPDX-License-Identifier: MIT */
/* Peak loop of AVX-512 without its extensions (kernels/peak.h): f32 FMA; and 64-byte reads. */
#include <immintrin.h>

#include "core/core.h"
#include "kernels/peak.h"

#define TWELVE(X) X(a0) X(a1) X(a2) X(a3) X(a4) X(a5) X(a6) X(a7) X(a8) X(a9) X(a10) X(a11)
enum { ROUNDS = 100000 };

static void fma_run(void *buf) {
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_load_ps(buf);
#define X(v) __m512 v = y;
    TWELVE(X)
#undef X
    for (int n = 0; n < ROUNDS; n++) {
#define X(v)                                                                                                           \
    v = _mm512_fmadd_ps(v, x, y);                                                                                      \
    __asm__("" : "+v"(v));
        TWELVE(X)
#undef X
    }
    __m512 s = _mm512_setzero_ps();
#define X(v) s = _mm512_add_ps(s, v);
    TWELVE(X)
#undef X
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
    {"f32 fma", "avx512", CRIT_CPU_AVX512, CRIT_PEAK_F32, 12.0 * ROUNDS * 16 * 2, fma_run},
    {.name = NULL},
};
