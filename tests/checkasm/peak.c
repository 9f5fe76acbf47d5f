/* SPDX-License-Identifier: MIT */
/* What this machine can do, measured in the same run as the figures that are compared with it: f32 fused
 * multiply-adds per second from registers, and one core's reading of memory larger than any cache. */
#include "peak.h"

#include <stdlib.h>
#include <string.h>

#include "checkasm.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* Ten independent chains: latency 4 x 2 pipes = 8 at least on every x86 so far.  Named variables, because gcc keeps
 * an array in memory whose elements are operands of an asm; the asm stops it from merging iterations. */
#define TEN(X) X(a0) X(a1) X(a2) X(a3) X(a4) X(a5) X(a6) X(a7) X(a8) X(a9)
enum { FMA_ROUNDS = 200000 };

__attribute__((target("avx2,fma"))) static void fma_avx2(void *arg) {
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
#define X(v) __m256 v = y;
    TEN(X)
#undef X
    for (int n = 0; n < FMA_ROUNDS; n++) {
#define X(v)                                                                                                           \
    v = _mm256_fmadd_ps(v, x, y);                                                                                      \
    __asm__("" : "+x"(v));
        TEN(X)
#undef X
    }
    __m256 s = _mm256_setzero_ps();
#define X(v) s = _mm256_add_ps(s, v);
    TEN(X)
#undef X
    _mm256_storeu_ps(arg, s);
}

__attribute__((target("avx512f"))) static void fma_avx512(void *arg) {
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
#define X(v) __m512 v = y;
    TEN(X)
#undef X
    for (int n = 0; n < FMA_ROUNDS; n++) {
#define X(v)                                                                                                           \
    v = _mm512_fmadd_ps(v, x, y);                                                                                      \
    __asm__("" : "+v"(v));
        TEN(X)
#undef X
    }
    __m512 s = _mm512_setzero_ps();
#define X(v) s = _mm512_add_ps(s, v);
    TEN(X)
#undef X
    _mm512_storeu_ps(arg, s);
}
#endif

double peak_fma(int bits) {
#if defined(__x86_64__)
    float out[16];
    if (bits == 512 && __builtin_cpu_supports("avx512f")) return 10.0 * FMA_ROUNDS * 32 / ck_time(fma_avx512, out);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 10.0 * FMA_ROUNDS * 16 / ck_time(fma_avx2, out);
#endif
    (void)bits;
    return 0;
}

enum { READ_BYTES = 256 << 20 };

static void read_all(void *arg) {
    const uint64_t *p = *(uint64_t **)arg;
    uint64_t s[8] = {0};
    for (size_t i = 0; i < READ_BYTES / sizeof *p; i += 8)
        for (size_t j = 0; j < 8; j++) s[j] += p[i + j];
    for (size_t j = 1; j < 8; j++) s[0] += s[j];
    __asm__ volatile("" ::"r"(s[0]));
}

double peak_read(void) {
    uint64_t *p = malloc(READ_BYTES);
    if (!p) return 0;
    memset(p, 1, READ_BYTES);
    double t = ck_time(read_all, &p);
    free(p);
    return READ_BYTES / t;
}
