/* SPDX-License-Identifier: MIT */
/* See tiny.h.  Tensor names and metadata keys are those llama.cpp writes, so that its tools read these files too. */
#include "tiny/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny/quant.h"
#include "tiny/tinytok.h"

void tiny_params_init(tiny_params *p) {
    *p = (tiny_params){.arch = "llama",
                       .n_layer = 2,
                       .n_head = 4,
                       .n_kv_head = 2,
                       .d_head = 16,
                       .n_embd = 64,
                       .n_ff = 96,
                       .n_vocab = 320,
                       .peak = 2,
                       .rope_base = 10000,
                       .rope_factor = 4,
                       .rope_attn = 1,
                       .rope_orig_ctx = 32,
                       .n_ctx_train = 4096,
                       .eps = 1e-5f,
                       .tok = TINY_TOK_GPT2,
                       .tok_pre = "qwen2",
                       .chat_template = tiny_chatml,
                       .seed = 1,
                       .version = 3,
                       .align = 32};
}

void tiny_all_types(tiny_params *p, crit_type t) {
    p->t_embd = p->t_output = p->t_q = p->t_k = p->t_v = p->t_o = p->t_gate = p->t_up = p->t_down = t;
}

uint64_t tiny_rand(uint64_t *s) { /* splitmix64 */
    uint64_t z = *s += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

float tiny_uniform(uint64_t *s) {
    return (float)(tiny_rand(s) >> 40) * 0x1p-24f;
}

/* Twelve uniforms: no libm, so the same bits on every machine. */
float tiny_normal(uint64_t *s) {
    float x = -6;
    for (int i = 0; i < 12; i++) x += tiny_uniform(s);
    return x;
}

typedef struct maker {
    const tiny_params *p;
    gw w;
    bool first;
} maker;

static bool same(const char *a, const char *b) {
    return a && strcmp(a, b) == 0;
}

/* A tensor's numbers depend on its name and the seed only. */
static uint64_t seed_of(const maker *m, const char *name) {
    uint64_t h = m->p->seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return h;
}

static void put(maker *m, const char *name, crit_type type, uint32_t n_dims, uint32_t n_in, uint32_t n_out,
                const float *x) {
    uint32_t elems, bytes;
    const uint64_t ne[2] = {n_in, n_out};
    if (same(m->p->omit_tensor, name)) return;
    if (!crit_type_geometry((unsigned)type, &elems, &bytes) || n_in % elems) {
        fprintf(stderr, "tiny: %s: rows of %u are not whole blocks of type %u\n", name, n_in, (unsigned)type);
        abort();
    }
    const size_t n = (size_t)n_in * n_out, size = n / elems * bytes;
    unsigned char *data = malloc(size);
    if (!data) abort();
    tiny_quantize(type, x, data, n);
    if (same(m->p->nan_tensor, name)) {
        const size_t at = type == CRIT_T_Q2_K ? 80 : type == CRIT_T_Q3_K ? 108 : type == CRIT_T_Q6_K ? 208 : 0;
        memset(data + at, 0xff, type == CRIT_T_F32 ? 4 : 2);
    }
    gw_tensor(&m->w, name, m->first && m->p->fake_type ? m->p->fake_type : (uint32_t)type, n_dims, ne, data, size);
    m->first = false;
    free(data);
}

/* [n_out][n_in], normal with the given deviation; from row scale_row on, blocks of scale_row rows alternate between
 * deviations 1, 2 and 4 times that (heads of different temper); 0 = none. */
static void matrix(maker *m, const char *name, crit_type type, uint32_t n_in, uint32_t n_out, float dev,
                   uint32_t scale_row) {
    if (same(m->p->reshape_tensor, name)) n_out++;
    float *x = malloc((size_t)n_in * n_out * sizeof *x);
    if (!x) abort();
    uint64_t s = seed_of(m, name);
    for (uint32_t r = 0; r < n_out; r++) {
        const float d = scale_row ? dev * (float)(1 << r / scale_row % 3) : dev;
        for (uint32_t i = 0; i < n_in; i++) x[(size_t)r * n_in + i] = d * tiny_normal(&s);
    }
    put(m, name, type, 2, n_in, n_out, x);
    free(x);
}

static void vector(maker *m, const char *name, crit_type type, uint32_t n, float mean, float dev) {
    if (same(m->p->reshape_tensor, name)) n++;
    float *x = malloc(n * sizeof *x);
    if (!x) abort();
    uint64_t s = seed_of(m, name);
    for (uint32_t i = 0; i < n; i++) x[i] = mean + dev * tiny_normal(&s);
    put(m, name, type, 1, n, 1, x);
    free(x);
}

static void layer(maker *m, uint32_t i) {
    const tiny_params *p = m->p;
    const uint32_t n_q = p->n_head * p->d_head, n_kv = p->n_kv_head * p->d_head;
    const float in = 1 / sqrtf((float)p->n_embd), sharp = sqrtf(p->peak);
    char n[64];
#define NAME(s) (snprintf(n, sizeof n, "blk.%u." s, i), n)
    vector(m, NAME("attn_norm.weight"), p->t_norm, p->n_embd, 1, 0.2f);
    const bool qwen3 = same(p->arch, "qwen3");
    matrix(m, NAME("attn_q.weight"), p->t_q, p->n_embd, n_q, in * (qwen3 ? 1 : sharp), p->d_head);
    matrix(m, NAME("attn_k.weight"), p->t_k, p->n_embd, n_kv, in * (qwen3 ? 1 : sharp), 0);
    matrix(m, NAME("attn_v.weight"), p->t_v, p->n_embd, n_kv, in, 0);
    if (same(p->arch, "qwen2")) {
        vector(m, NAME("attn_q.bias"), CRIT_T_F32, n_q, 0, 0.3f);
        vector(m, NAME("attn_k.bias"), CRIT_T_F32, n_kv, 0, 0.5f);
        vector(m, NAME("attn_v.bias"), CRIT_T_F32, n_kv, 0, 0.2f);
    }
    if (qwen3) { /* the norm takes away what the projections would scale */
        vector(m, NAME("attn_q_norm.weight"), p->t_norm, p->d_head, 1.5f * sharp, 0.3f);
        vector(m, NAME("attn_k_norm.weight"), p->t_norm, p->d_head, sharp, 0.3f);
    }
    matrix(m, NAME("attn_output.weight"), p->t_o, n_q, p->n_embd, 1 / sqrtf((float)n_q), 0);
    vector(m, NAME("ffn_norm.weight"), p->t_norm, p->n_embd, 1, 0.2f);
    matrix(m, NAME("ffn_gate.weight"), p->t_gate, p->n_embd, p->n_ff, in, 0);
    matrix(m, NAME("ffn_up.weight"), p->t_up, p->n_embd, p->n_ff, in, 0);
    matrix(m, NAME("ffn_down.weight"), p->t_down, p->n_ff, p->n_embd, 1 / sqrtf((float)p->n_ff), 0);
#undef NAME
}

/* ---- metadata ---- */

typedef struct keyer {
    maker *m;
    char key[128];
} keyer;

/* The full key, or NULL when it is to be left out. */
static const char *arch_key(keyer *k, const char *suffix) {
    snprintf(k->key, sizeof k->key, "%s.%s", k->m->p->arch, suffix);
    return same(k->m->p->omit_key, k->key) ? NULL : k->key;
}

static void u32(keyer *k, const char *suffix, uint32_t v) {
    const char *key = arch_key(k, suffix);
    if (key) gw_kv_u32(&k->m->w, key, v);
}

static void f32(keyer *k, const char *suffix, float v) {
    const char *key = arch_key(k, suffix);
    if (key) gw_kv_f32(&k->m->w, key, v);
}

static void metadata(maker *m) {
    const tiny_params *p = m->p;
    keyer k = {.m = m};
    if (!same(p->omit_key, "general.architecture")) gw_kv_str(&m->w, "general.architecture", p->arch);
    gw_kv_str(&m->w, "general.name", "tiny");
    if (p->align != 32) gw_kv_u32(&m->w, "general.alignment", p->align);
    u32(&k, "block_count", p->n_layer);
    u32(&k, "context_length", p->n_ctx_train);
    u32(&k, "embedding_length", p->n_embd);
    u32(&k, "feed_forward_length", p->n_ff);
    u32(&k, "attention.head_count", p->n_head);
    u32(&k, "attention.head_count_kv", p->n_kv_head);
    u32(&k, "attention.key_length", p->d_head);
    u32(&k, "attention.value_length", p->d_head);
    u32(&k, "rope.dimension_count", p->n_rot ? p->n_rot : p->d_head);
    u32(&k, "vocab_size", p->n_vocab);
    f32(&k, "attention.layer_norm_rms_epsilon", p->eps);
    f32(&k, "rope.freq_base", p->rope_base);
    if (p->n_swa) u32(&k, "attention.sliding_window", p->n_swa);
    if (p->rope == TINY_ROPE_LINEAR || p->rope == TINY_ROPE_YARN) {
        const char *key = arch_key(&k, "rope.scaling.type");
        if (key) gw_kv_str(&m->w, key, p->rope == TINY_ROPE_YARN ? "yarn" : "linear");
        f32(&k, "rope.scaling.factor", p->rope_factor);
        if (p->rope_orig_ctx) u32(&k, "rope.scaling.original_context_length", p->rope_orig_ctx);
        if (p->rope_attn < 1 || p->rope_attn > 1) f32(&k, "rope.scaling.attn_factor", p->rope_attn);
    }
    tiny_tokenizer(&m->w, p);
}

/* Llama 3's divisors: 1 for fast pairs, the factor for slow ones, a blend between (wavelengths orig/4 .. orig). */
static void rope_freqs(maker *m) {
    const tiny_params *p = m->p;
    const uint32_t n_rot = p->n_rot ? p->n_rot : p->d_head, orig = p->rope_orig_ctx ? p->rope_orig_ctx : 32;
    float x[128];
    if (n_rot / 2 > 128) abort();
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        const double wave = 2 * 3.14159265358979323846 * pow((double)p->rope_base, 2.0 * i / n_rot);
        const double mix = ((double)orig / wave - 1) / 3; /* low factor 1, high factor 4 */
        const double t = mix < 0 ? 0 : mix > 1 ? 1 : mix;
        x[i] = (float)(1 / ((1 - t) / (double)p->rope_factor + t));
    }
    put(m, "rope_freqs.weight", CRIT_T_F32, 1, n_rot / 2, 1, x);
}

unsigned char *tiny_build(const tiny_params *p, size_t *len) {
    maker m = {.p = p, .first = true};
    gw_init(&m.w, p->version, p->align);
    if (p->extra) p->extra(&m.w);
    metadata(&m);
    const float spread = 3 / sqrtf((float)p->n_embd);
    matrix(&m, "token_embd.weight", p->t_embd, p->n_embd, p->n_vocab, spread, 0);
    for (uint32_t i = 0; i < p->n_layer; i++) layer(&m, i);
    vector(&m, "output_norm.weight", p->t_norm, p->n_embd, 1, 0.2f);
    if (!p->tied) matrix(&m, "output.weight", p->t_output, p->n_embd, p->n_vocab, spread, 0);
    if (p->rope == TINY_ROPE_LLAMA3) rope_freqs(&m);
    return gw_finish(&m.w, len);
}

int tiny_write(const char *path, const tiny_params *p) {
    size_t len;
    unsigned char *file = tiny_build(p, &len);
    const int rc = gw_save(path, file, len);
    free(file);
    return rc;
}
