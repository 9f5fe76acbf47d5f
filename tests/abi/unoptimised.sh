#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every kernel compiles without optimisation too, as in a build of type Debug: the compiler must not need its own
# cleverness to inline what is always inlined, or to see a constant where an instruction wants one.
#   usage: unoptimised.sh        in ctest's environment; takes the build's own compile commands
set -euo pipefail
shopt -s extglob
cd "${CRIT_BUILD_DIR:?run by ctest}"
mapfile -t commands < <(sed -n 's/^ *"command": "\(.*\)",\{0,1\}$/\1/p' compile_commands.json |
    sed 's/\\\(.\)/\1/g' | grep 'crit_objects\.dir/src/kernels/')
[ ${#commands[@]} -gt 10 ] || { echo "found too few kernels: is the parser broken?"; exit 1; }
rc=0
for c in "${commands[@]}"; do
    # The object is named relative to the build's folder, so without blanks.
    eval "${c/ -o +([^ ]) -c / -O0 -o /dev/null -c }" || rc=1
done
[ $rc -ne 0 ] || echo "${#commands[@]} kernels"
exit $rc
