/* SPDX-License-Identifier: MIT */
/* Every option of every subcommand: one struct of values, one table of rows (options.c) that parses and documents. */
#ifndef PROG_OPTIONS_H
#define PROG_OPTIONS_H

#include "args.h"
#include "critiprefill/critiprefill.h"

enum {
    CMD_RUN = 1 << 0,
    CMD_BENCH = 1 << 1,
    CMD_TOKENIZE = 1 << 2,
    CMD_INFO = 1 << 3,
    CMD_INSPECT = 1 << 4,
    /* kinds of eval */
    CMD_KL = 1 << 5,
    CMD_PPL = 1 << 6,
    CMD_NEEDLE = 1 << 7,
    CMD_PASSKEY = 1 << 8,
    CMD_KV = 1 << 9,
    CMD_LINES = 1 << 10,
    CMD_LOOKUP = 1 << 11,
    CMD_RULER = 1 << 12,
    CMD_LONGBENCH = 1 << 13,
    CMD_OPERATOR = 1 << 14,
    CMD_FRONTIER = 1 << 15,

    CMD_POLICIES = 1 << 16,
    CMD_CLUSTER = 1 << 17,
    CMD_CHAIN = 1 << 20, /* kinds of eval again */
    CMD_COPY = 1 << 21,
    CMD_SUITE = 1 << 22,
    CMD_TASKS =
        CMD_NEEDLE | CMD_PASSKEY | CMD_KV | CMD_LINES | CMD_LOOKUP | CMD_RULER | CMD_LONGBENCH | CMD_CHAIN | CMD_COPY,
    CMD_EVAL = CMD_KL | CMD_PPL | CMD_TASKS | CMD_OPERATOR | CMD_FRONTIER | CMD_SUITE
};

enum { FORMAT_MD, FORMAT_CSV, FORMAT_JSON };
/* Modes from MODE_PRESET on are criti with a preset, from MODE_POLICY on policies; most modes of a list. */
enum { MODE_PRESET = 8, MODE_POLICY = 16, MAX_MODE = 8 };
enum { TRUNCATE_NO, TRUNCATE_MIDDLE };
enum { N_QUALITY = 3 };

typedef struct options {
    const char *model;
    str_list files; /* in order; "-" is stdin */
    const char *prompt, *system;
    int32_t n_predict; /* bench: -1 = not given */
    uint32_t n_ctx, n_threads, n_batch, n_rep, cpu, truncate, format;
    u32_list ctx;               /* bench: prompt lengths */
    const char *attn_list;      /* run, bench: as it was written */
    u32_list modes;             /* crit_attn values, MODE_PRESET + crit_quality (bench), or MODE_POLICY + place in
                                   prefill; one for run and info */
    char prefill[MAX_MODE][96]; /* policies of the prompt that modes name */
    uint32_t quality;           /* crit_quality */
    float min_recall;           /* run: refuse to answer below; 0 = off */
    crit_attn_params attn;
    crit_attn_params preset[N_QUALITY]; /* by crit_quality: each with the knobs given on top */
    crit_sampler_params sampler;
    bool chat, pin, json, compare, no_progress, force, ids, bos, parse_special, tensors;
    bool plain_special, no_bos; /* llama.cpp's spelling of our defaults: accepted, nothing to do */
    const char *plot;
    /* bench: what else than prompts on a model; at most one, but tune takes shapes */
    bool peak, kernels, tune;
    const char *shapes; /* names, comma separated */
    const char *vs;     /* folder of llama-bench */
    const char *decode; /* policy of decoding; bench: several */
    const char *kv;     /* policy of the store */
    u32_list batch;     /* bench: sequences at a time */
    uint32_t n_answer;  /* run: answers to the prompt */
    const char *prefix; /* run: a snapshot that the prompt goes on from */
    uint32_t zstd;      /* cluster: compression level; 0 = none */
    const char *type;   /* of the shapes' weights */
    float density;      /* of the shapes' sparse plan; 0 = by length */
    bool quick;
    /* eval, inspect */
    unsigned kind;                         /* the CMD_ bit of this command */
    const char *variants;                  /* attentions: variants.h */
    const char *out_dir;                   /* records, to go on from */
    const char *html;                      /* report */
    const char *save_logits, *base_logits; /* llama-perplexity's format */
    uint32_t n_last;                       /* positions at the end that are told apart */
    uint32_t ppl_stride;
    uint32_t n_chunk; /* windows at most; 0 = all */
    uint32_t n_sample;
    u32_list depths; /* percent */
    uint32_t n_question; /* that share a text */
    uint32_t n_digit;
    uint32_t question; /* QUESTION_ */
    const char *tasks; /* names, comma separated, or all */
    const char *essay, *squad, *hotpot;
    u32_list layers; /* operator; inspect: at most one, likewise heads */
    u32_list heads;
    uint32_t n_probe; /* exact queries a tile */
    const char *dump; /* folder for .npy files */
    bool tiles;       /* operator: figures of each */
    const char *csv;  /* frontier */
    const char *sweep;
    const char *output; /* inspect, cluster */
    const char *config; /* suite */
} options;

enum { QUESTION_LAST, QUESTION_FIRST, QUESTION_BOTH, QUESTION_MIDDLE };

extern const opt option_table[];
extern const field attn_fields[];      /* of crit_attn_params; tag = the mode it belongs to */
extern const char *const attn_names[]; /* by crit_attn, NULL-terminated */
extern const char *const cpu_names[];
extern const char *const quality_names[]; /* by crit_quality, NULL-terminated */
/* Which of a NULL-terminated list the n bytes at s are, -1 for none. */
int find_name(const char *const *list, const char *s, size_t n);

void options_init(options *o, unsigned cmd);
void options_free(options *o);
/* Behind args_parse: the list of attentions becomes modes. */
int options_settle(options *o, unsigned cmd, const char *cmd_name);
/* What no single row can see: what is missing, what excludes what.  EXIT_OK or EXIT_USAGE with a line on stderr. */
int options_check(const options *o, unsigned cmd, const char *cmd_name);
/* The keys of --attn-opt with the library's defaults. */
void options_help_attn(buf *out);
/* "theta=0.41 min_tok=0 ..." : the fields of one mode. */
void options_attn(buf *out, const crit_attn_params *p, crit_attn mode);

/* Length of the first item of a list of policies "a,b:K=1,S=2,c": a comma before KEY=VALUE ends nothing. */
size_t policy_item(const char *list);

const char *mode_name(const options *o, uint32_t mode);
/* Does the policy of the prompt (with options, as written) keep a cache of a fixed size, so that no prompt is too long?
 */
bool policy_streams(const char *text);
bool modes_stream(const options *o); /* do all of o->modes? */
/* Does attention of the prompt, of what is decoded behind it, keep within n_tok positions, however long the text is? */
bool modes_within(const options *o, uint32_t n_tok);
bool decode_within(const options *o, uint32_t n_tok);
crit_session_params session_params(const options *o, uint32_t mode, uint32_t n_ctx);
uint32_t options_threads(const options *o); /* -t, or the cores of this process */

#endif
