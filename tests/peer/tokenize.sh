#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Ids of `critiprefill tokenize` against those of llama-tokenize: the corpus in tests/golden/text, random mixtures, and
# any FILES given.  Exit 1 when one differs, and the file that does is kept.
#   usage: tokenize.sh MODEL LLAMA_BIN_DIR CRITIPREFILL [FILES...]        SEED=n COUNT=n: the random part (1, 100)
set -euo pipefail
usage="usage: tokenize.sh MODEL LLAMA_BIN_DIR CRITIPREFILL [FILES...]"
model=${1:?$usage} peer=${2:?$usage}/llama-tokenize ours=${3:?$usage}
shift 3
text=$(cd "$(dirname "$0")/../golden/text" && pwd)
tmp=$(mktemp -d)
python3 "$text/make_corpus.py" --random "${SEED:-1}" "$tmp" "${COUNT:-100}"
n=0 bad=0
for f in "$text"/*.txt "$tmp"/random*.txt "$@"; do
    # --no-escape: the peer would read \n in a file as a line end.
    want=$("$peer" -m "$model" -f "$f" --ids --no-bos --no-parse-special --no-escape 2>/dev/null | tail -n 1 | tr -d '[],')
    got=$("$ours" tokenize -m "$model" -f "$f" --ids)
    n=$((n + 1))
    if [ "$want" != "$got" ]; then
        bad=$((bad + 1))
        echo "differs: $f"
    fi
done
echo "$((n - bad)) of $n texts have the peer's ids ($(basename "$model"))"
if [ $bad -ne 0 ]; then echo "random texts kept in $tmp"; exit 1; fi
rm -rf "$tmp"
