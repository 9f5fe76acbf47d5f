/* SPDX-License-Identifier: MIT */
/* See task_answer.h.  Answers are greedy and go on for the task's whole number of tokens, unless the model ends them:
 * what RULER does.  Look-ups are not generated but read: see forced_*. */
#include "task_answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "jsonout.h"
#include "term.h"

int task_prompt(const options *o, const crit_model *model, const sample *s, prompt *p) {
    p->n = 0;
    if (o->chat) {
        int rc = prompt_chat(p, model, NULL, s->text.s, s->text.n);
        return rc || !s->prefix.n ? rc : prompt_tokenize(p, model, s->prefix.s, s->prefix.n, 0);
    }
    buf whole = {0};
    buf_add(&whole, s->text.s, s->text.n);
    buf_add(&whole, s->prefix.s, s->prefix.n);
    int rc = whole.oom ? fail_memory() : prompt_tokenize(p, model, whole.s, whole.n, CRIT_TOK_BOS_EOS);
    buf_free(&whole);
    return rc;
}

/* ---- values read, not generated ---- */

typedef struct forced {
    const prompt *p;
    uint8_t *value_of;          /* [p->n] 1 + the value that the next token belongs to; 0 = none */
    uint32_t first, last;       /* rows of logits that are wanted */
    uint32_t begin[LOOKUP_MAX]; /* first row of each value */
    uint32_t n_row[LOOKUP_MAX]; /* rows it has, and those met so far */
    uint32_t n_seen[LOOKUP_MAX];
    bool missed[LOOKUP_MAX];
} forced;

static int forced_row(void *user, uint32_t pos, const float *x, uint32_t n_vocab) {
    forced *f = user;
    if (pos + 1 >= f->p->n || !f->value_of[pos]) return 0;
    uint32_t v = f->value_of[pos] - 1u, best = 0;
    for (uint32_t i = 1; i < n_vocab; i++)
        if (x[i] > x[best]) best = i;
    f->n_seen[v]++;
    if ((int32_t)best != f->p->ids[pos + 1]) f->missed[v] = true;
    return 0;
}

/* Which tokens the values are, by the bytes of each. */
static int forced_open(forced *f, const crit_model *model, const sample *s, const prompt *p) {
    *f = (forced){.p = p, .first = UINT32_MAX};
    size_t *at = malloc((p->n + 1) * sizeof *at); /* where each token begins */
    f->value_of = calloc(p->n, 1);
    if (!at || !f->value_of) {
        free(at);
        return fail_memory();
    }
    at[0] = 0;
    for (size_t i = 0; i < p->n; i++) at[i + 1] = at[i] + crit_token_bytes(model, p->ids[i], false, NULL, 0);
    /* Some tokenizers put a blank in front of the text. */
    size_t shift = at[p->n] - s->text.n;
    bool good = shift <= 1;
    for (size_t v = 0, t = 1; good && v < s->n_value; v++) {
        size_t from = s->value[v].at + shift, to = from + s->value[v].len;
        while (t < p->n && at[t + 1] <= from) t++; /* never the first token: nothing predicts it */
        f->begin[v] = (uint32_t)t - 1;
        for (; t < p->n && at[t] < to; t++) {
            f->value_of[t - 1] = (uint8_t)(v + 1);
            f->n_row[v]++;
            f->last = (uint32_t)t - 1;
        }
        if (f->begin[v] < f->first) f->first = f->begin[v];
        good = f->n_row[v] > 0;
    }
    free(at);
    return good ? EXIT_OK : fail("lookup: this tokenizer does not give the text back, so values cannot be told");
}

static json_t *bits(const bool *missed, size_t n) {
    char s[LOOKUP_MAX + 1];
    for (size_t i = 0; i < n; i++) s[i] = missed[i] ? '0' : '1';
    return json_stringn(s, n);
}

/* What was found in the dense last part and before it. */
static void forced_score(const forced *f, const sample *s, const variant *v, json_t *j) {
    uint32_t n = (uint32_t)f->p->n, last = v->attn.dense_last, tail = n > last ? n - last : 0;
    json_int_t found[2] = {0}, all[2] = {0};
    for (size_t i = 0; i < s->n_value; i++) {
        all[f->begin[i] >= tail]++;
        found[f->begin[i] >= tail] += !f->missed[i];
    }
    json_put(j, "found", bits(f->missed, s->n_value));
    json_put(j, "score", json_num((double)(found[0] + found[1]) / (double)s->n_value));
    json_put(j, "found_tail", json_integer(found[1]));
    json_put(j, "n_tail", json_integer(all[1]));
    json_put(j, "found_sparse", json_integer(found[0]));
    json_put(j, "n_sparse", json_integer(all[0]));
}

/* ---- reading ---- */

/* Progress over the calls that make up one prompt. */
typedef struct pace {
    evalout *out;
    double before;
    uint32_t total;
} pace;

static int pace_tick(void *user, double done, uint32_t total) {
    const pace *p = user;
    (void)total;
    return evalout_tick(p->out, p->before + done, p->total);
}

/* After how many tokens of the prompt no row of logits is wanted anymore, held-back ones included: the rows behind the
 * questions would cost a product with the vocabulary each. */
static size_t tokens_with_logits(const asker *a, const variant *v, const forced *f) {
    crit_memory m = {.struct_size = sizeof m};
    crit_session_params sp = variant_session(a->o, v, (uint32_t)f->p->n);
    if (crit_memory_estimate(a->model, &sp, &m, NULL)) return f->p->n;
    size_t back = v->attn.dense_last > v->attn.seg_len ? v->attn.dense_last : v->attn.seg_len;
    size_t n = f->last + 1 + m.n_batch + back + 512;
    return n < f->p->n ? n : f->p->n;
}

static int read_prompt(const asker *a, crit_session *session, const variant *v, const prompt *p, forced *f) {
    crit_error err = {0};
    crit_prefill_params pp;
    pace now = {a->out, 0, (uint32_t)p->n};
    crit_prefill_params_init(&pp);
    pp.progress = pace_tick;
    pp.progress_user = &now;
    if (crit_session_rewind(session, 0, &err)) return fail_with(&err);
    size_t first = f ? tokens_with_logits(a, v, f) : p->n;
    if (f) {
        pp.on_logits = forced_row;
        pp.logits_user = f;
        pp.logits_from = f->first;
    }
    pp.more = first < p->n;
    if (crit_prefill(session, p->ids, first, &pp, &err)) return fail_with(&err);
    if (!pp.more) return EXIT_OK;
    pp.more = false;
    pp.on_logits = NULL;
    now.before = (double)first;
    return crit_prefill(session, p->ids + first, p->n - first, &pp, &err) ? fail_with(&err) : EXIT_OK;
}

static int put_token(const asker *a, int32_t id, utf8 *u, buf *text) {
    char piece[256];
    size_t n = crit_token_bytes(a->model, id, false, piece, sizeof piece);
    if (n > sizeof piece) n = sizeof piece; /* no answer holds such a token; what is cut would match nothing */
    for (size_t i = 0; i < n; i++)
        if (!piece[i]) piece[i] = ' '; /* scores take strings */
    utf8_feed(u, piece, n, text);
    return text->oom ? fail_memory() : EXIT_OK;
}

static int generate(const asker *a, crit_session *session, uint32_t n, buf *text) {
    crit_error err = {0};
    utf8 u = {0};
    int rc = buf_room(text, 0) ? EXIT_OK : fail_memory();
    for (uint32_t i = 0; i < n && !rc; i++) {
        int32_t id = crit_sample(a->sampler, crit_logits(session));
        if (id < 0) rc = fail("the model's logits are not numbers");
        if (rc || crit_token_ends(a->model, id)) break;
        rc = put_token(a, id, &u, text);
        if (!rc && term_interrupted()) rc = EXIT_INTERRUPTED;
        if (!rc && i + 1 < n && crit_decode(session, id, &err)) rc = fail_with(&err);
    }
    utf8_end(&u, text);
    return rc || !text->oom ? rc : fail_memory();
}

/* ---- the record ---- */

static void put_score(const sample *s, const char *text, json_t *j) {
    refs r = sample_refs(s);
    char *found = s->how == SCORE_ALL ? malloc(r.n + 1) : NULL;
    double x = s->how == SCORE_ALL    ? score_all(text, &r, found)
               : s->how == SCORE_PART ? score_part(text, &r)
                                      : score_f1(text, &r);
    json_put(j, "score", json_num(x));
    json_put(j, "exact", json_boolean(score_exact(text, &r) > 0));
    if (found) json_put(j, "found", json_cstr(found));
    free(found);
}

static void put_refs(const sample *s, json_t *j) {
    json_t *list = json_array();
    refs r = sample_refs(s);
    for (size_t i = 0; i < r.n; i++) json_array_append_new(list, json_cstr(refs_at(&r, i)));
    json_put(j, "refs", list);
}

static void put_hash(const prompt *p, json_t *j) {
    uint64_t h = HASH_START;
    for (size_t i = 0; i < p->n; i++) {
        uint32_t id = (uint32_t)p->ids[i];
        unsigned char b[4] = {(unsigned char)id, (unsigned char)(id >> 8), (unsigned char)(id >> 16),
                              (unsigned char)(id >> 24)};
        h = hash_bytes(h, b, sizeof b);
    }
    json_put(j, "prompt_hash", json_sprintf("%016llx", (unsigned long long)h));
}

static void put_stats(const crit_stats *st, json_t *j) {
    json_put(j, "density", json_num(st->density));
    json_put(j, "prefill_s", json_num((st->prefill_ms - st->logits_ms) / 1e3));
    json_put(j, "attend_s", json_num(st->attend_ms / 1e3));
    json_put(j, "estimate_s", json_num(st->estimate_ms / 1e3));
    json_put(j, "mass_measured", json_num(st->mass_measured));
    json_put(j, "peak_recall_measured", json_num(st->peak_recall_measured));
}

/* Length of the longest piece of the first reference in the answer, as a share of it: how far a long number got. */
static int put_common(const sample *s, const char *text, json_t *j) {
    refs r = sample_refs(s);
    size_t n = score_common(text, refs_at(&r, 0)), all = strlen(refs_at(&r, 0));
    if (n == SIZE_MAX) return fail_memory();
    json_put(j, "common", json_num(all ? (double)n / (double)all : 0));
    return EXIT_OK;
}

int task_answer(const asker *a, crit_session *session, const variant *v, const sample *s, const prompt *p,
                json_t **record) {
    bool read = s->how == SCORE_FORCED;
    forced f = {0};
    buf text = {0};
    crit_stats st = {.struct_size = sizeof st};
    json_t *j = json_object();
    int rc = read ? forced_open(&f, a->model, s, p) : EXIT_OK;
    if (!rc) rc = read_prompt(a, session, v, p, read ? &f : NULL);
    if (!rc && crit_session_stats(session, &st)) rc = fail("no statistics of the prompt");
    if (!rc && !read) rc = generate(a, session, s->n_predict, &text);
    for (size_t i = 0; i < s->n_value && !rc; i++)
        if (f.n_seen[i] != f.n_row[i])
            rc = fail("lookup: logits of %u positions did not come", f.n_row[i] - f.n_seen[i]);
    if (!rc) {
        put_hash(p, j);
        json_put(j, "prompt_tok", json_size(p->n));
        if (read)
            forced_score(&f, s, v, j);
        else
            put_score(s, text.s, j);
        if (!read && a->o->kind == CMD_PASSKEY) rc = put_common(s, text.s, j);
        if (!read) json_put(j, "output", json_text(text.s, text.n));
        put_refs(s, j);
        put_stats(&st, j);
    }
    free(f.value_of);
    buf_free(&text);
    if (rc)
        json_decref(j);
    else
        *record = j;
    return rc;
}
