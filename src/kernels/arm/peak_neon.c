/* SPDX-License-Identifier: MIT */
/* Peak loops of NEON (kernels/peak.h): f32 FMA, and sdot where the file is built with it. */
#include <arm_neon.h>

#include "core/core.h"
#include "kernels/peak.h"

#define TWELVE(X) X(a0) X(a1) X(a2) X(a3) X(a4) X(a5) X(a6) X(a7) X(a8) X(a9) X(a10) X(a11)
enum { ROUNDS = 100000 };

static void fma_run(void *buf) {
    float *x = buf;
    const float32x4_t y = vld1q_f32(x), z = vld1q_f32(x + 4);
#define X(v) float32x4_t v = vdupq_n_f32(0);
    TWELVE(X)
#undef X
    for (int n = 0; n < ROUNDS; n++) {
#define X(v)                                                                                                           \
    v = vfmaq_f32(v, y, z);                                                                                            \
    __asm__("" : "+w"(v));
        TWELVE(X)
#undef X
    }
    float32x4_t s = vdupq_n_f32(0);
#define X(v) s = vaddq_f32(s, v);
    TWELVE(X)
#undef X
    vst1q_f32(x + 8, s);
}

#if defined(__ARM_FEATURE_DOTPROD)
static void sdot_run(void *buf) {
    const int8x16_t y = vld1q_s8(buf), z = vld1q_s8((const int8_t *)buf + 16);
#define X(v) int32x4_t v = vdupq_n_s32(0);
    TWELVE(X)
#undef X
    for (int n = 0; n < ROUNDS; n++) {
#define X(v)                                                                                                           \
    v = vdotq_s32(v, y, z);                                                                                            \
    __asm__("" : "+w"(v));
        TWELVE(X)
#undef X
    }
    int32x4_t s = vdupq_n_s32(0);
#define X(v) s = veorq_s32(s, v);
    TWELVE(X)
#undef X
    vst1q_s32((int32_t *)((char *)buf + 32), s);
}
#endif

extern const crit_peak crit_peaks_neon[];
const crit_peak crit_peaks_neon[] = {
    {"f32 fma", "neon", CRIT_CPU_NEON, CRIT_PEAK_F32, 12.0 * ROUNDS * 4 * 2, fma_run},
#if defined(__ARM_FEATURE_DOTPROD)
    {"s8 x s8 sdot", "neon", CRIT_CPU_NEON, CRIT_PEAK_I8, 12.0 * ROUNDS * 16 * 2, sdot_run},
#else
    {"s8 x s8 sdot", "neon", CRIT_CPU_NEON, CRIT_PEAK_I8, 0, NULL},
#endif
    {.name = NULL},
};
