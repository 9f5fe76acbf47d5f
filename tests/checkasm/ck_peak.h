/* SPDX-License-Identifier: MIT */
/* Peaks of this machine, for the shares that --bench prints.  See ck_peak.c. */
#ifndef CRIT_CHECKASM_PEAK_H
#define CRIT_CHECKASM_PEAK_H

double peak_fma(int bits); /* FLOP/s of one core, f32, 256- or 512-bit; 0 unknown */
double peak_read(void);    /* B/s of one core */

#endif
