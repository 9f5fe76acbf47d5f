#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the corpus of awkward texts beside this script (*.txt, any bytes), or random mixtures for comparing with a peer.

usage: make_corpus.py                     the corpus, always the same bytes
       make_corpus.py --random SEED DIR N N files of random mixed text in DIR
"""
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def u(*parts):
    return "".join(parts).encode("utf-8")


CORPUS = {
    "emoji": u("😀😁 👍🏽 👨‍👩‍👧‍👦 👩🏽‍💻 ❤️ ☺︎ ✔ 🇫🇷🇩🇪🇺 1️⃣ #️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 text😀text 😀😀😀\n", "🫨🩷🪽"),
    "cjk": u("漢字かな交じり文、テスト。\n中文，没有空格的句子！数字123和英文abc混合。\n한국어 문장 입니다. ㄱㄴㄷ ᄒ", "ᅡᆫ 가\n𠀀𪜶𫝀 〇一二三 ゛か", "\u3099ｶﾞ　全角　スペース Ａｂｃ１２３\n"),
    "space": u(" a  b   c    d\te\t\tf \t g\n\nh\n\n\n i \n j\r\nk\r\n\r\nl\r m \r\n  n\v\fo ", "\u00a0p\u00a0\u00a0q\u1680r\u2003s\u2009\u200at\u2028u\u2029v\u202fw\u205fx\u3000y\u0085z\u200b!\ufeff?\u180e."),
    "space_only": b"   \n  \t \r\n   ",
    "trailing": b"ends in blanks   ",
    "newline_end": b"one line\n",
    "newlines": b"\n\n\na\n\n\n\nb\r\n\r\n\r\nc\n \n \nd\n\t\n",
    "control": bytes(range(0, 33)) + b"a\x00b\x00\x00c\x1b[31mred\x1b[0m\x7f\x1c\x1d\x1e\x1f" + u("\u0080\u0085\u009f\u00ad\u2060\u202e\u2066\ufffe\uffff"),
    "numbers": b"0 1 12 123 1234 12345 123456 1,234,567.89 -1 +2 3e10 0xFF 0b1010 1_000 192.168.0.1 2024-11-24T13:08:00Z $5 50% 7th v1.2.3 1/2 3:45pm",
    "digits": u("٠١٢٣٤٥٦٧٨٩ ۰۱۲۳ ०१२३४ ๐๑๒๓ ０１２ 𝟎𝟏𝟐 ½⅓ ²³ ①②⑳ ⅠⅣⅷ 〇〡 ௧௨௰ ৳৪ 𐄇 𑁒 a²b x₁ 1٣9"),
    "code": b"#include <stdio.h>\nint main(void) {\n\tfor (size_t i=0; i<n; ++i) { a[i] += b[i]*0x1f; }\n\treturn x ? y : z; // done\n}\n"
            b"def f(self, *a, **k):\n    \"\"\"doc\"\"\"\n    return {'a': [1, 2], \"b\": lambda x: x**2}\n\n\n    # four\n        # eight\n"
            b"SELECT * FROM t WHERE a<>'it''s';\n<div class=\"a b\">&nbsp;</div>\n$ grep -E '^(a|b)+$' *.c | wc -l && echo \"$HOME\"\n\\n \\t \\x41 \\u1234 C:\\new\\table\n",
    "right_to_left": u("שלום עולם! שָׁלוֹם 123 abc\nمرحبا بالعالم، كيف الحال؟ السَّلَامُ عَلَيْكُمْ ٤٥٦\nفارسی می‌خواهم اردو ہے\n‏‎mixed עברית and العربية‬\n"),
    "combining": u("e\u0301 é a\u0308\u0304 n\u0303 Z\u0351\u036b\u0343a\u0334l\u0335g\u0336o\u0337 हिन्दी में क्ष त्र नमस्ते தமிழ் ไทยภาษา កម្ពុជា မြန်မာ \u0301start \u20dd1\u20dd"),
    "contractions": u("I'm you're he's we'll they'd I've can't DON'T I'M YOU'RE HE'S WE'LL THEY'D I'VE 'Tis 'twas rock'n'roll O'Neil ''s 's 'S 't 're 'Re 'rE 've 'VE 'm 'M 'll 'Ll 'lL 'd 'D 'x 'sa 'Sa 'lla "
                      "don’t it’s ‘s ʼs `s ´s ＇s don\u2032t '\u017f '\u212a I 'll a'sb 1's 's1 'ſ s' ' s"),
    "latin": u("Ünïcödé ÀÉÎÕÜ ß ẞ İı ſ Å Å ﬁﬂ Ǆ ǅ ǆ ªº µ Ω Ω Æther œuvre naïve façade Zażółć gęślą jaźń Příliš žluťoučký kůň"),
    "scripts": u("Ελληνικά Русский Українська Հայերեն ქართული አማርኛ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ᠮᠣᠩᠭᠣᠯ བོད་སྐད ꦗꦮ 𐤀𐤁 𒀀𒁀 𓀀𓁐 𐐷 𝔘𝔫𝔦 ℵ ⴰⵣⵓⵍ ᚠᚢᚦ ꙮ"),
    "symbols": u("!@#$%^&*()_+-=[]{}|;:'\",.<>/?`~ ¡¿§¶©®™°±×÷€£¥¢ …–—―‐‑ «»„“”‘’‚ ←→⇒∀∃∑√∞≈≠≤ ─│┌█▓░ ★☆♠♥ ⠁⠂ 〈〉「」【】〜 ､｡ﾟ !!! ... --- === *** ### ___ ~~~ ->=>::<=>==!==&&||"),
    "new_unicode": u("\u0cf3\U00010efd\U0001123f\U00011f02\U00011f50\U0001342f\U0001b132\U0001d2c0\U0001df25\U0001e030\U0001e4d0\U0001e4f0\U00031350\U0002ebf0 \u2ffc \u0378\U000e0fff\U0010fffd"),
    "specials": b"<|im_start|>user\nHello<|im_end|>\n<|endoftext|><|im_end|><|im_end|> <|im_start|> x<|im_end|>y <|im_ <|im_end <|im_end|<|im_end|> "
                b"<s></s> <unk> <tool_call>{}</tool_call> <file_sep><repo_name><filename> <|eot_id|> [INST] <<SYS>> <|fim_prefix|><|fim_pad|> [PAD151665] </s>",
    "bom": b"\xef\xbb\xbfText behind a byte order mark\xef\xbb\xbf and another",
    "invalid": b"ok \xff\xfe bad \x80\x80 cut \xe2\x82 \xe2 \xf0\x9f\x98 \xf0\x9f end; overlong \xc0\x80 \xc1\xbf \xe0\x80\x80 \xe0\x9f\xbf \xf0\x80\x80\x80; "
               b"surrogates \xed\xa0\x80\xed\xbf\xbf; five \xf8\x88\x80\x80\x80 \xfc\x84\x80\x80\x80\x80; lone \xc3( \xe4\xb8( a\xffb\xffc \xff\xff\xff\xff \xe2\x82",
    "latin1": "Gr\u00fc\u00dfe aus K\u00f6ln, d\u00e9j\u00e0 vu".encode("latin-1"),
    "utf16": "Hi there".encode("utf-16-le"),
    "runs": b"a" * 3000 + b" " * 3000 + b"b" + b"\n" * 500 + b"\t" * 300 + b"." * 700 + b"7" * 400 + "é漢😀".encode() * 200 + b"ab" * 900 + b" x" * 500 + b"'" * 300,
    "long_word": "".join(random.Random(5).choice("abcdefghijklmnopqrstuvwxyz") for _ in range(5000)).encode(),
    "empty": b"",
    "one": b"a",
    "prose": u("The quick brown fox jumps over the lazy dog. “Curiouser and curiouser!” cried Alice (she was so much surprised…). "
               "It's 3:45 p.m.; she'd paid $1,299.99—or was it €1.299,99? E-mail: a.b+c@d-e.org, https://x.y/z?q=1&r=%20#top\n\n- item one\n- item two\n\n> quote\n\n| a | b |\n|---|---|\n"),
}

PIECES = ["'s", "'T", "'re", "'Ve", "'LL", "’s", "'ſ", "'", "the", " The", "hello", " World", "(x)", " == ", "->", "::", "/*", " {\n\t",
          "});\n", "0x1F", "1,234.5", "___", "....", "http://a.b/c?d=e&f", "foo_bar", "<|im_end|>", "<|im_start|>", "</s>",
          "<tool_call>", "<|endoftext|>", "😀", "👨\u200d👩\u200d👧", "🏽", "🇫🇷", "é", "e\u0301", "ß", "İ", "א", "ב", "ש\u05c1", "ع", "\u064b",
          "हि", "न्", "ไท", "한", "か\u3099", "½", "²", "٣", "४", "Ⅷ", "𝟗", "漢", "字"]
SPACES = ["\r", "\n", "\t", " ", "\v", "\f", "\0", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u2003", "\u200b", "\u2028", "\u202f", "\u3000", "\ufeff"]


def mixture(rng):
    out = b""
    for _ in range(rng.randrange(5, 400)):
        k = rng.random()
        if k < 0.25:
            out += bytes([rng.randrange(32, 127)])
        elif k < 0.35:
            out += rng.choice(SPACES).encode() * rng.choice([1, 1, 1, 2, 3, 9])
        elif k < 0.65:
            out += rng.choice(PIECES).encode()
        elif k < 0.75:
            out += rng.choice([b" ", b"\n", b"\r\n", b"  ", b"\n\n"]) * rng.choice([1, 1, 2, 3, 20])
        elif k < 0.9:
            c = rng.randrange(0x80, rng.choice([0x800, 0x3000, 0x10000, 0x32400]))
            out += chr(c if not 0xD800 <= c < 0xE000 else 0x4E00).encode()
        elif k < 0.95:
            out += rng.choice(["a", "漢", "9", "!", "é", "\u0301", "😀"]).encode() * rng.randrange(2, 80)
        elif rng.random() < 0.3:  # ill-formed, but nothing beyond U+10FFFF: the peer ends on that
            out += rng.choice([b"\xff", b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88"])
    return out


def main():
    if sys.argv[1:2] == ["--random"]:
        rng, folder = random.Random(int(sys.argv[2])), sys.argv[3]
        for i in range(int(sys.argv[4])):
            with open(os.path.join(folder, f"random{i:04}.txt"), "wb") as f:
                f.write(mixture(rng))
        return
    for name, text in CORPUS.items():
        with open(os.path.join(HERE, name + ".txt"), "wb") as f:
            f.write(text)


if __name__ == "__main__":
    main()
