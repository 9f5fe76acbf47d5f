/* SPDX-License-Identifier: MIT */
/* Every option of every subcommand: one struct of values, one table of rows (options.c) that parses and documents. */
#ifndef PROG_OPTIONS_H
#define PROG_OPTIONS_H

#include "args.h"
#include "critiprefill/critiprefill.h"

enum { CMD_RUN = 1, CMD_BENCH = 2, CMD_TOKENIZE = 4, CMD_INFO = 8 };

enum { FORMAT_MD, FORMAT_CSV, FORMAT_JSON };
enum { TRUNCATE_NO, TRUNCATE_MIDDLE };

typedef struct options {
    const char *model;
    str_list files; /* in order; "-" is stdin */
    const char *prompt, *system;
    int32_t n_predict; /* bench: -1 = not given */
    uint32_t n_ctx, n_threads, n_batch, n_rep, cpu, truncate, format;
    u32_list ctx;   /* bench: prompt lengths */
    u32_list modes; /* crit_attn values; one for run and info */
    crit_attn_params attn;
    crit_sampler_params sampler;
    bool chat, pin, json, compare, no_progress, force, ids, bos, parse_special, tensors;
    bool plain_special, no_bos; /* llama.cpp's spelling of our defaults: accepted, nothing to do */
    const char *plot;
    /* bench: what else than prompts on a model; at most one, but tune takes shapes */
    bool peak, kernels, tune;
    const char *shapes; /* names, comma separated */
    const char *vs;     /* folder of llama-bench */
    const char *type;   /* of the shapes' weights */
    float density;      /* of the shapes' sparse plan; 0 = by length */
    bool quick;
} options;

extern const opt option_table[];
extern const field attn_fields[];      /* of crit_attn_params; tag = the mode it belongs to */
extern const char *const attn_names[]; /* by crit_attn, NULL-terminated */
extern const char *const cpu_names[];

void options_init(options *o, unsigned cmd);
void options_free(options *o);
/* What no single row can see: what is missing, what excludes what.  EXIT_OK or EXIT_USAGE with a line on stderr. */
int options_check(const options *o, unsigned cmd, const char *cmd_name);
/* The keys of --attn-opt with the library's defaults. */
void options_help_attn(buf *out);
/* "theta=0.41 min_tok=0 ..." : the fields of one mode. */
void options_attn(buf *out, const crit_attn_params *p, crit_attn mode);

crit_session_params session_params(const options *o, crit_attn mode, uint32_t n_ctx);
uint32_t options_threads(const options *o); /* -t, or the cores of this process */

#endif
