/* SPDX-License-Identifier: MIT */
/* Compares our logits with those another engine saved: KL divergence, top-1 agreement, perplexity.
 *
 *   peer_kl MODEL BASE [dense|criti|paper]
 *   peer_kl --between BASE OTHER               two saved files: how far the peer is from itself under other settings
 *
 * BASE is the file llama-perplexity writes with --save-all-logits (called --kl-divergence-base when it reads one):
 * tokens, then for the second half of every chunk each row of log-probabilities as 16-bit steps between two floats.
 * Prints one JSON line and exits 1 when the mean KL of dense exceeds 2e-3 or the perplexities differ by more than 0.5
 * %. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "critiprefill/critiprefill.h"

typedef struct compare {
    FILE *f;
    const int32_t *tokens;
    uint32_t n_ctx, n_vocab;
    uint16_t *row;
    size_t row_len;
    double kl, nll_base, nll, n, top1;
    double *kls;
} compare;

static int on_logits(void *user, uint32_t pos, const float *logits, uint32_t n_vocab) {
    compare *c = user;
    if (pos < c->n_ctx / 2 || pos + 1 >= c->n_ctx) return 0;
    if (fread(c->row, sizeof *c->row, c->row_len, c->f) != c->row_len) return 1;
    float scale, min;
    memcpy(&scale, c->row, 4);
    memcpy(&min, c->row + 2, 4);
    const uint16_t *q = c->row + 4;
    double top = -(double)INFINITY, sum = 0, kl = 0;
    uint32_t best = 0, best_base = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if ((double)logits[i] > top) top = (double)logits[i], best = i;
        if (q[i] > q[best_base]) best_base = i;
    }
    for (uint32_t i = 0; i < n_vocab; i++) sum += exp((double)logits[i] - top);
    double lse = top + log(sum);
    for (uint32_t i = 0; i < n_vocab; i++) {
        double lp = (double)scale * q[i] + (double)min; /* their log-probability, ours beside it */
        if (lp > -16) kl += exp(lp) * (lp - ((double)logits[i] - lse));
    }
    int32_t next = c->tokens[pos + 1];
    c->kls[(size_t)c->n] = kl;
    c->kl += kl;
    c->nll -= (double)logits[next] - lse;
    c->nll_base -= (double)scale * q[next] + (double)min;
    c->top1 += best == best_base;
    c->n++;
    return 0;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int fail(const char *what, const char *why) {
    fprintf(stderr, "peer_kl: %s: %s\n", what, why);
    return 1;
}

/* A saved file's header; the rows follow. */
static FILE *open_base(const char *path, int32_t *n_ctx, int32_t *n_vocab, int32_t *n_chunk) {
    FILE *f = fopen(path, "rb");
    char magic[8];
    if (f && fread(magic, 8, 1, f) == 1 && !memcmp(magic, "_logits_", 8) && fread(n_ctx, 4, 1, f) == 1 &&
        fread(n_vocab, 4, 1, f) == 1 && fread(n_chunk, 4, 1, f) == 1 && *n_ctx >= 8 && *n_chunk >= 1 && *n_vocab > 0)
        return f;
    if (f) fclose(f);
    return NULL;
}

static int between(const char *a, const char *b) {
    int32_t ca, cb, va, vb, na, nb;
    FILE *fa = open_base(a, &ca, &va, &na), *fb = open_base(b, &cb, &vb, &nb);
    if (!fa || !fb || ca != cb || va != vb || na != nb) return fail(b, "not a file of saved logits of the same text");
    size_t len = 2 * (((size_t)va + 1) / 2) + 4, n = 0;
    long skip = 4L * ca * na;
    uint16_t *x = malloc(len * sizeof *x), *y = malloc(len * sizeof *y);
    if (!x || !y || fseek(fa, skip, SEEK_CUR) || fseek(fb, skip, SEEK_CUR)) return fail(b, "truncated");
    double kl = 0;
    for (; fread(x, sizeof *x, len, fa) == len && fread(y, sizeof *y, len, fb) == len; n++) {
        float sx[2], sy[2];
        memcpy(sx, x, sizeof sx);
        memcpy(sy, y, sizeof sy);
        for (int32_t i = 0; i < va; i++) {
            double p = (double)sx[0] * x[4 + i] + (double)sx[1], q = (double)sy[0] * y[4 + i] + (double)sy[1];
            if (p > -16) kl += exp(p) * (p - q);
        }
    }
    printf("{\"between\": \"%s\", \"positions\": %zu, \"kl_mean\": %.6f}\n", b, n, n ? kl / (double)n : 0.0);
    free(x);
    free(y);
    fclose(fa);
    fclose(fb);
    return n == 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "--between")) return between(argv[2], argv[3]);
    if (argc < 3) return fprintf(stderr, "usage: peer_kl MODEL BASE [dense|criti|paper]\n"), 2;
    const char *mode = argc > 3 ? argv[3] : "dense";
    crit_error err;
    crit_model *m;
    if (crit_model_open(&m, argv[1], NULL, &err)) return fail("model", err.message);
    int32_t n_ctx, n_vocab, n_chunk;
    FILE *f = open_base(argv[2], &n_ctx, &n_vocab, &n_chunk);
    if (!f) return fail(argv[2], "not a file of saved logits");
    size_t n = (size_t)n_ctx * (size_t)n_chunk;
    int32_t *tokens = malloc(n * sizeof *tokens);
    compare c = {
        .f = f, .n_ctx = (uint32_t)n_ctx, .n_vocab = (uint32_t)n_vocab, .row_len = 2 * (((size_t)n_vocab + 1) / 2) + 4};
    c.row = malloc(c.row_len * sizeof *c.row);
    c.kls = malloc(n * sizeof *c.kls);
    if (!tokens || !c.row || !c.kls || fread(tokens, sizeof *tokens, n, f) != n) return fail(argv[2], "truncated");

    crit_session_params sp;
    crit_session_params_init(&sp);
    sp.n_ctx = (uint32_t)n_ctx;
    sp.attn.mode = !strcmp(mode, "dense")   ? CRIT_ATTN_DENSE
                   : !strcmp(mode, "paper") ? CRIT_ATTN_PAPER
                                            : CRIT_ATTN_CRITI;
    crit_session *s;
    if (crit_session_open(&s, m, &sp, &err)) return fail("session", err.message);
    crit_prefill_params pp;
    crit_prefill_params_init(&pp);
    pp.on_logits = on_logits;
    pp.logits_user = &c;
    for (int32_t i = 0; i < n_chunk; i++) {
        c.tokens = tokens + (size_t)i * (size_t)n_ctx;
        if (crit_session_rewind(s, 0, &err) || crit_prefill(s, c.tokens, (size_t)n_ctx, &pp, &err))
            return fail("prefill", err.message);
    }
    qsort(c.kls, (size_t)c.n, sizeof *c.kls, ascending);
    double kl = c.kl / c.n, ppl = exp(c.nll / c.n), base = exp(c.nll_base / c.n);
    printf("{\"attn\": \"%s\", \"positions\": %.0f, \"kl_mean\": %.6f, \"kl_median\": %.6f, \"kl_p99\": %.5f, "
           "\"kl_max\": %.4f, "
           "\"top1\": %.4f, \"ppl\": %.4f, \"ppl_base\": %.4f}\n",
           mode, c.n, kl, c.kls[(size_t)c.n / 2], c.kls[(size_t)(c.n * 0.99)], c.kls[(size_t)c.n - 1], c.top1 / c.n,
           ppl, base);
    crit_session_close(&s);
    crit_model_close(&m);
    free(tokens);
    free(c.row);
    free(c.kls);
    fclose(f);
    return strcmp(mode, "dense") == 0 && (kl > 2e-3 || fabs(ppl / base - 1) > 0.005);
}
