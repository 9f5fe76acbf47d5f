/* SPDX-License-Identifier: MIT */
/* Ids against other implementations: llama.cpp's for SmolLM2 on the corpus in text/ (*.ids, made by make_ids.sh; the
 * model comes from the environment and may be absent), SentencePiece's for a tiny vocabulary (spm.*, make_spm.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/vocab_load.h"

static char *read_file(const char *name, size_t *n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/golden/text/%s", CRIT_TEST_DIR, name);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    char *s = malloc(1 << 20);
    assert_non_null(s);
    *n = fread(s, 1, (1 << 20) - 1, f);
    s[*n] = 0;
    fclose(f);
    return s;
}

/* Blank separated ids at s against those of text. */
static void check_ids(const crit_vocab *v, const char *what, const char *text, size_t len, const char *s,
                      unsigned flags) {
    int32_t *ids = malloc((2 * len + 16) * sizeof *ids);
    size_t n;
    crit_error err;
    assert_non_null(ids);
    if (crit_vocab_tokenize(v, text, len, flags, ids, 2 * len + 16, &n, &err)) fail_msg("%s: %s", what, err.message);
    for (size_t i = 0; i < n; i++) {
        char *end;
        long want = strtol(s, &end, 10);
        if (end == s) fail_msg("%s: %zu ids are too many", what, n);
        if (want != ids[i]) fail_msg("%s: id %zu is %d, not %ld", what, i, ids[i], want);
        s = end;
    }
    if (s[strspn(s, " \n")]) fail_msg("%s: %zu ids are too few", what, n);
    free(ids);
}

static void smollm2_corpus(void **state) {
    (void)state;
    const char *path = getenv("CRIT_TEST_MODEL");
    gguf *g;
    crit_vocab *v;
    crit_error err;
    if (!path || gguf_open(&g, path, &err)) skip();
    if (crit_vocab_from_gguf(&v, g, &err)) fail_msg("%s", err.message);
    gguf_close(&g);
    if (strcmp(crit_vocab_describe(v), "gpt2/smollm") != 0) {
        crit_vocab_close(&v);
        skip();
    }
    DIR *d = opendir(CRIT_TEST_DIR "/golden/text");
    assert_non_null(d);
    int n_file = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t name = strlen(e->d_name), len = 0, n = 0;
        if (name < 4 || strcmp(e->d_name + name - 4, ".ids") != 0) continue;
        char text_name[300];
        snprintf(text_name, sizeof text_name, "%.*s.txt", (int)(name - 4), e->d_name);
        char *ids = read_file(e->d_name, &n), *text = read_file(text_name, &len);
        assert_non_null(ids);
        assert_non_null(text);
        check_ids(v, e->d_name, text, len, ids, 0);
        free(ids);
        free(text);
        n_file++;
    }
    closedir(d);
    assert_true(n_file >= 25);
    crit_vocab_close(&v);
}

static size_t unhex(char *s) {
    size_t n = 0;
    for (unsigned b; sscanf(s + 2 * n, "%2x", &b) == 1; n++) s[n] = (char)b; /* written behind what is read */
    return n;
}

static void sentencepiece_vectors(void **state) {
    (void)state;
    enum { MAX = 1024 };
    static crit_text token[MAX];
    static float score[MAX];
    static int32_t kind[MAX];
    size_t n = 0, n_vec = 0;
    char *list = read_file("spm.vocab", &n);
    assert_non_null(list);
    crit_vocab_source src = crit_vocab_source_empty();
    char *save, *line;
    for (line = strtok_r(list, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        assert_true(src.n_token < MAX);
        int used;
        assert_int_equal(sscanf(line, "%d %f %n", &kind[src.n_token], &score[src.n_token], &used), 2);
        token[src.n_token].ptr = line + used;
        token[src.n_token++].len = unhex(line + used);
    }
    src.model = (crit_text){"llama", 5};
    src.token = token;
    src.score = score;
    src.kind = kind;
    src.unk = 0;
    src.bos = 1;
    src.eos = 2;
    crit_vocab *v;
    crit_error err;
    if (crit_vocab_open(&v, &src, &err)) fail_msg("%s", err.message);
    char *vec = read_file("spm.vec", &n);
    assert_non_null(vec);
    for (line = strtok_r(vec, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char what[40], *ids = strchr(line, ' ');
        assert_non_null(ids);
        *ids++ = 0;
        snprintf(what, sizeof what, "spm.vec line %zu", ++n_vec);
        size_t len = unhex(line);
        check_ids(v, what, line, len, ids, 0);
    }
    assert_true(n_vec >= 40);
    crit_vocab_close(&v);
    free(list);
    free(vec);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(smollm2_corpus), cmocka_unit_test(sentencepiece_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
