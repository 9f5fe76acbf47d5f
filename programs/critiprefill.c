/* SPDX-License-Identifier: MIT */
/* The program's door: the table of subcommands, help and version.  Everything is done through the public headers. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "eval.h"
#include "files.h"
#include "jsonout.h"
#include "term.h"

typedef struct command {
    const char *name;
    unsigned id;
    int (*main)(const options *o);
    const char *summary, *usage, *text, *example;
} command;

static const command commands[] = {
    {"run", CMD_RUN, run_main, "read a prompt and answer it", "-m MODEL.gguf [-f FILE]... [-p TEXT] [options]",
     "Reads the files, then the text, as one prompt and streams the answer to stdout.",
     "  critiprefill run -m model.gguf --chat -f report.txt -p \"What does the report conclude?\"\n"
     "  critiprefill run -m model.gguf -f main.c -n 64 --json > answer.json\n"
     "  critiprefill run -m model.gguf --prefix report.cpkv --chat -p \"Who wrote it?\" --decode squeezed\n"},
    {"bench", CMD_BENCH, bench_main, "measure prefill and decode on real text", "-m MODEL.gguf [-f FILE]... [options]",
     "Reads prompts of several lengths with each attention in turn and prints a table.\n"
     "Or measures the machine (--peak), the kernels (--kernels), a shape without its model (--shape),\n"
     "against llama.cpp (--vs), policies of decoding (--decode), several sequences behind one prompt\n"
     "(--batch), or the constants of the cost model (--tune).",
     "  critiprefill bench -m model.gguf -c 2048,8192 --attn dense,criti\n"
     "  critiprefill bench -m model.gguf -f book.txt -r 3 -o csv > speed.csv\n"
     "  critiprefill bench --kernels --plot roofline.svg\n"
     "  critiprefill bench --shape llama3-8b -c 32768,131072\n"
     "  critiprefill bench --vs llama.cpp/build -m model.gguf -c 512,4096 -r 3 -t 2\n"
     "  critiprefill bench --batch 4,16,32 --shape llama3-8b -c 8192\n"
     "  critiprefill bench --decode full,recycled:K=2048 -m model.gguf -c 16384\n"},
    {"cluster", CMD_CLUSTER, cluster_main, "read a text once, for many questions about it",
     "-m MODEL.gguf -f FILE... -o FILE.cpkv [options]",
     "Reads the files, then the text, sorts their keys into clusters and writes all of it into a snapshot,\n"
     "which run --prefix loads in a fraction of the time.",
     "  critiprefill cluster -m model.gguf --chat -f report.txt -o report.cpkv\n"
     "  critiprefill run -m model.gguf --prefix report.cpkv --chat -p \"Who wrote it?\" --decode squeezed\n"},
    {"tokenize", CMD_TOKENIZE, tokenize_main, "show the tokens of a text",
     "-m MODEL.gguf [-f FILE]... [-p TEXT] [options]", "Prints one token a line: its id and its text.",
     "  critiprefill tokenize -m model.gguf -p \"Hello, world\"\n"
     "  critiprefill tokenize -m model.gguf -f book.txt --ids | wc -w\n"},
    {"inspect", CMD_INSPECT, inspect_main, "show which blocks were read, and which matter",
     "-m MODEL.gguf -f FILE -o FILE.png|FILE.html [options]",
     "Reads a prompt and draws which key blocks were computed, against what dense attention weighs.",
     "  critiprefill inspect -m model.gguf -f book.txt -p \"Who is the narrator?\" -o book.html\n"
     "  critiprefill inspect -m model.gguf -f book.txt --layer 12 --head 3 -o head.png\n"},
    {"policies", CMD_POLICIES, policies_main, "list the ways of decoding, with their options", "[options]",
     "Prints every policy: what it does, its options with their defaults and ranges, what it may be\n"
     "combined with, and the paper it comes from.",
     "  critiprefill policies\n"
     "  critiprefill policies --json\n"},
    {"info", CMD_INFO, info_main, "describe a model and the memory it needs", "-m MODEL.gguf [options]",
     "Prints architecture, shapes, tokenizer, tensor types, and the peak memory for a context.",
     "  critiprefill info -m model.gguf -c 32768\n"},
};
/* Kinds of "eval", named behind it. */
#define TASK_TEXT                                                                                                      \
    "Makes samples from seeds, lets the model answer with each attention, and scores the answers:\n"                   \
    "found of asked, and the paired difference from the first attention with a 95 % interval."
static const command eval_kinds[] = {
    {"kl", CMD_KL, eval_kl_main, "next-token distributions against dense attention's",
     "-m MODEL.gguf [-f FILE]... [options]",
     "Reads prompts with dense attention and with others, and compares the next-token distributions\n"
     "at every position and over the last ones.",
     "  critiprefill eval kl -m model.gguf -f book.txt -c 4096,16384 --attn criti,paper\n"},
    {"ppl", CMD_PPL, eval_ppl_main, "perplexity of a text", "-m MODEL.gguf [-f FILE]... [options]",
     "Perplexity in windows of -c tokens, second half scored, as llama-perplexity prints it.",
     "  critiprefill eval ppl -m model.gguf -f book.txt -c 2048\n"},
    {"needle", CMD_NEEDLE, eval_tasks_main, "a sentence hidden at every depth", "-m MODEL.gguf [options]", TASK_TEXT,
     "  critiprefill eval needle -m model.gguf -c 4096,8192 --html needle.html\n"},
    {"passkey", CMD_PASSKEY, eval_tasks_main, "a number of 7 or more digits hidden in noise", "-m MODEL.gguf [options]",
     TASK_TEXT, "  critiprefill eval passkey -m model.gguf -c 8192 --digits 64\n"},
    {"kv", CMD_KV, eval_tasks_main, "one value of a JSON object of random pairs", "-m MODEL.gguf [options]", TASK_TEXT,
     "  critiprefill eval kv -m model.gguf -c 8192 --samples 20\n"},
    {"lines", CMD_LINES, eval_tasks_main, "the number on one of many lines", "-m MODEL.gguf [options]", TASK_TEXT,
     "  critiprefill eval lines -m model.gguf -c 8192\n"},
    {"chain", CMD_CHAIN, eval_tasks_main, "a key that names the next key, and so on", "-m MODEL.gguf [options]",
     TASK_TEXT, "  critiprefill eval chain -m model.gguf -c 8192\n"},
    {"copy", CMD_COPY, eval_tasks_main, "a random string, to be gone on with", "-m MODEL.gguf [options]", TASK_TEXT,
     "  critiprefill eval copy -m model.gguf -c 8192\n"},
    {"lookup", CMD_LOOKUP, eval_tasks_main, "many keys and many questions in one prompt", "-m MODEL.gguf [options]",
     TASK_TEXT, "  critiprefill eval lookup -m model.gguf -c 8192 --question middle\n"},
    {"ruler", CMD_RULER, eval_tasks_main, "the tasks of RULER", "-m MODEL.gguf [options]", TASK_TEXT,
     "  critiprefill eval ruler -m model.gguf -c 8192,16384 --samples 50 --out results\n"},
    {"longbench", CMD_LONGBENCH, eval_tasks_main, "samples of a LongBench file",
     "-m MODEL.gguf -f FILE.jsonl [options]",
     TASK_TEXT "\n"
               "Prompts are plain ones by the kind of sample; scores are words shared with the best reference (F1),\n"
               "or whether the answer contains it (labels, passages): comparable between attentions only.",
     "  critiprefill eval longbench -m model.gguf -f hotpotqa.jsonl\n"},
    {"operator", CMD_OPERATOR, eval_operator_main, "captured weight and output error of each layer and head",
     "-m MODEL.gguf [-f FILE]... [options]",
     "Compares the plan of every layer, head and tile with exact attention and with the best plan of its size.",
     "  critiprefill eval operator -m model.gguf -f book.txt -c 8192 --layers 4,12\n"},
    {"frontier", CMD_FRONTIER, eval_frontier_main, "quality against density and time over many settings",
     "-m MODEL.gguf [-f FILE]... [options]",
     "Measures every combination of settings against dense attention on the same text.",
     "  critiprefill eval frontier -m model.gguf -f book.txt -c 8192 --sweep \"theta=.1,.2,.4\" --plot frontier.svg\n"},
    {"suite", CMD_SUITE, eval_suite_main, "every policy with every task, at measured compression",
     "CONFIG.json [-m MODEL.gguf] [options]",
     "Runs every policy of a configuration on every task of it, and reports scores against full attention\n"
     "with bytes moved, memory, time to the first token and time a token.  A suite that was stopped goes on\n"
     "where it was.  The configuration's form: doc/QUALITY.md, and examples/suite-*.json.",
     "  critiprefill eval suite examples/suite-small.json -m model.gguf\n"},
};
enum { N_COMMAND = sizeof commands / sizeof *commands, N_EVAL = sizeof eval_kinds / sizeof *eval_kinds };

static const command *find_command(const command *list, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i].name, name)) return &list[i];
    return NULL;
}

static void put_overview(buf *out) {
    buf_str(out, "Usage: critiprefill COMMAND [options]\n\n"
                 "Reads long prompts fast on CPUs: GGUF models, block-sparse attention.\n\nCommands:\n");
    for (size_t i = 0; i < N_COMMAND; i++) buf_fmt(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    buf_fmt(out, "  %-9s %s\n", "eval", "measure the quality of sparse attention");
    buf_str(out, "  help      the same as COMMAND --help\n\n"
                 "Options:\n  -h, --help  this text\n  --version   version, CPU level and build\n\n"
                 "Example:\n  critiprefill run -m model.gguf --chat -f book.txt -p \"Who is the narrator?\"\n");
}

/* "eval kl", "run". */
static void full_name(const command *c, char *out, size_t cap) {
    snprintf(out, cap, "%s%s", c->id & CMD_EVAL ? "eval " : "", c->name);
}

static int print_help(const command *c) {
    buf out = {0};
    if (c) {
        char name[32];
        full_name(c, name, sizeof name);
        buf_fmt(&out, "Usage: critiprefill %s %s\n\n%s\n\nOptions:\n", name, c->usage, c->text);
        args_help(option_table, c->id, &out);
        if (!(c->id & (CMD_TOKENIZE | CMD_POLICIES))) options_help_attn(&out);
        buf_fmt(&out, "\nExamples:\n%s", c->example);
    } else {
        put_overview(&out);
    }
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static int print_eval_help(void) {
    buf out = {0};
    buf_str(&out, "Usage: critiprefill eval KIND [options]\n\nKinds:\n");
    for (size_t i = 0; i < N_EVAL; i++) buf_fmt(&out, "  %-9s %s\n", eval_kinds[i].name, eval_kinds[i].summary);
    buf_str(&out, "\ncritiprefill eval KIND --help lists the options.\n\n"
                  "Example:\n  critiprefill eval kl -m model.gguf -f book.txt -c 8192 --attn criti,paper\n");
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static int print_version(void) {
    buf out = {0};
    buf_fmt(&out, "critiprefill %s", CRIT_VERSION_STRING);
    if (strcmp(crit_version(), CRIT_VERSION_STRING)) buf_fmt(&out, " (library %s)", crit_version());
#if defined(__clang__)
    buf_fmt(&out, "\ncpu %s\nbuild %s, clang %s\n", crit_cpu_name(), CRIT_BUILD_TYPE, __clang_version__);
#elif defined(__GNUC__)
    buf_fmt(&out, "\ncpu %s\nbuild %s, gcc %s\n", crit_cpu_name(), CRIT_BUILD_TYPE, __VERSION__);
#else
    buf_fmt(&out, "\ncpu %s\nbuild %s\n", crit_cpu_name(), CRIT_BUILD_TYPE);
#endif
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

/* The arguments, with a preset under the knobs, wherever those stand. */
static int parse(const command *c, const char *name, int argc, char **argv, uint32_t quality, options *o, bool *help) {
    options_init(o, c->id);
    crit_attn_params_preset(&o->attn, (crit_quality)quality);
    return args_parse(option_table, c->id, name, argc, argv, o, help);
}

static int run_command(const command *c, int argc, char **argv) {
    options o;
    crit_attn_params preset[N_QUALITY];
    bool help = false;
    char name[32];
    full_name(c, name, sizeof name);
    uint32_t chosen = 0;
    int rc = EXIT_OK;
    for (uint32_t q = 0; q < N_QUALITY && !rc && !help; q++) {
        rc = parse(c, name, argc, argv, q, &o, &help);
        preset[q] = o.attn;
        chosen = o.quality;
        options_free(&o);
    }
    if (rc || help) return rc ? rc : print_help(c);
    rc = parse(c, name, argc, argv, chosen, &o, &help);
    memcpy(o.preset, preset, sizeof preset);
    if (!rc) rc = options_settle(&o, c->id, name);
    if (!rc) rc = options_check(&o, c->id, name);
    if (!rc) rc = outputs_apart(&o);
    if (!rc) rc = c->main(&o);
    options_free(&o);
    return rc;
}

int main(int argc, char **argv) {
    term_init();
    json_start();
    if (argc < 2) {
        buf out = {0};
        put_overview(&out);
        fputs(out.s ? out.s : "", stderr);
        buf_free(&out);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    bool help = !strcmp(name, "help");
    if (!strcmp(name, "--version")) return print_version();
    if (!strcmp(name, "-h") || !strcmp(name, "--help") || (help && argc == 2)) return print_help(NULL);
    if (help) name = argv[2];
    int at = help ? 2 : 1;
    const command *c = find_command(commands, N_COMMAND, name);
    if (!strcmp(name, "eval")) {
        if (argc == at + 1 && !help) return usage("eval", "no kind given");
        const char *kind = argc > at + 1 ? argv[++at] : "--help";
        if (!strcmp(kind, "-h") || !strcmp(kind, "--help")) return print_eval_help();
        c = find_command(eval_kinds, N_EVAL, kind);
        if (!c) return usage("eval", kind[0] == '-' ? "name a kind first: '%s'" : "unknown kind '%s'", kind);
    }
    if (!c) return usage(NULL, name[0] == '-' ? "unknown option '%s'" : "unknown command '%s'", name);
    return help ? print_help(c) : run_command(c, argc - at - 1, argv + at + 1);
}
