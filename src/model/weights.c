/* SPDX-License-Identifier: MIT */
/* Tensors by role, with their shapes checked against the metadata.
 *
 * Matrices stay where the file has them.  Norms and biases are small: they are copied to f32 and checked for NaN and
 * infinity here.  The scales of quantised matrices are not read at load time; when a result is not finite,
 * crit_weights_find_nonfinite says which tensor is to blame. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

typedef struct binder {
    const gguf *g;
    crit_weights *w;
    crit_kernels decode; /* C decoders */
    size_t used;
    bool *bound; /* [tensors of the file] */
    crit_error *err;
    crit_status st;
} binder;

static const gguf_tensor *find(binder *b, const char *name, uint64_t ne0, uint64_t ne1, bool required) {
    if (b->st) return NULL;
    const gguf_tensor *t = gguf_find_tensor(b->g, name);
    if (!t) {
        if (required) b->st = crit_fail(b->err, CRIT_E_SHAPE, "%s: tensor %s is missing", gguf_path(b->g), name);
        return NULL;
    }
    if (t->ne[0] != ne0 || t->ne[1] != ne1 || t->ne[2] != 1 || t->ne[3] != 1) {
        b->st = crit_fail(b->err, CRIT_E_SHAPE, "%s: tensor %s is %llu x %llu, the metadata asks for %llu x %llu",
                          gguf_path(b->g), name, (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                          (unsigned long long)ne0, (unsigned long long)ne1);
        return NULL;
    }
    b->bound[t - gguf_tensor_at(b->g, 0)] = true;
    return t;
}

static crit_mat matrix(binder *b, const char *name, uint32_t n_in, uint32_t n_out) {
    const gguf_tensor *t = find(b, name, n_in, n_out, true);
    if (!t) return (crit_mat){0};
    return (crit_mat){t->data, t->row_bytes, n_out, n_in, t->type};
}

static const float *vector(binder *b, const char *name, uint32_t n, bool required) {
    const gguf_tensor *t = find(b, name, n, 1, required);
    if (!t) return NULL;
    if (!b->decode.dequant[t->type]) {
        b->st =
            crit_fail(b->err, CRIT_E_UNSUPPORTED, "%s: tensor %s has a type that is not read", gguf_path(b->g), name);
        return NULL;
    }
    float *dst = b->w->f32 + b->used;
    b->used += n;
    b->decode.dequant[t->type](t->data, dst, n);
    for (uint32_t i = 0; i < n; i++)
        if (!isfinite(dst[i])) {
            b->st = crit_fail(b->err, CRIT_E_VALUE, "%s: tensor %s holds a value that is not finite", gguf_path(b->g),
                              name);
            return NULL;
        }
    return dst;
}

static char *layer_name(char buf[64], uint32_t i, const char *suffix) {
    snprintf(buf, 64, "blk.%u.%s", i, suffix);
    return buf;
}

static void bind_layer(binder *b, const crit_config *c, uint32_t i, crit_layer *l) {
    char n[64];
    uint32_t n_q = c->n_head * c->d_head, n_kv = c->n_kv_head * c->d_head;
    l->attn_norm = vector(b, layer_name(n, i, "attn_norm.weight"), c->n_embd, true);
    l->ffn_norm = vector(b, layer_name(n, i, "ffn_norm.weight"), c->n_embd, true);
    l->wq = matrix(b, layer_name(n, i, "attn_q.weight"), c->n_embd, n_q);
    l->wk = matrix(b, layer_name(n, i, "attn_k.weight"), c->n_embd, n_kv);
    l->wv = matrix(b, layer_name(n, i, "attn_v.weight"), c->n_embd, n_kv);
    l->wo = matrix(b, layer_name(n, i, "attn_output.weight"), n_q, c->n_embd);
    l->gate = matrix(b, layer_name(n, i, "ffn_gate.weight"), c->n_embd, c->n_ff);
    l->up = matrix(b, layer_name(n, i, "ffn_up.weight"), c->n_embd, c->n_ff);
    l->down = matrix(b, layer_name(n, i, "ffn_down.weight"), c->n_ff, c->n_embd);
    bool bias = c->arch == CRIT_ARCH_QWEN2, norm = c->arch == CRIT_ARCH_QWEN3;
    l->bq = vector(b, layer_name(n, i, "attn_q.bias"), n_q, bias);
    l->bk = vector(b, layer_name(n, i, "attn_k.bias"), n_kv, bias);
    l->bv = vector(b, layer_name(n, i, "attn_v.bias"), n_kv, bias);
    l->bo = vector(b, layer_name(n, i, "attn_output.bias"), c->n_embd, false);
    l->q_norm = norm ? vector(b, layer_name(n, i, "attn_q_norm.weight"), c->d_head, true) : NULL;
    l->k_norm = norm ? vector(b, layer_name(n, i, "attn_k_norm.weight"), c->d_head, true) : NULL;
}

/* A tensor without a role is a part of the model we do not compute: a bias of the feed-forward, a scale.  Without it
 * the answers would be wrong and look right. */
static void refuse_unbound(binder *b) {
    for (size_t i = 0; i < gguf_n_tensor(b->g) && !b->st; i++) {
        if (b->bound[i]) continue;
        gguf_str name = gguf_tensor_at(b->g, i)->name;
        b->st = crit_fail(b->err, CRIT_E_UNSUPPORTED, "%s: tensor %.*s has no place in a model of this kind",
                          gguf_path(b->g), (int)(name.len > 64 ? 64 : name.len), name.ptr);
    }
}

crit_status crit_weights_bind(crit_weights *w, const crit_config *config, const gguf *g, crit_error *err) {
    crit_config c = *config;
    memset(w, 0, sizeof *w);
    /* A layer has tensors, and a file of n tensors at least n / 32 layers' worth: refuse absurd counts before
     * allocating. */
    if (c.n_layer > gguf_n_tensor(g))
        return crit_fail(err, CRIT_E_SHAPE, "%s: %u layers declared, but only %zu tensors", gguf_path(g), c.n_layer,
                         gguf_n_tensor(g));
    size_t per_layer = 3 * (size_t)c.n_embd + (size_t)(c.n_head + 2 * c.n_kv_head) * c.d_head + 2 * c.d_head;
    w->f32_count = per_layer * c.n_layer + c.n_embd + c.n_rot / 2;
    w->f32 = crit_malloc(w->f32_count, sizeof *w->f32);
    w->layers = crit_calloc(c.n_layer, sizeof *w->layers);
    binder b = {.g = g, .w = w, .err = err, .bound = crit_calloc(gguf_n_tensor(g), sizeof *b.bound)};
    if (!w->f32 || !w->layers || !b.bound) {
        crit_weights_clear(w);
        crit_free(b.bound);
        return crit_fail(err, CRIT_E_NOMEM, "%s: out of memory for norms and biases", gguf_path(g));
    }
    crit_kernels_init(&b.decode, 0);
    w->embd = matrix(&b, "token_embd.weight", c.n_embd, c.n_vocab);
    w->output = gguf_find_tensor(g, "output.weight") ? matrix(&b, "output.weight", c.n_embd, c.n_vocab) : w->embd;
    w->output_norm = vector(&b, "output_norm.weight", c.n_embd, true);
    w->rope_freqs = vector(&b, "rope_freqs.weight", c.n_rot / 2, false);
    for (uint32_t i = 0; w->rope_freqs && i < c.n_rot / 2; i++)
        if (!b.st && !(w->rope_freqs[i] > 0))
            b.st = crit_fail(err, CRIT_E_VALUE, "%s: tensor rope_freqs.weight holds a divisor that is not positive",
                             gguf_path(g));
    for (uint32_t i = 0; i < c.n_layer && !b.st; i++) bind_layer(&b, &c, i, &w->layers[i]);
    if (!b.st) refuse_unbound(&b);
    crit_free(b.bound);
    if (b.st) crit_weights_clear(w);
    return b.st;
}

void crit_weights_clear(crit_weights *w) {
    crit_free(w->f32);
    crit_free(w->layers);
    memset(w, 0, sizeof *w);
}

crit_status crit_weights_find_nonfinite(const gguf *g, crit_error *err) {
    crit_kernels decode;
    crit_kernels_init(&decode, 0);
    enum { CHUNK = 4096 }; /* a multiple of every block length */
    float *buf = crit_malloc(CHUNK, sizeof *buf);
    crit_status st = CRIT_OK;
    for (size_t i = 0; buf && !st && i < gguf_n_tensor(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        uint32_t elems, bytes;
        if (!crit_type_geometry((unsigned)t->type, &elems, &bytes) || !decode.dequant[t->type]) continue;
        size_t n = t->bytes / bytes * elems;
        for (size_t at = 0; at < n && !st; at += CHUNK) {
            size_t len = n - at < CHUNK ? n - at : CHUNK;
            decode.dequant[t->type]((const char *)t->data + at / elems * bytes, buf, len);
            for (size_t j = 0; j < len; j++)
                if (!isfinite(buf[j])) {
                    st = crit_fail(err, CRIT_E_VALUE, "%s: tensor %.*s holds a scale or value that is not finite",
                                   gguf_path(g), (int)(t->name.len > 64 ? 64 : t->name.len), t->name.ptr);
                    break;
                }
        }
    }
    crit_free(buf);
    return st ? st : crit_fail(err, CRIT_E_VALUE, "%s: the model's results are not finite", gguf_path(g));
}
