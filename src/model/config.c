/* SPDX-License-Identifier: MIT */
/* Hyper-parameters from GGUF metadata, each checked for presence, range and consistency. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

typedef struct reader {
    const gguf *g;
    const char *arch;
    crit_error *err;
    crit_status st; /* first failure */
} reader;

static const char *key_of(const reader *r, const char *suffix, char buf[128]) {
    snprintf(buf, 128, "%s.%s", r->arch, suffix);
    return buf;
}

static uint32_t get_u32(reader *r, const char *suffix, bool required, uint32_t fallback, uint32_t min, uint32_t max) {
    char key[128];
    uint64_t v;
    if (r->st) return fallback;
    key_of(r, suffix, key);
    if (!gguf_get_u64(r->g, key, &v)) {
        if (gguf_has(r->g, key))
            r->st =
                crit_fail(r->err, CRIT_E_UNSUPPORTED, "%s: %s is not a single unsigned number", gguf_path(r->g), key);
        else if (required)
            r->st = crit_fail(r->err, CRIT_E_VALUE, "%s: metadata key %s is missing", gguf_path(r->g), key);
        return fallback;
    }
    if (v < min || v > max) {
        r->st = crit_fail(r->err, CRIT_E_VALUE, "%s: %s is %llu, outside %u..%u", gguf_path(r->g), key,
                          (unsigned long long)v, min, max);
        return fallback;
    }
    return (uint32_t)v;
}

static double get_f64(reader *r, const char *suffix, bool required, double fallback, double min, double max) {
    char key[128];
    double v;
    if (r->st) return fallback;
    key_of(r, suffix, key);
    if (!gguf_get_f64(r->g, key, &v)) {
        if (gguf_has(r->g, key))
            r->st = crit_fail(r->err, CRIT_E_UNSUPPORTED, "%s: %s is not a single number", gguf_path(r->g), key);
        else if (required)
            r->st = crit_fail(r->err, CRIT_E_VALUE, "%s: metadata key %s is missing", gguf_path(r->g), key);
        return fallback;
    }
    if (!(v >= min && v <= max)) {
        r->st = crit_fail(r->err, CRIT_E_VALUE, "%s: %s is %g, outside %g..%g", gguf_path(r->g), key, v, min, max);
        return fallback;
    }
    return v;
}

static bool str_is(gguf_str s, const char *text) {
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

static void read_rope(reader *r, crit_config *c) {
    char key[128];
    c->n_rot = get_u32(r, "rope.dimension_count", false, c->d_head, 2, c->d_head);
    if (!r->st && c->n_rot % 2)
        r->st =
            crit_fail(r->err, CRIT_E_VALUE, "%s: %s is odd", gguf_path(r->g), key_of(r, "rope.dimension_count", key));
    c->rope_base = get_f64(r, "rope.freq_base", false, 10000.0, 1.0, 1e12);
    c->rope_factor = 1;
    /* Files of 2023 call the factor scale_linear; 0 means none. */
    bool old = !gguf_has(r->g, key_of(r, "rope.scaling.factor", key)) &&
               gguf_has(r->g, key_of(r, "rope.scale_linear", key));
    const char *name = old ? "rope.scale_linear" : "rope.scaling.factor";
    double factor;
    bool none = gguf_get_f64(r->g, key_of(r, name, key), &factor) && factor == 0;
    factor = none ? 1 : get_f64(r, name, false, 1.0, 1e-3, 1e6);
    gguf_str type = {"", 0};
    bool kind = gguf_has(r->g, key_of(r, "rope.scaling.type", key));
    if (kind && !gguf_get_str(r->g, key, &type)) {
        if (!r->st) r->st = crit_fail(r->err, CRIT_E_UNSUPPORTED, "%s: %s is not a text", gguf_path(r->g), key);
    } else if (kind && !str_is(type, "none")) {
        if (str_is(type, "linear"))
            c->rope = CRIT_ROPE_LINEAR;
        else if (str_is(type, "yarn"))
            c->rope = CRIT_ROPE_YARN;
        else if (str_is(type, "llama3"))
            c->rope = CRIT_ROPE_LLAMA3;
        else if (!r->st)
            r->st =
                crit_fail(r->err, CRIT_E_UNSUPPORTED, "%s: RoPE scaling '%.*s' is not supported (linear, llama3, yarn)",
                          gguf_path(r->g), (int)(type.len > 32 ? 32 : type.len), type.ptr);
        c->rope_factor = factor;
    } else if (!kind) {
        c->rope_factor = factor; /* a factor without a kind is linear */
        if (factor != 1.0) c->rope = CRIT_ROPE_LINEAR;
    }
    c->yarn_ctx =
        get_f64(r, "rope.scaling.original_context_length", false, c->n_ctx_train ? c->n_ctx_train : 8192, 1, 1e9);
    c->yarn_ext = get_f64(r, "rope.scaling.yarn_ext_factor", false, 1.0, -1e3, 1e3);
    if (c->yarn_ext < 0) c->yarn_ext = 1; /* not set */
    c->yarn_attn = get_f64(r, "rope.scaling.attn_factor", false, 1.0, 1e-3, 1e3);
    c->yarn_fast = get_f64(r, "rope.scaling.yarn_beta_fast", false, 32.0, 1e-3, 1e6);
    c->yarn_slow = get_f64(r, "rope.scaling.yarn_beta_slow", false, 1.0, 1e-3, 1e6);
}

crit_status crit_config_read(crit_config *c, const gguf *g, crit_error *err) {
    static const struct {
        const char *name;
        crit_arch arch;
        bool neox;
    } archs[] = {{"llama", CRIT_ARCH_LLAMA, false}, {"qwen2", CRIT_ARCH_QWEN2, true}, {"qwen3", CRIT_ARCH_QWEN3, true}};
    memset(c, 0, sizeof *c);
    gguf_str arch;
    if (!gguf_get_str(g, "general.architecture", &arch))
        return crit_fail(err, CRIT_E_VALUE, "%s: metadata key general.architecture is missing", gguf_path(g));
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (str_is(arch, archs[i].name)) {
            c->arch_name = archs[i].name;
            c->arch = archs[i].arch;
            c->neox = archs[i].neox;
        }
    if (!c->arch_name)
        return crit_fail(err, CRIT_E_UNSUPPORTED, "%s: architecture '%.*s' is not supported (llama, qwen2, qwen3)",
                         gguf_path(g), (int)(arch.len > 64 ? 64 : arch.len), arch.ptr);

    reader r = {g, c->arch_name, err, CRIT_OK};
    char key[128];
    c->n_layer = get_u32(&r, "block_count", true, 0, 1, 1024);
    c->n_embd = get_u32(&r, "embedding_length", true, 0, 1, 1u << 20);
    c->n_ff = get_u32(&r, "feed_forward_length", true, 0, 1, 1u << 22);
    c->n_head = get_u32(&r, "attention.head_count", true, 0, 1, 4096);
    c->n_kv_head = get_u32(&r, "attention.head_count_kv", false, c->n_head, 1, 4096);
    c->n_ctx_train = get_u32(&r, "context_length", false, 0, 1, 1u << 30);
    c->n_swa = get_u32(&r, "attention.sliding_window", false, 0, 0, 1u << 30);
    c->eps = (float)get_f64(&r, "attention.layer_norm_rms_epsilon", true, 1e-5, 0, 1);
    if (r.st) return r.st;
    if (get_u32(&r, "expert_count", false, 0, 0, UINT32_MAX) > 0)
        return crit_fail(err, CRIT_E_UNSUPPORTED, "%s: mixture-of-experts models are not supported", gguf_path(g));
    bool causal;
    if (gguf_get_bool(g, key_of(&r, "attention.causal", key), &causal) && !causal)
        return crit_fail(err, CRIT_E_UNSUPPORTED, "%s: attention that is not causal (an encoder) is not supported",
                         gguf_path(g));
    if (c->n_head % c->n_kv_head)
        return crit_fail(err, CRIT_E_VALUE, "%s: %u query heads do not divide by %u KV heads", gguf_path(g), c->n_head,
                         c->n_kv_head);
    c->n_group = c->n_head / c->n_kv_head;
    c->d_head = get_u32(&r, "attention.key_length", false, c->n_embd / c->n_head, 1, 1u << 16);
    uint32_t d_value = get_u32(&r, "attention.value_length", false, c->d_head, 1, 1u << 16);
    if (r.st) return r.st;
    if (d_value != c->d_head)
        return crit_fail(err, CRIT_E_UNSUPPORTED, "%s: keys of %u and values of %u dimensions differ", gguf_path(g),
                         c->d_head, d_value);
    if (c->d_head == 0 || c->d_head % 8 || c->d_head > CRIT_D_HEAD_MAX)
        return crit_fail(err, CRIT_E_UNSUPPORTED, "%s: head dimension %u is not a multiple of 8 up to %d", gguf_path(g),
                         c->d_head, CRIT_D_HEAD_MAX);
    read_rope(&r, c);
    if (r.st) return r.st;
    /* The vocabulary is as large as the embedding: files that declare a size of their own do not always agree with it.
     */
    const gguf_tensor *embd = gguf_find_tensor(g, "token_embd.weight");
    if (!embd) return crit_fail(err, CRIT_E_SHAPE, "%s: tensor token_embd.weight is missing", gguf_path(g));
    if (embd->ne[1] == 0 || embd->ne[1] > INT32_MAX)
        return crit_fail(err, CRIT_E_SHAPE, "%s: tensor token_embd.weight has %llu rows", gguf_path(g),
                         (unsigned long long)embd->ne[1]);
    c->n_vocab = (uint32_t)embd->ne[1];
    return CRIT_OK;
}
