/* SPDX-License-Identifier: MIT */
/* See peak.h: the tables together, and the reader in plain C. */
#include "kernels/peak.h"

#include <stdint.h>
#include <string.h>

#include "core/core.h"

extern const crit_peak crit_peaks_avx2[], crit_peaks_avx512[], crit_peaks_avx512vnni[], crit_peaks_avx512bf16[],
    crit_peaks_amx[], crit_peaks_neon[];
void crit_read_avx2(const void *p, size_t bytes);
void crit_read_avx512(const void *p, size_t bytes);

/* Named on every machine, so that a list can say what is not here. */
#if !defined(__x86_64__)
const crit_peak crit_peaks_avx2[] = {{"f32 fma", "avx2", CRIT_CPU_AVX2, CRIT_PEAK_F32, 0, NULL}, {.name = NULL}};
const crit_peak crit_peaks_avx512[] = {{"f32 fma", "avx512", CRIT_CPU_AVX512, CRIT_PEAK_F32, 0, NULL}, {.name = NULL}};
const crit_peak crit_peaks_avx512vnni[] = {
    {"u8 x s8 vpdpbusd", "avx512vnni", CRIT_CPU_AVX512_VNNI, CRIT_PEAK_I8, 0, NULL}, {.name = NULL}};
const crit_peak crit_peaks_avx512bf16[] = {
    {"bf16 vdpbf16ps", "avx512bf16", CRIT_CPU_AVX512_BF16, CRIT_PEAK_BF16, 0, NULL}, {.name = NULL}};
const crit_peak crit_peaks_amx[] = {{"bf16 tiles", "amx", CRIT_CPU_AMX, CRIT_PEAK_BF16, 0, NULL}, {.name = NULL}};
#endif
#if !defined(__aarch64__)
const crit_peak crit_peaks_neon[] = {{"f32 fma", "neon", CRIT_CPU_NEON, CRIT_PEAK_F32, 0, NULL},
                                     {"s8 x s8 sdot", "neon", CRIT_CPU_NEON, CRIT_PEAK_I8, 0, NULL},
                                     {.name = NULL}};
#endif

const crit_peak *crit_peak_at(size_t i) {
    static const crit_peak *const tables[] = {crit_peaks_avx2,       crit_peaks_avx512, crit_peaks_avx512vnni,
                                              crit_peaks_avx512bf16, crit_peaks_amx,    crit_peaks_neon};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const crit_peak *p = tables[t]; p->name; p++)
            if (i-- == 0) return p;
    return NULL;
}

void crit_peak_fill(void *buf) {
    uint32_t x = 1;
    for (size_t i = 0; i < CRIT_PEAK_BYTES / sizeof(uint16_t); i++) {
        x = x * 1664525u + 1013904223u;
        uint16_t v = (uint16_t)(0x3c00u | (x >> 22)); /* bf16 and the upper half of f32: 2^-7 .. 2 */
        memcpy((char *)buf + i * sizeof v, &v, sizeof v);
    }
}

static void read_c(const void *p, size_t bytes) {
    const uint64_t *x = p;
    uint64_t s[8] = {0};
    for (size_t i = 0; i < bytes / sizeof *x; i += 8)
        for (size_t j = 0; j < 8; j++) s[j] += x[i + j];
    for (size_t j = 1; j < 8; j++) s[0] += s[j];
    __asm__ volatile("" ::"r"(s[0]));
}

crit_read_fn crit_peak_reader(unsigned cpu_mask, const char **isa) {
#if defined(__x86_64__)
    if (cpu_mask & CRIT_CPU_AVX512) {
        *isa = "avx512";
        return crit_read_avx512;
    }
    if (cpu_mask & CRIT_CPU_AVX2) {
        *isa = "avx2";
        return crit_read_avx2;
    }
#endif
    (void)cpu_mask;
    *isa = "c";
    return read_c;
}
