/* SPDX-License-Identifier: MIT */
/* Samples of LongBench's files: one JSON object a line with input, context, answers, all_classes, dataset, length,
 * language and _id.  Prompts are plain ones of our own by what a sample looks like, and scores are shared words or
 * containment: good for comparing attentions on the same samples, not for LongBench's own table.  A context that is too
 * long loses its middle. */
#include <stdlib.h>
#include <string.h>

#include "jsonout.h"
#include "task_qa.h"
#include "term.h"

enum { UNIT = 64 }; /* bytes of context by which sizes differ */

static const char *text_of(const json_t *x, const char *key) {
    const char *s = json_string_value(json_object_get(x, key));
    return s ? s : "";
}

static bool is_sample(const json_t *x) {
    const json_t *answers = json_object_get(x, "answers");
    size_t i;
    json_t *a;
    if (!json_is_string(json_object_get(x, "context")) || !json_array_size(answers)) return false;
    json_array_foreach(answers, i, a) if (!json_is_string(a)) return false;
    return true;
}

int longbench_lines(const char *name, const buf *text, json_t *out) {
    size_t line = 0;
    for (const char *p = text->s, *end = p ? p + text->n : p; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        line++;
        if (n && strspn(p, " \t\r") < n) {
            json_error_t e;
            json_t *x = json_loadb(p, n, 0, &e);
            if (!x) return fail("%s: line %zu: %s", name, line, e.text);
            if (!is_sample(x)) {
                json_decref(x);
                return fail("%s: line %zu: no context and answers as LongBench has them", name, line);
            }
            json_array_append_new(out, x);
        }
        p += n + 1;
    }
    return json_array_size(out) ? EXIT_OK : fail("%s: no samples in it", name);
}

static const json_t *item_of(const task_env *env, uint64_t number) {
    size_t n = json_array_size(env->bench);
    return json_array_get(env->bench, n ? (size_t)(number % n) : 0);
}

/* The first and last bytes of the context, cut at character borders. */
static void put_cut(buf *out, const char *s, size_t keep) {
    size_t n = strlen(s);
    if (n <= keep) {
        buf_add(out, s, n);
        return;
    }
    size_t head = keep / 2, tail = n - (keep - keep / 2);
    while (head > 0 && ((unsigned char)s[head] & 0xC0) == 0x80) head--;
    while (tail < n && ((unsigned char)s[tail] & 0xC0) == 0x80) tail++;
    buf_add(out, s, head);
    buf_add(out, s + tail, n - tail);
}

static void build_longbench(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    (void)t;
    (void)r;
    const json_t *x = item_of(env, s->number), *classes = json_object_get(x, "all_classes");
    const char *input = text_of(x, "input"), *name = text_of(x, "dataset"), *language = text_of(x, "language");
    bool code = *language && strcmp(language, "en") && strcmp(language, "zh");
    buf context = {0}, question = {0};
    size_t i;
    json_t *c;
    put_cut(&context, text_of(x, "context"), (size_t)size * UNIT);
    s->how = SCORE_F1;
    s->n_predict = 64;
    if (json_array_size(classes)) {
        buf_str(&question, "Give the next text one of these labels: ");
        json_array_foreach(classes, i, c) {
            const char *label = json_string_value(c);
            buf_fmt(&question, "%s%s", i ? ", " : "", label ? label : "");
        }
        buf_fmt(&question, ".\n%s", input);
        sample_compose(s, "Here are texts with their labels.\n\n", &context, "\n\n", &question, env->question);
        buf_str(&s->prefix, "\nLabel:");
        s->how = SCORE_PART;
        s->n_predict = 16;
    } else if (code) {
        buf_add(&context, input, strlen(input));
        sample_compose(s, "Continue this code with its next line.\n\n", &context, "", &question, QUESTION_LAST);
    } else if (!strncmp(name, "passage_", 8)) {
        buf_fmt(&question, "%s%s", *input ? "Which of the paragraphs above is this about?\n\n" : "",
                *input ? input : "How many different paragraphs are there above?");
        sample_compose(s, "Read these paragraphs.\n\n", &context, "\n\n", &question, env->question);
        buf_str(&s->prefix, "\n\nThe answer is:");
        s->how = SCORE_PART;
        s->n_predict = 32;
    } else if (!*input) {
        buf_str(&question, "Summarize the text in one paragraph.");
        sample_compose(s, "Read this text.\n\n", &context, "\n\n", &question, env->question);
        buf_str(&s->prefix, "\n\nSummary:");
        s->n_predict = 256;
    } else {
        buf_fmt(&question, "Answer this question about the text in a few words: %s", input);
        sample_compose(s, "Read this text.\n\n", &context, "\n\n", &question, env->question);
        buf_str(&s->prefix, "\n\nAnswer:");
    }
    json_array_foreach(json_object_get(x, "answers"), i, c) sample_ref(s, json_string_value(c));
    buf_free(&context);
    buf_free(&question);
}

static uint32_t max_longbench(const task_env *env, uint64_t number) {
    return (uint32_t)(strlen(text_of(item_of(env, number), "context")) / UNIT + 1);
}

const task tasks_longbench[] = {
    {"longbench", CMD_LONGBENCH, SCORE_F1, 64, 0, 0, max_longbench, true, false, NULL, build_longbench, NULL},
    {.name = NULL}};
