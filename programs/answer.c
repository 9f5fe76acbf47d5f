/* SPDX-License-Identifier: MIT */
/* See answer.h. */
#include "answer.h"

#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "progress.h"
#include "term.h"

static size_t peak_rss(void) {
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (size_t)u.ru_maxrss * 1024 : 0;
}

double per_second(double n, double ms) {
    return n > 0 && ms > 0 ? n * 1e3 / ms : (double)NAN;
}

void answer_free(answer *a) {
    for (size_t i = 0; i < a->n_answer; i++) {
        free(a->all[i].ids);
        buf_free(&a->all[i].text);
        crit_sampler_close(&a->all[i].sampler);
    }
    free(a->all);
    free(a->ids);
    buf_free(&a->text);
    *a = (answer){0};
}

static int prefill(const question *q, crit_session *s, answer *a) {
    crit_error err = {0};
    progress bar;
    crit_prefill_params pp;
    crit_prefill_params_init(&pp);
    pp.progress = progress_step;
    pp.progress_user = &bar;
    if (q->agree) {
        pp.on_logits = agree_row;
        pp.logits_user = q->agree;
        pp.logits_from = q->agree->from;
    }
    double t = now_ms();
    if (q->prefix && crit_session_load(s, q->prefix, &err)) return fail_with(&err);
    a->prefix_ms = q->prefix ? now_ms() - t : 0;
    if (q->n_prefix == q->text->n) return EXIT_OK; /* the snapshot has the logits to go on from */
    progress_start(&bar, q->bar, q->session->prefill ? q->session->prefill : attn_names[q->session->attn.mode]);
    t = now_ms();
    crit_status st = crit_prefill(s, q->text->ids + q->n_prefix, q->text->n - q->n_prefix, &pp, &err);
    a->prompt_ms = now_ms() - t;
    progress_end(&bar);
    if (st) return fail_with(&err);
    return EXIT_OK;
}

/* The token's bytes to the text. */
static int add_token(const question *q, utf8 *u, int32_t id, buf *text) {
    char piece[256];
    size_t n = crit_token_bytes(q->model, id, false, piece, sizeof piece);
    if (n <= sizeof piece) {
        utf8_feed(u, piece, n, text);
    } else { /* rare, but a vocabulary may hold anything */
        char *big = malloc(n);
        if (!big) return fail_memory();
        utf8_feed(u, big, crit_token_bytes(q->model, id, false, big, n), text);
        free(big);
    }
    return text->oom ? fail_memory() : EXIT_OK;
}

/* Likewise, and what became whole characters to stdout. */
static int put_token(const question *q, utf8 *u, int32_t id, answer *a) {
    size_t from = a->text.n;
    int rc = add_token(q, u, id, &a->text);
    return !rc && q->stream && a->text.n > from ? out_write(a->text.s + from, a->text.n - from) : rc;
}

static int generate(const question *q, crit_session *s, crit_sampler *sampler, answer *a) {
    crit_error err = {0};
    utf8 u = {0};
    double t = now_ms();
    int rc = EXIT_OK;
    for (uint32_t i = 0; i < q->fit.n_predict && !rc; i++) {
        int32_t id = crit_sample(sampler, crit_logits(s));
        if (i == 0) a->first_ms = a->open_ms + a->prefix_ms + a->prompt_ms + (now_ms() - t);
        if (crit_token_ends(q->model, id) && !q->to_the_end) break;
        a->ids[a->n++] = id;
        rc = put_token(q, &u, id, a);
        if (!rc && term_interrupted()) rc = EXIT_INTERRUPTED;
        if (rc || (i + 1 == q->fit.n_predict && !q->to_the_end)) break;
        if (crit_decode(s, id, &err))
            rc = fail_with(&err);
        else
            a->n_decode++;
    }
    a->answer_ms = now_ms() - t;
    size_t from = a->text.n;
    utf8_end(&u, &a->text);
    if (a->text.oom) return rc ? rc : fail_memory();
    if (!q->stream || rc == EXIT_FAIL) return rc; /* stdout may be what failed */
    /* The shell's prompt should not follow the answer on its line. */
    bool open_line = a->text.n && a->text.s[a->text.n - 1] != '\n';
    int end = a->text.n > from ? out_write(a->text.s + from, a->text.n - from) : EXIT_OK;
    if (!end && open_line) end = out_write("\n", 1);
    return rc ? rc : end;
}

/* ---- several answers ---- */

static int open_answers(const question *q, answer *a) {
    crit_error err = {0};
    a->all = calloc(q->n_answer, sizeof *a->all);
    if (!a->all) return fail_memory();
    a->n_answer = q->n_answer;
    for (uint32_t i = 0; i < q->n_answer; i++) {
        one_answer *x = &a->all[i];
        crit_sampler_params p = *q->sampler;
        p.seed += i;
        x->ids = malloc(((size_t)q->fit.n_predict + 1) * sizeof *x->ids);
        if (!x->ids) return fail_memory();
        if (crit_sampler_open(&x->sampler, q->model, &p, &err)) return fail_with(&err);
        crit_sampler_accept(x->sampler, q->text->ids, q->text->n);
    }
    return EXIT_OK;
}

/* A token of every answer that goes on; *n: how many those are. */
static int sample_all(const question *q, crit_batch *b, answer *a, bool last, uint32_t *seq, int32_t *token,
                      uint32_t *n) {
    *n = 0;
    for (uint32_t i = 0; i < q->n_answer; i++) {
        one_answer *x = &a->all[i];
        if (x->ended) continue;
        int32_t id = crit_sample(x->sampler, crit_batch_logits(b, i));
        x->ended = crit_token_ends(q->model, id);
        if (x->ended) continue;
        x->ids[x->n++] = id;
        int rc = add_token(q, &x->u, id, &x->text);
        if (rc) return rc;
        if (last) continue;
        seq[*n] = i;
        token[(*n)++] = id;
    }
    return EXIT_OK;
}

static int generate_all(const question *q, crit_session *s, answer *a) {
    crit_error err = {0};
    crit_batch *b = NULL;
    crit_batch_params p;
    crit_batch_params_init(&p);
    p.n_seq = q->n_answer;
    p.tail_tok = q->fit.n_predict; /* 0: no batch */
    uint32_t *seq = malloc(q->n_answer * sizeof *seq), n = 0, number;
    int32_t *token = malloc(q->n_answer * sizeof *token);
    double t = now_ms();
    int rc = seq && token ? open_answers(q, a) : fail_memory();
    if (!rc && q->fit.n_predict && crit_batch_open(&b, s, &p, &err)) rc = fail_with(&err);
    for (uint32_t i = 1; b && i < q->n_answer && !rc; i++)
        if (crit_batch_fork(b, 0, &number, &err)) rc = fail_with(&err);
    for (uint32_t i = 0; i < q->fit.n_predict && !rc; i++) {
        rc = sample_all(q, b, a, i + 1 == q->fit.n_predict, seq, token, &n);
        if (i == 0) a->first_ms = a->open_ms + a->prefix_ms + a->prompt_ms + (now_ms() - t);
        if (!rc && term_interrupted()) rc = EXIT_INTERRUPTED;
        if (rc || n == 0) break;
        if (crit_batch_decode(b, seq, token, n, &err))
            rc = fail_with(&err);
        else
            a->n_decode += n;
    }
    a->answer_ms = now_ms() - t;
    a->batch_kv_bytes = crit_batch_kv_bytes(b);
    crit_batch_close(&b);
    free(seq);
    free(token);
    for (size_t i = 0; i < a->n_answer; i++) utf8_end(&a->all[i].u, &a->all[i].text);
    for (size_t i = 0; i < a->n_answer && !rc; i++)
        if (a->all[i].text.oom) rc = fail_memory();
    if (rc) return rc;
    a->n = a->all[0].n;
    for (size_t i = 0; i < a->n; i++) a->ids[i] = a->all[0].ids[i];
    if (a->all[0].text.n) buf_add(&a->text, a->all[0].text.s, a->all[0].text.n);
    return a->text.oom ? fail_memory() : EXIT_OK;
}

int answer_run(const question *q, answer *a) {
    crit_error err = {0};
    crit_session *s = NULL;
    crit_sampler *sampler = NULL;
    int rc = EXIT_OK;
    *a = (answer){.stats = {.struct_size = sizeof a->stats}, .decode = {.struct_size = sizeof a->decode}};
    a->ids = malloc(((size_t)q->fit.n_predict + 1) * sizeof *a->ids);
    if (!a->ids) return fail_memory();
    double t = now_ms();
    if (crit_session_open(&s, q->model, q->session, &err))
        rc = fail_with(&err);
    else if (crit_sampler_open(&sampler, q->model, q->sampler, &err))
        rc = fail_with(&err);
    a->open_ms = now_ms() - t;
    if (!rc) rc = prefill(q, s, a);
    if (!rc) {
        a->first_ms = a->open_ms + a->prefix_ms + a->prompt_ms;
        if (crit_session_stats(s, &a->stats))
            rc = fail("no statistics of the prompt");
        else if (a->stats.peak_recall_measured < q->min_recall) /* not when NaN: nothing was looked up */
            rc = fail("attention kept %.3f of the %llu look-ups measured in this prompt, less than --min-recall %g "
                      "(--quality careful keeps more, --attn dense all)",
                      a->stats.peak_recall_measured, (unsigned long long)a->stats.n_peak_measured, q->min_recall);
    }
    if (!rc && q->n_answer > 1) {
        rc = generate_all(q, s, a);
    } else if (!rc) {
        crit_sampler_accept(sampler, q->text->ids, q->text->n);
        rc = generate(q, s, sampler, a);
    }
    if (s) crit_session_decode_stats(s, false, &a->decode);
    crit_sampler_close(&sampler);
    crit_session_close(&s);
    a->peak_rss_bytes = peak_rss();
    return rc;
}
