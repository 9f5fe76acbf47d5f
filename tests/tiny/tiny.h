/* SPDX-License-Identifier: MIT */
/* The synthetic model: a small GGUF file with random weights, written at test time, the same bytes for the same
 * parameters.
 *
 * Weights are scaled so that something happens: attention is peaky in some heads and flat in others, logits spread
 * over a few units, norms and biases differ from 1 and 0.  Faults can be built in; others are made by patching bytes.
 */
#ifndef CRIT_TESTS_TINY_H
#define CRIT_TESTS_TINY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/qtype.h"
#include "tiny/ggufw.h"

typedef enum tiny_rope { TINY_ROPE_NONE, TINY_ROPE_LINEAR, TINY_ROPE_YARN, TINY_ROPE_LLAMA3 } tiny_rope;
typedef enum tiny_tok { TINY_TOK_NONE, TINY_TOK_GPT2, TINY_TOK_LLAMA } tiny_tok;

typedef struct tiny_params {
    const char *arch; /* "llama" (default), "qwen2", "qwen3"; any other text makes a llama of that name */
    uint32_t n_layer, n_head, n_kv_head, d_head, n_embd, n_ff; /* 2, 4, 2, 16, 64, 96 */
    uint32_t n_vocab;                                          /* 320; at least 300 with a tokenizer */
    crit_type t_embd, t_output, t_q, t_k, t_v, t_o, t_gate, t_up, t_down, t_norm; /* F32; rows must be whole blocks */
    bool tied;                                                                    /* no output.weight */
    float peak; /* 2: standard deviation of the scores of the flattest heads; others have 2 and 4 times that */

    tiny_rope rope;
    float rope_base;        /* 10000 */
    float rope_factor;      /* 4 */
    float rope_attn;        /* attn_factor of linear and yarn; 1 is not written */
    uint32_t rope_orig_ctx; /* original_context_length; 32, 0 = not written */
    uint32_t n_rot;         /* 0 = d_head */
    uint32_t n_ctx_train;   /* 4096 */
    uint32_t n_swa;         /* 0 = key not written */
    float eps;              /* 1e-5 */

    tiny_tok tok;              /* GPT2 */
    const char *tok_pre;       /* "qwen2" */
    const char *chat_template; /* ChatML; "" = key not written */
    uint64_t seed;             /* 1 */
    uint32_t version;          /* 3 */
    uint32_t align;            /* 32; other values write general.alignment */

    /* faults; NULL or 0 = none */
    const char *omit_tensor, *omit_key;
    const char *reshape_tensor; /* gets one row more */
    const char *nan_tensor;     /* its first value or scale is a NaN */
    uint32_t fake_type;         /* type number written for the first tensor */
    void (*extra)(gw *w);       /* adds keys or tensors of its own before the model's */
} tiny_params;

void tiny_params_init(tiny_params *p);
/* All weight matrices (not norms) of one type. */
void tiny_all_types(tiny_params *p, crit_type t);
/* The file, malloc'ed.  Aborts on parameters that make no model. */
unsigned char *tiny_build(const tiny_params *p, size_t *len);
/* 0, or -1 with errno set. */
int tiny_write(const char *path, const tiny_params *p);

/* Deterministic numbers for tests: state in *s, any start value. */
uint64_t tiny_rand(uint64_t *s);
float tiny_uniform(uint64_t *s); /* [0, 1) */
float tiny_normal(uint64_t *s);

#endif
