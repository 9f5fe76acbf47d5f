#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The pictures of README.md, from real runs: quality against density and time, the needle grid, and the densities of all heads.
# Minutes to an hour, by model and length.
#   usage: figures.sh [MODEL.gguf] [TOKENS] [TEXT]       TEXT: by default this project's own documents and sources
set -euo pipefail
cd "$(dirname "$0")/.."

program=build/release/critiprefill
model=${1:-models/smollm2-135m-instruct-q4_1.gguf}
tokens=${2:-8000}
out=doc/figures
mkdir -p "$out"
text=("${@:3:1}")
files=()
[ ${#text[@]} -eq 0 ] || files=(-f "${text[0]}")

"$program" eval frontier -m "$model" "${files[@]}" -c "$tokens" --attn fast,balanced,careful,paper \
    --sweep "theta=0.1,0.35,0.8" --plot "$out/frontier.svg"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$program" eval needle -m "$model" -c "$((tokens / 4)),$((tokens / 2)),$tokens" --depths 0,25,50,75,100 --samples 1 \
    --attn dense,criti,paper --out "$folder"
cp "$folder"/needle-criti.png "$out/needle.png"
[ ${#files[@]} -gt 0 ] || files=(-f doc/ALGORITHM.md -f doc/KERNELS.md -f SPEED.md)
"$program" inspect -m "$model" "${files[@]}" -c "$tokens" -o "$out/density.png"
