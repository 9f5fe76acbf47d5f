/* SPDX-License-Identifier: MIT */
/* Items of work over a few threads, for what an instrument computes beside the library. */
#ifndef PROG_SPREAD_H
#define PROG_SPREAD_H

#include <stddef.h>

enum { SPREAD_MAX = 64 };

/* Calls one(ctx, item, worker) for every item in [0, n), in any order, on up to n_threads threads (the caller's is one;
 * fewer if the system refuses more).  worker < n_threads names the thread, for scratch memory. */
void spread(unsigned n_threads, size_t n, void (*one)(void *ctx, size_t item, unsigned worker), void *ctx);

#endif
