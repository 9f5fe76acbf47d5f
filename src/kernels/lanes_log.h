/* SPDX-License-Identifier: MIT */
/* A logarithm in the lanes of whichever lanes_<isa>.h stands in front of this. */
#ifndef CRIT_LANES_LOG_H
#define CRIT_LANES_LOG_H

/* Natural logarithm of normal numbers, 3e-8 relative beside the rounding; exactly 0 at 1, NaN for NaN. */
CRIT_INLINE lvec l_log(lvec x) {
    lvec e;
    const lvec m = l_split(x, &e), f = L_SUB(m, L_SET1(1.0f)), f2 = L_MUL(f, f);
    lvec p = L_SET1(0x1.645eb8p-4f);
    p = L_FMA(p, f, L_SET1(-0x1.2432bep-3f));
    p = L_FMA(p, f, L_SET1(0x1.317458p-3f));
    p = L_FMA(p, f, L_SET1(-0x1.538248p-3f));
    p = L_FMA(p, f, L_SET1(0x1.98d7f2p-3f));
    p = L_FMA(p, f, L_SET1(-0x1.000382p-2f));
    p = L_FMA(p, f, L_SET1(0x1.5556d8p-2f));
    p = L_FMA(L_MUL(p, f), f2, L_MUL(L_SET1(-0.5f), f2));
    p = L_FMA(e, L_SET1(0x1.62e430p-1f), L_ADD(f, p));
    return L_ADD(p, L_SUB(x, x));
}

#endif
