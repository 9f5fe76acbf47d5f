/* SPDX-License-Identifier: MIT */
/* What this machine can do, measured in the same run as the figures that are compared with it: the library's own peak
 * loops (kernels/peak.h) by checkasm's clock. */
#include "ck_peak.h"

#include <stdlib.h>
#include <string.h>

#include "checkasm.h"
#include "core/core.h"
#include "kernels/peak.h"

double peak_fma(int bits) {
    double best = 0;
    const unsigned have = crit_cpu_detect() & (bits == 512 ? ~0u : ~(unsigned)CRIT_CPU_AVX512);
    _Alignas(64) static char buf[CRIT_PEAK_BYTES];
    crit_peak_fill(buf);
    const crit_peak *p;
    for (size_t i = 0; (p = crit_peak_at(i)); i++) {
        if (p->kind != CRIT_PEAK_F32 || !p->run || (p->need & have) != p->need) continue;
        const double rate = p->ops / ck_time(p->run, buf);
        if (rate > best) best = rate;
    }
    return best;
}

enum { READ_BYTES = 256 << 20 };

static void read_all(void *arg) {
    const char *isa;
    crit_peak_reader(crit_cpu_detect(), &isa)(*(void **)arg, READ_BYTES);
}

double peak_read(void) {
    void *p = aligned_alloc(64, READ_BYTES);
    if (!p) return 0;
    memset(p, 1, READ_BYTES);
    double t = ck_time(read_all, &p);
    free(p);
    return READ_BYTES / t;
}
