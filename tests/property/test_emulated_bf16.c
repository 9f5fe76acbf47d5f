/* SPDX-License-Identifier: MIT */
/* The whole model with the attention, KV layout and GEMM of the levels that multiply bf16, emulated: their kernels
 * are laid over the table of the level this machine has.  Chunk length, threads, turns and decoding keep the bits, and logits stay near those of
 * the C reference.  What the kernels themselves promise is checkasm's business. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "critiprefill/critiprefill.h"
#include "model/model.h"
#include "tiny/oracle.h"
#include "tiny/tiny.h"

/* Of tests/emul, on x86 only. */
#define EMULATED(fn, name) extern __typeof__(*(fn)0) name __attribute__((weak))
EMULATED(crit_attend_fn, emul_crit_attend_amx);
EMULATED(crit_attend_fn, emul_crit_attend_avx512bf16);
EMULATED(crit_block_lse_fn, emul_crit_block_lse_amx);
EMULATED(crit_block_lse_fn, emul_crit_block_lse_avx512bf16);
EMULATED(crit_kv_put_fn, emul_crit_kv_put_avx512bf16);
EMULATED(crit_block_stats_fn, emul_crit_block_stats_avx512bf16);
EMULATED(crit_act_pack_fn, emul_crit_act_pack_bf16_avx512bf16);
#define GEMM_TYPES(X)                                                                                                  \
    X(F32, f32)                                                                                                        \
    X(F16, f16)                                                                                                        \
    X(BF16, bf16)                                                                                                      \
    X(Q4_0, q4_0)                                                                                                      \
    X(Q4_1, q4_1)                                                                                                      \
    X(Q5_0, q5_0)                                                                                                      \
    X(Q5_1, q5_1)                                                                                                      \
    X(Q8_0, q8_0)                                                                                                      \
    X(Q2_K, q2_k)                                                                                                      \
    X(Q3_K, q3_k)                                                                                                      \
    X(Q4_K, q4_k)                                                                                                      \
    X(Q5_K, q5_k)                                                                                                      \
    X(Q6_K, q6_k)                                                                                                      \
    X(IQ4_NL, iq4_nl)                                                                                                  \
    X(IQ4_XS, iq4_xs)
#define X(T, t) EMULATED(crit_gemm_fn, emul_crit_gemm_##t##_amx);
GEMM_TYPES(X)
#undef X
EMULATED(crit_gemm_fn, emul_crit_gemm_f32_avx512bf16);

enum { N = 1290, TURN = 700, VOCAB_MAX = 4096 };

static const char *model_path(void) {
    static char path[512];
    const char *dir = getenv("CRIT_TEST_TMP");
    snprintf(path, sizeof path, "%s/emul-%ld.gguf", dir ? dir : P_tmpdir, (long)getpid());
    return path;
}

typedef enum level { OWN, BF16_DOT, AMX } level;

static crit_model *open_model(const char *cpu, level emulated) {
    crit_model_params p;
    crit_model_params_init(&p);
    p.cpu = cpu;
    crit_model *m = NULL;
    crit_error err;
    if (crit_model_open(&m, model_path(), &p, &err)) fail_msg("%s", err.message);
    if (emulated) {
        m->kernels.attend = emulated == AMX ? emul_crit_attend_amx : emul_crit_attend_avx512bf16;
        m->kernels.block_lse = emulated == AMX ? emul_crit_block_lse_amx : emul_crit_block_lse_avx512bf16;
        m->kernels.kv_put = emul_crit_kv_put_avx512bf16;
        m->kernels.kv_layout = CRIT_KV_BF16T;
        m->kernels.attend_kind = CRIT_ACT_BF16;
        m->kernels.attend_ready = NULL;
        m->kernels.block_stats = emul_crit_block_stats_avx512bf16;
        m->kernels.act_pack[CRIT_ACT_BF16] = emul_crit_act_pack_bf16_avx512bf16;
    }
    if (emulated == BF16_DOT) {
        m->kernels.gemm[CRIT_T_F32] = emul_crit_gemm_f32_avx512bf16;
        m->kernels.act_kind[CRIT_T_F32] = CRIT_ACT_BF16;
        m->kernels.gemm_gated = 0; /* where the machine's own level has it */
    }
    if (emulated == AMX) {
        m->kernels.gemm_item = 64;
        m->kernels.gemm_gated = 1;
#define X(T, t) m->kernels.gemm[CRIT_T_##T] = emul_crit_gemm_##t##_amx, m->kernels.act_kind[CRIT_T_##T] = CRIT_ACT_BF16;
        GEMM_TYPES(X)
#undef X
    }
    return m;
}

static int32_t *tokens(uint32_t n_vocab) {
    uint64_t seed = 5;
    int32_t *t = malloc(N * sizeof *t);
    assert_non_null(t);
    for (uint32_t i = 0; i < N; i++) t[i] = i >= 500 && i % 7 ? t[i - 500] : (int32_t)(tiny_rand(&seed) % n_vocab);
    return t;
}

static crit_session *session(const crit_model *m, crit_attn mode, uint32_t ub, uint32_t threads) {
    crit_session_params p;
    crit_session_params_init(&p);
    p.n_ctx = N + 8;
    p.n_batch = ub;
    p.n_threads = threads;
    p.attn.mode = mode;
    p.attn.threshold = 512;
    p.attn.budget_tok = 128;
    crit_session *s = NULL;
    crit_error err;
    if (crit_session_open(&s, m, &p, &err)) fail_msg("%s", err.message);
    return s;
}

static void prefill(crit_session *s, const int32_t *t, uint32_t n) {
    crit_error err;
    if (crit_prefill(s, t, n, NULL, &err)) fail_msg("%s", err.message);
}

/* Logits behind the first turn, a few decoded tokens, and the rest of the prompt. */
static void run(const crit_model *m, crit_attn mode, uint32_t ub, uint32_t threads, const int32_t *t, uint32_t n_vocab,
                float *first, float *last) {
    crit_session *s = session(m, mode, ub, threads);
    prefill(s, t, TURN);
    memcpy(first, crit_logits(s), n_vocab * sizeof *first);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(crit_decode(s, t[TURN + i], NULL), CRIT_OK);
    prefill(s, t + TURN + 3, N - TURN - 3);
    memcpy(last, crit_logits(s), n_vocab * sizeof *last);
    crit_session_close(&s);
}

static void kl_below(const float *want, const float *got, uint32_t n, double bound) {
    double w[VOCAB_MAX];
    for (uint32_t i = 0; i < n; i++) w[i] = (double)want[i];
    const double kl = oracle_kl(w, got, n);
    if (!(kl <= bound)) fail_msg("KL %g from the C reference, bound %g", kl, bound);
}

static void one_shape(level emulated, const char *arch, uint32_t n_head, uint32_t n_kv_head, uint32_t d_head,
                      crit_type type) {
    tiny_params p;
    tiny_params_init(&p);
    p.arch = arch;
    p.n_head = n_head, p.n_kv_head = n_kv_head, p.d_head = d_head;
    p.n_embd = 64;
    p.n_layer = 2;
    p.seed = 17 + d_head;
    tiny_all_types(&p, type);
    assert_int_equal(tiny_write(model_path(), &p), 0);
    assert_true(p.n_vocab <= VOCAB_MAX);
    crit_model *m = open_model(NULL, emulated), *c = open_model("c", OWN);
    int32_t *t = tokens(p.n_vocab);
    float ref[2][VOCAB_MAX], got[2][VOCAB_MAX], plain[2][VOCAB_MAX];
    for (int mode = CRIT_ATTN_CRITI; mode <= CRIT_ATTN_PAPER; mode++) {
        run(m, (crit_attn)mode, 512, 1, t, p.n_vocab, ref[0], ref[1]);
        static const struct { uint32_t ub, threads; } other[] = {{96, 2}, {1, 3}, {1000, 2}};
        for (size_t i = 0; i < 3; i++) {
            run(m, (crit_attn)mode, other[i].ub, other[i].threads, t, p.n_vocab, got[0], got[1]);
            assert_memory_equal(ref[0], got[0], p.n_vocab * sizeof(float));
            assert_memory_equal(ref[1], got[1], p.n_vocab * sizeof(float));
        }
        if (mode != CRIT_ATTN_DENSE) continue; /* with other roundings selection may differ at an edge */
        run(c, (crit_attn)mode, 512, 2, t, p.n_vocab, plain[0], plain[1]);
        kl_below(plain[0], ref[0], p.n_vocab, 5e-3);
        kl_below(plain[1], ref[1], p.n_vocab, 5e-3);
    }
    free(t);
    crit_model_close(&m), crit_model_close(&c);
    remove(model_path());
}

static void laws_at_emulated_levels(void **state) {
    (void)state;
    if (!emul_crit_attend_amx) skip();
    for (level i = BF16_DOT; i <= AMX; i++) {
        one_shape(i, "qwen2", 3, 1, 64, CRIT_T_F32);
        one_shape(i, "llama", 2, 2, 40, CRIT_T_F32);
        if (i == AMX) one_shape(i, "llama", 2, 1, 32, CRIT_T_Q5_0); /* the other's are this machine's */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(laws_at_emulated_levels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
