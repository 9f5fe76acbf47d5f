#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The demo: a question about a real long document, this project's own texts, answered by the small model, then dense
# and sparse attention side by side.  About 7,000 tokens are read: the documents below, cut in the middle to fit.
set -euo pipefail
cd "$(dirname "$0")/.."

program=build/release/critiprefill
model=models/smollm2-135m-instruct-q4_1.gguf
question=${1:-"In two or three sentences: what is critiprefill, and what is it good for?"}

# In order, as long as they fit; what is too long for the model is cut from the middle by --truncate.
files=() bytes=0
for f in README.md doc/ALGORITHM.md doc/KERNELS.md CONTRIBUTING.md doc/TESTING.md include/critiprefill/critiprefill.h \
         include/critiprefill/attention.h examples/minimal.c; do
    if [ -f "$f" ] && [ $bytes -lt 25000 ]; then
        files+=(-f "$f")
        bytes=$((bytes + $(wc -c <"$f")))
    fi
done

echo "demo: reading $(printf '%s\n' "${files[@]}" | grep -vx -e -f | tr '\n' ' ')($bytes bytes)"
echo "demo: $question"
echo
exec "$program" run -m "$model" "${files[@]}" -p "$question" --chat --compare -c 7168 -n 96 --truncate middle
