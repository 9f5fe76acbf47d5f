/* SPDX-License-Identifier: MIT */
/* The option table.  Names are llama.cpp's wherever it has one.  Defaults come from the library where it has them. */
#include "options.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "critiprefill/policy.h"
#include "term.h"

const char *const attn_names[] = {"criti", "dense", "paper", NULL}; /* order of crit_attn */
const char *const cpu_names[] = {"auto", "c", "avx2", "avx2i16", "avx512", "avx512bf16", "amx", NULL};
const char *const quality_names[] = {"balanced", "fast", "careful", NULL}; /* order of crit_quality */
static const char *const question_names[] = {"last", "first", "both", "middle", NULL};
static const char *const format_names[] = {"md", "csv", "json", NULL};
static const char *const truncate_names[] = {"no", "middle", NULL};

/* Tables: a row a line or two. */
/* clang-format off */
#define AT(f) offsetof(crit_attn_params, f)
const field attn_fields[] = {
    {"theta", OPT_F32, AT(theta), 0, 100, 0, CRIT_ATTN_CRITI, "threshold against an even share; 0 keeps all"},
    {"min_tok", OPT_U32, AT(min_tok), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "at least this many tokens of far blocks a tile"},
    {"max_tok", OPT_U32, AT(max_tok), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "at most, but for the prompt's end; 0 = no limit"},
    {"dense_until", OPT_U32, AT(dense_until), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "tiles before this position are dense"},
    {"last_tok", OPT_U32, AT(last_tok), 0, 1 << 30, 0, CRIT_ATTN_CRITI, "so many positions at the prompt's end are read with last_theta"},
    {"last_theta", OPT_F32, AT(last_theta), 0, 100, 0, CRIT_ATTN_CRITI, "theta there when that is less; 0 = they are dense"},
    {"skip", OPT_F32, AT(skip), 0, 100, 0, CRIT_ATTN_CRITI, "leave out blocks so many nats below the best score; 0 = off"},
    {"power", OPT_F32, AT(power), 0, 4, 0, CRIT_ATTN_CRITI, "weigh blocks by what such blocks weighed, mean of this power; 0 = by share"},
    {"p_mass", OPT_F32, AT(p_mass), 0, 1, 0, CRIT_ATTN_CRITI, "share of the weight, by the probes so far, that each head must keep"},
    {"lookup", OPT_F32, AT(lookup), 0, 100, 0, CRIT_ATTN_CRITI, "keep blocks more often looked up than this / blocks; 0 = off"},
    {"recall", OPT_F32, AT(recall), 0, 1, 0, CRIT_ATTN_CRITI, "share of the look-ups met so far that a head's threshold must keep"},
    {"probe", OPT_U32, AT(probe), 16, 4096, 0, CRIT_ATTN_CRITI, "one exact query per so many positions, rarer from 16,384"},
    {"oracle", OPT_U32, AT(oracle), 0, 1, 0, CRIT_ATTN_CRITI, "1: choose blocks by exact weights, to see how good lists can be; slow"},
    {"budget_tok", OPT_U32, AT(budget_tok), 1, 1 << 30, 0, CRIT_ATTN_PAPER, "key tokens kept a segment"},
    {"seg_len", OPT_U32, AT(seg_len), 128, 4096, 128, CRIT_ATTN_PAPER, "queries a segment, multiple of 128"},
    {"threshold", OPT_U32, AT(threshold), 0, 1 << 30, 0, CRIT_ATTN_PAPER, "segments before this position are dense"},
    {"alpha", OPT_F32, AT(alpha), 0, 1, 0, CRIT_ATTN_PAPER, "share of the previous layer's score"},
    {"layer_skip", OPT_U32, AT(layer_skip), 0, 1 << 20, 0, CRIT_ATTN_PAPER, "first layers that are dense"},
    {.key = NULL}};
#undef AT

enum {
    R = CMD_RUN,
    B = CMD_BENCH,
    T = CMD_TOKENIZE,
    I = CMD_INFO,
    E = CMD_EVAL,
    X = CMD_INSPECT,
    P = CMD_POLICIES,
    C = CMD_CLUSTER,
    TASKS = CMD_TASKS
};
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
    TEXT(CMD_LONGBENCH, N(""), "FILE.jsonl", OPT_STR, config, "samples, one JSON object a line (required)"),
    TEXT(CMD_SUITE, N(""), "CONFIG.json", OPT_STR, config, "policies and tasks, every one with every one (required)"),
    TEXT(R | T | I | (E & ~CMD_SUITE) | X | C, N("-m", "--model"), "FILE", OPT_STR, model,
         "the model, a GGUF file (required)"),
    TEXT(CMD_SUITE, N("-m", "--model"), "FILE", OPT_STR, model, "the model, a GGUF file, instead of the configuration's"),
    TEXT(B, N("-m", "--model"), "FILE", OPT_STR, model,
         "the model, a GGUF file (required, but for --peak, --kernels and --shape)"),
    TEXT(R | T | X | C, N("-f", "--file"), "FILE", OPT_STRS, files, "text to read, - is stdin; may repeat, joined in order"),
    TEXT(B | CMD_KL | CMD_PPL | CMD_OPERATOR | CMD_FRONTIER, N("-f", "--file"), "FILE", OPT_STRS, files,
         "text to read, - is stdin; may repeat\n(default: critiprefill's own documents and sources)"),
    TEXT(CMD_LONGBENCH, N("-f", "--file"), "FILE", OPT_STRS, files, "likewise; may repeat"),
    TEXT(R | T | X | C, N("-p", "--prompt"), "TEXT", OPT_STR, prompt, "text behind the files, on a line of its own"),
    NUM(R, N("-n", "--predict", "--n-predict"), "N", OPT_I32, n_predict, -1, 1 << 30,
        "tokens to generate; -1 = until the end or a full context (default 128)"),
    NUM(B, N("-n", "--predict", "--n-predict"), "N", OPT_I32, n_predict, 0, 1 << 20,
        "tokens to decode behind each prompt; 0 = none, not with --decode and --batch\n(default 32; with --vs: 0)"),
    NUM(R, N("-c", "--ctx-size"), "N", OPT_U32, n_ctx, 0, 1 << 30,
        "context in tokens; 0 = what prompt and -n need (default)"),
    NUM(C, N("-c", "--ctx-size"), "N", OPT_U32, n_ctx, 0, 1 << 30,
        "tokens the text may have; 0 = the model's context (default)"),
    NUM(I, N("-c", "--ctx-size"), "N", OPT_U32, n_ctx, 0, 1 << 30,
        "context the memory is told for; 0 = the model's (default)"),
    NUM(B, N("-c", "--ctx-size"), "N,...", OPT_U32S, ctx, 1, 1 << 30,
        "prompt lengths in tokens (default 2048,4096,8192; --shape: 32768;\n--vs: 512,4096; --decode: 4096,8192; --batch: 4096, with --shape 8192)"),
    NUM(CMD_KL | CMD_FRONTIER, N("-c", "--ctx-size"), "N,...", OPT_U32S, ctx, 1, 1 << 30,
        "prompt lengths in tokens (default 4096)"),
    NUM(CMD_PPL, N("-c", "--ctx-size"), "N", OPT_U32, n_ctx, 3, 1 << 30, "tokens a window (default 512)"),
    NUM(CMD_OPERATOR | X, N("-c", "--ctx-size"), "N", OPT_U32, n_ctx, 0, 1 << 30,
        "tokens of the text to read; 0 = all that fit (default)"),
    NUM(TASKS, N("-c", "--ctx-size"), "N,...", OPT_U32S, ctx, 64, 1 << 30,
        "lengths in tokens, answer included (default 4096)"),
    NUM(R | B | I | E | X | C, N("-t", "--threads"), "N", OPT_U32, n_threads, 0, 1024, "threads; 0 = all cores (default)"),
    NUM(R | B | I | E | X | C, N("-ub", "--ubatch-size"), "N", OPT_U32, n_batch, 0, 65536,
        "tokens read at a time; 0 = by CPU and threads (default)"),
    FLAG(R | B | E | X | C, N("--pin"), pin, "keep each thread on one core"),
    TEXT(R | C, N("--attn"), "MODE", OPT_STR, attn_list,
         "attention of the prompt: criti (default), dense, paper,\nor NAME[:K=V,...] of 'critiprefill policies'"),
    TEXT(I, N("--attn"), "MODE", OPT_STR, attn_list,
         "criti (default), dense, paper, or NAME[:K=V,...] of 'critiprefill policies'"),
    TEXT(B, N("--attn"), "MODE,...", OPT_STR, attn_list,
         "of dense, criti, paper, fast, balanced, careful (criti with that preset),\n"
         "policies of the prompt (default dense,criti)"),
    TEXT(CMD_KL | CMD_FRONTIER, N("--attn"), "NAME,...", OPT_STR, variants,
         "attentions held against dense: criti, paper, fast, balanced, careful, policies of\nthe prompt; with knobs: criti:theta=0.4:skip=8 (default criti,paper)"),
    TEXT(TASKS, N("--attn"), "NAME,...", OPT_STR, variants,
         "attentions: dense, criti, paper, fast, balanced, careful, policies of the prompt;\nwith knobs: criti:theta=0.4:skip=8 (default dense,criti,paper)"),
    TEXT(CMD_PPL, N("--attn"), "NAME", OPT_STR, variants,
         "attention: dense (default), criti, paper, fast, balanced, careful,\nor a policy of the prompt"),
    TEXT(CMD_OPERATOR | X, N("--attn"), "NAME", OPT_STR, variants,
         "attention: criti (default), dense, paper, fast, balanced, careful,\nor a policy of the prompt"),
    PICK(R | B | I | E | X | C, N("--quality"), "PRESET", OPT_CHOICE, quality, quality_names,
         "criti's preset: fast, balanced (default) or careful"),
    NUM(R | B | I | E | X | C, N("-p-mass", "--p-mass"), "P", OPT_F32, attn.p_mass, 0, 1,
        "criti, for experts: what each head must keep of its attention weight,\nby the exact queries so far; 0 = the preset's"),
    ROW(R | B | I | E | X | C, N("--attn-opt"), "K=V,...", OPT_FIELDS, attn, 0, 0, NULL, attn_fields,
        "knobs of the attention, listed below; may repeat"),
    TEXT(R, N("--decode"), "POLICY", OPT_STR, decode,
         "how the answer's tokens attend: NAME[:K=V,...] of 'critiprefill policies'\n(default full)"),
    TEXT(C, N("--decode"), "POLICY", OPT_STR, decode,
         "what to prepare for: NAME[:K=V,...] of 'critiprefill policies'\n(default squeezed)"),
    TEXT(R, N("--prefix"), "FILE.cpkv", OPT_STR, prefix,
         "a text that 'critiprefill cluster' has read: the prompt goes on behind it"),
    TEXT(C, N("-o", "--output"), "FILE.cpkv", OPT_STR, output, "the snapshot (required)"),
    NUM(C, N("--zstd"), "LEVEL", OPT_U32, zstd, 0, 19, "compress it, 1 = fast to 19; 0 = not (default)"),
    TEXT(B, N("--decode"), "POLICY,...", OPT_STR, decode,
         "instead: decoding behind each prompt with these policies in turn,\nagainst full attention"),
    TEXT(R, N("--kv"), "POLICY", OPT_STR, kv,
         "how the prompt's keys and values are kept behind it: likewise (default full)"),
    TEXT(B, N("--kv"), "POLICY", OPT_STR, kv,
         "--decode: likewise how they are kept, held against full attention over full keys"),
    TEXT(I, N("--decode"), "POLICY", OPT_STR, decode,
         "memory with this way of decoding: NAME[:K=V,...] of 'critiprefill policies'\n(default full)"),
    TEXT(I, N("--kv"), "POLICY", OPT_STR, kv, "memory with keys and values kept so: likewise (default full)"),
    NUM(R, N("--n-samples"), "N", OPT_U32, n_answer, 1, 1024,
        "answers to the prompt, sampled side by side with seeds -s, -s + 1, ...\n(needs --temp); the prompt is kept and read once for all of them"),
    NUM(B, N("--batch"), "N,...", OPT_U32S, batch, 1, 1024,
        "instead: so many sequences behind one prompt, read once a step for all of them,\nand for each (-m, or --shape for one layer's attention)"),
    FLAG(R, N("--chat"), chat, "make the text a user's message, in the model's chat template"),
    FLAG(C, N("--chat"), chat, "make the text the beginning of a user's message, which run --chat ends"),
    TEXT(R | C, N("-sys", "--system", "--system-prompt"), "TEXT", OPT_STR, system, "system message, with --chat"),
    NUM(R, N("--temp", "--temperature"), "X", OPT_F32, sampler.temp, 0, 100, "temperature; 0 = greedy (default)"),
    NUM(R, N("--top-k"), "N", OPT_U32, sampler.top_k, 0, 1 << 30, "keep the N likeliest; 0 = off (default 40)"),
    NUM(R, N("--top-p"), "X", OPT_F32, sampler.top_p, 0, 1, "keep the likeliest of mass X; 1 = off (default 0.95)"),
    NUM(R, N("--min-p"), "X", OPT_F32, sampler.min_p, 0, 1, "keep those above X of the likeliest; 0 = off (default 0.05)"),
    NUM(R, N("--repeat-penalty"), "X", OPT_F32, sampler.repeat_penalty, 0.01, 100,
        "divide the score of recent tokens; 1 = off (default)"),
    NUM(R, N("--repeat-last-n"), "N", OPT_U32, sampler.repeat_last_n, 0, 1 << 20, "tokens counted as recent (default 64)"),
    TEXT(R, N("-s", "--seed"), "N", OPT_U64, sampler.seed, "seed of the sampling (default 0)"),
    PICK(R, N("--truncate"), "HOW", OPT_CHOICE, truncate, truncate_names,
         "middle: drop tokens from the middle of a prompt that is too long;\nno (default): refuse it"),
    NUM(R, N("--min-recall"), "R", OPT_F32, min_recall, 0, 1,
        "refuse to answer when attn.peak_recall_measured is below; 0 = off (default)"),
    FLAG(R, N("--compare"), compare, "do the same again with dense attention, and compare"),
    FLAG(R, N("--json"), json, "print one JSON object instead of the answer"),
    FLAG(E, N("--json"), json, "print one JSON object a line instead of tables"),
    FLAG(I | C, N("--json"), json, "print one JSON object"),
    FLAG(P, N("--json"), json, "print one JSON object a policy"),
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
    TEXT(E & ~CMD_SUITE, N("--out"), "DIR", OPT_STR, out_dir, "keep records there, and go on from those that are"),
    TEXT(E & ~CMD_SUITE, N("--html"), "FILE.html", OPT_STR, html, "write tables and pictures into one file"),
    TEXT(CMD_SUITE, N("--out"), "DIR", OPT_STR, out_dir,
         "keep everything there, and go on from what is there\n(default: the configuration's name without .json)"),
    TEXT(CMD_SUITE, N("--html"), "FILE.html", OPT_STR, html, "the report (default DIR/report.html)"),
    NUM(CMD_KL | CMD_FRONTIER, N("--last"), "N", OPT_U32, n_last, 1, 1 << 20,
        "positions at the end that are told apart (default 256)"),
    TEXT(CMD_KL, N("--save-all-logits"), "FILE", OPT_STR, save_logits,
         "write dense log-probabilities in llama-perplexity's format, in its windows of -c tokens"),
    TEXT(CMD_KL, N("--kl-divergence-base"), "FILE", OPT_STR, base_logits,
         "hold the attentions against such a file, from any engine, instead of our dense"),
    NUM(CMD_PPL, N("--ppl-stride"), "N", OPT_U32, ppl_stride, 0, 1 << 30,
        "tokens between windows; 0 = windows side by side (default)"),
    NUM(CMD_KL | CMD_PPL, N("--chunks"), "N", OPT_U32, n_chunk, 0, 1 << 30,
        "windows at most (kl: with a file of logits); 0 = all (default)"),
    NUM(TASKS, N("--samples"), "N", OPT_U32, n_sample, 1, 100000, "samples a task and length (default 5)"),
    NUM(CMD_RULER | CMD_KV | CMD_LINES, N("--questions"), "N", OPT_U32, n_question, 1, 64,
        "samples that share a text and its reading, with a\nquestion each: in niah_multikey_2 and _3, kv, lines\n(default 1)"),
    NUM(CMD_NEEDLE | CMD_PASSKEY | CMD_COPY, N("--depths"), "PERCENT,...", OPT_U32S, depths, 0, 100,
        "where the needle lies (default 0,10,20,...,100; passkey, copy: anywhere)"),
    NUM(CMD_PASSKEY, N("--digits"), "N", OPT_U32, n_digit, 1, 256, "of the passkey (default 7)"),
    PICK(TASKS, N("--question"), "WHERE", OPT_CHOICE, question, question_names,
         "last (default), first: before the text, both;\nmiddle: only lookup, further text behind the questions"),
    TEXT(CMD_RULER, N("--tasks"), "LIST", OPT_STR, tasks,
         "of niah_single_1 ... niah_multiquery, vt, cwe, fwe, qa_1, qa_2; all\n"
         "(default: the six that need no outside text)"),
    TEXT(CMD_RULER, N("--essay"), "FILE", OPT_STR, essay, "prose for the tasks that hide needles in essays"),
    TEXT(CMD_LOOKUP, N("--essay"), "FILE", OPT_STR, essay, "prose to read between the keys, instead of prose and code made up"),
    TEXT(CMD_RULER, N("--squad"), "FILE", OPT_STR, squad, "SQuAD's development set, JSON, for qa_1"),
    TEXT(CMD_RULER, N("--hotpot"), "FILE", OPT_STR, hotpot, "HotpotQA's distractor development set, JSON, for qa_2"),
    FLAG(TASKS, N("--chat"), chat, "put samples into the model's chat template"),
    NUM(CMD_OPERATOR | X, N("--layer", "--layers"), "N,...", OPT_U32S, layers, 0, 4096, "layers (default: all)"),
    NUM(X, N("--head", "--heads"), "N,...", OPT_U32S, heads, 0, 4096, "query heads (default: all)"),
    NUM(CMD_OPERATOR, N("--probe"), "N", OPT_U32, n_probe, 1, 32, "exact queries a tile of 32 (default all)"),
    NUM(X, N("--probe"), "N", OPT_U32, n_probe, 1, 32, "exact queries a tile of 32 (default 2)"),
    FLAG(CMD_OPERATOR, N("--tiles"), tiles, "in records: the figures of every tile"),
    TEXT(CMD_OPERATOR, N("--dump"), "DIR", OPT_STR, dump, "write Q, K, V, results and plans as .npy"),
    TEXT(CMD_FRONTIER, N("--sweep"), "K=V,...;K=V,...", OPT_STR, sweep,
         "values of criti's knobs, every combination (default theta=0.1,0.2,0.4,0.7,1.1,1.6)"),
    TEXT(CMD_FRONTIER, N("--plot"), "FILE.svg", OPT_STR, plot, "draw quality against density and against time"),
    TEXT(CMD_FRONTIER, N("--csv"), "FILE.csv", OPT_STR, csv, "write the table"),
    TEXT(X, N("-o", "--output"), "FILE", OPT_STR, output,
         "picture: .png of one --layer and --head, or without both of the density\n"
         "of all; or .html of everything (required)"),
    TEXT(E, N("-s", "--seed"), "N", OPT_U64, sampler.seed, "seed of samples and intervals (default 42)"),
    FLAG(T, N("--ids"), ids, "ids only, on one line"),
    FLAG(T, N("--bos"), bos, "add the tokens the model wants at the ends"),
    FLAG(T, N("--no-bos"), no_bos, "do not (default)"),
    FLAG(T, N("--parse-special"), parse_special, "text such as <|im_end|> is the special token"),
    FLAG(T, N("--no-parse-special"), plain_special, "it is plain text (default)"),
    PICK(R | B | I | E | X | C, N("--cpu"), "LEVEL", OPT_CHOICE, cpu, cpu_names,
         "kernels: auto (default), c, avx2, avx2i16, avx512, avx512bf16 or amx"),
    FLAG(R | C, N("--force"), force, "go on when memory looks too small"),
    FLAG(B | E | X, N("--force"), force,
         "go on when memory looks too small, or beyond the length\nthe model was trained for"),
    FLAG(R | B | E | X | C, N("--no-progress"), no_progress, "no progress bar and no summary on stderr"),
    {.cmds = 0}};
#undef ROW
#undef TEXT
#undef NUM
#undef PICK
#undef FLAG
#undef N
/* clang-format on */

void options_init(options *o, unsigned cmd) {
    *o = (options){.n_predict = cmd == CMD_BENCH ? -1 : 128, .n_rep = 1, .n_answer = 1, .truncate = TRUNCATE_NO};
    crit_session_params s;
    crit_session_params_init(&s);
    o->n_batch = s.n_batch;
    crit_attn_params_init(&o->attn);
    crit_sampler_params_init(&o->sampler);
    o->kind = cmd;
    if (cmd == CMD_CLUSTER) {
        o->n_predict = 0;
        o->decode = "squeezed"; /* what makes the clusters that the command is named after */
    }
    if (cmd & CMD_EVAL) o->sampler.seed = 42;
    o->n_last = 256;
    o->n_sample = 5;
    o->n_question = 1;
    o->n_digit = 7;
    o->n_probe = cmd == CMD_OPERATOR ? 32 : 2;
    if (cmd == CMD_PPL) o->n_ctx = 512;
    o->modes = cmd == CMD_BENCH ? (u32_list){{CRIT_ATTN_DENSE, CRIT_ATTN_CRITI}, 2} : (u32_list){{CRIT_ATTN_CRITI}, 1};
}

void options_free(options *o) {
    free(o->files.v);
    o->files = (str_list){0};
}

size_t policy_item(const char *list) {
    size_t n = strcspn(list, ",");
    while (list[n] && list[n + 1 + strcspn(list + n + 1, "=:,")] == '=') n += 1 + strcspn(list + n + 1, ",");
    return n;
}

int find_name(const char *const *list, const char *s, size_t n) {
    for (int i = 0; list[i]; i++)
        if (strlen(list[i]) == n && !memcmp(list[i], s, n)) return i;
    return -1;
}

static int add_mode(options *o, const char *cmd_name, const char *s, size_t n) {
    u32_list *l = &o->modes;
    const int named = find_name(attn_names, s, n), preset = o->kind == CMD_BENCH ? find_name(quality_names, s, n) : -1;
    uint32_t mode = (uint32_t)named;
    if (preset >= 0)
        mode = MODE_PRESET + (uint32_t)preset;
    else if (named < 0) {
        crit_error err = {0};
        size_t i = 0, name = strcspn(s, ":");
        if (name < n && find_name(attn_names, s, name) >= 0)
            return usage(cmd_name, "--attn: knobs of %.*s are given with --attn-opt here", (int)name, s);
        while (i < MAX_MODE && o->prefill[i][0]) i++;
        if (i == MAX_MODE || n >= sizeof o->prefill[i]) return usage(cmd_name, "--attn: a text is too long");
        memcpy(o->prefill[i], s, n);
        o->prefill[i][n] = 0;
        if (n == 0 || crit_policy_check(CRIT_POLICY_PREFILL, o->prefill[i], &err))
            return usage(cmd_name, "%s%s", n ? err.message : "--attn: an empty name",
                         !n || strchr(o->prefill[i], ':') ? ""
                         : o->kind == CMD_BENCH           ? ", criti, dense, paper, fast, balanced, careful"
                                                          : ", criti, dense, paper");
        mode = MODE_POLICY + (uint32_t)i;
    }
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i] == mode) return usage(cmd_name, "--attn: '%.*s' is named twice", (int)n, s);
    if (l->n == MAX_MODE) return usage(cmd_name, "--attn: more than %d values", MAX_MODE);
    l->v[l->n++] = mode;
    return EXIT_OK;
}

int options_settle(options *o, unsigned cmd, const char *cmd_name) {
    if (cmd == CMD_LONGBENCH && o->config) o->files.v[o->files.n++] = o->config; /* room for every argument is there */
    if (!o->attn_list) return EXIT_OK;
    int rc = EXIT_OK;
    o->modes.n = 0;
    for (const char *s = o->attn_list; !rc; s++) {
        size_t n = policy_item(s);
        rc = add_mode(o, cmd_name, s, n);
        s += n;
        if (!*s) break;
    }
    if (!rc && cmd != CMD_BENCH && o->modes.n > 1) return usage(cmd_name, "--attn takes one mode here");
    return rc;
}

int options_check(const options *o, unsigned cmd, const char *cmd_name) {
    if (cmd == CMD_POLICIES) return EXIT_OK;
    int n_mode = o->peak + o->kernels + o->tune + (o->shapes && !o->tune && !o->batch.n) + !!o->vs + !!o->batch.n +
                 (cmd == CMD_BENCH && !!o->decode);
    if (n_mode > 1)
        return usage(cmd_name, "--peak, --kernels, --shape, --vs, --decode, --batch and --tune exclude each other");
    if (o->batch.n && o->model && o->shapes) return usage(cmd_name, "--batch takes a model or a shape, not both");
    if (cmd == CMD_SUITE && !o->config) return usage(cmd_name, "no configuration given (CONFIG.json)");
    if (!o->model && !o->peak && !o->kernels && !o->shapes && cmd != CMD_SUITE)
        return usage(cmd_name,
                     o->tune ? "no model and no shape given (-m FILE or --shape NAME)" : "no model given (-m FILE)");
    if (o->tune && o->model && o->shapes) return usage(cmd_name, "--tune takes a model or a shape, not both");
    if ((o->type || o->density > 0) && !o->shapes) return usage(cmd_name, "--type and --density need --shape");
    if (o->plot && n_mode && !o->kernels)
        return usage(cmd_name, "--plot goes with prompts on a model, or with --kernels");
    size_t n_stdin = 0;
    for (size_t i = 0; i < o->files.n; i++) n_stdin += !strcmp(o->files.v[i], "-");
    if (n_stdin > 1) return usage(cmd_name, "stdin can be read only once (-f -)");
    if ((cmd & (CMD_RUN | CMD_TOKENIZE | CMD_CLUSTER)) && !o->files.n && !o->prompt && !o->prefix)
        return usage(cmd_name, "nothing to read (-f FILE or -p TEXT)");
    if (cmd != CMD_BENCH && o->modes.n > 1) return usage(cmd_name, "--attn takes one mode here");
    if (o->n_answer > 1 && o->sampler.temp <= 0)
        return usage(cmd_name, "--n-samples: answers differ only with a temperature (--temp)");
    if (o->n_answer > 1 && (o->compare || o->decode))
        return usage(cmd_name, "--n-samples goes with neither --compare nor --decode");
    crit_error err = {0};
    if (o->decode && !*o->decode) return usage(cmd_name, "--decode: an empty name");
    if (o->kv && !*o->kv) return usage(cmd_name, "--kv: an empty name");
    const bool one_decode = o->decode && (cmd & (CMD_RUN | CMD_CLUSTER | CMD_INFO)); /* bench takes several */
    if (one_decode && crit_policy_check(CRIT_POLICY_DECODE, o->decode, &err))
        return usage(cmd_name, "%s", err.message);
    if (cmd == CMD_BENCH && o->n_predict == 0 && (o->decode || (o->batch.n && o->model)))
        return usage(cmd_name, "-n: --decode and --batch are about decoding, one token and more");
    if (o->kv && crit_policy_check(CRIT_POLICY_KV, o->kv, &err)) return usage(cmd_name, "%s", err.message);
    if (o->kv && cmd == CMD_BENCH && !o->decode) return usage(cmd_name, "--kv needs --decode here");
    if (o->prefix && (o->compare || o->truncate != TRUNCATE_NO))
        return usage(cmd_name, "--prefix goes with neither --compare nor --truncate");
    if (o->prefix && o->system) return usage(cmd_name, "--system belongs to the prefix (critiprefill cluster)");
    if (cmd == CMD_CLUSTER && !o->output) return usage(cmd_name, "no snapshot named (-o FILE.cpkv)");
    if ((cmd & (CMD_RUN | CMD_INFO)) && modes_stream(o) && o->decode && strcmp(o->decode, "full"))
        return usage(cmd_name, "--decode: --attn %s decodes from its own cache", mode_name(o, o->modes.v[0]));
    if ((cmd & (CMD_RUN | CMD_INFO)) && modes_stream(o) && o->kv && strcmp(o->kv, "full"))
        return usage(cmd_name, "--kv: --attn %s keeps its own cache", mode_name(o, o->modes.v[0]));
    if (modes_stream(o) && (o->prefix || cmd == CMD_CLUSTER))
        return usage(cmd_name, "--attn %s has no store that a snapshot could keep", mode_name(o, o->modes.v[0]));
    if (cmd == CMD_RUN && modes_stream(o) && o->n_answer > 1)
        return usage(cmd_name, "--n-samples: the cache of --attn %s cannot be shared", mode_name(o, o->modes.v[0]));
    if (cmd == CMD_RUN && o->min_recall > 0 && o->modes.v[0] != CRIT_ATTN_CRITI && o->modes.v[0] != CRIT_ATTN_DENSE)
        return usage(cmd_name, "--min-recall: --attn %s does not measure what it keeps, criti does",
                     mode_name(o, o->modes.v[0]));
    if (o->system && !o->chat) return usage(cmd_name, "--system needs --chat");
    if (o->bos && o->no_bos) return usage(cmd_name, "--bos and --no-bos exclude each other");
    if (o->parse_special && o->plain_special)
        return usage(cmd_name, "--parse-special and --no-parse-special exclude each other");
    if ((cmd & (CMD_LONGBENCH | CMD_INSPECT)) && !o->files.n && !o->prompt)
        return usage(cmd_name, "nothing to read (-f FILE)");
    if (cmd == CMD_INSPECT && !o->output) return usage(cmd_name, "no picture named (-o FILE.png or FILE.html)");
    if (cmd & CMD_TASKS & ~CMD_LOOKUP && o->question == QUESTION_MIDDLE)
        return usage(cmd_name, "--question middle is for lookup only");
    if (o->n_sample % o->n_question)
        return usage(cmd_name, "--samples %u are not whole texts of --questions %u", o->n_sample, o->n_question);
    if (o->save_logits && o->base_logits)
        return usage(cmd_name, "--save-all-logits and --kl-divergence-base exclude each other");
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
        if (f->at == offsetof(crit_attn_params, oracle) && !p->oracle) continue; /* a diagnosis, not a knob */
        if (out->n > from) buf_str(out, " ");
        put_field(out, f, p);
    }
}

const char *mode_name(const options *o, uint32_t mode) {
    if (mode >= MODE_POLICY) return o->prefill[mode - MODE_POLICY];
    return mode >= MODE_PRESET ? quality_names[mode - MODE_PRESET] : attn_names[mode];
}

bool policy_streams(const char *text) {
    size_t n = strcspn(text, ":");
    for (size_t i = 0; i < crit_policy_count(); i++) {
        crit_policy_info p = {.struct_size = sizeof p};
        if (crit_policy_get(i, &p) || p.place != CRIT_POLICY_PREFILL) continue;
        if (strlen(p.name) == n && !memcmp(p.name, text, n)) return p.streams;
    }
    return false;
}

bool modes_stream(const options *o) {
    for (size_t i = 0; i < o->modes.n; i++)
        if (o->modes.v[i] < MODE_POLICY || !policy_streams(mode_name(o, o->modes.v[i]))) return false;
    return o->modes.n > 0;
}

static bool within(crit_policy_place place, const char *text, uint32_t n_tok) {
    uint32_t span = crit_policy_span(place, text);
    return span && span <= n_tok;
}

bool modes_within(const options *o, uint32_t n_tok) {
    for (size_t i = 0; i < o->modes.n; i++)
        if (o->modes.v[i] < MODE_POLICY || !within(CRIT_POLICY_PREFILL, mode_name(o, o->modes.v[i]), n_tok))
            return false;
    return o->modes.n > 0;
}

bool decode_within(const options *o, uint32_t n_tok) {
    return within(CRIT_POLICY_DECODE, o->decode, n_tok);
}

crit_session_params session_params(const options *o, uint32_t mode, uint32_t n_ctx) {
    crit_session_params s;
    crit_session_params_init(&s);
    s.n_ctx = n_ctx;
    s.n_batch = o->n_batch;
    s.pin = o->pin;
    s.n_threads = o->n_threads;
    s.force = o->force;
    s.attn = o->attn;
    if (mode >= MODE_POLICY)
        s.prefill = o->prefill[mode - MODE_POLICY];
    else if (mode >= MODE_PRESET)
        s.attn = o->preset[mode - MODE_PRESET];
    else
        s.attn.mode = (crit_attn)mode;
    if (o->kind & (CMD_RUN | CMD_CLUSTER | CMD_INFO)) s.decode = o->decode, s.kv = o->kv;
    return s;
}

uint32_t options_threads(const options *o) {
    cpu_set_t set;
    if (o->n_threads) return o->n_threads;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}
