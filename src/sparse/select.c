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

static void sort_ids(uint32_t *ids, size_t n) {
    /* heap sort: no recursion, no worst case */
    for (size_t start = n / 2; start-- > 0;)
        for (size_t i = start, c; (c = 2 * i + 1) < n; i = c) {
            if (c + 1 < n && ids[c + 1] > ids[c]) c++;
            if (ids[i] >= ids[c]) break;
            uint32_t t = ids[i];
            ids[i] = ids[c];
            ids[c] = t;
        }
    for (size_t end = n; end-- > 1;) {
        uint32_t t = ids[0];
        ids[0] = ids[end];
        ids[end] = t;
        for (size_t i = 0, c; (c = 2 * i + 1) < end; i = c) {
            if (c + 1 < end && ids[c + 1] > ids[c]) c++;
            if (ids[i] >= ids[c]) break;
            t = ids[i];
            ids[i] = ids[c];
            ids[c] = t;
        }
    }
}

size_t crit_select_top(const float *share, size_t n, size_t n_best, uint32_t b0, uint64_t *keys, uint32_t *ids) {
    if (n_best >= n) {
        for (size_t b = 0; b < n; b++) ids[b] = b0 + (uint32_t)b;
        return n;
    }
    if (n_best == 0) return 0;
    for (size_t b = 0; b < n; b++) keys[b] = key_of(share[b], (uint32_t)b);
    partition_top(keys, n, n_best);
    for (size_t i = 0; i < n_best; i++) ids[i] = b0 + (uint32_t) ~(uint32_t)keys[i];
    sort_ids(ids, n_best);
    return n_best;
}
