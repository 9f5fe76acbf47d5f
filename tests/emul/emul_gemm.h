/* SPDX-License-Identifier: MIT */
/* The AVX-512 intrinsics that the *_avx512vnni.c files use, lane by lane in plain C, for machines without them.
 *
 * Owns only what those files need; a new intrinsic there stops the build here, which is the point. */
#ifndef CRIT_TESTS_EMUL_GEMM_H
#define CRIT_TESTS_EMUL_GEMM_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct emul_i512 {
    int32_t v[16];
} emul_i512;
typedef struct emul_f512 {
    float v[16];
} emul_f512;

/* Never inlined, nor is the tile: one instance with variables for its constants, or compiling takes minutes. */
#define EMUL static __attribute__((noinline, unused))
#define EACH for (int i = 0; i < 16; i++)

EMUL emul_i512 emul_set1_i32(int x) {
    emul_i512 r;
    EACH r.v[i] = x;
    return r;
}
EMUL emul_f512 emul_set1_f(float x) {
    emul_f512 r;
    EACH r.v[i] = x;
    return r;
}
EMUL emul_i512 emul_loadu_i(const void *p) {
    emul_i512 r;
    memcpy(&r, p, sizeof r);
    return r;
}
EMUL emul_f512 emul_loadu_f(const void *p) {
    emul_f512 r;
    memcpy(&r, p, sizeof r);
    return r;
}
EMUL void emul_storeu_f(void *p, emul_f512 x) {
    memcpy(p, &x, sizeof x);
}
EMUL void emul_stream_f(void *p, emul_f512 x) {
    if ((uintptr_t)p % 64) __builtin_trap();
    memcpy(p, &x, sizeof x);
}
EMUL emul_f512 emul_mul(emul_f512 a, emul_f512 b) {
    EACH a.v[i] *= b.v[i];
    return a;
}
EMUL emul_f512 emul_fmadd(emul_f512 a, emul_f512 b, emul_f512 c) {
    EACH a.v[i] = fmaf(a.v[i], b.v[i], c.v[i]);
    return a;
}
EMUL emul_f512 emul_cvt(emul_i512 a) {
    emul_f512 r;
    EACH r.v[i] = (float)a.v[i];
    return r;
}

/* four products of an unsigned by a signed byte, without saturation, added to an int32 that wraps */
EMUL int32_t emul_dot4(int32_t acc, int32_t u, int32_t s) {
    int64_t t = acc;
    for (int j = 0; j < 32; j += 8) t += (int)((uint32_t)u >> j & 255) * (int)(int8_t)((uint32_t)s >> j & 255);
    return (int32_t)(uint32_t)(uint64_t)t;
}
EMUL emul_i512 emul_dpbusd(emul_i512 acc, emul_i512 u, emul_i512 s) {
    EACH acc.v[i] = emul_dot4(acc.v[i], u.v[i], s.v[i]);
    return acc;
}
EMUL __m256i emul_dpbusd_256(__m256i acc, __m256i u, __m256i s) {
    int32_t a[8], b[8], c[8];
    _mm256_storeu_si256((__m256i *)a, acc);
    _mm256_storeu_si256((__m256i *)b, u);
    _mm256_storeu_si256((__m256i *)c, s);
    for (int i = 0; i < 8; i++) a[i] = emul_dot4(a[i], b[i], c[i]);
    return _mm256_loadu_si256((const __m256i *)a);
}

#define __m512i emul_i512
#define __m512  emul_f512
#undef _mm512_set1_epi32
#undef _mm512_dpbusd_epi32
#undef _mm256_dpbusd_epi32
#define _mm512_setzero_si512() emul_set1_i32(0)
#define _mm512_set1_epi32      emul_set1_i32
#define _mm512_set1_ps         emul_set1_f
#define _mm512_loadu_si512     emul_loadu_i
#define _mm512_loadu_ps        emul_loadu_f
#define _mm512_storeu_ps       emul_storeu_f
#define _mm512_stream_ps       emul_stream_f
#define _mm512_mul_ps          emul_mul
#define _mm512_fmadd_ps        emul_fmadd
#define _mm512_cvtepi32_ps     emul_cvt
#define _mm512_dpbusd_epi32    emul_dpbusd
#define _mm256_dpbusd_epi32    emul_dpbusd_256
#define KEEP_V(v)              ((void)(v))
#define TILE_FN                static __attribute__((noinline))

#endif
