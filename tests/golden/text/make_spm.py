#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains a tiny SentencePiece BPE model on the corpus and writes spm.vocab and spm.vec beside this script.

spm.vocab: one token a line: kind (as in GGUF) score text-in-hex.  spm.vec: one text a line: text-in-hex, then the ids
SentencePiece itself gives, a second implementation of what src/text/spm.c does.  Needs sentencepiece from PyPI.
"""
import os
import random
import tempfile

import sentencepiece as sp

from make_corpus import CORPUS, HERE, mixture

texts = [t.decode() for n, t in CORPUS.items() if n not in ("invalid", "latin1", "utf16", "runs", "long_word", "control", "empty")]
with tempfile.TemporaryDirectory() as tmp:
    with open(f"{tmp}/train.txt", "w", encoding="utf-8") as f:
        f.write("\n".join(t.replace("\0", "") for t in texts * 3))
    sp.SentencePieceTrainer.train(
        input=f"{tmp}/train.txt", model_prefix=f"{tmp}/m", model_type="bpe", vocab_size=1000, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2)
    m = sp.SentencePieceProcessor(model_file=f"{tmp}/m.model")

with open(f"{HERE}/spm.vocab", "w") as f:
    for i in range(m.vocab_size()):
        kind = 2 if m.is_unknown(i) else 3 if m.is_control(i) else 6 if m.is_byte(i) else 1
        f.write(f"{kind} {m.get_score(i):g} {m.id_to_piece(i).encode().hex()}\n")
rng = random.Random(7)
while len(texts) < 60:
    try:
        texts.append(mixture(rng)[:200].decode().replace("\0", ""))
    except UnicodeDecodeError:
        pass
with open(f"{HERE}/spm.vec", "w") as f:
    for t in texts:
        if t and "\u2581" not in t and "\0" not in t:
            f.write(" ".join([t.encode().hex(), *map(str, m.encode(t))]) + "\n")
