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

#define AT(f) offsetof(crit_attn_params, f)
const field attn_fields[] = {
    {"theta", OPT_F32, AT(theta), 0, 100, 0, CRIT_ATTN_CRITI, "threshold against an even share; 0 keeps all"},
    {"min_tok", OPT_U32, AT(min_tok), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "at least this many tokens of far blocks a tile"},
    {"max_tok", OPT_U32, AT(max_tok), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "at most; 0 = no limit"},
    {"dense_until", OPT_U32, AT(dense_until), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "tiles before this position are dense"},
    {"dense_last", OPT_U32, AT(dense_last), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "the prompt's last positions are dense"},
    {"budget_tok", OPT_U32, AT(budget_tok), 1, 1 << 30, 0, CRIT_ATTN_PAPER, "key tokens kept a segment"},
    {"seg_len", OPT_U32, AT(seg_len), 128, 4096, 128, CRIT_ATTN_PAPER, "queries a segment, multiple of 128"},
    {"threshold", OPT_U32, AT(threshold), 0, 1 << 30, 0, CRIT_ATTN_PAPER, "segments before this position are dense"},
    {"alpha", OPT_F32, AT(alpha), 0, 1, 0, CRIT_ATTN_PAPER, "share of the previous layer's score"},
    {"layer_skip", OPT_U32, AT(layer_skip), 0, 1 << 20, 0, CRIT_ATTN_PAPER, "first layers that are dense"},
    {.key = NULL}};
#undef AT

#define AT(f) offsetof(options, f)
enum { R = CMD_RUN, B = CMD_BENCH, T = CMD_TOKENIZE, I = CMD_INFO };
const opt option_table[] = {
    {R | B | T | I, {"-m", "--model"}, "FILE", "the model, a GGUF file (required)", OPT_STR, AT(model), 0, 0, 0, 0},
    {R | T, {"-f", "--file"}, "FILE", "text to read, - is stdin; may repeat, joined in order", OPT_STRS, AT(files), 0, 0, 0, 0},
    {B, {"-f", "--file"}, "FILE", "text to read, - is stdin; may repeat\n(default: critiprefill's own documents and sources)",
     OPT_STRS, AT(files), 0, 0, 0, 0},
    {R | T, {"-p", "--prompt"}, "TEXT", "text behind the files, on a line of its own", OPT_STR, AT(prompt), 0, 0, 0, 0},
    {R, {"-n", "--predict", "--n-predict"}, "N", "tokens to generate; -1 = until the end or a full context (default 128)",
     OPT_I32, AT(n_predict), -1, 1 << 30, 0, 0},
    {B, {"-n", "--predict", "--n-predict"}, "N", "tokens to decode behind each prompt; 0 = none (default 32)", OPT_I32,
     AT(n_predict), 0, 1 << 20, 0, 0},
    {R, {"-c", "--ctx-size"}, "N", "context in tokens; 0 = what prompt and -n need (default)", OPT_U32, AT(n_ctx), 0,
     1 << 30, 0, 0},
    {I, {"-c", "--ctx-size"}, "N", "context the memory is told for; 0 = the model's (default)", OPT_U32, AT(n_ctx), 0,
     1 << 30, 0, 0},
    {B, {"-c", "--ctx-size"}, "N,...", "prompt lengths in tokens (default 2048,4096,8192)", OPT_U32S, AT(ctx), 1, 1 << 30, 0, 0},
    {R | B | I, {"-t", "--threads"}, "N", "threads; 0 = all cores (default)", OPT_U32, AT(n_threads), 0, 1024, 0, 0},
    {R | B | I, {"-ub", "--ubatch-size"}, "N", "tokens read at a time (default 512)", OPT_U32, AT(n_batch), 1, 65536, 0, 0},
    {R, {"--attn"}, "MODE", "attention of the prompt: criti (default), dense, or paper", OPT_CHOICES, AT(modes), 0, 0,
     attn_names, 0},
    {I, {"--attn"}, "MODE", "criti (default), dense, or paper", OPT_CHOICES, AT(modes), 0, 0, attn_names, 0},
    {B, {"--attn"}, "MODE,...", "of dense, criti, paper (default dense,criti)", OPT_CHOICES, AT(modes), 0, 0, attn_names, 0},
    {R | B | I, {"--attn-opt"}, "K=V,...", "knobs of the attention, listed below; may repeat", OPT_FIELDS, AT(attn), 0, 0, 0,
     attn_fields},
    {R, {"--chat"}, 0, "make the text a user's message, in the model's chat template", OPT_FLAG, AT(chat), 0, 0, 0, 0},
    {R, {"-sys", "--system", "--system-prompt"}, "TEXT", "system message, with --chat", OPT_STR, AT(system), 0, 0, 0, 0},
    {R, {"--temp", "--temperature"}, "X", "temperature; 0 = greedy (default)", OPT_F32, AT(sampler.temp), 0, 100, 0, 0},
    {R, {"--top-k"}, "N", "keep the N likeliest; 0 = off", OPT_U32, AT(sampler.top_k), 0, 1 << 30, 0, 0},
    {R, {"--top-p"}, "X", "keep the likeliest of mass X; 1 = off", OPT_F32, AT(sampler.top_p), 0, 1, 0, 0},
    {R, {"--min-p"}, "X", "keep those above X of the likeliest; 0 = off", OPT_F32, AT(sampler.min_p), 0, 1, 0, 0},
    {R, {"--repeat-penalty"}, "X", "divide the score of recent tokens; 1 = off (default)", OPT_F32,
     AT(sampler.repeat_penalty), 0.01, 100, 0, 0},
    {R, {"--repeat-last-n"}, "N", "tokens counted as recent", OPT_U32, AT(sampler.repeat_last_n), 0, 1 << 20, 0, 0},
    {R, {"-s", "--seed"}, "N", "seed of the sampling (default 0)", OPT_U64, AT(sampler.seed), 0, 0, 0, 0},
    {R, {"--truncate"}, "HOW", "middle: drop tokens from the middle of a prompt that is too long;\nno (default): refuse it", OPT_CHOICE, AT(truncate), 0, 0,
     truncate_names, 0},
    {R, {"--compare"}, 0, "do the same again with dense attention, and compare", OPT_FLAG, AT(compare), 0, 0, 0, 0},
    {R, {"--json"}, 0, "print one JSON object instead of the answer", OPT_FLAG, AT(json), 0, 0, 0, 0},
    {I, {"--json"}, 0, "print one JSON object", OPT_FLAG, AT(json), 0, 0, 0, 0},
    {I, {"--tensors"}, 0, "list every tensor", OPT_FLAG, AT(tensors), 0, 0, 0, 0},
    {B, {"-r", "--repetitions"}, "N", "runs of each, in turn; medians are shown (default 1)", OPT_U32, AT(n_rep), 1, 1000, 0, 0},
    {B, {"-o", "--output"}, "FORMAT", "md (default), csv or json", OPT_CHOICE, AT(format), 0, 0, format_names, 0},
    {B, {"--plot"}, "FILE.svg", "draw tokens per second against the prompt's length", OPT_STR, AT(plot), 0, 0, 0, 0},
    {T, {"--ids"}, 0, "ids only, on one line", OPT_FLAG, AT(ids), 0, 0, 0, 0},
    {T, {"--bos"}, 0, "add the tokens the model wants at the ends", OPT_FLAG, AT(bos), 0, 0, 0, 0},
    {T, {"--no-bos"}, 0, "do not (default)", OPT_FLAG, AT(no_bos), 0, 0, 0, 0},
    {T, {"--parse-special"}, 0, "text such as <|im_end|> is the special token", OPT_FLAG, AT(parse_special), 0, 0, 0, 0},
    {T, {"--no-parse-special"}, 0, "it is plain text (default)", OPT_FLAG, AT(plain_special), 0, 0, 0, 0},
    {R | B | I, {"--cpu"}, "LEVEL", "kernels: auto (default), c, avx2, avx512 or amx", OPT_CHOICE, AT(cpu), 0, 0, cpu_names, 0},
    {R | B, {"--force"}, 0, "go on when memory looks too small", OPT_FLAG, AT(force), 0, 0, 0, 0},
    {R | B, {"--no-progress"}, 0, "no progress bar and no summary on stderr", OPT_FLAG, AT(no_progress), 0, 0, 0, 0},
    {.cmds = 0}};
#undef AT

void options_init(options *o, unsigned cmd) {
    *o = (options){.n_predict = cmd == CMD_BENCH ? 32 : 128, .n_rep = 1, .truncate = TRUNCATE_NO};
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
    if (!o->model) return usage(cmd_name, "no model given (-m FILE)");
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
    if (f->kind == OPT_F32) buf_fmt(out, "%s=%g", f->key, (double)*(const float *)at);
    else buf_fmt(out, "%s=%u", f->key, *(const uint32_t *)at);
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
