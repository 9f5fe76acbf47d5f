/* SPDX-License-Identifier: MIT */
/* Forced inlining and unrolling for the vector kernels of every architecture.
 *
 * Register tiles are arrays with constant bounds; they stay in registers only when every loop over them is unrolled
 * completely, hence CRIT_UNROLL (bounds up to 8) on each. */
#ifndef CRIT_KERNELS_UNROLL_H
#define CRIT_KERNELS_UNROLL_H

#define CRIT_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define CRIT_UNROLL   _Pragma("clang loop unroll(full)")
#define CRIT_UNROLL_4 _Pragma("clang loop unroll_count(4)")
#else
#define CRIT_UNROLL   _Pragma("GCC unroll 8")
#define CRIT_UNROLL_4 _Pragma("GCC unroll 4")
#endif

/* Loads stay on their side of it.  In unrolled tiles gcc moves them up until accumulators no longer fit the registers
 * (12.2 on AArch64: 100 instructions of spilling for 128 dot products). */
#define CRIT_KEEP_ORDER() __asm__ volatile("" ::: "memory")

#endif
