/* SPDX-License-Identifier: MIT */
/* The body of a peak loop (peak.h): twelve independent chains of one instruction, summed so that none can be dropped.
 * Named variables: gcc keeps an array in memory whose elements are operands of an asm. */
#ifndef CRIT_PEAK_LOOP_H
#define CRIT_PEAK_LOOP_H

enum { CRIT_PEAK_ROUNDS = 100000, CRIT_PEAK_CHAINS = 12 };
/* Operations of one run of a loop whose step makes n of them. */
#define CRIT_PEAK_OPS(n) ((double)CRIT_PEAK_CHAINS * CRIT_PEAK_ROUNDS * (n))

#define CRIT_PEAK_EACH(X, ...)                                                                                         \
    X(a0, __VA_ARGS__)                                                                                                 \
    X(a1, __VA_ARGS__) X(a2, __VA_ARGS__) X(a3, __VA_ARGS__) X(a4, __VA_ARGS__) X(a5, __VA_ARGS__) X(a6, __VA_ARGS__)  \
        X(a7, __VA_ARGS__) X(a8, __VA_ARGS__) X(a9, __VA_ARGS__) X(a10, __VA_ARGS__) X(a11, __VA_ARGS__)
#define CRIT_PEAK_START(v, type, start) type v = start;
#define CRIT_PEAK_STEP(v, step, reg)                                                                                   \
    v = step(v);                                                                                                       \
    __asm__("" : "+" reg(v));
#define CRIT_PEAK_SUM(v, sum, add) sum = add(sum, v);

/* sum (a variable of the type that holds a start value) becomes add over the ends of twelve chains v = step(v), all
 * from that start; reg is the asm constraint of the type's registers. */
#define CRIT_PEAK_LOOP(type, reg, step, add, sum)                                                                      \
    do {                                                                                                               \
        CRIT_PEAK_EACH(CRIT_PEAK_START, type, sum)                                                                     \
        for (int round = 0; round < CRIT_PEAK_ROUNDS; round++) {                                                       \
            CRIT_PEAK_EACH(CRIT_PEAK_STEP, step, reg)                                                                  \
        }                                                                                                              \
        CRIT_PEAK_EACH(CRIT_PEAK_SUM, sum, add)                                                                        \
    } while (0)

#endif
