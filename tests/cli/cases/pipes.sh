# SPDX-License-Identifier: MIT
# stdout that is full, closed, or a pipe nobody reads any more: exit 1, with a reason unless it is the pipe.
text 500 >a.txt
ln -s "$M" m.gguf # a name without blanks
args=("run -m m.gguf -f a.txt -n 8 --no-progress" "run -m m.gguf -f a.txt -n 8 --json"
      "bench -m m.gguf -f a.txt -c 64 -n 0 --no-progress" "tokenize -m m.gguf -f a.txt" "info -m m.gguf"
      "info -m m.gguf --json" --help "run --help" --version)
for a in "${args[@]}"; do
    # shellcheck disable=SC2086
    {
        last="$a >/dev/full"; "$P" $a >/dev/full 2>err; rc=$?; want_rc 1; want_err_line; want_err 'stdout: No space left'
        last="$a >&-"; "$P" $a >&- 2>err; rc=$?; want_rc 1; want_err '^critiprefill: stdout: '
    }
done
# The reader is gone before the first byte: the exit is 1, quietly.
last='run | (closed)'
python3 - "$P" "$M" <<'PY' || bad "a closed pipe is not exit 1 without a word"
import os, subprocess, sys
r, w = os.pipe()
os.close(r)
p = subprocess.run([sys.argv[1], "run", "-m", sys.argv[2], "-f", "a.txt", "-n", "8", "--no-progress"], stdout=w, stderr=subprocess.PIPE,
                   preexec_fn=lambda: __import__("signal").signal(__import__("signal").SIGPIPE, __import__("signal").SIG_DFL))
sys.exit(0 if p.returncode == 1 and p.stderr == b"" else 1)
PY
# stdin and stderr closed do no harm.
last='run <&- 2>&-'; "$P" run -m "$M" -f a.txt -n 4 >out 2>&- <&-; rc=$?; want_rc 0; [ -s out ] || bad "no answer"
last='run -f - <&-'; "$P" run -m "$M" -f - -n 4 >out 2>err <&-; rc=$?; want_fail 'stdin: '
