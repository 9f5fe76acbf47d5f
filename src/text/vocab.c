/* SPDX-License-Identifier: MIT */
/* See vocab.h: building a vocabulary from untrusted data, and the questions that need no algorithm. */
#include <stdio.h>
#include <string.h>

#include "text/vocab_impl.h"

/* Names of the tokens that end a generation; files seldom mark all of theirs. */
static const char *const eog_names[] = {"</s>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>",
                                        "<|end_of_text|>", "<|end|>", "<|eot|>", "<|return|>", "<|call|>",
                                        "<end_of_turn>", "<eos>", "<EOT>", "_<EOT>", "[EOS]", "[EOT]",
                                        "<end_of_utterance>", "<\uff5cend\u2581of\u2581sentence\uff5c>", /* DeepSeek */
                                        /* the borders of a file, of code models */
                                        "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<fim_pad>", "<reponame>"};

crit_vocab_source crit_vocab_source_empty(void) {
    return (crit_vocab_source){
        .bos = -1, .eos = -1, .unk = -1, .eot = -1, .eom = -1, .add_bos = -1, .add_eos = -1, .add_space_prefix = -1};
}

static bool text_is(crit_text t, const char *s) {
    return t.len == strlen(s) && !memcmp(t.ptr, s, t.len);
}

static bool ends_by_name(crit_text t) {
    for (size_t i = 0; i < sizeof eog_names / sizeof *eog_names; i++)
        if (text_is(t, eog_names[i])) return true;
    return false;
}

static crit_status no_memory(crit_error *err) {
    return crit_fail(err, CRIT_E_NOMEM, "out of memory while reading the vocabulary");
}

static crit_status check_id(const crit_vocab_source *src, int64_t id, const char *what, crit_error *err) {
    if (id >= -1 && (id < 0 || (uint64_t)id < src->n_token)) return CRIT_OK;
    return crit_fail(err, CRIT_E_TOKENIZER, "the %s token has id %lld, but there are %zu tokens", what, (long long)id,
                     src->n_token);
}

static crit_status check_source(const crit_vocab_source *src, crit_error *err) {
    bool llama = text_is(src->model, "llama");
    if (!llama && !text_is(src->model, "gpt2"))
        return crit_fail(err, CRIT_E_TOKENIZER, "unknown tokenizer model \"%.*s\"",
                         src->model.len > 64 ? 64 : (int)src->model.len, src->model.ptr ? src->model.ptr : "");
    if (!src->n_token || !src->token) return crit_fail(err, CRIT_E_TOKENIZER, "the tokenizer has no tokens");
    if (src->n_token > INT32_MAX / 2 || src->n_merge > INT32_MAX / 2)
        return crit_fail(err, CRIT_E_TOKENIZER, "%zu tokens and %zu merges are too many", src->n_token, src->n_merge);
    if (llama && !src->score) return crit_fail(err, CRIT_E_TOKENIZER, "a \"llama\" tokenizer needs scores");
    if (!llama && (!src->n_merge || !src->merge))
        return crit_fail(err, CRIT_E_TOKENIZER, "a \"gpt2\" tokenizer needs merges");
    const struct {
        int64_t id;
        const char *what;
    } ids[] = {{src->bos, "BOS"}, {src->eos, "EOS"}, {src->unk, "unknown"}, {src->eot, "EOT"}, {src->eom, "EOM"}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        crit_status st = check_id(src, ids[i].id, ids[i].what, err);
        if (st) return st;
    }
    return CRIT_OK;
}

/* Kinds, and the strings as text has to spell them. */
static crit_status add_tokens(crit_vocab *v, const crit_vocab_source *src, crit_error *err) {
    for (size_t i = 0; i < src->n_token; i++)
        if (src->token[i].len > v->longest) v->longest = src->token[i].len;
    char *raw = crit_malloc(v->longest, 1);
    crit_status st = raw ? CRIT_OK : no_memory(err);
    for (size_t i = 0; !st && i < src->n_token; i++) {
        crit_text t = src->token[i];
        int32_t kind = src->kind && src->kind[i] ? src->kind[i] : CRIT_TOKEN_NORMAL;
        if (kind < CRIT_TOKEN_NORMAL || kind > CRIT_TOKEN_BYTE) {
            st = crit_fail(err, CRIT_E_TOKENIZER, "token %zu is of unknown kind %d", i, kind);
            break;
        }
        bool ends = ends_by_name(t), hidden = !t.len;
        if (v->bpe) {
            size_t n;
            bool spelled = crit_bpe_raw(&t, raw, &n);
            hidden = hidden || !spelled;
            /* Special tokens stand for the text the file shows; only plain ASCII is the same in both forms. */
            if (kind == CRIT_TOKEN_NORMAL || kind == CRIT_TOKEN_UNUSED) {
                if (spelled) t = (crit_text){raw, n};
            } else {
                hidden = hidden || n != t.len || memcmp(raw, t.ptr, n) != 0;
            }
        }
        v->kind[i] = (uint8_t)(ends ? CRIT_TOKEN_CONTROL : kind);
        /* Without parse_special no text may become a control token; of gpt2 the merges decide that. */
        if (!v->bpe && (v->kind[i] == CRIT_TOKEN_CONTROL || kind == CRIT_TOKEN_UNKNOWN || kind == CRIT_TOKEN_BYTE))
            hidden = true;
        if (!crit_strtab_add(&v->str, t.ptr, t.len, hidden)) st = no_memory(err);
    }
    crit_free(raw);
    return st;
}

/* U+2581 somewhere behind a character that is not one. */
static bool blank_inside(crit_text t) {
    size_t i = 0;
    while (t.len - i >= 3 && !memcmp(t.ptr + i, "\xe2\x96\x81", 3)) i += 3;
    return memmem(t.ptr + i, t.len - i, "\xe2\x96\x81", 3) != NULL;
}

static crit_status add_byte_tokens(crit_vocab *v, const crit_vocab_source *src, crit_error *err) {
    v->score = crit_malloc(src->n_token, sizeof *v->score);
    if (!v->score) return no_memory(err);
    for (unsigned b = 0; b < 256; b++) v->byte_sym[b] = CRIT_STR_NONE;
    v->words_apart = true;
    for (size_t i = 0; i < src->n_token; i++) {
        if (blank_inside(src->token[i])) v->words_apart = false;
        v->score[i] = src->score[i] == src->score[i] ? src->score[i] : 0; /* NaN would break the order of merges */
        if (v->kind[i] != CRIT_TOKEN_BYTE) continue;
        static const char digits[] = "0123456789ABCDEF";
        crit_text t = src->token[i];
        const char *hi = t.len == 6 ? memchr(digits, t.ptr[3], 16) : NULL,
                   *lo = hi ? memchr(digits, t.ptr[4], 16) : NULL;
        if (!lo || memcmp(t.ptr, "<0x", 3) != 0 || t.ptr[5] != '>')
            return crit_fail(err, CRIT_E_TOKENIZER, "byte token %zu is not of the form <0x41>", i);
        v->byte_sym[(hi - digits) * 16 + (lo - digits)] = (uint32_t)i;
    }
    return CRIT_OK;
}

static crit_status find_eog(crit_vocab *v, const crit_vocab_source *src, crit_error *err) {
    size_t n = 0;
    for (int pass = 0; pass < 2; pass++) {
        n = 0;
        for (size_t i = 0; i < src->n_token; i++) {
            int64_t id = (int64_t)i;
            if (id != src->eos && id != src->eot && id != src->eom && !ends_by_name(src->token[i])) continue;
            if (pass) v->eog[n] = (uint32_t)i;
            n++;
        }
        if (!pass && !(v->eog = crit_malloc(n, sizeof *v->eog))) return no_memory(err);
    }
    v->n_eog = (uint32_t)n;
    return CRIT_OK;
}

static bool stated(int flag, bool otherwise) {
    return flag < 0 ? otherwise : flag != 0;
}

crit_status crit_vocab_open(crit_vocab **out, const crit_vocab_source *src, crit_error *err) {
    *out = NULL;
    crit_status st = check_source(src, err);
    if (st) return st;
    crit_vocab *v = crit_calloc(1, sizeof *v);
    if (!v) return no_memory(err);
    v->bpe = text_is(src->model, "gpt2");
    v->n_token = (uint32_t)src->n_token;
    v->bos = (int32_t)src->bos;
    v->eos = (int32_t)src->eos;
    v->unk = (int32_t)src->unk;
    v->kind = crit_malloc(src->n_token, 1);
    v->chat_template = crit_malloc(src->chat_template.len, 1);
    v->chat_len = src->chat_template.len;
    if (!v->kind || !v->chat_template) st = no_memory(err);
    if (!st && v->chat_len) memcpy(v->chat_template, src->chat_template.ptr, v->chat_len);
    if (!st) st = add_tokens(v, src, err);
    if (!st) st = crit_special_open(v, err);
    if (!st) st = find_eog(v, src, err);
    if (!st) st = v->bpe ? crit_bpe_open(v, src, err) : add_byte_tokens(v, src, err);
    if (st) {
        crit_vocab_close(&v);
        return st;
    }
    v->add_bos = v->bos >= 0 && stated(src->add_bos, v->bpe ? crit_pretok_add_bos(v->pretok) : true);
    v->add_eos = v->eos >= 0 && stated(src->add_eos, false);
    v->add_space_prefix = !v->bpe && stated(src->add_space_prefix, true);
    crit_text pre = src->pre.len ? src->pre : (crit_text){"default", 7};
    if (v->bpe)
        snprintf(v->describe, sizeof v->describe, "gpt2/%.*s", (int)pre.len, pre.ptr);
    else
        snprintf(v->describe, sizeof v->describe, "llama");
    *out = v;
    return CRIT_OK;
}

void crit_vocab_close(crit_vocab **vp) {
    if (!vp || !*vp) return;
    crit_vocab *v = *vp;
    crit_strtab_clear(&v->str);
    crit_pretok_close(&v->pretok);
    crit_free(v->kind);
    crit_free(v->merge);
    crit_free(v->merge_slot);
    crit_free(v->score);
    crit_free(v->special);
    crit_free(v->eog);
    crit_free(v->chat_template);
    crit_free(v);
    *vp = NULL;
}

uint32_t crit_vocab_size(const crit_vocab *v) {
    return v->n_token;
}
const char *crit_vocab_describe(const crit_vocab *v) {
    return v->describe;
}
int32_t crit_vocab_bos(const crit_vocab *v) {
    return v->bos;
}
int32_t crit_vocab_eos(const crit_vocab *v) {
    return v->eos;
}
bool crit_vocab_adds_bos(const crit_vocab *v) {
    return v->add_bos;
}
crit_text crit_vocab_chat_template(const crit_vocab *v) {
    return (crit_text){v->chat_template, v->chat_len};
}

size_t crit_vocab_bytes(const crit_vocab *v) {
    return sizeof *v + crit_strtab_bytes(&v->str) + v->n_token * (1 + (v->score ? sizeof *v->score : 0)) +
           v->n_merge * sizeof *v->merge + v->n_merge_slot * sizeof *v->merge_slot + v->n_special * sizeof *v->special +
           v->n_eog * sizeof *v->eog + v->chat_len;
}

bool crit_vocab_is_eog(const crit_vocab *v, int32_t id) {
    for (uint32_t i = 0; i < v->n_eog; i++)
        if (id >= 0 && v->eog[i] == (uint32_t)id) return true;
    return false;
}

crit_text crit_vocab_text(const crit_vocab *v, int32_t id) {
    crit_text t = {"", 0};
    if (id >= 0 && (uint32_t)id < v->n_token) t.ptr = crit_strtab_at(&v->str, (uint32_t)id, &t.len);
    return t;
}
