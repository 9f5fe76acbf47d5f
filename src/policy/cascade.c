/* SPDX-License-Identifier: MIT */
/* The cascade as a policy of the prompt that owns its cache: options, memory, and tokens that enter the cache.
 *
 * A part's tokens enter when its last one has gone through all layers (commit), one after the other; where each key
 * ends up is found with numbers first, then each key that has changed its place is copied once. */
#include "policy/cascade.h"

enum { OPT_C, OPT_N, OPT_SINKS, OPT_STRIDE, OPT_EVERY, OPT_BETA, OPT_HEADS, OPT_POSITIONS };
static const char *const reduce_names[] = {"max", "mean", "median", NULL}; /* order of crit_cascade_reduce */
static const char *const position_names[] = {"cache", "original", NULL};
static const crit_policy_option options[] = {
    {"C", "keys of the cache, in each layer and KV head; a multiple of n", 16384, 1, 1 << 24, true, NULL},
    {"n", "rings they are shared out to; 1 = a sliding window", 4, 1, CRIT_RINGS_MAX, true, NULL},
    {"sinks", "first tokens, kept besides", 64, 0, 1 << 16, true, NULL},
    {"stride", "tokens that are read before they enter the cache", 4096, 1, 1 << 16, true, NULL},
    {"every", "one query of so many tells what keys weigh; 1 = all", 64, 1, 1 << 16, true, NULL},
    {"beta", "what is left of a weight a token later", 0.9999, 0, 0.9999999, false, NULL},
    {"heads", "weight of a key for the query heads that share it", 0, 0, 2, true, reduce_names},
    {"positions", "of keys: within the cache, or on the timeline", 0, 0, 1, true, position_names},
};

static crit_cascade_rule rule_of(const crit_policy_values *o) {
    return (crit_cascade_rule){.n_ring = (uint32_t)o->v[OPT_N],
                               .ring_len = (uint32_t)(o->v[OPT_C] / o->v[OPT_N]),
                               .n_sink = (uint32_t)o->v[OPT_SINKS],
                               .stride = (uint32_t)o->v[OPT_STRIDE],
                               .every = (uint32_t)o->v[OPT_EVERY],
                               .beta = o->v[OPT_BETA],
                               .reduce = (crit_cascade_reduce)o->v[OPT_HEADS],
                               .original = o->v[OPT_POSITIONS] > 0};
}

static crit_status check(const crit_policy_values *o, crit_error *err) {
    if ((uint32_t)o->v[OPT_C] % (uint32_t)o->v[OPT_N] == 0) return CRIT_OK;
    return crit_fail(err, CRIT_E_ARG, "cascade: C=%g is not a multiple of n=%g", o->v[OPT_C], o->v[OPT_N]);
}

static uint32_t chunk_tok(const crit_policy_values *o) {
    return (uint32_t)o->v[OPT_STRIDE];
}

/* A step reads the sinks, what the rings hold and itself. */
static double traffic(const void *state, const crit_decode_env *e, const crit_policy_values *o, uint32_t n_tok) {
    (void)state;
    (void)e;
    const double n_key = o->v[OPT_C] + o->v[OPT_SINKS] + 1;
    return n_key < n_tok ? n_key / n_tok : 1;
}

static uint32_t n_key_cap(const crit_policy_values *o) {
    return (uint32_t)(o->v[OPT_C] + o->v[OPT_SINKS] + o->v[OPT_STRIDE]);
}

/* ---- memory ---- */

static uint32_t whole(uint32_t n) {
    return (n + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN * CRIT_BLK_LEN;
}

static uint32_t slab_slots(const crit_cascade_rule *r) {
    return whole(r->n_sink) + r->n_ring * whole(r->ring_len) + whole(r->stride);
}

uint32_t crit_cascade_ring_slot(const crit_cascade *c, uint32_t slot) {
    const crit_cascade_rule *r = &c->rule;
    return whole(r->n_sink) + slot / r->ring_len * whole(r->ring_len) + slot % r->ring_len;
}

uint32_t crit_cascade_own_slot(const crit_cascade *c, uint32_t i) {
    return whole(c->rule.n_sink) + c->rule.n_ring * whole(c->rule.ring_len) + i;
}

static size_t kv_bytes(const crit_decode_env *e, const crit_policy_values *o) {
    const crit_cascade_rule r = rule_of(o);
    size_t slab;
    return crit_slab_map_bytes(e->n_kv_head, e->d, slab_slots(&r), &slab) ? slab * e->n_layer : SIZE_MAX / 4;
}

typedef struct sizes {
    size_t score, pos, sampled, sampled_lse, turned, part, part_lse; /* elements */
    size_t slice, n_sampled, n_piece;
} sizes;

static sizes sizes_of(const crit_decode_env *e, const crit_cascade_rule *r) {
    sizes s = {0};
    size_t n_slot = (size_t)r->n_ring * r->ring_len, heads = (size_t)e->n_layer * e->n_kv_head;
    s.n_sampled = r->stride / r->every + 1;
    s.n_piece = crit_ranges_of(slab_slots(r) / CRIT_BLK_LEN) + CRIT_CASCADE_PARTS;
    s.score = 2 * heads * (n_slot + r->stride);
    s.pos = heads * n_slot;
    s.sampled_lse = s.n_sampled * e->n_head;
    s.sampled = s.sampled_lse * e->d;
    s.turned = (size_t)CRIT_CASCADE_PARTS * e->n_head * e->d;
    s.part_lse = s.n_piece * e->n_head;
    s.part = s.part_lse * e->d;
    size_t insert = n_slot * sizeof(uint32_t) + (2 * (size_t)e->d + e->n_rot) * sizeof(float);
    s.slice = crit_cascade_attend_scratch(e);
    if (insert > s.slice) s.slice = insert;
    s.slice = (s.slice + 127) & ~(size_t)63;
    return s;
}

static size_t state_bytes(const crit_decode_env *e, const crit_policy_values *o) {
    const crit_cascade_rule r = rule_of(o);
    const sizes s = sizes_of(e, &r);
    return (s.score + s.pos + s.sampled + s.sampled_lse + s.turned + s.part + s.part_lse) * sizeof(float) +
           e->n_thread * s.slice + crit_turn_bytes(e);
}

static void state_close(void *state) {
    crit_cascade *c = state;
    if (!c) return;
    crit_turn_clear(&c->turn);
    for (uint32_t i = 0; c->slab && i < c->n_layer; i++) crit_slab_clear(&c->slab[i]);
    crit_free(c->slab);
    crit_free(c->score);
    crit_free(c->pos);
    crit_free(c->sampled);
    crit_free(c->sampled_lse);
    crit_free(c->turned);
    crit_free(c->part);
    crit_free(c->part_lse);
    crit_free(c->scratch);
    crit_free(c);
}

static bool reserve(crit_cascade *c, const sizes *s, unsigned n_thread) {
    c->slab = crit_calloc(c->n_layer, sizeof *c->slab);
    c->score = crit_calloc(s->score, sizeof *c->score);
    c->pos = crit_calloc(s->pos, sizeof *c->pos);
    c->sampled = crit_malloc(s->sampled, sizeof *c->sampled);
    c->sampled_lse = crit_malloc(s->sampled_lse, sizeof *c->sampled_lse);
    c->turned = crit_malloc(s->turned, sizeof *c->turned);
    c->part = crit_malloc(s->part, sizeof *c->part);
    c->part_lse = crit_malloc(s->part_lse, sizeof *c->part_lse);
    c->scratch = crit_malloc(n_thread, s->slice);
    return c->slab && c->score && c->pos && c->sampled && c->sampled_lse && c->turned && c->part && c->part_lse &&
           c->scratch;
}

static crit_status state_open(void **out, const crit_decode_env *e, const crit_policy_values *o, crit_error *err) {
    crit_cascade *c = crit_calloc(1, sizeof *c);
    if (!c) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    c->rule = rule_of(o);
    const sizes s = sizes_of(e, &c->rule);
    c->n_slot = c->rule.n_ring * c->rule.ring_len;
    c->n_layer = e->n_layer;
    c->n_kv_head = e->n_kv_head;
    c->rings = (crit_rings){.n = c->rule.n_ring, .len = c->rule.ring_len};
    c->scratch_slice = s.slice;
    c->n_sampled_cap = s.n_sampled;
    c->n_piece_cap = s.n_piece;
    crit_status st = crit_turn_init(&c->turn, e, err);
    if (!st && !reserve(c, &s, crit_pool_size(e->pool)))
        st = crit_fail(err, CRIT_E_NOMEM, "out of memory for a cache of %u keys", c->n_slot);
    for (uint32_t i = 0; i < e->n_layer && !st; i++)
        st = crit_slab_init(&c->slab[i], e->kernels, e->n_kv_head, e->d, slab_slots(&c->rule), err);
    if (st) {
        state_close(c);
        return st;
    }
    *out = c;
    return CRIT_OK;
}

static void cut(void *state, uint32_t n_tok) {
    crit_cascade *c = state;
    if (n_tok) return; /* a cache that has forgotten cannot go back */
    c->rings = (crit_rings){.n = c->rule.n_ring, .len = c->rule.ring_len};
    c->own0 = c->n_own = c->scored = c->next_scored = 0;
}

/* ---- tokens enter the cache ---- */

typedef struct enter_arg {
    crit_cascade *c;
    uint32_t n_first; /* own tokens that belong to the first ones */
} enter_arg;

/* The key that lies at `from` goes to ring slot `slot`; both may have been rotated by other numbers. */
static void place(crit_cascade *c, crit_slab *s, uint32_t head, uint32_t slot, uint32_t from, int64_t by, float *x) {
    uint32_t to = crit_cascade_ring_slot(c, slot), d = s->d;
    if (by == 0 || c->rule.original) {
        crit_slab_move(s, head, to, from);
        return;
    }
    float *k = x, *v = x + d, *cosv = v + d, *sinv = cosv + c->turn.n;
    crit_slab_get(s, head, from, k, v);
    crit_turn_angles(&c->turn, by, cosv, sinv);
    crit_turn_rows(&c->turn, cosv, sinv, k, d, 1);
    crit_slab_put(s, head, to, k, v);
}

/* One layer and KV head. */
static void enter_item(void *arg, size_t item, unsigned worker) {
    const enter_arg *a = arg;
    crit_cascade *c = a->c;
    uint32_t layer = (uint32_t)(item / c->n_kv_head), head = (uint32_t)(item % c->n_kv_head), n = c->n_slot;
    crit_slab *s = &c->slab[layer];
    float *score = crit_cascade_score(c, c->cur, layer, head);
    uint32_t *pos = crit_cascade_pos(c, layer, head);
    uint32_t *id = (uint32_t *)(c->scratch + worker * c->scratch_slice);
    float *x = (float *)(id + n);
    crit_rings rings = c->rings;
    for (uint32_t i = 0; i < a->n_first; i++) crit_slab_move(s, head, c->own0 + i, crit_cascade_own_slot(c, i));
    for (uint32_t i = 0; i < n; i++) id[i] = i;
    for (uint32_t i = a->n_first; i < c->n_own; i++) {
        float seen = c->own0 + i < c->scored ? score[n + i] : 0; /* by a query that was asked */
        crit_rings_insert(&rings, n + i, seen, id, score);
    }
    /* Keys go from ring to ring upwards only, so from the last ring down no source has been written over. */
    for (uint32_t slot = n; slot-- > 0;) {
        uint32_t from = id[slot];
        if (from == slot) continue;
        int64_t to = (int64_t)c->rule.n_sink + crit_ring_number(&rings, slot);
        if (from >= n) {
            uint32_t at = c->own0 + from - n;
            place(c, s, head, slot, crit_cascade_own_slot(c, from - n), to - at, x);
            pos[slot] = at;
        } else {
            int64_t was = (int64_t)c->rule.n_sink + crit_ring_number(&c->rings, from);
            place(c, s, head, slot, crit_cascade_ring_slot(c, from), to - was, x);
            pos[slot] = pos[from];
        }
    }
}

static void commit(void *state, crit_decode_env *e, uint32_t n_tok, bool part_ends) {
    crit_cascade *c = state;
    c->n_own = n_tok - c->own0;
    if (c->next_scored > c->scored) {
        c->cur = 1 - c->cur;
        c->scored = c->next_scored;
    }
    if (!part_ends && n_tok % c->rule.stride) return;
    enter_arg a = {c, 0};
    if (c->own0 < c->rule.n_sink) a.n_first = n_tok < c->rule.n_sink ? c->n_own : c->rule.n_sink - c->own0;
    crit_pool_run(e->pool, (size_t)c->n_layer * c->n_kv_head, enter_item, &a);
    crit_rings_advance(&c->rings, c->n_own - a.n_first);
    c->own0 = n_tok;
    c->n_own = 0;
}

const crit_policy crit_policy_cascade = {
    .name = "cascade",
    .summary = "a cache of a fixed size whose rings thin out with age: prompts of any length, nothing goes back",
    .source = "Cascading KV cache, arXiv 2406.17808",
    .combines = "decode full only, which is this cache; no batch",
    .place = CRIT_POLICY_PREFILL,
    .options = options,
    .n_option = sizeof options / sizeof *options,
    .check = check,
    .bytes = state_bytes,
    .kv_bytes = kv_bytes,
    .open = state_open,
    .close = state_close,
    .chunk_tok = chunk_tok,
    .n_key_cap = n_key_cap,
    .traffic = traffic,
    .stream = crit_cascade_stream,
    .commit = commit,
    .cut = cut,
};
