# SPDX-License-Identifier: MIT
# The answer alone on stdout; prompts from files, text and stdin; contexts that are too small.
text 2000 >a.txt
printf 'no newline at the end' >b.txt
r() { run run -m "$M" "$@"; }
r -f a.txt -n 8; want_rc 0; want_err 'prompt tokens in .*8 generated|prompt tokens in'; cp out plain
[ -z "$(tail -c 1 out)" ] || bad "the answer's last line is not ended"
iconv -f UTF-8 -t UTF-8 out >/dev/null 2>&1 || bad "the answer is not UTF-8"
r -f a.txt -n 8 --no-progress; want_rc 0; want_no_err; cmp -s out plain || bad "--no-progress changes the answer"
r --file=a.txt --predict=8 --model="$M" --no-progress; want_rc 0; cmp -s out plain || bad "long names change the answer"
last='run -f - <a.txt'; "$P" run -m "$M" -f - -n 8 <a.txt >out 2>err; rc=$?; want_rc 0; cmp -s out plain || bad "stdin differs"
last='cat a.txt | run -f -'; (head -c 700 a.txt; sleep .2; tail -c +701 a.txt) | "$P" run -m "$M" -f - -n 8 >out 2>err; rc=$?
want_rc 0; cmp -s out plain || bad "a slow pipe differs"
r -f a.txt -n 0; want_rc 0; want_no_out
# Files as they are, the prompt on a line of its own.
printf 'no newline at the end\nThe end.' >joined
r -f b.txt -p 'The end.' -n 6; want_rc 0; cp out parts
r -f joined -n 6; want_rc 0; cmp -s out parts || bad "-f and -p are not joined by a newline"
printf 'no newline at the endno newline at the end' >twice
r -f b.txt -f b.txt -n 6; want_rc 0; cp out parts
r -f twice -n 6; want_rc 0; cmp -s out parts || bad "two files are not joined as they are"
# JSON: one object, nothing on stderr.
r -f a.txt -n 8 --json; want_rc 0; want_no_err
want_json 'set("text tokens prompt_n prompt_ms prompt_per_second predicted_n predicted_ms predicted_per_second load_ms ttft_ms peak_rss_bytes kv_bytes attn model cpu threads".split()) == set(j)'
want_json 'set("mode density estimate_ms attend_ms gemm_ms serial_ms stages items skipped mass_measured peak_recall_measured peaks_measured".split()) == set(j["attn"])'
want_json 'j["predicted_n"] == len(j["tokens"]) <= 8 and j["prompt_n"] > 0 and j["threads"] > 0 and j["attn"]["mode"] == "criti"'
want_json 'j["text"].rstrip("\n") == open("plain", encoding="utf-8", newline="").read().rstrip("\n")'
for mode in criti dense paper; do r -f a.txt -n 4 --attn $mode --json; want_rc 0; want_json "j['attn']['mode'] == '$mode' and 0 < j['attn']['density'] <= 1"; done
r -f a.txt -n 4 --attn paper --attn-opt budget_tok=128,seg_len=128 --attn-opt threshold=0 -t 1 -ub 128 --json; want_rc 0; want_json 'j["threads"] == 1'
# Sampling: the seed decides.
r -f a.txt -n 8 --temp 1.5 -s 7 --json; want_rc 0; cp out seven
r -f a.txt -n 8 --temp 1.5 -s 7 --json; want_rc 0; want_json 'j["tokens"] == json.load(open("seven"))["tokens"]'
# Comparison.
r -f a.txt -n 4 --compare; want_rc 0; want_out '^\| mode '; want_out '^\| dense '; want_out '^\| criti '; want_out 'answers'
r -f a.txt -n 4 --compare --json; want_rc 0; want_no_err
want_json 'set(j["agree"]) == {"top1", "kl_mean", "kl_max", "text_equal"} and j["dense"]["attn"]["mode"] == "dense"'
want_json '0 <= j["agree"]["top1"] <= 1 and 0 <= j["agree"]["kl_mean"] <= j["agree"]["kl_max"]'
r -f a.txt -n 4 --compare --json --attn dense; want_rc 0; want_json 'j["agree"] == {"top1": 1.0, "kl_mean": 0.0, "kl_max": 0.0, "text_equal": True}'
# Contexts.
r -f a.txt -c 32; want_fail 'a.txt: the prompt has [0-9]+ tokens, the context 32; .*-c [0-9]+.*--truncate middle'
r -f a.txt -c 32 -n 4 --truncate middle; want_rc 0; want_err '^prompt shortened: [0-9]+ tokens dropped'
r -f a.txt -c 64 -n 16 --truncate middle --json; want_rc 0; want_json 'j["prompt_n"] == 48'
r -p 'Hello there.' -c 128 -n -1 --json; want_rc 0; want_json 'j["prompt_n"] + j["predicted_n"] <= 128'
r -p 'Hello there.' -c 32 -n 1000 --json; want_rc 0; want_err '^only [0-9]+ of 1000 tokens'; want_json 'j["prompt_n"] + j["predicted_n"] <= 32'
# What cannot fit whatever its tokens are is refused before it is gone through for them.
head -c 5000000 /dev/zero >huge.bin
r -f huge.bin; want_fail 'huge.bin: 5000000 bytes are more than [0-9]+ tokens, the model.s context is [0-9]+; shorten it'
r -f huge.bin -c 4096; want_fail 'huge.bin: 5000000 bytes are more than [0-9]+ tokens, the context is 4096'
run cluster -m "$M" -f huge.bin -o no.cpkv; want_fail 'huge.bin: 5000000 bytes are more than'
# Bytes that are no text, and NUL, are read.
printf 'a\0b\377\376c\n' >bytes.txt
r -f bytes.txt -n 2; want_rc 0
# The conscience: what a starved plan lost is measured, and can be refused; presets lie under the knobs in either order.
for i in $(seq 100); do echo "Line $i says $((i * 7919 % 10007)), and line $((i * 31 % 100)) does not."; done >lines.txt
run run -m "$M" -f lines.txt -n 1 --json --attn-opt theta=100,lookup=0; want_rc 0
want_json 'j["attn"]["peaks_measured"] > 0 and j["attn"]["peak_recall_measured"] < .9 and 0 < j["attn"]["mass_measured"] < .9'
cp out starved
# Either guard of look-ups keeps what theta alone would lose.
for guard in theta=100 theta=100,lookup=0,recall=.97; do
    run run -m "$M" -f lines.txt -n 1 --json --attn-opt $guard; want_rc 0
    want_json 'j["attn"]["peak_recall_measured"] > json.load(open("starved"))["attn"]["peak_recall_measured"] + .05'
done
run run -m "$M" -f lines.txt -n 1 --attn-opt theta=100,lookup=0 --min-recall 0.95; want_fail 'look-ups measured .* less than --min-recall 0.95'
for order in '--quality fast --attn-opt theta=0' '--attn-opt theta=0 --quality fast'; do
    run run -m "$M" -f lines.txt -n 1 --json --min-recall 1 $order; want_rc 0
    want_json 'j["attn"]["peak_recall_measured"] == j["attn"]["mass_measured"] == j["attn"]["density"] == 1'
done
# A cache of a fixed size: no prompt is too long, and memory does not grow with it.
for i in $(seq 30); do cat lines.txt; done | head -c 14000 >long.txt
r -f long.txt -n 4; want_fail 'long.txt: the prompt has [0-9]+ tokens, the model'
r -f long.txt -n 4 --attn cascade:C=64,stride=256,sinks=4 --json; want_rc 0; want_no_err
want_json 'j["prompt_n"] > 4096 and j["kv_bytes"] > 0 and j["attn"]["density"] < .1'; cp out streamed
r -f lines.txt -n 4 --attn cascade:C=64,stride=256,sinks=4 --json; want_rc 0
want_json 'j["kv_bytes"] == json.load(open("streamed"))["kv_bytes"]'
r -f long.txt -n 40 --attn cascade:C=64,stride=256,sinks=4 --decode full --json; want_rc 0
want_json 'abs(j["decode_stats"]["moved_of_full"] / j["decode_stats"]["expected"] - 1) < .1 and j["decode_stats"]["expected"] < .1'
r -f long.txt -c 4000 -n 4 --attn cascade:C=64; want_fail 'the context 4000'
run info -m "$M" --attn cascade:C=64,stride=256,sinks=4 -c 1000000 --json; want_rc 0
want_json 'j["memory"]["kv_bytes"] == json.load(open("streamed"))["kv_bytes"] and j["attn"]["mode"].startswith("cascade")'
# Compact positions: nor is one too long for reading within the trained window, if the answer keeps to it, too.
few=tokenselect:k=64:init=4:local=32:min=0:positions=compact
r -f long.txt -n 0 --attn $few:chunk=128; want_rc 0; want_no_out
r -f long.txt -n 4 --attn $few:chunk=128; want_fail 'long.txt: the prompt has [0-9]+ tokens, the model.*let --decode read by compact positions'
r -f long.txt -n 4 --attn $few:chunk=128 --decode $few --json --no-progress; want_rc 0; want_no_err
want_json 'j["prompt_n"] > 4096 and j["attn"]["density"] < .5'
r -f long.txt -n 0 --attn tokenselect:k=4000:positions=compact; want_fail 'the model.s context 4096; give a larger one'
r -f long.txt -n 0 --attn tokenselect:k=64; want_fail 'the model.s context 4096; give a larger one'
# More answers than the prompt and one answer have tokens, than a chunk has, and of no tokens.
for n in '-n 2' '-n 2 -ub 1' '-n 2 -c 4' '-n 0' '-n 0 -c 2'; do
    # shellcheck disable=SC2086
    r -p Hi --n-samples 40 --temp 1 --json $n; want_rc 0; want_no_err; want_json 'len(j["samples"]) == 40'
done
# Full attention moves what full attention moves, in a first block that is nearly empty, too.
r -p Hi -n 9 --decode full --json; want_rc 0; want_json 'j["decode_stats"]["moved_of_full"] == j["decode_stats"]["expected"] == 1'
