# SPDX-License-Identifier: MIT
# The instruments see a broken selection: a plan that keeps nothing far loses the needle that dense attention finds, and
# moves the distributions.  Wants the small real model.
[ -f "${CRIT_TEST_MODEL:-}" ] || { echo "no real model ($CRIT_TEST_MODEL): make model fetches it"; exit 77; }
broken=criti:theta=100:lookup=0:last_tok=0:dense_until=160
run eval needle -m "$CRIT_TEST_MODEL" -c 1024 --depths 30 --samples 1 --attn dense,$broken,criti --json --no-progress; want_rc 0
want_rows '[r["attn"].split(":")[0] for r in rows] == ["dense", "criti", "criti"] and rows[0]["score"] == rows[2]["score"] == 1 and rows[1]["score"] == 0'
for i in $(seq 300); do echo "Item $i: the value of $((i * 7919 % 10007)) is $((i * 31 % 1200))."; done >t.txt
run eval kl -m "$CRIT_TEST_MODEL" -f t.txt -c 1024 --attn dense,$broken --json --no-progress; want_rc 0
want_rows 'rows[0]["kl_max"] == 0 and rows[1]["kl_mean"] > .01 and rows[1]["kl_last"] > .02 and rows[1]["top1"] < .96'
