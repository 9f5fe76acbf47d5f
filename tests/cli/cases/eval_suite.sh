# SPDX-License-Identifier: MIT
# The suite on the synthetic model: what it leaves behind, that a killed one comes to the same end, that full attention
# scores the same by whatever name, and what configurations are refused.
s() { run eval suite "$@" --no-progress -t 2; }
text 30000 >text.txt
printf '%s\n' '{"input": "Who?", "context": "The innkeeper has it.", "answers": ["the innkeeper"], "dataset": "qasper", "language": "en"}' >lb.jsonl
cat >suite.json <<'J'
{"comment": "x", "model": "MODEL", "seed": 7, "policies": [
  {"name": "recycled", "attn": "dense", "ratios": [2, 8], "decode": "recycled:K={N/r},S=8"},
  {"name": "dense", "attn": "dense"},
  {"name": "criti.{r}", "attn": "criti:theta=0.5", "attn_opt": "dense_until={N/r}", "ratio": 4}],
 "tasks": [
  {"task": "passkey", "ctx": 1100, "digits": 64, "samples": 2},
  {"task": "needle", "ctx": [900, 1100], "depths": [0, 100], "samples": 1},
  {"task": "chain", "ctx": 3500, "samples": 1, "question": "first"},
  {"task": "copy", "ctx": 900, "samples": 1},
  {"task": "kv", "ctx": 900, "samples": 1},
  {"task": "ppl", "file": "text.txt", "ctx": 600, "tokens": 40, "samples": 2},
  {"task": "longbench", "file": "lb.jsonl", "ctx": 600}]}
J
sed -i "s|MODEL|$M|" suite.json
# Everything but times: of the records, and of what they came to.
same() { # DIR DIR
    python3 - "$1" "$2" <<'PY' || bad "$1 and $2 differ"
import json, os, sys
times = {"at", "ttft_ms", "ms_per_tok", "attend_ms_per_tok", "prefill_s", "attend_s", "estimate_s", "first_record", "last_record"}
def strip(x):
    if isinstance(x, dict): return {k: strip(v) for k, v in x.items() if k not in times}
    return [strip(v) for v in x] if isinstance(x, list) else x
def load(d):
    out = {}
    for root, _, files in os.walk(d):
        for f in files:
            p = os.path.join(root, f)
            if f.endswith(".jsonl"): v = [strip(json.loads(l)) for l in open(p)]
            elif f.endswith(".json"): v = strip(json.load(open(p)))
            else: continue
            out[os.path.relpath(p, d)] = sorted(map(json.dumps, v)) if f == "results.jsonl" else v
    return out
a, b = load(sys.argv[1]), load(sys.argv[2])
assert a.keys() == b.keys() and len(a) == 4 * 7 * 4 + 1, (len(a), len(b))
for k in a: assert a[k] == b[k], k
PY
}

# ---- what it leaves behind ----
s suite.json --out whole; want_rc 0
want_err 'lb.jsonl: the file has 1 samples'
want_out '^# Suite: tiny model.gguf, '
want_out '^\| policy +\| passkey64 \| needle \| chain-first \| +copy \| +kv \| +ppl \| longbench \| moved x \|'
want_out '^## needle'
python3 - <<'PY' || bad "the folders of the runs are not as they should be"
import json, os, re
rows = [json.loads(l) for l in open("whole/results.jsonl")][1:]
assert len(rows) == 4 * (2 + 4 + 1 + 1 + 1 + 2 + 1)
need = {"task", "policy", "seed", "sample", "ctx_tok", "ratio", "attn", "decode", "kv", "prompt_tok", "prompt_hash", "ttft_ms", "ms_per_tok",
        "decode_tok", "moved_bytes", "full_bytes", "kv_bytes", "policy_bytes", "peak_kv_bytes", "density", "at", "key"}
assert all(need <= set(r) and r["seed"] == 7 for r in rows)
assert all(r["peak_kv_bytes"] == r["kv_bytes"] + r["policy_bytes"] and r["ttft_ms"] > 0 for r in rows)
assert {r["policy"] for r in rows} == {"dense", "recycled-2x", "recycled-8x", "criti.4"}
decode = {(r["policy"], r["ctx_tok"]): r["decode"] for r in rows}
assert decode["recycled-8x", 1100] == "recycled:K=137,S=8" and decode["recycled-2x", 900] == "recycled:K=450,S=8"
assert {r["attn"] for r in rows if r["policy"] == "criti.4" and r["ctx_tok"] == 600} == {"criti:theta=0.5 dense_until=150"}
# measured, not nominal: the copy is read, and now and then everything
for r in rows:
    share = r["moved_bytes"] / r["full_bytes"] if r["full_bytes"] else None
    if share and r["ctx_tok"] > 800 and r["policy"] in ("dense", "criti.4"): assert .95 < share < 1.1 and r["policy_bytes"] == 0, r
    if share and r["ctx_tok"] > 800 and r["policy"] == "recycled-8x" and r["decode_tok"] > 30: assert .15 < share < .6 and r["policy_bytes"] > 0, r
# every policy has the same prompts
for k in {(r["task"], r["ctx_tok"], r["depth"], r["sample"]) for r in rows}:
    assert len({r["prompt_hash"] for r in rows if (r["task"], r["ctx_tok"], r["depth"], r["sample"]) == k}) == 1
ppl = [r for r in rows if r["task"] == "ppl"]
assert all(r["positions"] == 40 == r["decode_tok"] and r["prompt_tok"] == 560 and r["ppl"] > 1 for r in ppl)
assert all(len(r["refs"]) == 8 and r["refs"] and "output" in r for r in rows if r["task"] == "chain-first")
assert all(len(r["refs"][0]) == 64 and 0 <= r["common"] <= 1 for r in rows if r["task"] == "passkey64")
names = sorted(os.listdir("whole"))
assert len(names) == 4 * 7 + 2 and "recycled-2x+needle" in names and "criti.4+ppl" in names
for d in names:
    if not os.path.isdir("whole/" + d): continue
    assert sorted(os.listdir("whole/" + d)) == ["log.txt", "output_config.json", "policy_config.json", "raw_results.jsonl", "task_config.json"]
    raw = [json.loads(l) for l in open(f"whole/{d}/raw_results.jsonl")]
    out = json.load(open(f"whole/{d}/output_config.json"))
    m, p = out["management"], out["processed_results"]
    assert m["complete"] is True and m["records"] == len(raw) == len(open(f"whole/{d}/log.txt").readlines()) and m["full"] == "dense"
    assert all(f"{r['policy']}+{r['task']}" == d for r in raw)
    assert m["version"] and m["model"] == "tiny model.gguf" and m["cpu"] and m["threads"] == 2 and re.match(r"20\d\d-.*Z$", m["first_record"])
    assert p["overall"]["n"] == len(raw) and len(p["by_ctx"]) == len(out["setups"])
    assert json.load(open(f"whole/{d}/policy_config.json"))["name"] == d.split("+")[0]
    assert json.load(open(f"whole/{d}/task_config.json"))["task"] == d.split("+")[1].replace("64", "").replace("-first", "")
full = json.load(open("whole/dense+needle/output_config.json"))["processed_results"]
assert len(full["by_ctx"]) == 2 and [x["depth"] for x in full["by_depth"]] == [0, 100] and full["overall"]["difference"] == 0
PY
# ---- the report: one file, full attention first, intervals, maps, curves ----
python3 - <<'PY' || bad "the report is not as it should be"
import re
h = open("whole/report.html", encoding="utf-8").read()
assert not re.search(r'(src|href)="(?!data:)', h) and "<script" not in h and "@import" not in h
for body in re.findall(r"<tbody>(.*?)</tbody>", h, re.S):
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
    assert ">dense</td>" in rows[0] and len(rows) % 4 == 0
assert h.count("<h2>") == 7 and h.count("<tbody>") == 8
assert h.count("data:image/svg+xml") == 8 and h.count("data:image/png") == 4 # a curve a task and length; needle's map of each policy
assert "95 % interval" in h and "s to first" in h and "ms a token" in h and "peak KV MB" in h and "moved x" in h
PY
# ---- going on: nothing is measured again; a killed suite ends as a whole one ----
cp -r whole again
s suite.json --out again; want_rc 0; cmp -s whole/results.jsonl again/results.jsonl || bad "a finished suite was measured again"
cmp -s whole/report.html again/report.html || bad "the same records give another report"
"$P" eval suite suite.json --out killed --no-progress -t 2 >/dev/null 2>&1 </dev/null &
pid=$!
for _ in $(seq 600); do [ "$(cat killed/results.jsonl 2>/dev/null | wc -l)" -gt 12 ] && break; sleep .05; done
kill -9 $pid; wait $pid 2>/dev/null
n=$(wc -l <killed/results.jsonl)
[ "$n" -gt 12 ] && [ "$n" -lt 49 ] || bad "not killed half-way: $n lines"
printf '{"task": "cut sho' >>killed/results.jsonl # what a kill may leave
"$P" eval suite suite.json --out killed --no-progress -t 2 >/dev/null 2>&1 </dev/null &
pid=$!
for _ in $(seq 600); do [ "$(wc -l <killed/results.jsonl)" -gt $((n + 6)) ] && break; sleep .05; done
kill -INT $pid; wait $pid; rc=$?
[ "$rc" -eq 130 ] || [ "$rc" -eq 0 ] || bad "stopped by Ctrl-C: exit code $rc"
s suite.json --out killed; want_rc 0
same whole killed
# A policy more: the others' records stay; a changed one is measured anew by itself.
sed 's/\[2, 8\]/[2, 4, 8]/; s/theta=0.5/theta=0.6/' suite.json >more.json
s more.json --out again; want_rc 0
[ "$(wc -l <again/results.jsonl)" -eq $((49 + 2 * 12)) ] || bad "not two policies' records more: $(wc -l <again/results.jsonl)"

# ---- the harness's law: full attention scores the same under every configuration ----
tasks='"tasks": [{"task": "passkey", "ctx": 1100, "digits": 20, "samples": 2}, {"task": "copy", "ctx": 1100, "samples": 1}, {"task": "ppl", "file": "text.txt", "ctx": 900, "tokens": 30, "samples": 2}]}'
cat >dense1.json <<J
{"policies": [{"name": "full", "attn": "dense"}, {"name": "again", "attn": "dense", "decode": "full", "kv": "full"},
  {"name": "large", "attn": "dense", "ratios": [1, 2], "decode": "recycled:K={N*r}"}, {"name": "each", "attn": "dense", "decode": "recycled:K=64,S=1"},
  {"name": "all", "attn": "criti:dense_until=100000"}, {"name": "other", "attn": "dense", "decode": "recycled:K=64,S=9"}], $tasks
J
cat >dense2.json <<J
{"read_once": true, "policies": [{"name": "other", "attn": "paper", "decode": "recycled:K=64"}, {"name": "each", "attn": "dense", "decode": "recycled:K=64,S=1"}], $tasks
J
s dense1.json -m "$M" --out d1; want_rc 0
s dense1.json -m "$M" --out d3 -t 1 -ub 256; want_rc 0
s dense2.json -m "$M" --out d2; want_rc 0; want_no_err
python3 - <<'PY' || bad "full attention does not score the same everywhere"
import json
same = {"full", "again", "large-1x", "large-2x", "each", "all"}
def load(d):
    out = {}
    for r in [json.loads(l) for l in open(d + "/results.jsonl")][1:]:
        out.setdefault((r["task"], r["sample"]), {})[r["policy"]] = tuple(r.get(k) for k in ("prompt_hash", "score", "output", "nll", "top1", "common"))
    return out
a, b, c = load("d1"), load("d2"), load("d3")
assert len(a) == len(b) == len(c) == 5
moved = 0
for k in a:
    assert set(a[k]) == same | {"other"} and set(b[k]) == {"full", "other", "each"}
    want = a[k]["full"]
    assert all(a[k][p] == want == c[k][p] for p in same), (k, a[k])
    assert b[k]["full"] == b[k]["each"] and b[k]["full"] == want, (k, b[k], want)
    moved += a[k]["other"] != want
assert moved, "the policy that is not full attention changes nothing: this test sees nothing"
PY

# ---- what is refused: one line, the file, the place ----
t='"tasks": [{"task": "kv", "ctx": 900}]'
p='"policies": [{"name": "a", "attn": "dense"}]'
refused() { printf '%s' "$1" >bad.json; s bad.json -m "$M" --out none; want_fail "^critiprefill: bad\\.json: $2"; [ ! -e none ] || bad "something was written"; }
policy() { refused "{\"policies\": [{\"name\": \"a\"}, $1], $t}" "policies\\[1\\]$2"; }
task() { refused "{$p, \"tasks\": [{\"task\": \"kv\", \"ctx\": 900}, $1]}" "tasks\\[1\\]: $2"; }
refused '' 'the file is empty'
refused '  ' 'the file is empty'
refused '{' 'line 1, column 1: '
refused '{"policies": [], "policies": []}' 'line 1, column .*duplicate'
refused '[]' 'an object with policies and tasks'
refused "{$t}" 'policies: a list of one policy and more'
refused "{$t, \"policies\": []}" 'policies: a list'
refused "{$p}" 'tasks: a list of one task and more'
refused "{$p, $t, \"polices\": 1}" "unknown key 'polices'"
refused "{$p, $t, \"seed\": -1}" 'seed: a whole number'
refused "{$p, $t, \"chat\": 1}" 'chat: true or false'
refused "{$p, $t, \"model\": 1}" 'model: the name of a file'
policy '3' ': an object is wanted'
policy '{"decode": "full"}' ': name: it has none'
policy '{"name": "b", "decod": "full"}' ": unknown key 'decod'"
policy '{"name": "a/b"}' ": name: 'a/b' is not"
policy '{"name": "a"}' ": the name 'a' is taken by policies\\[0\\]"
policy '{"name": "full", "decode": "recycled"}' ": the name 'full' is kept for full attention"
policy '{"name": "b", "decode": 5}' ': decode: a text is wanted'
policy '{"name": "b", "decode": "nonsense:K=3"}' "\\.decode: 'nonsense' is none of full, recycled"
policy '{"name": "b", "decode": "recycled:K=1"}' '\.decode: recycled: K=1 is not in'
policy '{"name": "b", "decode": "recycled:K={N/}"}' "\\.decode: a number, N, r or \\( is wanted at '}'"
policy '{"name": "b", "decode": "recycled:K={N/r}"}' '\.decode: no "ratio" or "ratios" is given'
policy '{"name": "b", "ratios": [2, 40], "decode": "recycled:K={N/r}"}' '\.decode: recycled: K=22 is not in'
policy '{"name": "b", "ratio": 2, "ratios": [2]}' ': ratio and ratios exclude'
policy '{"name": "b", "ratios": []}' ': ratios: a list'
policy '{"name": "b", "ratios": [0.5]}' ': a ratio is a number from 1'
policy '{"name": "b", "attn": "sparse"}' "\\.attn: 'sparse' is not criti, dense"
policy '{"name": "b", "attn": "criti:theta=x"}' '\.attn: theta: '
policy '{"name": "b", "attn_opt": "speed=1"}' "\\.attn_opt: unknown key 'speed'"
policy '{"name": "b", "quality": "best"}' "\\.quality: 'best' is not"
policy '{"name": "b", "kv": "nonsense"}' "\\.kv: "
task '[]' 'an object is wanted'
task '{"ctx": 900}' "task: '' is none of needle, passkey"
task '{"task": "nonsense"}' "task: 'nonsense' is none of needle, passkey, .*chain, ppl"
task '{"task": "lookup"}' "task: 'lookup' is none of"
task '{"task": "kv", "depths": [1]}' "unknown key 'depths'"
task '{"task": "kv", "ctx": 900}' "the name 'kv' is taken by tasks\\[0\\]"
task '{"task": "lines", "ctx": "900"}' 'ctx: whole numbers from 64'
task '{"task": "lines", "ctx": [900, 900]}' 'ctx: 900 is named twice'
task '{"task": "lines", "ctx": []}' 'ctx: 1 to 32 numbers'
task '{"task": "lines", "samples": 0}' 'samples: a whole number from 1'
task '{"task": "lines", "question": "middle"}' 'question: last, first or both'
task '{"task": "passkey", "digits": 300}' 'digits: a whole number from 1 to 256'
task '{"task": "needle", "depths": [101]}' 'depths: whole numbers from 0 to 100'
task '{"task": "ppl"}' 'file: ppl needs one'
task '{"task": "ppl", "file": "text.txt", "ctx": 100, "tokens": 90}' 'ctx: 100 tokens leave no prompt'
refused_file() { printf '%s' "{$p, \"tasks\": [$1]}" >bad.json; s bad.json -m "$M" --out none; want_fail "$2"; }
refused_file '{"task": "ppl", "file": "nowhere.txt"}' 'nowhere\.txt: No such file'
refused_file '{"task": "longbench", "file": "text.txt"}' 'text\.txt: line 1: '
s; want_usage 'no configuration given'
s suite.json more.json; want_usage "unexpected argument 'more.json'"
printf '%s' "{$p, $t}" >plain.json
s plain.json; want_usage 'no model given'
s nowhere.json; want_fail 'nowhere\.json: No such file'
s plain.json -m nowhere.gguf --out none; want_fail 'nowhere\.gguf'
sed 's/900/9000/' plain.json >long.json
s long.json -m "$M" --out none; want_fail '9000 tokens are more than the 4096'
sed 's/900/100/' plain.json >short.json
s short.json -m "$M" --out none; want_fail 'kv: 100 tokens are too few'
printf '%s' "{$p, \"tasks\": [{\"task\": \"kv\", \"ctx\": 900}, {\"task\": \"ppl\", \"file\": \"few.txt\", \"ctx\": 900}]}" >bad.json
echo word >few.txt
s bad.json -m "$M" --out none; want_fail 'few\.txt: [0-9]+ tokens are too few for a window of 901'
[ ! -e none ] || bad "something was written"
# Its folder is named after it; settings that every record depends on are held.
s plain.json -m "$M"; want_rc 0; [ -s plain/report.html ] && [ -d plain/a+kv ] || bad "no folder named after the configuration"
s plain.json -m "$M" -s 3; want_fail 'plain/results\.jsonl: its records were made with other settings \(seed differs\)'
# ---- the examples are good configurations ----
for f in "$CLI_DIR"/../../examples/suite-*.json; do s "$f" -m nowhere.gguf --out none; want_fail 'nowhere\.gguf'; done
# ---- the two tasks that came with it ----
for kind in chain copy; do
    run eval $kind -m "$M" -c 3500 --samples 1 --json --attn dense --no-progress -t 2; want_rc 0; want_no_err
    want_rows 'len(rows) == 1 and 0 <= rows[0]["score"] <= 1 and rows[0]["refs"]'
done
