# SPDX-License-Identifier: MIT
# eval frontier: every combination is measured, the best are marked, the picture holds them.
for i in $(seq 1200); do echo "Line $i says $((i * 7919 % 10007)), and line $((i * 31 % 1200)) does not."; done >b.txt
text 20000 >a.txt
# lookup=0: a random model looks up all the time, and a plan that keeps that is next to dense, at every CPU level.
f() { run eval frontier -m "$M" -t 2 "$@"; }
f -f b.txt -c 2048,1600 --attn dense,paper:threshold=0:budget_tok=32:seg_len=128 --attn-opt lookup=0 --sweep "theta=0,100;last_tok=0,512" --json --plot p.svg --out d; want_rc 0; want_no_err; cp out lines
want_rows 'len(rows) == 2 * 6 and sorted(set(r["ctx_tok"] for r in rows)) == [1600, 2048]'
want_rows '[r["attn"] for r in rows[2:6]] == ["criti:theta=%s:last_tok=%s" % (a, b) for a in (0, 100) for b in (0, 512)]'
want_rows 'all(r["density"] == 1 and r["kl_max"] == 0 for r in rows if "theta=0:" in r["attn"] or r["attn"] == "dense")'
want_rows 'all(r["density"] < .9 and r["kl_mean"] > 0 for r in rows if "theta=100:last_tok=0" in r["attn"])'
python3 - <<'PY' || bad "p.svg is not the picture"
import xml.dom.minidom as m
d = m.parse("p.svg").documentElement
assert d.tagName == "svg" and "nan" not in d.toxml() and "inf" not in d.toxml()
points = [g for g in d.getElementsByTagName("g") if g.getAttribute("class") == "point"]
assert len(points) == 2 * 12
assert len(d.getElementsByTagName("polyline")) >= 2
PY
# The same as a table, from the records, over two texts.
f -f b.txt -c 2048,1600 --attn dense,paper:threshold=0:budget_tok=32:seg_len=128 --attn-opt lookup=0 --sweep "theta=0,100;last_tok=0,512" --out d; want_rc 0; want_err '12 records found'
[ "$(wc -l <out)" = 14 ] || bad "not a row a setting and length"
want_out '^\| +2048 \| criti:theta=100:last_tok=0 .* \| density'; want_out '^\| +1600 \| dense .* 1.000 \| +0.000000'
f -f a.txt -f b.txt -c 1600 --attn dense --sweep theta=100 --plot q.svg --html r.html; want_rc 0; want_no_err
[ "$(wc -l <out)" = 4 ] || bad "texts are not averaged"
grep -q 'src="data:image/svg+xml;base64,' r.html || bad "no picture in r.html"; grep -q 'criti:theta=100' r.html || bad "no table in r.html"
# Another text in the same folder is no part of this run's table.
f -f a.txt -c 1600 --attn dense --sweep theta=100 --out e; want_rc 0; cp out alone
f -f b.txt -c 1600 --attn dense --sweep theta=100 --out e --csv t.csv; want_rc 0; cmp -s out alone && bad "the other text's table"
cp out other; f -f b.txt -c 1600 --attn dense --sweep theta=100 --out e --no-progress; want_rc 0; cmp -s out other || bad "texts are mixed"
python3 - <<'PY' || bad "t.csv is not the table"
import csv
rows = list(csv.DictReader(open("t.csv", encoding="utf-8")))
assert [r["attn"] for r in rows] == ["criti:theta=100", "dense"] and all(r["texts"] == "1" and r["ctx_tok"] == "1600" for r in rows), rows
assert float(rows[1]["density"]) == 1 and float(rows[1]["kl_mean"]) == 0 and 0 < float(rows[0]["density"]) < 1
PY
f -f a.txt -c 256 --attn criti --json; want_rc 0; want_rows 'len(rows) == 7'
f -f a.txt --sweep theta; want_usage "--sweep: 'theta' is not KEY=VALUE"
f -f a.txt --sweep "theta=1;tau=2"; want_usage '--sweep: .*tau'
f -f a.txt --sweep "theta=0.$(printf '1%.0s' $(seq 100))"; want_usage "--sweep: 'criti:theta=0.1+\.\.\.' has more than 95 characters"
f -f a.txt --plot x.png; want_usage '--plot: PNG'
f -f a.txt -c 128 --plot no/where.svg; want_fail 'no/where.svg'
