#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes unicode_ranges.inc: where the class of a code point changes, from U+0080 on.

The pre-tokenizers of today's models are defined on Unicode 15.1; PCRE2 brings whatever version the system has, so the
classes are ours.  Needs unicodedata2==15.1.0 from PyPI.   usage: unicode_ranges.py > unicode_ranges.inc
"""
import unicodedata2 as u

assert u.unidata_version == "15.1.0", u.unidata_version
SPACES = {0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, *range(0x2000, 0x200B)}  # White_Space


def klass(c):
    if c in SPACES:
        return "S"
    return {"L": "L", "N": "N", "P": "P"}.get(u.category(chr(c))[0], "O")


cells, last = [], None
for c in range(0x80, 0x110000):
    k = klass(c)
    if k != last:
        cells.append(f"{k}(0x{c:X})")
        last = k
print("/* SPDX-License-Identifier: MIT */")
print("/* Made by unicode_ranges.py from Unicode 15.1: first code point of each run of one class (L letter, N number,")
print(" * S white space, P punctuation, O all else), ascending from U+0080. */")
line = ""
for cell in cells:
    if len(line) + len(cell) + 2 > 118:
        print(line)
        line = ""
    line += (" " if line else "") + cell + ","
print(line)
