# SPDX-License-Identifier: MIT
# bench, tokenize, info.
text 3000 >a.txt
run bench -m "$M" -f a.txt -c 96,200 -n 2 -r 2; want_rc 0; want_out '^\| tokens \| attention'
[ "$(wc -l <out)" -eq 6 ] || bad "not a table of two lengths and two modes"
run bench -m "$M" -f a.txt -c 96,200 -n 2 -o csv; want_rc 0
[ "$(head -n 1 out)" = ctx_tok,attn,prefill_s,tok_per_s,estimate_s,attend_s,gemm_s,density,decode_tok_per_s,kv_bytes,peak_rss_bytes ] ||
    bad "not the CSV columns of the contract"
awk -F, 'NF != 11 { exit 1 }' out || bad "a CSV row has not 11 fields"
[ "$(cut -d, -f 1,2 out | tail -n +2 | tr '\n' ' ')" = '96,dense 96,criti 200,dense 200,criti ' ] || bad "not the CSV rows asked for"
run bench -m "$M" -f a.txt -c 96 -n 0 -r 4 -o json; want_rc 0
want_json 'all(abs(r["tok_per_s"] * r["prefill_s"] / 96 - 1) < 1e-6 for r in j["results"])'
run bench -m "$M" -f a.txt -c 96 -n 0 -o csv --attn criti; want_rc 0; want_out '^96,criti,.*,,[0-9]+,[0-9]+$'
run bench -m "$M" -f a.txt -c 96 -n 0 -o json --attn criti,dense,paper; want_rc 0
want_json '[r["attn"] for r in j["results"]] == ["dense", "criti", "paper"] and j["results"][0]["decode_tok_per_s"] is None'
want_json 'all(0 <= r["top1"] <= 1 and r["kl_mean"] >= 0 for r in j["results"][1:])'
run bench -m "$M" -f a.txt -c 1900 -n 0 -o json --attn careful,fast,dense,criti --quality fast --force; want_rc 0
want_json '[r["attn"] for r in j["results"]] == ["dense", "careful", "fast", "criti"]'
want_json 'j["results"][2]["density"] < j["results"][1]["density"] <= 1 and j["results"][2]["density"] == j["results"][3]["density"]'
printf 'short' >short.txt
run bench -m "$M" -f short.txt -c 96 -n 0 -o csv; want_rc 0; want_err 'repeated to fill 96'
run bench -m "$M" -f a.txt -c 64,128 -n 0 --plot speed.svg; want_rc 0
python3 -c 'import xml.dom.minidom as m; assert m.parse("speed.svg").documentElement.tagName == "svg"' || bad "speed.svg is not SVG"
run bench -m "$M" -c 64 -n 0 -o csv; want_rc 0; want_err "critiprefill's own documents"

run tokenize -m "$M" -p 'Hello, world' --ids; want_rc 0; want_no_err; want_out '^[0-9]+( [0-9]+)*$'
[ "$(wc -l <out)" -eq 1 ] || bad "not one line"
tr ' ' '\n' <out >ids
run tokenize -m "$M" -p 'Hello, world'; want_rc 0; awk '{ print $1 }' out | cmp -s - ids || bad "the two forms differ"
want_out '^ *[0-9]+  ".*"$'
printf 'Hello, world' >hello.txt
run tokenize -m "$M" -f hello.txt --no-bos --no-parse-special --ids; want_rc 0; tr ' ' '\n' <out | cmp -s - ids || bad "-f and -p differ"
printf '\377\0\n' >bytes.txt
run tokenize -m "$M" -f bytes.txt; want_rc 0; iconv -f UTF-8 -t UTF-8 out >/dev/null || bad "not UTF-8"
: >empty
run tokenize -m "$M" -f empty --ids; want_rc 0; [ "$(cat out)" = '' ] || bad "an empty file has tokens"

run info -m "$M"; want_rc 0; want_no_err; want_out '^architecture '; want_out '^tokenizer '; want_out '^  in all '
run info -m "$M" -c 1000 --attn paper --attn-opt alpha=0.5 --json; want_rc 0; want_no_err
want_json 'j["memory"]["n_ctx"] == 1000 and j["attn"]["mode"] == "paper" and j["attn"]["alpha"] == 0.5 and "theta" not in j["attn"]'
want_json 'j["n_group"] * j["n_kv_head"] == j["n_head"] and sum(t["n"] for t in j["types"].values()) == j["n_tensor"]'
want_json 'j["memory"]["total_bytes"] >= j["memory"]["kv_bytes"] > 0'
# A table of embeddings that is not the output, too, is in memory by the pages that a text's rows lie in.
want_json 'j["memory"]["weights_bytes"] == __import__("os").path.getsize("'"$M"'")'
run info -m "$M" -c 1 --json; want_rc 0
want_json '0 < j["memory"]["weights_bytes"] < __import__("os").path.getsize("'"$M"'")'
# What policies keep is told, too.
run info -m "$M" --decode squeezed --json; want_rc 0; want_json 'j["memory"]["policy_bytes"] > j["memory"]["kv_bytes"] / 2'
run info -m "$M" --kv think; want_rc 0; want_out '^  policy +[0-9]'
"$tool" write mute.gguf tok=none >/dev/null || bad "tiny"
run info -m mute.gguf; want_rc 0; want_out '^tokenizer +none that is known: .*tokenizer'
run info -m "$M" --decode nope; want_usage "'nope' is none of"
run info -m "$M" --attn cascade --decode recycled; want_usage 'decodes from its own cache'
run info -m "$M" --tensors; want_rc 0; want_out '^token_embd.weight +'
run info -m "$M" --tensors --json; want_rc 0; want_json 'len(j["tensors"]) == j["n_tensor"]'
