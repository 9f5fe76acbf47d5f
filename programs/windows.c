/* SPDX-License-Identifier: MIT */
/* See windows.h. */
#include "windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "term.h"

typedef struct reader {
    const windows *w;
    size_t i;
    int rc;
} reader;

static int on_row(void *user, uint32_t pos, const float *logits, uint32_t n_vocab) {
    reader *r = user;
    (void)n_vocab;
    if (pos < r->w->from || pos + 1 >= r->w->n_ctx) return 0;
    r->rc = r->w->row(r->w->user, r->i, pos, logits);
    return r->rc;
}

typedef struct mean {
    double sum, n;
} mean;

static void add(mean *m, double x) {
    if (isnan(x)) return;
    m->sum += x;
    m->n++;
}

static double value(const mean *m) {
    return m->n > 0 ? m->sum / m->n : (double)NAN;
}

typedef struct totals {
    mean density, skipped, mass, recall;
} totals;

static void add_stats(windows *w, totals *t, const crit_stats *s) {
    w->stats.n_tok += s->n_tok;
    w->stats.prefill_ms += s->prefill_ms;
    w->stats.logits_ms += s->logits_ms;
    w->stats.estimate_ms += s->estimate_ms;
    w->stats.attend_ms += s->attend_ms;
    w->stats.gemm_ms += s->gemm_ms;
    w->stats.n_peak_measured += s->n_peak_measured;
    add(&t->density, s->density);
    add(&t->skipped, s->skipped);
    add(&t->mass, s->mass_measured);
    add(&t->recall, s->peak_recall_measured);
}

static int read_window(windows *w, crit_session *s, size_t i, int32_t *ids, totals *t) {
    crit_error err = {0};
    reader r = {.w = w, .i = i};
    crit_stats stats = {.struct_size = sizeof stats};
    crit_prefill_params p;
    crit_prefill_params_init(&p);
    p.on_logits = on_row;
    p.logits_user = &r;
    p.logits_from = w->from;
    if (w->out) {
        evalout_step(w->out, w->n_ctx, w->v->name);
        p.progress = evalout_tick;
        p.progress_user = w->out;
    }
    memcpy(ids, w->ids + i * w->step, w->n_ctx * sizeof *ids);
    if (w->bos >= 0) ids[0] = w->bos;
    if (crit_session_rewind(s, 0, &err) || crit_prefill(s, ids, w->n_ctx, &p, &err))
        return r.rc ? r.rc : fail_with(&err);
    if (crit_session_stats(s, &stats)) return fail("no statistics of the prompt");
    add_stats(w, t, &stats);
    return EXIT_OK;
}

int windows_run(windows *w) {
    crit_error err = {0};
    crit_session *s = NULL;
    crit_session_params p = variant_session(w->o, w->v, w->n_ctx);
    totals t = {.density = {0}};
    w->stats = (crit_stats){.struct_size = sizeof w->stats};
    int32_t *ids = malloc(w->n_ctx * sizeof *ids);
    int rc = ids ? EXIT_OK : fail_memory();
    if (!rc && crit_session_open(&s, w->model, &p, &err)) rc = fail_with(&err);
    for (size_t i = 0; i < w->n && !rc; i++) rc = read_window(w, s, i, ids, &t);
    w->stats.density = value(&t.density);
    w->stats.skipped = value(&t.skipped);
    w->stats.mass_measured = value(&t.mass);
    w->stats.peak_recall_measured = value(&t.recall);
    crit_session_close(&s);
    free(ids);
    return rc;
}
