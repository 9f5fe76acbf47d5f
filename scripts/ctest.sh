#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs the tests of one preset.  ctest's closing line ("100% tests passed, ...") is the last thing printed: what ctest
# lists behind it, skipped and failed tests, comes before it here.
#   usage: ctest.sh PRESET [JOBS] [CTEST-OPTIONS...]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:?usage: ctest.sh PRESET [JOBS] [CTEST-OPTIONS...]}
jobs=${2:-2}
shift; [ $# -eq 0 ] || shift

ctest --preset "$preset" -j "$jobs" --no-label-summary --no-tests=error "$@" 2>&1 | {
    closing=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        *"% tests passed, "*" failed out of "*) closing=$line ;;
        *) printf '%s\n' "$line" ;;
        esac
    done
    [ -z "$closing" ] || printf '\n%s\n' "$closing"
}
