#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Each public header compiles on its own, as strict C11 and as C++17 (skipped without a C++ compiler), and all of them
# together stay within 800 lines.  (600 before policies of decoding, snapshots and batches, instruments and inspection
# had an API: policy.h, measure.h, inspect.h are 330 lines of declarations with their units, ranges and errors.)
#   usage: headers.sh c11|c++17
set -euo pipefail
std=${1:?usage: headers.sh c11|c++17}
cd "$(dirname "$0")/../../include"

case $std in
c11) cc=${CC:-cc} lang=c ;;
c++17)
    lang=c++ cc=
    for c in ${CXX:-} c++ g++ clang++; do
        # A clang++ without a C++ library is there but of no use.
        if echo '#include <cstdint>' | "$c" -x c++ -fsyntax-only - >/dev/null 2>&1; then cc=$c; break; fi
    done
    if [ -z "$cc" ]; then echo "no C++ compiler here"; exit 77; fi ;;
*) echo "unknown standard $std"; exit 2 ;;
esac

rc=0
for h in critiprefill/*.h; do
    # Twice: the guard works.
    printf '#include "%s"\n#include "%s"\ntypedef int not_empty;\n' "$h" "$h" |
        "$cc" -x "$lang" -std="$std" -Wall -Wextra -Wpedantic -Wundef -Werror -fsyntax-only -I . - || { echo "$h: failed as $std"; rc=1; }
done
lines=$(cat critiprefill/*.h | wc -l)
if [ "$lines" -gt 800 ]; then echo "public headers have $lines lines, more than 800"; rc=1; fi
exit $rc
