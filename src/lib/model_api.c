/* SPDX-License-Identifier: MIT */
/* Tier 1: opening a model and what can be asked of it. */
#include <stdio.h>
#include <string.h>

#include "critiprefill/critiprefill.h"

#include "lib/vocab_load.h"
#include "model/model.h"
#include "text/chat.h"
#include "text/vocab.h"

const char *crit_version(void) {
    return CRIT_VERSION_STRING;
}
const char *crit_cpu_name(void) {
    return crit_cpu_level_name(crit_cpu_detect());
}

void crit_model_params_init(crit_model_params *p) {
    *p = (crit_model_params){.struct_size = sizeof *p, .cpu = "auto"};
}

static char *copy_text(const char *text, size_t len) {
    char *c = crit_malloc(len + 1, 1);
    if (c) {
        memcpy(c, text, len);
        c[len] = 0;
    }
    return c;
}

static char *describe_rope(const crit_config *c) {
    static const char *const kinds[] = {"", "linear", "yarn", "llama3"};
    char text[64];
    int n = snprintf(text, sizeof text, "%s", c->neox ? "neox" : "norm");
    if (c->rope != CRIT_ROPE_NONE)
        n += crit_print(text + n, sizeof text - (size_t)n, " %s x%g", kinds[c->rope], c->rope_factor);
    return copy_text(text, (size_t)n);
}

crit_status crit_model_open(crit_model **out, const char *path, const crit_model_params *params, crit_error *err) {
    if (!out || !path) return crit_fail(err, CRIT_E_ARG, "crit_model_open: out and path are required");
    *out = NULL;
    crit_model_params p;
    crit_model_params_init(&p);
    if (params) {
        if (params->struct_size != sizeof p)
            return crit_fail(err, CRIT_E_ARG, "crit_model_params: struct_size not set");
        p = *params;
    }
    unsigned mask;
    crit_status st = crit_cpu_mask(p.cpu, &mask, err);
    if (st) return st;
    crit_model *m = crit_calloc(1, sizeof *m);
    if (!m) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    crit_kernels_init(&m->kernels, mask);
    st = gguf_open(&m->file, path, err);
    if (!st) st = crit_config_read(&m->config, m->file, err);
    if (!st) st = crit_weights_bind(&m->weights, &m->config, m->file, err);
    if (!st) {
        bool scaled = m->weights.rope_freqs != NULL;
        if (scaled && m->config.rope == CRIT_ROPE_NONE) m->config.rope = CRIT_ROPE_LLAMA3;
        if (!scaled && m->config.rope == CRIT_ROPE_LLAMA3)
            st = crit_fail(err, CRIT_E_SHAPE, "%s: RoPE scaling llama3 without its tensor rope_freqs.weight", path);
    }
    if (!st) st = crit_rope_init(&m->rope, &m->config, m->weights.rope_freqs, err);
    if (!st && crit_vocab_from_gguf(&m->vocab, m->file, &m->vocab_error)) { /* token ids still work */
        m->vocab = NULL;
        if (m->vocab_error.code == CRIT_E_NOMEM) st = crit_fail(err, CRIT_E_NOMEM, "%s", m->vocab_error.message);
    }
    if (!st && m->vocab && crit_vocab_size(m->vocab) > m->config.n_vocab)
        st = crit_fail(err, CRIT_E_SHAPE, "%s: %u tokens, but the embedding has %u rows", path,
                       crit_vocab_size(m->vocab), m->config.n_vocab);
    if (!st) {
        gguf_str name = {"", 0};
        gguf_get_str(m->file, "general.name", &name);
        m->name = copy_text(name.ptr, name.len);
        m->rope_text = describe_rope(&m->config);
        if (!m->name || !m->rope_text) st = crit_fail(err, CRIT_E_NOMEM, "out of memory");
        for (size_t i = 0; i < gguf_n_tensor(m->file); i++) {
            const gguf_tensor *t = gguf_tensor_at(m->file, i);
            m->n_params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
            m->weights_bytes += t->bytes;
        }
    }
    if (st) crit_model_close(&m);
    *out = m;
    return st;
}

void crit_model_close(crit_model **model) {
    if (!model || !*model) return;
    crit_model *m = *model;
    crit_vocab_close(&m->vocab);
    crit_rope_clear(&m->rope);
    crit_weights_clear(&m->weights);
    gguf_close(&m->file);
    crit_free(m->name);
    crit_free(m->rope_text);
    crit_free(m);
    *model = NULL;
}

crit_status crit_model_get_info(const crit_model *m, crit_model_info *info) {
    if (!m || !info || info->struct_size != sizeof *info) return CRIT_E_ARG;
    const crit_config *c = &m->config;
    *info = (crit_model_info){
        .struct_size = sizeof *info,
        .arch = c->arch_name,
        .name = m->name,
        .cpu = crit_cpu_level_name(m->kernels.cpu),
        .tokenizer = m->vocab ? crit_vocab_describe(m->vocab) : "",
        .chat = m->vocab ? crit_chat_family_name(crit_chat_recognise(crit_vocab_chat_template(m->vocab))) : "",
        .rope = m->rope_text,
        .n_layer = c->n_layer,
        .n_head = c->n_head,
        .n_kv_head = c->n_kv_head,
        .n_group = c->n_group,
        .d_head = c->d_head,
        .n_embd = c->n_embd,
        .n_ff = c->n_ff,
        .n_vocab = c->n_vocab,
        .n_ctx_train = c->n_ctx_train,
        .n_swa = c->n_swa,
        .rope_base = (float)c->rope_base,
        .rms_eps = c->eps,
        .n_params = m->n_params,
        .weights_bytes = m->weights_bytes,
        .file_bytes = gguf_file_bytes(m->file),
        .n_tensor = gguf_n_tensor(m->file),
    };
    return CRIT_OK;
}

uint64_t crit_model_fingerprint(const crit_model *m) {
    return m ? gguf_fingerprint(m->file) : 0;
}

bool crit_model_tensor(const crit_model *m, size_t i, const char **name, size_t *name_len, const char **type,
                       uint64_t dims[4], size_t *bytes) {
    if (!m || i >= gguf_n_tensor(m->file)) return false;
    const gguf_tensor *t = gguf_tensor_at(m->file, i);
    if (name) *name = t->name.ptr;
    if (name_len) *name_len = t->name.len;
    if (type) *type = crit_type_name((unsigned)t->type);
    if (dims) memcpy(dims, t->ne, sizeof t->ne);
    if (bytes) *bytes = t->bytes;
    return true;
}
