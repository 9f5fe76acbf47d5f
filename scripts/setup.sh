#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what the build, the tests and the demo model need on Debian and Ubuntu; does nothing, and touches no
# network, when all of it is there.  What counts is the tool, not the package: a cmake from elsewhere is as good.
set -euo pipefail

want=()
need() { want+=("$@"); }

# A compiler that can link, not only one that answers --version.
if ! echo 'int main(void) { return 0; }' | ${CC:-cc} -x c - -o /dev/null >/dev/null 2>&1; then need gcc libc6-dev; fi
cmake_ok() { # 3.22 or later
    local v
    v=$(cmake --version 2>/dev/null | sed -n '1s/^cmake version \([0-9.]*\).*/\1/p')
    [ -n "$v" ] && [ "$(printf '%s\n3.22\n' "$v" | sort -V | head -n 1)" = 3.22 ]
}
cmake_ok || need cmake
command -v ninja >/dev/null || need ninja-build
lib() { command -v pkg-config >/dev/null && pkg-config --exists "$1"; }
command -v pkg-config >/dev/null || need pkg-config
lib libpcre2-8 || need libpcre2-dev
lib libxxhash || need libxxhash-dev
lib libzstd || need libzstd-dev
lib jansson || need libjansson-dev
lib cairo || need libcairo2-dev
lib cmocka || need libcmocka-dev
# Only for fetching the demo model.
python3 -m pip --version >/dev/null 2>&1 || need python3 python3-pip

if [ ${#want[@]} -eq 0 ]; then exit 0; fi

if ! command -v apt-get >/dev/null; then
    echo "setup: missing here, by their Debian names: ${want[*]}" >&2
    echo "setup: there is no apt-get on this system; please install them with its own package manager and try again" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: missing: ${want[*]}" >&2
        echo "setup: not root and no sudo; run as root:  apt-get install ${want[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "setup: installing ${want[*]}"
apt() { # quiet unless it fails: apt's own progress would bury the line above
    local log
    log=$(mktemp)
    if ! ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
            apt-get -q -y -o Acquire::Retries=3 "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        echo "setup: apt-get $* failed" >&2
        exit 1
    fi
    rm -f "$log"
}
apt update
apt install --no-install-recommends "${want[@]}"
cmake_ok || { echo "setup: this system's cmake is older than 3.22" >&2; exit 1; }
