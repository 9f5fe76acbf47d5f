#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs the tests of one preset; ctest's summary is the last thing printed.
#   usage: ctest.sh PRESET [JOBS] [CTEST-OPTIONS...]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:?usage: ctest.sh PRESET [JOBS] [CTEST-OPTIONS...]}
jobs=${2:-2}
shift; [ $# -eq 0 ] || shift
exec ctest --preset "$preset" -j "$jobs" --no-label-summary "$@"
