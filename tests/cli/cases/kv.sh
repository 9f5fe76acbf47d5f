# SPDX-License-Identifier: MIT
# How the prompt's keys are kept: --kv.
text 2000 >a.txt
r() { run run -m "$M" -f a.txt --no-progress "$@"; }
r -n 12 --json; want_rc 0; cp out plain
want_json '"kv" not in j and "key_channels" not in j'
r -n 12 --kv full --json; want_rc 0; want_json 'j["tokens"] == json.load(open("plain"))["tokens"] and j["kv"] == "full"'
# Nothing dropped is nothing changed; the share that is dropped is told, and the memory is less.
r -n 12 --kv think:lambda=0,from=0 --json; want_rc 0; want_no_err
want_json 'j["tokens"] == json.load(open("plain"))["tokens"] and j["kv_bytes"] == json.load(open("plain"))["kv_bytes"]'
r -n 12 --kv think:lambda=0.5,from=0 --json; want_rc 0; want_no_err; cp out half
want_json 'j["kv"] == "think:lambda=0.5,from=0" and 0 < j["key_channels"] and j["kv_bytes"] < json.load(open("plain"))["kv_bytes"]'
r -n 12 --kv think:lambda=0.5,from=0 --decode recycled:K=64,S=4 -t 1 --json; want_rc 0; want_no_err
r -n 12 --kv think:lambda=0.5,from=0 -t 3 --json; want_rc 0; want_json 'j["tokens"] == json.load(open("half"))["tokens"]'
r -n 6 --kv think:from=0 --n-samples 3 --temp 1; want_rc 0; want_out '^--- answer 3 of 3'
# Tables of ways of decoding over it, against full attention over full keys.
b() { run bench -m "$M" -c 300 -n 6 --no-progress "$@"; }
b --decode full,recycled:K=64,S=4 --kv think:lambda=0.5,from=0 -o json; want_rc 0
want_json '[(r["decode"], r["kv"]) for r in j["results"]] == [("full", "full"), ("full", "think:lambda=0.5,from=0"), ("recycled:K=64,S=4", "think:lambda=0.5,from=0")]'
want_json 'j["results"][0]["moved_of_full"] > j["results"][1]["moved_of_full"] > j["results"][2]["moved_of_full"] > 0'
want_json 'j["results"][1]["expected"] < 1 and j["results"][1]["kl_mean"] > 0'
b --decode full --kv think:lambda=0,from=0 -o json; want_rc 0
want_json 'len(j["results"]) == 2 and j["results"][1]["top1"] == 1 and j["results"][1]["kl_mean"] < 1e-6'
b --decode full --kv think:from=0; want_rc 0; want_out '^\|  *300 \| full, think:from=0 '
b --decode full --kv think:from=0 -o csv; want_rc 0; want_out '^300,"full, think:from=0",'
# The list.
run policies; want_rc 0; want_out '^--kv think: keys of the prompt'; want_out 'lambda=0.4 '
run policies --json; want_rc 0; want_rows '[r["name"] for r in rows if r["place"] == "kv"] == ["full", "think"]'
# Ways of decoding that read full keys do not go with narrow ones.
r -n 4 --decode subgen --kv think; want_fail '--decode subgen reads keys at full width: it does not go with --kv think'
