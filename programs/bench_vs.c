/* SPDX-License-Identifier: MIT */
/* critiprefill bench --vs DIR: llama.cpp's llama-bench and this program in turn on the same file, and the ratio.
 *
 * The peer runs with an f16 cache, flash attention on, and as many threads; its prompt is random tokens, ours is text,
 * which dense attention cannot tell.  Samples alternate (theirs, ours, theirs, ours), since machines drift. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "jsonout.h"
#include "mdtable.h"
#include "term.h"

extern char **environ;

enum { WARM_UP_TO = 1024 };

static const md_col cols[] = {{"tokens", 6, false},         {"what", 8, true},      {"attention", 9, true},
                              {"llama.cpp", 9, false},      {"ours", 8, false},     {"ratio", 7, false},
                              {"llama.cpp, all", 24, true}, {"ours, all", 24, true}};
enum { N_COL = sizeof cols / sizeof *cols };

typedef struct vs {
    const options *o;
    char *peer; /* absolute path */
    crit_model *model;
    prompt text;
    json_t *rows;
    uint32_t n_predict;
} vs;

/* ---- the peer ---- */

static int find_peer(const char *dir, char **out) {
    static const char *const tails[] = {"llama-bench", "bin/llama-bench"};
    for (size_t i = 0; i < 2; i++) {
        buf p = {0};
        buf_fmt(&p, "%s/%s", dir, tails[i]);
        *out = p.oom ? NULL : realpath(p.s, NULL);
        buf_free(&p);
        if (*out && access(*out, X_OK) == 0) return EXIT_OK;
        free(*out);
        *out = NULL;
    }
    return fail("%s: no program llama-bench there or in its bin/", dir);
}

/* What the program writes to stdout, and how it ends. */
static int run_peer(const vs *v, char *const argv[], buf *out) {
    int fd[2], status = 0, rc = EXIT_OK;
    pid_t pid;
    if (pipe(fd) < 0) return fail("pipe: %s", strerror(errno));
    posix_spawn_file_actions_t act;
    posix_spawnattr_t attr;
    sigset_t usual;
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    posix_spawn_file_actions_init(&act);
    posix_spawn_file_actions_addopen(&act, 0, "/dev/null", 0, 0);
    posix_spawn_file_actions_adddup2(&act, fd[1], 1);
    posix_spawn_file_actions_addopen(&act, 2, "/dev/null", 1, 0); /* it tells which library it loaded, and so on */
    posix_spawn_file_actions_addclose(&act, fd[0]);
    posix_spawn_file_actions_addclose(&act, fd[1]);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigdefault(&attr, &usual);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    int why = posix_spawn(&pid, v->peer, &act, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&act);
    posix_spawnattr_destroy(&attr);
    close(fd[1]);
    if (why) {
        close(fd[0]);
        return fail("%s: %s", v->peer, strerror(why));
    }
    for (;;) {
        if (term_interrupted()) {
            kill(pid, SIGTERM);
            rc = EXIT_INTERRUPTED;
            break;
        }
        if (!buf_room(out, 4096)) {
            kill(pid, SIGTERM);
            rc = fail_memory();
            break;
        }
        ssize_t n = read(fd[0], out->s + out->n, 4096);
        if (n == 0) break;
        if (n > 0) out->n += (size_t)n;
    }
    close(fd[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (rc) return rc;
    if (WIFSIGNALED(status)) return fail("%s: ended by signal %d", v->peer, WTERMSIG(status));
    if (WEXITSTATUS(status)) return fail("%s: failed with exit code %d", v->peer, WEXITSTATUS(status));
    return EXIT_OK;
}

static int read_rate(const vs *v, const buf *out, double *rate) {
    json_error_t e;
    json_t *j = json_loadb(out->n ? out->s : "", out->n, 0, &e);
    const json_t *x = json_object_get(json_array_get(j, 0), "avg_ts");
    *rate = json_is_number(x) ? json_number_value(x) : (double)NAN;
    int rc = EXIT_OK;
    if (!j)
        rc = fail("%s: its output is not JSON: %s", v->peer, e.text);
    else if (!(isfinite(*rate) && *rate > 0))
        rc = fail("%s: its JSON holds no rate (avg_ts)", v->peer);
    json_decref(j);
    return rc;
}

/* Tokens per second of a prompt of n_tok tokens, or of n_predict tokens decoded behind it. */
static int peer_sample(const vs *v, uint32_t n_tok, uint32_t n_predict, double *rate) {
    char threads[16], tok[16], gen[16];
    snprintf(threads, sizeof threads, "%u", options_threads(v->o));
    snprintf(tok, sizeof tok, "%u", n_tok);
    snprintf(gen, sizeof gen, "%u", n_predict);
    const char *argv[24] = {v->peer, "-m", v->o->model, "-t", threads, "-fa", "1", "-r", "1", "-o", "json"};
    size_t n = 11;
    if (n_predict) {
        const char *decode[] = {"-p", "0", "-n", gen, "-d", tok};
        memcpy(argv + n, decode, sizeof decode);
    } else {
        const char *prefill[] = {"-p", tok, "-n", "0"};
        memcpy(argv + n, prefill, sizeof prefill);
        /* Its warm-up is the whole prompt once more: dear, and of no use once the prompt is long. */
        if (n_tok > WARM_UP_TO) argv[n + 4] = "--no-warmup";
    }
    buf out = {0};
    int rc = run_peer(v, (char *const *)(uintptr_t)argv, &out);
    if (!rc) rc = read_rate(v, &out, rate);
    buf_free(&out);
    return rc;
}

/* ---- one length ---- */

static void put_samples(buf *out, const double *x, size_t n) {
    for (size_t i = 0; i < n; i++) buf_fmt(out, "%s%.*f", i ? " " : "", x[i] < 100 ? 1 : 0, x[i]);
}

static json_t *samples_json(const double *x, size_t n) {
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(a, json_num(x[i]));
    return a;
}

static int print_pair(const vs *v, uint32_t n_tok, const char *what, uint32_t mode, const double *theirs,
                      const double *ours) {
    size_t n = v->o->n_rep, at = 0;
    const char *quote = strchr(mode_name(v->o, mode), ',') ? "\"" : ""; /* a policy's options */
    buf out = {0}, a = {0}, b = {0};
    put_samples(&a, theirs, n);
    put_samples(&b, ours, n);
    double *sorted = malloc(2 * n * sizeof *sorted);
    if (!sorted || a.oom || b.oom) {
        free(sorted);
        buf_free(&a);
        buf_free(&b);
        return fail_memory();
    }
    memcpy(sorted, theirs, n * sizeof *sorted);
    memcpy(sorted + n, ours, n * sizeof *sorted);
    double x = bench_median(sorted, n), y = bench_median(sorted + n, n);
    free(sorted);
    if (v->o->format == FORMAT_MD) {
        md_cell(&out, cols, N_COL, &at, "%u", n_tok);
        md_cell(&out, cols, N_COL, &at, "%s", what);
        md_cell(&out, cols, N_COL, &at, "%s", mode_name(v->o, mode));
        md_num(&out, cols, N_COL, &at, x, 1, "");
        md_num(&out, cols, N_COL, &at, y, 1, "");
        md_num(&out, cols, N_COL, &at, y / x, 2, "x");
        md_cell(&out, cols, N_COL, &at, "%s", a.s);
        md_cell(&out, cols, N_COL, &at, "%s", b.s);
    } else if (v->o->format == FORMAT_CSV)
        buf_fmt(&out, "%u,%s,%s%s%s,%.6g,%.6g,%.4g,%s,%s\n", n_tok, what, quote, mode_name(v->o, mode), quote, x, y,
                y / x, a.s, b.s);
    else {
        json_t *j = json_object();
        json_put(j, "ctx_tok", json_integer(n_tok));
        json_put(j, "what", json_cstr(what));
        json_put(j, "attn", json_cstr(mode_name(v->o, mode)));
        json_put(j, "peer_tok_per_s", json_num(x));
        json_put(j, "tok_per_s", json_num(y));
        json_put(j, "ratio", json_num(y / x));
        json_put(j, "peer_samples", samples_json(theirs, n));
        json_put(j, "samples", samples_json(ours, n));
        json_array_append_new(v->rows, j);
    }
    int rc = out_buf(&out);
    buf_free(&out);
    buf_free(&a);
    buf_free(&b);
    return rc;
}

/* samples [2 + 2 * MAX_MODE][n_rep]: theirs and ours by mode, of the prefill, then of decoding */
static int one_length(const vs *v, uint32_t n_tok, double *samples) {
    size_t n = v->o->n_rep, n_mode = v->o->modes.n, row = 1 + MAX_MODE;
    int rc = EXIT_OK;
    for (size_t r = 0; r < n && !rc; r++) {
        rc = peer_sample(v, n_tok, 0, &samples[r]);
        if (!rc && v->n_predict) rc = peer_sample(v, n_tok, v->n_predict, &samples[row * n + r]);
        for (size_t m = 0; m < n_mode && !rc; m++) {
            answer a;
            rc = bench_once(v->o, v->model, &v->text, v->o->modes.v[m], n_tok, v->n_predict, NULL, &a);
            if (!rc) {
                samples[(1 + m) * n + r] = per_second(n_tok, a.prompt_ms);
                samples[(row + 1 + m) * n + r] = per_second((double)a.n_decode, a.answer_ms);
            }
            answer_free(&a);
        }
    }
    for (size_t m = 0; m < n_mode && !rc; m++)
        rc = print_pair(v, n_tok, "prefill", v->o->modes.v[m], samples, samples + (1 + m) * n);
    for (size_t m = 0; m < n_mode && !rc && v->n_predict; m++)
        rc = print_pair(v, n_tok, "decode", v->o->modes.v[m], samples + row * n, samples + (row + 1 + m) * n);
    return rc;
}

static int head(const vs *v) {
    buf out = {0};
    if (v->o->format == FORMAT_MD) md_head(&out, cols, N_COL);
    if (v->o->format == FORMAT_CSV)
        buf_str(&out, "ctx_tok,what,attn,peer_tok_per_s,tok_per_s,ratio,peer_samples,samples\n");
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static int measure_all(vs *v, const u32_list *ctx) {
    double *samples = calloc(2 * (1 + MAX_MODE) * (size_t)v->o->n_rep, sizeof *samples);
    if (!samples) return fail_memory();
    /* Weights into memory first, as the peer's warm-up does. */
    answer a;
    int rc =
        bench_once(v->o, v->model, &v->text, v->o->modes.v[0], v->text.n < 16 ? (uint32_t)v->text.n : 16, 1, NULL, &a);
    answer_free(&a);
    if (!rc) rc = head(v);
    for (size_t i = 0; i < ctx->n && !rc; i++) rc = one_length(v, ctx->v[i], samples);
    free(samples);
    return rc;
}

int bench_vs_main(const options *o) {
    vs v = {.o = o, .rows = json_array(), .n_predict = o->n_predict < 0 ? 0 : (uint32_t)o->n_predict};
    u32_list ctx = o->ctx.n ? o->ctx : (u32_list){{512, 4096}, 2};
    crit_model_info info = {0};
    uint32_t longest = 0;
    double ms;
    int rc = find_peer(o->vs, &v.peer);
    if (!rc) rc = model_open(o, &v.model, &info, &ms);
    uint32_t train = rc ? 0 : model_context(&info);
    for (size_t i = 0; i < ctx.n && !rc; i++) {
        if (ctx.v[i] > longest) longest = ctx.v[i];
        if (train && ctx.v[i] > train && !o->force)
            rc = fail("%s: %u tokens are more than the %u the model was trained for (--force runs them)", o->model,
                      ctx.v[i], train);
    }
    if (!rc) rc = bench_text(o, v.model, longest, &v.text);
    if (!rc) rc = measure_all(&v, &ctx);
    if (!rc && o->format == FORMAT_JSON) {
        json_t *j = json_object();
        json_put(j, "model", json_cstr(o->model));
        json_put(j, "cpu", json_cstr(info.cpu));
        json_put(j, "threads", json_integer(options_threads(o)));
        json_put(j, "results", json_incref(v.rows));
        rc = json_print(j);
    }
    json_decref(v.rows);
    prompt_free(&v.text);
    crit_model_close(&v.model);
    free(v.peer);
    return rc;
}
