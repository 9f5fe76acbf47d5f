/* SPDX-License-Identifier: MIT */
/* Damaged models: each must be refused with a line that names the file, or load and read four tokens, decode one and
 * tokenise a text; never crash, hang, or hand out logits that are not finite.
 *
 *   test_mutate_gguf [MODEL [SEED [COUNT [FIRST]]]]      COUNT cases (300) from number FIRST (0)
 *
 * Without arguments: a few synthetic models, then CRIT_TEST_MODEL when it is there.  Case i depends on SEED + i only,
 * so a failure is replayed with COUNT 1.  One temporary copy is patched in place and repaired: real files are large. */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "critiprefill/critiprefill.h"
#include "model/gguf.h"
#include "tiny/tiny.h"

typedef struct span {
    size_t at, len;
} span;

typedef struct patch {
    size_t at, len;
    unsigned char old[64];
} patch;

typedef struct subject {
    char path[320]; /* the temporary copy */
    int fd;
    size_t bytes, header; /* header: up to the first tensor's data */
    span *kv, *info;      /* behind the name: type and value; dimensions, type, offset */
    span *data;
    size_t n_kv, n_info;
    uint64_t rng;
    patch patches[16];
    size_t n_patch;
} subject;

static volatile sig_atomic_t current;

static void on_fatal(int sig) { /* SIGALRM: a case hung; the others only where no sanitizer reports them */
    char line[96];
    int n = current < 0 ? 0 : (int)current, len = 0, digits[12], n_digits = 0;
    const char *head = sig == SIGALRM ? "mutate_gguf: hang in case " : "mutate_gguf: crash in case ";
    for (const char *p = head; *p; p++) line[len++] = *p;
    do digits[n_digits++] = n % 10;
    while (n /= 10);
    while (n_digits) line[len++] = (char)('0' + digits[--n_digits]);
    line[len++] = '\n';
    if (write(2, line, (size_t)len) < 0) _exit(98);
    signal(sig, SIG_DFL);
    if (sig == SIGALRM) abort();
    raise(sig);
}

static void die(const char *what, const char *detail) {
    fprintf(stderr, "mutate_gguf: case %d: %s: %s\n", (int)current, what, detail);
    exit(1);
}

static size_t below(subject *s, size_t n) {
    return n ? (size_t)(tiny_rand(&s->rng) % n) : 0;
}

/* ---- the copy and its parts ---- */

static void copy_file(subject *s, const char *from) {
    const char *base = getenv("TMPDIR");
    snprintf(s->path, sizeof s->path, "%s/crit-mutate-XXXXXX", base && *base ? base : P_tmpdir);
    s->fd = mkstemp(s->path);
    FILE *in = fopen(from, "rb");
    if (s->fd < 0 || !in) die("cannot copy", from);
    char *buf = malloc(1 << 20);
    if (!buf) abort();
    size_t n;
    while ((n = fread(buf, 1, 1 << 20, in)) > 0) {
        if (write(s->fd, buf, n) != (ssize_t)n) die("cannot write", s->path);
        s->bytes += n;
    }
    free(buf);
    fclose(in);
}

static void map_parts(subject *s) {
    gguf *g;
    crit_error err;
    if (gguf_open(&g, s->path, &err)) die("the unharmed copy is refused", err.message);
    const char *base = gguf_kv_key(g, 0).ptr - 32; /* magic, version, two counts, one length */
    s->n_kv = gguf_n_kv(g);
    s->n_info = gguf_n_tensor(g);
    s->kv = calloc(s->n_kv, sizeof *s->kv);
    s->info = calloc(s->n_info, sizeof *s->info);
    s->data = calloc(s->n_info, sizeof *s->data);
    if (!s->kv || !s->info || !s->data) abort();
    for (size_t i = 0; i < s->n_kv; i++) {
        const gguf_str k = gguf_kv_key(g, i);
        s->kv[i] = (span){(size_t)(k.ptr - base) + k.len, k.len};
    }
    s->header = s->bytes;
    for (size_t i = 0; i < s->n_info; i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        s->info[i] = (span){(size_t)(t->name.ptr - base) + t->name.len, t->name.len};
        s->data[i] = (span){(size_t)((const char *)t->data - base), t->bytes};
        if (s->data[i].at < s->header) s->header = s->data[i].at;
    }
    gguf_close(&g);
}

static void poke(subject *s, size_t at, const void *p, size_t len) {
    patch *u = &s->patches[s->n_patch];
    if (s->n_patch == sizeof s->patches / sizeof *s->patches || len > sizeof u->old || at >= s->bytes) return;
    if (len > s->bytes - at) len = s->bytes - at;
    u->at = at;
    u->len = len;
    if (pread(s->fd, u->old, len, (off_t)at) != (ssize_t)len || pwrite(s->fd, p, len, (off_t)at) != (ssize_t)len)
        die("cannot patch", s->path);
    s->n_patch++;
}

static void repair(subject *s) {
    while (s->n_patch) {
        const patch *u = &s->patches[--s->n_patch];
        if (pwrite(s->fd, u->old, u->len, (off_t)u->at) != (ssize_t)u->len) die("cannot repair", s->path);
    }
}

/* ---- mutations ---- */

static void poke_number(subject *s, size_t at, size_t width) {
    static const uint64_t odd[] = {0,
                                   1,
                                   2,
                                   3,
                                   7,
                                   8,
                                   31,
                                   32,
                                   33,
                                   63,
                                   64,
                                   255,
                                   256,
                                   1000,
                                   65535,
                                   65536,
                                   0x7fffffff,
                                   0x80000000,
                                   0xffffffff,
                                   UINT64_C(1) << 32,
                                   UINT64_C(1) << 40,
                                   INT64_MAX,
                                   UINT64_C(1) << 63,
                                   UINT64_MAX,
                                   0x7fc00000 /* NaN */,
                                   0x7f800000 /* infinity */,
                                   0xbf800000 /* -1 */};
    uint64_t v = odd[below(s, sizeof odd / sizeof *odd)];
    if (below(s, 4) == 0) { /* near what it was */
        if (pread(s->fd, &v, 8, (off_t)at) != 8) return;
        v += below(s, 9) - 4;
    }
    poke(s, at, &v, width);
}

static void poke_bytes(subject *s, size_t at, size_t n) {
    unsigned char b[64];
    const size_t kind = below(s, 3);
    for (size_t i = 0; i < n; i++) b[i] = kind == 0 ? 0xff : kind == 1 ? 0 : (unsigned char)tiny_rand(&s->rng);
    poke(s, at, b, n);
}

/* A value that keeps the file's structure: what comes behind it is still found. */
static void poke_value(subject *s, size_t at) {
    static const unsigned char bytes[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
        [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};
    uint32_t type = 0, elem = 0;
    uint64_t n = 0;
    if (pread(s->fd, &type, 4, (off_t)at) != 4 || pread(s->fd, &elem, 4, (off_t)at + 4) != 4) return;
    if (type == GGUF_STR && pread(s->fd, &n, 8, (off_t)at + 4) == 8 && n) {
        poke_bytes(s, at + 12 + below(s, (size_t)n), 1);
    } else if (type == GGUF_ARR && pread(s->fd, &n, 8, (off_t)at + 8) == 8 && n) {
        if (elem < sizeof bytes && bytes[elem])
            poke_number(s, at + 16 + bytes[elem] * below(s, (size_t)n), bytes[elem]);
        else
            poke_bytes(s, at + 24 + below(s, 4 * (size_t)n), 1); /* mostly a character of an element */
    } else if (type < sizeof bytes && bytes[type]) {
        poke_number(s, at + 4, bytes[type]);
    }
}

static void mutate(subject *s) {
    const size_t i = below(s, s->n_kv), j = below(s, s->n_info);
    const span data = s->data[j];
    switch (below(s, 16)) {
    case 0:
        poke_number(s, s->kv[i].at, 4);
        break; /* a type */
    case 1:
        poke_number(s, s->kv[i].at + 4 + 4 * below(s, 2), 8);
        break; /* a length, a count, an element type */
    case 2:
        poke_number(s, s->info[j].at + 4 * below(s, 8), below(s, 2) ? 4 : 8);
        break; /* dimensions, type, offset */
    case 3:
        poke_number(s, 4 + 4 * below(s, 5), 4);
        break; /* version and counts */
    case 4:
        poke_bytes(s, below(s, s->header), 1 + below(s, 8));
        break;
    case 5:
        poke_bytes(s, below(s, s->header < 4096 ? s->header : 4096), 1 + below(s, 4));
        break;
    case 6:
        poke_bytes(s, s->kv[i].at - 1 - below(s, s->kv[i].len), 1);
        break; /* a name */
    case 7:
        poke_bytes(s, s->info[j].at - 1 - below(s, s->info[j].len), 1);
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        poke_value(s, s->kv[i].at);
        break;
    case 12:
    case 13:
        poke_bytes(s, data.at + below(s, data.len), 1 + below(s, 32));
        break;
    default: /* the start of a block, often: scales */
        poke_bytes(s, data.at + below(s, data.len / 34 + 1) * (below(s, 2) ? 18 : 34), 2);
    }
}

/* ---- the victim ---- */

static void use_text(const crit_model *m) {
    static const char text[] = "The quick brown fox, 12345 <|im_start|>user\n\xc3\xa9\xff\xf0\x9f\x98\x80  end";
    int32_t ids[256];
    char buf[4096];
    size_t n = 0;
    crit_error err;
    if (crit_tokenize(m, text, sizeof text - 1, CRIT_TOK_BOS_EOS | CRIT_TOK_PARSE_SPECIAL, ids, 256, &n, &err) ==
        CRIT_OK)
        for (size_t i = 0; i < n; i++) (void)crit_token_bytes(m, ids[i], true, buf, sizeof buf);
    const crit_message msg[] = {{"user", "hi"}};
    (void)crit_chat_render(m, msg, 1, true, buf, sizeof buf, &n, &err);
    for (int32_t id = -2; id < 400; id++) {
        (void)crit_token_bytes(m, id, false, buf, sizeof buf);
        (void)crit_token_ends(m, id);
    }
}

static void check_logits(const crit_session *ses, uint32_t n_vocab) {
    const float *l = crit_logits(ses);
    if (!l) die("no logits after success", "");
    for (uint32_t i = 0; i < n_vocab; i++)
        if (!isfinite(l[i])) die("a logit is not finite after success", "");
}

/* true when it loaded and read */
static bool use(const char *path) {
    crit_model *m = NULL;
    crit_session *ses = NULL;
    crit_error err = {CRIT_OK, ""};
    crit_status st = crit_model_open(&m, path, NULL, &err);
    if (st) {
        if (m || st > 0 || err.code != st) die("a refusal is inconsistent", err.message);
        if (strncmp(err.message, path, strlen(path)) != 0 || strchr(err.message, '\n'))
            die("not one line with the path", err.message);
        return false;
    }
    crit_model_info info = {.struct_size = sizeof info};
    if (crit_model_get_info(m, &info)) die("crit_model_get_info fails", "");
    use_text(m);
    crit_session_params sp;
    crit_session_params_init(&sp);
    sp.n_ctx = 64;
    sp.n_batch = 128;
    sp.n_threads = 1;
    st = crit_session_open(&ses, m, &sp, &err);
    if (!st) {
        const int32_t tok[4] = {0, 1, (int32_t)(info.n_vocab / 2), (int32_t)(info.n_vocab - 1)};
        st = crit_prefill(ses, tok, info.n_vocab > 1 ? 4 : 1, NULL, &err);
        if (!st) check_logits(ses, info.n_vocab);
        if (!st) {
            st = crit_decode(ses, 0, &err);
            if (!st) check_logits(ses, info.n_vocab);
        }
    }
    if (st && (st > 0 || err.code != st || !err.message[0] || strchr(err.message, '\n')))
        die("a failure is inconsistent", err.message);
    crit_session_close(&ses);
    crit_model_close(&m);
    return st == CRIT_OK;
}

/* The first n bytes as a file of its own: cutting the large copy would cost writing its end again. */
static bool use_cut(subject *s) {
    char path[336];
    const size_t room = s->bytes < s->header + 65536 ? s->bytes : s->header + 65536, n = below(s, room);
    snprintf(path, sizeof path, "%s-cut", s->path);
    unsigned char *buf = malloc(n + 1);
    if (!buf || pread(s->fd, buf, n, 0) != (ssize_t)n || gw_save(path, buf, n)) die("cannot write", path);
    free(buf);
    const bool ok = use(path);
    unlink(path);
    if (ok) die("a truncated file was read", path);
    return ok;
}

static void run(const char *model, uint64_t seed, int count, int first) {
    subject s = {0};
    int n_ok = 0;
    copy_file(&s, model);
    map_parts(&s);
    current = -1;
    if (!use(s.path)) die("the unharmed copy does not run", model);
    for (int i = first; i < first + count; i++) {
        current = i;
        s.rng = (seed + (uint64_t)i) * UINT64_C(0x2545f4914f6cdd1d);
        alarm(240);
        if (below(&s, 12) == 0) {
            n_ok += use_cut(&s);
        } else {
            for (size_t k = below(&s, 3) ? 1 : 2 + below(&s, 4); k > 0; k--) mutate(&s);
            n_ok += use(s.path);
            repair(&s);
        }
    }
    alarm(0);
    current = -1;
    if (!use(s.path)) die("the repaired copy does not run: the cases were not what they seemed", model);
    printf("%s: seed %llu: %d cases, %d read, %d refused\n", model, (unsigned long long)seed, count, n_ok,
           count - n_ok);
    close(s.fd);
    unlink(s.path);
    free(s.kv);
    free(s.info);
    free(s.data);
}

static void run_tiny(const char *arch, crit_type type, tiny_rope rope, tiny_tok tok, uint64_t seed) {
    tiny_params p;
    char path[300];
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/crit-tiny-%s-%ld.gguf", base && *base ? base : P_tmpdir, arch, (long)getpid());
    tiny_params_init(&p);
    p.arch = arch;
    p.rope = rope;
    p.tok = tok;
    p.n_vocab = 300;
    tiny_all_types(&p, type);
    if (tiny_write(path, &p)) die("cannot write", path);
    run(path, seed, 300, 0);
    unlink(path);
}

int main(int argc, char **argv) {
    signal(SIGALRM, on_fatal);
#if !defined(__SANITIZE_ADDRESS__)
    signal(SIGSEGV, on_fatal);
    signal(SIGBUS, on_fatal);
    signal(SIGFPE, on_fatal);
#endif
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    if (argc > 1) {
        run(argv[1], seed, argc > 3 ? atoi(argv[3]) : 300, argc > 4 ? atoi(argv[4]) : 0);
        return 0;
    }
    run_tiny("llama", CRIT_T_Q4_0, TINY_ROPE_LLAMA3, TINY_TOK_LLAMA, seed);
    run_tiny("qwen2", CRIT_T_Q8_0, TINY_ROPE_YARN, TINY_TOK_GPT2, seed);
    run_tiny("qwen3", CRIT_T_F16, TINY_ROPE_LINEAR, TINY_TOK_GPT2, seed);
    const char *real = getenv("CRIT_TEST_MODEL");
    if (real && access(real, R_OK) == 0) run(real, seed, 60, 0);
    return 0;
}
