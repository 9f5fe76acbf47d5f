#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The demo: a question about a real long document, this project's own texts, answered by the small model, then dense
# and sparse attention side by side.  About 7,000 tokens are read: the documents below, cut in the middle to fit.
set -euo pipefail
cd "$(dirname "$0")/.."

program=build/release/critiprefill
model=models/smollm2-135m-instruct-q4_1.gguf
question=${1:-"In two or three sentences: what is critiprefill, and what is it good for?"}

files=()
for f in README.md doc/TESTING.md include/critiprefill/critiprefill.h include/critiprefill/attention.h CONTRIBUTING.md \
         examples/minimal.c src/core/core.h; do
    [ ! -f "$f" ] || files+=(-f "$f")
done

echo "demo: ${files[*]//-f/}"
echo "demo: $question"
exec "$program" run -m "$model" "${files[@]}" -p "$question" --chat --compare -c 7168 -n 96 --truncate middle
