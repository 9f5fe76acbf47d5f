/* SPDX-License-Identifier: MIT */
/* Byte-level byte-pair encoding: inside each word the pair of neighbours with the best rank is joined, the leftmost of
 * equals first, until no pair has a rank.
 *
 * Works on symbol numbers, not strings: a merge is (left, right) -> joined.  Short words scan for the best pair; long
 * ones keep a heap of candidates and a linked list, O(n log n), since a word may be a megabyte of one letter. */
#include <string.h>

#include "text/utf8.h"
#include "text/vocab_impl.h"

/* ---- the printable stand-ins of bytes ---- */

/* Byte that code point cp stands for, -1 for none: printable Latin-1 is itself, the other 68 bytes follow U+0100. */
static int stand_in(uint32_t cp) {
    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 172) || (cp >= 174 && cp <= 255)) return (int)cp;
    if (cp < 256 || cp >= 256 + 68) return -1;
    cp -= 256;
    return cp < 33 ? (int)cp : cp < 67 ? (int)(cp - 33 + 127) : 173;
}

bool crit_bpe_raw(const crit_text *t, char *out, size_t *n) {
    *n = 0;
    for (size_t i = 0; i < t->len;) {
        uint32_t cp;
        size_t took = crit_utf8_decode((const unsigned char *)t->ptr + i, t->len - i, &cp);
        int b = took ? stand_in(cp) : -1;
        if (b < 0) return false;
        out[(*n)++] = (char)b;
        i += took;
    }
    return true;
}

/* ---- the merges ---- */

static uint32_t pair_hash(uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32 ^ h >> 12);
}

/* Slot of the pair, or the empty one where it belongs. */
static uint32_t *pair_slot(const crit_vocab *v, uint32_t left, uint32_t right) {
    for (uint32_t i = pair_hash(left, right);; i++) {
        uint32_t *slot = &v->merge_slot[i & (v->n_merge_slot - 1)];
        if (!*slot) return slot;
        const crit_merge *m = &v->merge[*slot - 1];
        if (m->left == left && m->right == right) return slot;
    }
}

#define NO_RANK UINT32_MAX
static uint32_t rank_of(const crit_vocab *v, uint32_t left, uint32_t right) {
    return *pair_slot(v, left, right) - 1;
}

/* Number of the string, which is added when it is new. */
static bool symbol(crit_vocab *v, const char *s, size_t len, uint32_t *sym) {
    *sym = crit_strtab_find(&v->str, s, len);
    if (*sym != CRIT_STR_NONE) return true;
    *sym = v->str.n;
    return crit_strtab_add(&v->str, s, len, false);
}

static crit_status add_merge(crit_vocab *v, const crit_text *m, size_t i, char *raw, crit_error *err) {
    const char *blank = m->len > 1 ? memchr(m->ptr + 1, ' ', m->len - 1) : NULL;
    if (!blank) return crit_fail(err, CRIT_E_TOKENIZER, "merge %zu has no blank between its halves", i);
    crit_text half[2] = {{m->ptr, (size_t)(blank - m->ptr)}, {blank + 1, m->len - (size_t)(blank - m->ptr) - 1}};
    size_t n[2];
    crit_merge add;
    /* A half no byte text can spell never occurs. */
    if (!half[1].len || !crit_bpe_raw(&half[0], raw, &n[0]) || !crit_bpe_raw(&half[1], raw + n[0], &n[1]))
        return CRIT_OK;
    if (!symbol(v, raw, n[0], &add.left) || !symbol(v, raw + n[0], n[1], &add.right) ||
        !symbol(v, raw, n[0] + n[1], &add.joined))
        return crit_fail(err, CRIT_E_NOMEM, "out of memory while reading the merges");
    uint32_t *slot = pair_slot(v, add.left, add.right);
    if (*slot) return CRIT_OK; /* said before: the better rank stays */
    v->merge[v->n_merge++] = add;
    *slot = v->n_merge;
    return CRIT_OK;
}

crit_status crit_bpe_open(crit_vocab *v, const crit_vocab_source *src, crit_error *err) {
    crit_text pre = src->pre.len ? src->pre : (crit_text){"default", 7};
    crit_status st = crit_pretok_open(&v->pretok, pre.ptr, pre.len, err);
    if (st) return st;
    v->n_merge_slot = 1024;
    while ((uint64_t)src->n_merge * 8 > (uint64_t)v->n_merge_slot * 5) v->n_merge_slot *= 2;
    size_t longest = 1;
    for (size_t i = 0; i < src->n_merge; i++)
        if (src->merge[i].len > longest) longest = src->merge[i].len;
    v->merge = crit_malloc(src->n_merge, sizeof *v->merge);
    v->merge_slot = crit_calloc(v->n_merge_slot, sizeof *v->merge_slot);
    char *raw = crit_malloc(longest, 1);
    if (!v->merge || !v->merge_slot || !raw)
        st = crit_fail(err, CRIT_E_NOMEM, "out of memory while reading the merges");
    for (unsigned b = 0; b < 256 && !st; b++) {
        char c = (char)b;
        if (!symbol(v, &c, 1, &v->byte_sym[b])) st = crit_fail(err, CRIT_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < src->n_merge && !st; i++) st = add_merge(v, &src->merge[i], i, raw, err);
    crit_free(raw);
    return st;
}

/* ---- a word ---- */

/* Buffers of one call, kept from word to word. */
typedef struct bpe {
    const crit_vocab *v;
    crit_ids *out;
    uint32_t *sym, *next, *prev; /* [cap] */
    uint64_t *heap;              /* [2 * cap] rank << 32 | place, smallest first */
    size_t cap, n_heap;
} bpe;

static void emit(bpe *b, uint32_t sym) {
    const crit_vocab *v = b->v;
    if (sym < v->n_token) {
        crit_ids_put(b->out, sym);
        return;
    }
    /* A step of the merges that is no token itself: its bytes.  Bytes without a token (SmolLM2 has none for 0xf1)
     * vanish, as they do in the runtimes these models are used with. */
    size_t len;
    const char *s = crit_strtab_at(&v->str, sym, &len);
    for (size_t i = 0; i < len; i++) {
        uint32_t id = v->byte_sym[(unsigned char)s[i]];
        if (id < v->n_token) crit_ids_put(b->out, id);
    }
}

enum { SHORT = 32 };

static void short_word(bpe *b, const unsigned char *word, size_t n) {
    uint32_t sym[SHORT], rank[SHORT]; /* rank of (sym[i], sym[i + 1]) */
    for (size_t i = 0; i < n; i++) sym[i] = b->v->byte_sym[word[i]];
    for (size_t i = 0; i + 1 < n; i++) rank[i] = rank_of(b->v, sym[i], sym[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NO_RANK) break;
        sym[best] = b->v->merge[rank[best]].joined;
        n--;
        memmove(sym + best + 1, sym + best + 2, (n - best - 1) * sizeof *sym);
        memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof *rank);
        if (best > 0) rank[best - 1] = rank_of(b->v, sym[best - 1], sym[best]);
        if (best + 1 < n) rank[best] = rank_of(b->v, sym[best], sym[best + 1]);
    }
    for (size_t i = 0; i < n; i++) emit(b, sym[i]);
}

static void heap_push(bpe *b, uint64_t key) {
    size_t i = b->n_heap++;
    for (; i && b->heap[(i - 1) / 2] > key; i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = key;
}

static uint64_t heap_pop(bpe *b) {
    uint64_t top = b->heap[0], key = b->heap[--b->n_heap];
    size_t i = 0, c;
    for (; (c = 2 * i + 1) < b->n_heap; i = c) {
        if (c + 1 < b->n_heap && b->heap[c + 1] < b->heap[c]) c++;
        if (b->heap[c] >= key) break;
        b->heap[i] = b->heap[c];
    }
    b->heap[i] = key;
    return top;
}

static bool room(bpe *b, size_t n) {
    if (n <= b->cap) return true;
    crit_free(b->sym);
    crit_free(b->next);
    crit_free(b->prev);
    crit_free(b->heap);
    b->cap = n + n / 2;
    b->sym = crit_malloc(b->cap, sizeof *b->sym);
    b->next = crit_malloc(b->cap, sizeof *b->next);
    b->prev = crit_malloc(b->cap, sizeof *b->prev);
    /* n - 1 pairs at first, and a merge takes one pair off and makes two: never more than 2 n alive. */
    b->heap = crit_malloc(b->cap, 2 * sizeof *b->heap);
    return b->sym && b->next && b->prev && b->heap;
}

#define END  UINT32_MAX
#define GONE UINT32_MAX

static void push_pair(bpe *b, uint32_t left) {
    if (left == END || b->next[left] == END) return;
    uint32_t rank = rank_of(b->v, b->sym[left], b->sym[b->next[left]]);
    if (rank != NO_RANK) heap_push(b, (uint64_t)rank << 32 | left);
}

static bool long_word(bpe *b, const unsigned char *word, size_t n) {
    if (n >= INT32_MAX || !room(b, n)) return false;
    b->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        b->sym[i] = b->v->byte_sym[word[i]];
        b->prev[i] = i ? i - 1 : END;
        b->next[i] = i + 1 < n ? i + 1 : END;
    }
    for (uint32_t i = 0; i < n; i++) push_pair(b, i);
    while (b->n_heap) {
        uint64_t key = heap_pop(b);
        uint32_t left = (uint32_t)key, right = b->next[left];
        const crit_merge *m = &b->v->merge[key >> 32];
        /* An entry whose pair has changed since is stale. */
        if (b->sym[left] != m->left || right == END || b->sym[right] != m->right) continue;
        b->sym[left] = m->joined;
        b->sym[right] = GONE;
        b->next[left] = b->next[right];
        if (b->next[left] != END) b->prev[b->next[left]] = left;
        push_pair(b, b->prev[left]);
        push_pair(b, left);
    }
    for (uint32_t i = 0; i != END; i = b->next[i]) emit(b, b->sym[i]);
    return true;
}

static bool on_word(void *user, const unsigned char *word, size_t n) {
    bpe *b = user;
    if (crit_pretok_whole_words(b->v->pretok)) {
        uint32_t id = crit_strtab_find(&b->v->str, (const char *)word, n);
        if (id < b->v->n_token) {
            crit_ids_put(b->out, id);
            return true;
        }
    }
    if (n > SHORT) return long_word(b, word, n);
    short_word(b, word, n);
    return true;
}

crit_status crit_bpe_encode(const crit_vocab *v, const char *text, size_t len, crit_ids *out, crit_error *err) {
    bpe b = {.v = v, .out = out};
    crit_status st = crit_pretok_split(v->pretok, text, len, on_word, &b, err);
    crit_free(b.sym);
    crit_free(b.next);
    crit_free(b.prev);
    crit_free(b.heap);
    return st;
}
