# SPDX-License-Identifier: MIT
# SubGen from the command line: listed as experimental, judged before a file is read, and decoding end to end.
run policies; want_rc 0; want_out '^--decode subgen: experimental'; want_out '^ +mode=kcenter .*kcenter\|stream'
run policies --json; want_rc 0
want_rows '[r["exact"] for r in rows if r["name"] == "subgen"] == [False]'
r() { run run -m "$M" -f a.txt -n 12 --json "$@"; }
text 1500 >a.txt
for v in mode=centers k=0 k=1.5 window=31 m=1 t=0 s=0 delta=-1 seed=-1 correct=2 k=1,k=2 depth=1; do
    r --decode "subgen:$v"; want_usage "subgen.* ${v%%=*}|'${v}'"
done
r; want_rc 0; cp out full
same='j["tokens"] == json.load(open("full"))["tokens"]'
r --decode subgen; want_rc 0; want_json "$same"                      # what the defaults keep covers the prompt
r --decode subgen:mode=stream,window=100000; want_rc 0; want_json "$same"
for p in k=300,window=64 k=300,window=64,correct=1 mode=stream,m=32,t=2,s=200,window=64; do
    r --decode "subgen:$p" -t 1; want_rc 0; want_no_err; want_json 'j["predicted_n"] > 0'; cp out one
    r --decode "subgen:$p" -t 3; want_rc 0; want_json 'j["tokens"] == json.load(open("one"))["tokens"]'
done
# Bytes as the traffic model expects them; the exact keys are among what is kept.
run bench -m "$M" -f a.txt -c 1024 -n 8 --decode subgen:k=128,window=64,subgen:mode=stream,m=32,t=2,s=100,window=64 -o json
want_rc 0
want_json '[r["decode"].split(":")[0] for r in j["results"]] == ["full", "subgen", "subgen"]'
want_json 'all(r["moved_of_full"] < 1.1 * r["expected"] + .04 and 0 < r["mass"] < 1 for r in j["results"][1:])'
