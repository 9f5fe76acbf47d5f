/* SPDX-License-Identifier: MIT */
/* See klset.h.  A record's key holds the text's name and a hash of the tokens read, so that --out may be given more
 * files, lengths and attentions later, and a file that has changed is measured anew. */
#include "klset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "files.h"
#include "jsonout.h"
#include "lockstep.h"
#include "rng.h"
#include "term.h"

enum { USUAL_CTX = 4096 };

/* ---- text ---- */

int32_t eval_bos(const crit_model *model, int *rc) {
    prompt with = {0}, without = {0};
    *rc = prompt_tokenize(&with, model, "a", 1, CRIT_TOK_BOS_EOS);
    if (!*rc) *rc = prompt_tokenize(&without, model, "a", 1, 0);
    int32_t id = -1;
    if (!*rc && with.n > without.n && (!without.n || with.ids[0] != without.ids[0])) id = with.ids[0];
    prompt_free(&with);
    prompt_free(&without);
    return id;
}

int eval_read_text(const options *o, const crit_model *model, prompt *out, int32_t *bos) {
    buf text = {0};
    bool own = o->files.n == 0;
    int rc = own ? text_own(&text) : text_read(o, &text);
    if (!rc && !text.n) rc = fail("%s: the text is empty", o->files.v[0]);
    if (!rc) *bos = eval_bos(model, &rc);
    if (!rc && *bos >= 0) {
        out->ids = malloc(sizeof *out->ids);
        if (!out->ids) rc = fail_memory();
        if (!rc) out->ids[out->n++] = *bos;
    }
    if (!rc) rc = prompt_tokenize(out, model, text.s, text.n, 0);
    if (!rc && own) note("text: critiprefill's own documents and sources");
    buf_free(&text);
    return rc;
}

static int read_texts(klset *s, uint32_t longest) {
    size_t n_file = s->o->files.n;
    s->n_text = n_file ? n_file : 1;
    s->text = calloc(s->n_text, sizeof *s->text);
    s->name = calloc(s->n_text, sizeof *s->name);
    if (!s->text || !s->name) return fail_memory();
    for (size_t i = 0; i < s->n_text; i++) {
        options one = *s->o; /* each file is a text of its own */
        one.prompt = NULL;
        one.files = (str_list){n_file ? &s->o->files.v[i] : NULL, n_file ? 1 : 0};
        s->name[i] = !n_file ? "own" : strcmp(one.files.v[0], "-") ? one.files.v[0] : "stdin";
        int rc = bench_text(&one, s->model, longest, &s->text[i]);
        if (rc) return rc;
    }
    return EXIT_OK;
}

int eval_check_length(const options *o, const crit_model_info *info, uint32_t n_tok) {
    uint32_t train = model_context(info);
    if (!train || n_tok <= train || o->force) return EXIT_OK;
    return fail("%s: %u tokens are more than the %u the model was trained for (--force runs them)", o->model, n_tok,
                train);
}

static int choose_lengths(klset *s, uint32_t *longest) {
    uint32_t train = model_context(&s->info);
    s->ctx = s->o->ctx;
    if (!s->ctx.n) s->ctx = (u32_list){{train && train < USUAL_CTX ? train : USUAL_CTX}, 1};
    for (size_t i = 0; i < s->ctx.n; i++) {
        int rc = eval_check_length(s->o, &s->info, s->ctx.v[i]);
        if (rc) return rc;
        if (s->ctx.v[i] > *longest) *longest = s->ctx.v[i];
    }
    return EXIT_OK;
}

/* ---- records ---- */

/* Of the text's first n_tok tokens. */
static void put_key(buf *key, const klset *s, size_t text, uint32_t n_tok, const variant *v) {
    buf_fmt(key, "%s %016llx %u %s", s->name[text], (unsigned long long)hash_ids(s->text[text].ids, n_tok), n_tok,
            v->name);
}

static int find(const klset *s, size_t text, uint32_t n_tok, const variant *v, bool *found) {
    buf key = {0};
    put_key(&key, s, text, n_tok, v);
    bool oom = key.oom;
    *found = !oom && evalout_want(s->out, key.s);
    buf_free(&key);
    return oom ? fail_memory() : EXIT_OK;
}

static int put(klset *s, size_t text, const lockstep *l, lockstep_side *side) {
    json_t *r = json_object(), *figures = klfigures_json(&side->f, &side->stats, &l->dense);
    json_put(r, "attn", json_cstr(side->v->name));
    json_put(r, "text", json_cstr(s->name[text]));
    json_put(r, "ctx_tok", json_integer(l->n_tok));
    json_object_update(r, figures);
    json_decref(figures);
    json_put(r, "seed", json_integer((json_int_t)s->o->sampler.seed));
    buf key = {0};
    put_key(&key, s, text, l->n_tok, side->v);
    int rc = EXIT_OK;
    if (key.oom) {
        json_decref(r);
        rc = fail_memory();
    } else {
        rc = evalout_put(s->out, key.s, r);
    }
    buf_free(&key);
    return rc;
}

/* ---- */

int klset_open(klset *s, const options *o, const char *kind, const variants *list) {
    double ms;
    uint32_t longest = 0;
    *s = (klset){.o = o, .kind = kind};
    for (size_t i = 0; i < list->n; i++) {
        bool twice = false;
        for (size_t k = 0; k < s->list.n && !twice; k++) twice = !strcmp(s->list.v[k].name, list->v[i].name);
        if (!twice) s->list.v[s->list.n++] = list->v[i];
    }
    int rc = model_open(o, &s->model, &s->info, &ms);
    if (!rc) rc = choose_lengths(s, &longest);
    if (!rc) rc = read_texts(s, longest);
    if (rc) return rc;
    json_t *config = eval_config(o, s->model, &s->info);
    json_put(config, "last", json_integer(o->n_last));
    return evalout_open(&s->out, o, kind, config);
}

static double work_of(uint32_t n_tok, size_t n_side) {
    return (double)n_tok * (double)(n_side + 1);
}

/* What is missing of one text and length: all at once. */
static int measure(klset *s, size_t text, uint32_t n_tok, bool dry, double *work) {
    lockstep_side side[VARIANT_MAX] = {0};
    lockstep l = {.o = s->o,
                  .model = s->model,
                  .n_vocab = s->info.n_vocab,
                  .ids = s->text[text].ids,
                  .n_tok = n_tok,
                  .side = side,
                  .out = s->out};
    for (size_t i = 0; i < s->list.n; i++) {
        bool found;
        int rc = find(s, text, n_tok, &s->list.v[i], &found);
        if (rc) return rc;
        if (!found) side[l.n_side++].v = &s->list.v[i];
    }
    if (l.n_side) *work += work_of(n_tok, l.n_side);
    if (!l.n_side || dry) return EXIT_OK;
    int rc = lockstep_run(&l);
    for (size_t i = 0; i < l.n_side; i++) {
        if (!rc) rc = put(s, text, &l, &side[i]);
        klfigures_free(&side[i].f);
    }
    return rc;
}

int klset_measure(klset *s) {
    int rc = EXIT_OK;
    for (int dry = 1; dry >= 0 && !rc; dry--) {
        double work = 0;
        for (size_t t = 0; t < s->n_text && !rc; t++)
            for (size_t i = 0; i < s->ctx.n && !rc; i++) rc = measure(s, t, s->ctx.v[i], dry, &work);
        if (dry) evalout_work(s->out, work);
    }
    return rc;
}

void klset_title(const klset *s, buf *out) {
    buf_fmt(out, "%s, %s, %u threads", s->info.name && s->info.name[0] ? s->info.name : s->info.arch, s->info.cpu,
            options_threads(s->o));
}

int klset_close(klset *s, int rc) {
    rc = evalout_close(&s->out, rc);
    for (size_t i = 0; i < s->n_text && s->text; i++) prompt_free(&s->text[i]);
    free(s->text);
    free(s->name);
    crit_model_close(&s->model);
    return rc;
}

double record_num(const json_t *record, const char *key) {
    const json_t *v = json_object_get(record, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

const char *record_str(const json_t *record, const char *key) {
    const char *s = json_string_value(json_object_get(record, key));
    return s ? s : "";
}
