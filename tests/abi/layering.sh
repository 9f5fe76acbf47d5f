#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The tree keeps its shape:
#   - includes point one way: core <- kernels <- kv <- sparse <- policy <- model <- lib, and text <- core
#   - programs, examples and plugins see the public headers only
#   - no two source files have the same name
#   - src/ never prints, exits, or reads the environment
set -euo pipefail
cd "$(dirname "$0")/../.."
rc=0
bad() { echo "$*"; rc=1; }

# ---- includes: what each room of src/ may use besides itself and the public headers ----
allowed() {
    case $1 in
    core) echo "" ;;
    kernels) echo "core" ;;
    kv) echo "core kernels" ;;
    sparse) echo "core kernels kv" ;;
    policy) echo "core kernels kv sparse" ;;
    model) echo "core kernels kv sparse policy" ;;
    text) echo "core" ;;
    lib) echo "core kernels kv sparse policy model text" ;;
    *) echo "?" ;;
    esac
}
quoted() { # files... -> "file:line:header" of every #include "..."
    [ $# -eq 0 ] || grep -HnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$@" /dev/null |
        sed -E 's/^([^:]*:[0-9]+):[^"]*"([^"]*)".*/\1 \2/' || true
}
mapfile -t src < <(find src -type f \( -name '*.c' -o -name '*.h' -o -name '*.inc' \) | sort)
while read -r at header; do
    [ -n "$at" ] || continue
    file=${at%%:*}
    room=${file#src/}
    room=${room%%/*}
    ok=$(allowed "$room")
    case $header in
    critiprefill/*) [ -f "include/$header" ] || bad "$at: no public header $header" ;;
    ../*|*/../*|./*) bad "$at: \"$header\": name headers from src/, not by relative steps" ;;
    */*)
        to=${header%%/*}
        if [ "$to" != "$room" ] && ! [[ " $ok " == *" $to "* ]]; then bad "$at: $room may not include $header"; fi ;;
    *) [ -f "$(dirname "$file")/$header" ] || bad "$at: \"$header\" is not beside the file" ;;
    esac
done < <(quoted ${src[@]+"${src[@]}"})
for dir in src/*/; do
    room=$(basename "$dir")
    [ "$(allowed "$room")" != "?" ] || bad "src/$room: a room this test does not know"
done

mapfile -t outer < <(find programs examples plugins -type f \( -name '*.c' -o -name '*.h' -o -name '*.cpp' \) 2>/dev/null | sort)
while read -r at header; do
    [ -n "$at" ] || continue
    file=${at%%:*}
    case $header in
    critiprefill/*) [ -f "include/$header" ] || bad "$at: no public header $header" ;;
    */*) bad "$at: \"$header\": only critiprefill/*.h and headers beside the file" ;;
    *) [ -f "$(dirname "$file")/$header" ] || bad "$at: \"$header\" is not beside the file" ;;
    esac
done < <(quoted ${outer[@]+"${outer[@]}"})

# ---- unique names ----
dup=$(find src include programs examples plugins tests -type f \( -name '*.c' -o -name '*.h' -o -name '*.inc' \) 2>/dev/null |
    sed 's:.*/::' | sort | uniq -d || true)
[ -z "$dup" ] || bad "file names that occur twice:" $dup

# ---- what a library does not do ----
# Comments and string literals are blanked first, line numbers kept.
code() {
    awk '
    BEGIN { inside = 0 }
    {
        line = $0; out = ""
        while (length(line)) {
            if (inside) {
                i = index(line, "*/")
                if (!i) { line = ""; break }
                line = substr(line, i + 2); inside = 0; continue
            }
            if (match(line, /"([^"\\]|\\.)*"|\/\*|\/\/|\047([^\047\\]|\\.)*\047/)) {
                out = out substr(line, 1, RSTART - 1)
                t = substr(line, RSTART, 2)
                if (t == "/*") { inside = 1; line = substr(line, RSTART + 2) }
                else if (t == "//") line = ""
                else { out = out "_"; line = substr(line, RSTART + RLENGTH) }
            } else { out = out line; line = "" }
        }
        print FILENAME ":" FNR ": " out
    }' "$1"
}
banned='printf|vprintf|fprintf|vfprintf|dprintf|puts|fputs|putchar|putc|fputc|perror|exit|_exit|_Exit|quick_exit|atexit|abort|getenv|secure_getenv|setenv|signal|sigaction|setlocale|_mm_setcsr|fesetround|fesetenv|rand|srand|system'
for f in ${src[@]+"${src[@]}"}; do
    hits=$(code "$f" | grep -E "(^|[^A-Za-z0-9_.>])($banned)[[:space:]]*\(|(^|[^A-Za-z0-9_])(stdout|stderr|environ)([^A-Za-z0-9_]|$)" |
        grep -vE 'format\(printf' || true)
    [ -z "$hits" ] || bad "$hits"
done

# Flags and paths that make a build differ from machine to machine.
hits=$(grep -nE 'march=native|ffast-math|-Ofast' CMakeLists.txt CMakePresets.json Makefile tests/CMakeLists.txt cmake/* 2>/dev/null || true)
[ -z "$hits" ] || bad "$hits"
exit $rc
