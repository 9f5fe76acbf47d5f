/* SPDX-License-Identifier: MIT */
/* The option table.  Names are llama.cpp's wherever it has one.  Defaults come from the library where it has them. */
#include "options.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "term.h"

const char *const attn_names[] = {"criti", "dense", "paper", NULL}; /* order of crit_attn */
const char *const cpu_names[] = {"auto", "c", "avx2", "avx512", "amx", NULL};
static const char *const format_names[] = {"md", "csv", "json", NULL};
static const char *const truncate_names[] = {"no", "middle", NULL};

/* Tables: a row a line or two. */
/* clang-format off */
#define AT(f) offsetof(crit_attn_params, f)
const field attn_fields[] = {
    {"theta", OPT_F32, AT(theta), 0, 100, 0, CRIT_ATTN_CRITI, "threshold against an even share; 0 keeps all"},
    {"min_tok", OPT_U32, AT(min_tok), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "at least this many tokens of far blocks a tile"},
    {"max_tok", OPT_U32, AT(max_tok), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "at most; 0 = no limit"},
    {"dense_until", OPT_U32, AT(dense_until), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "tiles before this position are dense"},
    {"dense_last", OPT_U32, AT(dense_last), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "the prompt's last positions are dense"},
    {"skip", OPT_F32, AT(skip), 0, 100, 0, CRIT_ATTN_CRITI, "leave out blocks so many nats below the best score; 0 = off"},
    {"budget_tok", OPT_U32, AT(budget_tok), 1, 1 << 30, 0, CRIT_ATTN_PAPER, "key tokens kept a segment"},
    {"seg_len", OPT_U32, AT(seg_len), 128, 4096, 128, CRIT_ATTN_PAPER, "queries a segment, multiple of 128"},
    {"threshold", OPT_U32, AT(threshold), 0, 1 << 30, 0, CRIT_ATTN_PAPER, "segments before this position are dense"},
    {"alpha", OPT_F32, AT(alpha), 0, 1, 0, CRIT_ATTN_PAPER, "share of the previous layer's score"},
    {"layer_skip", OPT_U32, AT(layer_skip), 0, 1 << 20, 0, CRIT_ATTN_PAPER, "first layers that are dense"},
    {.key = NULL}};
#undef AT

enum { R = CMD_RUN, B = CMD_BENCH, T = CMD_TOKENIZE, I = CMD_INFO };
#define N(...) {__VA_ARGS__}
#define ROW(cmds, names, arg, kind, f, lo, hi, list, fields, help) \
    {cmds, names, arg, help, kind, offsetof(options, f), lo, hi, list, fields}
#define TEXT(cmds, names, arg, kind, f, help) {cmds, names, arg, help, kind, offsetof(options, f), 0, 0, NULL, NULL}
#define NUM(cmds, names, arg, kind, f, lo, hi, help) \
    {cmds, names, arg, help, kind, offsetof(options, f), lo, hi, NULL, NULL}
#define PICK(cmds, names, arg, kind, f, list, help) \
    {cmds, names, arg, help, kind, offsetof(options, f), 0, 0, list, NULL}
#define FLAG(cmds, names, f, help) {cmds, names, NULL, help, OPT_FLAG, offsetof(options, f), 0, 0, NULL, NULL}
const opt option_table[] = {
    TEXT(R | T | I, N("-m", "--model"), "FILE", OPT_STR, model, "the model, a GGUF file (required)"),
    TEXT(B, N("-m", "--model"), "FILE", OPT_STR, model,
         "the model, a GGUF file (required, but for --peak, --kernels and --shape)"),
    TEXT(R | T, N("-f", "--file"), "FILE", OPT_STRS, files, "text to read, - is stdin; may repeat, joined in order"),
    TEXT(B, N("-f", "--file"), "FILE", OPT_STRS, files,
         "text to read, - is stdin; may repeat\n(default: critiprefill's own documents and sources)"),
    TEXT(R | T, N("-p", "--prompt"), "TEXT", OPT_STR, prompt, "text behind the files, on a line of its own"),
    NUM(R, N("-n", "--predict", "--n-predict"), "N", OPT_I32, n_predict, -1, 1 << 30,
        "tokens to generate; -1 = until the end or a full context (default 128)"),
    NUM(B, N("-n", "--predict", "--n-predict"), "N", OPT_I32, n_predict, 0, 1 << 20,
        "tokens to decode behind each prompt; 0 = none (default 32; with --vs: 0)"),
    NUM(R, N("-c", "--ctx-size"), "N", OPT_U32, n_ctx, 0, 1 << 30,
        "context in tokens; 0 = what prompt and -n need (default)"),
    NUM(I, N("-c", "--ctx-size"), "N", OPT_U32, n_ctx, 0, 1 << 30,
        "context the memory is told for; 0 = the model's (default)"),
    NUM(B, N("-c", "--ctx-size"), "N,...", OPT_U32S, ctx, 1, 1 << 30,
        "prompt lengths in tokens\n(default 2048,4096,8192; --shape: 32768; --vs: 512,4096)"),
    NUM(R | B | I, N("-t", "--threads"), "N", OPT_U32, n_threads, 0, 1024, "threads; 0 = all cores (default)"),
    NUM(R | B | I, N("-ub", "--ubatch-size"), "N", OPT_U32, n_batch, 0, 65536,
        "tokens read at a time; 0 = by CPU and threads (default)"),
    FLAG(R | B, N("--pin"), pin, "keep each thread on one core"),
    PICK(R, N("--attn"), "MODE", OPT_CHOICES, modes, attn_names,
         "attention of the prompt: criti (default), dense, or paper"),
    PICK(I, N("--attn"), "MODE", OPT_CHOICES, modes, attn_names, "criti (default), dense, or paper"),
    PICK(B, N("--attn"), "MODE,...", OPT_CHOICES, modes, attn_names, "of dense, criti, paper (default dense,criti)"),
    ROW(R | B | I, N("--attn-opt"), "K=V,...", OPT_FIELDS, attn, 0, 0, NULL, attn_fields,
        "knobs of the attention, listed below; may repeat"),
    FLAG(R, N("--chat"), chat, "make the text a user's message, in the model's chat template"),
    TEXT(R, N("-sys", "--system", "--system-prompt"), "TEXT", OPT_STR, system, "system message, with --chat"),
    NUM(R, N("--temp", "--temperature"), "X", OPT_F32, sampler.temp, 0, 100, "temperature; 0 = greedy (default)"),
    NUM(R, N("--top-k"), "N", OPT_U32, sampler.top_k, 0, 1 << 30, "keep the N likeliest; 0 = off"),
    NUM(R, N("--top-p"), "X", OPT_F32, sampler.top_p, 0, 1, "keep the likeliest of mass X; 1 = off"),
    NUM(R, N("--min-p"), "X", OPT_F32, sampler.min_p, 0, 1, "keep those above X of the likeliest; 0 = off"),
    NUM(R, N("--repeat-penalty"), "X", OPT_F32, sampler.repeat_penalty, 0.01, 100,
        "divide the score of recent tokens; 1 = off (default)"),
    NUM(R, N("--repeat-last-n"), "N", OPT_U32, sampler.repeat_last_n, 0, 1 << 20, "tokens counted as recent"),
    TEXT(R, N("-s", "--seed"), "N", OPT_U64, sampler.seed, "seed of the sampling (default 0)"),
    PICK(R, N("--truncate"), "HOW", OPT_CHOICE, truncate, truncate_names,
         "middle: drop tokens from the middle of a prompt that is too long;\nno (default): refuse it"),
    FLAG(R, N("--compare"), compare, "do the same again with dense attention, and compare"),
    FLAG(R, N("--json"), json, "print one JSON object instead of the answer"),
    FLAG(I, N("--json"), json, "print one JSON object"),
    FLAG(I, N("--tensors"), tensors, "list every tensor"),
    NUM(B, N("-r", "--repetitions"), "N", OPT_U32, n_rep, 1, 1000,
        "runs of each, in turn; medians are shown (default 1)"),
    PICK(B, N("-o", "--output"), "FORMAT", OPT_CHOICE, format, format_names, "md (default), csv or json"),
    TEXT(B, N("--plot"), "FILE.svg", OPT_STR, plot,
         "draw tokens per second against the prompt's length;\nwith --kernels the roofline"),
    FLAG(B, N("--peak"), peak, "instead: what this machine can do at most, one core and all"),
    FLAG(B, N("--kernels"), kernels, "instead: every kernel of the level on one core, as shares of the peaks"),
    TEXT(B, N("--shape"), "NAME,...", OPT_STR, shapes,
         "instead: attention and one layer at the shape of a model, without the model;\n'list' names them"),
    TEXT(B, N("--type"), "TYPE", OPT_STR, type,
         "--shape: tensor type of the weights (default: what its Q4_K_M file has most of)"),
    NUM(B, N("--density"), "X", OPT_F32, density, 0, 1,
        "--shape: share of (query, key) pairs criti plans;\n0 = as measured on a small model, by length (default)"),
    TEXT(B, N("--vs"), "DIR", OPT_STR, vs, "instead: in turn with llama-bench of DIR or DIR/bin, and the ratios"),
    FLAG(B, N("--tune"), tune, "instead: the best chunk length, and constants of the cost model (-m or --shape)"),
    FLAG(B, N("--quick"), quick, "--peak, --kernels, --shape, --tune: single short readings, for a try"),
    FLAG(T, N("--ids"), ids, "ids only, on one line"),
    FLAG(T, N("--bos"), bos, "add the tokens the model wants at the ends"),
    FLAG(T, N("--no-bos"), no_bos, "do not (default)"),
    FLAG(T, N("--parse-special"), parse_special, "text such as <|im_end|> is the special token"),
    FLAG(T, N("--no-parse-special"), plain_special, "it is plain text (default)"),
    PICK(R | B | I, N("--cpu"), "LEVEL", OPT_CHOICE, cpu, cpu_names,
         "kernels: auto (default), c, avx2, avx512 or amx"),
    FLAG(R | B, N("--force"), force, "go on when memory looks too small"),
    FLAG(R | B, N("--no-progress"), no_progress, "no progress bar and no summary on stderr"),
    {.cmds = 0}};
#undef ROW
#undef TEXT
#undef NUM
#undef PICK
#undef FLAG
#undef N
/* clang-format on */

void options_init(options *o, unsigned cmd) {
    *o = (options){.n_predict = cmd == CMD_BENCH ? -1 : 128, .n_rep = 1, .truncate = TRUNCATE_NO};
    crit_session_params s;
    crit_session_params_init(&s);
    o->n_batch = s.n_batch;
    crit_attn_params_init(&o->attn);
    crit_sampler_params_init(&o->sampler);
    o->modes = cmd == CMD_BENCH ? (u32_list){{CRIT_ATTN_DENSE, CRIT_ATTN_CRITI}, 2} : (u32_list){{CRIT_ATTN_CRITI}, 1};
}

void options_free(options *o) {
    free(o->files.v);
    o->files = (str_list){0};
}

int options_check(const options *o, unsigned cmd, const char *cmd_name) {
    int n_mode = o->peak + o->kernels + o->tune + (o->shapes && !o->tune) + !!o->vs;
    if (n_mode > 1) return usage(cmd_name, "--peak, --kernels, --shape, --vs and --tune exclude each other");
    if (!o->model && !o->peak && !o->kernels && !o->shapes)
        return usage(cmd_name,
                     o->tune ? "no model and no shape given (-m FILE or --shape NAME)" : "no model given (-m FILE)");
    if (o->tune && o->model && o->shapes) return usage(cmd_name, "--tune takes a model or a shape, not both");
    if ((o->type || o->density > 0) && !o->shapes) return usage(cmd_name, "--type and --density need --shape");
    if (o->plot && n_mode && !o->kernels)
        return usage(cmd_name, "--plot goes with prompts on a model, or with --kernels");
    size_t n_stdin = 0;
    for (size_t i = 0; i < o->files.n; i++) n_stdin += !strcmp(o->files.v[i], "-");
    if (n_stdin > 1) return usage(cmd_name, "stdin can be read only once (-f -)");
    if ((cmd == CMD_RUN || cmd == CMD_TOKENIZE) && !o->files.n && !o->prompt)
        return usage(cmd_name, "nothing to read (-f FILE or -p TEXT)");
    if (cmd != CMD_BENCH && o->modes.n > 1) return usage(cmd_name, "--attn takes one mode here");
    if (o->system && !o->chat) return usage(cmd_name, "--system needs --chat");
    if (o->bos && o->no_bos) return usage(cmd_name, "--bos and --no-bos exclude each other");
    if (o->parse_special && o->plain_special)
        return usage(cmd_name, "--parse-special and --no-parse-special exclude each other");
    if (o->plot) {
        const char *dot = strrchr(o->plot, '.');
        if (dot && !strcmp(dot, ".png")) return usage(cmd_name, "--plot: PNG is not written yet, name a .svg file");
        if (!dot || strcmp(dot, ".svg")) return usage(cmd_name, "--plot: '%s' does not end in .svg", o->plot);
    }
    return EXIT_OK;
}

static void put_field(buf *out, const field *f, const crit_attn_params *p) {
    const char *at = (const char *)p + f->at;
    if (f->kind == OPT_F32)
        buf_fmt(out, "%s=%g", f->key, (double)*(const float *)at);
    else
        buf_fmt(out, "%s=%u", f->key, *(const uint32_t *)at);
}

void options_help_attn(buf *out) {
    crit_attn_params p;
    crit_attn_params_init(&p);
    buf_str(out, "\nKeys of --attn-opt, with their defaults:\n");
    for (const field *f = attn_fields; f->key; f++) {
        buf kv = {0};
        put_field(&kv, f, &p);
        buf_fmt(out, "  %-17s %s: %s\n", kv.oom ? f->key : kv.s, attn_names[f->tag], f->help);
        buf_free(&kv);
    }
}

void options_attn(buf *out, const crit_attn_params *p, crit_attn mode) {
    size_t from = out->n;
    for (const field *f = attn_fields; f->key; f++) {
        if (f->tag != (unsigned)mode) continue;
        if (out->n > from) buf_str(out, " ");
        put_field(out, f, p);
    }
}

crit_session_params session_params(const options *o, crit_attn mode, uint32_t n_ctx) {
    crit_session_params s;
    crit_session_params_init(&s);
    s.n_ctx = n_ctx;
    s.n_batch = o->n_batch;
    s.pin = o->pin;
    s.n_threads = o->n_threads;
    s.force = o->force;
    s.attn = o->attn;
    s.attn.mode = mode;
    return s;
}

uint32_t options_threads(const options *o) {
    cpu_set_t set;
    if (o->n_threads) return o->n_threads;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}
