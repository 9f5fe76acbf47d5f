# SPDX-License-Identifier: MIT
# Retrieval tasks on the synthetic model: which samples are made, what is kept of them, that they go on where they were.
# The model finds nothing; whether a good model does is no test of this program.
e() { run eval "$@" -m "$M" --no-progress -t 2; }
# The file out is JSON lines, and the Python expression about the list r holds.
want_records() {
    python3 - "$1" <<'PY' || bad "records: $1"
import json, sys
r = [json.loads(line) for line in open("out", encoding="utf-8")]
sys.exit(0 if eval(sys.argv[1]) else 1)
PY
}
fields='{"task", "seed", "sample", "ctx_tok", "prompt_tok", "depth", "attn", "prompt_hash", "output", "refs", "score", "read_tok", "density", "prefill_s", "mass_measured", "peak_recall_measured", "key"}'

# ---- records ----
e passkey -c 1100,1500 --samples 2 --json; want_rc 0; want_no_err
want_records "len(r) == 2 * 2 * 3 and all($fields <= set(x) for x in r)"
want_records 'all(x["prompt_tok"] + 15 <= x["ctx_tok"] and x["prompt_tok"] > x["ctx_tok"] - 150 for x in r)'
want_records 'all(len(x["refs"][0]) == 7 and x["task"] == "passkey" and x["seed"] == 42 for x in r)'
want_records 'all(x["density"] == 1 for x in r if x["attn"] == "dense") and sorted(set(x["attn"] for x in r)) == ["criti", "dense", "paper"]'
want_records 'len(set(x["prompt_hash"] for x in r)) == 4 and len(set((x["ctx_tok"], x["sample"], x["prompt_hash"]) for x in r)) == 4'
want_records '[x["attn"] for x in r[:3]] == ["dense", "criti", "paper"] and [x["attn"] for x in r[3:6]] == ["criti", "paper", "dense"]'
want_records 'all(0 <= x["depth"] <= 100 and 0 <= x["common"] <= 1 for x in r)'
# One sample alone is the same sample; another seed is another.
cp out all
e passkey -c 1500 --samples 2 --json --attn paper; want_rc 0
python3 - <<'PY' || bad "a sample depends on what else is measured"
import json
def hashes(f): return {(x["ctx_tok"], x["sample"], x["attn"]): (x["prompt_hash"], x["output"]) for x in map(json.loads, open(f))}
a, b = hashes("all"), hashes("out")
assert len(b) == 2 and all(a[k] == v for k, v in b.items())
PY
e passkey -c 1500 --samples 1 --json --attn paper -s 7; want_rc 0; want_records 'len(r) == 1 and r[0]["seed"] == 7'
cat out >>all
python3 -c 'import json; h = [json.loads(l)["prompt_hash"] for l in open("all")]; assert len(set(h)) == 5' || bad "--seed changes nothing"

# ---- every task ----
e ruler -c 3000 --samples 1 --attn dense --json; want_rc 0; want_no_err
want_records '[x["task"] for x in r] == ["niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt", "cwe", "fwe"]'
want_records '[len(x["refs"]) for x in r] == [1, 1, 1, 5, 10, 3] and all(2000 < x["prompt_tok"] < 3000 for x in r)'
want_records 'all(len(x["found"]) == len(x["refs"]) for x in r)'
text 9000 | sed 's/\. /.\n/g' >essay.txt
cat >squad.json <<'J'
{"data": [{"paragraphs": [{"context": "It was built in 1911.", "qas": [{"question": "When?", "answers": [{"text": "1911"}]}]},
 {"context": "It is made of slate.", "qas": []}]}]}
J
echo '[{"question": "Where?", "answer": "Mill Lane", "context": [["Shops", ["One stood in Mill Lane."]]]}]' >hotpot.json
e ruler -c 3000 --samples 2 --attn dense --json --tasks all --essay essay.txt --squad squad.json --hotpot hotpot.json; want_rc 0
want_records 'len(set(x["task"] for x in r)) == 13 and len(r) == 24' # the files have one question each
want_err 'qa_1: the file has 1 samples'
for kind in kv lines; do
    e $kind -c 1200 --samples 1 --json --attn dense; want_rc 0; want_no_err
    want_records 'len(r) == 1 and len(r[0]["refs"]) == 1 and r[0]["prompt_tok"] > 900'
done
e lines -c 1200 --samples 1 --json --attn dense --chat; want_rc 0; want_records 'len(r) == 1'
printf '%s\n' '{"input": "Who?", "context": "The innkeeper has it.", "answers": ["the innkeeper"], "dataset": "qasper", "language": "en"}' >lb.jsonl
e longbench -f lb.jsonl -c 600 --json; want_rc 0; want_records 'len(r) == 3 and all(0 <= x["score"] <= 1 for x in r)'
# The same prompt gives the same answer as run.
e longbench -f lb.jsonl -c 600 --json --attn dense; want_rc 0; cp out one
sed 's/has it/had it/' lb.jsonl >other.jsonl # as long
e longbench -f lb.jsonl -c 600 --attn dense --out lb; want_rc 0; cp lb.jsonl was.jsonl; cp other.jsonl lb.jsonl
e longbench -f lb.jsonl -c 600 --attn dense --out lb; want_rc 1; want_err "files differs"; cp was.jsonl lb.jsonl
printf 'Read this text.\n\nThe innkeeper has it.\n\nAnswer this question about the text in a few words: Who?\n\nAnswer:' >prompt.txt
run run -m "$M" -f prompt.txt -n 64 --attn dense --json -t 2 --no-progress; want_rc 0
python3 - <<'PY' || bad "eval and run answer differently"
import json
a, b = json.load(open("one")), json.load(open("out"))
assert a["prompt_tok"] == b["prompt_n"] and a["output"] == b["text"] and len(b["tokens"]) > 5
PY

# ---- look-ups are read, not generated ----
e lookup -c 3500 --samples 1 --json --attn dense,criti; want_rc 0; want_no_err
want_records 'all(len(x["found"]) == 27 == x["n_tail"] + x["n_sparse"] and x["n_tail"] and x["n_sparse"] for x in r)'
want_records 'all(abs(x["score"] * 27 - x["found"].count("1")) < 1e-6 and x["found_tail"] + x["found_sparse"] == x["found"].count("1") for x in r)'
# A long one: read in two calls, so that no logits are computed far behind the questions.
"$TINY_TOOL" write long.gguf n_ctx_train=16384
run eval lookup -m long.gguf -c 10000 --samples 1 --question middle --json -ub 128 --no-progress -t 2; want_rc 0; want_no_err
want_records 'len(r) == 3 and all(x["n_tail"] == 0 and x["n_sparse"] == 32 and x["prompt_tok"] > 9500 for x in r)'
text 20000 >essay.txt
e lookup -c 3500 --samples 1 --json --attn dense --essay essay.txt; want_rc 0; want_records 'len(r) == 1'

# ---- tables: an attention that plans everything differs from dense in nothing ----
e needle -c 1400 --depths 0,50,100 --samples 2 --attn dense,criti:dense_until=100000; want_rc 0; want_no_err
want_out '^\| needle +\| +1400 \| dense +\| +6 \|'
want_out '^\| needle +\| +1400 \| criti:dense_until=100000 +\| +6 \|.*\| +0\.0 \| +0\.0 to 0\.0 \| +0 of 0 \| +1\.000 \|'
want_out '^\| +50 % \|'
e lookup -c 3500 --samples 2 --attn dense,criti:dense_until=100000; want_rc 0
want_out '^\| lookup .*criti:.*\| +0\.0 \| +0\.0 to 0\.0 \| +([0-9]+) of \1 \|'
e ruler -c 3000 --samples 1 --tasks vt,fwe; want_rc 0; want_out '^\| vt '; want_out '^\| fwe '; want_out '^\| mean +\| +3000 \| paper +\| +2 \|'

# ---- going on ----
e kv -c 1000 --samples 1 --attn dense --out dir; want_rc 0
cp dir/results.jsonl first
e kv -c 1000 --samples 2 --attn dense,paper --out dir --json; want_rc 0
head -n "$(wc -l <first)" dir/results.jsonl | cmp -s - first || bad "what was measured is written anew"
[ "$(grep -c '"task"' dir/results.jsonl)" -eq 4 ] || bad "not the four records"
e kv -c 1000 --samples 1 --attn dense --out dir --chat; want_rc 1; want_err_line
e needle -c 1400 --depths 0,100 --samples 1 --attn dense,criti:theta=0.5 --out pics --html rep.html; want_rc 0
for f in pics/needle-dense.png pics/needle-criti-theta-0.5.png; do
    [ "$(head -c 4 $f | tail -c 3)" = PNG ] || bad "$f is no PNG"
done
grep -q '<img' rep.html || bad "no picture in the report"

# ---- several questions a text: it is read once, and nothing else changes by that ----
sparse=criti:theta=100:lookup=0:dense_until=0 # answers otherwise than dense
q() { e kv -c 2500 --samples 6 --questions 3 --attn dense,$sparse,paper --json --out "$@"; want_rc 0; want_no_err; }
q once; cp out all; want_records 'len(r) == 18 and len(set(x["prompt_hash"] for x in r)) == 6'
want_records 'all((x["read_tok"] < 1100) == (x["sample"] % 3 > 0) and x["read_tok"] <= x["prompt_tok"] for x in r)'
want_records 'all(x["read_tok"] < 400 for x in r if x["attn"] == "dense" and x["sample"] % 3)'
for i in 1 5; do # one question anew, with nothing read that it could go on behind
    mkdir whole$i
    grep -v "\"sample\":$i," once/results.jsonl >whole$i/results.jsonl
    q whole$i
    python3 - $i <<'PY' || bad "an answer depends on what was read before"
import json, sys
def records(f): return {x["key"]: x for x in map(json.loads, open(f)) if x["sample"] == int(sys.argv[1])}
a, b = records("all"), records("out")
assert len(a) == 3 and all(a[k][f] == b[k][f] for k in a for f in ("prompt_hash", "output", "score", "refs", "depth"))
assert len(set(x["output"] for x in a.values())) > 1 and all(x["read_tok"] == x["prompt_tok"] for x in b.values())
PY
done
# Intervals draw texts: one answer won and one lost in the same text leave nothing to vary.
made() { e kv -c 1000 --samples 4 --questions 2 --attn dense,paper --out made; want_rc 0; }
made; want_out '^Intervals: over texts, where samples share one'
python3 - <<'PY'
import json
lines = [json.loads(line) for line in open("made/results.jsonl")]
for x in lines:
    if "sample" in x: x["score"] = float((x["sample"], x["attn"]) in ((0, "dense"), (1, "paper")))
open("made/results.jsonl", "w").writelines(json.dumps(x) + "\n" for x in lines)
PY
made; want_out '^\| kv .* paper +\| +4 \| +25\.0 \| +0\.0 \| +0\.0 to 0\.0 '
e kv -c 1000 --samples 2 --attn dense --out once; want_rc 1; want_err_line

# ---- what cannot be ----
e kv --samples 5 --questions 2; want_usage 'samples 5 are not whole texts'
e needle --questions 2; want_usage 'questions'
e ruler --tasks niah_single_2; want_usage 'niah_single_2 needs prose: --essay FILE'
e ruler --tasks all; want_usage 'needs .*: --'
e ruler --tasks vt,qa_1; want_usage 'qa_1 needs SQuAD: --squad FILE'
e ruler --tasks qa_2; want_usage 'qa_2 needs HotpotQA: --hotpot FILE'
e ruler --tasks vt,nonsense; want_usage "'nonsense' is none of"
e ruler --tasks vt,vt; want_usage 'vt is named twice'
e kv -c 1000,1000; want_usage '1000 is named twice'
e kv --attn dense,dense; want_usage 'dense is named twice'
e kv --question middle; want_usage 'middle is for lookup only'
e lookup --question first; want_usage 'last or in the middle'
e lookup --chat; want_usage 'lookup is no conversation'
e kv --depths 50; want_usage 'depths'
e longbench; want_usage 'nothing to read'
e longbench lb.jsonl -c 600 --json --attn dense; want_rc 0; want_records 'len(r) == 1'
e kv -c 100; want_rc 1; want_err 'kv: 100 tokens are too few'
e kv -c 9000; want_rc 1; want_err '9000 tokens are more than the 4096'
echo '{"context": 1}' >bad.jsonl; e longbench -f bad.jsonl; want_fail 'bad.jsonl: line 1: no context and answers'
echo '{' >bad.jsonl; e longbench -f bad.jsonl; want_fail 'bad.jsonl: line 1: '
e ruler --tasks qa_1 --squad bad.jsonl; want_fail 'bad.jsonl: line '
echo '{}' >bad.json; e ruler --tasks qa_2 --hotpot bad.json; want_fail 'bad.json: not the JSON expected'
: >empty; e ruler --tasks niah_single_2 --essay empty; want_fail 'empty: the text is empty'
e ruler --essay nowhere; want_fail 'nowhere'
