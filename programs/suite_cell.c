/* SPDX-License-Identifier: MIT */
/* See suite_cell.h.  Bytes moved are counted by the library while it decodes, bytes of storage asked for at the end of
 * the answer, when they are most. */
#include "suite_cell.h"

#include <math.h>
#include <string.h>

#include "critiprefill/policy.h"
#include "jsonout.h"
#include "klrow.h"
#include "term.h"

enum { AGAIN_TOK = 128, WARM_UP_TOK = 16 };

void suite_close(suite_bench *b) {
    for (size_t i = 0; i < SUITE_MAX_POLICY; i++) {
        crit_session_close(&b->reader[i].session);
        b->reader[i].held = 0;
    }
}

static bool read_alike(const suite_setup *a, const suite_setup *b) {
    return !strcmp(a->attn.name, b->attn.name) && !memcmp(&a->attn.attn, &b->attn.attn, sizeof a->attn.attn) &&
           !strcmp(a->kv, b->kv);
}

static size_t policy_bytes(const suite_bench *b, size_t p) {
    crit_memory m = {.struct_size = sizeof m};
    crit_session_params sp = suite_session(b->o, &b->setup[p], b->ctx);
    return crit_memory_estimate(b->model, &sp, &m, NULL) ? 0 : m.policy_bytes;
}

/* Do the sessions of all groups fit at this length, with a fifth of the memory to spare? */
static bool fit_together(const suite_bench *b) {
    double need = 0, most = 0, free_bytes = 0, n_group = 0;
    for (size_t p = 0; p < b->s->n_policy; p++) {
        crit_memory m = {.struct_size = sizeof m};
        crit_session_params sp = suite_session(b->o, &b->setup[p], b->ctx);
        if (crit_memory_estimate(b->model, &sp, &m, NULL)) return true; /* opening tells what is wrong */
        n_group += b->group[p] == p;
        if (b->group[p] == p) need += (double)(m.total_bytes - m.policy_bytes) - (p ? (double)m.weights_bytes : 0.0);
        most = fmax(most, (double)m.policy_bytes);
        free_bytes = (double)m.available_bytes;
    }
    return !(free_bytes > 0) || need + n_group * most <= .8 * free_bytes;
}

int suite_length(suite_bench *b, uint32_t ctx) {
    suite_close(b);
    b->ctx = ctx;
    for (size_t p = 0; p < b->s->n_policy; p++) {
        int rc = suite_setup_of(b->s, &b->s->policy[p], ctx, &b->setup[p]);
        if (rc) return rc;
        b->group[p] = 0;
        while (!read_alike(&b->setup[b->group[p]], &b->setup[p])) b->group[p]++;
    }
    b->one_open = !fit_together(b);
    return EXIT_OK;
}

/* ---- reading ---- */

static int open_session(suite_bench *b, size_t p) {
    suite_reader *r = &b->reader[b->group[p]];
    crit_error err = {0};
    if (r->session) return EXIT_OK;
    if (b->one_open) suite_close(b);
    crit_session_params sp = suite_session(b->o, &b->setup[p], b->ctx);
    if (crit_session_open(&r->session, b->model, &sp, &err)) return fail_with(&err);
    if (b->warm) return EXIT_OK;
    /* Touches every weight, so that the first reading does not pay alone for the file. */
    size_t n = b->prompt.n < WARM_UP_TOK ? b->prompt.n : WARM_UP_TOK;
    if (crit_prefill(r->session, b->prompt.ids, n, NULL, &err)) return fail_with(&err);
    b->warm = true;
    return EXIT_OK;
}

/* Tokens [from, prompt.n) behind those that stay; *ms: wall time. */
static int prefill(const suite_bench *b, crit_session *session, const char *decode, size_t from, double *ms) {
    crit_error err = {0};
    crit_prefill_params pp;
    crit_prefill_params_init(&pp);
    pp.progress = evalout_tick;
    pp.progress_user = b->out;
    if (crit_session_rewind(session, (uint32_t)from, &err) || crit_session_set_decode(session, decode, &err))
        return fail_with(&err);
    double t = now_ms();
    if (crit_prefill(session, b->prompt.ids + from, b->prompt.n - from, &pp, &err)) return fail_with(&err);
    *ms = now_ms() - t;
    return EXIT_OK;
}

/* The prompt in the policy's session, ready to answer: *ms, the time it took, or would have taken by itself. */
static int read_prompt(suite_bench *b, size_t p, double *ms) {
    suite_reader *r = &b->reader[b->group[p]];
    const char *decode = b->setup[p].decode;
    int rc = open_session(b, p);
    bool once = b->s->read_once && !b->setup[p].attn.streams; /* a cache of its own does not go back */
    if (!rc && (!once || r->held != b->serial)) {
        r->held = 0;
        rc = prefill(b, r->session, once ? "full" : decode, 0, &r->whole_ms);
        r->whole = (crit_stats){.struct_size = sizeof r->whole};
        if (!rc && crit_session_stats(r->session, &r->whole)) rc = fail("no statistics of the prompt");
        if (!rc) r->held = b->serial;
    }
    *ms = r->whole_ms;
    if (rc || !once) return rc;
    double again = 0;
    rc = prefill(b, r->session, decode, b->prompt.n > AGAIN_TOK ? b->prompt.n - AGAIN_TOK : 0, &again);
    *ms += again;
    return rc;
}

/* ---- answering ---- */

/* The text's own tokens, decoded one after the other: what each step gave to the next one. */
static int continuation(const suite_bench *b, crit_session *session, json_t *record) {
    const int32_t *next = b->prompt.ids + b->prompt.n;
    double nll = 0, top1 = 0;
    for (uint32_t i = 0; i < b->n_next; i++) {
        crit_error err = {0};
        if (crit_decode(session, next[i], &err)) return fail_with(&err);
        const float *x = crit_logits(session);
        const klrow row = klrow_of(x, b->info.n_vocab);
        nll += klrow_nll(x, &row, (uint32_t)next[i + 1]);
        top1 += row.best == (uint32_t)next[i + 1];
        if (term_interrupted()) return EXIT_INTERRUPTED;
    }
    json_put(record, "positions", json_integer(b->n_next));
    json_put(record, "nll", json_num(nll / b->n_next));
    json_put(record, "ppl", json_num(exp(nll / b->n_next)));
    json_put(record, "top1", json_num(top1 / b->n_next));
    return EXIT_OK;
}

static int put_costs(suite_bench *b, size_t p, double ttft_ms, json_t *j) {
    suite_reader *r = &b->reader[b->group[p]];
    crit_decode_stats d = {.struct_size = sizeof d};
    crit_stats end = {.struct_size = sizeof end};
    const suite_setup *u = &b->setup[p];
    if (crit_session_decode_stats(r->session, true, &d) || crit_session_stats(r->session, &end))
        return fail("no statistics of the answer");
    const double n = (double)d.n_tok;
    const size_t kept = policy_bytes(b, p);
    json_put(j, "attn", json_cstr(u->attn.name));
    json_put(j, "decode", json_cstr(u->decode));
    json_put(j, "kv", json_cstr(u->kv));
    task_put_stats(&r->whole, j);
    json_put(j, "ttft_ms", json_num(ttft_ms));
    json_put(j, "decode_tok", json_integer((json_int_t)d.n_tok));
    json_put(j, "ms_per_tok", json_num(d.ms / n));
    json_put(j, "attend_ms_per_tok", json_num(d.attend_ms / n));
    json_put(j, "moved_bytes", json_num(d.moved_bytes));
    json_put(j, "full_bytes", json_num(d.full_bytes));
    json_put(j, "expected", json_num(d.model));
    json_put(j, "kv_bytes", json_size(end.kv_bytes));
    json_put(j, "policy_bytes", json_size(kept));
    json_put(j, "peak_kv_bytes", json_size(end.kv_bytes + kept));
    return EXIT_OK;
}

int suite_cell(suite_bench *b, size_t p, const sample *s, json_t *record) {
    double ms = 0, first_ms = 0;
    int rc = read_prompt(b, p, &ms);
    if (rc) return rc;
    crit_session *session = b->reader[b->group[p]].session;
    task_put_hash(&b->prompt, record);
    json_put(record, "prompt_tok", json_size(b->prompt.n));
    rc = s ? task_generate(&b->ask, session, s, record, &first_ms) : continuation(b, session, record);
    return rc ? rc : put_costs(b, p, ms + first_ms, record);
}
