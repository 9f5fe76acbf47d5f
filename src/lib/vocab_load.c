/* SPDX-License-Identifier: MIT */
/* See vocab_load.h.  Gives the tokenizer.* keys of a GGUF file the shape text/vocab.h wants; what the values mean, and
 * whether they agree, is judged there. */
#include "lib/vocab_load.h"

#include <string.h>

#define KEY(name) "tokenizer.ggml." name

static crit_text text_of(const gguf *g, const char *key) {
    gguf_str s;
    return gguf_get_str(g, key, &s) ? (crit_text){s.ptr, s.len} : (crit_text){"", 0};
}

static crit_status wrong(const gguf *g, const char *key, const char *what, crit_error *err) {
    return crit_fail(err, CRIT_E_TOKENIZER, "%s: %s %s", gguf_path(g), key, what);
}

/* Absent leaves *out NULL. */
static crit_status read_texts(const gguf *g, const char *key, crit_text **out, size_t *n, crit_error *err) {
    gguf_vtype type;
    *n = 0;
    if (!gguf_has(g, key)) return CRIT_OK;
    if (!gguf_get_arr(g, key, &type, n) || type != GGUF_STR) return wrong(g, key, "is not a list of strings", err);
    crit_text *t = crit_malloc(*n, sizeof *t);
    if (!t) return crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", gguf_path(g));
    *out = t;
    for (size_t i = 0; i < *n; i++) {
        gguf_str s;
        if (!gguf_arr_str(g, key, i, &s)) return wrong(g, key, "cannot be read", err);
        t[i] = (crit_text){s.ptr, s.len};
    }
    return CRIT_OK;
}

/* A list of n numbers as float or int32; absent leaves both NULL. */
static crit_status read_numbers(const gguf *g, const char *key, size_t n, float **as_float, int32_t **as_int,
                                crit_error *err) {
    gguf_vtype type;
    size_t len;
    if (!gguf_has(g, key)) return CRIT_OK;
    if (!gguf_get_arr(g, key, &type, &len) || type == GGUF_STR || type == GGUF_ARR)
        return wrong(g, key, "is not a list of numbers", err);
    if (len != n)
        return crit_fail(err, CRIT_E_TOKENIZER, "%s: %s has %zu entries for %zu tokens", gguf_path(g), key, len, n);
    void *p = crit_malloc(n, 4);
    if (!p) return crit_fail(err, CRIT_E_NOMEM, "%s: out of memory", gguf_path(g));
    if (as_float)
        *as_float = p;
    else
        *as_int = p;
    for (size_t i = 0; i < n; i++) {
        double d;
        int64_t v;
        if (as_float && gguf_arr_f64(g, key, i, &d))
            (*as_float)[i] = (float)d;
        else if (!as_float && gguf_arr_i64(g, key, i, &v) && v >= INT32_MIN && v <= INT32_MAX)
            (*as_int)[i] = (int32_t)v;
        else
            return wrong(g, key, "holds a value out of range", err);
    }
    return CRIT_OK;
}

static crit_status read_id(const gguf *g, const char *key, int64_t *id, crit_error *err) {
    int64_t v;
    if (!gguf_has(g, key)) return CRIT_OK;
    if (!gguf_get_i64(g, key, &v)) return wrong(g, key, "is not a token id", err);
    *id = v == UINT32_MAX ? -1 : v; /* some writers say "none" that way */
    if (*id < -1) return wrong(g, key, "is not a token id", err);
    return CRIT_OK;
}

static crit_status read_flag(const gguf *g, const char *key, int *flag, crit_error *err) {
    bool b;
    if (!gguf_has(g, key)) return CRIT_OK;
    if (!gguf_get_bool(g, key, &b)) return wrong(g, key, "is not a truth value", err);
    *flag = b;
    return CRIT_OK;
}

crit_status crit_vocab_from_gguf(crit_vocab **out, const gguf *g, crit_error *err) {
    *out = NULL;
    crit_vocab_source s = crit_vocab_source_empty();
    s.model = text_of(g, KEY("model"));
    if (!s.model.len) return crit_fail(err, CRIT_E_TOKENIZER, "%s: the file holds no tokenizer", gguf_path(g));
    s.pre = text_of(g, KEY("pre"));
    s.chat_template = text_of(g, "tokenizer.chat_template");
    if (s.model.len == 5 && !memcmp(s.model.ptr, "llama", 5)) { /* what such files leave out */
        s.bos = 1;
        s.eos = 2;
        s.unk = 0;
    }
    const struct {
        const char *key;
        int64_t *id;
    } ids[] = {{KEY("bos_token_id"), &s.bos},
               {KEY("eos_token_id"), &s.eos},
               {KEY("unknown_token_id"), &s.unk},
               {KEY("eot_token_id"), &s.eot},
               {KEY("eom_token_id"), &s.eom}};
    const struct {
        const char *key;
        int *flag;
    } flags[] = {{KEY("add_bos_token"), &s.add_bos},
                 {KEY("add_eos_token"), &s.add_eos},
                 {KEY("add_space_prefix"), &s.add_space_prefix}};
    crit_text *token = NULL, *merge = NULL;
    float *score = NULL;
    int32_t *kind = NULL;
    crit_status st = CRIT_OK;
    for (size_t i = 0; i < sizeof ids / sizeof *ids && !st; i++) st = read_id(g, ids[i].key, ids[i].id, err);
    for (size_t i = 0; i < sizeof flags / sizeof *flags && !st; i++)
        st = read_flag(g, flags[i].key, flags[i].flag, err);
    if (!st) st = read_texts(g, KEY("tokens"), &token, &s.n_token, err);
    if (!st) st = read_texts(g, KEY("merges"), &merge, &s.n_merge, err);
    if (!st) st = read_numbers(g, KEY("scores"), s.n_token, &score, NULL, err);
    if (!st) st = read_numbers(g, KEY("token_type"), s.n_token, NULL, &kind, err);
    if (!st) {
        s.token = token;
        s.merge = merge;
        s.score = score;
        s.kind = kind;
        crit_error inner = {CRIT_OK, ""};
        st = crit_vocab_open(out, &s, &inner);
        if (st) crit_fail(err, st, "%s: %s", gguf_path(g), inner.message);
    }
    crit_free(token);
    crit_free(merge);
    crit_free(score);
    crit_free(kind);
    return st;
}
