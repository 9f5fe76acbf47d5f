/* SPDX-License-Identifier: MIT */
/* Statistics of samples.  Deterministic: the same numbers and seed give the same interval. */
#ifndef PROG_STATS_H
#define PROG_STATS_H

#include <stddef.h>
#include <stdint.h>

double stats_mean(const double *x, size_t n);         /* NaN when n is 0 */
double stats_quantile(double *x, size_t n, double p); /* sorts x; linear between order statistics; NaN when n is 0 */
/* Percentile bootstrap of the mean, 95 %: x are paired differences or single values.  NaN below two, which tell nothing
 * of how far others would lie from them. */
void stats_bootstrap(const double *x, size_t n, uint64_t seed, double *lo, double *hi);
/* Likewise of the mean of n_group groups' means: x holds n[0] values of the first, then n[1] ..., and each draw takes as
 * many of each.  Groups of none do not count; NaN when one has a single value. */
void stats_bootstrap_groups(const double *x, const size_t *n, size_t n_group, uint64_t seed, double *lo, double *hi);

#endif
