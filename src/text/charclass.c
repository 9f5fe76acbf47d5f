/* SPDX-License-Identifier: MIT */
/* See charclass.h.  Binary search in a table of runs that unicode_ranges.py makes. */
#include "text/charclass.h"

#include <stddef.h>

#define RANGE(first, class) ((uint32_t)(first) << 3 | (uint32_t)(class - CRIT_CHAR_LETTER))
#define L(first)            RANGE(first, CRIT_CHAR_LETTER)
#define N(first)            RANGE(first, CRIT_CHAR_NUMBER)
#define S(first)            RANGE(first, CRIT_CHAR_SPACE)
#define P(first)            RANGE(first, CRIT_CHAR_PUNCT)
#define O(first)            RANGE(first, CRIT_CHAR_OTHER)

static const uint32_t ranges[] = {
#include "text/unicode_ranges.inc"
};

crit_char_class crit_char_class_of(uint32_t cp) {
    size_t lo = 0, hi = sizeof ranges / sizeof *ranges; /* the answer is the last run that starts at or before cp */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (ranges[mid] >> 3 <= cp)
            lo = mid;
        else
            hi = mid;
    }
    return (crit_char_class)(CRIT_CHAR_LETTER + (ranges[lo] & 7));
}
