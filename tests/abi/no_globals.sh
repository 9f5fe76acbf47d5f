#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The library has no variable that could change: no object of the static library stands in .data, .bss, common or
# thread-local storage.  Constant tables of pointers (.data.rel.ro) are fine.
#   usage: no_globals.sh LIBRARY.a
set -euo pipefail
lib=${1:?usage: no_globals.sh LIBRARY.a}
found=$(objdump -t "$lib" | awk '
    /file format/ { file = $1; sub(/:$/, "", file) }
    / O / {
        for (i = 2; i < NF; i++)
            if ($i == "*COM*" || ($i ~ /^\.(t?data|t?bss)/ && $i !~ /^\.data\.rel\.ro/)) print file ": " $NF " in " $i
    }')
if [ -n "$found" ]; then echo "mutable globals:"; echo "$found"; exit 1; fi
