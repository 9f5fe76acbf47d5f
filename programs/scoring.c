/* SPDX-License-Identifier: MIT */
/* See scoring.h. */
#include "scoring.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static char low(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

const char *refs_at(const refs *r, size_t i) {
    const char *s = r->s;
    while (i--) s += strlen(s) + 1;
    return s;
}

/* Where the text has it, or NULL. */
static const char *find(const char *text, const char *ref) {
    size_t n = strlen(ref);
    for (;; text++) {
        size_t i = 0;
        while (i < n && low(text[i]) == low(ref[i])) i++; /* the text's NUL differs from every byte of ref */
        if (i == n) return text;
        if (!*text) return NULL;
    }
}

bool score_contains(const char *text, const char *ref) {
    return find(text, ref) != NULL;
}

double score_all(const char *text, const refs *r, char *found) {
    size_t hits = 0;
    const char *s = r->s;
    for (size_t i = 0; i < r->n; i++, s += strlen(s) + 1) {
        bool hit = score_contains(text, s);
        hits += hit;
        if (found) found[i] = hit ? '1' : '0';
    }
    if (found) found[r->n] = 0;
    return r->n ? (double)hits / (double)r->n : 0;
}

double score_order(const char *text, const refs *r, char *found) {
    size_t hits = 0;
    const char *s = r->s;
    while (hits < r->n && (text = find(text, s))) {
        text += strlen(s);
        s += strlen(s) + 1;
        hits++;
    }
    if (found) {
        memset(found, '1', hits);
        memset(found + hits, '0', r->n - hits);
        found[r->n] = 0;
    }
    return r->n ? (double)hits / (double)r->n : 0;
}

double score_part(const char *text, const refs *r) {
    const char *s = r->s;
    for (size_t i = 0; i < r->n; i++, s += strlen(s) + 1)
        if (score_contains(text, s)) return 1;
    return 0;
}

static bool blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

double score_exact(const char *text, const refs *r) {
    while (blank(*text)) text++;
    size_t n = strlen(text);
    while (n && blank(text[n - 1])) n--;
    const char *s = r->s;
    for (size_t i = 0; i < r->n; i++, s += strlen(s) + 1) {
        size_t k = 0;
        if (strlen(s) != n) continue;
        while (k < n && low(text[k]) == low(s[k])) k++;
        if (k == n) return 1;
    }
    return 0;
}

size_t score_common(const char *text, const char *ref) {
    size_t n = strlen(text), m = strlen(ref), best = 0;
    size_t *run = calloc(m + 1, sizeof *run); /* run[j]: common piece that ends at text[i] and ref[j - 1] */
    if (!run) return SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        for (size_t j = m; j > 0; j--) { /* downwards: run[j - 1] is still that of text[i - 1] */
            run[j] = low(text[i]) == low(ref[j - 1]) ? run[j - 1] + 1 : 0;
            if (run[j] > best) best = run[j];
        }
    free(run);
    return best;
}

double score_piece(const char *text, const refs *r) {
    size_t n = score_common(text, r->s), all = strlen(r->s);
    if (n == SIZE_MAX) return (double)NAN;
    return all ? (double)n / (double)all : 0;
}

static bool alnum(unsigned char c) {
    return (c >= '0' && c <= '9') || (low((char)c) >= 'a' && low((char)c) <= 'z');
}

/* Bytes at p that are no part of a word: of ASCII, of general punctuation, of the punctuation of East Asia; else 0. */
static size_t gap(const unsigned char *p) {
    if (!*p) return 0;
    if (*p < 0x80) return !alnum(*p);
    bool wide = *p == 0xE2 || (*p == 0xE3 && p[1] == 0x80) || (*p == 0xEF && p[1] == 0xBC);
    return wide && p[1] && p[2] ? 3 : 0;
}

static bool is_article(const char *w, size_t n) {
    return (n == 1 && low(w[0]) == 'a') || (n == 2 && low(w[0]) == 'a' && low(w[1]) == 'n') ||
           (n == 3 && low(w[0]) == 't' && low(w[1]) == 'h' && low(w[2]) == 'e');
}

/* The next word at *s, NULL at the end; a character from U+3000 on is one of its own (scripts without blanks). */
static const char *next_word(const char **s, size_t *n) {
    const unsigned char *p = (const unsigned char *)*s;
    for (;;) {
        for (size_t k; (k = gap(p)) > 0;) p += k;
        if (!*p) return NULL;
        const unsigned char *from = p;
        if (*p >= 0xE3) {
            do p++;
            while ((*p & 0xC0) == 0x80);
        } else {
            while (*p && *p < 0xE3 && !gap(p)) p++;
        }
        *s = (const char *)p;
        *n = (size_t)(p - from);
        if (!is_article((const char *)from, *n)) return (const char *)from;
    }
}

static bool same_word(const char *a, size_t n, const char *b, size_t m) {
    size_t i = 0;
    while (n == m && i < n && low(a[i]) == low(b[i])) i++;
    return n == m && i == n;
}

static size_t count_words(const char *s) {
    size_t n = 0, len;
    while (next_word(&s, &len)) n++;
    return n;
}

/* How often the word stands in s. */
static size_t times(const char *s, const char *w, size_t n) {
    size_t k = 0, len;
    for (const char *x; (x = next_word(&s, &len));) k += same_word(x, len, w, n);
    return k;
}

static double f1_of(const char *text, const char *ref) {
    size_t n = count_words(text), m = count_words(ref), same = 0, len;
    const char *s = ref;
    for (const char *w; (w = next_word(&s, &len));) {
        /* A word that ref repeats counts as often as the text has it. */
        size_t here = 0, l;
        const char *t = ref;
        for (const char *x; (x = next_word(&t, &l)) && x <= w;) here += same_word(x, l, w, len);
        same += here <= times(text, w, len);
    }
    if (!n || !m) return n == m ? 1 : 0;
    return 2.0 * (double)same / (double)(n + m);
}

double score_f1(const char *text, const refs *r) {
    double best = 0;
    const char *s = r->s;
    for (size_t i = 0; i < r->n; i++, s += strlen(s) + 1) {
        double f = f1_of(text, s);
        if (f > best) best = f;
    }
    return best;
}
