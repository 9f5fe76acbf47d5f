/* SPDX-License-Identifier: MIT */
/* See oracle.h.  Metadata is read as llama.cpp reads it: rope.scaling.factor without a type means linear; YaRN's
 * attention factor multiplies 1 + 0.1 ln(factor); llama rotates neighbours, qwen2 and qwen3 rotate halves. */
#include "tiny/oracle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/c/half.h"
#include "kernels/kernels.h"
#include "model/gguf.h"

struct oracle {
    gguf *g;
    crit_kernels kt; /* decoders only */
    char arch[16];
    uint32_t n_layer, n_head, n_kv, d, n_embd, n_ff, n_vocab, n_rot;
    double eps;
    bool halves, qk_norm;
    double freq[256]; /* [n_rot/2] angle per position, scaling included */
    double mscale;
};

static void *need(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) abort();
    return p;
}

/* ---- metadata ---- */

static double number(const oracle *o, const char *suffix, double fallback) {
    char key[96];
    double v = fallback;
    snprintf(key, sizeof key, "%s.%s", o->arch, suffix);
    (void)gguf_get_f64(o->g, key, &v);
    return v;
}

static const gguf_tensor *tensor(const oracle *o, int layer, const char *name) {
    char full[96];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    return gguf_find_tensor(o->g, full);
}

static void row_of(const oracle *o, const gguf_tensor *t, size_t row, float *out) {
    o->kt.dequant[t->type]((const char *)t->data + row * t->row_bytes, out, (size_t)t->ne[0]);
}

/* YaRN: the pair whose wave turns `turns` times in the original context, as a real number. */
static double turning_pair(const oracle *o, double base, double ctx, double turns) {
    return (double)o->n_rot * log(ctx / (turns * 2 * M_PI)) / (2 * log(base));
}

static void set_rope(oracle *o) {
    const double base = number(o, "rope.freq_base", 10000);
    const double factor = number(o, "rope.scaling.factor", 0);
    const double interp = factor != 0 ? 1 / factor : 1;
    const double ctx = number(o, "rope.scaling.original_context_length", number(o, "context_length", 0));
    char key[96];
    gguf_str type;
    snprintf(key, sizeof key, "%s.rope.scaling.type", o->arch);
    enum { LINEAR, PLAIN, YARN } kind = LINEAR;
    if (gguf_get_str(o->g, key, &type)) {
        if (type.len == 4 && !memcmp(type.ptr, "none", 4)) kind = PLAIN;
        if (type.len == 4 && !memcmp(type.ptr, "yarn", 4)) kind = YARN;
    }
    o->mscale = number(o, "rope.scaling.attn_factor", 1);
    double low = 0, high = 0;
    if (kind == YARN) {
        low = floor(turning_pair(o, base, ctx, number(o, "rope.scaling.yarn_beta_fast", 32)));
        high = ceil(turning_pair(o, base, ctx, number(o, "rope.scaling.yarn_beta_slow", 1)));
        if (low < 0) low = 0;
        if (high > o->n_rot - 1.0) high = o->n_rot - 1.0;
        if (interp < 1) o->mscale *= 1 + 0.1 * log(1 / interp);
    }
    const gguf_tensor *div = tensor(o, -1, "rope_freqs.weight");
    float divisor[256];
    if (div) row_of(o, div, 0, divisor);
    for (uint32_t i = 0; i < o->n_rot / 2; i++) {
        const double own = pow(base, -2.0 * i / o->n_rot) / (div ? (double)divisor[i] : 1);
        double keep = 0; /* share of the unscaled angle */
        if (kind == PLAIN) keep = 1;
        if (kind == YARN) {
            const double width = high - low > 0.001 ? high - low : 0.001, t = (i - low) / width;
            keep = t <= 0 ? 1 : t >= 1 ? 0 : 1 - t;
        }
        o->freq[i] = own * (keep + (1 - keep) * interp);
    }
}

oracle *oracle_open(const char *path) {
    crit_error err;
    oracle *o = need(1, sizeof *o);
    gguf_str arch;
    if (gguf_open(&o->g, path, &err)) {
        fprintf(stderr, "oracle: %s\n", err.message);
        free(o);
        return NULL;
    }
    if (!gguf_get_str(o->g, "general.architecture", &arch) || arch.len >= sizeof o->arch ||
        !tensor(o, -1, "token_embd.weight")) {
        fprintf(stderr, "oracle: %s: no model\n", path);
        oracle_close(o);
        return NULL;
    }
    memcpy(o->arch, arch.ptr, arch.len);
    crit_kernels_init(&o->kt, 0);
    o->halves = strcmp(o->arch, "llama") != 0;
    o->qk_norm = strcmp(o->arch, "qwen3") == 0;
    o->n_layer = (uint32_t)number(o, "block_count", 0);
    o->n_embd = (uint32_t)number(o, "embedding_length", 0);
    o->n_ff = (uint32_t)number(o, "feed_forward_length", 0);
    o->n_head = (uint32_t)number(o, "attention.head_count", 0);
    o->n_kv = (uint32_t)number(o, "attention.head_count_kv", o->n_head);
    o->d = (uint32_t)number(o, "attention.key_length", o->n_head ? (double)(o->n_embd / o->n_head) : 0);
    o->n_rot = (uint32_t)number(o, "rope.dimension_count", o->d);
    o->eps = number(o, "attention.layer_norm_rms_epsilon", 0);
    o->n_vocab = (uint32_t)tensor(o, -1, "token_embd.weight")->ne[1];
    if (!o->n_head || !o->n_kv || !o->d || o->n_rot > 512) {
        fprintf(stderr, "oracle: %s: no model\n", path);
        oracle_close(o);
        return NULL;
    }
    set_rope(o);
    return o;
}

void oracle_close(oracle *o) {
    if (!o) return;
    gguf_close(&o->g);
    free(o);
}

uint32_t oracle_n_vocab(const oracle *o) {
    return o->n_vocab;
}
uint32_t oracle_n_layer(const oracle *o) {
    return o->n_layer;
}
uint32_t oracle_n_head(const oracle *o) {
    return o->n_head;
}

/* ---- the forward pass ---- */

static double to_bf16(double x) {
    return (double)crit_bf16_value(crit_bf16_bits((float)x));
}

/* y[t] = W x[t] + b */
static void product(const oracle *o, const oracle_opts *opts, int layer, const char *w_name, const char *b_name,
                    const double *x, uint32_t n_tok, double *y) {
    const bool bf16 = opts && opts->bf16;
    const gguf_tensor *w = tensor(o, layer, w_name), *b = b_name ? tensor(o, layer, b_name) : NULL;
    const size_t n_in = (size_t)w->ne[0], n_out = (size_t)w->ne[1];
    float *row = need(n_in, sizeof *row), *bias = need(n_out, sizeof *bias);
    double *act = need(n_tok * n_in, sizeof *act);
    for (size_t i = 0; i < n_tok * n_in; i++) act[i] = bf16 ? to_bf16(x[i]) : x[i];
    if (b) row_of(o, b, 0, bias);
    for (size_t r = 0; r < n_out; r++) {
        row_of(o, w, r, row);
        for (size_t i = 0; i < n_in && bf16; i++) row[i] = (float)to_bf16((double)row[i]);
        for (uint32_t t = 0; t < n_tok; t++) {
            double sum = 0;
            for (size_t i = 0; i < n_in; i++) sum += (double)row[i] * act[t * n_in + i];
            y[t * n_out + r] = sum + (double)bias[r];
        }
    }
    free(act);
    free(row);
    free(bias);
}

/* Each run of n values of x on its own, all with the same weights. */
static void norm(const oracle *o, int layer, const char *name, const double *x, size_t runs, uint32_t n, double *y) {
    float *w = need(n, sizeof *w);
    row_of(o, tensor(o, layer, name), 0, w);
    for (size_t r = 0; r < runs; r++) {
        double sq = 0;
        for (uint32_t i = 0; i < n; i++) sq += x[r * n + i] * x[r * n + i];
        const double inv = 1 / sqrt(sq / n + o->eps);
        for (uint32_t i = 0; i < n; i++) y[r * n + i] = x[r * n + i] * inv * (double)w[i];
    }
    free(w);
}

static void rotate(const oracle *o, double *x, uint32_t n_tok, uint32_t heads) {
    for (uint32_t t = 0; t < n_tok; t++)
        for (uint32_t h = 0; h < heads; h++)
            for (uint32_t i = 0; i < o->n_rot / 2; i++) {
                double *head = x + ((size_t)t * heads + h) * o->d;
                double *a = head + (o->halves ? i : 2 * i), *b = head + (o->halves ? i + o->n_rot / 2 : 2 * i + 1);
                const double c = cos(t * o->freq[i]) * o->mscale, s = sin(t * o->freq[i]) * o->mscale;
                const double ra = *a * c - *b * s, rb = *a * s + *b * c;
                *a = ra;
                *b = rb;
            }
}

static void attend(const oracle *o, uint32_t layer, const double *q, const double *k, const double *v, uint32_t n_tok,
                   const oracle_opts *opts, double *out) {
    const uint32_t group = o->n_head / o->n_kv, d = o->d;
    double *p = need(n_tok, sizeof *p), *qr = need(d, sizeof *qr);
    /* attention works on scaled q, in units of log2 */
    const double scale = 1 / sqrt(d), ln2 = log(2);
    for (uint32_t h = 0; h < o->n_head; h++)
        for (uint32_t row = 0; row < n_tok; row++) {
            double *y = out + ((size_t)row * o->n_head + h) * d, top = -HUGE_VAL, sum = 0;
            for (uint32_t i = 0; i < d; i++) {
                const double x = q[((size_t)row * o->n_head + h) * d + i] * scale;
                qr[i] = opts && opts->bf16_kv ? to_bf16(x / ln2) * ln2 : x;
            }
            for (uint32_t j = 0; j <= row; j++) {
                const double *kj = k + ((size_t)j * o->n_kv + h / group) * d;
                double dot = 0;
                for (uint32_t i = 0; i < d; i++) dot += qr[i] * kj[i];
                const bool seen = !opts || !opts->keep || opts->keep(opts->user, layer, h, row, j);
                p[j] = seen ? dot : -HUGE_VAL;
                top = fmax(top, p[j]);
            }
            memset(y, 0, d * sizeof *y);
            for (uint32_t j = 0; j <= row; j++) {
                const double w = isinf(top) ? 0 : exp(p[j] - top), *vj = v + ((size_t)j * o->n_kv + h / group) * d;
                sum += w;
                for (uint32_t i = 0; i < d; i++) y[i] += w * vj[i];
            }
            for (uint32_t i = 0; i < d; i++) y[i] = sum > 0 ? y[i] / sum : 0;
        }
    free(p);
    free(qr);
}

static void add_to(double *x, const double *y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}

static void to_f16(double *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = (double)crit_f16_value(crit_f16_bits((float)x[i]));
}

void oracle_logits(const oracle *o, const int32_t *tok, uint32_t n_tok, uint32_t from, const oracle_opts *opts,
                   double *logits) {
    const size_t n = n_tok, nq = (size_t)o->n_head * o->d, nkv = (size_t)o->n_kv * o->d;
    double *x = need(n * o->n_embd, sizeof *x), *h = need(n * o->n_embd, sizeof *h),
           *out = need(n * o->n_embd, sizeof *out);
    double *q = need(n * nq, sizeof *q), *att = need(n * nq, sizeof *att);
    double *k = need(n * nkv, sizeof *k), *v = need(n * nkv, sizeof *v);
    double *gate = need(n * o->n_ff, sizeof *gate), *up = need(n * o->n_ff, sizeof *up);
    float *row = need(o->n_embd, sizeof *row);
    const gguf_tensor *embd = tensor(o, -1, "token_embd.weight");
#define PROBE(what, data, width)                                                                                       \
    if (opts && opts->probe) opts->probe(opts->user, l, what, data, n_tok, (uint32_t)(width))

    for (size_t t = 0; t < n; t++) {
        row_of(o, embd, (size_t)tok[t], row);
        for (uint32_t i = 0; i < o->n_embd; i++) x[t * o->n_embd + i] = (double)row[i];
    }
    for (uint32_t l = 0; l < o->n_layer; l++) {
        const int li = (int)l;
        norm(o, li, "attn_norm.weight", x, n, o->n_embd, h);
        product(o, opts, li, "attn_q.weight", "attn_q.bias", h, n_tok, q);
        product(o, opts, li, "attn_k.weight", "attn_k.bias", h, n_tok, k);
        product(o, opts, li, "attn_v.weight", "attn_v.bias", h, n_tok, v);
        if (o->qk_norm) {
            norm(o, li, "attn_q_norm.weight", q, n * o->n_head, o->d, q);
            norm(o, li, "attn_k_norm.weight", k, n * o->n_kv, o->d, k);
        }
        rotate(o, q, n_tok, o->n_head);
        rotate(o, k, n_tok, o->n_kv);
        if (opts && opts->f16_kv) {
            to_f16(k, n * nkv);
            to_f16(v, n * nkv);
        }
        for (size_t i = 0; i < n * nkv && opts && opts->bf16_kv; i++) k[i] = to_bf16(k[i]), v[i] = to_bf16(v[i]);
        PROBE("q", q, nq);
        PROBE("k", k, nkv);
        PROBE("v", v, nkv);
        attend(o, l, q, k, v, n_tok, opts, att);
        PROBE("att", att, nq);
        product(o, opts, li, "attn_output.weight", "attn_output.bias", att, n_tok, out);
        add_to(x, out, n * o->n_embd);
        norm(o, li, "ffn_norm.weight", x, n, o->n_embd, h);
        product(o, opts, li, "ffn_gate.weight", NULL, h, n_tok, gate);
        product(o, opts, li, "ffn_up.weight", NULL, h, n_tok, up);
        for (size_t i = 0; i < n * o->n_ff; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
        product(o, opts, li, "ffn_down.weight", NULL, gate, n_tok, out);
        add_to(x, out, n * o->n_embd);
        PROBE("x", x, o->n_embd);
    }
#undef PROBE
    if (from < n_tok) {
        norm(o, -1, "output_norm.weight", x + (size_t)from * o->n_embd, n - from, o->n_embd, h);
        const char *head = tensor(o, -1, "output.weight") ? "output.weight" : "token_embd.weight";
        product(o, opts, -1, head, NULL, h, n_tok - from, logits);
    }
    free(x);
    free(h);
    free(out);
    free(q);
    free(att);
    free(k);
    free(v);
    free(gate);
    free(up);
    free(row);
}

double oracle_kl(const double *want, const float *got, uint32_t n) {
    double tw = -HUGE_VAL, tg = -HUGE_VAL, sw = 0, sg = 0, kl = 0;
    for (uint32_t i = 0; i < n; i++) {
        tw = fmax(tw, want[i]);
        tg = fmax(tg, (double)got[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        sw += exp(want[i] - tw);
        sg += exp((double)got[i] - tg);
    }
    for (uint32_t i = 0; i < n; i++) {
        const double lw = want[i] - tw - log(sw), lg = (double)got[i] - tg - log(sg);
        kl += exp(lw) * (lw - lg);
    }
    return kl;
}
