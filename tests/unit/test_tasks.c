/* SPDX-License-Identifier: MIT */
/* The generators of `eval` against themselves: samples that never change, that fit, that hold what they ask for and
 * once only; and the scores.  The tokenizer is a stand-in of four bytes a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prose.h"
#include "rng.h"
#include "task_qa.h"
#include "tasks.h"
#include "words.h"

enum { FAILED = 1 }; /* the exit code; term.h has a fail() that cmocka has too */

/* ---- what samples are made of ---- */

typedef struct world {
    buf essay;
    json_t *squad, *hotpot, *bench;
} world;

static int count(void *user, const sample *s, size_t *n) {
    (void)user;
    *n = (s->text.n + s->prefix.n) / 4 + 8;
    return 0;
}

static const char squad_text[] =
    "{\"data\": [{\"title\": \"T\", \"paragraphs\": ["
    "{\"context\": \"The bridge of Orva was built in 1911.\", \"qas\": [{\"question\": \"When was it built?\", "
    "\"answers\": [{\"text\": \"1911\"}, {\"text\": \"in 1911\"}]}, {\"question\": \"By whom?\", \"is_impossible\": "
    "true, "
    "\"answers\": []}]},"
    "{\"context\": \"The tower of Orva is made of slate.\", \"qas\": [{\"question\": \"What is the tower made of?\", "
    "\"answers\": [{\"text\": \"slate\"}]}]}]},"
    "{\"title\": \"U\", \"paragraphs\": [{\"context\": \"Sheep graze on the dunes.\", \"qas\": []},"
    "{\"context\": \"A ferry crosses twice a day.\", \"qas\": []}]}]}";
static const char hotpot_text[] =
    "[{\"question\": \"Who wrote it?\", \"answer\": \"Ada Finch\", \"context\": [[\"The Lamp\", [\"The Lamp is a "
    "book.\", "
    "\" Ada Finch wrote it.\"]], [\"Rivers\", [\"They flow.\"]]]},"
    "{\"question\": \"Where?\", \"answer\": \"Mill Lane\", \"context\": [[\"Shops\", [\"One stood in Mill Lane.\"]]]}]";
static const char bench_text[] =
    "{\"input\": \"Who keeps the key?\", \"context\": \"The innkeeper has the key.\", \"answers\": [\"the "
    "innkeeper\"], "
    "\"all_classes\": null, \"dataset\": \"qasper\", \"language\": \"en\"}\n"
    "\n"
    "{\"input\": \"\", \"context\": \"Rain fell. Then it stopped.\", \"answers\": [\"Weather changed.\"], "
    "\"dataset\": \"gov_report\", \"language\": \"en\"}\n"
    "{\"input\": \"Q: how far?\\nType:\", \"context\": \"Q: who?\\nType: Human\", \"answers\": [\"Number\"], "
    "\"all_classes\": [\"Human\", \"Number\"], \"dataset\": \"trec\", \"language\": \"en\"}\n";

static int make_world(void **state) {
    world *w = calloc(1, sizeof *w);
    rng r;
    rng_seed(&r, 5);
    for (int i = 0; w && i < 40; i++) prose_paragraph(&r, &w->essay);
    if (!w) return -1;
    w->bench = json_array();
    *state = w;
    return qa_squad("squad", &(buf){.s = (char *)(uintptr_t)squad_text, .n = sizeof squad_text - 1}, &w->squad) ||
           qa_hotpot("hotpot", &(buf){.s = (char *)(uintptr_t)hotpot_text, .n = sizeof hotpot_text - 1}, &w->hotpot) ||
           longbench_lines("bench", &(buf){.s = (char *)(uintptr_t)bench_text, .n = sizeof bench_text - 1}, w->bench);
}

static int free_world(void **state) {
    world *w = *state;
    buf_free(&w->essay);
    json_decref(w->squad);
    json_decref(w->hotpot);
    json_decref(w->bench);
    free(w);
    return 0;
}

static task_env env_of(const world *w, uint32_t ctx) {
    return (task_env){.seed = 42,
                      .ctx = ctx,
                      .question = QUESTION_LAST,
                      .depth = -1,
                      .n_digit = 7,
                      .essay = &w->essay,
                      .squad = w->squad,
                      .hotpot = w->hotpot,
                      .bench = w->bench,
                      .count = count};
}

static const task *find(const char *name) {
    const task *t = task_find(CMD_TASKS, name);
    if (!t) fail_msg("no task %s", name);
    return t;
}

/* Sample number of a task, fitted anew. */
static void make(const char *name, task_env *env, uint64_t number, sample *s) {
    uint32_t size = 0;
    const task *t = find(name);
    assert_int_equal(task_fit(t, env, &size), 0);
    assert_int_equal(task_make(t, env, size, number, s), 0);
}

static uint64_t hash_of(const sample *s) {
    uint64_t h = hash_bytes(HASH_START, s->text.s, s->text.n + 1);
    h = hash_bytes(h, s->prefix.s, s->prefix.n + 1);
    return hash_bytes(h, s->ref.s, s->ref.n);
}

static size_t occurrences(const char *text, const char *what) {
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++) n++;
    return n;
}

static const char *ref(const sample *s, size_t i) {
    refs r = sample_refs(s);
    assert_true(i < r.n);
    return refs_at(&r, i);
}

/* ---- every task ---- */

/* Samples 0 and 1 at two lengths, as they were when the generators were written: results of other days stay comparable
 * only while these hold. */
static void golden(void **state) {
    static const struct {
        const char *task;
        uint64_t hash[4]; /* 2048 tokens: samples 0, 1; 8192: likewise */
    } want[] = {
        /* clang-format off */
        {"needle", {UINT64_C(0xf13d66d313788591), UINT64_C(0xfdd6097d23650d82), UINT64_C(0x02072392a56fa3ad), UINT64_C(0x2bedee81ade89ac3)}},
        {"passkey", {UINT64_C(0x03bd81ca8b92f7f8), UINT64_C(0xae428f2b5363100e), UINT64_C(0x80ce7b648131dd41), UINT64_C(0xb29f7b453759e53c)}},
        {"kv", {UINT64_C(0x08a2c68ab659228e), UINT64_C(0xaa866c4f5d7269d0), UINT64_C(0x8d614d3b1ee67479), UINT64_C(0x31263b3fb176a6ec)}},
        {"lines", {UINT64_C(0xf7e5f1d28d7ce2e6), UINT64_C(0x9921e67e146decae), UINT64_C(0x3b4568f709898a2d), UINT64_C(0x3e3b390556f9557b)}},
        {"copy", {UINT64_C(0xde96e86a9820a6ff), UINT64_C(0x8a3476f8dfb55d67), UINT64_C(0x923d313c20976213), UINT64_C(0xc0b206fa9ef65cd6)}},
        {"lookup", {UINT64_C(0xf548ebf1df0d091b), UINT64_C(0xe11f00ebbae0697f), UINT64_C(0x751da1bcf8a41c52), UINT64_C(0xfd8e584bd0ac0f77)}},
        {"niah_single_1", {UINT64_C(0xc5333d0034e8d44f), UINT64_C(0x1109b20760e400d8), UINT64_C(0xcae96876be802c2a), UINT64_C(0x3d3cad3e9a5d2b7a)}},
        {"niah_single_2", {UINT64_C(0x760f28685e10be1c), UINT64_C(0x77e164b70257a11d), UINT64_C(0x91f004e42f32ee7f), UINT64_C(0xb1708dd443772ddb)}},
        {"niah_single_3", {UINT64_C(0xfb1f3b7c12198895), UINT64_C(0xcb5dd1de060edad9), UINT64_C(0xc765ac3e96de158a), UINT64_C(0x9a5d767d27d0575a)}},
        {"niah_multikey_1", {UINT64_C(0xae01d1c8c3fd72e4), UINT64_C(0x8b26ce74c9eee611), UINT64_C(0x18d0d75441c22c8f), UINT64_C(0x3d7c70b804ee9993)}},
        {"niah_multikey_2", {UINT64_C(0xb792bd967774da8e), UINT64_C(0x2d4c57b29a8d30da), UINT64_C(0x209ccfd0d661de1c), UINT64_C(0x5e2685bd83b5f06f)}},
        {"niah_multikey_3", {UINT64_C(0x37aa0f4d7649ac15), UINT64_C(0x0d6a0a3a002d3d44), UINT64_C(0x7f4f5de7efdeb78d), UINT64_C(0xf62983d4a303a7a0)}},
        {"niah_multivalue", {UINT64_C(0x01506c1255b88059), UINT64_C(0xa318e593edc93af2), UINT64_C(0x30d6f54cae9bcf9f), UINT64_C(0x4835ea0e92ac6d27)}},
        {"niah_multiquery", {UINT64_C(0x0e9989ba32f6d26b), UINT64_C(0x765a5174cb72b882), UINT64_C(0x5284d909bdd96fd0), UINT64_C(0xecac2f80d0bbbf5e)}},
        {"vt", {UINT64_C(0x86581e5e5ecc7ab6), UINT64_C(0xbacfa56fd4227e25), UINT64_C(0x84a99a540b3c1f7b), UINT64_C(0x3ac9a38388aa4c76)}},
        {"cwe", {UINT64_C(0xb59af9df49a38d72), UINT64_C(0xcb7618a2ae0c3929), UINT64_C(0x2250101cfdf8f155), UINT64_C(0xca6a8a38bdbcd9a2)}},
        {"fwe", {UINT64_C(0x5c3bcc010b38a9bd), UINT64_C(0x278835394732039e), UINT64_C(0xf28f579e33466ed7), UINT64_C(0x5cd849d2d435e892)}},
        {"qa_1", {UINT64_C(0x007d1513015d1c58), UINT64_C(0x8d683efdf7734964), UINT64_C(0x4568909c1e19f820), UINT64_C(0xc1e2c53245c3ca8a)}},
        {"qa_2", {UINT64_C(0xa1a2cb9a66d27a9a), UINT64_C(0xbe2e9c4dc0092049), UINT64_C(0x7b833b4c0d30a590), UINT64_C(0xbe2e9c4dc0092049)}},
        {"longbench", {UINT64_C(0xbbac5a72f0f206bb), UINT64_C(0x5fa5f22e4dd37524), UINT64_C(0xbbac5a72f0f206bb), UINT64_C(0x5fa5f22e4dd37524)}},
        {"chain", {UINT64_C(0x968ddbce7f76aebd), UINT64_C(0x93bc6b1b0b24ca3a), UINT64_C(0x4176e261dfe70a64), UINT64_C(0x26f36a443be844b0)}}
        /* clang-format on */
    };
    const bool print = getenv("CRIT_PRINT_GOLDEN") != NULL;
    size_t n = 0;
    const task *t;
    for (; (t = task_at(n)); n++) {
        uint64_t h[4];
        for (int i = 0; i < 4; i++) {
            task_env env = env_of(*state, i < 2 ? 2048 : 8192);
            sample s = {0};
            make(t->name, &env, (uint64_t)i % 2, &s);
            h[i] = hash_of(&s);
            sample_free(&s);
        }
        if (print) {
            printf("{\"%s\", {", t->name);
            for (int i = 0; i < 4; i++) printf("%sUINT64_C(0x%016llx)", i ? ", " : "", (unsigned long long)h[i]);
            printf("}},\n");
            continue;
        }
        if (n >= sizeof want / sizeof *want) fail_msg("no golden hashes of %s", t->name);
        assert_string_equal(want[n].task, t->name);
        for (int i = 0; i < 4; i++)
            if (want[n].hash[i] != h[i]) fail_msg("%s, hash %d: %016llx", t->name, i, (unsigned long long)h[i]);
    }
}

/* Made in any order, or alone, a sample is the same; another number or seed makes another. */
static void samples_stand_alone(void **state) {
    const task *t;
    for (size_t i = 0; (t = task_at(i)); i++) {
        task_env env = env_of(*state, 4096), other = env;
        sample s = {0}, again = {0};
        other.seed = 43;
        make(t->name, &env, 2, &s);
        uint64_t want = hash_of(&s);
        for (uint64_t k = 0; k <= 2; k++) make(t->name, &env, k, &again);
        assert_true(hash_of(&again) == want);
        make(t->name, &env, 1, &again);
        assert_true(hash_of(&again) != want);
        if (t->kind != CMD_LONGBENCH) {
            make(t->name, &other, 2, &again);
            assert_true(hash_of(&again) != want || (t->needs & (NEEDS_SQUAD | NEEDS_HOTPOT)));
        }
        sample_free(&s);
        sample_free(&again);
    }
}

/* Questions that share a text differ in nothing before the question; each asks for a line of its own, by the key that
 * stands on it.  Tasks with one question a text do not heed n_question. */
static void questions_share_a_text(void **state) {
    enum { N = 16 };
    const task *t;
    size_t n_many = 0;
    for (size_t i = 0; (t = task_at(i)); i++) {
        task_env env = env_of(*state, 8192), one = env;
        sample s[N] = {{0}}, alone = {0};
        env.n_question = N;
        n_many += t->many;
        for (uint64_t q = 0; q < (t->many ? N : 1); q++) make(t->name, &env, N + q, &s[q]);
        make(t->name, &one, N, &alone);
        assert_true(t->many || hash_of(&s[0]) == hash_of(&alone));
        for (size_t q = 0; q < N && t->many; q++) {
            size_t n = 0, alike = 0;
            assert_int_equal(count(NULL, &s[q], &n), 0);
            assert_true(n + s[q].n_predict <= env.ctx);
            while (s[q].text.s[alike] && s[q].text.s[alike] == s[0].text.s[alike]) alike++;
            assert_true(alike > s[q].text.n - 120);
            const char *value = ref(&s[q], 0), *at = strstr(s[q].text.s, value);
            assert_int_equal(occurrences(s[q].text.s, value), 1);
            while (at > s[q].text.s && at[-1] != '\n') at--;
            const char *dash = strchr(at, '-'), *end = dash + strcspn(dash, "\": ");
            while (!strchr("\" ", dash[-1])) dash--;
            char key[64];
            snprintf(key, sizeof key, "%.*s", (int)(end - dash), dash);
            assert_non_null(strstr(s[q].prefix.s, key));
            assert_int_equal(occurrences(s[q].text.s, key), 2); /* on its line and in the question */
            assert_true(s[q].depth >= 0 && s[q].depth <= 100);
            for (size_t k = 0; k < q; k++) assert_string_not_equal(value, ref(&s[k], 0));
        }
        for (size_t q = 0; q < N; q++) sample_free(&s[q]);
        sample_free(&alone);
    }
    assert_int_equal(n_many, 4); /* kv, lines, niah_multikey_2, niah_multikey_3 */
}

static int count_calls(void *user, const sample *s, size_t *n) {
    ++*(size_t *)user;
    return count(NULL, s, n);
}

/* A text is sized once for all of its questions, and what comes of it is what sizing it alone gives. */
static void questions_are_sized_once(void **state) {
    enum { N = 16 };
    const task *t;
    for (size_t i = 0; (t = task_at(i)); i++) {
        if (!t->many) continue;
        task_env env = env_of(*state, 8192);
        sample s = {0};
        size_t calls = 0;
        uint32_t size = 0;
        env.n_question = N;
        env.count = count_calls;
        env.user = &calls;
        assert_int_equal(task_fit(t, &env, &size), 0);
        for (uint64_t number = 0; number < 2 * N; number++) {
            sample alone = {0};
            calls = 0;
            assert_int_equal(task_make(t, &env, size, number, &s), 0);
            assert_true(number % N ? calls == 0 : calls >= N);
            assert_int_equal(task_make(t, &env, size, number, &alone), 0);
            assert_true(hash_of(&s) == hash_of(&alone) && s.number == number && s.asked == number % N);
            sample_free(&alone);
        }
        sample_free(&s);
    }
}

/* Samples fill the length, up to two units, and never more. */
static void samples_fit(void **state) {
    static const uint32_t lengths[] = {1500, 2048, 4096, 8192, 20000};
    const task *t;
    for (size_t i = 0; (t = task_at(i)); i++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            task_env env = env_of(*state, lengths[k]);
            if (!strcmp(t->name, "cwe") && lengths[k] == 4096)
                continue; /* its example alone is longer than that leaves */
            for (uint64_t number = 0; number < 3; number++) {
                sample s = {0}, more = {0};
                size_t n = 0, m = 0;
                uint32_t size = 0;
                rng r;
                assert_int_equal(task_fit(t, &env, &size), 0);
                assert_int_equal(task_make(t, &env, size, number, &s), 0);
                assert_int_equal(count(NULL, &s, &n), 0);
                assert_true(n + s.n_predict <= env.ctx);
                assert_true(s.n_ref > 0);
                if (!t->max_size) {
                    /* Two units more would not have fitted: the sample is the largest, but for its own words. */
                    for (size_t x = 0; x < s.n_ref; x++) assert_true(strlen(ref(&s, x)) > 0);
                    rng_stream(&r, t->name, env.seed, env.ctx, number);
                    if (buf_room(&more.text, 1) && buf_room(&more.prefix, 1)) t->build(&env, t, size + 2, &r, &more);
                    assert_int_equal(count(NULL, &more, &m), 0);
                    assert_true(m + s.n_predict > env.ctx - env.ctx / 20);
                }
                sample_free(&s);
                sample_free(&more);
            }
        }
}

static void too_short_is_told(void **state) {
    const task *t;
    for (size_t i = 0; (t = task_at(i)); i++) {
        task_env env = env_of(*state, 64);
        uint32_t size = 0;
        sample s = {0};
        int rc = task_fit(t, &env, &size);
        if (!rc) rc = task_make(t, &env, size, 0, &s);
        if (t->kind == CMD_LONGBENCH) env.ctx = 65; /* its first sample may fit */
        assert_true(rc == FAILED || t->kind == CMD_LONGBENCH);
        sample_free(&s);
    }
}

/* The end of the text, where a question has room. */
static const char *tail_of(const sample *s) {
    return s->text.n > 250 ? s->text.s + s->text.n - 250 : s->text.s;
}

/* Where the question stands. */
static void question_moves(void **state) {
    static const struct {
        const char *task, *question;
    } cases[] = {{"niah_single_1", "What is the special magic number for "},
                 {"vt", "Question: Find all variables"},
                 {"cwe", "Question: What are the 10"},
                 {"fwe", "Question: Do not provide"},
                 {"qa_1", "Question: When was"},
                 {"kv", "Question: What is the value"},
                 {"lines", "Question: What is the REG"},
                 {"needle", "Question: What is the access"},
                 {"passkey", "What is the pass key?"},
                 {"copy", "Question: What is the string"},
                 {"chain", "Question: Which keys come after"},
                 {"longbench", "Answer this question"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t example = !strcmp(cases[i].task, "vt") || !strcmp(cases[i].task, "cwe"); /* it asks too, at its end */
        task_env env = env_of(*state, 8192);
        sample s = {0};
        make(cases[i].task, &env, 0, &s);
        size_t n = s.text.n;
        assert_int_equal(occurrences(s.text.s, cases[i].question), 1 + example);
        const char *last = strstr(tail_of(&s), cases[i].question);
        assert_non_null(last);
        env.question = QUESTION_FIRST;
        make(cases[i].task, &env, 0, &s);
        assert_int_equal(occurrences(s.text.s, cases[i].question), 1 + example);
        if (n > 1000) assert_null(strstr(tail_of(&s), cases[i].question));
        env.question = QUESTION_BOTH;
        make(cases[i].task, &env, 0, &s);
        assert_int_equal(occurrences(s.text.s, cases[i].question), 2 + example);
        assert_non_null(strstr(tail_of(&s), cases[i].question));
        sample_free(&s);
    }
}

/* ---- one thing hidden ---- */

static void depths(void **state) {
    static const char *const names[] = {"needle", "passkey"};
    for (int k = 0; k < 2; k++)
        for (int depth = 0; depth <= 100; depth += 25) {
            task_env env = env_of(*state, 8192);
            sample s = {0};
            env.depth = depth;
            env.n_digit = 64;
            make(names[k], &env, 3, &s);
            const char *at = strstr(s.text.s, ref(&s, 0));
            assert_non_null(at);
            assert_int_equal(occurrences(s.text.s, ref(&s, 0)), k ? 2 : 1); /* the pass key is told twice */
            assert_true(s.depth == depth);
            double where = 100.0 * (double)(at - s.text.s) / (double)s.text.n;
            assert_true(fabs(where - depth) < 4);
            assert_true(k == 0 || (strlen(ref(&s, 0)) == 64 && s.n_predict == 72));
            sample_free(&s);
        }
}

/* The haystack is the same at every depth. */
static void depth_moves_the_needle_only(void **state) {
    task_env env = env_of(*state, 4096);
    sample a = {0}, b = {0};
    env.depth = 0;
    make("needle", &env, 1, &a);
    env.depth = 100;
    make("needle", &env, 1, &b);
    const char *first = strstr(a.text.s, ". ") + 2;
    first = strstr(first, ". ") + 2; /* the sentence behind the needle */
    char start[64] = "";
    strncpy(start, first, 40);
    assert_non_null(strstr(b.text.s, start));
    assert_string_equal(ref(&a, 0), ref(&b, 0));
    sample_free(&a);
    sample_free(&b);
}

static void kv_is_json(void **state) {
    task_env env = env_of(*state, 4096);
    sample s = {0};
    make("kv", &env, 0, &s);
    char *from = strchr(s.text.s, '{'), *to = strchr(s.text.s, '}');
    assert_true(from && to && to > from);
    json_error_t e;
    json_t *j = json_loadb(from, (size_t)(to + 1 - from), JSON_REJECT_DUPLICATES, &e);
    if (!j) fail_msg("%s", e.text);
    assert_true(json_object_size(j) > 90);
    char *key = strchr(to, '"');
    assert_non_null(key);
    json_t *value = json_object_getn(j, key + 1, UUID_LEN);
    assert_string_equal(json_string_value(value), ref(&s, 0));
    const char *u = ref(&s, 0);
    assert_true(u[8] == '-' && u[13] == '-' && u[14] == '4' && u[18] == '-' && strchr("89ab", u[19]) && u[23] == '-');
    json_decref(j);
    sample_free(&s);
}

static void lines_hold_the_number(void **state) {
    task_env env = env_of(*state, 4096);
    sample s = {0};
    make("lines", &env, 0, &s);
    char want[160], *name = strstr(s.text.s, "of line ");
    assert_non_null(name);
    snprintf(want, sizeof want, "\nline %.*s: REGISTER_CONTENT is <%s>\n", (int)strcspn(name + 8, "?"), name + 8,
             ref(&s, 0));
    assert_int_equal(occurrences(s.text.s, want), 1);
    *strchr(strchr(want, ':'), ' ') = 0; /* up to the name: no other line has it */
    assert_int_equal(occurrences(s.text.s, want), 1);
    sample_free(&s);
}

/* With the question in front nothing at the prompt's end says what is asked for: no text in quotes, no number, no name of
 * the question's. */
static void first_means_first(void **state) {
    static const char *const names[] = {"needle", "kv", "lines", "niah_single_1", "niah_multikey_3", "vt", "chain"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        task_env env = env_of(*state, 4096);
        sample last = {0}, first = {0};
        make(names[i], &env, 2, &last);
        env.question = QUESTION_FIRST;
        make(names[i], &env, 2, &first);
        assert_true(last.names && strlen(last.prefix.s) > 20);
        assert_string_equal(first.prefix.s, " Answer:");
        assert_true(first.n_predict > last.n_predict); /* it says by itself what the prefix would have said */
        sample_free(&last);
        sample_free(&first);
    }
}

/* The prefix ends with the first pieces of the string, the reference is all of the rest. */
static void copy_goes_on(void **state) {
    for (int depth = 0; depth <= 100; depth += 50) {
        task_env env = env_of(*state, 8192);
        sample s = {0};
        env.depth = depth;
        make("copy", &env, 1, &s);
        const char *given = strstr(s.prefix.s, "keep is ");
        assert_non_null(given);
        char want[128];
        snprintf(want, sizeof want, "The string to keep is %s %s.", given + strlen("keep is "), ref(&s, 0));
        assert_int_equal(strlen(given + strlen("keep is ")), 9);
        assert_int_equal(strlen(ref(&s, 0)), 69);
        assert_int_equal(occurrences(s.text.s, want), 1);
        double where = 100.0 * (double)(strstr(s.text.s, want) - s.text.s) / (double)s.text.n;
        assert_true(fabs(where - depth) < 4 && s.depth == depth);
        assert_true(s.how == SCORE_PIECE && s.n_predict >= 69);
        sample_free(&s);
    }
}

/* Whoever follows the lines from the key asked for meets the references, in their order, and no key twice. */
static void chain_leads_through(void **state) {
    task_env env = env_of(*state, 4096);
    for (uint64_t number = 0; number < 4; number++) {
        sample s = {0};
        make("chain", &env, number, &s);
        char key[64], line[128];
        const char *q = strstr(s.text.s, "Which keys come after ");
        assert_non_null(q);
        assert_int_equal(sscanf(q, "Which keys come after %63[^?]?", key), 1);
        assert_non_null(strstr(s.prefix.s, key));
        assert_int_equal(s.n_ref, 8);
        assert_int_equal(occurrences(s.text.s, "The key after "), 32);
        for (size_t i = 0; i < s.n_ref; i++) {
            snprintf(line, sizeof line, "\nThe key after %s is %s.\n", key, ref(&s, i));
            assert_int_equal(occurrences(s.text.s, line), 1);
            snprintf(line, sizeof line, "The key after %s is ", key);
            assert_int_equal(occurrences(s.text.s, line), 1);
            snprintf(line, sizeof line, " is %s.\n", ref(&s, i));
            assert_int_equal(occurrences(s.text.s, line), 1);
            snprintf(key, sizeof key, "%s", ref(&s, i));
        }
        sample_free(&s);
    }
}

static void lookup_spans(void **state) {
    for (int middle = 0; middle < 2; middle++) {
        task_env env = env_of(*state, 8192);
        sample s = {0};
        env.question = middle ? QUESTION_MIDDLE : QUESTION_LAST;
        make("lookup", &env, 0, &s);
        assert_int_equal(s.n_value, 32);
        assert_int_equal(s.n_ref, 32);
        for (size_t i = 0; i < s.n_value; i++) {
            const char *at = s.text.s + s.value[i].at, *q = at - strlen("?\nAnswer: ");
            assert_memory_equal(at, ref(&s, i), s.value[i].len);
            assert_int_equal(strlen(ref(&s, i)), s.value[i].len);
            assert_memory_equal(q, "?\nAnswer: ", 10);
            const char *key = q;
            while (key[-1] != ' ') key--;
            char line[96];
            snprintf(line, sizeof line, "\n%.*s: %s\n", (int)(q - key), key, ref(&s, i));
            const char *told = strstr(s.text.s, line);
            assert_true(told && told < at);
            double where = (double)s.value[i].at / (double)s.text.n;
            assert_true(middle ? where > .45 && where < .8 : where > .85);
        }
        sample_free(&s);
    }
}

/* ---- RULER ---- */

static void niah(void **state) {
    static const struct {
        const char *name;
        size_t n_ref, n_line;
    } cases[] = {{"niah_single_1", 1, 1},   {"niah_single_2", 1, 1},   {"niah_single_3", 1, 1},
                 {"niah_multikey_1", 1, 4}, {"niah_multikey_2", 1, 0}, {"niah_multikey_3", 1, 0},
                 {"niah_multivalue", 4, 4}, {"niah_multiquery", 4, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint64_t number = 0; number < 4; number++) {
            task_env env = env_of(*state, 4096);
            sample s = {0};
            make(cases[i].name, &env, number, &s);
            assert_int_equal(s.n_ref, cases[i].n_ref);
            size_t n = occurrences(s.text.s, "One of the special magic ");
            assert_true(cases[i].n_line ? n == cases[i].n_line : n > 100);
            for (size_t k = 0; k < s.n_ref; k++) {
                char tail[64];
                snprintf(tail, sizeof tail, " is: %s.", ref(&s, k));
                const char *at = strstr(s.text.s, tail);
                assert_int_equal(occurrences(s.text.s, tail), 1);
                const char *key = at;
                while (key[-1] != ' ') key--;
                char asked[64];
                snprintf(asked, sizeof asked, "%.*s", (int)(at - key), key);
                assert_non_null(strstr(s.prefix.s, asked));
                char line[96]; /* the key is on as many lines as it has values */
                snprintf(line, sizeof line, " for %s is: ", asked);
                assert_int_equal(occurrences(s.text.s, line), strcmp(cases[i].name, "niah_multivalue") ? 1 : 4);
            }
            assert_true(isnan(s.depth) == (cases[i].n_line == 4));
            sample_free(&s);
        }
}

static void niah_words(void **state) {
    task_env env = env_of(*state, 4096);
    sample s = {0};
    make("niah_single_1", &env, 0, &s);
    assert_non_null(strstr(s.text.s,
                           "A special magic number is hidden within the following text. Make sure to memorize "
                           "it. I will quiz you about the number afterwards.\n"));
    assert_non_null(strstr(s.prefix.s, " The special magic number for "));
    assert_non_null(strstr(s.prefix.s, " mentioned in the provided text is"));
    make("niah_multiquery", &env, 0, &s);
    assert_non_null(strstr(s.text.s, "Some special magic numbers are hidden within the following text."));
    assert_non_null(strstr(s.text.s, "What are all the special magic numbers for "));
    assert_int_equal(occurrences(strstr(s.text.s, "What are all"), ", "), 3);
    assert_int_equal(occurrences(strstr(s.text.s, "What are all"), ", and "), 1);
    assert_non_null(strstr(s.prefix.s, " mentioned in the provided text are"));
    sample_free(&s);
}

static void variable_tracking(void **state) {
    task_env env = env_of(*state, 4096);
    sample s = {0};
    make("vt", &env, 1, &s);
    const char *text = strstr(s.text.s + 10, "Memorize and track"); /* the task, behind its example */
    assert_non_null(text);
    const char *at = text;
    char line[64], value[16];
    assert_int_equal(sscanf(strstr(s.prefix.s, "the value "), "the value %15[0-9],", value), 1);
    for (size_t i = 0; i < 5; i++) {
        if (i)
            snprintf(line, sizeof line, "\nVAR %s = VAR %s \n", ref(&s, i), ref(&s, i - 1));
        else
            snprintf(line, sizeof line, "\nVAR %s = %s\n", ref(&s, 0), value);
        assert_int_equal(occurrences(s.text.s, line), 1);
        const char *here = strstr(text, line);
        assert_true(here >= at); /* in the order of the chain */
        at = here;
        assert_int_equal(strlen(ref(&s, i)), 5);
    }
    /* The example is answered with its own five names of three letters. */
    const char *answer = strstr(s.text.s, "they are: ");
    assert_true(answer && answer < text && answer[10 + 19] == '\n');
    sample_free(&s);
}

typedef struct tally {
    char word[40];
    size_t n;
} tally;

/* How often each word of text stands there, numbers and their points left out. */
static size_t tally_words(const char *text, size_t n, tally *t, size_t cap) {
    size_t have = 0;
    for (const char *p = text, *end = text + n; p < end;) {
        size_t len = strcspn(p, " \n");
        if (p + len > end) len = (size_t)(end - p);
        if (len && len < sizeof t->word && strspn(p, "0123456789.") < len) {
            size_t i = 0;
            while (i < have && (strncmp(t[i].word, p, len) || t[i].word[len])) i++;
            if (i == have) {
                assert_true(have < cap);
                t[have] = (tally){.n = 0};
                memcpy(t[have++].word, p, len);
            }
            t[i].n++;
        }
        p += len + 1;
    }
    return have;
}

static bool is_ref(const sample *s, const char *word) {
    for (size_t i = 0; i < s->n_ref; i++)
        if (!strcmp(ref(s, i), word)) return true;
    return false;
}

static void common_words(void **state) {
    static const struct {
        uint32_t ctx;
        size_t common, rare;
    } cases[] = {{2048, 6, 1}, {8192, 30, 3}, {40000, 30, 3}};
    enum { CAP = 4000 };
    tally *t = calloc(CAP, sizeof *t);
    assert_non_null(t);
    for (size_t c = 0; c < 3; c++) {
        task_env env = env_of(*state, cases[c].ctx);
        sample s = {0};
        make("cwe", &env, 0, &s);
        assert_int_equal(s.n_ref, 10);
        const char *task_at_end = s.text.s;
        for (const char *p = s.text.s; (p = strstr(p, "ones that appear most often.\n")); p++) task_at_end = p + 29;
        const char *end = strstr(task_at_end, "\nQuestion");
        size_t n = tally_words(task_at_end, (size_t)(end - task_at_end), t, CAP);
        assert_true(n > 30 && (cases[c].ctx < 40000 || n > words_any_n()));
        for (size_t i = 0; i < n; i++)
            assert_int_equal(t[i].n, is_ref(&s, t[i].word) ? cases[c].common : cases[c].rare);
        assert_int_equal(occurrences(s.text.s, "Question: What are the 10"), 2);
        sample_free(&s);
    }
    free(t);
}

static void frequent_words(void **state) {
    enum { CAP = 4000 };
    tally *t = calloc(CAP, sizeof *t);
    task_env env = env_of(*state, 8192);
    sample s = {0};
    assert_non_null(t);
    make("fwe", &env, 0, &s);
    const char *from = strstr(s.text.s, "coded words. ") + 13, *end = strstr(from, "\nQuestion");
    size_t n = tally_words(from, (size_t)(end - from), t, CAP), seen[3] = {0};
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < 3; k++)
            if (!strcmp(t[i].word, ref(&s, k))) seen[k] = t[i].n;
    assert_true(seen[0] > seen[1] && seen[1] > seen[2] && seen[2] > 10);
    size_t dots = occurrences(s.text.s, " ... ");
    assert_true(dots > 2 * seen[0]); /* repeated dots share blanks: a lower bound */
    for (size_t i = 0; i < n; i++)
        if (!is_ref(&s, t[i].word)) assert_true(t[i].n < seen[2]);
    sample_free(&s);
    free(t);
}

static void questions_of_files(void **state) {
    const world *w = *state;
    task_env env = env_of(w, 4096);
    sample s = {0};
    assert_int_equal(task_n_sample(find("qa_1"), &env), 2); /* the impossible one is none */
    assert_int_equal(task_n_sample(find("qa_2"), &env), 2);
    assert_int_equal(task_n_sample(find("longbench"), &env), 3);
    assert_true(task_n_sample(find("vt"), &env) == UINT64_MAX);
    make("qa_1", &env, 0, &s);
    assert_int_equal(s.n_ref, 2);
    assert_int_equal(occurrences(s.text.s, "\nThe bridge of Orva was built in 1911."), 1);
    assert_int_equal(occurrences(s.text.s, "Document "), 4); /* all there are */
    make("qa_2", &env, 0, &s);
    assert_string_equal(ref(&s, 0), "Ada Finch");
    assert_int_equal(occurrences(s.text.s, "\nThe Lamp\nThe Lamp is a book. Ada Finch wrote it."), 1);
    /* With room for one document it is the question's. */
    env.ctx = 150;
    make("qa_1", &env, 1, &s);
    assert_string_equal(ref(&s, 0), "slate");
    assert_non_null(strstr(s.text.s, "made of slate"));
    assert_true(occurrences(s.text.s, "Document ") < 4);
    sample_free(&s);
}

static void longbench_kinds(void **state) {
    world *w = *state;
    task_env env = env_of(w, 4096);
    sample s = {0};
    make("longbench", &env, 0, &s);
    assert_true(s.how == SCORE_F1 && strstr(s.text.s, "Who keeps the key?"));
    make("longbench", &env, 1, &s);
    assert_true(s.how == SCORE_F1 && s.n_predict == 256 && strstr(s.text.s, "Summarize"));
    make("longbench", &env, 2, &s);
    assert_true(s.how == SCORE_PART && strstr(s.text.s, "Human, Number"));
    sample_free(&s);
    json_t *none = json_array();
    static const char bad[] = "{\"context\": \"x\", \"answers\": [\"y\"]}\n{\"context\": \"x\"}\n";
    assert_int_equal(longbench_lines("bad.jsonl", &(buf){.s = (char *)(uintptr_t)bad, .n = sizeof bad - 1}, none),
                     FAILED);
    json_decref(none);
}

/* A long context loses its middle, at borders of characters. */
static void longbench_cuts_the_middle(void **state) {
    task_env env = env_of(*state, 200);
    sample s = {0};
    buf line = {0};
    json_t *bench = json_array();
    buf_str(&line, "{\"context\": \"START ");
    for (int i = 0; i < 900; i++) buf_str(&line, "\xC3\xA9");
    buf_str(&line, " END\", \"input\": \"q?\", \"answers\": [\"a\"]}");
    assert_int_equal(longbench_lines("x", &line, bench), 0);
    env.bench = bench;
    make("longbench", &env, 0, &s);
    assert_true(strstr(s.text.s, "START ") && strstr(s.text.s, " END"));
    size_t n = occurrences(s.text.s, "\xC3"), m = occurrences(s.text.s, "\xA9");
    assert_true(n == m && n > 50 && n < 300);
    sample_free(&s);
    buf_free(&line);
    json_decref(bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden),
                                       cmocka_unit_test(samples_stand_alone),
                                       cmocka_unit_test(questions_share_a_text),
                                       cmocka_unit_test(questions_are_sized_once),
                                       cmocka_unit_test(samples_fit),
                                       cmocka_unit_test(too_short_is_told),
                                       cmocka_unit_test(question_moves),
                                       cmocka_unit_test(depths),
                                       cmocka_unit_test(depth_moves_the_needle_only),
                                       cmocka_unit_test(kv_is_json),
                                       cmocka_unit_test(lines_hold_the_number),
                                       cmocka_unit_test(copy_goes_on),
                                       cmocka_unit_test(first_means_first),
                                       cmocka_unit_test(chain_leads_through),
                                       cmocka_unit_test(lookup_spans),
                                       cmocka_unit_test(niah),
                                       cmocka_unit_test(niah_words),
                                       cmocka_unit_test(variable_tracking),
                                       cmocka_unit_test(common_words),
                                       cmocka_unit_test(frequent_words),
                                       cmocka_unit_test(questions_of_files),
                                       cmocka_unit_test(longbench_kinds),
                                       cmocka_unit_test(longbench_cuts_the_middle)};
    return cmocka_run_group_tests(tests, make_world, free_world);
}
