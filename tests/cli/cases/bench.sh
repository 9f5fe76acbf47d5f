# SPDX-License-Identifier: MIT
# The instruments of bench: peaks, kernels, shapes, tuning, and a peer.  Structure and units, never how fast.
b() { run bench "$@"; }
rows() { tail -n +"${1:-2}" out; }

# ---- peaks ----
b --peak --quick -t 2; want_rc 0; want_no_err; want_out '^\| group +\| what +\| code'
want_out '^\| read +\| memory .* GB/s'; want_out 'not here'
b --peak --quick -t 2 --pin -o csv; want_rc 0; want_no_err
[ "$(head -n 1 out)" = group,name,isa,shape,threads,at_end,seconds,flop,bytes,rate,unit,share,efficiency ] || bad "not the CSV columns"
rows | awk -F, 'NF != 13 { exit 1 } $1 != "peak" && $1 != "read" { exit 1 } $10 != "" && !($10 > 0) { exit 1 }' || bad "a CSV row is wrong"
b --peak --quick -t 1 -o json; want_rc 0; want_no_err
want_json 'all(r["threads"] == 1 and r["group"] in ("peak", "read") for r in j["rows"]) and j["cpu"] and j["level"]'
want_json 'all((r["rate"] is None) == (not r["here"]) and (r["seconds"] is None) == (not r["here"]) for r in j["rows"])'
want_json 'set(r["unit"] for r in j["rows"]) == {"FLOP/s", "B/s"}'
b --peak --quick --cpu c -t 1 -o json; want_rc 0; want_json 'not any(r["here"] for r in j["rows"] if r["group"] == "peak")'

# ---- kernels ----
b --kernels --quick -o json --plot roof.svg; want_rc 0
want_json 'sum(r["group"] == "gemv" for r in j["rows"]) == 15 and sum(r["group"] == "gemm" for r in j["rows"]) == 30'
want_json '{"peak", "read", "gemm", "gemv", "attend", "decode", "estimate", "layer"} >= set(r["group"] for r in j["rows"])'
want_json 'all(r["here"] and r["seconds"] > 0 and r["rate"] > 0 for r in j["rows"])'
want_json 'all((r["efficiency"] is not None) == ("density" in r["shape"]) for r in j["rows"])'
want_json 'all(r["at_end"] for r in j["rows"][-1:]) and not j["rows"][0]["at_end"]'
want_err '^peaks from first to last: .*memory'
python3 - <<'PY' || bad "roof.svg is not a roofline"
import xml.dom.minidom as m
d = m.parse("roof.svg").documentElement
assert d.tagName == "svg"
assert sum(p.getAttribute("class") == "roof" for p in d.getElementsByTagName("path")) >= 1
assert len(d.getElementsByTagName("title")) >= 15 + 30
assert "nan" not in d.toxml() and "inf" not in d.toxml().replace("info", "")
PY
b --kernels --quick --cpu c -o csv; want_rc 0
rows | awk -F, '$1 != "read" && $3 != "c" { exit 1 }' || bad "--cpu c measured other code"
rows | grep -c '^gemm,' | grep -qx 30 || bad "not two rows of GEMM a type"
b --kernels --quick; want_rc 0; want_out '^\| gemm +\| Q4_K .* rows, .* GFLOP/s'; want_out '^\| attend .*density.*x \|$'

# ---- shapes ----
b --shape list; want_rc 0; want_no_err; want_out '^llama3-8b +32 layers, 4096 wide'
for s in yi-9b llama3.2-1b qwen2.5-0.5b qwen2.5-1.5b qwen2.5-7b qwen3-8b smollm2-135m; do want_out "^$s "; done
b --shape smollm2-135m --quick -c 1500,3000 -o csv; want_rc 0; want_err 'density .*SPEED.md'
head -n 1 out | grep -q '^shape,type,ctx_tok,attn,threads,density,' || bad "not the CSV columns"
[ "$(rows | cut -d, -f 1-4 | tr '\n' ' ')" = 'smollm2-135m,Q5_0,1500,dense smollm2-135m,Q5_0,1500,criti smollm2-135m,Q5_0,3000,dense smollm2-135m,Q5_0,3000,criti ' ] ||
    bad "not the rows asked for"
b --shape smollm2-135m --quick -c 8192 -o json --density 0.4 --type Q4_0 -t 2; want_rc 0
want_json 'all(r["type"] == "Q4_0" and r["threads"] == 2 and 0 < r["measured_share"] <= 1 for r in j["results"])'
want_json 'j["results"][0]["density"] == 1 and abs(j["results"][1]["density"] - .4) < .02'
want_json 'all(abs(r["products_s"] + r["attend_s"] + r["estimate_s"] + r["rest_s"] + r["embed_s"] + r["vocab_s"] - r["prefill_s"]) < 1e-6 * r["prefill_s"] + 1e-9 for r in j["results"])'
want_json 'all(abs(r["tok_per_s"] * r["prefill_s"] / 8192 - 1) < 1e-6 for r in j["results"]) and j["results"][0]["speed_up"] == 1'
want_err 'attention measured on [0-9]+ of a layer.s [0-9]+ tiles and heads'
b --shape smollm2-135m --quick -c 2048 --attn dense; want_rc 0; want_out '^\| smollm2-135m .*% \|$'; [ "$(wc -l <out)" -eq 3 ] || bad "not one row"
b --shape smollm2-135m --quick -c 2048 --attn criti -o json --density .9; want_rc 0; want_json 'j["results"][0]["speed_up"] is None'

# ---- tune ----
b --tune --quick -m "$M"; want_rc 0; want_no_err; want_out '^Best chunk .* -ub [0-9]+$'
want_out '^\| +64 \|( +[0-9.]+ \|){7}$'; want_out '^\| +128 \|( +[0-9.]+ \|){7}$'
want_out '^\{[0-9.]+f, [0-9.]+f, [0-9.]+f, [0-9]+\}$'
b --tune --quick --shape smollm2-135m -o json -t 2; want_rc 0
want_json '[c["d_head"] for c in j["costs"]] == [64, 128] and all(v >= 0 for c in j["costs"] for v in c.values())'
want_json 'j["best_n_batch"] in [c["n_batch"] for c in j["chunks"]] and j["type"] == "Q5_0" and j["threads"] == 2'
b --tune --quick --shape smollm2-135m -o csv; want_rc 0; rows | awk -F, 'NF != 5 { exit 1 }' || bad "a CSV row has not 5 fields"

# ---- against a peer ----
text 3000 >a.txt
mkdir -p peer/bin
cat >peer/bin/llama-bench <<'PEER'
#!/bin/sh
echo "$@" >>"${0%/bin/*}/calls"
echo 'load_backend: noise' >&2
case " $* " in
*" -p 0 "*) echo '[ { "avg_ts": 8.0 } ]' ;;
*) echo '[ { "avg_ts": 50.5 } ]' ;;
esac
PEER
chmod +x peer/bin/llama-bench
b --vs peer -m "$M" -f a.txt -c 64,96 -t 1 -r 2 -n 3 -o json; want_rc 0
want_json '[(r["ctx_tok"], r["what"], r["attn"]) for r in j["results"]] == [(c, w, a) for c in (64, 96) for w in ("prefill", "decode") for a in ("dense", "criti")]'
want_json 'all(r["peer_samples"] == [50.5 if r["what"] == "prefill" else 8.0] * 2 and len(r["samples"]) == 2 for r in j["results"])'
want_json 'all(abs(r["ratio"] - r["tok_per_s"] / r["peer_tok_per_s"]) < 1e-6 * r["ratio"] for r in j["results"]) and j["threads"] == 1'
cat >want <<WANT
-m $M -t 1 -fa 1 -r 1 -o json -p 64 -n 0
-m $M -t 1 -fa 1 -r 1 -o json -p 0 -n 3 -d 64
-m $M -t 1 -fa 1 -r 1 -o json -p 64 -n 0
-m $M -t 1 -fa 1 -r 1 -o json -p 0 -n 3 -d 64
WANT
head -n 4 peer/calls | cmp -s - want || bad "not the calls expected: $(cat peer/calls)"
b --vs peer/bin -m "$M" -f a.txt -c 64 -t 1 --attn dense; want_rc 0; want_no_err; want_out '^\| +64 \| prefill +\| dense +\| +50\.5 \|'
[ "$(wc -l <out)" -eq 3 ] || bad "decode rows without -n"
b --vs peer -m "$M" -f a.txt -c 64 -t 1 --attn dense -r 25; want_rc 0; want_out '\|( 50\.5){25} \|'
b --vs peer -m "$M" -f a.txt -c 64 -t 1 --attn dense -o csv; want_rc 0
[ "$(head -n 1 out)" = ctx_tok,what,attn,peer_tok_per_s,tok_per_s,ratio,peer_samples,samples ] || bad "not the CSV columns"
b -m "$M" -f a.txt -c 600 -n 0 -t 1 -o csv --attn cascade:C=64,stride=32,fast; want_rc 0
python3 - <<'PY' || bad "rows of a CSV are not even"
import csv
rows = list(csv.reader(open("out", encoding="utf-8")))
assert [len(r) for r in rows] == [11] * 3 and [r[1] for r in rows[1:]] == ["cascade:C=64,stride=32", "fast"], rows
PY
v() { last="bench --vs, $1"; run bench --vs peer -m "$M" -f a.txt -c 64 -t 1 -o json; }
# A failing peer is one line, whatever it printed.
printf '#!/bin/sh\necho "[ { \\"avg_ts\\": 1 } ]"\necho oops >&2\nexit 3\n' >peer/bin/llama-bench; v fails; want_fail 'llama-bench: failed with exit code 3'
printf '#!/bin/sh\necho tokens per second: many\n' >peer/bin/llama-bench; v prose; want_fail 'llama-bench: its output is not JSON'
printf '#!/bin/sh\necho "[]"\n' >peer/bin/llama-bench; v empty; want_fail 'llama-bench: its JSON holds no rate'
printf '#!/bin/sh\nkill -9 $$\n' >peer/bin/llama-bench; v dies; want_fail 'llama-bench: ended by signal 9'
printf 'neither script nor program' >peer/bin/llama-bench; v junk; want_fail 'llama-bench: Exec format error'
chmod -x peer/bin/llama-bench; v 'not executable'; want_fail '^critiprefill: peer: no program llama-bench'
b --vs nowhere -m "$M" -c 64; want_fail '^critiprefill: nowhere: no program llama-bench'
b --vs peer -m missing.gguf -c 64; want_rc 1; want_no_out

# Every mode has a line of its own in the picture.
b -m "$M" -f a.txt -c 128,256 -n 0 -t 1 --attn dense,criti,paper,fast,balanced,careful,cascade,tokenselect --plot p.svg; want_rc 0
[ "$(grep -o 'polyline class="line" stroke="#[0-9a-f]*"' p.svg | sort -u | wc -l)" = 8 ] || bad "not eight colours"

# ---- what does not go together ----
b --peak --kernels; want_usage 'exclude each other'
b --peak --shape llama3-8b; want_usage 'exclude each other'
b --vs peer; want_usage 'no model given'
b --tune; want_usage 'no model and no shape given'
b --tune -m "$M" --shape llama3-8b; want_usage 'a model or a shape, not both'
b --tune --shape llama3-8b,yi-9b; want_usage 'takes one shape'
b --shape llama9; want_usage "'llama9' is not one of smollm2-135m, .*yi-9b"
b --shape smollm2-135m,; want_usage "--shape: '' is not one of"
b --shape smollm2-135m --attn paper; want_usage '--attn takes dense and criti'
b --shape smollm2-135m -c 2000000; want_usage '-c goes up to'
b --shape smollm2-135m --quick --type Q4_K --density .5; want_fail 'Q4_K comes in blocks of 256'
b --shape smollm2-135m --quick --type Q9 --density .5; want_fail "unknown tensor type 'Q9'"
b -m "$M" --density .5; want_usage 'need --shape'
b --peak --plot x.svg; want_usage '--plot goes with'
b --kernels --quick --plot nowhere/x.svg; want_fail 'nowhere/x.svg'
b --shape smollm2-135m --density 2; want_usage '--density: '
