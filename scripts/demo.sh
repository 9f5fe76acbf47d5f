#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The demo: a question about a real long document, this project's own texts (8,000 tokens), answered by the small
# model, then dense and sparse attention side by side.
#   usage: demo.sh [MODEL.gguf] [QUESTION]
set -euo pipefail
cd "$(dirname "$0")/.."

program=build/release/critiprefill
model=${1:-models/smollm2-135m-instruct-q4_1.gguf}
question=${2:-"Why are long prompts slow? Answer in one sentence."}

# A model of 135M parameters answers from what stands near the question, so the text it is asked about comes last: what
# stands before the first heading of doc/ALGORITHM.md.
last=build/demo-algorithm.md
sed '/^## /,$d' doc/ALGORITHM.md >"$last"
files=()
for f in README.md examples/minimal.c doc/KERNELS.md CONTRIBUTING.md "$last"; do
    [ ! -f "$f" ] || files+=(-f "$f")
done

# --truncate: these texts grow, the model's 8,192 tokens do not.
set -- run -m "$model" "${files[@]}" -p "$question" --chat -sys "You answer questions about documents." \
    -n 24 -c 8192 --truncate middle --compare
printf '%s' "$program"
printf ' %q' "$@"
printf '\n\n'
exec "$program" "$@"
