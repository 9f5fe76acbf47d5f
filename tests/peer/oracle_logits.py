#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# The oracle (tests/tiny/oracle.c) against llama.cpp on synthetic models: log-probabilities of 31 positions a model, from
# llama-perplexity's --save-all-logits file, which keeps 16 bits a value.  Needs numpy.
#   usage: oracle_logits.py TINY_TOOL LLAMA_PERPLEXITY        exit 0 when every model agrees to its resolution
# Weights are F32: with quantised ones llama.cpp rounds the activations too.
import random
import struct
import subprocess
import sys
import tempfile

import numpy as np

N_CTX = 64
MODELS = {
    "llama": "seed=2",
    "llama spm": "seed=9 tok=llama",
    "llama linear": "seed=5 rope=linear",
    "llama llama3": "seed=8 rope=llama3 rope_base=5000 d_head=32",
    "llama yarn": "seed=6 rope=yarn d_head=32 n_embd=128 rope_base=1000",
    "qwen2 tied, 7 heads a KV head": "seed=3 arch=qwen2 n_head=14 n_kv_head=2 n_embd=224 tied=1",
    "qwen2 linear": "seed=6 arch=qwen2 rope=linear rope_orig_ctx=0",
    "qwen2 yarn": "seed=6 arch=qwen2 rope=yarn d_head=32 n_embd=128",
    "qwen2 linear attn_factor": "seed=6 arch=qwen2 rope=linear rope_attn=1.3",
    "qwen2 yarn that shrinks": "seed=6 arch=qwen2 rope=yarn d_head=32 n_embd=128 rope_factor=0.5",
    "qwen3, 8 heads a KV head": "seed=4 arch=qwen3 n_head=8 n_kv_head=1 d_head=32",
    "qwen3 yarn attn_factor": "seed=7 arch=qwen3 rope=yarn rope_attn=1.3 rope_base=500 n_ctx_train=128",
}


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def saved(path):
    """tokens [chunk][ctx], log-probabilities [chunk][row][vocab] with their smallest value cut off, step"""
    b = open(path, "rb").read()
    assert b[:8] == b"_logits_"
    n_ctx, n_vocab, n_chunk = struct.unpack("<iii", b[8:20])
    tokens = np.frombuffer(b, "<i4", n_ctx * n_chunk, 20).reshape(n_chunk, n_ctx)
    width = 2 * ((n_vocab + 1) // 2) + 4
    rows = np.frombuffer(b, "<u2", -1, 20 + 4 * n_ctx * n_chunk)
    rows = rows[: len(rows) // width * width].reshape(n_chunk, -1, width)
    step = rows[..., 0:2].copy().view("<f4")
    low = rows[..., 2:4].copy().view("<f4")
    return tokens, low + step * rows[..., 4 : 4 + n_vocab].astype(float), low, step.max()


def main(tiny, perplexity):
    random.seed(1)
    words = "the and in other line hello world an ring lo er on thing then 42 Q!".split()
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        with open(f"{tmp}/text", "w") as f:
            f.write(" ".join(random.choice(words) for _ in range(300)))
        for name, args in MODELS.items():
            subprocess.run([tiny, "write", f"{tmp}/m.gguf", *args.split()], check=True)
            subprocess.run([perplexity, "-m", f"{tmp}/m.gguf", "-f", f"{tmp}/text", "-c", str(N_CTX), "-b", str(N_CTX),
                            "--save-all-logits", f"{tmp}/log", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "1",
                            "--chunks", "2"], check=True, capture_output=True)
            tokens, want, low, step = saved(f"{tmp}/log")
            out = subprocess.run([tiny, "logits", f"{tmp}/m.gguf", *map(str, tokens[0])], check=True, capture_output=True)
            got = log_softmax(np.array([[float(x) for x in line.split()] for line in out.stdout.decode().splitlines()]))
            got = got[N_CTX // 2 : N_CTX // 2 + want.shape[1]]
            gap = np.abs(got - want[0])[want[0] > low[0] + 1e-6].max()
            ok = gap < 2 * step
            bad += not ok
            print(f"{'ok  ' if ok else 'FAIL'} {name}: {len(got)} positions, largest gap {gap:.2g}, step {step:.2g}")
    return 1 if bad else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: oracle_logits.py TINY_TOOL LLAMA_PERPLEXITY")
    sys.exit(main(*sys.argv[1:]))
