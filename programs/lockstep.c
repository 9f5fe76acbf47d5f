/* SPDX-License-Identifier: MIT */
/* See lockstep.h. */
#include "lockstep.h"

#include <stdlib.h>
#include <string.h>

#include "klrow.h"
#include "term.h"

enum {
    CHUNK = 512, /* tokens fed in a step, unless -ub says otherwise */
    WARM_TOK = 16
};

typedef struct slot {
    bool used;
    uint32_t pos;
    klrow s;
    double nll; /* of the token that follows; unset at the prompt's end */
} slot;

typedef struct ring {
    float *rows; /* [n][n_vocab], position p at p % n */
    slot *slots; /* [n] */
    uint32_t n;
} ring;

typedef struct state {
    lockstep *l;
    ring ring;
    uint32_t chunk;
    crit_session *dense;
    crit_session **open; /* [n_side] */
    bool lost;           /* a row was gone */
} state;

typedef struct reader {
    state *st;
    lockstep_side *side; /* NULL: dense */
} reader;

/* Twice the rows: a policy may read by strides that nobody told. */
static bool grow(state *st, uint32_t least) {
    const size_t n_vocab = st->l->n_vocab;
    ring r = {.n = st->ring.n < st->l->n_tok / 2 ? 2 * st->ring.n : st->l->n_tok};
    r.rows = malloc(r.n * n_vocab * sizeof *r.rows);
    r.slots = calloc(r.n, sizeof *r.slots);
    for (uint32_t i = 0; i < st->ring.n && r.rows && r.slots; i++) {
        const slot *s = &st->ring.slots[i];
        if (!s->used || s->pos < least) continue;
        r.slots[s->pos % r.n] = *s;
        memcpy(r.rows + s->pos % r.n * n_vocab, st->ring.rows + i * n_vocab, n_vocab * sizeof *r.rows);
    }
    if (!r.rows || !r.slots) {
        free(r.rows);
        free(r.slots);
        return false;
    }
    free(st->ring.rows);
    free(st->ring.slots);
    st->ring = r;
    return true;
}

static int on_dense_row(state *st, uint32_t pos, const float *logits) {
    const lockstep *l = st->l;
    size_t least = pos; /* the first row that some side still has to come to */
    for (size_t i = 0; i < l->n_side; i++) least = l->side[i].f.n < least ? l->side[i].f.n : least;
    if (pos - least >= st->ring.n && !grow(st, (uint32_t)least)) {
        st->lost = true;
        return 1;
    }
    slot *at = &st->ring.slots[pos % st->ring.n];
    memcpy(st->ring.rows + (size_t)(pos % st->ring.n) * l->n_vocab, logits, l->n_vocab * sizeof *logits);
    *at = (slot){.used = true, .pos = pos, .s = klrow_of(logits, l->n_vocab)};
    if (pos + 1 < l->n_tok) at->nll = klrow_nll(logits, &at->s, (uint32_t)l->ids[pos + 1]);
    return 0;
}

static int on_row(void *user, uint32_t pos, const float *logits, uint32_t n_vocab) {
    reader *r = user;
    state *st = r->st;
    const lockstep *l = st->l;
    if (!r->side) return on_dense_row(st, pos, logits);
    const slot *at = &st->ring.slots[pos % st->ring.n];
    if (!at->used || at->pos != pos) {
        st->lost = true;
        return 1;
    }
    const float *base = st->ring.rows + (size_t)(pos % st->ring.n) * l->n_vocab;
    klrow s = klrow_of(logits, n_vocab);
    klposition p = {.pos = pos,
                    .kl = klrow_kl(base, &at->s, logits, &s, n_vocab),
                    .top1 = s.best == at->s.best,
                    .has_next = pos + 1 < l->n_tok};
    if (p.has_next) {
        p.nll = klrow_nll(logits, &s, (uint32_t)l->ids[pos + 1]);
        p.nll_base = at->nll;
    }
    klfigures_add(&r->side->f, &p);
    return 0;
}

/* ---- opening ---- */

static crit_session_params params_of(const state *st, const variant *v) {
    crit_session_params p =
        v ? variant_session(st->l->o, v, st->l->n_tok) : session_params(st->l->o, CRIT_ATTN_DENSE, st->l->n_tok);
    p.n_batch = st->chunk;
    return p;
}

typedef struct need {
    uint32_t lag; /* rows a side can be behind dense attention */
    size_t bytes, available;
} need;

/* Adds what one session (v NULL: dense) needs; how far it lags is the contract of crit_prefill_params.more. */
static int add_need(const state *st, const variant *v, need *n) {
    crit_error err = {0};
    crit_memory m = {.struct_size = sizeof m};
    crit_session_params p = params_of(st, v);
    if (crit_memory_estimate(st->l->model, &p, &m, &err)) return fail_with(&err);
    uint32_t tail = p.attn.mode == CRIT_ATTN_CRITI ? p.attn.last_tok : 0;
    if (p.attn.mode == CRIT_ATTN_PAPER) tail = p.attn.seg_len;
    uint64_t lag = (uint64_t)m.n_batch + tail;
    if (lag > n->lag) n->lag = lag < st->l->n_tok ? (uint32_t)lag : st->l->n_tok;
    n->bytes += m.total_bytes - m.weights_bytes;
    n->available = m.available_bytes;
    return EXIT_OK;
}

static int plan_memory(state *st) {
    const lockstep *l = st->l;
    need n = {0};
    int rc = add_need(st, NULL, &n);
    for (size_t i = 0; i < l->n_side && !rc; i++) rc = add_need(st, l->side[i].v, &n);
    if (rc) return rc;
    /* Dense attention is a chunk ahead when the others follow. */
    uint64_t rows = (uint64_t)n.lag + st->chunk;
    st->ring.n = rows < l->n_tok ? (uint32_t)rows : l->n_tok;
    size_t row_bytes = (size_t)st->ring.n * l->n_vocab * sizeof *st->ring.rows;
    n.bytes += row_bytes;
    if (!l->o->force && n.available && n.bytes > n.available)
        return fail("%s: %zu attentions at once over %u tokens need %zu MiB besides the weights, %zu MiB of it for "
                    "logits; %zu MiB are available (name fewer with --attn, or --force)",
                    l->o->model, l->n_side + 1, l->n_tok, n.bytes >> 20, row_bytes >> 20, n.available >> 20);
    st->ring.rows = malloc(row_bytes);
    st->ring.slots = calloc(st->ring.n, sizeof *st->ring.slots);
    st->open = calloc(l->n_side + 1, sizeof(crit_session *));
    return st->ring.rows && st->ring.slots && st->open ? EXIT_OK : fail_memory();
}

static int open_one(const state *st, const variant *v, crit_session **out) {
    crit_error err = {0};
    crit_session_params p = params_of(st, v);
    return crit_session_open(out, st->l->model, &p, &err) ? fail_with(&err) : EXIT_OK;
}

static int open_all(state *st) {
    const lockstep *l = st->l;
    int rc = plan_memory(st);
    if (!rc) rc = open_one(st, NULL, &st->dense);
    for (size_t i = 0; i < l->n_side && !rc; i++) {
        rc = open_one(st, l->side[i].v, &st->open[i]);
        if (!rc && !klfigures_init(&l->side[i].f, l->n_tok, l->o->n_last, l->n_tok)) rc = fail_memory();
    }
    return rc;
}

static void close_all(state *st) {
    crit_session_close(&st->dense);
    for (size_t i = 0; i < st->l->n_side && st->open; i++) crit_session_close(&st->open[i]);
    free(st->open);
    free(st->ring.rows);
    free(st->ring.slots);
}

/* ---- reading ---- */

/* Brings the weights into memory, so that dense attention does not pay for it alone. */
static int warm_up(const state *st) {
    crit_error err = {0};
    size_t n = st->l->n_tok < WARM_TOK ? st->l->n_tok : WARM_TOK;
    if (crit_prefill(st->dense, st->l->ids, n, NULL, &err) || crit_session_rewind(st->dense, 0, &err))
        return fail_with(&err);
    return EXIT_OK;
}

static int feed(state *st, crit_session *s, lockstep_side *side, uint32_t from, uint32_t n) {
    const lockstep *l = st->l;
    crit_error err = {0};
    reader r = {st, side};
    crit_prefill_params p;
    crit_prefill_params_init(&p);
    p.more = from + n < l->n_tok;
    p.on_logits = on_row;
    p.logits_user = &r;
    if (l->out) {
        evalout_step(l->out, n, side ? side->v->name : attn_names[CRIT_ATTN_DENSE]);
        p.progress = evalout_tick;
        p.progress_user = l->out;
    }
    if (!crit_prefill(s, l->ids + from, n, &p, &err)) return EXIT_OK;
    return st->lost ? fail("out of memory for logits: one of the attentions is more than %u rows late", st->ring.n)
                    : fail_with(&err);
}

static int read_all(state *st) {
    lockstep *l = st->l;
    int rc = warm_up(st);
    for (uint32_t from = 0; from < l->n_tok && !rc; from += st->chunk) {
        uint32_t n = l->n_tok - from < st->chunk ? l->n_tok - from : st->chunk;
        rc = feed(st, st->dense, NULL, from, n);
        for (size_t i = 0; i < l->n_side && !rc; i++) rc = feed(st, st->open[i], &l->side[i], from, n);
    }
    l->dense = (crit_stats){.struct_size = sizeof l->dense};
    if (!rc && crit_session_stats(st->dense, &l->dense)) rc = fail("no statistics of the prompt");
    for (size_t i = 0; i < l->n_side && !rc; i++) {
        l->side[i].stats = (crit_stats){.struct_size = sizeof l->side[i].stats};
        if (crit_session_stats(st->open[i], &l->side[i].stats)) rc = fail("no statistics of the prompt");
        if (!rc && l->side[i].f.n != l->n_tok) rc = fail("%s: rows are missing", l->side[i].v->name);
    }
    return rc;
}

int lockstep_run(lockstep *l) {
    state st = {.l = l, .chunk = l->o->n_batch ? (l->o->n_batch + 127) / 128 * 128 : CHUNK};
    int rc = open_all(&st);
    if (!rc) rc = read_all(&st);
    close_all(&st);
    return rc;
}
