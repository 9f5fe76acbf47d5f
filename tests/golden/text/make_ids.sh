#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Writes the ids a peer gives the corpus: <name>.ids beside each <name>.txt, one line, blank separated.
#   usage: make_ids.sh MODEL LLAMA_BIN_DIR          (the golden files are those of SmolLM2)
set -euo pipefail
model=${1:?usage: make_ids.sh MODEL LLAMA_BIN_DIR}
bin=${2:?usage: make_ids.sh MODEL LLAMA_BIN_DIR}
cd "$(dirname "$0")"
for f in *.txt; do
    "$bin/llama-tokenize" -m "$model" -f "$f" --ids --no-bos --no-parse-special --no-escape --log-disable 2>/dev/null |
        tail -n 1 | tr -d '[],' > "${f%.txt}.ids"
done
