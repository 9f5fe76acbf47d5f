/* SPDX-License-Identifier: MIT */
/* See pretok.h.  The expressions are those the models were trained with, written in the shadow's alphabet. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "text/charclass.h"
#include "text/pretok.h"
#include "text/utf8.h"

/* The classes of charclass.h inside [...], with the ASCII characters that belong to them. */
#define L  "A-Za-z\\x80"
#define N  "0-9\\x81"
#define S  "\\t-\\r \\x82"
#define P  "!-#%-*,-/:;?@[-\\]_{}\\x83"
#define NS "(?![^" S "])" /* no more, or white space follows */

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?[" L "]+| ?[" N "]+| ?[^" S L N "]+|[" S "]+" NS "|[" S "]+"
#define CL100K(digits)                                                                                                 \
    "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\\r\\n" L N "]?[" L "]+|[" N "]" digits "| ?[^" S L N                \
    "]+[\\r\\n]*|[" S "]*[\\r\\n]+|[" S "]+" NS "|[" S "]+"

/* Tekken tells upper from lower case; beyond ASCII a letter is both here, as in llama.cpp. */
#define TEKKEN                                                                                                         \
    "[^\\r\\n" L N "]?[A-Z\\x80]*[a-z\\x80]+|[^\\r\\n" L N "]?[A-Z\\x80]+[a-z\\x80]*|[" N "]| ?[^" S L N               \
    "]+[\\r\\n/]*|[" S "]*[\\r\\n]+|[" S "]+" NS "|[" S "]+"

enum { MAX_STAGE = 4 };

typedef struct family {
    const char *stage[MAX_STAGE];
    bool whole_words, add_bos;
    const char *names; /* each followed by a blank */
} family;

static const family families[] = {
    {{"[" P "$+<=>^~|]+", GPT2, "[" N "]+", "[0-9][0-9][0-9]"}, false, false, "default "},
    {{GPT2}, false, false, "gpt-2 phi-2 roberta-bpe olmo mellum trillion a.x-4.0 "},
    {{"[" N "]", GPT2}, false, false, "smollm starcoder refact command-r codeshell exaone minerva-7b "},
    {{CL100K("{1,3}")}, true, true, "llama-bpe llama3 llama-v3 falcon3 pixtral midm-2.0 "},
    {{CL100K("{1,3}")}, false, false, "dbrx smaug-bpe "},
    {{CL100K("")}, false, false, "qwen2 deepseek-r1-qwen stablelm2 megrez kormo f2llmv2 "},
    {{TEKKEN}, true, true, "tekken "},
};

struct crit_pretok {
    const family *family;
    pcre2_code *code[MAX_STAGE];
    pcre2_match_context *context;
    unsigned n_stage;
    bool jit[MAX_STAGE];
};

static bool listed(const char *names, const char *name, size_t len) {
    for (const char *s = names; *s;) {
        size_t n = strcspn(s, " ");
        if (n == len && !memcmp(s, name, n)) return true;
        s += n + 1;
    }
    return false;
}

crit_status crit_pretok_open(crit_pretok **out, const char *name, size_t len, crit_error *err) {
    *out = NULL;
    const family *f = families, *end = families + sizeof families / sizeof *families;
    while (f < end && !listed(f->names, name, len)) f++;
    if (f == end)
        return crit_fail(err, CRIT_E_TOKENIZER, "unknown pre-tokenizer \"%.*s\"", len > 64 ? 64 : (int)len, name);
    crit_pretok *p = crit_calloc(1, sizeof *p);
    if (!p) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    p->family = f;
    p->context = pcre2_match_context_create(NULL);
    crit_status st = p->context ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory");
    /* The limits guard against patterns that explode; ours are linear, and a text may be one run of a million blanks.
     */
    if (!st) {
        pcre2_set_match_limit(p->context, UINT32_MAX);
        pcre2_set_depth_limit(p->context, UINT32_MAX);
        pcre2_set_heap_limit(p->context, UINT32_MAX);
    }
    for (; !st && p->n_stage < MAX_STAGE && f->stage[p->n_stage]; p->n_stage++) {
        int code;
        PCRE2_SIZE at;
        unsigned k = p->n_stage;
        p->code[k] = pcre2_compile((PCRE2_SPTR)f->stage[k], PCRE2_ZERO_TERMINATED, 0, &code, &at, NULL);
        if (!p->code[k])
            st = crit_fail(err, CRIT_E_NOMEM, "pre-tokenizer \"%.*s\": PCRE2 error %d", (int)len, name, code);
        else /* not every system lets a process make code */
            p->jit[k] = pcre2_jit_compile(p->code[k], PCRE2_JIT_COMPLETE) == 0;
    }
    if (st) crit_pretok_close(&p);
    *out = p;
    return st;
}

void crit_pretok_close(crit_pretok **pp) {
    if (!pp || !*pp) return;
    crit_pretok *p = *pp;
    for (unsigned k = 0; k < MAX_STAGE; k++) pcre2_code_free(p->code[k]);
    pcre2_match_context_free(p->context);
    crit_free(p);
    *pp = NULL;
}

bool crit_pretok_whole_words(const crit_pretok *p) {
    return p->family->whole_words;
}
bool crit_pretok_add_bos(const crit_pretok *p) {
    return p->family->add_bos;
}

/* ---- the shadow ---- */

typedef struct split {
    const crit_pretok *p;
    pcre2_match_data *match;
    crit_word_fn word;
    void *user;
} split;

static size_t char_len(unsigned char lead) {
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

static bool cut(const split *s, unsigned stage, const unsigned char *shadow, size_t n, const unsigned char *text);

/* Hands the first n characters of text on; returns their bytes, 0 when stopped. */
static size_t piece(const split *s, unsigned stage, const unsigned char *shadow, size_t n, const unsigned char *text) {
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += shadow[i] < 0x80 ? 1 : char_len(text[bytes]);
    bool ok = stage == s->p->n_stage ? s->word(s->user, text, bytes) : cut(s, stage, shadow, n, text);
    return ok ? bytes : 0;
}

static int find(const split *s, unsigned stage, const unsigned char *shadow, size_t n) {
    const pcre2_code *code = s->p->code[stage];
    int rc = PCRE2_ERROR_JIT_BADOPTION;
    if (s->p->jit[stage]) rc = pcre2_jit_match(code, shadow, n, 0, 0, s->match, s->p->context);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        rc = pcre2_match(code, shadow, n, 0, PCRE2_NO_JIT, s->match, s->p->context);
    return rc;
}

/* Matches of this stage and what lies between them are the pieces. */
static bool cut(const split *s, unsigned stage, const unsigned char *shadow, size_t n, const unsigned char *text) {
    while (n) {
        int rc = find(s, stage, shadow, n);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) return false;
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(s->match);
        size_t from = rc < 0 || at[1] == at[0] ? n : at[0], to = from == n ? n : at[1];
        size_t part[2] = {from, to - from};
        for (int i = 0; i < 2; i++) {
            if (!part[i]) continue;
            size_t bytes = piece(s, stage + 1, shadow, part[i], text);
            if (!bytes) return false;
            shadow += part[i];
            n -= part[i];
            text += bytes;
        }
    }
    return true;
}

crit_status crit_pretok_split(const crit_pretok *p, const char *text, size_t len, crit_word_fn word, void *user,
                              crit_error *err) {
    if (!len) return CRIT_OK;
    const unsigned char *in = (const unsigned char *)text;
    unsigned char canon[4], *own = NULL;
    size_t n_char = 0, n_byte = 0;
    bool same = true; /* the text is canonical already */
    uint32_t cp;
    for (size_t i = 0; i < len; n_char++) {
        size_t took = crit_utf8_decode(in + i, len - i, &cp), put = crit_utf8_encode(cp, canon);
        same = same && took == put;
        i += took ? took : 1;
        n_byte += put;
    }
    unsigned char *shadow = crit_malloc(n_char, 1);
    if (!same) own = crit_malloc(n_byte, 1);
    split s = {p, pcre2_match_data_create(1, NULL), word, user};
    bool ok = shadow && (same || own) && s.match;
    for (size_t i = 0, k = 0, w = 0; ok && i < len; k++) {
        size_t took = crit_utf8_decode(in + i, len - i, &cp);
        shadow[k] = cp < 0x80 ? (unsigned char)cp : (unsigned char)crit_char_class_of(cp);
        if (own) w += crit_utf8_encode(cp, own + w);
        i += took ? took : 1;
    }
    ok = ok && cut(&s, 0, shadow, n_char, own ? own : in);
    pcre2_match_data_free(s.match);
    crit_free(shadow);
    crit_free(own);
    return ok ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory while cutting the text into words");
}
