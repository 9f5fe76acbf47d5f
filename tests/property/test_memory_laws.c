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

#include "critiprefill/attention.h"
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

/* ---- tier 2 ---- */

enum { LAYERS = 2, HEADS = 8, D = 32, CHUNK = 256, KEYS = 2 * CHUNK };
static const uint32_t kv_heads[LAYERS] = {1, 4};

/* Two layers of one engine; the second has more KV heads, so that what the engine keeps for both has to grow. */
typedef struct layers {
    crit_attn mode;
    crit_engine *engine;
    crit_kv *kv[LAYERS];
    crit_plan *plan[LAYERS];
    uint32_t at, pos0; /* the layer that is worked on, and its queries' first position */
    float q[CHUNK * HEADS * D], k[CHUNK * HEADS * D], v[CHUNK * HEADS * D];
    float out[CHUNK * HEADS * D];
} layers;

typedef crit_status (*layer_call)(layers *a, crit_error *err);

static crit_status open_engine(layers *a, crit_error *err) {
    return crit_engine_open(&a->engine, NULL, 2, err);
}

static crit_status open_kv(layers *a, crit_error *err) {
    return crit_kv_open(&a->kv[a->at], a->engine, kv_heads[a->at], D, KEYS, err);
}

static crit_status append(layers *a, crit_error *err) {
    return crit_kv_append(a->kv[a->at], a->k, HEADS * D, a->v, HEADS * D, CHUNK, err);
}

static crit_status open_plan(layers *a, crit_error *err) {
    crit_attn_params p;
    crit_attn_params_init(&p);
    p.mode = a->mode;
    p.dense_until = p.last_tok = p.seg_len = p.threshold = p.budget_tok = 128;
    return crit_plan_open(&a->plan[a->at], a->engine, HEADS, kv_heads[a->at], D, &p, err);
}

static crit_status build(layers *a, crit_error *err) {
    return crit_plan_build(a->plan[a->at], a->kv[a->at], a->q, HEADS * D, a->pos0, CHUNK, 0, 0.2f, NULL, err);
}

static crit_status attend(layers *a, crit_error *err) {
    return crit_attention_run(a->plan[a->at], a->kv[a->at], a->q, HEADS * D, a->out, HEADS * D, err);
}

static crit_status step(layers *a, crit_error *err) {
    return crit_attention_decode(a->kv[a->at], a->q, HEADS, 0.2f, a->out, err);
}

/* Fails each allocation of the call in turn; returns how many there were.  What was there before goes on: the first
 * layer's plan, once it is built, gives want. */
static long attack_layer(layers *a, layer_call fn, const char *name, const float *want) {
    for (long n = 0;; n++) {
        crit_error err = {0};
        const uint32_t had = crit_kv_len(a->kv[a->at]);
        failed = false;
        left = n;
        const crit_status st = fn(a, &err);
        left = -1;
        if (!st) return n;
        if (st != CRIT_E_NOMEM || err.code != st || !err.message[0] || !failed)
            fail_msg("%s, allocation %ld: %d, '%s'", name, n, st, err.message);
        if (crit_kv_len(a->kv[a->at]) != had) fail_msg("%s, allocation %ld: the store is not as before", name, n);
        if (!want) continue;
        const uint32_t at = a->at;
        a->at = 0;
        assert_int_equal(attend(a, &err), CRIT_OK);
        if (memcmp(a->out, want, sizeof a->out)) fail_msg("%s, allocation %ld: another plan gives other bits", name, n);
        a->at = at;
    }
}
#define ATTACK_LAYER(a, fn, want) attack_layer(a, fn, #fn, want)

static void attention(void **state) {
    (void)state;
    static layers a;
    static float first[CHUNK * HEADS * D], once[CHUNK * HEADS * D];
    for (int mode = CRIT_ATTN_CRITI; mode <= CRIT_ATTN_PAPER; mode++) {
        uint64_t seed = 5;
        memset(&a, 0, sizeof a);
        a.mode = (crit_attn)mode;
        for (size_t i = 0; i < CHUNK * HEADS * D; i++) {
            a.q[i] = (float)(tiny_rand(&seed) % 2001) / 1000.0f - 1;
            a.k[i] = (float)(tiny_rand(&seed) % 2001) / 1000.0f - 1;
            a.v[i] = (float)(tiny_rand(&seed) % 2001) / 1000.0f - 1;
        }
        assert_true(ATTACK_LAYER(&a, open_engine, NULL) > 0);
        for (a.at = 0; a.at < LAYERS; a.at++) {
            assert_true(ATTACK_LAYER(&a, open_kv, NULL) > 0);
            assert_true(ATTACK_LAYER(&a, open_plan, NULL) > 0);
        }
        a.at = 0;
        assert_int_equal(ATTACK_LAYER(&a, append, NULL), 0);
        assert_true(ATTACK_LAYER(&a, build, NULL) > 0);
        assert_int_equal(ATTACK_LAYER(&a, attend, NULL), 0);
        memcpy(first, a.out, sizeof first);
        assert_true(ATTACK_LAYER(&a, step, first) > 0);
        for (a.at = 1, a.pos0 = 0; a.pos0 < KEYS; a.pos0 += CHUNK) {
            assert_int_equal(ATTACK_LAYER(&a, append, first), 0);
            ATTACK_LAYER(&a, build, first);
            assert_int_equal(ATTACK_LAYER(&a, attend, first), 0);
        }
        /* What failed has left nothing in the second plan: one that nothing happened to gives the same. */
        memcpy(once, a.out, sizeof once);
        crit_plan_close(&a.plan[1]);
        assert_int_equal(open_plan(&a, NULL), CRIT_OK);
        assert_int_equal(crit_kv_truncate(a.kv[1], 0, NULL), CRIT_OK);
        for (a.pos0 = 0; a.pos0 < KEYS; a.pos0 += CHUNK) {
            assert_int_equal(append(&a, NULL), CRIT_OK);
            assert_int_equal(build(&a, NULL), CRIT_OK);
            assert_int_equal(attend(&a, NULL), CRIT_OK);
        }
        assert_memory_equal(a.out, once, sizeof once);
        ATTACK_LAYER(&a, step, first);
        assert_int_equal(step(&a, NULL), CRIT_OK);
        for (int i = 0; i < LAYERS; i++) {
            crit_plan_close(&a.plan[i]);
            crit_kv_close(&a.kv[i]);
        }
        crit_engine_close(&a.engine);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(models), cmocka_unit_test(sessions),
                                       cmocka_unit_test(attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
