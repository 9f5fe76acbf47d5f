/* SPDX-License-Identifier: MIT */
/* The program's door: the table of subcommands, help and version.  Everything is done through the public headers. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
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
     "  critiprefill run -m model.gguf -f main.c -n 64 --json > answer.json\n"},
    {"bench", CMD_BENCH, bench_main, "measure prefill and decode on real text", "-m MODEL.gguf [-f FILE]... [options]",
     "Reads prompts of several lengths with each attention in turn and prints a table.\n"
     "Or measures the machine (--peak), the kernels (--kernels), a shape without its model (--shape),\n"
     "against llama.cpp (--vs), or the constants of the cost model (--tune).",
     "  critiprefill bench -m model.gguf -c 2048,8192 --attn dense,criti\n"
     "  critiprefill bench -m model.gguf -f book.txt -r 3 -o csv > speed.csv\n"
     "  critiprefill bench --kernels --plot roofline.svg\n"
     "  critiprefill bench --shape llama3-8b -c 32768,131072\n"
     "  critiprefill bench --vs llama.cpp/build -m model.gguf -c 512,4096 -r 3 -t 2\n"},
    {"tokenize", CMD_TOKENIZE, tokenize_main, "show the tokens of a text",
     "-m MODEL.gguf [-f FILE]... [-p TEXT] [options]", "Prints one token a line: its id and its text.",
     "  critiprefill tokenize -m model.gguf -p \"Hello, world\"\n"
     "  critiprefill tokenize -m model.gguf -f book.txt --ids | wc -w\n"},
    {"info", CMD_INFO, info_main, "describe a model and the memory it needs", "-m MODEL.gguf [options]",
     "Prints architecture, shapes, tokenizer, tensor types, and the peak memory for a context.",
     "  critiprefill info -m model.gguf -c 32768\n"},
};
enum { N_COMMAND = sizeof commands / sizeof *commands };

static const command *find_command(const char *name) {
    for (size_t i = 0; i < N_COMMAND; i++)
        if (!strcmp(commands[i].name, name)) return &commands[i];
    return NULL;
}

static void put_overview(buf *out) {
    buf_str(out, "Usage: critiprefill COMMAND [options]\n\n"
                 "Reads long prompts fast on CPUs: GGUF models, block-sparse attention.\n\nCommands:\n");
    for (size_t i = 0; i < N_COMMAND; i++) buf_fmt(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    buf_str(out, "  help      the same as COMMAND --help\n\n"
                 "Options:\n  -h, --help  this text\n  --version   version, CPU level and build\n\n"
                 "Example:\n  critiprefill run -m model.gguf --chat -f book.txt -p \"Who is the narrator?\"\n");
}

static int print_help(const command *c) {
    buf out = {0};
    if (c) {
        buf_fmt(&out, "Usage: critiprefill %s %s\n\n%s\n\nOptions:\n", c->name, c->usage, c->text);
        args_help(option_table, c->id, &out);
        if (c->id != CMD_TOKENIZE) options_help_attn(&out);
        buf_fmt(&out, "\nExamples:\n%s", c->example);
    } else {
        put_overview(&out);
    }
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

static int run_command(const command *c, int argc, char **argv) {
    options o;
    bool help = false;
    options_init(&o, c->id);
    int rc = args_parse(option_table, c->id, c->name, argc, argv, &o, &help);
    if (!rc && help)
        rc = print_help(c);
    else if (!rc && !(rc = options_check(&o, c->id, c->name)))
        rc = c->main(&o);
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
    const command *c = find_command(name);
    if (!c) return usage(NULL, name[0] == '-' ? "unknown option '%s'" : "unknown command '%s'", name);
    return help ? print_help(c) : run_command(c, argc - 2, argv + 2);
}
