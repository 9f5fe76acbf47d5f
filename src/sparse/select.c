/* SPDX-License-Identifier: MIT */
/* The n best blocks by share, ties to the lower id.                                          [alg:select]
 * (Selection by threshold is a kernel: select_above.) */
#include <string.h>

#include "sparse/sparse.h"

/* Larger share first, then lower id, as one integer order; NaN sorts last. */
static uint64_t key_of(float share, uint32_t id) {
    uint32_t bits;
    if (share != share) share = -__builtin_inff();
    share += 0.0f; /* -0 and 0 tie */
    memcpy(&bits, &share, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return ((uint64_t)bits << 32) | (uint32_t)~id;
}

/* Quickselect, median of three: afterwards the n_best largest keys stand first, in no order. */
static void partition_top(uint64_t *a, size_t n, size_t n_best) {
    size_t lo = 0, hi = n;
    while (hi - lo > 1) {
        uint64_t x = a[lo], y = a[lo + (hi - lo) / 2], z = a[hi - 1];
        uint64_t pivot = x > y ? (y > z ? y : x > z ? z : x) : (x > z ? x : y > z ? z : y);
        size_t i = lo, j = hi - 1;
        for (;;) {
            while (a[i] > pivot) i++;
            while (a[j] < pivot) j--;
            if (i >= j) break;
            uint64_t t = a[i];
            a[i++] = a[j];
            a[j--] = t;
        }
        /* a[lo..j] >= pivot >= a[j+1..hi); keys are distinct, so both sides are shorter than the whole */
        size_t cut = j + 1 > lo && j + 1 < hi ? j + 1 : lo + 1;
        if (n_best < cut)
            hi = cut;
        else if (n_best > cut)
            lo = cut;
        else
            return;
    }
}

enum { BIN_BITS = 11, N_BIN = 1 << BIN_BITS };

static unsigned bin_of(uint64_t key) {
    return (unsigned)(key >> (64 - BIN_BITS));
}

/* The n_best-th largest key, 0 < n_best <= n: a histogram finds its bin, which alone is partitioned. */
static uint64_t nth_key(const float *share, size_t n, size_t n_best, uint64_t *keys) {
    uint32_t count[N_BIN] = {0};
    for (size_t b = 0; b < n; b++) count[bin_of(key_of(share[b], (uint32_t)b))]++;
    unsigned bin = N_BIN - 1;
    size_t left = n_best, in_bin = 0;
    while (count[bin] < left) left -= count[bin--];
    for (size_t b = 0; b < n; b++) {
        const uint64_t key = key_of(share[b], (uint32_t)b);
        if (bin_of(key) == bin) keys[in_bin++] = key;
    }
    partition_top(keys, in_bin, left);
    uint64_t least = keys[0];
    for (size_t i = 1; i < left; i++) least = keys[i] < least ? keys[i] : least;
    return least;
}

size_t crit_select_top(const float *share, size_t n, size_t n_best, uint32_t b0, uint64_t *keys, uint32_t *ids) {
    if (n_best >= n) {
        for (size_t b = 0; b < n; b++) ids[b] = b0 + (uint32_t)b;
        return n;
    }
    if (n_best == 0) return 0;
    const uint64_t least = nth_key(share, n, n_best, keys);
    size_t at = 0;
    for (size_t b = 0; b < n && at < n_best; b++) {
        ids[at] = b0 + (uint32_t)b;
        at += key_of(share[b], (uint32_t)b) >= least;
    }
    return at;
}
