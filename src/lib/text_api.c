/* SPDX-License-Identifier: MIT */
/* Tier 1: text to tokens and back, chat, sampling: the public names of text/. */
#include "critiprefill/critiprefill.h"

#include "model/model.h"
#include "text/chat.h"
#include "text/sample.h"
#include "text/vocab.h"

static crit_status need_vocab(const crit_model *m, crit_error *err) {
    return m->vocab ? CRIT_OK : crit_fail(err, CRIT_E_TOKENIZER, "%s", m->vocab_error.message);
}

crit_status crit_tokenize(const crit_model *m, const char *text, size_t len, unsigned flags, int32_t *ids, size_t cap,
                          size_t *n, crit_error *err) {
    if (!m || !n || (len && !text) || (cap && !ids)) return crit_fail(err, CRIT_E_ARG, "crit_tokenize: bad argument");
    *n = 0;
    crit_status st = need_vocab(m, err);
    return st ? st : crit_vocab_tokenize(m->vocab, text ? text : "", len, flags, ids, cap, n, err);
}

size_t crit_token_bytes(const crit_model *m, int32_t id, bool special, char *buf, size_t cap) {
    return m && m->vocab ? crit_vocab_piece(m->vocab, id, special, buf, cap) : 0;
}

bool crit_token_ends(const crit_model *m, int32_t id) {
    return m && m->vocab && crit_vocab_is_eog(m->vocab, id);
}

crit_status crit_chat_render(const crit_model *m, const crit_message *msg, size_t n_msg, bool add_reply, char *buf,
                             size_t cap, size_t *n, crit_error *err) {
    if (!m || !n || (n_msg && !msg) || (cap && !buf))
        return crit_fail(err, CRIT_E_ARG, "crit_chat_render: bad argument");
    crit_status st = need_vocab(m, err);
    return st ? st : crit_chat_write(m->vocab, msg, n_msg, add_reply, buf, cap, n, err);
}

crit_status crit_sampler_open(crit_sampler **out, const crit_model *m, const crit_sampler_params *params,
                              crit_error *err) {
    if (!out || !m) return crit_fail(err, CRIT_E_ARG, "crit_sampler_open: out and model are required");
    return crit_sampler_make(out, m->config.n_vocab, params, err);
}
