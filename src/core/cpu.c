/* SPDX-License-Identifier: MIT */
/* CPU levels: what CPUID reports, restricted to what the operating system saves on a context switch (XCR0). */
#include <string.h>

#include "core/core.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static uint64_t xcr0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((uint64_t)hi << 32) | lo;
}

/* Tile data is granted on request only, because it makes a thread's saved state 8 KB larger: arch_prctl's
 * ARCH_REQ_XCOMP_PERM for state component 18.  One request serves all threads of the process, more do no harm. */
static bool may_use_tiles(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
    return syscall(SYS_arch_prctl, 0x1023L, 18L) == 0;
#else
    return false;
#endif
}

/* AMX as the kernels want it: bf16 and int8, palette 1 of eight tiles of 16 rows of 64 bytes, and the system's leave.
 * d7 is EDX of CPUID leaf 7. */
static bool amx_usable(unsigned d7, uint64_t os) {
    const bool bf16 = (d7 >> 22) & 1, tile = (d7 >> 24) & 1, int8 = (d7 >> 25) & 1;
    if (!bf16 || !tile || !int8 || (os & 0x60000) != 0x60000) return false; /* tile configuration, tile data */
    unsigned a, b, c, d;
    if (!__get_cpuid_count(0x1d, 1, &a, &b, &c, &d)) return false;
    if ((b & 0xffff) < 64 || b >> 16 < 8 || (c & 0xffff) < 16) return false; /* bytes a row, tiles, rows */
    return may_use_tiles();
}

/* vdpbf16ps runs at twice the rate of f32 FMA on AMD's cores since Zen 4 and at half of it on Intel's, where bf16 is
 * for tiles.  No bit of CPUID tells, so the maker does: a measurement at start-up could choose another KV layout, and
 * other bits of a result, in every run. */
static bool fast_bf16(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d)) return false;
    return b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

/* vpmaddwd of 256 bits runs twice a cycle, as FMA does, on AMD's cores since Zen 3 and on Intel's since Skylake; before,
 * once in one or two cycles.  Again no bit tells: what these cores brought along does, VAES with Zen 3 (and Ice Lake),
 * CLFLUSHOPT with Skylake, which AMD has had for longer. */
static bool fast_madd(unsigned b7, unsigned c7) {
    unsigned a, b, c, d;
    const bool vaes = (c7 >> 9) & 1, clflushopt = (b7 >> 23) & 1;
    if (!__get_cpuid(0, &a, &b, &c, &d)) return false;
    return vaes || (clflushopt && b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx);
}

unsigned crit_cpu_detect(void) {
    unsigned a, b, c, d, mask = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    bool osxsave = (c >> 27) & 1, fma = (c >> 12) & 1, f16c = (c >> 29) & 1, avx = (c >> 28) & 1;
    if (!osxsave || !avx || !fma || !f16c) return 0;
    uint64_t os = xcr0();
    if ((os & 0x6) != 0x6) return 0; /* XMM, YMM */
    unsigned b7, c7, d7;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    bool avx2 = (b7 >> 5) & 1, bmi2 = (b7 >> 8) & 1;
    if (!avx2 || !bmi2) return 0;
    mask |= CRIT_CPU_AVX2;
    if (fast_madd(b7, c7)) mask |= CRIT_CPU_I16_DOT;
    if ((os & 0xe0) != 0xe0) return mask; /* opmask, upper ZMM */
    bool f = (b7 >> 16) & 1, dq = (b7 >> 17) & 1, bw = (b7 >> 30) & 1, vl = (b7 >> 31) & 1;
    if (!(f && dq && bw && vl)) return mask;
    mask |= CRIT_CPU_AVX512;
    if ((c7 >> 11) & 1) mask |= CRIT_CPU_AVX512_VNNI;
    unsigned a71 = 0, b71, c71, d71;
    const bool vbmi = (c7 >> 1) & 1; /* BF16's first processor, Cooper Lake, lacks it; all others have both */
    if (vbmi && __get_cpuid_count(7, 1, &a71, &b71, &c71, &d71) && ((a71 >> 5) & 1)) mask |= CRIT_CPU_AVX512_BF16;
    if ((mask & CRIT_CPU_AVX512_BF16) && fast_bf16()) mask |= CRIT_CPU_BF16_DOT;
    const unsigned amx_needs = CRIT_CPU_AVX512 | CRIT_CPU_AVX512_VNNI | CRIT_CPU_AVX512_BF16;
    if ((mask & amx_needs) == amx_needs && amx_usable(d7, os)) mask |= CRIT_CPU_AMX;
    return mask;
}

const char *crit_cpu_brand(char *buf, size_t cap) {
    unsigned r[12], max = 0, b, c, d;
    if (!cap) return "unknown";
    if (__get_cpuid(0x80000000u, &max, &b, &c, &d) && max >= 0x80000004u) {
        for (unsigned i = 0; i < 3; i++)
            __get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
        char text[49];
        memcpy(text, r, 48);
        text[48] = 0;
        const char *p = text;
        while (*p == ' ') p++;
        size_t n = strlen(p);
        while (n && p[n - 1] == ' ') n--;
        if (n >= cap) n = cap - 1;
        memcpy(buf, p, n);
        buf[n] = 0;
        return buf;
    }
    buf[0] = 0;
    return "unknown";
}
#elif defined(__aarch64__) && defined(__linux__)
#include <stdio.h>
#include <sys/auxv.h>

enum { HWCAP_DOT_PRODUCT = 1 << 20 }; /* asm/hwcap.h's HWCAP_ASIMDDP, which old headers lack */

unsigned crit_cpu_detect(void) {
    return getauxval(AT_HWCAP) & HWCAP_DOT_PRODUCT ? CRIT_CPU_NEON : 0;
}

/* Most kernels name the maker and the part of a core by number only. */
const char *crit_cpu_brand(char *buf, size_t cap) {
    char line[256], model[128] = "", maker[16] = "", part[16] = "";
    if (!cap) return "unknown";
    buf[0] = 0;
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return "unknown";
    while (fgets(line, sizeof line, f)) {
        if (!*model) (void)sscanf(line, "model name : %127[^\n]", model);
        if (!*maker) (void)sscanf(line, "CPU implementer : %15s", maker);
        if (!*part) (void)sscanf(line, "CPU part : %15s", part);
    }
    fclose(f);
    if (*model)
        (void)snprintf(buf, cap, "%s", model);
    else if (*maker && *part)
        (void)snprintf(buf, cap, "ARM implementer %s part %s", maker, part);
    else
        return "unknown";
    return buf;
}
#else
unsigned crit_cpu_detect(void) {
    return 0;
}
const char *crit_cpu_brand(char *buf, size_t cap) {
    if (cap) buf[0] = 0;
    return "unknown";
}
#endif

crit_status crit_cpu_mask(const char *level, unsigned *mask, crit_error *err) {
    static const struct {
        const char *name;
        unsigned need, keep; /* bits that must be there; bits used when they are */
        unsigned add;        /* bits that say what is fast, not what runs: used even when they are not */
    } levels[] = {
        {"auto", 0, CRIT_CPU_ALL, 0},
        {"c", 0, 0, 0},
        {"avx2", CRIT_CPU_AVX2, CRIT_CPU_AVX2, 0},
        {"avx2i16", CRIT_CPU_AVX2, CRIT_CPU_AVX2, CRIT_CPU_I16_DOT},
        {"avx512", CRIT_CPU_AVX512, CRIT_CPU_ALL & ~(unsigned)(CRIT_CPU_AMX | CRIT_CPU_BF16_DOT), 0},
        {"avx512bf16", CRIT_CPU_BF16_DOT, CRIT_CPU_ALL & ~(unsigned)CRIT_CPU_AMX, 0},
        {"amx", CRIT_CPU_AMX, CRIT_CPU_ALL, 0},
        {"neon", CRIT_CPU_NEON, CRIT_CPU_NEON, 0},
    };
    unsigned have = crit_cpu_detect();
    if (!level) level = "auto";
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (strcmp(level, levels[i].name) != 0) continue;
        if ((have & levels[i].need) != levels[i].need)
            return crit_fail(err, CRIT_E_CPU, "CPU level '%s' is not available on this machine (it has %s)", level,
                             crit_cpu_level_name(have));
        *mask = (have & levels[i].keep) | levels[i].add;
        return CRIT_OK;
    }
    return crit_fail(err, CRIT_E_ARG, "unknown CPU level '%s' (auto, c, avx2, avx2i16, avx512, avx512bf16, amx)", level);
}

const char *crit_cpu_level_name(unsigned mask) {
    if (mask & CRIT_CPU_AMX) return "amx";
    if (mask & CRIT_CPU_BF16_DOT) return "avx512bf16";
    if (mask & CRIT_CPU_AVX512) {
        bool vnni = mask & CRIT_CPU_AVX512_VNNI, bf16 = mask & CRIT_CPU_AVX512_BF16;
        return vnni && bf16 ? "avx512+vnni+bf16" : vnni ? "avx512+vnni" : bf16 ? "avx512+bf16" : "avx512";
    }
    if (mask & CRIT_CPU_AVX2) return mask & CRIT_CPU_I16_DOT ? "avx2i16" : "avx2";
    if (mask & CRIT_CPU_NEON) return "neon";
    return "c";
}
