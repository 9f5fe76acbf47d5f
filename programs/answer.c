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
    progress_start(&bar, q->bar, attn_names[q->session->attn.mode]);
    double t = now_ms();
    crit_status st = crit_prefill(s, q->text->ids, q->text->n, &pp, &err);
    a->prompt_ms = now_ms() - t;
    progress_end(&bar);
    if (st) return fail_with(&err);
    return EXIT_OK;
}

/* The token's bytes to the text, and what became whole characters to stdout. */
static int put_token(const question *q, utf8 *u, int32_t id, answer *a) {
    char piece[256];
    size_t from = a->text.n, n = crit_token_bytes(q->model, id, false, piece, sizeof piece);
    if (n <= sizeof piece) {
        utf8_feed(u, piece, n, &a->text);
    } else { /* rare, but a vocabulary may hold anything */
        char *big = malloc(n);
        if (!big) return fail_memory();
        utf8_feed(u, big, crit_token_bytes(q->model, id, false, big, n), &a->text);
        free(big);
    }
    if (a->text.oom) return fail_memory();
    return q->stream && a->text.n > from ? out_write(a->text.s + from, a->text.n - from) : EXIT_OK;
}

static int generate(const question *q, crit_session *s, crit_sampler *sampler, answer *a) {
    crit_error err = {0};
    utf8 u = {0};
    double t = now_ms();
    int rc = EXIT_OK;
    for (uint32_t i = 0; i < q->fit.n_predict && !rc; i++) {
        int32_t id = crit_sample(sampler, crit_logits(s));
        if (i == 0) a->first_ms = a->open_ms + a->prompt_ms + (now_ms() - t);
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

int answer_run(const question *q, answer *a) {
    crit_error err = {0};
    crit_session *s = NULL;
    crit_sampler *sampler = NULL;
    int rc = EXIT_OK;
    *a = (answer){.stats = {.struct_size = sizeof a->stats}};
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
        a->first_ms = a->open_ms + a->prompt_ms;
        if (crit_session_stats(s, &a->stats))
            rc = fail("no statistics of the prompt");
        else if (a->stats.peak_recall_measured < q->min_recall) /* not when NaN: nothing was looked up */
            rc = fail("attention kept %.3f of the %llu look-ups measured in this prompt, less than --min-recall %g "
                      "(--quality careful keeps more, --attn dense all)",
                      a->stats.peak_recall_measured, (unsigned long long)a->stats.n_peak_measured, q->min_recall);
    }
    if (!rc) {
        crit_sampler_accept(sampler, q->text->ids, q->text->n);
        rc = generate(q, s, sampler, a);
    }
    crit_sampler_close(&sampler);
    crit_session_close(&s);
    a->peak_rss_bytes = peak_rss();
    return rc;
}
