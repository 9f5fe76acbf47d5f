#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The installed tree works for an outside program: through pkg-config (shared and static) and through find_package,
# also after the whole tree was moved, and where the distribution's folders are absolute.  With a model,
# examples/minimal.c is built against it and run, and the program reads its own text.
#   usage: install.sh [MODEL.gguf]        in ctest's environment
set -euo pipefail
build=${CRIT_BUILD_DIR:?run by ctest}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cc=${CC:-cc}
cflags=${CRIT_CFLAGS:-}

work=$(mktemp -d "${CRIT_TEST_TMP:-/tmp}/install.XXXXXX")
trap 'rm -rf "$work"' EXIT
step() { echo "-- $*"; }

step "install, then move"
cmake --install "$build" --prefix "$work/first" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
prefix=$work/moved
mv "$work/first" "$prefix"
pc=$(find "$prefix" -name critiprefill.pc)
libdir=$(dirname "$(dirname "$pc")")
for f in "$prefix"/include/critiprefill/{critiprefill,attention,status,version}.h "$libdir"/libcritiprefill.{a,so,so.0}; do
    [ -e "$f" ] || { echo "not installed: ${f#"$prefix"/}"; exit 1; }
done
if grep -rlF -e "$root" -e "$work/first" "$libdir/pkgconfig" "$libdir/cmake" "$prefix/include"; then
    echo "^ these name the build's own folders"; exit 1
fi

want=$(sed -n 's/^#define CRIT_VERSION_STRING "\(.*\)"/\1/p' "$root/include/critiprefill/version.h")
export PKG_CONFIG_PATH=$libdir/pkgconfig
expect() { # program: prints the library's version
    local got
    got=$("$@")
    [ "$got" = "$want" ] || { echo "$1 printed '$got', expected '$want'"; exit 1; }
}

flags=()
pc() { eval "flags=($(pkg-config "$@" critiprefill))"; } # it escapes what a shell would take apart, as blanks in a path

step "pkg-config, shared"
[ "$(pkg-config --modversion critiprefill)" = "$want" ] || { echo "pkg-config --modversion differs"; exit 1; }
pc --cflags --libs
# shellcheck disable=SC2086
$cc -std=c11 $cflags "$here/outside/outside.c" -o "$work/shared" "${flags[@]}" -Wl,-rpath,"$libdir"
expect "$work/shared"

step "pkg-config, static"
pc --static --cflags --libs
# shellcheck disable=SC2086
$cc -std=c11 $cflags "$here/outside/outside.c" -o "$work/static" "${flags[@]/#-lcritiprefill/$libdir/libcritiprefill.a}" \
    -Wl,--as-needed
expect "$work/static"

step "find_package"
cmake -S "$here/outside" -B "$work/outside" -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="$cflags" \
    -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cmake --build "$work/outside" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
expect "$work/outside/outside"
[ ! -x "$work/outside/outside_static" ] || expect "$work/outside/outside_static"

if [ -x "$prefix/bin/critiprefill" ]; then
    step "the installed program finds its library"
    "$prefix/bin/critiprefill" --version >"$work/version"
    grep -qF "$want" "$work/version" || { echo "--version does not name $want:"; cat "$work/version"; exit 1; }
fi

step "pkg-config, absolute folders"
cmake -S "$root" -B "$work/absolute" -DCMAKE_C_COMPILER="$cc" -DBUILD_TESTING=OFF -DCMAKE_INSTALL_PREFIX=/opt/a \
    -DCMAKE_INSTALL_LIBDIR=/opt/a-lib/lib -DCMAKE_INSTALL_INCLUDEDIR=/opt/a-dev/include >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
for pair in libdir=/opt/a-lib/lib includedir=/opt/a-dev/include; do
    got=$(PKG_CONFIG_PATH=$work/absolute pkg-config --variable="${pair%%=*}" critiprefill)
    [ "$got" = "${pair#*=}" ] || { echo "critiprefill.pc has ${pair%%=*}=$got, expected $pair"; exit 1; }
done

if [ -f "${1:-}" ]; then
    step "examples/minimal.c against the installed tree"
    pc --cflags --libs
    # shellcheck disable=SC2086
    $cc -std=c11 $cflags "$root/examples/minimal.c" -o "$work/minimal" "${flags[@]}" -Wl,-rpath,"$libdir"
    "$work/minimal" "$1" "some words to go on from" >/dev/null

    # What stands beside the program, not what it was built from: here too short for 64 tokens.
    if [ -x "$prefix/bin/critiprefill" ]; then
        step "the program reads the text installed with it, wherever that was moved"
        own="$work/moved [again]"
        mv "$prefix" "$own"
        text=$own/share/critiprefill/text
        find "$text" -type f ! -path '*/include/critiprefill/version.h' -delete
        echo 'short' >"$text/include/critiprefill/version.h"
        bench() { "$own/bin/critiprefill" bench -m "$1" -c 64 -n 0 -o csv --no-progress >/dev/null 2>"$work/log"; }
        bench "$1" || { cat "$work/log"; exit 1; }
        grep -q 'repeated to fill 64' "$work/log" || { echo "not the text beside the program"; cat "$work/log"; exit 1; }
        rm -r "$text"
        if bench "$1"; then echo "a text from somewhere else"; exit 1; fi
        grep -q 'no text to read: .* -f$' "$work/log" || { cat "$work/log"; exit 1; }
    fi
fi
