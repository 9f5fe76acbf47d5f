/* SPDX-License-Identifier: MIT */
/* The GGUF reader: good files of both versions give back what was written; every kind of bad file is refused with the
 * right status and one line that names the file.  Files cut at every length and with every header byte changed must
 * be loaded or refused, never crash (the sanitizer build watches). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/gguf.h"
#include "tiny/tiny.h"

static char dir[256], file[320];

static int make_dir(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/crit-gguf-XXXXXX", base && *base ? base : P_tmpdir);
    if (!mkdtemp(dir)) return -1;
    snprintf(file, sizeof file, "%s/m.gguf", dir);
    return 0;
}

static int drop_dir(void **state) {
    (void)state;
    unlink(file);
    return rmdir(dir);
}

static gguf *opened(const char *path) {
    gguf *g;
    crit_error err;
    if (gguf_open(&g, path, &err)) fail_msg("%s", err.message);
    return g;
}

/* Writes the bytes, expects the refusal, frees the bytes. */
static void refused(unsigned char *p, size_t len, crit_status code, const char *part) {
    gguf *g = (gguf *)1;
    crit_error err = {CRIT_OK, "untouched"};
    assert_int_equal(gw_save(file, p, len), 0);
    free(p);
    const crit_status st = gguf_open(&g, file, &err);
    if (st != code) fail_msg("status %d, expected %d (%s): %s", st, code, part, err.message);
    assert_null(g);
    assert_int_equal(err.code, code);
    assert_int_equal(strncmp(err.message, file, strlen(file)), 0);
    assert_null(strchr(err.message, '\n'));
    if (!strstr(err.message, part)) fail_msg("'%s' lacks '%s'", err.message, part);
    assert_int_equal(gguf_open(&g, file, NULL), code);
}

static unsigned char *tiny(size_t *len) {
    tiny_params p;
    tiny_params_init(&p);
    return tiny_build(&p, len);
}

/* ---- good files ---- */

static void opens_both_versions(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        tiny_params p;
        tiny_params_init(&p);
        p.version = version;
        p.align = version == 3 ? 32 : 256;
        p.arch = "qwen2";
        assert_int_equal(tiny_write(file, &p), 0);
        gguf *g = opened(file);
        assert_string_equal(gguf_path(g), file);
        assert_int_equal(gguf_n_tensor(g), 3 + p.n_layer * 12);
        struct stat sb;
        assert_int_equal(stat(file, &sb), 0);
        assert_int_equal(gguf_file_bytes(g), sb.st_size);
        for (size_t i = 0; i < gguf_n_tensor(g); i++) {
            const gguf_tensor *t = gguf_tensor_at(g, i);
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.ptr);
            assert_ptr_equal(gguf_find_tensor(g, name), t);
            assert_int_equal((uintptr_t)t->data % p.align, 0);
            assert_int_equal(t->bytes, t->row_bytes * t->ne[1]);
        }
        const gguf_tensor *t = gguf_find_tensor(g, "blk.1.ffn_down.weight");
        assert_non_null(t);
        assert_int_equal(t->ne[0], p.n_ff);
        assert_int_equal(t->ne[1], p.n_embd);
        assert_int_equal(t->ne[3], 1);
        assert_null(gguf_find_tensor(g, "blk.1.ffn_down.weigh"));
        assert_null(gguf_find_tensor(g, ""));
        assert_null(gguf_tensor_at(g, gguf_n_tensor(g)));
        for (size_t i = 0; i < gguf_n_kv(g); i++) {
            const gguf_str k = gguf_kv_key(g, i);
            char key[128];
            snprintf(key, sizeof key, "%.*s", (int)k.len, k.ptr);
            assert_true(gguf_has(g, key));
        }
        assert_int_equal(gguf_kv_key(g, gguf_n_kv(g)).len, 0);
        gguf_close(&g);
        assert_null(g);
        gguf_close(&g);
    }
    gguf_close(NULL);
}

static void values_come_back(void **state) {
    (void)state;
    gw w;
    gw_init(&w, 3, 32);
#define NUMBER(key, type, ctype, value)                                                                                \
    do {                                                                                                               \
        const ctype x_ = value;                                                                                        \
        gw_kv_raw(&w, key, type, &x_, sizeof x_);                                                                      \
    } while (0)
    NUMBER("u8", GGUF_U8, uint8_t, 200);
    NUMBER("i8", GGUF_I8, int8_t, -100);
    NUMBER("u16", GGUF_U16, uint16_t, 60000);
    NUMBER("i16", GGUF_I16, int16_t, -30000);
    NUMBER("u32", GGUF_U32, uint32_t, 4000000000u);
    NUMBER("i32", GGUF_I32, int32_t, -2000000000);
    NUMBER("u64", GGUF_U64, uint64_t, UINT64_MAX);
    NUMBER("i64", GGUF_I64, int64_t, 77);
    NUMBER("f32", GGUF_F32, float, 0.5f);
    NUMBER("f64", GGUF_F64, double, 0.1);
    NUMBER("bad bool", GGUF_BOOL, uint8_t, 7);
    gw_kv_bool(&w, "yes", 1);
    gw_kv_str(&w, "empty", "");
    gw_kv_str(&w, "text", "caf\xc3\xa9\n");
    const char *const strs[] = {"", "a", "bcd"};
    gw_kv_strs(&w, "strs", strs, 3);
    gw_kv_strs(&w, "no strs", strs, 0);
    const int16_t shorts[] = {-1, 2, -3};
    gw_kv_arr(&w, "shorts", GGUF_I16, shorts, 2, 3);
    const float floats[] = {1.5f, -2};
    gw_kv_arr(&w, "floats", GGUF_F32, floats, 4, 2);
    gw_buf nest = {0}; /* [[u8 1, u8 2], ["x"]] */
    gw_put_u32(&nest, GGUF_ARR), gw_put_u64(&nest, 2);
    gw_put_u32(&nest, GGUF_U8), gw_put_u64(&nest, 2), gw_put(&nest, "\1\2", 2);
    gw_put_u32(&nest, GGUF_STR), gw_put_u64(&nest, 1), gw_put_str(&nest, "x");
    gw_kv_raw(&w, "nest", GGUF_ARR, nest.p, nest.len);
    free(nest.p);
    gw_kv_u32(&w, "last", 9);
    size_t len;
    unsigned char *p = gw_finish(&w, &len);
    assert_int_equal(gw_save(file, p, len), 0);
    free(p);

    gguf *g = opened(file);
    uint64_t u = 0;
    int64_t i = 0;
    double f = 0;
    bool b = false;
    gguf_str s;
    gguf_vtype e;
    size_t n;
    assert_true(gguf_get_u64(g, "u8", &u) && u == 200);
    assert_true(gguf_get_i64(g, "i8", &i) && i == -100);
    assert_false(gguf_get_u64(g, "i8", &u));
    assert_true(gguf_get_u64(g, "u16", &u) && u == 60000);
    assert_true(gguf_get_i64(g, "i16", &i) && i == -30000);
    assert_true(gguf_get_u64(g, "u32", &u) && u == 4000000000u);
    assert_true(gguf_get_i64(g, "u32", &i) && i == 4000000000);
    assert_true(gguf_get_i64(g, "i32", &i) && i == -2000000000);
    assert_true(gguf_get_u64(g, "u64", &u) && u == UINT64_MAX);
    assert_false(gguf_get_i64(g, "u64", &i));
    assert_true(gguf_get_u64(g, "i64", &u) && u == 77);
    assert_true(gguf_get_f64(g, "f32", &f) && f == 0.5);
    assert_true(gguf_get_f64(g, "f64", &f) && f == 0.1);
    assert_true(gguf_get_f64(g, "i16", &f) && f == -30000);
    assert_false(gguf_get_u64(g, "f32", &u));
    assert_true(gguf_get_bool(g, "yes", &b) && b);
    assert_true(gguf_get_u64(g, "yes", &u) && u == 1);
    assert_false(gguf_get_bool(g, "bad bool", &b));
    assert_false(gguf_get_bool(g, "text", &b));
    assert_true(gguf_get_str(g, "empty", &s) && s.len == 0);
    assert_true(gguf_get_str(g, "text", &s) && s.len == 6 && !memcmp(s.ptr, "caf\xc3\xa9\n", 6));
    assert_false(gguf_get_str(g, "u8", &s));
    assert_false(gguf_get_f64(g, "text", &f));
    assert_true(gguf_get_arr(g, "strs", &e, &n) && e == GGUF_STR && n == 3);
    for (size_t k = 0; k < 3; k++)
        assert_true(gguf_arr_str(g, "strs", k, &s) && s.len == strlen(strs[k]) && !memcmp(s.ptr, strs[k], s.len));
    assert_false(gguf_arr_str(g, "strs", 3, &s));
    assert_false(gguf_arr_i64(g, "strs", 0, &i));
    assert_true(gguf_get_arr(g, "no strs", &e, &n) && n == 0);
    assert_true(gguf_get_arr(g, "shorts", &e, &n) && e == GGUF_I16 && n == 3);
    assert_true(gguf_arr_i64(g, "shorts", 2, &i) && i == -3);
    assert_true(gguf_arr_f64(g, "shorts", 1, &f) && f == 2);
    assert_false(gguf_arr_i64(g, "shorts", 3, &i));
    assert_true(gguf_arr_f64(g, "floats", 1, &f) && f == -2);
    assert_false(gguf_arr_i64(g, "floats", 1, &i));
    assert_false(gguf_arr_str(g, "floats", 1, &s));
    assert_true(gguf_get_arr(g, "nest", &e, &n) && e == GGUF_ARR && n == 2);
    assert_false(gguf_arr_i64(g, "nest", 0, &i));
    assert_true(gguf_get_u64(g, "last", &u) && u == 9);
    assert_false(gguf_get_arr(g, "u8", &e, &n));
    assert_false(gguf_has(g, "absent"));
    assert_false(gguf_get_u64(g, "absent", &u));
    gguf_close(&g);
}

/* ---- refusals ---- */

static void refuses_what_is_no_gguf(void **state) {
    (void)state;
    size_t len;
    unsigned char *p;
    refused(calloc(1, 1), 0, CRIT_E_FORMAT, "is empty");
    refused((unsigned char *)strdup("GG"), 2, CRIT_E_FORMAT, "truncated or damaged in the header");
    refused((unsigned char *)strdup("PK"), 2, CRIT_E_FORMAT, "not a GGUF file");
    refused((unsigned char *)strdup("{\"a\": \"long enough to be a header\"}"), 36, CRIT_E_FORMAT, "not a GGUF file");
    p = tiny(&len), p[0] = 'g';
    refused(p, len, CRIT_E_FORMAT, "no magic");
    p = tiny(&len), p[4] = 1;
    refused(p, len, CRIT_E_UNSUPPORTED, "GGUF version 1");
    p = tiny(&len), p[4] = 4;
    refused(p, len, CRIT_E_UNSUPPORTED, "GGUF version 4");
    p = tiny(&len), p[4] = 0, p[7] = 3;
    refused(p, len, CRIT_E_UNSUPPORTED, "big-endian");
    p = tiny(&len), memcpy(p, "FUGG", 4);
    refused(p, len, CRIT_E_UNSUPPORTED, "big-endian");

    gguf *g;
    crit_error err;
    assert_int_equal(gguf_open(&g, dir, &err), CRIT_E_IO);
    assert_non_null(strstr(err.message, "directory"));
    unlink(file);
    assert_int_equal(gguf_open(&g, file, &err), CRIT_E_IO);
    assert_non_null(strstr(err.message, file));
    assert_int_equal(mkfifo(file, 0600), 0); /* must not wait for a writer */
    assert_int_equal(gguf_open(&g, file, &err), CRIT_E_IO);
    unlink(file);
    assert_int_equal(gguf_open(&g, NULL, &err), CRIT_E_ARG);
    assert_int_equal(gguf_open(NULL, file, &err), CRIT_E_ARG);
    char longer[2000];
    memset(longer, 'p', sizeof longer - 1), longer[sizeof longer - 1] = 0;
    assert_int_equal(gguf_open(&g, longer, &err), CRIT_E_IO);
    assert_non_null(strstr(err.message, "ppp: ")); /* the reason is not cut off */
}

static void put_u64(unsigned char *p, uint64_t v) {
    memcpy(p, &v, 8);
}

static void refuses_absurd_counts(void **state) {
    (void)state;
    size_t len;
    unsigned char *p;
    p = tiny(&len), put_u64(p + 8, UINT64_MAX);
    refused(p, len, CRIT_E_FORMAT, "counts");
    p = tiny(&len), put_u64(p + 16, UINT64_C(1) << 40);
    refused(p, len, CRIT_E_FORMAT, "counts");
    p = tiny(&len), put_u64(p + 16, 60000);
    refused(p, len, CRIT_E_FORMAT, "damaged");
    p = tiny(&len), put_u64(p + 24, UINT64_MAX - 4); /* length of the first key */
    refused(p, len, CRIT_E_FORMAT, "truncated or damaged in the metadata");
    p = tiny(&len), put_u64(p + 24, 0);
    refused(p, len, CRIT_E_FORMAT, "a name of 0 bytes");
}

/* One key of the given type and payload in front of a model that is well. */
static uint32_t extra_type;
static gw_buf extra_payload;
static void add_extra(gw *w) {
    gw_kv_raw(w, "x", extra_type, extra_payload.p, extra_payload.len);
}

static void refused_value(uint32_t type, crit_status code, const char *part) {
    tiny_params p;
    size_t len;
    tiny_params_init(&p);
    p.extra = add_extra;
    extra_type = type;
    unsigned char *bytes = tiny_build(&p, &len);
    free(extra_payload.p);
    memset(&extra_payload, 0, sizeof extra_payload);
    refused(bytes, len, code, part);
}

static void refuses_bad_values(void **state) {
    (void)state;
    gw_buf *e = &extra_payload;
    refused_value(13, CRIT_E_FORMAT, "value type 13");
    refused_value(UINT32_MAX, CRIT_E_FORMAT, "does not exist");
    gw_put_u64(e, UINT64_MAX);
    refused_value(GGUF_STR, CRIT_E_FORMAT, "truncated or damaged");
    gw_put_u32(e, 99), gw_put_u64(e, 1);
    refused_value(GGUF_ARR, CRIT_E_FORMAT, "value type 99");
    for (uint32_t t = 0; t <= GGUF_F64; t++) { /* counts that overflow, and that only exceed the file */
        gw_put_u32(e, t), gw_put_u64(e, UINT64_MAX / 4 + 2);
        refused_value(GGUF_ARR, CRIT_E_FORMAT, t == GGUF_ARR ? "" : "truncated or damaged");
        gw_put_u32(e, t), gw_put_u64(e, 100000000);
        refused_value(GGUF_ARR, CRIT_E_FORMAT, "");
    }
    for (int i = 0; i < 40; i++) gw_put_u32(e, GGUF_ARR), gw_put_u64(e, 1);
    refused_value(GGUF_ARR, CRIT_E_UNSUPPORTED, "nests arrays too deeply");
}

static void extra_twice(gw *w) {
    gw_kv_u32(w, "general.name", 1);
}
static void extra_split(gw *w) {
    const uint16_t n = 3;
    gw_kv_raw(w, "split.count", GGUF_U16, &n, 2);
}
static void extra_unsplit(gw *w) {
    gw_kv_u32(w, "split.count", 1);
}
static uint64_t align_value;
static void extra_align(gw *w) {
    gw_kv_raw(w, "general.alignment", GGUF_U64, &align_value, 8);
}
static void extra_align_str(gw *w) {
    gw_kv_str(w, "general.alignment", "32");
}
static const char *info_name;
static uint64_t info_ne[5], info_offset;
static uint32_t info_type, info_dims;
static void extra_info(gw *w) {
    gw_tensor_info(w, info_name, info_type, info_dims, info_ne, info_offset);
}

static void refused_model(void (*extra)(gw *), crit_status code, const char *part) {
    tiny_params p;
    size_t len;
    tiny_params_init(&p);
    p.extra = extra;
    unsigned char *bytes = tiny_build(&p, &len);
    refused(bytes, len, code, part);
}

static void refuses_duplicates_and_alignment(void **state) {
    (void)state;
    refused_model(extra_twice, CRIT_E_FORMAT, "general.name occurs twice");
    const uint64_t bad[] = {0, 1, 4, 24, 33, UINT64_C(1) << 21, UINT64_C(1) << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        align_value = bad[i];
        refused_model(extra_align, CRIT_E_FORMAT, "general.alignment");
    }
    refused_model(extra_align_str, CRIT_E_FORMAT, "general.alignment");
}

static void refused_info(const char *name, uint32_t type, uint32_t dims, uint64_t a, uint64_t b, uint64_t c,
                         uint64_t offset, crit_status code, const char *part) {
    info_name = name, info_type = type, info_dims = dims, info_offset = offset;
    info_ne[0] = a, info_ne[1] = b, info_ne[2] = c, info_ne[3] = info_ne[4] = 1;
    refused_model(extra_info, code, part);
}

static void refuses_bad_tensors(void **state) {
    (void)state;
    refused_info("token_embd.weight", 0, 1, 4, 0, 0, 0, CRIT_E_FORMAT, "token_embd.weight occurs twice");
    refused_info("odd", 16, 1, 256, 0, 0, 0, CRIT_E_UNSUPPORTED, "tensor odd has type number 16");
    refused_info("odd", UINT32_MAX, 1, 256, 0, 0, 0, CRIT_E_UNSUPPORTED, "type number 4294967295");
    refused_info("", 0, 1, 4, 0, 0, 0, CRIT_E_FORMAT, "a name of 0 bytes");
    refused_info("d", 0, 5, 1, 1, 1, 0, CRIT_E_FORMAT, "5 dimensions");
    refused_info("d", 0, 2, 4, 0, 0, 0, CRIT_E_FORMAT, "dimension 1 of tensor d is 0");
    refused_info("d", 0, 3, 4, UINT64_C(1) << 40, UINT64_C(1) << 40, 0, CRIT_E_FORMAT, "overflow");
    refused_info("d", 0, 1, UINT64_MAX, 1, 1, 0, CRIT_E_FORMAT, "overflow");
    refused_info("d", 0, 1, (UINT64_C(1) << 62) + 1, 1, 1, 0, CRIT_E_FORMAT, "overflow"); /* times 4 is 4 */
    refused_info("d", 0, 2, UINT64_C(1) << 32, UINT64_C(1) << 31, 1, 0, CRIT_E_FORMAT, "overflow");
    refused_info("d", CRIT_T_Q4_0, 1, 33, 1, 1, 0, CRIT_E_FORMAT, "not whole blocks of 32");
    refused_info("d", CRIT_T_Q4_K, 1, 128, 1, 1, 0, CRIT_E_FORMAT, "not whole blocks of 256");
    refused_info("d", 0, 1, 4, 1, 1, 4, CRIT_E_FORMAT, "not aligned");
    refused_info("d", 0, 1, 4, 1, 1, UINT64_C(1) << 40, CRIT_E_FORMAT, "truncated: tensor d");
    refused_info("d", 0, 1, 4, 1, 1, UINT64_MAX - 31, CRIT_E_FORMAT, "truncated: tensor d");
    refused_info("d", 0, 2, 1 << 20, 1 << 20, 1, 0, CRIT_E_FORMAT, "truncated: tensor d");
}

static void refuses_split_files(void **state) {
    (void)state;
    refused_model(extra_split, CRIT_E_UNSUPPORTED, "split into 3 files");
    char usual[sizeof file];
    strcpy(usual, file);
    size_t len;
    snprintf(file, sizeof file, "%s/big-00002-of-00005.gguf", dir);
    unsigned char *p = tiny(&len);
    refused(p, len, CRIT_E_UNSUPPORTED, "part 2 of a model split into 5 files");
    /* whole files by such a name: the metadata says so, or there is one part */
    tiny_params tp;
    tiny_params_init(&tp);
    tp.extra = extra_unsplit;
    assert_int_equal(tiny_write(file, &tp), 0);
    gguf *g = opened(file);
    gguf_close(&g);
    unlink(file);
    snprintf(file, sizeof file, "%s/big-00001-of-00001.gguf", dir);
    tp.extra = NULL;
    assert_int_equal(tiny_write(file, &tp), 0);
    g = opened(file);
    gguf_close(&g);
    unlink(file);
    strcpy(file, usual);
}

/* Cut anywhere: before the tensor data every cut is a refusal that says so. */
static void refuses_every_cut(void **state) {
    (void)state;
    tiny_params p;
    size_t len;
    tiny_params_init(&p);
    unsigned char *bytes = tiny_build(&p, &len);
    gguf *g;
    crit_error err;
    assert_int_equal(gw_save(file, bytes, len), 0);
    g = opened(file);
    assert_int_equal(gguf_file_bytes(g), len);
    gguf_close(&g);
    for (size_t cut = len - 1; cut > 0; cut -= cut > 16384 ? cut / 7 : cut > 2048 ? 61 : 1) {
        assert_int_equal(truncate(file, (off_t)cut), 0);
        const crit_status st = gguf_open(&g, file, &err);
        assert_int_equal(st, CRIT_E_FORMAT);
        if (cut >= 4) assert_non_null(strstr(err.message, "truncated"));
    }
    free(bytes);
}

/* One byte changed, everywhere up to the tensor data (sampled in the long arrays): load or refuse. */
static void survives_changed_bytes(void **state) {
    (void)state;
    tiny_params p;
    size_t len;
    tiny_params_init(&p);
    p.n_layer = 1;
    p.n_vocab = 300;
    unsigned char *bytes = tiny_build(&p, &len);
    assert_int_equal(gw_save(file, bytes, len), 0);
    FILE *f = fopen(file, "r+b");
    assert_non_null(f);
    setvbuf(f, NULL, _IONBF, 0);
    uint64_t seed = 5;
    size_t loaded = 0, tried = 0;
    for (size_t at = 0; at < 16384 && at < len; at += at < 1600 ? 1 : 1 + tiny_rand(&seed) % 24) {
        for (int k = 0; k < 3; k++) {
            const unsigned char b = k == 0 ? (unsigned char)(bytes[at] ^ 1 << tiny_rand(&seed) % 8) : k == 1 ? 0xff : 0;
            assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
            assert_int_equal(fputc(b, f), b);
            gguf *g;
            crit_error err;
            const crit_status st = gguf_open(&g, file, &err);
            tried++;
            if (st == CRIT_OK) {
                loaded++;
                uint64_t sum = 0; /* what it promises is there to read */
                for (size_t i = 0; i < gguf_n_tensor(g); i++) {
                    const gguf_tensor *t = gguf_tensor_at(g, i);
                    sum += t->bytes
                               ? ((const unsigned char *)t->data)[t->bytes - 1] + ((const unsigned char *)t->data)[0]
                               : 0u;
                }
                gguf_str s;
                gguf_vtype e;
                size_t n;
                if (gguf_get_arr(g, "tokenizer.ggml.tokens", &e, &n))
                    for (size_t i = 0; i < n; i++)
                        if (gguf_arr_str(g, "tokenizer.ggml.tokens", i, &s) && s.len)
                            sum += (unsigned char)s.ptr[s.len - 1];
                assert_true(sum < UINT64_MAX);
                gguf_close(&g);
            } else {
                assert_null(g);
                assert_int_equal(strncmp(err.message, file, strlen(file)), 0);
            }
        }
        assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
        assert_int_equal(fputc(bytes[at], f), bytes[at]);
    }
    fclose(f);
    free(bytes);
    assert_true(loaded > 100 && tried - loaded > 100); /* both outcomes were met */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_both_versions),     cmocka_unit_test(values_come_back),
        cmocka_unit_test(refuses_what_is_no_gguf), cmocka_unit_test(refuses_absurd_counts),
        cmocka_unit_test(refuses_bad_values),      cmocka_unit_test(refuses_duplicates_and_alignment),
        cmocka_unit_test(refuses_bad_tensors),     cmocka_unit_test(refuses_split_files),
        cmocka_unit_test(refuses_every_cut),       cmocka_unit_test(survives_changed_bytes),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
