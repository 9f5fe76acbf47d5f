# SPDX-License-Identifier: MIT
# For the cases: `run ARGS...` runs the program and keeps rc, and stdout and stderr in the files out and err; the want_*
# that follow check them and say what is wrong, without ending the case.
# shellcheck shell=bash
n_bad=0
rc=0
last=

bad() {
    n_bad=$((n_bad + 1))
    printf '  %s\n    after: %s\n' "$*" "$last" >&2
    [ ! -s err ] || sed 's/^/    stderr: /' err | head -n 5 >&2
}

run() {
    last="critiprefill $*"
    "$P" "$@" >out 2>err </dev/null
    rc=$?
}

want_rc() { [ "$rc" -eq "$1" ] || bad "exit code $rc, not $1"; }
want_no_out() { [ ! -s out ] || bad "stdout is not empty"; }
want_no_err() { [ ! -s err ] || bad "stderr is not empty"; }
want_out() { grep -qE -- "$1" out || bad "stdout does not match '$1'"; }
want_err() { grep -qE -- "$1" err || bad "stderr does not match '$1'"; }
want_err_line() { [ "$(wc -l <err)" -eq 1 ] || bad "stderr has $(wc -l <err) lines, not 1"; }

# A usage error: code 2, one line that says where help is, nothing on stdout.  $1: what the line must match.
want_usage() { want_rc 2; want_no_out; want_err_line; want_err "$1"; want_err '; see critiprefill.* --help$'; }
# A run-time failure: code 1, one line, nothing on stdout.
want_fail() { want_rc 1; want_no_out; want_err_line; want_err "$1"; want_err '^critiprefill: '; }

# The file out holds one JSON object a line, and the Python expression about their list rows holds.
want_rows() {
    python3 - "$1" <<'PY' || bad "JSON lines: $1"
import json, sys
def no(x): raise ValueError(x)
text = open("out", encoding="utf-8").read()
assert text == "" or text.endswith("\n"), "the last line is not ended"
rows = [json.loads(x, parse_constant=no) for x in text.splitlines()]
sys.exit(0 if eval(sys.argv[1]) else 1)
PY
}

# The file out is JSON, and the Python expression about j holds.
want_json() {
    python3 - "$1" <<'PY' || bad "JSON: $1"
import json, sys
def no(x): raise ValueError(x)
text = open("out", encoding="utf-8").read()
assert text.endswith("\n") and text.count("\n") == 1, "not one line"
j = json.loads(text, parse_constant=no)
sys.exit(0 if eval(sys.argv[1]) else 1)
PY
}

# The file out against golden/$1; defaults that come from the library are not part of it.
want_golden() {
    sed -E 's/^(  [a-z_]+)=[0-9.]+ +/\1=# /' out >out.golden
    if [ -n "${UPDATE:-}" ]; then cp out.golden "$CLI_DIR/golden/$1"; return; fi
    diff -u "$CLI_DIR/golden/$1" out.golden >&2 || bad "differs from golden/$1 (UPDATE=1 writes it anew)"
}

# A text of about $1 bytes.
text() { yes 'The quick brown fox reads a long report about rivers, and says nothing.' | head -c "$1"; }
