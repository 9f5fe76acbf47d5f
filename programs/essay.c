/* SPDX-License-Identifier: MIT */
/* See essay.h.  A sentence ends with a word that ends with . ! or ?, quotes and brackets behind it allowed. */
#include "essay.h"

#include <stdlib.h>
#include <string.h>

static bool blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0;
}

static bool ends_sentence(const char *w, size_t n) {
    while (n && strchr("\"')]", w[n - 1])) n--;
    return n && strchr(".!?", w[n - 1]);
}

/* Words of the essay, around and around, separated by blanks; n_end is how many of them end a sentence. */
static void take_words(const buf *essay, size_t n_word, buf *out, size_t *n_end) {
    size_t at = 0, found = 0;
    while (found < n_word && !out->oom) {
        while (at < essay->n && blank(essay->s[at])) at++;
        if (at == essay->n) {
            if (!found) return; /* no word in it */
            at = 0;
            continue;
        }
        size_t from = at;
        while (at < essay->n && !blank(essay->s[at])) at++;
        if (found++) buf_str(out, " ");
        buf_add(out, essay->s + from, at - from);
        *n_end += ends_sentence(essay->s + from, at - from);
    }
}

bool essay_sentences(const buf *essay, size_t n_word, sentence_list *out) {
    size_t n_end = 0;
    take_words(essay, n_word, &out->words, &n_end);
    out->s = malloc((n_end + 1) * sizeof *out->s);
    if (!out->s || out->words.oom) return false;
    const char *p = out->words.s, *end = p ? p + out->words.n : p, *from = p;
    while (p < end) {
        const char *w = p;
        while (p < end && *p != ' ') p++;
        if (p == end || ends_sentence(w, (size_t)(p - w))) {
            out->s[out->n].s = from;
            out->s[out->n++].n = (size_t)(p - from);
            from = p < end ? p + 1 : p;
        }
        if (p < end) p++;
    }
    return true;
}

void essay_free(sentence_list *l) {
    buf_free(&l->words);
    free(l->s);
    *l = (sentence_list){0};
}
