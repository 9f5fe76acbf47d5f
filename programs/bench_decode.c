/* SPDX-License-Identifier: MIT */
/* critiprefill bench --decode: policies of decoding in turn behind the same prompt, against full attention.
 *
 * A length is read once.  Then each policy in turn reads the prompt's end again, so that it sees its queries, and is
 * given the text's next tokens, whatever it would have said itself: so every policy decodes the same tokens, and its
 * logits can be held against full attention's.  With --kv all of them do so in a second session, which keeps the
 * prompt by that policy; full attention over full keys stays the yardstick.  What the keys it read weigh is taken in a
 * further pass, which is not timed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "critiprefill/policy.h"
#include "jsonout.h"
#include "klrow.h"
#include "mdtable.h"
#include "term.h"

/* The prompt's end, read again by each policy: with --kv what is kept whole anyway. */
enum { MAX_POLICY = 16, AGAIN_TOK = 128, AGAIN_KV = 32 };

static const md_col cols[] = {{"tokens", 6, false},        {"decode", 24, true},    {"ms a token", 10, false},
                              {"attention ms", 12, false}, {"of full's", 9, false}, {"MB moved", 8, false},
                              {"of full's", 9, false},     {"expected", 8, false},  {"weight kept", 11, false},
                              {"top-1", 7, false},         {"KL", 8, false}};
enum { N_COL = sizeof cols / sizeof *cols };

typedef struct figures {
    double ms, attend_ms; /* a token; medians over the repetitions */
    double moved, full, model, mass, top1, kl;
} figures;

typedef struct decoding {
    const options *o;
    crit_model *model;
    crit_model_info info;
    prompt text;
    char *names; /* the list, cut into texts */
    const char *policy[MAX_POLICY];
    size_t n_policy, full; /* place of full attention */
    uint32_t n_decode;
    float *rows; /* [n_decode][n_vocab] logits of full attention */
    json_t *results;
} decoding;

/* "full,recycled:K=64,S=8,think" at the commas that no option stands behind; full attention is put first when it is
 * missing. */
static int cut_list(decoding *d) {
    size_t n = strlen(d->o->decode);
    d->names = malloc(n + 1);
    if (!d->names) return fail_memory();
    memcpy(d->names, d->o->decode, n + 1);
    d->policy[d->n_policy++] = "full";
    if (d->o->kv) d->policy[d->n_policy++] = "full";
    for (char *s = d->names; s;) {
        char *end = s + policy_item(s);
        bool last = !*end;
        *end = 0;
        crit_error err = {0};
        if (!*s || crit_policy_check(CRIT_POLICY_DECODE, s, &err))
            return usage("bench", "%s", *s ? err.message : "--decode: an empty name");
        if (strcmp(s, "full")) {
            if (d->n_policy == MAX_POLICY) return usage("bench", "--decode: more than %d policies", MAX_POLICY - 1);
            d->policy[d->n_policy++] = s;
        }
        s = last ? NULL : end + 1;
    }
    return EXIT_OK;
}

/* One pass of one policy over the n_decode tokens behind n_tok.  With rows of full attention in place it is held
 * against them, else it gives them. */
static int pass(const decoding *d, crit_session *s, uint32_t n_tok, size_t which, bool watch, figures *f) {
    crit_error err = {0};
    const int32_t *ids = d->text.ids;
    uint32_t again = d->o->kv && which ? AGAIN_KV : AGAIN_TOK, n_vocab = d->info.n_vocab;
    if (again > n_tok) again = n_tok;
    if (crit_session_rewind(s, n_tok - again, &err) || crit_session_set_decode(s, d->policy[which], &err) ||
        crit_prefill(s, ids + n_tok - again, again, NULL, &err) || crit_session_watch_decode(s, watch, &err))
        return fail_with(&err);
    f->top1 = f->kl = 0;
    for (uint32_t i = 0; i < d->n_decode; i++) {
        if (crit_decode(s, ids[n_tok + i], &err)) return fail_with(&err);
        float *row = d->rows + (size_t)i * n_vocab;
        const float *logits = crit_logits(s);
        if (which == 0) {
            memcpy(row, logits, n_vocab * sizeof *row);
        } else {
            klrow full = klrow_of(row, n_vocab), own = klrow_of(logits, n_vocab);
            f->top1 += full.best == own.best;
            f->kl += klrow_kl(row, &full, logits, &own, n_vocab);
        }
        if (term_interrupted()) return EXIT_INTERRUPTED;
    }
    crit_decode_stats st = {.struct_size = sizeof st};
    crit_session_decode_stats(s, true, &st);
    f->ms = st.ms / d->n_decode;
    f->attend_ms = st.attend_ms / d->n_decode;
    f->moved = st.moved_bytes / d->n_decode;
    f->full = st.full_bytes / d->n_decode;
    f->model = st.model;
    f->mass = st.mass;
    f->top1 = which ? f->top1 / d->n_decode : (double)NAN;
    f->kl = which ? f->kl / d->n_decode : (double)NAN;
    return EXIT_OK;
}

static void put_row(const decoding *d, buf *out, uint32_t n_tok, size_t which, const figures *f) {
    size_t at = 0;
    md_cell(out, cols, N_COL, &at, "%u", n_tok);
    md_cell(out, cols, N_COL, &at, which && d->o->kv ? "%s, %s" : "%s", d->policy[which], d->o->kv);
    md_num(out, cols, N_COL, &at, f[which].ms, 2, "");
    md_num(out, cols, N_COL, &at, f[which].attend_ms, 2, "");
    md_num(out, cols, N_COL, &at, f[which].attend_ms / f[0].attend_ms, 3, "");
    md_num(out, cols, N_COL, &at, f[which].moved / 1e6, 2, "");
    md_num(out, cols, N_COL, &at, f[which].moved / f[0].full, 3, "");
    md_num(out, cols, N_COL, &at, f[which].model, 3, "");
    md_num(out, cols, N_COL, &at, f[which].mass, 4, "");
    md_num(out, cols, N_COL, &at, 100 * f[which].top1, 1, " %");
    md_num(out, cols, N_COL, &at, f[which].kl, 5, "");
}

static const char *const keys[] = {"ctx_tok",        "decode",      "ms_per_tok",    "attend_ms",
                                   "attend_of_full", "moved_bytes", "moved_of_full", "expected",
                                   "mass",           "top1",        "kl_mean"};

static void numbers(const figures *f, size_t which, double x[9]) {
    const figures *g = &f[which];
    double all[] = {
        g->ms,   g->attend_ms, g->attend_ms / f[0].attend_ms, g->moved, g->moved / f[0].full, g->model, g->mass,
        g->top1, g->kl};
    memcpy(x, all, sizeof all);
}

static json_t *row_json(const decoding *d, uint32_t n_tok, size_t which, const figures *f) {
    json_t *j = json_object();
    double x[9];
    numbers(f, which, x);
    json_put(j, keys[0], json_integer(n_tok));
    json_put(j, keys[1], json_cstr(d->policy[which]));
    if (d->o->kv) json_put(j, "kv", json_cstr(which ? d->o->kv : "full"));
    for (int i = 0; i < 9; i++) json_put(j, keys[2 + i], json_num(x[i]));
    return j;
}

static void put_csv(const decoding *d, buf *out, uint32_t n_tok, size_t which, const figures *f) {
    double x[9];
    numbers(f, which, x);
    buf_fmt(out, which && d->o->kv ? "%u,\"%s, %s\"" : "%u,\"%s\"", n_tok, d->policy[which], d->o->kv);
    for (int i = 0; i < 9; i++) {
        buf_str(out, ",");
        if (isfinite(x[i])) buf_fmt(out, "%.6g", x[i]);
    }
    buf_str(out, "\n");
}

static int put_length(decoding *d, uint32_t n_tok, const figures *f) {
    buf out = {0};
    for (size_t p = 0; p < d->n_policy; p++) {
        if (d->o->format == FORMAT_MD) put_row(d, &out, n_tok, p, f);
        if (d->o->format == FORMAT_CSV) put_csv(d, &out, n_tok, p, f);
        if (d->o->format == FORMAT_JSON) json_array_append_new(d->results, row_json(d, n_tok, p, f));
    }
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static int one_length(decoding *d, uint32_t n_tok) {
    crit_error err = {0};
    crit_session *s = NULL, *own = NULL; /* own: of the policies, with --kv */
    crit_session_params sp = session_params(d->o, d->o->modes.v[d->o->modes.n - 1], n_tok + d->n_decode);
    size_t n_rep = d->o->n_rep;
    double *time = calloc(2 * d->n_policy * n_rep, sizeof *time);
    figures f[MAX_POLICY] = {{0}}, g;
    int rc = time ? EXIT_OK : fail_memory();
    if (!rc && (crit_session_open(&s, d->model, &sp, &err) || crit_prefill(s, d->text.ids, n_tok, NULL, &err)))
        rc = fail_with(&err);
    sp.kv = d->o->kv;
    if (!rc && sp.kv &&
        (crit_session_open(&own, d->model, &sp, &err) || crit_prefill(own, d->text.ids, n_tok, NULL, &err)))
        rc = fail_with(&err);
    crit_session *of[] = {s, own ? own : s};       /* full attention's, the others' */
    if (!rc) rc = pass(d, s, n_tok, 0, false, &g); /* warm */
    for (size_t r = 0; r < n_rep && !rc; r++)
        for (size_t p = 0; p < d->n_policy && !rc; p++) {
            rc = pass(d, of[p > 0], n_tok, p, false, &f[p]);
            time[(2 * p) * n_rep + r] = f[p].ms;
            time[(2 * p + 1) * n_rep + r] = f[p].attend_ms;
        }
    for (size_t p = 0; p < d->n_policy && !rc; p++) {
        rc = pass(d, of[p > 0], n_tok, p, true, &g);
        f[p].mass = g.mass;
        f[p].ms = bench_median(time + (2 * p) * n_rep, n_rep);
        f[p].attend_ms = bench_median(time + (2 * p + 1) * n_rep, n_rep);
    }
    if (!rc) rc = put_length(d, n_tok, f);
    free(time);
    crit_session_close(&s);
    crit_session_close(&own);
    return rc;
}

static int put_head(const decoding *d) {
    buf out = {0};
    if (d->o->format == FORMAT_MD) md_head(&out, cols, N_COL);
    if (d->o->format == FORMAT_CSV) {
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) buf_fmt(&out, i ? ",%s" : "%s", keys[i]);
        buf_str(&out, "\n");
    }
    int rc = out_buf(&out);
    buf_free(&out);
    return rc;
}

static int measure(decoding *d) {
    u32_list ctx = d->o->ctx.n ? d->o->ctx : (u32_list){{4096, 8192}, 2};
    uint32_t longest = 0, train = model_context(&d->info);
    for (size_t i = 0; i < ctx.n; i++) {
        if (ctx.v[i] > longest) longest = ctx.v[i];
        if (train && ctx.v[i] + d->n_decode > train && !d->o->force)
            return fail("%s: %u tokens and %u to decode are more than the %u the model was trained for (--force runs "
                        "them)",
                        d->o->model, ctx.v[i], d->n_decode, train);
    }
    d->rows = malloc((size_t)d->n_decode * d->info.n_vocab * sizeof *d->rows);
    if (!d->rows) return fail_memory();
    int rc = bench_text(d->o, d->model, longest + d->n_decode, &d->text);
    if (!rc) rc = put_head(d);
    for (size_t i = 0; i < ctx.n && !rc; i++) rc = one_length(d, ctx.v[i]);
    if (rc || d->o->format != FORMAT_JSON) return rc;
    json_t *j = json_object();
    json_put(j, "model", json_cstr(d->o->model));
    json_put(j, "cpu", json_cstr(d->info.cpu));
    json_put(j, "threads", json_integer(options_threads(d->o)));
    json_put(j, "repetitions", json_integer(d->o->n_rep));
    json_put(j, "decoded", json_integer(d->n_decode));
    json_put(j, "results", json_incref(d->results));
    return json_print(j);
}

int bench_decode_main(const options *o) {
    decoding d = {.o = o, .n_decode = o->n_predict < 1 ? 32 : (uint32_t)o->n_predict, .results = json_array()};
    double ms;
    int rc = cut_list(&d);
    if (!rc) rc = model_open(o, &d.model, &d.info, &ms);
    if (!rc) rc = measure(&d);
    free(d.names);
    free(d.rows);
    json_decref(d.results);
    prompt_free(&d.text);
    crit_model_close(&d.model);
    return rc;
}
