# SPDX-License-Identifier: MIT
# Help and version: on stdout when asked for, golden.
run --help; want_rc 0; want_no_err; want_golden help.txt; cp out overview
run -h; want_rc 0; cmp -s out overview || bad "-h is not --help"
run help; want_rc 0; cmp -s out overview || bad "help is not --help"
for c in run bench cluster tokenize info; do
    run "$c" --help; want_rc 0; want_no_err; want_golden "help-$c.txt"; cp out first
    want_out '^Examples?:'
    awk 'length > 110 { exit 1 }' out || bad "a line of the help is longer than 110"
    run help "$c"; want_rc 0; cmp -s out first || bad "help $c is not $c --help"
    run "$c" -m nothing.gguf -h; want_rc 0; cmp -s out first || bad "$c -h is not $c --help"
done
run --version; want_rc 0; want_no_err; want_out '^critiprefill [0-9]+\.[0-9]+\.[0-9]+'; want_out '^cpu '; want_out '^build '
# Without anything the overview goes to stderr.
run; want_rc 2; want_no_out; cmp -s err overview || bad "no argument: not the overview"
