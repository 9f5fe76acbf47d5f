# SPDX-License-Identifier: MIT
# eval ppl against the oracle's logits: which tokens are scored, where windows start, what stands in front of them.
for i in $(seq 400); do echo "Line $i says $((i * 7919 % 10007))."; done >a.txt
p() { run eval ppl -m "$M" -t 2 "$@"; }
want_line() { grep -qxE 'Final estimate: PPL = [0-9]+\.[0-9]{4} \+/- [0-9]+\.[0-9]{5}' out || bad "not the line"; }

# Oracle: python walks the windows, the tool gives the logits.  $1 model, $2 window, $3 stride, $4 windows
oracle() {
    "$P" tokenize -m "$1" -f a.txt --ids --bos >ids
    "$P" tokenize -m "$1" -f a.txt --ids >plain
    python3 - "$TINY_TOOL" "$@" <<'PY'
import math, subprocess, sys
tool, model, size, stride, n = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
ids = [int(x) for x in open("ids").read().split()]
plain = [int(x) for x in open("plain").read().split()]
bos = ids[0] if ids != plain else None
if stride: size = (size + stride // 2 + 255) // 256 * 256
nll = []
for w in range(n):
    t = ids[w * (stride or size):][:size]
    read = ([bos] + t[1:]) if bos is not None else t
    rows = subprocess.run([tool, "logits", model] + [str(x) for x in read], capture_output=True, text=True, check=True).stdout
    rows = [[float(x) for x in r.split()] for r in rows.strip().split("\n")]
    assert len(rows) == size
    for i in range(size - stride - 1 if stride else size // 2, size - 1):
        top = max(rows[i])
        nll.append(top + math.log(sum(math.exp(x - top) for x in rows[i])) - rows[i][t[i + 1]])
mean = sum(nll) / len(nll)
error = math.sqrt((sum(x * x for x in nll) / len(nll) - mean * mean) / (len(nll) - 1)) * math.exp(mean)
print("(%d, %.9g, %.9g, %d)" % (len(nll), math.exp(mean), error, bos is not None))
PY
}
# The perplexity within 2e-3 in plain C, what rounding K and V to f16 may do; its error, a product with a deviation that
# moves no more, within twice that.  At the level of this machine the same, but for bf16: it is coarser by 2^3, and on AMX 18
# operands a layer are rounded, not 2 (K, V, q, the weights, both sides of seven products), independently:
# 8 sqrt(18 / 2) = 24 times as much.
close=2e-3
! "$P" --version | grep -qxE 'cpu (amx|avx512bf16)' || close='24 * 2e-3'
against() { # ORACLE ARGS...: eval ppl in plain C and at the level
    local o=$1 cpu tol
    shift
    for cpu in c auto; do
        tol=2e-3; [ "$cpu" = c ] || tol=$close
        p "$@" --cpu "$cpu"
        want_rc 0; want_no_err
        want_rows "(lambda r, o: r['positions'] == o[0] and abs(r['ppl'] / o[1] - 1) < $tol and abs(r['ppl_error'] / o[2] - 1) < 2 * $tol)(rows[0], $o)"
    done
}

o=$(oracle "$M" 64 0 3); against "$o" -f a.txt -c 64 --chunks 3 --json
want_rows 'rows[0]["windows"] == 3 and rows[0]["ctx_tok"] == 64 and rows[0]["attn"] == "dense" and rows[0]["positions"] == 3 * 31 and isinstance(rows[0]["positions"], int)'
p -f a.txt -c 64 --chunks 3; want_rc 0; want_no_err; want_line; [ "$(wc -l <out)" = 1 ] || bad "more than the line"
o=$(oracle "$M" 65 0 2); against "$o" -f a.txt -c 65 --chunks 2 --json
o=$(oracle "$M" 60 24 3); against "$o" -f a.txt -c 60 --ppl-stride 24 --chunks 3 --json
want_rows 'rows[0]["ctx_tok"] == 256 and rows[0]["stride"] == 24 and rows[0]["positions"] == 3 * 24'
# A model that wants BOS: in place of the first token of every window.
"$TINY_TOOL" write bos.gguf tok=llama >/dev/null
o=$(oracle bos.gguf 64 0 3); case $o in *", 1)") ;; *) bad "this model has no BOS: $o" ;; esac
against "$o" -m bos.gguf -t 1 -f a.txt -c 64 --chunks 3 --json

# All windows, sparse attention, several texts, going on.
p -f a.txt -c 512; want_rc 0; want_no_err; want_line
p -f a.txt -c 1536 --attn criti:theta=100:dense_until=0:last_tok=0:lookup=0 --json; want_rc 0; cp out sparse
p -f a.txt -c 1536 --json; want_rc 0; want_rows 'rows[0]["density"] == 1 and rows[0]["ppl"] != json.load(open("sparse"))["ppl"] and json.load(open("sparse"))["density"] < .8'
text 3000 >b.txt
p -f a.txt -f b.txt -c 128 --out d; want_rc 0; [ "$(grep -c '^Final estimate: PPL = .* (\(a\|b\).txt, dense, [0-9]* windows of 128 tokens)' out)" = 2 ] || bad "not two lines"
cp out two; p -f a.txt -f b.txt -c 128 --out d --no-progress; want_rc 0; cmp -s out two || bad "measured again"
p -f a.txt -c 64 --out d; want_fail 'ctx_tok differs'
tr rivers oceans <b.txt >c.txt; mv c.txt b.txt # as long as it was
p -f a.txt -f b.txt -c 128 --out d --no-progress; want_rc 0; sed -n 1p two | cmp -s - <(sed -n 1p out) || bad "a.txt measured again"
[ "$(grep -c 'b.txt' "d/results.jsonl")" = 2 ] || bad "a changed text is not measured anew"
p -f b.txt -c 2; want_usage '-c: '
# What is wrong.
printf 'short' >s.txt; p -f s.txt; want_fail '^critiprefill: s.txt: [0-9]+ tokens are too few, windows of 512 want at least 1024'
p -f s.txt -c 64 --ppl-stride 8; want_fail 'windows of 256 want at least 257'
p -f a.txt -c 64 --ppl-stride 600; want_fail '--ppl-stride: 600 tokens'
p -f a.txt --attn dense,criti; want_usage 'takes one attention'
: >e.txt; p -f e.txt; want_fail 'e.txt: the text is empty'
