/* SPDX-License-Identifier: MIT */
/* The AVX-512 intrinsics that attend_avx512.c and vec_avx512.c use, as pairs of AVX2 vectors, for machines without them.
 *
 * Owns only what those files need; a new intrinsic there stops the build here, which is the point. */
#ifndef CRIT_TESTS_EMUL_ATTEND_H
#define CRIT_TESTS_EMUL_ATTEND_H

#include <immintrin.h>
#include <stdint.h>

typedef struct emul_f512 {
    __m256 lo, hi;
} emul_f512;
typedef struct emul_i512 {
    __m256i lo, hi;
} emul_i512;

#define EMUL static inline __attribute__((always_inline, unused))
#define EMUL_2(name, op)                                                                                               \
    EMUL emul_f512 name(emul_f512 a, emul_f512 b) {                                                                    \
        return (emul_f512){op(a.lo, b.lo), op(a.hi, b.hi)};                                                            \
    }

EMUL_2(emul_add, _mm256_add_ps)
EMUL_2(emul_sub, _mm256_sub_ps)
EMUL_2(emul_mul, _mm256_mul_ps)
EMUL_2(emul_div, _mm256_div_ps)
EMUL_2(emul_max, _mm256_max_ps)
EMUL_2(emul_or, _mm256_or_ps)
EMUL_2(emul_and, _mm256_and_ps)

EMUL emul_f512 emul_set1(float x) {
    return (emul_f512){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
/* The real ones trap on addresses that are not 64-byte aligned, so these do. */
EMUL emul_f512 emul_load(const float *p) {
    if ((uintptr_t)p % 64) __builtin_trap();
    return (emul_f512){_mm256_load_ps(p), _mm256_load_ps(p + 8)};
}
EMUL void emul_store(float *p, emul_f512 x) {
    if ((uintptr_t)p % 64) __builtin_trap();
    _mm256_store_ps(p, x.lo), _mm256_store_ps(p + 8, x.hi);
}
/* No byte of a lane that is off is touched. */
EMUL emul_f512 emul_loadu_some(unsigned on, const float *p) {
    float x[16];
    for (int i = 0; i < 16; i++) {
        x[i] = 0;
        if (on >> i & 1) __builtin_memcpy(&x[i], (const char *)p + 4 * i, 4);
    }
    return (emul_f512){_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)};
}
EMUL void emul_storeu_some(float *p, unsigned on, emul_f512 v) {
    float x[16];
    _mm256_storeu_ps(x, v.lo), _mm256_storeu_ps(x + 8, v.hi);
    for (int i = 0; i < 16; i++)
        if (on >> i & 1) __builtin_memcpy((char *)p + 4 * i, &x[i], 4);
}
EMUL emul_f512 emul_fma(emul_f512 a, emul_f512 b, emul_f512 c) {
    return (emul_f512){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
EMUL emul_i512 emul_bits(emul_f512 a) {
    return (emul_i512){_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)};
}
EMUL emul_f512 emul_float(emul_i512 a) {
    return (emul_f512){_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)};
}
EMUL emul_i512 emul_set1_i32(int x) {
    return (emul_i512){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
EMUL emul_i512 emul_add_i32(emul_i512 a, emul_i512 b) {
    return (emul_i512){_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
#define emul_slli_i32(a, n) ((emul_i512){_mm256_slli_epi32((a).lo, n), _mm256_slli_epi32((a).hi, n)})
EMUL uint16_t emul_test(emul_i512 a, emul_i512 b) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i lo = _mm256_cmpeq_epi32(_mm256_and_si256(a.lo, b.lo), zero),
                  hi = _mm256_cmpeq_epi32(_mm256_and_si256(a.hi, b.hi), zero);
    const int m = _mm256_movemask_ps(_mm256_castsi256_ps(lo)) | _mm256_movemask_ps(_mm256_castsi256_ps(hi)) << 8;
    return (uint16_t)~m;
}
#define emul_cmp(a, b, how)                                                                                            \
    ((uint16_t)(_mm256_movemask_ps(_mm256_cmp_ps((a).lo, (b).lo, how)) |                                               \
                _mm256_movemask_ps(_mm256_cmp_ps((a).hi, (b).hi, how)) << 8))
EMUL __m256 emul_blend_8(unsigned m, __m256 a, __m256 b) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i on = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)m), bit), bit);
    return _mm256_blendv_ps(a, b, _mm256_castsi256_ps(on));
}
EMUL emul_f512 emul_blend(unsigned m, emul_f512 a, emul_f512 b) {
    return (emul_f512){emul_blend_8(m & 255, a.lo, b.lo), emul_blend_8(m >> 8, a.hi, b.hi)};
}

EMUL emul_i512 emul_movm(unsigned m) {
    const emul_f512 none = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    const __m256 ones = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
    return emul_bits(emul_blend(m, none, (emul_f512){ones, ones}));
}
EMUL uint16_t emul_movepi(emul_i512 a) {
    return (uint16_t)(_mm256_movemask_ps(_mm256_castsi256_ps(a.lo)) | _mm256_movemask_ps(_mm256_castsi256_ps(a.hi))
                                                                          << 8);
}

/* Some are macros in one compiler's headers and functions in another's. */
#undef _mm512_cmp_ps_mask
#undef _mm512_slli_epi32
#define __m512                 emul_f512
#define _mm512_setzero_ps()    emul_set1(0)
#define _mm512_set1_ps         emul_set1
#define _mm512_load_ps         emul_load
#define _mm512_store_ps        emul_store
#define _mm512_add_ps          emul_add
#define _mm512_sub_ps          emul_sub
#define _mm512_mul_ps          emul_mul
#define _mm512_div_ps          emul_div
#define _mm512_maskz_loadu_ps  emul_loadu_some
#define _mm512_mask_storeu_ps  emul_storeu_some
#define _mm512_max_ps          emul_max
#define _mm512_or_ps           emul_or
#define _mm512_and_ps          emul_and
#define _mm512_movm_epi32      emul_movm
#define _mm512_movepi32_mask   emul_movepi
#define _mm512_fmadd_ps        emul_fma
#define _mm512_castps_si512    emul_bits
#define _mm512_castsi512_ps    emul_float
#define _mm512_set1_epi32      emul_set1_i32
#define _mm512_add_epi32       emul_add_i32
#define _mm512_slli_epi32      emul_slli_i32
#define _mm512_test_epi32_mask emul_test
#define _mm512_cmp_ps_mask     emul_cmp
#define _mm512_mask_blend_ps   emul_blend

#endif
