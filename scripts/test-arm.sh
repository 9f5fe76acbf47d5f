#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Cross-compiles for AArch64 and runs the tests of kernels, laws and units under qemu-user (Debian and Ubuntu on x86-64).
# Installs the cross compiler, the emulator and the other architecture's libraries when they are missing.
#   usage: test-arm.sh [JOBS]
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-2}

packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user libc6:arm64 libpcre2-dev:arm64 libjansson-dev:arm64
    libcmocka-dev:arm64)
missing() { # names that dpkg does not know as installed
    local p
    for p in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || echo "$p"
    done
}
want=$(missing)
if [ -n "$want" ]; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    echo "test-arm: installing" $want
    ${as_root[@]+"${as_root[@]}"} dpkg --add-architecture arm64
    ${as_root[@]+"${as_root[@]}"} apt-get -qq update
    # shellcheck disable=SC2086 # a list of names
    ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $want >/dev/null
fi
scripts/build.sh arm "$jobs"
# The program's own tests need a shell of the other architecture around them; they say nothing about kernels.
ctest --test-dir build/arm -j "$jobs" --output-on-failure -L 'checkasm|property|unit|golden'
