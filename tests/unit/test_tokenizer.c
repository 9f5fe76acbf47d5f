/* SPDX-License-Identifier: MIT */
/* Tokenizing with vocabularies built here: merges by rank and by score against a plain re-implementation, the cuts of
 * each pre-tokenizer, special tokens, ill-formed text, long runs, pieces, the UTF-8 stream; and tokenizers of GGUF
 * files that are wrong in every way we could think of, which must be refused or worked with, never crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/vocab_load.h"
#include "text/pretok.h"
#include "text/utf8.h"
#include "tiny/ggufw.h"
#include "tiny/tiny.h"

#define T(s)                                                                                                           \
    { s, sizeof(s) - 1 }

/* ---- vocabularies ---- */

enum { MAX = 600 };
typedef struct made {
    crit_text token[MAX];
    float score[MAX];
    int32_t kind[MAX];
    char byte_text[256][8];
    crit_vocab_source src;
} made;

static int32_t add(made *m, const char *s, int32_t kind, float score) {
    size_t i = m->src.n_token++;
    assert_true(i < MAX);
    m->token[i] = (crit_text){s, strlen(s)};
    m->kind[i] = kind;
    m->score[i] = score;
    return (int32_t)i;
}

/* gpt2 with all bytes as ids 0..255, printable stand-ins as the format wants them. */
static void make_bpe(made *m, const char *pre) {
    memset(m, 0, sizeof *m);
    m->src = crit_vocab_source_empty();
    m->src.model = (crit_text)T("gpt2");
    m->src.pre = (crit_text){pre, strlen(pre)};
    for (uint32_t b = 0, n = 0; b < 256; b++) {
        bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        size_t len = crit_utf8_encode(itself ? b : 256 + n++, (unsigned char *)m->byte_text[b]);
        m->byte_text[b][len] = 0;
        add(m, m->byte_text[b], CRIT_TOKEN_NORMAL, 0);
    }
    m->src.token = m->token;
    m->src.kind = m->kind;
}

static crit_vocab *opened(made *m) {
    crit_vocab *v;
    crit_error err;
    if (crit_vocab_open(&v, &m->src, &err)) fail_msg("%s", err.message);
    return v;
}

static size_t encode(const crit_vocab *v, const char *s, size_t len, unsigned flags, int32_t *ids, size_t cap) {
    size_t n;
    crit_error err;
    if (crit_vocab_tokenize(v, s, len, flags, ids, cap, &n, &err)) fail_msg("%s", err.message);
    return n;
}

static void expect_ids(const crit_vocab *v, const char *s, unsigned flags, const int32_t *want, size_t n_want) {
    int32_t ids[256];
    size_t n = encode(v, s, strlen(s), flags, ids, 256);
    for (size_t i = 0; i < n && i < n_want; i++)
        if (ids[i] != want[i]) fail_msg("\"%s\": id %zu is %d, not %d", s, i, ids[i], want[i]);
    assert_int_equal(n, n_want);
}
#define EXPECT(v, s, flags, ...)                                                                                       \
    expect_ids(v, s, flags, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* ---- merges ---- */

/* Three letters, merges at random; the encoder against "find the best pair, join it, again" on strings. */
static void bpe_merges(void **state) {
    (void)state;
    uint64_t rng = 11;
    for (int round = 0; round < 20; round++) {
        made m;
        make_bpe(&m, "gpt-2");
        enum { N = 40 };
        static char token[N][64], merge[N][80];
        crit_text merges[N];
        char known[N + 3][64] = {"a", "b", "c"};
        size_t n_known = 3;
        for (int i = 0; i < N; i++) {
            const char *l, *r;
            bool dup;
            do {
                l = known[tiny_rand(&rng) % n_known];
                r = known[tiny_rand(&rng) % n_known];
                snprintf(token[i], sizeof token[i], "%.31s%.31s", l, r);
                dup = strlen(l) + strlen(r) > 12;
                for (size_t k = 0; k < n_known; k++) dup = dup || !strcmp(known[k], token[i]);
            } while (dup);
            snprintf(merge[i], sizeof merge[i], "%.31s %.31s", l, r);
            merges[i] = (crit_text){merge[i], strlen(merge[i])};
            memcpy(known[n_known++], token[i], sizeof token[i]);
            add(&m, token[i], CRIT_TOKEN_NORMAL, 0);
        }
        m.src.merge = merges;
        m.src.n_merge = N;
        crit_vocab *v = opened(&m);
        for (int t = 0; t < 200; t++) {
            char text[200], part[200][64];
            size_t len = 1 + tiny_rand(&rng) % (t % 2 ? 20 : 150), n = len; /* both the scan and the heap */
            for (size_t i = 0; i < len; i++) {
                text[i] = "abc"[tiny_rand(&rng) % 3];
                part[i][0] = text[i];
                part[i][1] = 0;
            }
            for (;;) {
                int best = N;
                size_t at = 0;
                for (size_t i = 0; i + 1 < n; i++) {
                    char pair[80];
                    snprintf(pair, sizeof pair, "%.31s %.31s", part[i], part[i + 1]);
                    for (int k = 0; k < best; k++)
                        if (!strcmp(merge[k], pair)) {
                            best = k;
                            at = i;
                        }
                }
                if (best == N) break;
                memcpy(part[at] + strlen(part[at]), part[at + 1], strlen(part[at + 1]) + 1);
                memmove(part + at + 1, part + at + 2, (--n - at - 1) * sizeof part[0]);
            }
            int32_t ids[200];
            assert_int_equal(encode(v, text, len, 0, ids, 200), n);
            for (size_t i = 0; i < n; i++) {
                char piece[64];
                size_t k = crit_vocab_piece(v, ids[i], false, piece, sizeof piece);
                assert_int_equal(k, strlen(part[i]));
                assert_memory_equal(piece, part[i], k);
            }
        }
        crit_vocab_close(&v);
    }
}

/* Tiles of the merges below: two, four, ... of a byte in one token would hide the cuts, so only pairs are merged. */
static const crit_text no_merge[] = {T("q z")};

/* The cuts of a text as "a|b|c". */
typedef struct cuts {
    char s[512];
    size_t n;
} cuts;
static bool on_word(void *user, const unsigned char *word, size_t len) {
    cuts *c = user;
    if (c->n) c->s[c->n++] = '|';
    memcpy(c->s + c->n, word, len);
    c->n += len;
    return true;
}
static void expect_cuts(const char *pre, const char *text, const char *want) {
    crit_pretok *p;
    crit_error err;
    cuts c = {.n = 0};
    if (crit_pretok_open(&p, pre, strlen(pre), &err)) fail_msg("%s", err.message);
    assert_int_equal(crit_pretok_split(p, text, strlen(text), on_word, &c, &err), CRIT_OK);
    c.s[c.n] = 0;
    if (strcmp(c.s, want) != 0) fail_msg("%s: \"%s\", not \"%s\"", pre, c.s, want);
    crit_pretok_close(&p);
}

static void pretokenizers(void **state) {
    (void)state;
    static const char s[] = "Don't I'LL  go\r\n\n x1234 5?!\n\xd9\xa3\xc2\xb2 \xe6\xbc\xa2\xe5\xad\x97 e\xcc\x81.";
    expect_cuts("gpt-2", s,
                "Don|'t| I|'|LL| | go|\r\n\n| x|1234| 5|?!|\n|\xd9\xa3\xc2\xb2| \xe6\xbc\xa2\xe5\xad\x97| e|\xcc\x81.");
    expect_cuts(
        "smollm", s,
        "Don|'t| I|'|LL| | go|\r\n\n| x|1|2|3|4| |5|?!|\n|\xd9\xa3|\xc2\xb2| \xe6\xbc\xa2\xe5\xad\x97| e|\xcc\x81.");
    expect_cuts(
        "qwen2", s,
        "Don|'t| I|'LL| | go|\r\n\n| x|1|2|3|4| |5|?!\n|\xd9\xa3|\xc2\xb2| \xe6\xbc\xa2\xe5\xad\x97| e|\xcc\x81.");
    expect_cuts("llama-bpe", s,
                "Don|'t| I|'LL| | go|\r\n\n| x|123|4| |5|?!\n|\xd9\xa3\xc2\xb2| \xe6\xbc\xa2\xe5\xad\x97| e|\xcc\x81.");
    expect_cuts("tekken", "camelCase HTTPServer it'S 12 a/b//\n", "camel|Case| HTTPServer| it|'S| |1|2| a|/b|//\n");
    expect_cuts("default", "a+b, 12345 x", "a|+|b|,| |123|45| x");
    expect_cuts("default", "$5 <=>", "$|5| |<=>");
    expect_cuts("qwen2",
                "\xff"
                "a\xe2\x82",
                "\xef\xbf\xbd"
                "a|\xef\xbf\xbd\xef\xbf\xbd");
    expect_cuts("qwen2", "   ", "   ");
    expect_cuts("qwen2", "", "");
    expect_cuts("qwen2",
                "a\xc2\xa0\xe3\x80\x80"
                "b",
                "a|\xc2\xa0|\xe3\x80\x80"
                "b");
    static const char *const alias[][2] = {
        {"llama3", "llama-bpe"}, {"llama-v3", "llama-bpe"}, {"midm-2.0", "llama-bpe"}, {"deepseek-r1-qwen", "qwen2"},
        {"kormo", "qwen2"},      {"f2llmv2", "qwen2"},      {"mellum", "gpt-2"},       {"trillion", "gpt-2"},
        {"a.x-4.0", "gpt-2"}};
    for (size_t i = 0; i < sizeof alias / sizeof *alias; i++) {
        cuts c[2] = {{.n = 0}, {.n = 0}};
        for (int k = 0; k < 2; k++) {
            crit_pretok *p;
            assert_int_equal(crit_pretok_open(&p, alias[i][k], strlen(alias[i][k]), NULL), CRIT_OK);
            assert_int_equal(crit_pretok_split(p, s, strlen(s), on_word, &c[k], NULL), CRIT_OK);
            crit_pretok_close(&p);
        }
        assert_int_equal(c[0].n, c[1].n);
        assert_memory_equal(c[0].s, c[1].s, c[0].n);
    }
    crit_pretok *p;
    crit_error err;
    static const char *const unknown[] = {"", " ", "qwen", "qwen2 ", "gpt-2 phi-2", "no-such"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_int_equal(crit_pretok_open(&p, unknown[i], strlen(unknown[i]), &err), CRIT_E_TOKENIZER);
    assert_non_null(strstr(err.message, "no-such"));
}

/* ---- special tokens, flags, pieces ---- */

static void special_tokens(void **state) {
    (void)state;
    made m;
    make_bpe(&m, "qwen2");
    int32_t end = add(&m, "<|im_end|>", CRIT_TOKEN_CONTROL, 0), x = add(&m, "<x>", CRIT_TOKEN_USER, 0);
    int32_t xy = add(&m, "<x><y>", CRIT_TOKEN_USER, 0), cross = add(&m, "y><x", CRIT_TOKEN_CONTROL, 0);
    int32_t unk = add(&m, "<unk>", CRIT_TOKEN_UNKNOWN, 0), unused = add(&m, "[PAD]", CRIT_TOKEN_UNUSED, 0);
    add(&m, "", CRIT_TOKEN_CONTROL, 0);
    int32_t twin = add(&m, "<x>", CRIT_TOKEN_USER, 0), close = add(&m, "</s>", CRIT_TOKEN_NORMAL, 0);
    m.src.merge = no_merge;
    m.src.n_merge = 1;
    m.src.bos = end;
    m.src.eos = x;
    m.src.add_bos = m.src.add_eos = 1;
    crit_vocab *v = opened(&m);
    const unsigned S = CRIT_TOK_PARSE_SPECIAL;
    EXPECT(v, "a<|im_end|>b", S, 'a', end, 'b');
    EXPECT(v, "<|im", 0, '<', '|', 'i', 'm');
    int32_t ids[64];
    assert_int_equal(encode(v, "<|im_end|>", 10, 0, ids, 64), 10);
    EXPECT(v, "a<x>b", 0, 'a', x, 'b'); /* user-defined: in any case */
    EXPECT(v, "<x><y>", 0, xy);         /* the longer */
    EXPECT(v, "<x><y><x>", S, xy, x);   /* the longer also where a shorter one crosses */
    EXPECT(v, "y><x>", S, cross, '>');
    EXPECT(v, "y><x>", 0, 'y', '>', x);
    EXPECT(v, "<unk>", S, unk);
    EXPECT(v, "<x>[PAD]", S, x, '[', 'P', 'A', 'D', ']');
    EXPECT(v, "</s>", S, close); /* ends a generation by its name: a control token whatever the file says */
    EXPECT(v, "</s>", 0, '<', '/', 's', '>');
    EXPECT(v, "", CRIT_TOK_BOS_EOS, end, x);
    EXPECT(v, "a", CRIT_TOK_BOS_EOS, end, 'a', x);
    assert_int_equal(encode(v, "", 0, S, ids, 64), 0);
    /* Capacity. */
    size_t n;
    for (size_t cap = 0; cap < 5; cap++) {
        memset(ids, 0x55, sizeof ids);
        assert_int_equal(crit_vocab_tokenize(v, "abcd", 4, 0, ids, cap, &n, NULL), cap < 4 ? CRIT_E_SPACE : CRIT_OK);
        assert_int_equal(n, 4);
        assert_int_equal(ids[cap], 0x55555555);
    }
    /* Pieces. */
    char buf[32];
    assert_int_equal(crit_vocab_piece(v, end, false, buf, 32), 0);
    assert_int_equal(crit_vocab_piece(v, end, true, buf, 4), 10);
    assert_memory_equal(buf, "<|im", 4);
    assert_int_equal(crit_vocab_piece(v, x, false, buf, 32), 3);
    assert_int_equal(crit_vocab_piece(v, unused, true, buf, 32), 0);
    assert_int_equal(crit_vocab_piece(v, -1, true, buf, 32), 0);
    assert_int_equal(crit_vocab_piece(v, INT32_MAX, true, buf, 32), 0);
    assert_int_equal(crit_vocab_piece(v, twin, true, NULL, 0), 3);
    for (int b = 0; b < 256; b++) {
        assert_int_equal(crit_vocab_piece(v, b, false, buf, 1), 1);
        assert_int_equal((unsigned char)buf[0], b);
    }
    /* Ends. */
    assert_true(crit_vocab_is_eog(v, end) && crit_vocab_is_eog(v, x) && crit_vocab_is_eog(v, close));
    assert_false(crit_vocab_is_eog(v, xy) || crit_vocab_is_eog(v, -1) || crit_vocab_is_eog(v, 9999));
    crit_vocab_close(&v);
}

static void any_bytes(void **state) {
    (void)state;
    made m;
    make_bpe(&m, "qwen2");
    m.src.merge = no_merge;
    m.src.n_merge = 1;
    crit_vocab *v = opened(&m);
    int32_t ids[64];
    assert_int_equal(encode(v, "a\0b", 3, 0, ids, 64), 3);
    assert_int_equal(ids[1], 0);
    EXPECT(v, "\xff", 0, 0xef, 0xbf, 0xbd); /* one U+FFFD a byte */
    EXPECT(v,
           "\xe2\x82"
           "a",
           0, 0xef, 0xbf, 0xbd, 0xef, 0xbf, 0xbd, 'a');
    EXPECT(v, "\xed\xa0\x80", 0, 0xed, 0xa0, 0x80);                     /* surrogates stay */
    EXPECT(v, "\xc1\xbf", 0, 0x7f);                                     /* overlong forms are shortened */
    assert_int_equal(encode(v, "\xf4\x90\x80\x80", 4, 0, ids, 64), 12); /* beyond U+10FFFF */
    uint64_t rng = 3;
    for (int i = 0; i < 2000; i++) {
        char s[40];
        size_t len = tiny_rand(&rng) % sizeof s;
        for (size_t k = 0; k < len; k++) s[k] = (char)tiny_rand(&rng);
        int32_t big[128];
        assert_true(encode(v, s, len, CRIT_TOK_PARSE_SPECIAL, big, 128) <= 3 * len);
    }
    crit_vocab_close(&v);
}

/* Runs that invite quadratic time: generous limit, a quadratic way would take minutes. */
static void long_runs(void **state) {
    (void)state;
    enum { LEN = 400000 };
    char *s = malloc(LEN);
    int32_t *ids = malloc((3 * LEN + 16) * sizeof *ids);
    assert_true(s && ids);
    static const char *const unit[] = {"a", " ", "\n", " \n", "'", "1", "ab", "\xff", "<", "<x>", "\xe2\x96\x81"};
    static const crit_text merges[] = {T("a a"), T("aa aa"), T("\xc4\xa0 \xc4\xa0"), T("a b"), T("ab ab")};
    for (int model = 0; model < 3; model++) {
        made m;
        make_bpe(&m, model ? "smollm" : "llama-bpe");
        static const char *const more[] = {"aa",   "aaaa",         "\xc4\xa0\xc4\xa0",        "ab",
                                           "abab", "\xe2\x96\x81", "\xe2\x96\x81\xe2\x96\x81"};
        for (size_t i = 0; i < sizeof more / sizeof *more; i++) add(&m, more[i], CRIT_TOKEN_NORMAL, -(float)i);
        add(&m, "<x>", CRIT_TOKEN_USER, 0);
        m.src.merge = merges;
        m.src.n_merge = sizeof merges / sizeof *merges;
        if (model == 2) {
            m.src.model = (crit_text)T("llama");
            m.src.score = m.score;
        }
        crit_vocab *v = opened(&m);
        for (size_t u = 0; u < sizeof unit / sizeof *unit; u++) {
            size_t len = strlen(unit[u]);
            for (size_t i = 0; i < LEN; i++) s[i] = unit[u][i % len];
            clock_t t = clock();
            encode(v, s, LEN, 0, ids, 3 * LEN + 16);
            if (clock() - t > 10 * CLOCKS_PER_SEC) fail_msg("run of \"%s\": too slow", unit[u]);
        }
        crit_vocab_close(&v);
    }
    free(s);
    free(ids);
}

/* ---- merges by score ---- */

static void spm_model(void **state) {
    (void)state;
    made m;
    memset(&m, 0, sizeof m);
    m.src = crit_vocab_source_empty();
    m.src.model = (crit_text)T("llama");
    m.src.token = m.token;
    m.src.kind = m.kind;
    m.src.score = m.score;
    int32_t unk = add(&m, "<unk>", CRIT_TOKEN_UNKNOWN, 0), bos = add(&m, "<s>", CRIT_TOKEN_CONTROL, 0);
    int32_t eos = add(&m, "</s>", CRIT_TOKEN_CONTROL, 0), byte = (int32_t)m.src.n_token;
    for (int b = 0; b < 256; b++) {
        snprintf(m.byte_text[b], 8, "<0x%02X>", (unsigned)b);
        add(&m, m.byte_text[b], CRIT_TOKEN_BYTE, 0);
    }
    int32_t blank = add(&m, "\xe2\x96\x81", CRIT_TOKEN_NORMAL, -50), h = add(&m, "h", CRIT_TOKEN_NORMAL, -51);
    int32_t i = add(&m, "i", CRIT_TOKEN_NORMAL, -52), hi = add(&m, "hi", CRIT_TOKEN_NORMAL, -3);
    int32_t bh = add(&m, "\xe2\x96\x81h", CRIT_TOKEN_NORMAL, -2),
            bhi = add(&m, "\xe2\x96\x81hi", CRIT_TOKEN_NORMAL, -4);
    int32_t ii = add(&m, "ii", CRIT_TOKEN_NORMAL, -1), user = add(&m, "<u>", CRIT_TOKEN_USER, 0);
    add(&m, "<s", CRIT_TOKEN_NORMAL, -5);
    m.src.unk = unk;
    m.src.bos = bos;
    m.src.eos = eos;
    crit_vocab *v = opened(&m);
    assert_string_equal(crit_vocab_describe(v), "llama");
    EXPECT(v, "hi", 0, bhi);
    EXPECT(v, "hii", 0, bh, ii); /* ii has the best score, then _h */
    EXPECT(v, "iiii", 0, blank, ii, ii);
    EXPECT(v, "iii", 0, blank, ii, i); /* the leftmost of equals */
    EXPECT(v, " hi", 0, blank, bhi);
    EXPECT(v, "h\xc3\xa9", 0, bh, byte + 0xc3, byte + 0xa9);
    EXPECT(v, "\xff", 0, blank, byte + 0xff);
    EXPECT(v, "\xe2\x96", 0, blank, byte + 0xe2, byte + 0x96);
    EXPECT(v, "hi", CRIT_TOK_BOS_EOS, bos, bhi); /* BOS unless the file says no, EOS only when it says so */
    EXPECT(v, "hi<u>hi", 0, bhi, user, bhi);     /* a blank again behind a special token */
    EXPECT(v, "hi</s>h", CRIT_TOK_PARSE_SPECIAL, bhi, eos, bh);
    int32_t ids[16];
    size_t n = encode(v, "<s>", 3, 0, ids, 16);
    for (size_t k = 0; k < n; k++) assert_int_not_equal(ids[k], bos); /* no text becomes a control token unasked */
    char buf[16];
    assert_int_equal(crit_vocab_piece(v, bhi, false, buf, 16), 3);
    assert_memory_equal(buf, " hi", 3);
    assert_int_equal(crit_vocab_piece(v, byte + 0xa9, false, buf, 16), 1);
    assert_int_equal((unsigned char)buf[0], 0xa9);
    assert_int_equal(crit_vocab_piece(v, unk, false, buf, 16), 0);
    crit_vocab_close(&v);
    m.src.add_space_prefix = 0;
    m.src.add_bos = 0;
    v = opened(&m);
    EXPECT(v, "hi", CRIT_TOK_BOS_EOS, hi);
    EXPECT(v, "h", 0, h);
    crit_vocab_close(&v);
}

/* ---- the stream ---- */

static void utf8_stream(void **state) {
    (void)state;
    static const char in[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff\xe2\x82x\xc0\x80\xed\xa0\x80\xf4\x90\xe2\x82";
    static const char want[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd"
                               "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd";
    for (size_t step = 1; step < sizeof in; step++) {
        crit_utf8_stream u = {0};
        char out[256];
        size_t n = 0;
        for (size_t i = 0; i + 1 < sizeof in; i += step)
            n += crit_utf8_push(&u, in + i, step < sizeof in - 1 - i ? step : sizeof in - 1 - i, out + n);
        n += crit_utf8_end(&u, out + n);
        assert_int_equal(n, sizeof want - 1);
        assert_memory_equal(out, want, n);
    }
    crit_utf8_stream u = {0};
    char out[16];
    assert_int_equal(crit_utf8_push(&u, "\xf0\x9f\x98", 3, out), 0); /* held back */
    assert_int_equal(crit_utf8_push(&u, "\x80", 1, out), 4);
}

/* ---- what must be refused ---- */

static void bad_sources(void **state) {
    (void)state;
    crit_vocab *v;
    crit_error err;
    made m;
#define REFUSED(change, part)                                                                                          \
    do {                                                                                                               \
        make_bpe(&m, "qwen2");                                                                                         \
        m.src.merge = no_merge;                                                                                        \
        m.src.n_merge = 1;                                                                                             \
        change;                                                                                                        \
        assert_int_equal(crit_vocab_open(&v, &m.src, &err), CRIT_E_TOKENIZER);                                         \
        if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);                     \
        assert_null(v);                                                                                                \
    } while (0)
    static const crit_text bad_merge[] = {T("a b"), T("ab")}, blank_only[] = {T(" ")}, empty[] = {T("")};
    REFUSED(m.src.model = (crit_text)T("bert"), "bert");
    REFUSED(m.src.model = (crit_text){0}, "unknown tokenizer");
    REFUSED(m.src.pre = (crit_text)T("falcon"), "falcon");
    REFUSED(m.src.n_token = 0, "no tokens");
    REFUSED(m.src.n_merge = 0, "merges");
    REFUSED(m.src.model = (crit_text)T("llama"), "scores");
    REFUSED(m.src.bos = 256, "BOS");
    REFUSED(m.src.eos = INT64_MAX, "EOS");
    REFUSED(m.src.unk = -2, "unknown token");
    REFUSED(m.kind[7] = 99, "token 7");
    REFUSED(m.kind[7] = -1, "token 7");
    REFUSED((m.src.merge = bad_merge, m.src.n_merge = 2), "merge 1");
    REFUSED(m.src.merge = blank_only, "merge 0");
    REFUSED(m.src.merge = empty, "merge 0");
    REFUSED((m.src.model = (crit_text)T("llama"), m.src.score = m.score, m.kind[3] = CRIT_TOKEN_BYTE), "byte token 3");
    /* Odd, but usable: duplicates, empty tokens, merges of strings that are no tokens or no bytes, nearly no tokens. */
    static const crit_text odd[] = {T("a b"),  T("a b"),       T("x y"), T("xy x"),
                                    T(" a b"), T("\xff \xfe"), T("a "),  T("\xe6\xbc\xa2 b")};
    make_bpe(&m, "");
    add(&m, "a", CRIT_TOKEN_NORMAL, 0);
    add(&m, "", CRIT_TOKEN_NORMAL, 0);
    add(&m, "\xff\xfe", CRIT_TOKEN_NORMAL, 0);
    m.src.merge = odd;
    m.src.n_merge = sizeof odd / sizeof *odd;
    v = opened(&m);
    assert_string_equal(crit_vocab_describe(v), "gpt2/default");
    EXPECT(v, "ab", 0, 'a', 'b');
    EXPECT(v, "xyx", 0, 'x', 'y', 'x');
    crit_vocab_close(&v);
    m.src.n_token = 1;
    v = opened(&m);
    int32_t ids[8];
    assert_int_equal(encode(v, "hi\0", 3, CRIT_TOK_BOS_EOS | CRIT_TOK_PARSE_SPECIAL, ids, 8), 1);
    crit_vocab_close(&v);
    crit_vocab_close(&v);
    crit_vocab_close(NULL);
}

/* ---- GGUF ---- */

static const char *const tok_list[] = {"a", "b", "ab", "</s>"};
static const char *const merge_list[] = {"a b"};

static crit_status from_file(gw *w, crit_error *err) {
    const char *base = getenv("TMPDIR");
    char path[320];
    snprintf(path, sizeof path, "%s/crit-tok-XXXXXX", base && *base ? base : P_tmpdir);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    size_t len;
    unsigned char *p = gw_finish(w, &len);
    assert_int_equal(gw_save(path, p, len), 0);
    free(p);
    gguf *g;
    crit_vocab *v;
    if (gguf_open(&g, path, err)) fail_msg("%s", err->message);
    crit_status st = crit_vocab_from_gguf(&v, g, err);
    gguf_close(&g);
    unlink(path);
    if (!st) {
        EXPECT(v, "ab", 0, 2);
        assert_true(crit_vocab_is_eog(v, 3));
        assert_int_equal(crit_vocab_size(v), 4);
    }
    crit_vocab_close(&v);
    return st;
}

static void gguf_metadata(void **state) {
    (void)state;
    crit_error err;
    const int32_t kinds[4] = {1, 1, 1, 3};
    const float scores[3] = {0};
    gw w;
    for (int fault = 0; fault <= 16; fault++) {
        gw_init(&w, 3, 32);
        if (fault != 1) gw_kv_str(&w, "tokenizer.ggml.model", "gpt2");
        if (fault == 2)
            gw_kv_u32(&w, "tokenizer.ggml.pre", 4); /* not a text: as if absent */
        else
            gw_kv_str(&w, "tokenizer.ggml.pre", fault == 3 ? "who" : "qwen2");
        if (fault == 4)
            gw_kv_arr(&w, "tokenizer.ggml.tokens", GGUF_I32, kinds, 4, 4);
        else if (fault == 5)
            gw_kv_str(&w, "tokenizer.ggml.tokens", "a");
        else if (fault != 6)
            gw_kv_strs(&w, "tokenizer.ggml.tokens", tok_list, fault == 7 ? 0 : 4);
        if (fault == 8)
            gw_kv_arr(&w, "tokenizer.ggml.token_type", GGUF_I32, kinds, 4, 3);
        else if (fault == 9)
            gw_kv_strs(&w, "tokenizer.ggml.token_type", tok_list, 4);
        else
            gw_kv_arr(&w, "tokenizer.ggml.token_type", GGUF_I32, kinds, 4, 4);
        if (fault == 10) gw_kv_arr(&w, "tokenizer.ggml.scores", GGUF_F32, scores, 4, 3);
        if (fault != 11) gw_kv_strs(&w, "tokenizer.ggml.merges", fault == 12 ? tok_list : merge_list, 1);
        gw_kv_u32(&w, "tokenizer.ggml.eos_token_id", fault == 13 ? 4 : 3);
        if (fault == 14) gw_kv_str(&w, "tokenizer.ggml.bos_token_id", "1");
        gw_kv_u32(&w, "tokenizer.ggml.eot_token_id", UINT32_MAX); /* "none" */
        if (fault == 15) gw_kv_str(&w, "tokenizer.ggml.add_bos_token", "yes");
        if (fault == 16) gw_kv_f32(&w, "tokenizer.ggml.unknown_token_id", 0.5f);
        bool fine = fault == 0 || fault == 2;
        assert_int_equal(from_file(&w, &err), fine ? CRIT_OK : CRIT_E_TOKENIZER);
        if (!fine) assert_non_null(strstr(err.message, "/crit-tok-"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_merges),  cmocka_unit_test(pretokenizers), cmocka_unit_test(special_tokens),
        cmocka_unit_test(any_bytes),   cmocka_unit_test(long_runs),     cmocka_unit_test(spm_model),
        cmocka_unit_test(utf8_stream), cmocka_unit_test(bad_sources),   cmocka_unit_test(gguf_metadata)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
