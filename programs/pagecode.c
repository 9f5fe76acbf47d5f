/* SPDX-License-Identifier: MIT */
/* See pagecode.h. */
#include "pagecode.h"

#include <math.h>

unsigned char pagecode_weight(double w) {
    if (!(w >= 1e-6)) return 0;
    const long code = 1 + lround(254 * (log10(w) + 6) / 6);
    return (unsigned char)(code > 255 ? 255 : code);
}

static unsigned kept_code(double share) {
    const long code = lround(15 * share);
    if (!(share > 0)) return 0;
    if (share >= 1) return 15;
    return (unsigned)(code < 1 ? 1 : code > 14 ? 14 : code);
}

static unsigned missed_code(double share) {
    if (!(share > 0)) return 0;
    const long code = 15 + lround(5 * log10(share));
    return (unsigned)(code < 0 ? 0 : code > 15 ? 15 : code);
}

unsigned char pagecode_shares(double kept, double weight, double missed) {
    return (unsigned char)(kept_code(kept) << 4 | (weight > 0 ? missed_code(missed / weight) : 0));
}
