# SPDX-License-Identifier: MIT
# eval kl: dense against itself is exactly equal, a broken plan is seen, the reading in steps does not change a figure,
# a run that was stopped goes on, files of logits go out and come back.
text 30000 >a.txt
for i in $(seq 1200); do echo "Line $i says $((i * 7919 % 10007)), and line $((i * 31 % 1200)) does not."; done >b.txt
k() { run eval kl -m "$M" -t 2 "$@"; }

# ---- figures ----
k -f b.txt -c 2048 --attn dense,criti:theta=100:lookup=0,paper:threshold=0:budget_tok=32:seg_len=128 --json; want_rc 0; want_no_err; cp out three
want_rows 'len(rows) == 3 and [r["attn"].split(":")[0] for r in rows] == ["dense", "criti", "paper"]'
want_rows 'set("attn ctx_tok positions kl_mean kl_median kl_p99 kl_max kl_last kl_sparse top1 top1_last ppl_dense ppl dnll density skipped prefill_s prefill_dense_s estimate_s attend_s dense_attend_s mass_measured peak_recall_measured seed text key".split()) == set(rows[0])'
want_rows 'all(r["ctx_tok"] == r["positions"] == 2048 and r["seed"] == 42 and r["text"] == "b.txt" for r in rows)'
want_rows 'all(rows[0][x] == 0 for x in "kl_mean kl_median kl_p99 kl_max kl_last kl_sparse dnll".split())'
want_rows 'rows[0]["top1"] == rows[0]["top1_last"] == rows[0]["density"] == 1 and rows[0]["ppl"] == rows[0]["ppl_dense"]'
# Settings that keep next to nothing: seen in the sparse part, not where they are dense.
want_rows 'all(r["density"] < .8 and r["kl_sparse"] > r["kl_mean"] > 1e-4 and r["top1"] < 1 and r["kl_median"] <= r["kl_p99"] <= r["kl_max"] for r in rows[1:])'
want_rows 'all(abs(r["dnll"]) > 0 and r["ppl"] != r["ppl_dense"] == rows[0]["ppl_dense"] for r in rows[1:])'
want_rows 'all(0 <= r["prefill_s"] and 0 <= r["attend_s"] and r["prefill_dense_s"] > 0 for r in rows)'
# Chunks of any length, held back by any amount, threads: the same rows meet.
same='cmp -s <(figures <out) <(figures <three) || bad "other figures"'
figures() { python3 -c 'import json,sys
for x in sys.stdin: r = json.loads(x); print([r[k] for k in "attn kl_mean kl_max kl_last kl_sparse top1 ppl density".split()])'; }
k -f b.txt -c 2048 --attn dense,criti:theta=100:lookup=0,paper:threshold=0:budget_tok=32:seg_len=128 --json -ub 128; want_rc 0; eval "$same"
k -f b.txt -c 2048 --attn dense,criti:theta=100:lookup=0,paper:threshold=0:budget_tok=32:seg_len=128 --json -ub 4096 -t 1; want_rc 0; eval "$same"
k -f b.txt -c 2048 --attn paper:threshold=0:budget_tok=32:seg_len=128,criti:theta=100:lookup=0 --json; want_rc 0
want_rows '[r["kl_mean"] for r in rows] == [json.loads(x)["kl_mean"] for x in open("three")][:0:-1]'
k -f b.txt -c 2000 --attn criti:last_tok=1500:theta=100:lookup=0,paper:seg_len=1024 --json -ub 128; want_rc 0; want_rows 'len(rows) == 2'
k -f b.txt -c 1,17,128,129 --attn criti --json; want_rc 0; want_rows '[(r["ctx_tok"], r["kl_max"]) for r in rows] == [(1, 0), (17, 0), (128, 0), (129, 0)]'
want_rows 'rows[0]["ppl"] is None and rows[1]["ppl"] > 1 and rows[0]["kl_sparse"] is None'

# ---- tables, texts ----
k -f a.txt -f b.txt -c 256,512; want_rc 0; want_no_err
[ "$(grep -c '^## ' out)" = 4 ] || bad "not a table a text and length"
want_out '^## b.txt, 512 tokens, against dense attention$'; want_out '^\| criti '; want_out '^\| paper '
k -c 256 --last 10 --html r.html; want_rc 0; want_err '^text: critiprefill.s own'; want_out '^## own, 256 tokens'
grep -q 'own, 256 tokens' r.html || bad "the table is not in r.html"
k -f a.txt -c 128,256 --attn criti,criti --json; want_rc 0; want_rows 'len(rows) == 2'

# ---- going on ----
k -f b.txt -c 256 --attn criti --out d --json; want_rc 0; want_no_err; cp out first
k -f b.txt -c 256 --attn criti,paper --out d --json; want_rc 0; want_err '^d/results.jsonl: 1 record found$'
head -n 1 out | cmp -s - first || bad "measured again"
want_rows '[r["attn"] for r in rows] == ["criti", "paper"]'
[ "$(wc -l <d/results.jsonl)" = 3 ] || bad "not a head and two records"
cp d/results.jsonl whole
head -c -30 whole >d/results.jsonl
k -f b.txt -c 256 --attn criti,paper --out d --json --no-progress; want_rc 0; want_no_err
want_rows '[r["attn"] for r in rows] == ["criti", "paper"]'; head -n 1 out | cmp -s - first || bad "measured again"
[ "$(wc -l <d/results.jsonl)" = 3 ] || bad "the cut line was not replaced"
k -f b.txt -c 256 --attn paper,criti --out d; want_rc 0; want_out '^\| criti '; want_out '^\| paper '
[ "$(wc -l <d/results.jsonl)" = 3 ] || bad "measured again"
echo more >>b.txt # behind what is read: the tokens decide
k -f b.txt -c 256 --attn criti --out d --json; want_rc 0; [ "$(wc -l <d/results.jsonl)" = 3 ] || bad "measured again"
sed -i '1s/.*/Another first line./' b.txt
k -f b.txt -c 256 --attn criti --out d --json; want_rc 0; [ "$(wc -l <d/results.jsonl)" = 4 ] || bad "a changed text was not measured"
k -f b.txt -c 256 --attn criti --out d --last 9; want_fail '^critiprefill: d/results.jsonl: .*other settings \(last differs\)'
k -f b.txt -c 256 --attn criti --out d -s 7; want_fail 'seed differs'
k -f b.txt -c 256 --attn criti --out d --attn-opt theta=9; want_fail 'attn_criti differs'
run eval frontier -m "$M" -t 2 -f b.txt -c 256 --out d; want_fail 'holds records of eval kl, not of frontier'
flock d/results.jsonl "$P" eval kl -m "$M" -t 2 -f b.txt -c 256 --out d >out 2>err </dev/null; rc=$?; want_fail 'another run is writing'
k -f b.txt -c 256 --out no/where; want_fail '^critiprefill: no/where: '
echo '[1]' >d/results.jsonl; k -f b.txt -c 256 --out d; want_fail 'd/results.jsonl: line 1 is not a JSON object'
echo '{"a": 1}' >d/results.jsonl; k -f b.txt -c 256 --out d; want_fail 'd/results.jsonl: not a file of records'

# ---- files of logits ----
k -f b.txt -c 64 --chunks 3 --save-all-logits base; want_rc 0; want_no_err; want_out '^base: 3 windows of 64 tokens, 93 positions, PPL [0-9.]+$'
"$P" tokenize -m "$M" -f b.txt --ids >ids
python3 - <<'PY' || bad "not the format"
import math, struct
b = open("base", "rb").read()
assert b[:8] == b"_logits_"
n_ctx, n_vocab, n_chunk = struct.unpack_from("<Iii", b, 8)
assert (n_ctx, n_chunk) == (64, 3)
ids = struct.unpack_from("<%di" % (64 * 3), b, 20)
assert list(ids) == [int(x) for x in open("ids").read().split()][:192]
row = 4 + (n_vocab + 1) // 2 * 2
at = 20 + 4 * 192
assert len(b) == at + 2 * row * 31 * 3
for i in range(93):
    scale, low = struct.unpack_from("<ff", b, at + 2 * row * i)
    level = struct.unpack_from("<%dH" % n_vocab, b, at + 2 * row * i + 8)
    assert max(level) == 65535
    assert abs(sum(math.exp(scale * x + low) for x in level) - 1) < 1e-3
PY
k --kl-divergence-base base --attn dense,criti --json; want_rc 0; want_no_err
want_rows 'len(rows) == 2 and all(r["windows"] == 3 and r["positions"] == 93 and r["ctx_tok"] == 64 and r["text"] == "base" for r in rows)'
# Levels are 16 / 65535 apart: a position is off by up to half of that, the mean of 93 by about 7e-6.
want_rows 'all(abs(r["kl_mean"]) < 3e-5 and r["kl_max"] < 1.3e-4 and r["top1"] > .9 and abs(r["ppl"] / r["ppl_dense"] - 1) < 1e-4 for r in rows)'
k --kl-divergence-base base --chunks 2; want_rc 0; want_out '^## base, 64 tokens, against the file$'
k -f b.txt -c 64 --chunks 3 --save-all-logits base2 --json; want_rc 0; want_json 'j["windows"] == 3 and j["ppl"] > 1 and j["file"] == "base2" and repr(j["positions"]) == "93"'
cmp -s base base2 || bad "two readings differ"
# Long windows with a rule that keeps next to nothing.
k -f b.txt -c 2048 --chunks 1 --save-all-logits long; want_rc 0
k --kl-divergence-base long --attn dense,criti:theta=100:lookup=0:dense_until=0:last_tok=0 --json; want_rc 0
want_rows 'abs(rows[0]["kl_mean"]) < 3e-5 and rows[1]["kl_mean"] > 1e-4 and rows[1]["density"] < .8'
# What does not fit.
head -c 5000 base >short; k --kl-divergence-base short; want_fail '^critiprefill: short: truncated$'
k --kl-divergence-base b.txt; want_fail '^critiprefill: b.txt: not a file of saved logits$'
"$TINY_TOOL" write other.gguf n_vocab=400 >/dev/null
run eval kl -m other.gguf --kl-divergence-base base; want_fail 'base: of a model with [0-9]+ tokens in its vocabulary, other.gguf has 400'
cp base kept; last='a file that cannot grow'
(trap '' XFSZ; ulimit -f 8; "$P" eval kl -m "$M" -f b.txt -c 64 --save-all-logits kept >out 2>err); rc=$?; want_fail '^critiprefill: kept: File too large'
cmp -s base kept || bad "what was there is gone"
! ls kept.*part >/dev/null 2>&1 || bad "a part is left"
k -f b.txt --save-all-logits no/where -c 64; want_fail '^critiprefill: no/where: '
printf 'short' >s.txt; k -f s.txt --save-all-logits x -c 64; want_fail '^critiprefill: s.txt: [0-9]+ tokens, less than a window of 64'
k -f b.txt --save-all-logits x -c 30000; want_fail 'more than the 4096'
k -f b.txt --save-all-logits x -c 64,128; want_usage 'one window length'
k -f b.txt --save-all-logits x --kl-divergence-base base; want_usage 'exclude each other'
k -f b.txt --kl-divergence-base base; want_usage 'brings its own text'
[ ! -e x ] || bad "something was written"

# ---- what is wrong ----
k -f b.txt --attn nonsense; want_usage "--attn: 'nonsense' is not"
k -f b.txt --attn criti:theta; want_usage '--attn: '
k -f b.txt -c 100000; want_fail 'more than the 4096 the model was trained for'
k -f missing.txt; want_fail '^critiprefill: missing.txt: '
k -f b.txt -c 128 --html no/where.html; want_fail 'no/where.html'
