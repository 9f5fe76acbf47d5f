#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Holds our dense path against llama.cpp's own tools on every model of models/: token ids (exact), logits (mean KL and
# perplexity), greedy continuations, prefill speed (shown, not judged).
#   CRIT_PEER_DIR  folder whose bin/ has llama-tokenize, llama-perplexity, llama-completion, llama-bench
#   usage: test-peer.sh [ids] [kl] [greedy] [speed]          default: all
set -euo pipefail
cd "$(dirname "$0")/.."
peer=${CRIT_PEER_DIR:-peer/llama}/bin
ours=build/release/critiprefill
kl=build/test/tests/peer_kl
[ $# -gt 0 ] || set -- ids kl greedy speed

if [ ! -x "$peer/llama-tokenize" ]; then
    echo "test-peer: no llama-tokenize in $peer; build llama.cpp's tools and name their folder: CRIT_PEER_DIR=DIR" >&2
    exit 1
fi
shopt -s nullglob
models=(models/*.gguf)
[ ${#models[@]} -gt 0 ] || { echo "test-peer: no model in models/; make model" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n_pass=0 n_fail=0
result() { # ok|FAIL text
    echo "$1  $2"
    if [ "$1" = FAIL ]; then n_fail=$((n_fail + 1)); else n_pass=$((n_pass + 1)); fi
}

# Real text: our documents and sources; nasty text: whatever tests/golden/ keeps for the tokenizers.
cat README.md doc/*.md CONTRIBUTING.md include/critiprefill/*.h src/*/*.c >"$work/long.txt" 2>/dev/null || true
texts=("$work/long.txt" CONTRIBUTING.md)
for f in tests/golden/text/*.txt tests/golden/corpus/* tests/golden/tokenizer/*.txt; do texts+=("$f"); done

ids() { # model
    local f bad=0
    for f in "${texts[@]}"; do
        "$peer/llama-tokenize" -m "$1" -f "$f" --ids --no-bos --no-parse-special --no-escape --log-disable 2>/dev/null |
            tr -d '[]' | tr ',' ' ' | xargs -n 4096 echo | tr '\n' ' ' | sed 's/ *$//' >"$work/theirs"
        "$ours" tokenize -m "$1" -f "$f" --ids | tr '\n' ' ' | sed 's/ *$//' >"$work/ours"
        if ! cmp -s "$work/theirs" "$work/ours"; then bad=1; echo "      differs: $f"; fi
    done
    if [ $bad = 0 ]; then result ok "ids of ${#texts[@]} texts are equal"; else result FAIL "ids differ"; fi
}

kl() { # model
    head -c 20000 "$work/long.txt" >"$work/kl.txt"
    "$peer/llama-perplexity" -m "$1" -f "$work/kl.txt" -c 2048 -b 2048 --chunks 1 --save-all-logits "$work/base" \
        >"$work/log" 2>&1 || { tail -n 5 "$work/log"; result FAIL "llama-perplexity did not run"; return; }
    local out
    # Their flash attention off: how far the peer is from itself explains a miss, but is not judged.
    "$peer/llama-perplexity" -m "$1" -f "$work/kl.txt" -c 2048 -b 2048 --chunks 1 -fa off --save-all-logits "$work/other" \
        >"$work/log" 2>&1 || true
    local floor
    floor=$("$kl" --between "$work/base" "$work/other" | sed 's/.*kl_mean": //; s/}//')
    echo "      llama.cpp against itself, flash attention on and off: KL $floor"
    if out=$("$kl" "$1" "$work/base" dense); then result ok "dense $out"; else result FAIL "dense $out"; fi
    echo "      criti $("$kl" "$1" "$work/base" criti || true)"
    rm -f "$work/base" "$work/other"
}

# Their continuation of a prompt file, one thread: their pool spins, and stalls when the machine is shared.
theirs() { # model prompt-file options...
    "$peer/llama-completion" -m "$1" -f "$2" -n 32 --temp 0 -t 1 -no-cnv --no-escape --no-display-prompt --simple-io \
        "${@:3}" </dev/null 2>/dev/null | sed 's/ *\[end of text\]//' | tr -s '\n ' | head -c 400
}

greedy() { # model; the peer with its flash attention off stands beside it, as with the logits, but is not judged
    local p a b c n=0 same=0 self=0
    while IFS= read -r p; do
        n=$((n + 1))
        printf '%s' "$p" >"$work/prompt"
        a=$(theirs "$1" "$work/prompt") b=$(theirs "$1" "$work/prompt" -fa off)
        c=$("$ours" run -m "$1" -f "$work/prompt" -n 32 --attn dense --no-progress 2>/dev/null | tr -s '\n ' | head -c 400)
        if [ "$a" = "$b" ]; then self=$((self + 1)); fi
        if [ "$a" = "$c" ]; then same=$((same + 1)); else echo "      differs: $p"; fi
    done <tests/peer/prompts.txt
    echo "      llama.cpp against itself, flash attention on and off: $self of $n equal"
    if [ $((same * 12)) -ge $((n * 10)) ]; then result ok "greedy: $same of $n equal"; else result FAIL "greedy: $same of $n equal"; fi
}

speed() { # model
    local n
    for n in 512 4096; do
        for _ in 1 2; do # alternating
            "$peer/llama-bench" -m "$1" -p $n -n 0 -t 1 -fa 1 -r 1 -o csv 2>/dev/null |
                python3 -c 'import csv,sys
for r in csv.DictReader(sys.stdin): print("      llama.cpp %5s tokens: %8.1f tokens/s" % (r["n_prompt"], float(r["avg_ts"])))' || true
            "$ours" bench -m "$1" -c $n --attn dense -t 1 -n 0 -o csv 2>/dev/null |
                python3 -c 'import csv,sys
for r in csv.DictReader(sys.stdin): print("      ours      %5s tokens: %8.1f tokens/s" % (r["ctx_tok"], float(r["tok_per_s"])))' || true
        done
    done
}

for m in "${models[@]}"; do
    echo "$m"
    for what in "$@"; do "$what" "$m"; done
done
echo "$n_pass passed, $n_fail failed"
[ $n_fail -eq 0 ]
