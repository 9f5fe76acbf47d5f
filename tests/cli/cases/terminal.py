# SPDX-License-Identifier: MIT
"""The progress bar and Ctrl-C: a prompt that takes some seconds, read on a pseudo-terminal and without one."""
import os
import pty
import signal
import subprocess
import sys
import time

P, M = os.environ["P"], os.environ["M"]
SLOW = ["--cpu", "c", "-t", "1", "--attn", "dense", "-n", "4"]
ENV = dict(os.environ, TERM="xterm")
bad = []


def check(ok, what):
    if not ok:
        bad.append(what)


def args(n, *more):
    return [P, "run", "-m", M, "-f", "long.txt", "-c", str(n), "--truncate", "middle", *SLOW, *more]


def find_length():
    """A prompt length that takes at least 3 s here."""
    n = 2048
    while n < 1 << 20:
        with open("long.txt", "w") as f:
            f.write("The quick brown fox reads a long report about rivers. " * (n // 6))
        t = time.monotonic()
        p = subprocess.run(args(n), capture_output=True)
        check(p.returncode == 0, "a long prompt fails: %r" % p.stderr[-200:])
        check(b"\r" not in p.stderr, "a bar without a terminal")
        if time.monotonic() - t > 3 or bad:
            return n
        n *= 2
    return n


def on_terminal(n, *more, stop_after=None):
    """Exit code, what stderr showed, stdout."""
    master, slave = pty.openpty()
    p = subprocess.Popen(args(n, *more), stderr=slave, stdout=subprocess.PIPE, env=ENV)
    os.close(slave)
    shown = b""
    t = time.monotonic()
    if stop_after:
        time.sleep(stop_after)
        p.send_signal(signal.SIGINT)
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    out = p.stdout.read()
    return p.wait(), shown, out, time.monotonic() - t


def have_terminal():
    try:
        for fd in pty.openpty():
            os.close(fd)
        return True
    except OSError as e:
        print("  no pseudo-terminal here (%s): only stdin is tried" % e, file=sys.stderr)
        return False


n = find_length() if have_terminal() else 0
if n and not bad:
    code, shown, out, _ = on_terminal(n)
    check(code == 0, "exit code %d on a terminal" % code)
    check(b" left" in shown and b"tokens/s" in shown, "no bar on a terminal: %r" % shown[:200])
    tail = shown[shown.rfind(b" left") :]
    check(tail.startswith(b" left\r\x1b[K"), "the bar is not erased: %r" % tail[:80])
    check(b"\x1b" not in out and b"\r" not in out, "the bar got into the answer")
    code, shown, out, _ = on_terminal(n, "--no-progress")
    check(code == 0 and b" left" not in shown, "--no-progress shows a bar")
    for more in ([], ["--json"], ["--compare"]):
        code, shown, out, took = on_terminal(n, *more, stop_after=0.7)
        check(code == 130, "Ctrl-C %s: exit code %d" % (more, code))
        check(out == b"", "Ctrl-C %s: wrote %r" % (more, out[:80]))
        # A second is the aim; here only that it stops at all, machines are shared.
        check(took < 0.7 + 20, "Ctrl-C %s: took %.1f s" % (more, took - 0.7))
    p = subprocess.Popen(args(n), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    p.terminate()
    check(p.wait() == 130, "SIGTERM is not 130")
# Ctrl-C while stdin has nothing to say.
p = subprocess.Popen([P, "run", "-m", M, "-f", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
time.sleep(0.5)
p.send_signal(signal.SIGINT)
try:
    p.wait(5)
except subprocess.TimeoutExpired:
    p.kill()
check(p.returncode == 130, "Ctrl-C at stdin: %s" % p.returncode)
for b in bad:
    print("  " + b, file=sys.stderr)
sys.exit(1 if bad else 0)
