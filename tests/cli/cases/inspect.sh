# SPDX-License-Identifier: MIT
# Pictures of one prefill: what comes out, what is refused; the page itself is driven by tests/browser.
text 4000 >a.txt
i() { run inspect -m "$M" --attn-opt max_tok=128,dense_until=256,last_tok=64 "$@"; }
png() { # FILE: a whole PNG of at least so many bytes, which is not one colour
    python3 - "$1" <<'PY' || bad "$1 is no picture"
import sys, zlib, struct
d = open(sys.argv[1], "rb").read()
assert d[:8] == b"\x89PNG\r\n\x1a\n" and d[-8:-4] == b"IEND"
at, z = 8, b""
while at < len(d):
    n, kind = struct.unpack(">I4s", d[at:at + 8])
    assert zlib.crc32(d[at + 4:at + 8 + n]) == struct.unpack(">I", d[at + 8 + n:at + 12 + n])[0]
    if kind == b"IDAT": z += d[at + 8:at + 8 + n]
    at += 12 + n
assert len(set(zlib.decompress(z))) > 20
PY
}

# ---- a picture of a head, of all heads ----
i -f a.txt --layer 1 --head 2 -o head.png; want_rc 0; want_no_out; want_err '^criti: [0-9]+ tokens, density 0\.[0-9]+, head.png$'; want_err_line; png head.png
i -f a.txt -o all.png --no-progress; want_rc 0; want_no_out; want_no_err; png all.png
cmp -s head.png all.png && bad "the same picture for a head and for all"
i -f a.txt --layer 0 --head 1 -o other.png; want_rc 0; cmp -s head.png other.png && bad "the same picture for two heads"
i -f a.txt --layer 0 --head 1 -o again.png -t 1; want_rc 0; cmp -s other.png again.png || bad "not the same picture twice"
i -f a.txt --layer 0 --head 1 -o dense.png --attn dense; want_rc 0; want_err '^dense: .* density 1\.000'; cmp -s other.png dense.png && bad "dense looks like criti"

# ---- a page ----
page() { # EXPRESSION about the page's data d and its text t
    PYTHONPATH=. python3 - "$1" <<'PY' || bad "page: $1"
import base64, json, sys
t = open("p.html", encoding="utf-8").read()
d = json.loads(t.split('<script type="application/json" id="data">')[1].split("</script>")[0])
def cells(s): return base64.b64decode(d["cells"][s])
def seen(r): # columns of a row
    blk = min(-(-d["nTok"] // 32), (r + 1) * d["tilePool"])
    return -(-blk // d["blkPool"])
def weight(code): return 10 ** ((code - 1) / 254 * 6 - 6) if code else 0
def top(s): return {int.from_bytes(s[i:i + 3], "little"): weight(s[i + 3]) for i in range(0, len(s), 4)}
sys.exit(0 if eval(sys.argv[1]) else 1)
PY
}
printf 'What is </script><script>alert(1)</script> & "this"?' >q.txt
i -f a.txt -f q.txt -p "And <b>that</b>?" -o p.html; want_rc 0; want_no_out
page 'd["layers"] == [0, 1] and d["heads"] == [0, 1, 2, 3] and d["nTok"] == len(d["tokens"])'
page '"".join(d["tokens"]) == open("a.txt").read() + open("q.txt").read() + "\nAnd <b>that</b>?"'
page 't.count("<script") == 2 and "alert(1)" not in t.replace("alert(1)\\u003c", "") and "://" not in t'
page 'all(len(cells(s)) == 2 * sum(seen(r) for r in range(d["rows"])) for s in range(8))'
page 'all(abs(sum(weight(c) for c in cells(s)[:2 * seen(0):2]) - 1) < .05 for s in range(8))'         # a row sums to 1
page 'all(c >> 4 == 15 and c & 15 == 0 for s in range(8) for c in cells(s)[1:2 * seen(0):2])'       # the first tile is dense
page 'all(any(c >> 4 == 0 and c & 15 == 15 for c in cells(s)[1::2]) for s in range(4))'             # others miss something
page 'all(c >> 4 == 15 and c & 15 == 0 for s in range(4, 8) for c in cells(s)[1::2])'               # but for the last layer
page 'all(0 < m < 1 for m in d["mass"][:4]) and d["mass"][4:] == [1] * 4'
page 'all(0 < x < 1 for x in d["density"][0]) and d["density"][1] == [1] * 4'
page 'all(.5 < sum(top(base64.b64decode(s)).values()) < 1.05 for s in d["top"] + d["topLayer"])'
page 'all(max(top(base64.b64decode(s))) < d["nTok"] for s in d["top"] + d["topLayer"])'
page 'abs(sum(weight(c) for c in base64.b64decode(d["all"])) - 1) < .05'
i -f a.txt -o p.html --layer 1 --heads 0,3 --attn dense; want_rc 0
page 'd["layers"] == [1] and d["heads"] == [0, 3] and len(d["cells"]) == 2 and d["mass"] == [1, 1]'
page 'all(c >> 4 == 15 and c & 15 == 0 for s in (0, 1) for c in cells(s)[1::2])'                    # nothing is missed

# The last position's weights, from the queries and keys that eval operator writes.
i -f a.txt -c 1000 --layer 1 --head 2 -o p.html; want_rc 0
run eval operator -m "$M" -f a.txt -c 1000 --attn-opt max_tok=128,dense_until=256,last_tok=64 --layers 1 --dump dump --no-progress; want_rc 0
cat >dumped.py <<'PY'
import math, struct
def rows(name, n_head, head):
    d = open(f"dump/layer001-{name}.npy", "rb").read()
    n = 10 + int.from_bytes(d[8:10], "little")
    x = struct.unpack(f"<{(len(d) - n) // 4}f", d[n:])
    return [x[(t * n_head + head) * 16:(t * n_head + head + 1) * 16] for t in range(1000)]
q, k = rows("q", 4, 2)[-1], rows("k", 2, 1)
z = [sum(a * b for a, b in zip(q, key)) / 4 for key in k]
w = [math.exp(x - max(z)) for x in z]
w = [x / sum(w) for x in w]
def agrees(shown): # a code is a step of 6 %
    return all(abs(math.log(x / w[pos])) < .03 for pos, x in shown.items()) and max(w) < 1.03 * max(shown.values())
PY
page '__import__("dumped").agrees(top(base64.b64decode(d["top"][0])))'

# ---- lengths ----
i -f a.txt -c 300 -o p.html; want_rc 0; want_err '^the first 300 of the text.s [0-9]+ tokens are read$'
page 'd["nTok"] == 300'
i -f a.txt -c 300 -p "the end" -o p.html; want_rc 0; want_err 'tokens are read, then -p$'
page 'd["nTok"] == 300 and "".join(d["tokens"]).endswith("\nthe end")'
i -f a.txt -c 3 -p "a question longer than three tokens" -o p.html; want_rc 1; want_err '-p has [0-9]+ tokens'
i -p "short" -o p.html; want_rc 0; page 'd["nTok"] == len(d["tokens"]) and d["rows"] == 1'
i -f a.txt -c 5000 -o p.html; want_fail 'more than the 4096 the model was trained for'

# ---- refused ----
rm -f x.*
i -f a.txt -o x.gif; want_usage "'x.gif' ends neither in .png nor in .html"
i -f a.txt -o x.png --layer 1; want_usage 'one --layer and one --head'
i -f a.txt -o x.png --layer 0,1 --head 1; want_usage 'one --layer and one --head'
i -f a.txt -o x.png --attn criti,dense; want_usage 'takes one attention'
i -f a.txt -o x.png --attn best; want_usage "'best' is not"
i -f a.txt -o x.png --layer 2 --head 0; want_fail 'layers 0 to 1, not 2'
i -f a.txt -o x.html --head 4; want_fail 'heads 0 to 3, not 4'
i -f a.txt -o nowhere/x.png; want_fail 'nowhere/x.png'
: >empty; i -f empty -o x.png; want_fail 'the text is empty'
i -o x.png; want_usage 'nothing to read'
i -f a.txt; want_usage 'no picture named'
[ ! -e x.png ] && [ ! -e x.html ] || bad "a refused run left a file"
