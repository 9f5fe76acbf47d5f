#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Configures and builds one preset of CMakePresets.json; quiet when there is nothing to tell.
#   usage: build.sh PRESET [JOBS] [CMAKE-OPTIONS...]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:?usage: build.sh PRESET [JOBS] [CMAKE-OPTIONS...]}
jobs=${2:-2}
shift; [ $# -eq 0 ] || shift

# A copied or moved tree brings a cache that points at its old place; cmake refuses it, so start over.
cache=build/$preset/CMakeCache.txt
if [ -f "$cache" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$cache"; then rm -rf "build/$preset"; fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cmake --preset "$preset" "$@" >"$log" 2>&1; then cat "$log" >&2; exit 1; fi
cmake --build --preset "$preset" -j "$jobs"
