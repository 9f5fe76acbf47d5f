/* SPDX-License-Identifier: MIT */
/* Tier 1: sequences that go on from one session's timeline (policy.h). */
#include <string.h>

#include "critiprefill/policy.h"

#include "kv/narrow.h"
#include "lib/session.h"

typedef struct sequence {
    crit_segment *leaf; /* its own tail; NULL = this number is free */
    float *logits;      /* [n_vocab] */
} sequence;

struct crit_batch {
    crit_session *session;
    crit_batch_params params;
    sequence *seq; /* [n_seq] */
    uint32_t next_id;
    /* a step's memory, for n_seq rows */
    uint32_t *order, *row_seq;
    crit_segment **leaf, **given;
    int32_t *token;
    float *q, *logits;
    crit_piece *piece;
    size_t piece_cap;
    uint64_t ns, attend_ns;
};

void crit_batch_params_init(crit_batch_params *p) {
    *p = (crit_batch_params){.struct_size = sizeof *p, .n_seq = 16, .tail_tok = 512};
}

static size_t n_vocab(const crit_batch *b) {
    return b->session->model->config.n_vocab;
}

void crit_batch_close(crit_batch **batch) {
    if (!batch || !*batch) return;
    crit_batch *b = *batch;
    for (uint32_t i = 0; b->seq && i < b->params.n_seq; i++) {
        crit_segment_release(b->seq[i].leaf);
        crit_free(b->seq[i].logits);
    }
    b->session->batch_open = false;
    crit_free(b->seq);
    crit_free(b->order);
    crit_free(b->row_seq);
    crit_free(b->leaf);
    crit_free(b->given);
    crit_free(b->token);
    crit_free(b->q);
    crit_free(b->logits);
    crit_free(b->piece);
    crit_free(b);
    *batch = NULL;
}

/* A tail behind parent for sequence i, which takes over the caller's reference to parent. */
static crit_status new_tail(crit_batch *b, uint32_t i, crit_segment *parent, crit_error *err) {
    uint32_t used = parent->pos0 + parent->n_tok - b->session->n_done, left = b->params.tail_tok - used;
    crit_segment *s;
    crit_status st = crit_segment_open(&s, parent, b->next_id, &b->session->fwd.env, left ? left : 1, err);
    if (st) return st;
    b->next_id++;
    crit_segment_release(parent);
    b->seq[i].leaf = s;
    return CRIT_OK;
}

static crit_status reserve(crit_batch *b, crit_error *err) {
    uint32_t n = b->params.n_seq;
    const crit_config *c = &b->session->model->config;
    b->seq = crit_calloc(n, sizeof *b->seq);
    b->order = crit_malloc(n, sizeof *b->order);
    b->row_seq = crit_malloc(n, sizeof *b->row_seq);
    b->leaf = crit_malloc(n, sizeof(crit_segment *));
    b->given = crit_malloc(n, sizeof(crit_segment *));
    b->token = crit_malloc(n, sizeof *b->token);
    b->q = crit_malloc((size_t)n * c->n_head * c->d_head, sizeof *b->q);
    b->logits = crit_malloc((size_t)n * c->n_vocab, sizeof *b->logits);
    bool ok = b->seq && b->order && b->row_seq && b->leaf && b->given && b->token && b->q && b->logits;
    for (uint32_t i = 0; i < n && ok; i++) ok = (b->seq[i].logits = crit_malloc(c->n_vocab, sizeof(float)));
    return ok ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory for %u sequences", n);
}

crit_status crit_batch_open(crit_batch **out, crit_session *s, const crit_batch_params *params, crit_error *err) {
    if (!out || !s) return crit_fail(err, CRIT_E_ARG, "crit_batch_open: out and session are required");
    *out = NULL;
    crit_batch_params p;
    crit_batch_params_init(&p);
    if (params) {
        if (params->struct_size != sizeof p)
            return crit_fail(err, CRIT_E_ARG, "crit_batch_params: struct_size not set");
        p = *params;
    }
    if (crit_session_streams(s))
        return crit_fail(err, CRIT_E_STATE, "crit_batch_open: the cache of %s cannot be shared", s->fwd.prefill->name);
    if (s->batch_open) return crit_fail(err, CRIT_E_STATE, "the session has a batch already");
    if (s->in_turn || !s->has_logits)
        return crit_fail(err, CRIT_E_STATE, "crit_batch_open: the session has no finished prompt");
    if (p.n_seq == 0 || p.n_seq > s->fwd.n_batch)
        return crit_fail(err, CRIT_E_ARG, "%u sequences are not in 1..%u, the tokens of a chunk", p.n_seq,
                         s->fwd.n_batch);
    if (p.tail_tok == 0 || p.tail_tok > s->params.n_ctx - s->n_done)
        return crit_fail(err, CRIT_E_CONTEXT, "tails of %u tokens behind %u do not fit the context of %u", p.tail_tok,
                         s->n_done, s->params.n_ctx);
    crit_batch *b = crit_calloc(1, sizeof *b);
    if (!b) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    b->session = s;
    b->params = p;
    crit_segment *root = NULL;
    crit_status st = reserve(b, err);
    if (!st) st = crit_segment_borrow(&root, s->kv, s->model->config.n_layer, s->n_done, b->next_id++, err);
    if (!st) {
        st = new_tail(b, 0, root, err);
        if (st) crit_segment_release(root);
    }
    if (st) {
        crit_batch_close(&b);
        return st;
    }
    memcpy(b->seq[0].logits, s->fwd.logits, n_vocab(b) * sizeof(float));
    s->batch_open = true;
    *out = b;
    return CRIT_OK;
}

static crit_status known(const crit_batch *b, uint32_t seq, crit_error *err) {
    if (b && seq < b->params.n_seq && b->seq[seq].leaf) return CRIT_OK;
    return crit_fail(err, CRIT_E_ARG, "there is no sequence %u", seq);
}

crit_status crit_batch_fork(crit_batch *b, uint32_t seq, uint32_t *out, crit_error *err) {
    crit_status st = known(b, seq, err);
    if (st || !out) return st ? st : crit_fail(err, CRIT_E_ARG, "crit_batch_fork: out is required");
    uint32_t to = 0;
    while (to < b->params.n_seq && b->seq[to].leaf) to++;
    if (to == b->params.n_seq) return crit_fail(err, CRIT_E_SPACE, "there are %u sequences already", to);
    crit_segment *tail = b->seq[seq].leaf, *from = tail->n_tok ? tail : tail->parent;
    from->refs++;
    st = new_tail(b, to, from, err);
    if (st) {
        crit_segment_release(from);
        return st;
    }
    if (from == tail) { /* it is shared now: the old sequence goes on in a tail of its own */
        tail->refs++;
        st = new_tail(b, seq, tail, err);
        if (st) {
            crit_segment_release(tail);
            crit_segment_release(b->seq[to].leaf);
            b->seq[to].leaf = NULL;
            return st;
        }
        crit_segment_release(tail);
    }
    memcpy(b->seq[to].logits, b->seq[seq].logits, n_vocab(b) * sizeof(float));
    *out = to;
    return CRIT_OK;
}

crit_status crit_batch_drop(crit_batch *b, uint32_t seq, crit_error *err) {
    crit_status st = known(b, seq, err);
    if (st) return st;
    crit_segment_release(b->seq[seq].leaf);
    b->seq[seq].leaf = NULL;
    return CRIT_OK;
}

/* Is each sequence there, once, with room for a token that exists? */
static crit_status judge(const crit_batch *b, const uint32_t *seq, const int32_t *token, uint32_t n, crit_error *err) {
    if (n == 0 || n > b->params.n_seq) return crit_fail(err, CRIT_E_ARG, "%u sequences of %u", n, b->params.n_seq);
    memset(b->row_seq, 0, b->params.n_seq * sizeof *b->row_seq);
    for (uint32_t i = 0; i < n; i++) {
        crit_status st = known(b, seq[i], err);
        if (st) return st;
        if (b->row_seq[seq[i]]++) return crit_fail(err, CRIT_E_ARG, "sequence %u is named twice", seq[i]);
        if (token[i] < 0 || (size_t)token[i] >= n_vocab(b))
            return crit_fail(err, CRIT_E_ARG, "token %d is outside the vocabulary", token[i]);
        if (crit_batch_n_past(b, seq[i]) - b->session->n_done >= b->params.tail_tok)
            return crit_fail(err, CRIT_E_CONTEXT, "sequence %u has added its %u tokens", seq[i], b->params.tail_tok);
    }
    return CRIT_OK;
}

crit_status crit_batch_decode(crit_batch *b, const uint32_t *seq, const int32_t *token, uint32_t n, crit_error *err) {
    if (!b || !seq || !token) return crit_fail(err, CRIT_E_ARG, "crit_batch_decode: batch, seq and token are required");
    uint64_t t = crit_now_ns();
    crit_status st = judge(b, seq, token, n, err);
    if (st) return st;
    crit_forward *f = &b->session->fwd;
    for (uint32_t i = 0; i < n; i++) b->given[i] = b->seq[seq[i]].leaf;
    crit_segment_order(b->given, n, b->order);
    for (uint32_t r = 0; r < n; r++) {
        b->row_seq[r] = seq[b->order[r]];
        b->leaf[r] = b->given[b->order[r]];
        b->token[r] = token[b->order[r]];
        b->leaf[r]->n_tok++; /* so that pieces are counted with it */
    }
    size_t n_piece = crit_bifurcated_pieces(&f->env, b->leaf, n, 0, !b->params.unshared, NULL);
    for (uint32_t r = 0; r < n; r++) b->leaf[r]->n_tok--;
    if (n_piece > b->piece_cap) {
        crit_free(b->piece);
        b->piece_cap = n_piece + n;
        b->piece = crit_malloc(b->piece_cap, sizeof *b->piece);
        if (!b->piece) {
            b->piece_cap = 0;
            return crit_fail(err, CRIT_E_NOMEM, "out of memory for attention");
        }
    }
    crit_batch_rows rows = {b->leaf, b->token, n, b->params.unshared, b->q, b->piece, &b->attend_ns};
    st = crit_forward_batch(f, &rows, b->logits, err);
    for (uint32_t r = 0; r < n; r++) {
        if (st) { /* as before the call */
            b->leaf[r]->n_tok--;
            for (uint32_t i = 0; i < b->leaf[r]->n_layer; i++)
                if (b->leaf[r]->kv[i].n_tok > b->leaf[r]->n_tok) crit_kv_cut(&b->leaf[r]->kv[i], b->leaf[r]->n_tok);
        } else {
            memcpy(b->seq[b->row_seq[r]].logits, b->logits + r * n_vocab(b), n_vocab(b) * sizeof(float));
        }
    }
    b->ns += crit_now_ns() - t;
    return st;
}

const float *crit_batch_logits(const crit_batch *b, uint32_t seq) {
    return known(b, seq, NULL) ? NULL : b->seq[seq].logits;
}

uint32_t crit_batch_n_past(const crit_batch *b, uint32_t seq) {
    return known(b, seq, NULL) ? 0 : b->seq[seq].leaf->pos0 + b->seq[seq].leaf->n_tok;
}

size_t crit_batch_kv_bytes(const crit_batch *b) {
    if (!b) return 0;
    const crit_config *c = &b->session->model->config;
    size_t per_tok = (size_t)2 * sizeof(uint16_t) * c->n_layer * c->n_kv_head * c->d_head, n_tok = b->session->n_done;
    for (uint32_t i = 0; i < b->params.n_seq; i++)
        for (const crit_segment *s = b->seq[i].leaf; s && s->own; s = s->parent) {
            /* once: by the first sequence that has it */
            bool first = true;
            for (uint32_t j = 0; j < i && first; j++)
                for (const crit_segment *o = b->seq[j].leaf; o && first; o = o->parent) first = o != s;
            if (first) n_tok += s->n_tok;
        }
    size_t all = n_tok * per_tok;
    for (uint32_t i = 0; i < c->n_layer; i++)
        all += crit_narrow_bytes(&b->session->kv[i]) - crit_narrow_freed_bytes(&b->session->kv[i]);
    return all;
}

void crit_batch_times(const crit_batch *b, double *ms, double *attend_ms) {
    if (ms) *ms = b ? (double)b->ns * 1e-6 : 0;
    if (attend_ms) *attend_ms = b ? (double)b->attend_ns * 1e-6 : 0;
}
