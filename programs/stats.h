/* SPDX-License-Identifier: MIT */
/* Statistics of samples.  Deterministic: the same numbers and seed give the same interval. */
#ifndef PROG_STATS_H
#define PROG_STATS_H

#include <stddef.h>
#include <stdint.h>

double stats_mean(const double *x, size_t n);         /* NaN when n is 0 */
double stats_quantile(double *x, size_t n, double p); /* sorts x; linear between order statistics; NaN when n is 0 */
/* Percentile bootstrap of the mean, 95 %: x are paired differences or single values.  n 0: NaN; n 1: the value. */
void stats_bootstrap(const double *x, size_t n, uint64_t seed, double *lo, double *hi);

#endif
