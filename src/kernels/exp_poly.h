/* SPDX-License-Identifier: MIT */
/* e^r for |r| <= ln2 / 2, what is left of an exp once the power of two is off: Taylor of degree 6, whose next term is
 * 1.2e-7 at the ends.  set1 and fma (a b + c) are those of any vector. */
#ifndef CRIT_KERNELS_EXP_POLY_H
#define CRIT_KERNELS_EXP_POLY_H

#define CRIT_EXP_POLY_HIGH(set1, fma, r)                                                                               \
    fma(fma(fma(set1(1.0f / 720), r, set1(1.0f / 120)), r, set1(1.0f / 24)), r, set1(1.0f / 6))
#define CRIT_EXP_POLY(set1, fma, r)                                                                                    \
    fma(fma(fma(CRIT_EXP_POLY_HIGH(set1, fma, r), r, set1(0.5f)), r, set1(1.0f)), r, set1(1.0f))

#endif
