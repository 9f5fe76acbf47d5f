/* SPDX-License-Identifier: MIT */
/* RULER's two question tasks on files of the user: SQuAD 2 (qa_1) and HotpotQA with distractors (qa_2).  Both become
 * the same: questions that name their documents, and documents to hide them among. */
#include "task_qa.h"

#include <stdlib.h>
#include <string.h>

#include "jsonout.h"
#include "term.h"

/* ---- files ---- */

/* What both files become:
 *   {"docs": [text], "questions": [{"query", "answers": [text], "own": [doc], "near": [doc]}]}
 * own: what the question comes with; near: other documents of its article. */
typedef struct qa {
    json_t *out, *docs, *questions, *seen; /* seen: text -> index in docs */
} qa;

static qa qa_start(void) {
    qa q = {json_object(), json_array(), json_array(), json_object()};
    json_put(q.out, "docs", q.docs);
    json_put(q.out, "questions", q.questions);
    return q;
}

static json_int_t doc_of(qa *q, const char *text) {
    const json_t *known = json_object_get(q->seen, text);
    if (known) return json_integer_value(known);
    json_int_t i = (json_int_t)json_array_size(q->docs);
    json_array_append_new(q->docs, json_cstr(text));
    json_put(q->seen, text, json_integer(i));
    return i;
}

static int qa_end(qa *q, const char *name, bool good, json_t **out) {
    json_decref(q->seen);
    size_t n = json_array_size(q->questions);
    if (good && n) {
        *out = q->out;
        return EXIT_OK;
    }
    json_decref(q->out);
    return good ? fail("%s: no question with an answer in it", name) : fail("%s: not the JSON expected", name);
}

static int parse(const char *name, const buf *text, json_t **out) {
    json_error_t e;
    *out = json_loadb(text->n ? text->s : "", text->n, 0, &e);
    return *out ? EXIT_OK : fail("%s: line %d: %s", name, e.line, e.text);
}

static bool add_paragraph(qa *q, const json_t *paragraph, const json_t *article) {
    const char *context = json_string_value(json_object_get(paragraph, "context"));
    const json_t *qas = json_object_get(paragraph, "qas");
    if (!context || !json_is_array(qas)) return false;
    json_int_t own = doc_of(q, context);
    size_t i, k;
    json_t *x, *a;
    json_array_foreach(qas, i, x) {
        const char *query = json_string_value(json_object_get(x, "question"));
        const json_t *answers = json_object_get(x, "answers");
        if (!query || json_is_true(json_object_get(x, "is_impossible")) || !json_array_size(answers)) continue;
        json_t *item = json_object(), *texts = json_array(), *near = json_array(), *mine = json_array();
        json_array_foreach(answers, k, a) {
            const json_t *t = json_object_get(a, "text");
            if (json_is_string(t)) json_array_append_new(texts, json_cstr(json_string_value(t)));
        }
        json_array_foreach(article, k, a) {
            const char *t = json_string_value(json_object_get(a, "context"));
            if (t && a != paragraph) json_array_append_new(near, json_integer(doc_of(q, t)));
        }
        json_array_append_new(mine, json_integer(own));
        json_put(item, "query", json_cstr(query));
        json_put(item, "answers", texts);
        json_put(item, "own", mine);
        json_put(item, "near", near);
        json_array_append_new(q->questions, item);
    }
    return true;
}

int qa_squad(const char *name, const buf *text, json_t **out) {
    json_t *root;
    int rc = parse(name, text, &root);
    if (rc) return rc;
    qa q = qa_start();
    const json_t *data = json_object_get(root, "data");
    bool good = json_is_array(data);
    size_t i, k;
    json_t *article, *paragraph;
    json_array_foreach(data, i, article) {
        const json_t *all = json_object_get(article, "paragraphs");
        good = good && json_is_array(all);
        json_array_foreach(all, k, paragraph) good = good && add_paragraph(&q, paragraph, all);
    }
    rc = qa_end(&q, name, good, out);
    json_decref(root);
    return rc;
}

/* [title, [sentence, ...]] -> its document; -1 when it is not that. */
static json_int_t hotpot_doc(qa *q, const json_t *pair) {
    const char *title = json_string_value(json_array_get(pair, 0));
    const json_t *sentences = json_array_get(pair, 1);
    if (!title || !json_is_array(sentences)) return -1;
    buf b = {0};
    buf_fmt(&b, "%s\n", title);
    size_t i;
    json_t *s;
    json_array_foreach(sentences, i, s) buf_str(&b, json_is_string(s) ? json_string_value(s) : "");
    json_int_t id = b.oom ? -1 : doc_of(q, b.s);
    buf_free(&b);
    return id;
}

int qa_hotpot(const char *name, const buf *text, json_t **out) {
    json_t *root;
    int rc = parse(name, text, &root);
    if (rc) return rc;
    qa q = qa_start();
    bool good = json_is_array(root);
    size_t i, k;
    json_t *x, *pair;
    json_array_foreach(root, i, x) {
        const char *query = json_string_value(json_object_get(x, "question"));
        const char *answer = json_string_value(json_object_get(x, "answer"));
        json_t *item = json_object(), *own = json_array(), *answers = json_array();
        json_array_foreach(json_object_get(x, "context"), k, pair) {
            json_int_t id = hotpot_doc(&q, pair);
            good = good && id >= 0;
            json_array_append_new(own, json_integer(id));
        }
        good = good && query && answer && json_array_size(own);
        json_array_append_new(answers, json_cstr(answer ? answer : ""));
        json_put(item, "query", json_cstr(query ? query : ""));
        json_put(item, "answers", answers);
        json_put(item, "own", own);
        json_put(item, "near", json_array());
        json_array_append_new(q.questions, item);
        if (!good) break;
    }
    rc = qa_end(&q, name, good, out);
    json_decref(root);
    return rc;
}

/* ---- samples ---- */

static const json_t *set_of(const task_env *env, const task *t) {
    return t->needs & NEEDS_SQUAD ? env->squad : env->hotpot;
}

static size_t take(const json_t *ids, uint32_t *list, bool *taken, size_t n, size_t max) {
    size_t i;
    json_t *x;
    json_array_foreach(ids, i, x) {
        size_t id = (size_t)json_integer_value(x);
        if (n == max) break;
        if (taken[id]) continue;
        taken[id] = true;
        list[n++] = (uint32_t)id;
    }
    return n;
}

/* size documents, the question's own first, then its article's, then any; shuffled.  Returns how many. */
static size_t choose_docs(const json_t *item, size_t n_doc, uint32_t size, rng *r, uint32_t *list, uint32_t *any,
                          bool *taken) {
    const json_t *own = json_object_get(item, "own");
    size_t max = size < json_array_size(own) ? json_array_size(own) : size, n;
    if (max > n_doc) max = n_doc;
    n = take(own, list, taken, 0, max);
    n = take(json_object_get(item, "near"), list, taken, n, max);
    rng_pick(r, any, n_doc, n_doc);
    for (size_t i = 0; i < n_doc && n < max; i++)
        if (!taken[any[i]]) list[n++] = any[i];
    rng_shuffle(r, list, n);
    return n;
}

static void build_qa(const task_env *env, const task *t, uint32_t size, rng *r, sample *s) {
    static const char ask[] = "Answer the question based on the given documents. Only give me the answer and do not "
                              "output any other words.\n\n";
    const json_t *set = set_of(env, t), *docs = json_object_get(set, "docs"), *qs = json_object_get(set, "questions");
    const json_t *item = json_array_get(qs, (size_t)(s->number % json_array_size(qs)));
    size_t n_doc = json_array_size(docs), i;
    uint32_t *list = malloc(2 * n_doc * sizeof *list);
    bool *taken = calloc(n_doc, sizeof *taken);
    buf context = {0}, question = {0}, head = {0};
    if (!list || !taken) s->text.oom = true;
    if (!s->text.oom) {
        size_t n = choose_docs(item, n_doc, size, r, list, list + n_doc, taken);
        for (i = 0; i < n; i++)
            buf_fmt(&context, "%sDocument %zu:\n%s", i ? "\n\n" : "", i + 1,
                    json_string_value(json_array_get(docs, list[i])));
    }
    buf_fmt(&head, "%sThe following are given documents.\n\n", ask);
    buf_fmt(&question, "%sQuestion: %s", ask, json_string_value(json_object_get(item, "query")));
    if (!head.oom) sample_compose(s, head.s, &context, "\n\n", &question, env->question);
    buf_str(&s->prefix, " Answer:");
    json_t *a;
    json_array_foreach(json_object_get(item, "answers"), i, a) sample_ref(s, json_string_value(a));
    s->text.oom |= head.oom;
    free(list);
    free(taken);
    buf_free(&context);
    buf_free(&question);
    buf_free(&head);
}

static uint32_t n_docs(const json_t *set) {
    return (uint32_t)json_array_size(json_object_get(set, "docs"));
}
static uint32_t max_squad(const task_env *env, uint64_t number) {
    (void)number;
    return n_docs(env->squad);
}
static uint32_t max_hotpot(const task_env *env, uint64_t number) {
    (void)number;
    return n_docs(env->hotpot);
}

const task tasks_qa[] = {
    {"qa_1", CMD_RULER, SCORE_PART, 32, NEEDS_SQUAD, 1, max_squad, false, false, NULL, build_qa, NULL},
    {"qa_2", CMD_RULER, SCORE_PART, 32, NEEDS_HOTPOT, 1, max_hotpot, false, false, NULL, build_qa, NULL},
    {.name = NULL}};
