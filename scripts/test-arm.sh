#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Cross-compiles for AArch64 and runs the C tests and checkasm under qemu-user: the only place where NEON kernels run on
# an x86 machine.  Installs what is missing (Debian; the libraries come from its multiarch).  Scripts that start the
# program (cli, abi) stay out: they would need binfmt.
#   usage: test-arm.sh [JOBS] [CTEST-OPTIONS...]
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-2}
shift; [ $# -eq 0 ] || shift

if [ "$(uname -m)" = aarch64 ]; then
    echo "test-arm: this machine is AArch64; make test runs everything natively" >&2
    exit 1
fi

arch=/usr/lib/aarch64-linux-gnu
want=()
command -v aarch64-linux-gnu-gcc >/dev/null || want+=(gcc-aarch64-linux-gnu)
command -v qemu-aarch64 >/dev/null || want+=(qemu-user)
[ -e /lib/ld-linux-aarch64.so.1 ] || want+=(libc6:arm64)
[ -e $arch/pkgconfig/libpcre2-8.pc ] || want+=(libpcre2-dev:arm64)
[ -e $arch/pkgconfig/libxxhash.pc ] || want+=(libxxhash-dev:arm64)
[ -e $arch/pkgconfig/libzstd.pc ] || want+=(libzstd-dev:arm64)
[ -e $arch/pkgconfig/jansson.pc ] || want+=(libjansson-dev:arm64)
[ -e $arch/pkgconfig/cairo.pc ] || want+=(libcairo2-dev:arm64)
[ -e $arch/pkgconfig/cmocka.pc ] || want+=(libcmocka-dev:arm64)
if [ ${#want[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "test-arm: missing here, by their Debian names: ${want[*]}" >&2
        exit 1
    fi
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    echo "test-arm: installing ${want[*]}"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ! { ${as_root[@]+"${as_root[@]}"} dpkg --add-architecture arm64 &&
            ${as_root[@]+"${as_root[@]}"} apt-get -q -y -o Acquire::Retries=3 update &&
            ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 \
                install --no-install-recommends "${want[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        echo "test-arm: could not install ${want[*]}" >&2
        exit 1
    fi
    rm -f "$log"
    trap - EXIT
fi

scripts/build.sh arm "$jobs"

# A kernel this CPU cannot run is only counted as skipped by checkasm; here the level must be there, and must be taken
# for missing on a core without dot products.
level() { # CPU -> checkasm's mask
    qemu-aarch64 -L / -cpu "$1" build/arm/tests/checkasm --test add 2>&1 | sed -n 's/.*cpu mask \(0x[0-9a-f]*\).*/\1/p'
}
for pair in max:0x20 cortex-a76:0x20 cortex-a72:0x0; do
    got=$(level "${pair%:*}")
    if [ "$got" != "${pair#*:}" ]; then
        echo "test-arm: CPU ${pair%:*} gives level mask '$got', want ${pair#*:}" >&2
        exit 1
    fi
done

scripts/ctest.sh arm "$jobs" -L 'unit|golden|checkasm' "$@"

# Of the laws those on whole models of a few hundred tokens: float vectors are emulated some hundred times slower than run,
# and the laws on thousands of tokens would take hours.  That a row's bits depend on nothing but itself is checkasm's
# work; what is built on it is the same code at every level.
for law in 'logits_*' short_prompts limits; do
    qemu-aarch64 -L / build/arm/tests/test_model_laws "$law"
done
echo "test-arm: all passed"
