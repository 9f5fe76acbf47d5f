/* SPDX-License-Identifier: MIT */
/* Whichever allocation of a call fails, the call says so, nothing leaks (under the sanitizers), what it worked on is as
 * the headers promise, and the call succeeds the next time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "critiprefill/policy.h"
#include "tiny_model.h"

/* ---- an allocator that fails once: these stand before the C library's ---- */

static atomic_long left = -1; /* allocations until one fails; below 0: none will */
static atomic_bool failed;

static bool fails(void) {
    if (atomic_load(&left) < 0 || atomic_fetch_sub(&left, 1) != 0) return false;
    atomic_store(&failed, true);
    return true;
}

void *aligned_alloc(size_t align, size_t bytes) {
    void *p;
    return fails() || posix_memalign(&p, align, bytes) ? NULL : p;
}

void *mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t off) {
    if (fd < 0 && fails()) return MAP_FAILED; /* memory, not files */
    const long p = syscall(SYS_mmap, at, bytes, prot, flags, fd, off);
    return (void *)p; /* -1 is MAP_FAILED */
}

/* ---- calls ---- */

enum { FIRST = 300, SECOND = 280, N_CTX = 800 };

typedef struct scene {
    const char *model_path, *snapshot, *decode, *prefill, *kv;
    crit_attn mode;
    crit_model *m;
    crit_session *s, *loaded;
    crit_batch *b;
    int32_t tokens[N_CTX];
    bool more;
    uint32_t at, n; /* of tokens */
} scene;

typedef crit_status (*call)(scene *c, crit_error *err);

static crit_status open_model(scene *c, crit_error *err) {
    return crit_model_open(&c->m, c->model_path, NULL, err);
}

static crit_status open_one(crit_session **s, scene *c, crit_error *err) {
    crit_session_params p;
    crit_session_params_init(&p);
    p.n_ctx = N_CTX;
    p.n_batch = 256;
    p.n_threads = 2;
    p.attn.mode = c->mode;
    p.attn.dense_until = p.attn.last_tok = p.attn.seg_len = p.attn.threshold = p.attn.budget_tok = 128;
    p.decode = c->decode;
    p.prefill = c->prefill;
    p.kv = c->kv;
    return crit_session_open(s, c->m, &p, err);
}

static crit_status open_session(scene *c, crit_error *err) {
    return open_one(&c->s, c, err);
}

static crit_status read_tokens(scene *c, crit_error *err) {
    crit_prefill_params p;
    crit_prefill_params_init(&p);
    p.more = c->more;
    return crit_prefill(c->s, c->tokens + c->at, c->n, &p, err);
}

static crit_status decode(scene *c, crit_error *err) {
    return crit_decode(c->s, c->tokens[crit_session_n_past(c->s)], err);
}

static crit_status save(scene *c, crit_error *err) {
    return crit_session_save(c->s, c->snapshot, c->tokens, crit_session_n_past(c->s), NULL, err);
}

static crit_status read_info(scene *c, crit_error *err) {
    crit_snapshot_info info = {.struct_size = sizeof info};
    int32_t ids[N_CTX];
    return crit_snapshot_read_info(c->m, c->snapshot, &info, ids, N_CTX, err);
}

static crit_status load(scene *c, crit_error *err) {
    return crit_session_load(c->loaded, c->snapshot, err);
}

static crit_status open_batch(scene *c, crit_error *err) {
    crit_batch_params p;
    crit_batch_params_init(&p);
    p.n_seq = 3;
    p.tail_tok = 40;
    return crit_batch_open(&c->b, c->s, &p, err);
}

static crit_status fork_batch(scene *c, crit_error *err) {
    uint32_t seq;
    return crit_batch_fork(c->b, 0, &seq, err);
}

static crit_status decode_batch(scene *c, crit_error *err) {
    return crit_batch_decode(c->b, (uint32_t[]){0, 1}, c->tokens, 2, err);
}

static crit_status set_decode(scene *c, crit_error *err) {
    return crit_session_set_decode(c->s, c->decode, err);
}

static crit_status tokenize(scene *c, crit_error *err) {
    static const char text[] = "Two words <|im_end|> and 12,345 numbers\n\n  of any kind: \xff\xc3\xa9";
    int32_t ids[sizeof text];
    size_t n;
    return crit_tokenize(c->m, text, sizeof text - 1, CRIT_TOK_PARSE_SPECIAL, ids, sizeof text, &n, err);
}

static crit_status sampler(scene *c, crit_error *err) {
    crit_sampler *s;
    crit_status st = crit_sampler_open(&s, c->m, NULL, err);
    crit_sampler_close(&s);
    return st;
}

/* Fails each allocation of the call in turn.  The session's past stays what it was, and its logits with it. */
static void attack(scene *c, call fn, const char *name) {
    const uint32_t past = crit_session_n_past(c->s);
    const bool had = crit_logits(c->s);
    for (long n = 0;; n++) {
        crit_error err = {0};
        failed = false;
        left = n;
        const crit_status st = fn(c, &err);
        left = -1;
        if (!st) return;
        if (st != CRIT_E_NOMEM || err.code != st || !err.message[0] || !failed)
            fail_msg("%s, allocation %ld: %d, '%s'", name, n, st, err.message);
        if (crit_session_n_past(c->s) != past || (crit_logits(c->s) != NULL) != had)
            fail_msg("%s, allocation %ld: the session is not as before", name, n);
    }
}
#define ATTACK(c, fn) attack(c, fn, #fn)

static scene scene_of(const char *decode, const char *prefill, const char *kv, crit_attn mode) {
    static char path[512], snapshot[512];
    const char *dir = getenv("CRIT_TEST_TMP");
    snprintf(path, sizeof path, "%s/memory-%ld.gguf", dir ? dir : P_tmpdir, (long)getpid());
    snprintf(snapshot, sizeof snapshot, "%s/memory-%ld.cpkv", dir ? dir : P_tmpdir, (long)getpid());
    tiny_params p;
    tiny_params_init(&p);
    p.n_head = 4;
    p.n_kv_head = 2;
    p.d_head = 32;
    p.n_embd = 64;
    p.n_layer = 2;
    p.tok = TINY_TOK_GPT2;
    assert_int_equal(tiny_write(path, &p), 0);
    scene c = {
        .model_path = path, .snapshot = snapshot, .decode = decode, .prefill = prefill, .kv = kv, .mode = mode};
    uint64_t seed = 3;
    for (int i = 0; i < N_CTX; i++) c.tokens[i] = (int32_t)(tiny_rand(&seed) % 320);
    return c;
}

static void leave(scene *c) {
    crit_session_close(&c->s);
    crit_model_close(&c->m);
    unlink(c->model_path);
    unlink(c->snapshot);
}

static void models(void **state) {
    (void)state;
    scene c = scene_of(NULL, NULL, NULL, CRIT_ATTN_CRITI);
    ATTACK(&c, open_model);
    crit_model_info info = {.struct_size = sizeof info};
    assert_int_equal(crit_model_get_info(c.m, &info), CRIT_OK);
    assert_string_equal(info.tokenizer, "gpt2/qwen2"); /* not left out for want of memory */
    ATTACK(&c, tokenize);
    ATTACK(&c, sampler);
    leave(&c);
}

static void sessions(void **state) {
    (void)state;
    static const struct {
        const char *decode, *prefill, *kv;
        crit_attn mode;
    } kinds[] = {{NULL, NULL, NULL, CRIT_ATTN_CRITI},
                 {NULL, NULL, NULL, CRIT_ATTN_PAPER},
                 {"recycled:K=64,S=4,min=100", NULL, NULL, CRIT_ATTN_CRITI},
                 {"squeezed:min=64,W=32", NULL, NULL, CRIT_ATTN_CRITI},
                 {"subgen:k=64,window=64", NULL, NULL, CRIT_ATTN_DENSE},
                 {"tokenselect:k=64,local=64,init=32,min=100", NULL, NULL, CRIT_ATTN_CRITI},
                 {NULL, "tokenselect:k=64,local=64,init=32,chunk=128,min=128", NULL, CRIT_ATTN_CRITI},
                 {NULL, NULL, "think:lambda=0.5,from=100", CRIT_ATTN_CRITI}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        scene c = scene_of(kinds[i].decode, kinds[i].prefill, kinds[i].kv, kinds[i].mode);
        assert_int_equal(open_model(&c, NULL), CRIT_OK);
        ATTACK(&c, open_session);
        c.n = FIRST;
        ATTACK(&c, read_tokens);
        ATTACK(&c, decode);
        /* A prompt in two calls, the second of which fails: all of it is to be read again. */
        const uint32_t past = crit_session_n_past(c.s);
        bool done = false;
        for (long n = 0; !done; n++) {
            c.at = past;
            c.n = 40;
            c.more = true;
            assert_int_equal(read_tokens(&c, NULL), CRIT_OK);
            c.at += c.n;
            c.n = SECOND;
            c.more = false;
            left = n;
            const crit_status st = read_tokens(&c, NULL);
            left = -1;
            done = st == CRIT_OK;
            if (!done) assert_int_equal(st, CRIT_E_NOMEM);
            assert_int_equal(crit_session_n_past(c.s), done ? past + 40 + SECOND : past);
        }
        ATTACK(&c, decode);
        if (!kinds[i].kv) {
            ATTACK(&c, save);
            ATTACK(&c, read_info);
            assert_int_equal(open_one(&c.loaded, &c, NULL), CRIT_OK);
            ATTACK(&c, load);
            assert_memory_equal(crit_logits(c.loaded), crit_logits(c.s), 320 * sizeof(float));
            crit_session_close(&c.loaded);
        }
        ATTACK(&c, open_batch);
        ATTACK(&c, fork_batch);
        ATTACK(&c, decode_batch);
        ATTACK(&c, fork_batch);
        crit_batch_close(&c.b);
        ATTACK(&c, set_decode);
        ATTACK(&c, decode);
        leave(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(models), cmocka_unit_test(sessions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
