/* SPDX-License-Identifier: MIT */
/* Tokens that are found in a text before it is tokenized: <|im_end|>, <tool_call>.
 *
 * The rule is that of the models' usual runtimes: tokens are looked for one after the other, longer ones first, each
 * from left to right in what is left.  Done here in one pass that collects every occurrence, and a choice among them.
 */
#include <stdlib.h>
#include <string.h>

#include "text/vocab_impl.h"

static bool is_special(uint8_t kind) {
    return kind == CRIT_TOKEN_USER || kind == CRIT_TOKEN_CONTROL || kind == CRIT_TOKEN_UNKNOWN;
}

static int by_text(const void *a, const void *b, void *vocab) {
    const crit_vocab *v = vocab;
    const crit_special *x = a, *y = b;
    size_t n;
    int c = memcmp(crit_strtab_at(&v->str, x->id, &n), crit_strtab_at(&v->str, y->id, &n),
                   x->len < y->len ? x->len : y->len);
    if (c) return c;
    if (x->len != y->len) return x->len < y->len ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

crit_status crit_special_open(crit_vocab *v, crit_error *err) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n_token; i++) n += is_special(v->kind[i]);
    v->special = crit_malloc(n, sizeof *v->special);
    if (!v->special) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < v->n_token; i++) {
        size_t len;
        const char *s = crit_strtab_at(&v->str, i, &len);
        if (!is_special(v->kind[i]) || !len) continue;
        v->special[v->n_special++] = (crit_special){i, (uint32_t)len};
        v->starts_special[(unsigned char)*s] = true;
        if (v->kind[i] == CRIT_TOKEN_USER) v->starts_user[(unsigned char)*s] = true;
    }
    qsort_r(v->special, v->n_special, sizeof *v->special, by_text, v);
    return CRIT_OK;
}

typedef struct hits {
    crit_hit *hit;
    size_t n, cap;
} hits;

static bool put(hits *h, crit_hit hit) {
    if (h->n == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 64;
        crit_hit *p = crit_malloc(cap, sizeof *p);
        if (!p) return false;
        if (h->n) memcpy(p, h->hit, h->n * sizeof *p);
        crit_free(h->hit);
        h->hit = p;
        h->cap = cap;
    }
    h->hit[h->n++] = hit;
    return true;
}

/* First special in [lo, hi), all of which agree in their first depth bytes, whose byte at depth is >= byte (> when
 * after); those that end at depth come first. */
static uint32_t bound(const crit_vocab *v, uint32_t lo, uint32_t hi, size_t depth, unsigned char byte, bool after) {
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        size_t len;
        const char *s = crit_strtab_at(&v->str, v->special[mid].id, &len);
        unsigned char b = depth < len ? (unsigned char)s[depth] : 0;
        bool below = depth >= len || b < byte || (after && b == byte);
        if (below)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* All specials at text[at]: the sorted list is walked like a trie. */
static bool collect_at(const crit_vocab *v, const char *text, size_t len, size_t at, bool control, hits *h) {
    uint32_t lo = 0, hi = v->n_special;
    for (size_t depth = 0; at + depth < len; depth++) {
        unsigned char b = (unsigned char)text[at + depth];
        lo = bound(v, lo, hi, depth, b, false);
        hi = bound(v, lo, hi, depth, b, true);
        if (lo == hi) break;
        bool found = false; /* of tokens with the same text the first counts */
        for (uint32_t i = lo; i < hi && v->special[i].len == depth + 1 && !found; i++) {
            found = control || v->kind[v->special[i].id] == CRIT_TOKEN_USER;
            if (found && !put(h, (crit_hit){at, v->special[i].id, v->special[i].len})) return false;
        }
    }
    return true;
}

static int by_length(const void *a, const void *b) {
    const crit_hit *x = a, *y = b;
    if (x->len != y->len) return x->len > y->len ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_place(const void *a, const void *b) {
    const crit_hit *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

crit_status crit_special_find(const crit_vocab *v, const char *text, size_t len, bool control, crit_hit **out,
                              size_t *n, crit_error *err) {
    hits h = {0};
    const bool *starts = control ? v->starts_special : v->starts_user;
    bool ok = true;
    for (size_t at = 0; ok && at < len; at++)
        if (starts[(unsigned char)text[at]]) ok = collect_at(v, text, len, at, control, &h);
    if (ok && h.n) {
        qsort(h.hit, h.n, sizeof *h.hit, by_length);
        /* Longer ones were taken before, so an overlap shows at an end. */
        char *taken = crit_calloc(len, 1);
        ok = taken != NULL;
        size_t kept = 0;
        for (size_t i = 0; ok && i < h.n; i++) {
            crit_hit hit = h.hit[i];
            if (taken[hit.at] || taken[hit.at + hit.len - 1]) continue;
            memset(taken + hit.at, 1, hit.len);
            h.hit[kept++] = hit;
        }
        crit_free(taken);
        h.n = kept;
        qsort(h.hit, h.n, sizeof *h.hit, by_place);
    }
    if (!ok) {
        crit_free(h.hit);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory while looking for special tokens");
    }
    *out = h.hit;
    *n = h.n;
    return CRIT_OK;
}
