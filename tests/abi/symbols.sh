#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The shared library exports exactly the functions that the public headers mark CRIT_API: nothing is missing,
# nothing internal leaks.
#   usage: symbols.sh LIBRARY.so
set -euo pipefail
lib=${1:?usage: symbols.sh LIBRARY.so}
root=$(cd "$(dirname "$0")/../.." && pwd)

# Comments away, one declaration a line, the last identifier before the first parenthesis.
declared() {
    cat "$root"/include/critiprefill/*.h | sed 's:^#.*::; s://.*$::' | tr '\n' ' ' | sed 's:/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/: :g' |
        grep -oE 'CRIT_API [^;()]*\(' | sed -E 's/.*[ *]([A-Za-z0-9_]+) *\($/\1/' | sort
}
exported() { nm -D --defined-only "$lib" | awk '$2 ~ /^[A-Zuvw]$/ && $2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort; }

d=$(declared)
e=$(exported)
if [ "$(printf '%s\n' "$d" | wc -l)" -lt 20 ]; then echo "found too few CRIT_API functions: is the parser broken?"; exit 1; fi
if [ -n "$(printf '%s\n' "$d" | uniq -d)" ]; then echo "declared twice:"; printf '%s\n' "$d" | uniq -d; exit 1; fi
rc=0
missing=$(comm -23 <(printf '%s\n' "$d") <(printf '%s\n' "$e"))
extra=$(comm -13 <(printf '%s\n' "$d") <(printf '%s\n' "$e"))
if [ -n "$missing" ]; then echo "declared CRIT_API, not exported:"; echo "$missing"; rc=1; fi
if [ -n "$extra" ]; then echo "exported, not declared CRIT_API:"; echo "$extra"; rc=1; fi
if ! readelf -d "$lib" | grep -q 'SONAME.*\[libcritiprefill\.so\.0\]'; then echo "SONAME is not libcritiprefill.so.0"; rc=1; fi
[ $rc -ne 0 ] || echo "$(printf '%s\n' "$d" | wc -l) symbols"
exit $rc
