# SPDX-License-Identifier: MIT
# Whatever is wrong with the command line is said before a file is touched.
run frobnicate; want_usage "unknown command 'frobnicate'"
run help frobnicate; want_usage "unknown command 'frobnicate'"
for later in serve; do run $later; want_usage "unknown command '$later'"; done
run --frobnicate; want_usage "unknown option '--frobnicate'"
for c in run bench tokenize info; do
    run $c; want_usage "critiprefill $c: no model given"
    run $c -m "$M" --frobnicate; want_usage "unknown option '--frobnicate'"
    run $c -m "$M" --frobnicate=1; want_usage "unknown option '--frobnicate'"
    run $c -m "$M" stray; want_usage "unexpected argument 'stray'"
    run $c -m "$M" ''; want_usage "unexpected argument ''"
    run $c -m; want_usage '-m needs a value'
done
run run -m "$M"; want_usage 'nothing to read'
run tokenize -m "$M"; want_usage 'nothing to read'
r() { run run -m "$M" -p x "$@"; }
for v in x 1x '' 1.5 -2 99999999999999999999 ' 1' +1 0x10; do r -n "$v"; want_usage "-n: '.*' is not a whole number from -1"; done
r --predict=many; want_usage "--predict: 'many' is not"
r -c -1; want_usage "-c: '-1' is not a whole number from 0"
r -t 100000; want_usage '-t: '
r -ub 65537; want_usage '-ub: '
r -s -1; want_usage '-s: '
r -s 18446744073709551616; want_usage '-s: '
for v in x nan inf -1 0.5x '' 1e999; do r --temp "$v"; want_usage "--temp: '.*' is not a number"; done
r --top-p 1.5; want_usage '--top-p: '
r --attn sparse; want_usage "--attn: 'sparse' is none of .*criti, dense, paper"
r --attn fast; want_usage "--attn: 'fast' is none of .*paper;"
run bench -m "$M" --attn quick; want_usage "--attn: 'quick' is none of .*paper, fast, balanced, careful"
run bench -m "$M" --attn fast,dense,fast; want_usage "--attn: 'fast' is named twice"
r --attn criti:theta=1; want_usage '--attn: knobs of criti are given with --attn-opt'
r --attn tokenselect:k=2; want_usage 'tokenselect: k=2 is not in'
r --attn tokenselect:chunk=130; want_usage 'chunk=130 is not a multiple of 128'
r --attn tokenselect:positions=near; want_usage 'not one of its words, the first is original'
r --attn cascade:C=30; want_usage 'C=30 is not a multiple of n=4'
r --attn cascade --decode recycled; want_usage 'decodes from its own cache'
r --attn cascade --kv think; want_usage '--kv: --attn cascade keeps its own cache'
r --attn cascade --prefix x.cpkv; want_usage 'no store that a snapshot'
r --attn cascade --n-samples 2 --temp 1; want_usage 'cannot be shared'
r --attn recycled; want_usage "--attn: 'recycled' is none of"
r --attn dense,criti; want_usage '--attn takes one mode'
r --cpu pentium; want_usage "--cpu: 'pentium' is not one of"
r --truncate end; want_usage "--truncate: 'end' is not one of"
r --decode nope; want_usage "--decode: 'nope' is none of"
r --decode ''; want_usage '--decode: an empty name'
r --attn paper --min-recall .9; want_usage '--min-recall: --attn paper does not measure'
r --attn cascade:C=64,stride=32 --min-recall .9; want_usage '--min-recall: --attn cascade:C=64,stride=32 does not'
run bench -m "$M" --decode full -n 0; want_usage '-n: --decode and --batch'
run eval kl; want_usage '^critiprefill eval kl: no model given'
run eval ruler -m "$M" --tasks nonsense; want_usage '^critiprefill eval ruler: .*; see critiprefill eval ruler --help'
run eval kl -m "$M" --attn quick; want_usage "'quick' is not criti, dense, paper, fast, balanced, careful or a policy"
run eval kl -m "$M" --attn criti:alpha=0.5; want_usage 'alpha is a knob of paper, not of criti'
run eval kl -m "$M" --attn dense:theta=1; want_usage 'theta is a knob of criti, not of dense'
run eval frontier -m "$M" --sweep budget_tok=64,128; want_usage 'budget_tok is a knob of paper'
run eval kl -m "$M" --attn cascade:C=30; want_usage 'C=30 is not a multiple'
r --decode recycled:K=1; want_usage 'K'
r --kv ''; want_usage '--kv: an empty name'
r --kv nope; want_usage "--kv: 'nope' is none of full, think"
r --kv recycled; want_usage "--kv: 'recycled' is none of"
r --kv think:lambda=0.95; want_usage 'think: lambda=0.95 is not in 0..0.9'
r --kv think:lambda=x; want_usage 'think: lambda=x is not a number'
r --kv think:channels=8; want_usage "think has no option 'channels=8'"
r --kv think:when=later; want_usage 'when=later: not one of its words'
run bench -m "$M" --kv think; want_usage '--kv needs --decode here'
r --decode subgen:k=0; want_usage 'k=0'
r --json=1; want_usage '--json takes no value'
r --system x; want_usage '--system needs --chat'
r -f - -f -; want_usage 'stdin can be read only once'
r --attn-opt theta; want_usage "'theta' is not KEY=VALUE"
r --attn-opt speed=1; want_usage "unknown key 'speed'"
r --attn-opt theta=-1; want_usage 'theta: '
r --attn-opt last_theta=101; want_usage 'last_theta: '
r --attn-opt alpha=2; want_usage 'alpha: '
r --attn-opt seg_len=200; want_usage 'seg_len: 200 is not a multiple of 128'
r --attn-opt theta=1,; want_usage 'empty'
b() { run bench -m "$M" "$@"; }
b -c 1024,x; want_usage "-c: 'x' is not"
b -c 1024,,2048; want_usage 'empty'
b -c 0; want_usage "-c: '0'"
b --attn dense,dense; want_usage "'dense' is named twice"
b -r 0; want_usage '-r: '
b -n -1; want_usage '-n: '
b -o xml; want_usage "-o: 'xml' is not one of md, csv or json"
b --plot speed.png; want_usage 'PNG'
b --plot speed; want_usage "does not end in .svg"
run tokenize -m "$M" -p x --bos --no-bos; want_usage 'exclude'
run eval; want_usage 'eval: no kind given'; run eval nosuch; want_usage "unknown kind 'nosuch'"; run eval kl; want_usage 'no model given'
run inspect -m "$M" -f a.txt; want_usage 'no picture named'
run run -m "$M" -f a.txt --quality best; want_usage '--quality'
