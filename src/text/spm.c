/* SPDX-License-Identifier: MIT */
/* SentencePiece-style merges: neighbours are joined while their joint text is a token, the best score first, the
 * leftmost of equals; what is left and is no token becomes byte tokens.
 *
 * A symbol is a slice of the escaped text, so the joint text of neighbours is a slice too.  Candidates wait in a heap:
 * O(n log n) for any text.  When no token has a blank behind another character, which is the rule, nothing is ever
 * joined across the start of a word, and the words are worked on one by one. */
#include <string.h>

#include "text/vocab_impl.h"

#define BLANK "\xe2\x96\x81" /* U+2581 */

typedef struct candidate {
    float score;
    uint32_t left, len; /* place of the left symbol; bytes of the pair when it was seen: others mean it is stale */
} candidate;

typedef struct spm {
    const crit_vocab *v;
    const char *text;
    uint32_t *at, *len, *next, *prev; /* [n] symbols; len 0: joined to another */
    candidate *heap;                  /* [2 * n] */
    size_t n, n_heap;
} spm;

#define END UINT32_MAX

static bool before(candidate a, candidate b) {
    return a.score > b.score || (a.score == b.score && a.left < b.left); /* scores are never NaN */
}

static void heap_push(spm *s, candidate c) {
    size_t i = s->n_heap++;
    for (; i && before(c, s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = c;
}

static candidate heap_pop(spm *s) {
    candidate top = s->heap[0], last = s->heap[--s->n_heap];
    size_t i = 0, c;
    for (; (c = 2 * i + 1) < s->n_heap; i = c) {
        if (c + 1 < s->n_heap && before(s->heap[c + 1], s->heap[c])) c++;
        if (!before(s->heap[c], last)) break;
        s->heap[i] = s->heap[c];
    }
    s->heap[i] = last;
    return top;
}

static void push_pair(spm *s, uint32_t left) {
    if (left == END || s->next[left] == END) return;
    uint32_t len = s->len[left] + s->len[s->next[left]];
    if (len > s->v->longest) return; /* keeps look-ups short */
    uint32_t id = crit_strtab_find(&s->v->str, s->text + s->at[left], len);
    if (id != CRIT_STR_NONE) heap_push(s, (candidate){s->v->score[id], left, len});
}

static void merge_all(spm *s) {
    for (uint32_t i = 0; i < s->n; i++) push_pair(s, i);
    while (s->n_heap) {
        candidate c = heap_pop(s);
        uint32_t right = s->len[c.left] ? s->next[c.left] : END;
        if (right == END || s->len[c.left] + s->len[right] != c.len) continue;
        s->len[c.left] = c.len;
        s->len[right] = 0;
        s->next[c.left] = s->next[right];
        if (s->next[c.left] != END) s->prev[s->next[c.left]] = c.left;
        push_pair(s, s->prev[c.left]);
        push_pair(s, c.left);
    }
}

static void emit_all(const spm *s, crit_ids *out) {
    const crit_vocab *v = s->v;
    for (uint32_t i = 0; i != END; i = s->next[i]) {
        const char *p = s->text + s->at[i];
        uint32_t id = crit_strtab_find(&v->str, p, s->len[i]);
        if (id != CRIT_STR_NONE) {
            crit_ids_put(out, id);
            continue;
        }
        for (uint32_t k = 0; k < s->len[i]; k++) {
            id = v->byte_sym[(unsigned char)p[k]];
            if (id == CRIT_STR_NONE) id = crit_strtab_find(&v->str, p + k, 1);
            if (id != CRIT_STR_NONE)
                crit_ids_put(out, id);
            else if (v->unk >= 0)
                crit_ids_put(out, (uint32_t)v->unk);
        }
    }
}

/* Blanks become U+2581.  *n: bytes of the result. */
static char *escape(const char *text, size_t len, bool blank_first, size_t *n) {
    size_t blanks = blank_first;
    for (size_t i = 0; i < len; i++) blanks += text[i] == ' ';
    *n = len + blanks * 2 + blank_first;
    char *out = crit_malloc(*n, 1), *w = out;
    if (!out) return NULL;
    if (blank_first) {
        memcpy(w, BLANK, 3);
        w += 3;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ') {
            memcpy(w, BLANK, 3);
            w += 3;
        } else {
            *w++ = text[i];
        }
    }
    return out;
}

/* Characters by their first byte alone: an ill-formed one is a slice like any other. */
static size_t char_len(const char *p, size_t left) {
    unsigned char b = (unsigned char)*p;
    size_t len = b < 0xc0 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
    return len < left ? len : left;
}

/* Symbols from *end on up to where a word ends; *end is moved there. */
static size_t next_word(const crit_vocab *v, const char *text, size_t n_byte, size_t *end) {
    size_t n = 0;
    bool was_blank = true;
    while (*end < n_byte) {
        bool blank = n_byte - *end >= 3 && !memcmp(text + *end, BLANK, 3);
        if (blank && !was_blank && v->words_apart) break;
        was_blank = blank;
        *end += char_len(text + *end, n_byte - *end);
        n++;
    }
    return n;
}

static void encode_word(spm *s, size_t from, size_t end, crit_ids *out) {
    uint32_t n = 0;
    for (size_t at = from; at < end; at += s->len[n++]) {
        s->at[n] = (uint32_t)at;
        s->len[n] = (uint32_t)char_len(s->text + at, end - at);
        s->prev[n] = n ? n - 1 : END;
        s->next[n] = n + 1;
    }
    s->n = n;
    s->next[n - 1] = END;
    merge_all(s);
    emit_all(s, out);
}

crit_status crit_spm_encode(const crit_vocab *v, const char *text, size_t len, bool blank_first, crit_ids *out,
                            crit_error *err) {
    size_t n_byte, longest = 0;
    spm s = {.v = v};
    char *own = escape(text, len, blank_first, &n_byte);
    if (own && n_byte >= INT32_MAX) {
        crit_free(own);
        return crit_fail(err, CRIT_E_ARG, "%zu bytes of text are too many at once", len);
    }
    s.text = own;
    for (size_t end = 0; own && end < n_byte;) {
        size_t n = next_word(v, own, n_byte, &end);
        if (n > longest) longest = n;
    }
    s.at = crit_malloc(longest, sizeof *s.at);
    s.len = crit_malloc(longest, sizeof *s.len);
    s.next = crit_malloc(longest, sizeof *s.next);
    s.prev = crit_malloc(longest, sizeof *s.prev);
    s.heap = crit_malloc(longest, 2 * sizeof *s.heap);
    bool ok = own && s.at && s.len && s.next && s.prev && s.heap;
    for (size_t from = 0, end = 0; ok && end < n_byte; from = end) {
        next_word(v, own, n_byte, &end);
        encode_word(&s, from, end, out);
    }
    crit_free(own);
    crit_free(s.at);
    crit_free(s.len);
    crit_free(s.next);
    crit_free(s.prev);
    crit_free(s.heap);
    return ok ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory while tokenizing %zu bytes", len);
}
