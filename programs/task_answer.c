/* SPDX-License-Identifier: MIT */
/* See task_answer.h.  Answers are greedy and go on for the task's whole number of tokens, unless the model ends them:
 * what RULER does.  Look-ups are not generated but read: forced.h. */
#include "task_answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "forced.h"
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
    size_t back = v->attn.last_tok > v->attn.seg_len ? v->attn.last_tok : v->attn.seg_len;
    size_t n = f->last + 1 + m.n_batch + back + 512;
    return n < f->p->n ? n : f->p->n;
}

static int read_prompt(const asker *a, crit_session *session, const variant *v, const prompt *p, size_t from,
                       forced *f) {
    crit_error err = {0};
    crit_prefill_params pp;
    pace now = {a->out, 0, (uint32_t)(p->n - from)};
    crit_prefill_params_init(&pp);
    pp.progress = pace_tick;
    pp.progress_user = &now;
    if (crit_session_rewind(session, (uint32_t)from, &err)) return fail_with(&err);
    size_t first = f ? tokens_with_logits(a, v, f) : p->n;
    if (f) {
        pp.on_logits = forced_row;
        pp.logits_user = f;
        pp.logits_from = f->first;
    }
    pp.more = first < p->n;
    if (crit_prefill(session, p->ids + from, first - from, &pp, &err)) return fail_with(&err);
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

static int generate(const asker *a, crit_session *session, uint32_t n, buf *text, double *first_ms) {
    crit_error err = {0};
    utf8 u = {0};
    double t = now_ms();
    int rc = buf_room(text, 0) ? EXIT_OK : fail_memory();
    for (uint32_t i = 0; i < n && !rc; i++) {
        int32_t id = crit_sample(a->sampler, crit_logits(session));
        if (i == 0) *first_ms = now_ms() - t;
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
    char *found = s->how == SCORE_ALL || s->how == SCORE_ORDER ? malloc(r.n + 1) : NULL;
    double x = s->how == SCORE_ALL     ? score_all(text, &r, found)
               : s->how == SCORE_ORDER ? score_order(text, &r, found)
               : s->how == SCORE_PART  ? score_part(text, &r)
               : s->how == SCORE_PIECE ? score_piece(text, &r)
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

void task_put_hash(const prompt *p, json_t *j) {
    json_put(j, "prompt_hash", json_hex(hash_ids(p->ids, p->n)));
}

void task_put_stats(const crit_stats *st, json_t *j) {
    json_put(j, "density", json_num(st->density));
    json_put(j, "prefill_s", json_num((st->prefill_ms - st->logits_ms) / 1e3));
    json_put(j, "attend_s", json_num(st->attend_ms / 1e3));
    json_put(j, "estimate_s", json_num(st->estimate_ms / 1e3));
    json_put(j, "mass_measured", json_num(st->mass_measured));
    json_put(j, "peak_recall_measured", json_num(st->peak_recall_measured));
}

int task_generate(const asker *a, crit_session *session, const sample *s, json_t *j, double *first_ms) {
    buf text = {0};
    refs r = sample_refs(s);
    int rc = generate(a, session, s->n_predict, &text, first_ms);
    if (!rc) {
        put_score(s, text.s, j);
        /* how far a long number got */
        if (a->common) json_put(j, "common", json_num(score_piece(text.s, &r)));
        json_put(j, "output", json_text(text.s, text.n));
        put_refs(s, j);
    }
    buf_free(&text);
    return rc;
}

static int read_values(const asker *a, crit_session *session, const variant *v, const sample *s, const prompt *p,
                       json_t *j) {
    forced f = {0};
    int rc = forced_open(&f, a->model, s, p);
    if (!rc) rc = read_prompt(a, session, v, p, 0, &f);
    if (!rc) rc = forced_complete(&f, s);
    if (!rc) forced_score(&f, s, v->attn.last_tok, j);
    if (!rc) put_refs(s, j);
    forced_free(&f);
    return rc;
}

void reader_close(reader *r) {
    crit_session_close(&r->session);
    prompt_free(&r->held);
    *r = (reader){0};
}

/* How much of p the session holds as p's reading would have made it.  What the end of a prompt decides is not: tiles
 * that reach there, of either prompt; spans and segments go whole.  Nor is what a policy made of it.  One token at
 * least is left to read, for its logits. */
static size_t held_of(const reader *r, const variant *v, const sample *s, const prompt *p) {
    enum { SPAN = 128 };
    const size_t shorter = p->n < r->held.n ? p->n : r->held.n;
    size_t align = SPAN, tail = 1, n = 0;
    if (v->attn.mode == CRIT_ATTN_PAPER) align = tail = v->attn.seg_len;
    if (v->attn.mode == CRIT_ATTN_CRITI && v->attn.last_tok) tail = v->attn.last_tok;
    if (!s->asked || v->policy) return 0;
    while (n + tail < shorter && p->ids[n] == r->held.ids[n]) n++;
    return n / align * align;
}

static int hold(reader *r, const prompt *p) {
    int32_t *ids = p->n ? realloc(r->held.ids, p->n * sizeof *ids) : NULL;
    if (!ids) return fail_memory();
    memcpy(ids, p->ids, p->n * sizeof *ids);
    r->held.ids = ids;
    r->held.n = p->n;
    return EXIT_OK;
}

int task_answer(const asker *a, reader *r, const variant *v, const sample *s, const prompt *p, json_t **record) {
    const bool read = s->how == SCORE_FORCED;
    const size_t from = held_of(r, v, s, p);
    double first_ms;
    crit_stats st = {.struct_size = sizeof st};
    json_t *j = json_object();
    r->held.n = 0; /* until it is read */
    task_put_hash(p, j);
    json_put(j, "prompt_tok", json_size(p->n));
    json_put(j, "read_tok", json_size(p->n - from));
    int rc = read ? read_values(a, r->session, v, s, p, j) : read_prompt(a, r->session, v, p, from, NULL);
    if (!rc && (crit_session_stats(r->session, &st) || st.n_tok != p->n - from))
        rc = fail("no statistics of the whole prompt");
    if (!rc && !from) r->whole = st;
    if (!rc && !read) rc = hold(r, p);
    if (!rc && !read) rc = task_generate(a, r->session, s, j, &first_ms);
    if (!rc) {
        task_put_stats(&r->whole, j);
        *record = j;
    } else {
        json_decref(j);
    }
    return rc;
}
