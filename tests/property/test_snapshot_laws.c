/* SPDX-License-Identifier: MIT */
/* Laws of snapshots, through the public API on synthetic models: a session that loads one goes on to the bit as the one
 * that saved it; another CPU level's is taken; whatever is damaged, cut off, newer, foreign or nonsense is refused with
 * the file's name in one line, and leaves the session as it was. */
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "critiprefill/policy.h"
#include "kv/kv.h"
#include "kv/snapshot.h"
#include "lib/session.h"
#include "model/model.h"
#include "tiny_model.h"

static const char *path_of(const char *what) {
    static char path[4][512];
    static int at;
    const char *dir = getenv("CRIT_TEST_TMP");
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[at], "%s/snapshot-%ld-%s", dir ? dir : P_tmpdir, (long)getpid(), what);
    return path[at];
}

static crit_model *open_model(uint64_t seed, const char *cpu) {
    tiny_params p;
    tiny_params_init(&p);
    p.n_head = 6;
    p.n_kv_head = 2;
    p.d_head = 32;
    p.n_embd = 64;
    p.n_layer = 3;
    p.seed = seed;
    return tiny_model(&p, cpu);
}

static crit_session *open_session(const crit_model *m, crit_attn mode, const char *decode, uint32_t threads,
                                  uint32_t n_ctx) {
    crit_session_params p;
    crit_session_params_init(&p);
    p.n_ctx = n_ctx;
    p.n_batch = 256;
    p.n_threads = threads;
    p.attn.mode = mode;
    p.attn.dense_until = 256;
    p.attn.last_tok = 128;
    p.attn.threshold = 512;
    p.attn.budget_tok = 128;
    p.decode = decode;
    crit_session *s = NULL;
    crit_error err;
    if (crit_session_open(&s, m, &p, &err)) fail_msg("%s", err.message);
    return s;
}

enum { N = 1230, MORE = 400, N_CTX = 2000 };

static int32_t *tokens(void) {
    static int32_t t[N + MORE + 64];
    uint64_t seed = 3;
    for (uint32_t i = 0; i < sizeof t / sizeof *t; i++)
        t[i] = i >= 500 && i % 7 ? t[i - 500] : (int32_t)(tiny_rand(&seed) % 320);
    return t;
}

static void read_more(crit_session *s, const int32_t *t, uint32_t n) {
    crit_error err;
    if (crit_prefill(s, t, n, NULL, &err)) fail_msg("%s", err.message);
}

/* One that has read N tokens and been saved. */
static crit_session *saved(const crit_model *m, crit_attn mode, const char *decode, const char *path, int zstd) {
    crit_error err;
    crit_session *s = open_session(m, mode, decode, 2, N_CTX);
    crit_save_params p;
    crit_save_params_init(&p);
    p.zstd = zstd;
    p.mark = 77;
    read_more(s, tokens(), N);
    if (crit_session_save(s, path, tokens(), N, &p, &err)) fail_msg("%s", err.message);
    return s;
}

static void same_logits(const crit_session *a, const crit_session *b) {
    assert_int_equal(crit_session_n_past(a), crit_session_n_past(b));
    assert_memory_equal(crit_logits(a), crit_logits(b), 320 * sizeof(float));
}

/* Decodes, reads a long question, decodes. */
static void go_on(crit_session *a, crit_session *b) {
    const int32_t *t = tokens() + N;
    same_logits(a, b);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(crit_decode(a, t[i], NULL), CRIT_OK);
        assert_int_equal(crit_decode(b, t[i], NULL), CRIT_OK);
        same_logits(a, b);
    }
    read_more(a, t + 5, MORE);
    read_more(b, t + 5, MORE);
    same_logits(a, b);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(crit_decode(a, t[MORE + 5 + i], NULL), CRIT_OK);
        assert_int_equal(crit_decode(b, t[MORE + 5 + i], NULL), CRIT_OK);
        same_logits(a, b);
    }
}

static void loaded_is_saved(void **state) {
    (void)state;
    static const struct {
        crit_attn mode;
        const char *decode;
        int zstd;
    } cases[] = {{CRIT_ATTN_CRITI, "full", 0},
                 {CRIT_ATTN_CRITI, "squeezed:min=256,levels=2,q=0.6", 0},
                 {CRIT_ATTN_DENSE, "squeezed:min=256,levels=1,q=0.5,c=0.1", 3},
                 {CRIT_ATTN_PAPER, NULL, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        crit_error err;
        crit_model *m = open_model(1, "auto");
        crit_session *a = saved(m, cases[i].mode, cases[i].decode, path_of("a"), cases[i].zstd);
        crit_session *b = open_session(m, cases[i].mode, cases[i].decode, 3, N_CTX + 100);
        crit_snapshot_info info = {.struct_size = sizeof info};
        int32_t ids[N] = {0};
        if (crit_snapshot_read_info(m, path_of("a"), &info, ids, N, &err)) fail_msg("%s", err.message);
        assert_memory_equal(ids, tokens(), sizeof ids);
        assert_int_equal(info.n_tok, N);
        assert_int_equal(info.mark, 77);
        assert_true(info.file_bytes > 0);
        bool squeezed = cases[i].decode && strstr(cases[i].decode, "squeezed");
        assert_string_equal(info.policy, squeezed ? "squeezed" : "");
        if (crit_session_load(b, path_of("a"), &err)) fail_msg("%s", err.message);
        crit_decode_stats d = {.struct_size = sizeof d};
        go_on(a, b);
        crit_session_decode_stats(b, false, &d);
        assert_true(squeezed ? d.moved_bytes < .9 * d.full_bytes : d.moved_bytes == d.full_bytes);
        crit_session_close(&a);
        crit_session_close(&b);
        crit_model_close(&m);
    }
    unlink(path_of("a"));
}

/* Clusters are taken with the thresholds of the session that loads them. */
static void options_still_count(void **state) {
    (void)state;
    crit_model *m = open_model(1, "auto");
    double part[3];
    static const char *const decode[] = {"squeezed:q=0.2,levels=1", "squeezed:q=0.95,levels=1", "full"};
    crit_session *a = saved(m, CRIT_ATTN_CRITI, "squeezed:min=256", path_of("a"), 0);
    crit_session_close(&a);
    for (int i = 0; i < 3; i++) {
        crit_session *b = open_session(m, CRIT_ATTN_CRITI, decode[i], 2, N_CTX);
        crit_decode_stats d = {.struct_size = sizeof d};
        assert_int_equal(crit_session_load(b, path_of("a"), NULL), CRIT_OK);
        for (int t = 0; t < 8; t++) assert_int_equal(crit_decode(b, tokens()[N + t], NULL), CRIT_OK);
        crit_session_decode_stats(b, false, &d);
        part[i] = d.moved_bytes / d.full_bytes;
        crit_session_close(&b);
    }
    assert_true(part[1] < part[0] && part[0] < part[2] && part[2] == 1);
    crit_model_close(&m);
    unlink(path_of("a"));
}

/* A second prompt that is read through clusters of the first, and makes its own of both. */
static void clusters_made_anew(void **state) {
    (void)state;
    enum { FIRST = 400, SECOND = 300 };
    const crit_attn modes[] = {CRIT_ATTN_CRITI, CRIT_ATTN_DENSE};
    for (size_t i = 0; i < 2; i++) {
        crit_error err;
        crit_model *m = open_model(1, "auto");
        crit_session *a = open_session(m, modes[i], "squeezed:min=64", 2, N_CTX), *b = NULL;
        read_more(a, tokens(), FIRST);
        read_more(a, tokens() + FIRST, SECOND);
        for (uint32_t l = 0; l < m->config.n_layer; l++) assert_int_equal(a->kv[l].n_tok, FIRST + SECOND);
        if (crit_session_save(a, path_of("a"), tokens(), FIRST + SECOND, NULL, &err)) fail_msg("%s", err.message);
        b = open_session(m, modes[i], "squeezed:min=64", 2, N_CTX);
        if (crit_session_load(b, path_of("a"), &err)) fail_msg("%s", err.message);
        go_on(a, b);
        crit_session_close(&a);
        crit_session_close(&b);
        crit_model_close(&m);
    }
    unlink(path_of("a"));
}

/* Is there anything beside the snapshots of this process that a save has begun? */
static bool parts_left(void) {
    const char *name = path_of("a"), *slash = strrchr(name, '/');
    char folder[512];
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - name), name);
    DIR *d = opendir(folder);
    assert_non_null(d);
    bool found = false;
    for (const struct dirent *e; (e = readdir(d));)
        if (!strncmp(e->d_name, slash + 1, strlen(slash + 1)) && strstr(e->d_name, ".part")) found = true;
    closedir(d);
    return found;
}

typedef struct saver {
    crit_session *s;
    const char *path;
    const int32_t *tokens;
    uint32_t n_tok;
    crit_status st; /* of the first save that failed */
    atomic_bool *end;
} saver;

static void *save_often(void *arg) {
    saver *v = arg;
    for (int i = 0; i < 40 && !v->st; i++) v->st = crit_session_save(v->s, v->path, v->tokens, v->n_tok, NULL, NULL);
    atomic_store(v->end, true);
    return NULL;
}

/* Who saves to one path at a time with others succeeds, and what is there is whole at any moment. */
static void savers_meet(void **state) {
    (void)state;
    crit_model *m = open_model(1, "auto");
    atomic_bool end[2] = {false, false};
    saver v[2];
    pthread_t thread[2];
    char path[512];
    snprintf(path, sizeof path, "%s", path_of("a"));
    for (uint32_t i = 0; i < 2; i++) {
        v[i] = (saver){.s = open_session(m, CRIT_ATTN_CRITI, NULL, 1, N_CTX), .path = path, .end = &end[i]};
        v[i].tokens = tokens();
        v[i].n_tok = 300 + 300 * i;
        read_more(v[i].s, v[i].tokens, v[i].n_tok);
    }
    assert_int_equal(crit_session_save(v[0].s, path, v[0].tokens, v[0].n_tok, NULL, NULL), CRIT_OK);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&thread[i], NULL, save_often, &v[i]), 0);
    crit_status st = CRIT_OK;
    crit_error err;
    while (!st && !(atomic_load(&end[0]) && atomic_load(&end[1]))) {
        crit_session *s = open_session(m, CRIT_ATTN_CRITI, NULL, 1, N_CTX);
        st = crit_session_load(s, path, &err);
        crit_session_close(&s);
    }
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    if (st) fail_msg("%s", err.message);
    assert_int_equal(v[0].st, CRIT_OK);
    assert_int_equal(v[1].st, CRIT_OK);
    assert_false(parts_left());
    for (int i = 0; i < 2; i++) crit_session_close(&v[i].s);
    crit_model_close(&m);
    unlink(path_of("a"));
}

static void other_levels_are_taken(void **state) {
    (void)state;
    static const char *const levels[] = {"auto", "avx2", "c"};
    for (int from = 0; from < 3; from++) {
        crit_model *m = open_model(1, levels[from]);
        if (!m) continue;
        crit_session *a = saved(m, CRIT_ATTN_DENSE, "squeezed:min=256", path_of("a"), 0);
        for (int to = 0; to < 3; to++) {
            crit_error err;
            crit_model *o = to == from ? NULL : open_model(1, levels[to]);
            if (!o) continue;
            crit_session *b = open_session(o, CRIT_ATTN_DENSE, "full", 2, N_CTX);
            if (crit_session_load(b, path_of("a"), &err)) fail_msg("%s", err.message);
            same_logits(a, b);
            /* And against the level's own reading.  Scores of these heads reach 30; keys in bf16 move them by up to
             * eta = 30 * 2^-8, and weights by a factor of e^(2 eta). */
            bool bf16 = m->kernels.kv_layout == CRIT_KV_BF16T || o->kernels.kv_layout == CRIT_KV_BF16T;
            double bound = bf16 ? exp(2 * 30 * 0x1p-8) - 1 : .01;
            crit_session *own = open_session(o, CRIT_ATTN_DENSE, "full", 2, N_CTX);
            read_more(own, tokens(), N);
            double top = 0, far = 0;
            for (int t = 0; t < 6; t++) {
                assert_int_equal(crit_decode(b, tokens()[N + t], NULL), CRIT_OK);
                assert_int_equal(crit_decode(own, tokens()[N + t], NULL), CRIT_OK);
                for (int i = 0; i < 320; i++) {
                    top = fmax(top, fabs((double)crit_logits(own)[i]));
                    far = fmax(far, fabs((double)crit_logits(own)[i] - (double)crit_logits(b)[i]));
                }
            }
            if (!(far < bound * top)) fail_msg("%s to %s: %g of %g", levels[from], levels[to], far, top);
            crit_session_close(&own);
            crit_session_close(&b);
            crit_model_close(&o);
        }
        crit_session_close(&a);
        crit_model_close(&m);
    }
    unlink(path_of("a"));
}

/* Keys and values from one layout into the other: to bf16 they are rounded once, from it they stay what they are. */
static void layouts_convert(void **state) {
    (void)state;
    enum { D = 40, KEYS = 77 };
    crit_kernels f16, own;
    crit_kernels_init(&f16, 0);
    crit_kernels_init(&own, crit_cpu_detect());
    const crit_kernels *kt[] = {&f16, &own};
    float k[KEYS * D], v[KEYS * D], had[2][KEYS * D], got[2][KEYS * D];
    uint64_t rng = 11;
    for (int i = 0; i < KEYS * D; i++) k[i] = tiny_normal(&rng), v[i] = 3 * tiny_normal(&rng);
    for (int from = 0; from < 2; from++) {
        crit_kv a, b, c;
        assert_int_equal(crit_kv_init(&a, kt[from], 2, D, 100, NULL), CRIT_OK);
        assert_int_equal(crit_kv_init(&b, kt[1 - from], 2, D, 200, NULL), CRIT_OK);
        assert_int_equal(crit_kv_init(&c, kt[from], 2, D, 200, NULL), CRIT_OK);
        crit_kv_put(&a, 1, 0, KEYS, k, D, v, D);
        crit_kv_get(&a, 1, 0, KEYS, had[0], had[1]);
        crit_kv_import(&b, 1, kt[from]->kv_layout, crit_kv_k(&a, 1), crit_kv_v(&a, 1), KEYS);
        crit_kv_get(&b, 1, 0, KEYS, got[0], got[1]);
        bool coarser = kt[1 - from]->kv_layout == CRIT_KV_BF16T && kt[from]->kv_layout == CRIT_KV_F16;
        for (int i = 0; i < KEYS * D; i++)
            for (int x = 0; x < 2; x++) {
                double err = fabs((double)had[x][i] - (double)got[x][i]);
                assert_true(coarser ? err <= 0x1p-8 * fabs((double)had[x][i]) : err == 0);
            }
        /* In the own layout the statistics are those of a store that grew. */
        crit_kv_import(&c, 1, kt[from]->kv_layout, crit_kv_k(&a, 1), crit_kv_v(&a, 1), KEYS);
        for (int i = 0; i < 3; i++) {
            const float *of_a = i == 0   ? a.kmax
                                : i == 1 ? a.kmin
                                         : a.ksum,
                        *of_c = i == 0   ? c.kmax
                                : i == 1 ? c.kmin
                                         : c.ksum;
            assert_memory_equal(crit_kv_stat(&a, of_a, 1), crit_kv_stat(&c, of_c, 1), 3 * D * sizeof(float));
        }
        crit_kv_clear(&a), crit_kv_clear(&b), crit_kv_clear(&c);
    }
}

/* ---- what is refused ---- */

typedef struct bytes {
    unsigned char *p;
    size_t n;
} bytes;

static bytes file_bytes(const char *path) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    bytes b = {NULL, (size_t)ftell(f)};
    rewind(f);
    b.p = malloc(b.n);
    assert_non_null(b.p);
    assert_int_equal(fread(b.p, 1, b.n, f), b.n);
    fclose(f);
    return b;
}

static void write_bytes(const char *path, const unsigned char *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Refused in one line that names the file, by info or by load; the session has no past, and reads. */
static void refused(const crit_model *m, crit_session *s, const char *path, crit_status want, const char *why) {
    crit_error err = {0};
    crit_status st = crit_session_load(s, path, &err);
    if (st != want) fail_msg("%s: %d, not %d (%s)", why, st, want, err.message);
    if (!strstr(err.message, path) || !strstr(err.message, why) || strchr(err.message, '\n'))
        fail_msg("'%s' does not say '%s' of '%s'", err.message, why, path);
    assert_int_equal(crit_session_n_past(s), 0);
    assert_null(crit_logits(s));
    (void)m;
}

static void damage_is_found(void **state) {
    (void)state;
    for (int zstd = 0; zstd < 2; zstd++) {
        crit_model *m = open_model(1, "auto");
        crit_session *s = saved(m, CRIT_ATTN_CRITI, "squeezed:min=256", path_of("a"), zstd), *fresh;
        crit_session_close(&s);
        bytes b = file_bytes(path_of("a"));
        s = open_session(m, CRIT_ATTN_CRITI, "squeezed:min=256", 2, N_CTX);
        fresh = open_session(m, CRIT_ATTN_CRITI, "squeezed:min=256", 2, N_CTX);
        const char *bad = path_of("bad");
        uint64_t rng = 5;
        /* Every byte of the header and of the table's first entries, then here and there to the end. */
        for (size_t at = 0; at < b.n; at += at < 400 ? 1 : 1 + tiny_rand(&rng) % (b.n / 60)) {
            unsigned char bit = (unsigned char)(1u << tiny_rand(&rng) % 8);
            b.p[at] ^= bit;
            write_bytes(bad, b.p, b.n);
            crit_error err = {0};
            crit_status st = crit_session_load(s, bad, &err);
            if (!st || !strstr(err.message, bad) || crit_session_n_past(s) || crit_logits(s))
                fail_msg("byte %zu: %d, %s", at, st, err.message);
            b.p[at] ^= bit;
        }
        uint32_t n_section;
        memcpy(&n_section, b.p + 12, sizeof n_section);
        /* The first section has the tokens, which loading has no use for. */
        const size_t ends[] = {72 + 48 * (size_t)n_section, b.n - 1};
        for (int i = 0; i < 2; i++) {
            b.p[ends[i]] ^= 1;
            write_bytes(bad, b.p, b.n);
            refused(m, s, bad, CRIT_E_FORMAT, "damaged");
            b.p[ends[i]] ^= 1;
        }
        for (size_t n = 0; n < b.n; n += n < 200 ? 1 : b.n / 23) {
            write_bytes(bad, b.p, n);
            refused(m, s, bad, CRIT_E_FORMAT, n < 8 ? "is no snapshot" : "truncated");
        }
        unsigned char *longer = malloc(b.n + 1);
        assert_non_null(longer);
        memcpy(longer, b.p, b.n);
        longer[b.n] = 0;
        write_bytes(bad, longer, b.n + 1);
        refused(m, s, bad, CRIT_E_FORMAT, "damaged");
        free(longer);
        b.p[8]++; /* the version */
        write_bytes(bad, b.p, b.n);
        refused(m, s, bad, CRIT_E_UNSUPPORTED, "version 3, this program reads version 2");
        tiny_params other;
        tiny_params_init(&other);
        assert_int_equal(tiny_write(bad, &other), 0);
        refused(m, s, bad, CRIT_E_FORMAT, "is no snapshot");
        refused(m, s, path_of("absent"), CRIT_E_IO, "No such file");
        /* None of it has left anything behind. */
        read_more(s, tokens(), N);
        read_more(fresh, tokens(), N);
        go_on(s, fresh);
        crit_session_close(&s);
        crit_session_close(&fresh);
        crit_model_close(&m);
        free(b.p);
    }
    unlink(path_of("a"));
    unlink(path_of("bad"));
}

static int at_once(void *user) {
    return user != NULL;
}

static void states_and_limits(void **state) {
    (void)state;
    crit_error err = {0};
    crit_model *m = open_model(1, "auto"), *other = NULL;
    crit_session *s = open_session(m, CRIT_ATTN_CRITI, NULL, 1, N_CTX);
    const char *a = path_of("a");
    assert_int_equal(crit_session_save(s, a, tokens(), 0, NULL, &err), CRIT_E_STATE);
    crit_session_close(&s);
    s = saved(m, CRIT_ATTN_CRITI, NULL, a, 0);
    assert_int_equal(crit_session_save(s, a, tokens(), N - 1, NULL, &err), CRIT_E_ARG);
    crit_save_params p;
    crit_save_params_init(&p);
    p.zstd = 20;
    assert_int_equal(crit_session_save(s, a, tokens(), N, &p, &err), CRIT_E_ARG);
    assert_int_equal(crit_session_save(s, path_of("no/such/folder"), tokens(), N, NULL, &err), CRIT_E_IO);
    assert_int_equal(crit_session_load(s, a, &err), CRIT_E_STATE);
    /* A save that is cancelled, and one onto what is no file, leave what is there. */
    const char *pipe = path_of("pipe");
    struct stat there;
    crit_save_params_init(&p);
    p.poll = at_once;
    p.poll_user = &there;
    p.zstd = 3; /* would be another file */
    assert_int_equal(stat(a, &there), 0);
    const off_t size = there.st_size;
    assert_int_equal(crit_session_save(s, a, tokens(), N, &p, &err), CRIT_E_CANCELLED);
    assert_int_equal(stat(a, &there), 0);
    assert_int_equal(there.st_size, size);
    assert_false(parts_left());
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(crit_session_save(s, pipe, tokens(), N, NULL, &err), CRIT_E_IO);
    assert_int_equal(stat(pipe, &there), 0);
    assert_true(S_ISFIFO(there.st_mode));
    unlink(pipe);
    crit_session_close(&s);
    s = open_session(m, CRIT_ATTN_CRITI, NULL, 1, N_CTX);
    crit_stats stats = {.struct_size = sizeof stats};
    assert_int_equal(crit_session_stats(s, &stats), CRIT_E_STATE);
    assert_int_equal(crit_session_load(s, a, &err), CRIT_OK);
    assert_int_equal(crit_session_stats(s, &stats), CRIT_OK); /* of a prompt of nothing, over keys that are there */
    assert_true(stats.n_tok == 0 && stats.kv_bytes > 0 && isnan(stats.density) && isnan(stats.peak_recall_measured));
    crit_session_close(&s);
    s = open_session(m, CRIT_ATTN_CRITI, NULL, 1, N - 1);
    refused(m, s, a, CRIT_E_CONTEXT, "do not fit");
    crit_session_close(&s);
    crit_model_close(&m);
    other = open_model(2, "auto");
    s = open_session(other, CRIT_ATTN_CRITI, NULL, 1, N_CTX);
    refused(other, s, a, CRIT_E_VALUE, "another model");
    crit_session_close(&s);
    crit_model_close(&other);
    unlink(a);
}

/* Right sums over wrong contents: every section in turn is changed and put back with its sum.  What is taken works. */
static void nonsense_is_survived(void **state) {
    (void)state;
    enum { MAX_SECTION = 64 };
    crit_model *m = open_model(1, "auto");
    const char *a = path_of("a"), *bad = path_of("bad");
    crit_session *s = saved(m, CRIT_ATTN_CRITI, "squeezed:min=256", a, 0);
    crit_session_close(&s);
    crit_snapshot *f;
    crit_snapshot_section section[MAX_SECTION];
    uint32_t n = 0, n_taken = 0, n_refused = 0;
    assert_int_equal(crit_snapshot_open(&f, a, NULL), CRIT_OK);
    for (uint32_t kind = 1; kind < 8; kind++)
        for (uint32_t i = 0; i < 16; i++) {
            size_t size;
            if (!crit_snapshot_find(f, kind, i, &size)) continue;
            void *p = malloc(size);
            assert_non_null(p);
            assert_int_equal(crit_snapshot_read(f, &(crit_snapshot_want){kind, i, p, size}, 1, NULL, NULL), CRIT_OK);
            section[n++] = (crit_snapshot_section){kind, i, p, size};
        }
    crit_pool *pool;
    assert_int_equal(crit_pool_open(&pool, 1, false, NULL), CRIT_OK);
    uint64_t rng = 9;
    for (uint32_t round = 0; round < 160; round++) {
        /* Tokens, calibration and clusters: sections that are looked into; sometimes one is cut short or missing. */
        uint32_t which = tiny_rand(&rng) % n;
        while (section[which].kind == 2 || section[which].kind == 3 || section[which].kind == 5)
            which = (uint32_t)(tiny_rand(&rng) % n);
        crit_snapshot_section was = section[which], *x = &section[which];
        unsigned char *copy = malloc(was.bytes);
        assert_non_null(copy);
        memcpy(copy, was.data, was.bytes);
        x->data = copy;
        uint32_t how = tiny_rand(&rng) % 4;
        size_t at =
            tiny_rand(&rng) % 3 ? tiny_rand(&rng) % (was.bytes < 300 ? was.bytes : 300) : tiny_rand(&rng) % was.bytes;
        if (how == 0)
            x->bytes = at;
        else if (how == 1)
            x->kind = 99;
        else
            for (int k = 0; k < 4 && at + (size_t)k < was.bytes; k++)
                copy[at + (size_t)k] = (unsigned char)tiny_rand(&rng);
        assert_int_equal(crit_snapshot_write(bad, crit_snapshot_get_head(f), section, n, 0, pool, NULL), CRIT_OK);
        crit_error err = {0};
        s = open_session(m, CRIT_ATTN_CRITI, "squeezed:min=256", 2, N_CTX);
        crit_status st = crit_session_load(s, bad, &err);
        if (st) {
            n_refused++;
            if (!strstr(err.message, bad)) fail_msg("'%s' does not name %s", err.message, bad);
            assert_int_equal(crit_session_n_past(s), 0);
        } else {
            n_taken++;
            read_more(s, tokens() + N, 150);
            assert_int_equal(crit_decode(s, 7, NULL), CRIT_OK);
        }
        crit_session_close(&s);
        *x = was;
        free(copy);
    }
    assert_true(n_refused > 20 && n_taken > 20);
    for (uint32_t i = 0; i < n; i++) free((void *)(uintptr_t)section[i].data);
    crit_pool_close(&pool);
    crit_snapshot_close(&f);
    crit_model_close(&m);
    unlink(a);
    unlink(bad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loaded_is_saved),    cmocka_unit_test(options_still_count),
        cmocka_unit_test(clusters_made_anew), cmocka_unit_test(savers_meet),
        cmocka_unit_test(layouts_convert),    cmocka_unit_test(other_levels_are_taken),
        cmocka_unit_test(damage_is_found),    cmocka_unit_test(states_and_limits),
        cmocka_unit_test(nonsense_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
