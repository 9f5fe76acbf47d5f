/* SPDX-License-Identifier: MIT */
/* k-means of a few thousand to a few hundred thousand points, affordable: coarse clusters first, fine ones within each.
 *
 * k-means++ starts, Lloyd's steps, one generator from the seed, sums in ascending order: the same points and seed give
 * the same labels for one set of kernels, whatever thread runs it. */
#ifndef CRIT_KMEANS_H
#define CRIT_KMEANS_H

#include "kernels/kernels.h"

typedef struct crit_kmeans_job {
    const crit_kernels *kernels;
    const float *x;   /* [n][d] points, finite; of length 1 for clusters by cosine */
    uint32_t n, d, k; /* k clusters wanted; d as for the kernels */
    uint64_t seed;
} crit_kmeans_job;

/* label [n] out: 0 .. the number returned - 1, each of them used.  At most k; k >= n gives each point its own.  0 = out
 * of memory, or no points. */
uint32_t crit_kmeans(const crit_kmeans_job *job, uint32_t *label);

/* An order of n centres in which neighbours are near each other, from centre 0 on by the nearest one left; ties to the
 * lower one.  x [n][d] of length 1; order [n] out.  false = out of memory. */
bool crit_chain_order(const crit_kernels *kernels, const float *x, uint32_t n, uint32_t d, uint32_t *order);

#endif
