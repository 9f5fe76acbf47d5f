/* SPDX-License-Identifier: MIT */
/* The synthetic model from the command line, for scripts:
 *
 *   tiny write OUT.gguf [name=value]...     e.g. arch=qwen2 n_embd=256 type=Q4_K rope=yarn tok=llama seed=3
 *   tiny logits MODEL.gguf ID...            the oracle's logits, one line a position
 *
 * Exit 0, or 2 for a usage error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny/oracle.h"
#include "tiny/tiny.h"

static int usage(const char *what) {
    fprintf(stderr, "tiny: %s\nusage: tiny write OUT.gguf [name=value]... | tiny logits MODEL.gguf ID...\n", what);
    return 2;
}

static bool type_named(const char *name, crit_type *out) {
    for (unsigned t = 0; t < CRIT_T_COUNT; t++)
        if (crit_type_name(t) && strcmp(crit_type_name(t), name) == 0) {
            *out = (crit_type)t;
            return true;
        }
    return false;
}

static bool one_of(const char *value, const char *const *names, int n, int *out) {
    for (int i = 0; i < n; i++)
        if (strcmp(value, names[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static bool set(tiny_params *p, const char *name, const char *value) {
    static const char *const ropes[] = {"none", "linear", "yarn", "llama3"}, *const toks[] = {"none", "gpt2", "llama"};
    const struct {
        const char *name;
        uint32_t *u;
    } numbers[] = {{"n_layer", &p->n_layer},
                   {"n_head", &p->n_head},
                   {"n_kv_head", &p->n_kv_head},
                   {"d_head", &p->d_head},
                   {"n_embd", &p->n_embd},
                   {"n_ff", &p->n_ff},
                   {"n_vocab", &p->n_vocab},
                   {"n_rot", &p->n_rot},
                   {"n_ctx_train", &p->n_ctx_train},
                   {"n_swa", &p->n_swa},
                   {"rope_orig_ctx", &p->rope_orig_ctx},
                   {"version", &p->version},
                   {"align", &p->align},
                   {"fake_type", &p->fake_type}};
    const struct {
        const char *name;
        float *f;
    } reals[] = {{"peak", &p->peak},
                 {"rope_base", &p->rope_base},
                 {"rope_factor", &p->rope_factor},
                 {"rope_attn", &p->rope_attn},
                 {"eps", &p->eps}};
    const struct {
        const char *name;
        const char **s;
    } texts[] = {{"arch", &p->arch},
                 {"tok_pre", &p->tok_pre},
                 {"chat_template", &p->chat_template},
                 {"omit_tensor", &p->omit_tensor},
                 {"omit_key", &p->omit_key},
                 {"reshape_tensor", &p->reshape_tensor},
                 {"nan_tensor", &p->nan_tensor}};
    const struct {
        const char *name;
        crit_type *t;
    } types[] = {{"t_embd", &p->t_embd}, {"t_output", &p->t_output}, {"t_q", &p->t_q},       {"t_k", &p->t_k},
                 {"t_v", &p->t_v},       {"t_o", &p->t_o},           {"t_gate", &p->t_gate}, {"t_up", &p->t_up},
                 {"t_down", &p->t_down}, {"t_norm", &p->t_norm}};
#define FIND(list, what)                                                                                               \
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)                                                            \
        if (strcmp(list[i].name, name) == 0) what
    FIND(numbers, {
        *numbers[i].u = (uint32_t)strtoul(value, NULL, 0);
        return true;
    })
    FIND(reals, {
        *reals[i].f = strtof(value, NULL);
        return true;
    })
    FIND(texts, {
        *texts[i].s = value;
        return true;
    })
    FIND(types, return type_named(value, types[i].t);)
#undef FIND
    crit_type t;
    int k;
    if (strcmp(name, "type") == 0 && type_named(value, &t))
        tiny_all_types(p, t);
    else if (strcmp(name, "rope") == 0 && one_of(value, ropes, 4, &k))
        p->rope = (tiny_rope)k;
    else if (strcmp(name, "tok") == 0 && one_of(value, toks, 3, &k))
        p->tok = (tiny_tok)k;
    else if (strcmp(name, "seed") == 0)
        p->seed = strtoull(value, NULL, 0);
    else if (strcmp(name, "tied") == 0)
        p->tied = strcmp(value, "0") != 0;
    else
        return false;
    return true;
}

static int logits(int argc, char **argv) {
    const uint32_t n = (uint32_t)argc - 3;
    oracle *o = oracle_open(argv[2]);
    if (!o) return 1;
    const uint32_t n_vocab = oracle_n_vocab(o);
    int32_t *ids = calloc(n, sizeof *ids);
    double *row = calloc((size_t)n * n_vocab, sizeof *row);
    if (!ids || !row) abort();
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)strtol(argv[3 + i], NULL, 10);
        if (ids[i] < 0 || (uint32_t)ids[i] >= n_vocab) return usage("token id outside the vocabulary");
    }
    oracle_logits(o, ids, n, 0, NULL, row);
    for (size_t i = 0; i < (size_t)n * n_vocab; i++) printf("%.9g%c", row[i], (i + 1) % n_vocab ? ' ' : '\n');
    free(ids);
    free(row);
    oracle_close(o);
    return 0;
}

int main(int argc, char **argv) {
    if (argc >= 4 && strcmp(argv[1], "logits") == 0) return logits(argc, argv);
    if (argc < 3 || strcmp(argv[1], "write") != 0) return usage("no such command");
    tiny_params p;
    tiny_params_init(&p);
    for (int i = 3; i < argc; i++) {
        char *eq = strchr(argv[i], '=');
        if (!eq) return usage(argv[i]);
        *eq = 0;
        if (!set(&p, argv[i], eq + 1)) return usage(argv[i]);
    }
    if (tiny_write(argv[2], &p) != 0) {
        perror(argv[2]);
        return 1;
    }
    return 0;
}
