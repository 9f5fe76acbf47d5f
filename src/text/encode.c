/* SPDX-License-Identifier: MIT */
/* Text to ids around the two models: BOS and EOS, special tokens, what lies between them.  And ids to bytes. */
#include <string.h>

#include "text/vocab_impl.h"

/* The text between two special tokens.  first: at the start or behind a special token. */
static crit_status plain(const crit_vocab *v, const char *text, size_t len, bool first, crit_ids *out,
                         crit_error *err) {
    if (!len) return CRIT_OK;
    if (v->bpe) return crit_bpe_encode(v, text, len, out, err);
    return crit_spm_encode(v, text, len, first && v->add_space_prefix, out, err);
}

crit_status crit_vocab_tokenize(const crit_vocab *v, const char *text, size_t len, unsigned flags, int32_t *ids,
                                size_t cap, size_t *n, crit_error *err) {
    *n = 0;
    crit_ids out = {ids, cap, 0};
    crit_hit *hit = NULL;
    size_t n_hit = 0, at = 0;
    crit_status st = crit_special_find(v, text, len, (flags & CRIT_TOK_PARSE_SPECIAL) != 0, &hit, &n_hit, err);
    if (st) return st;
    if ((flags & CRIT_TOK_BOS_EOS) && v->add_bos) crit_ids_put(&out, (uint32_t)v->bos);
    for (size_t i = 0; i < n_hit && !st; i++) {
        st = plain(v, text + at, hit[i].at - at, true, &out, err);
        crit_ids_put(&out, hit[i].id);
        at = hit[i].at + hit[i].len;
    }
    if (!st) st = plain(v, text + at, len - at, true, &out, err);
    crit_free(hit);
    if (st) return st;
    if ((flags & CRIT_TOK_BOS_EOS) && v->add_eos) crit_ids_put(&out, (uint32_t)v->eos);
    *n = out.n;
    if (out.n <= cap) return CRIT_OK;
    return crit_fail(err, CRIT_E_SPACE, "room for %zu tokens, the text has %zu", cap, out.n);
}

size_t crit_vocab_piece(const crit_vocab *v, int32_t id, bool special, char *buf, size_t cap) {
    if (id < 0 || (uint32_t)id >= v->n_token) return 0;
    uint8_t kind = v->kind[id];
    if (kind == CRIT_TOKEN_UNUSED || ((kind == CRIT_TOKEN_CONTROL || kind == CRIT_TOKEN_UNKNOWN) && !special)) return 0;
    crit_text t = crit_vocab_text(v, id);
    if (v->bpe || kind == CRIT_TOKEN_CONTROL || kind == CRIT_TOKEN_UNKNOWN || kind == CRIT_TOKEN_USER) {
        if (cap && t.len) memcpy(buf, t.ptr, t.len < cap ? t.len : cap);
        return t.len;
    }
    size_t n = 0;
    if (kind == CRIT_TOKEN_BYTE) { /* <0x41>, checked at open */
        static const char digits[] = "0123456789ABCDEF";
        if (cap) buf[0] = (char)((strchr(digits, t.ptr[3]) - digits) * 16 + (strchr(digits, t.ptr[4]) - digits));
        return 1;
    }
    for (size_t i = 0; i < t.len; n++) {
        bool blank = t.len - i >= 3 && !memcmp(t.ptr + i, "\xe2\x96\x81", 3);
        if (n < cap) buf[n] = blank ? ' ' : t.ptr[i];
        i += blank ? 3 : 1;
    }
    return n;
}
