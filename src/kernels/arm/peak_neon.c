/* SPDX-License-Identifier: MIT */
/* Peak loops of NEON (kernels/peak.h): f32 FMA, and sdot where the file is built with it. */
#include <arm_neon.h>

#include "core/core.h"
#include "kernels/peak.h"
#include "kernels/peak_loop.h"

static void fma_run(void *buf) {
    float *x = buf;
    const float32x4_t y = vld1q_f32(x), z = vld1q_f32(x + 4);
    float32x4_t s = vdupq_n_f32(0);
#define STEP(v) vfmaq_f32(v, y, z)
    CRIT_PEAK_LOOP(float32x4_t, "w", STEP, vaddq_f32, s);
#undef STEP
    vst1q_f32(x + 8, s);
}

#if defined(__ARM_FEATURE_DOTPROD)
static void sdot_run(void *buf) {
    const int8x16_t y = vld1q_s8(buf), z = vld1q_s8((const int8_t *)buf + 16);
    int32x4_t s = vdupq_n_s32(0);
#define STEP(v) vdotq_s32(v, y, z)
    CRIT_PEAK_LOOP(int32x4_t, "w", STEP, veorq_s32, s);
#undef STEP
    vst1q_s32((int32_t *)((char *)buf + 32), s);
}
#endif

extern const crit_peak crit_peaks_neon[];
const crit_peak crit_peaks_neon[] = {
    {"f32 fma", "neon", CRIT_CPU_NEON, CRIT_PEAK_F32, CRIT_PEAK_OPS(2 * 4), fma_run},
#if defined(__ARM_FEATURE_DOTPROD)
    {"s8 x s8 sdot", "neon", CRIT_CPU_NEON, CRIT_PEAK_I8, CRIT_PEAK_OPS(2 * 16), sdot_run},
#else
    {"s8 x s8 sdot", "neon", CRIT_CPU_NEON, CRIT_PEAK_I8, 0, NULL},
#endif
    {.name = NULL},
};
