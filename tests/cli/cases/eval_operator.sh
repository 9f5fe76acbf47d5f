# SPDX-License-Identifier: MIT
# Plans judged layer by layer: figures that must hold whatever the model says, the identity, the dump, and that a worse
# plan is seen to be worse.
text 4000 >a.txt
SPARSE=max_tok=128,dense_until=256,last_tok=64
o() { run eval operator -m "$M" -f a.txt -c 1500 --no-progress "$@"; }
records() { # EXPRESSION about the list of records r
    python3 - "$1" <<'PY' || bad "records: $1"
import json, sys
r = [json.loads(line) for line in open("out", encoding="utf-8")]
sys.exit(0 if r and eval(sys.argv[1]) else 1)
PY
}

# ---- records ----
o --attn-opt $SPARSE --json; want_rc 0; want_no_err
records '[(x["layer"], x["head"]) for x in r] == [(l, h) for l in (0, 1) for h in range(4)]'
records 'all(x["ctx_tok"] == 1500 and x["attn"] == "criti" and x["seed"] == 42 and x["key"] for x in r)'
# The last layer is dense; what is judged is the others.
records 'all(x["density"] == 1 and x["queries"] == 0 and x["mass_mean"] is None for x in r[4:])'
records 'all(0 < x["density_sparse"] < x["density"] < 1 for x in r[:4])'
records 'all(0 < x["mass_p5"] <= x["mass_mean"] <= x["oracle_mean"] <= 1.00001 and x["queries"] % 4 == 0 for x in r[:4])'
records 'all(abs(x["of_oracle"] - x["mass_mean"] / x["oracle_mean"]) < 1e-6 for x in r[:4])'
records 'all(0 <= x["peaks_kept"] <= x["peaks"] and x["peaks_kept_oracle"] <= x["peaks"] for x in r) and sum(x["peaks"] for x in r) > 0'
records 'sum(x["peaks_kept"] for x in r) < sum(x["peaks_kept_oracle"] for x in r)'
records 'all(0 < x["error_mean"] <= x["error_max"] for x in r[:4])'
records 'all(0 < x["identity_max_err"] and 0 < x["identity_of_bound"] < 1 for x in r)'
cp out first
o --attn-opt $SPARSE --json -t 1; cmp -s out first || bad "another number of threads, other figures"
o --attn-opt $SPARSE --json -ub 128; cmp -s out first || bad "another chunk, other figures"
o --attn-opt $SPARSE --json -s 7; cmp -s out first && bad "the seed does not matter"
o --attn-opt $SPARSE --json --layers 0; want_rc 0; grep '"layer": 0' first | cmp -s - out || bad "a layer alone has other figures"
o --attn-opt $SPARSE --json --cpu c; want_rc 0; records 'all(0 < x["identity_max_err"] < 1e-3 and x["identity_of_bound"] < 1 for x in r)'

# ---- other attentions ----
# Dense keeps everything, so its identity says that the result is exact attention: at the level's own bound, which knows
# its roundings (programs/exact.c, src/kernels/kernels.h), and in plain C to the bits of f32.
o --attn dense --json; want_rc 0
records 'all(x["density"] == 1 and abs(x["mass_mean"] - 1) < 1e-5 and x["identity_of_bound"] < 1 and x["peaks_kept"] == x["peaks"] for x in r)'
o --attn dense --json --cpu c; want_rc 0
records 'all(x["density"] == 1 and abs(x["mass_mean"] - 1) < 1e-5 and x["error_max"] < 1e-4 and x["peaks_kept"] == x["peaks"] for x in r)'
o --attn paper:budget_tok=128:seg_len=128:threshold=256 --json; want_rc 0
records 'all(x["mass_mean"] is None and x["density"] == 1 for x in r[:4]) and all(0 < x["mass_mean"] < 1 for x in r[4:])'
o --attn-opt $SPARSE --attn criti:skip=2 --json; want_rc 0; records 'all(x["identity_of_bound"] < 1 for x in r)'
# Less budget keeps less.
python3 - "$P" "$M" <<'PY' || bad "a smaller plan does not keep less"
import json, subprocess, sys
def mass(cap):
    r = subprocess.run([sys.argv[1], "eval", "operator", "-m", sys.argv[2], "-f", "a.txt", "-c", "1500", "--json", "--no-progress",
                        "--attn-opt", f"theta=0,max_tok={cap},dense_until=256,last_tok=64"], check=True, stdout=subprocess.PIPE)
    return [json.loads(l)["mass_mean"] for l in r.stdout.splitlines()]
m = [mass(cap)[:4] for cap in (32, 128, 512)]
assert all(a < b < c for a, b, c in zip(*m)), m
PY
# The best plan is that of the whole tile, whatever queries judge it; and the figures of every tile come to those of the head.
o --attn-opt $SPARSE --layers 0 --json --tiles; want_rc 0; cp out tiles; grep -c tiles first | grep -qx 0 || bad "tiles are not asked for"
python3 - <<'PY' || bad "tiles do not come to their head"
import json
for x in (json.loads(l) for l in open("tiles")):
    t, n = x["tiles"], lambda t: min(32, 1500 - t["pos"])
    mean = lambda key: sum(y[key] * n(y) for y in t) / sum(map(n, t))
    assert sum(map(n, t)) == x["queries"] and all(y["pos"] % 32 == 0 and y["mass"] <= y["oracle"] + 1e-6 for y in t)
    assert abs(mean("mass") - x["mass_mean"]) < 1e-6 and abs(mean("oracle") - x["oracle_mean"]) < 1e-6
    assert abs(sum(y["error"] for y in t) / len(t) - x["error_mean"]) < 1e-6
PY
# So one query a tile tells the same of it, but for chance (a plan chosen by that query alone would keep far more of it).
: >one
for s in 1 2 3 4 5 6; do o --attn-opt $SPARSE --layers 0 --json --probe 1 -s $s; want_rc 0; cat out >>one; done
python3 - <<'PY' || bad "the best plan depends on who judges it"
import json
m = lambda f, key: sum(r[key] for r in f) / len(f)
one, all_ = ([json.loads(l) for l in open(f)] for f in ("one", "tiles"))
print([(m(one, k), m(all_, k)) for k in ("oracle_mean", "mass_mean")])
assert abs(m(one, "oracle_mean") - m(all_, "oracle_mean")) < .02 and abs(m(one, "mass_mean") - m(all_, "mass_mean")) < .03
PY

# ---- the table ----
o --attn-opt $SPARSE; want_rc 0; want_out '^\| layer +\| density \|'; want_out '^\| 0 +\| +0\.'; want_out '^\| all +\| +0\.'
grep -c '^| ' out | grep -qx 4 || bad "not a row a layer and one for all"
o --attn-opt $SPARSE --html r.html; want_rc 0
grep -c '<img src="data:image/png;base64,' r.html | grep -qx 2 || bad "the report has not two pictures"

# ---- records that are kept ----
o --attn-opt $SPARSE --json --out kept; cmp -s out first || bad "--out changes the figures"
o --attn-opt $SPARSE --json --out kept; want_rc 0; cmp -s out first || bad "other records from the folder"
o --attn-opt $SPARSE --out kept --probe 1; want_rc 1; want_err 'other settings'
# Another text of the same name and size.
tr rivers oceans <a.txt >b.txt; cp a.txt was.txt; cp b.txt a.txt
o --attn-opt $SPARSE --out kept; want_rc 1; want_err 'text_hash differs'
cp was.txt a.txt
# Knobs go on top of a preset, however it is named.
o --quality fast --attn criti --attn-opt $SPARSE --json; want_rc 0; sed 's/criti/fast/g' out >knobs
o --attn fast --attn-opt $SPARSE --json; want_rc 0; cmp -s out knobs || bad "--attn fast forgets --attn-opt"
o --attn fast --json; want_rc 0; cmp -s out knobs && bad "the knobs do not matter"

# ---- dump ----
o --attn-opt $SPARSE --layers 1 --dump dump; want_rc 0
[ "$(cd dump && echo *)" = 'layer001-k.npy layer001-out.npy layer001-plan-ids.npy layer001-plan-offsets.npy layer001-q.npy layer001-v.npy meta.json' ] ||
    bad "not the files: $(cd dump && echo *)"
python3 - <<'PY' || bad "the dump is wrong"
import json, math, struct
def load(name):
    d = open(f"dump/layer001-{name}.npy", "rb").read()
    n = 10 + int.from_bytes(d[8:10], "little")
    head = eval(d[10:n])
    kind = {"<f4": "f", "<i4": "i", "<i8": "q"}[head["descr"]]
    flat = struct.unpack(f"<{(len(d) - n) // struct.calcsize(kind)}{kind}", d[n:])
    assert len(flat) == math.prod(head["shape"]) and not head["fortran_order"]
    return head["shape"], flat
m = json.load(open("dump/meta.json"))
assert (m["layers"], m["n_tok"], m["n_head"], m["n_kv_head"], m["d_head"]) == ([1], 1500, 4, 2, 16), m
(qs, q), (ks, k), (vs, v), (os_, out) = load("q"), load("k"), load("v"), load("out")
(_, offsets), (_, ids) = load("plan-offsets"), load("plan-ids")
assert qs == os_ == (1500, 4, 16) and ks == vs == (1500, 2, 16)
assert len(offsets) == 47 * 4 + 1 and offsets[0] == 0 and offsets[-1] == len(ids)
# The result is the soft-max over the planned keys, up to the bound of attend (src/kernels/kernels.h): its error in the
# exponent e and on each weight changes a mean by 2 (exp(e + w) - 1) sum w|v| at most,
# f32 sums by as many halves of an ulp as there are keys.
unit = 0.505 / 32767 # of 16-bit integers
bf16, i16 = m["cpu"] in ("amx", "avx512bf16"), m["cpu"] == "avx2i16"
for pos, h in ((3, 0), (700, 1), (901, 2), (1499, 3)):
    t, g = pos // 32, h // 2
    row = ids[offsets[t * 4 + h]:offsets[t * 4 + h + 1]]
    assert list(row) == sorted(set(row))
    keys = [j for b in row for j in range(32 * b, 32 * b + 32) if j <= pos]
    qq = q[(pos * 4 + h) * 16:(pos * 4 + h + 1) * 16]
    z = [m["softmax_scale"] * sum(a * b for a, b in zip(qq, k[(j * 2 + g) * 16:(j * 2 + g + 1) * 16])) for j in keys]
    size = m["softmax_scale"] * max(sum(abs(a * b) for a, b in zip(qq, k[(j * 2 + g) * 16:(j * 2 + g + 1) * 16])) for j in keys)
    ks_ = [k[(j * 2 + g) * 16:(j * 2 + g + 1) * 16] for j in keys]
    units = m["softmax_scale"] * unit * max(math.hypot(*qq) * sum(map(abs, x)) + math.hypot(*x) * sum(map(abs, qq)) for x in ks_) if i16 else 0
    bound = 2 * math.expm1((16 + 16) * 2**-24 * size + units + (2**-8 * (size + 1) + 2**-13 if bf16 else 2**-22)) + (len(keys) + 16) * 2**-23
    top = max(z)
    w = [math.exp(x - top) for x in z]
    for i in range(16):
        want = sum(a * v[(j * 2 + g) * 16 + i] for a, j in zip(w, keys)) / sum(w)
        tol = bound * sum(a * abs(v[(j * 2 + g) * 16 + i]) for a, j in zip(w, keys)) / sum(w)
        if i16: tol += 65 * unit * sum(a * max(map(abs, v[(j * 2 + g) * 16:(j * 2 + g + 1) * 16])) for a, j in zip(w, keys)) / sum(w)
        assert abs(want - out[(pos * 4 + h) * 16 + i]) <= tol, (pos, h, i, want, out[(pos * 4 + h) * 16 + i], tol)
PY

# ---- refused ----
o --layers 0,2; want_fail 'layers 0 to 1, not 2'
o --attn criti,dense; want_usage 'takes one attention'
o -c 5000; want_fail 'more than the 4096 the model was trained for'
o --dump no/such/folder; want_fail 'no/such/folder'
o --html no/such/r.html; want_fail 'no/such/r.html'
