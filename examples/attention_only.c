/* SPDX-License-Identifier: MIT */
/* Tier 2 in one page: block-sparse attention on your own Q, K and V, here made-up ones, against dense attention.
 *     build: cc attention_only.c $(pkg-config --cflags --libs critiprefill) -lm
 *
 * The text of this toy changes its topic every 128 tokens and comes back to earlier ones, as real text does; a query
 * looks for the keys of its own topic.  Prints the share of the work criti did and what it changed in the output. */
#include <critiprefill/attention.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_TOK = 4096, CHUNK = 512, N_HEAD = 4, N_KV_HEAD = 2, D = 64, N_TOPIC = 12 };

static float rnd(uint64_t *s) { /* roughly normal */
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *s = *s * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*s >> 40) / 16777216.0f - 0.5f;
    }
    return sum * 1.7f;
}

/* x [N_TOK][n_head][D]: noise, plus the direction of the token's topic. */
static void fill(float *x, int n_head, float topic_weight, uint64_t *s) {
    for (int t = 0; t < N_TOK; t++) {
        uint64_t topic = 1000 + (uint64_t)(t / 128 * 7 % N_TOPIC);
        for (int i = 0; i < n_head * D; i++) x[t * n_head * D + i] = 0.7f * rnd(s) + topic_weight * rnd(&topic);
    }
}

int main(void) {
    const size_t q_row = N_HEAD * D, kv_row = N_KV_HEAD * D;
    float *q = malloc(N_TOK * q_row * sizeof *q), *k = malloc(N_TOK * kv_row * sizeof *k);
    float *v = malloc(N_TOK * kv_row * sizeof *v);
    float *out[2] = {malloc(N_TOK * q_row * sizeof **out), malloc(N_TOK * q_row * sizeof **out)};
    crit_engine *engine = NULL;
    crit_kv *kv = NULL;
    crit_plan *plan[2] = {NULL, NULL};
    crit_error err = {.code = CRIT_E_NOMEM, .message = "out of memory"};
    double planned[2] = {0, 0}, mass = 0, diff = 0, norm = 0;
    int rc = 1;

    if (!q || !k || !v || !out[0] || !out[1]) goto done;
    uint64_t seed = 1;
    fill(k, N_KV_HEAD, 1.5f, &seed);
    fill(v, N_KV_HEAD, 0, &seed);
    for (int t = 0; t < N_TOK; t++) /* queries point where the keys of their group's KV head do */
        for (int i = 0; i < N_HEAD * D; i++)
            q[t * N_HEAD * D + i] = k[t * N_KV_HEAD * D + i / D / (N_HEAD / N_KV_HEAD) * D + i % D] + 0.5f * rnd(&seed);

    if (crit_engine_open(&engine, NULL, 0, &err)) goto done;
    if (crit_kv_open(&kv, engine, N_KV_HEAD, D, N_TOK, &err)) goto done;
    for (int m = 0; m < 2; m++) {
        crit_attn_params p;
        crit_attn_params_init(&p);
        p.mode = m ? CRIT_ATTN_CRITI : CRIT_ATTN_DENSE;
        p.last_tok = 0; /* nobody asks a question at the end of this text */
        if (crit_plan_open(&plan[m], engine, N_HEAD, N_KV_HEAD, D, &p, &err)) goto done;
    }

    for (uint32_t pos = 0; pos < N_TOK; pos += CHUNK) {
        const float *qc = q + pos * q_row;
        if (crit_kv_append(kv, k + pos * kv_row, kv_row, v + pos * kv_row, kv_row, CHUNK, &err)) goto done;
        for (int m = 0; m < 2; m++) {
            if (crit_plan_build(plan[m], kv, qc, q_row, pos, CHUNK, N_TOK - CHUNK - pos, 0.125f, NULL, &err)) goto done;
            if (crit_attention_run(plan[m], kv, qc, q_row, out[m] + pos * q_row, q_row, &err)) goto done;
            planned[m] += crit_plan_cost(plan[m]);
        }
    }
    for (size_t i = 0; i < N_TOK * q_row; i++) {
        double d = (double)out[1][i] - (double)out[0][i];
        diff += d * d;
        norm += (double)out[0][i] * (double)out[0][i];
    }
    crit_plan_measured(plan[1], &mass, NULL, NULL); /* by a few exact queries, without dense attention beside it */
    printf("%d tokens, %d/%d heads: density %.3f, weight kept %.3f, relative error %.2e\n", N_TOK, N_HEAD, N_KV_HEAD,
           planned[1] / planned[0], mass, sqrt(diff / norm));

    /* A token behind the prompt needs no plan; here the last one is taken back and decoded. */
    const size_t last = N_TOK - 1;
    float row[N_HEAD * D], worst = 0;
    if (crit_kv_truncate(kv, (uint32_t)last, &err)) goto done;
    if (crit_kv_append(kv, k + last * kv_row, kv_row, v + last * kv_row, kv_row, 1, &err)) goto done;
    if (crit_attention_decode(kv, q + last * q_row, N_HEAD, 0.125f, row, &err)) goto done;
    for (size_t i = 0; i < q_row; i++) worst = fmaxf(worst, fabsf(row[i] - out[0][last * q_row + i]));
    printf("a decoded token: at most %.1e from the dense row; kept %.1f MB of keys and values, %.1f MB of plan\n",
           (double)worst, 1e-6 * (double)crit_kv_bytes(kv), 1e-6 * (double)crit_plan_bytes(plan[1]));
    rc = 0;
done:
    if (rc) fprintf(stderr, "attention_only: %s\n", err.message);
    for (int m = 0; m < 2; m++) crit_plan_close(&plan[m]);
    crit_kv_close(&kv);
    crit_engine_close(&engine);
    free(out[1]), free(out[0]), free(v), free(k), free(q);
    return rc;
}
