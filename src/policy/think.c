/* SPDX-License-Identifier: MIT */
/* ThinK (arXiv 2407.21018): keys of the prompt without the channels that matter least to its last queries.
 *
 * Channel j of a KV head adds q_j k_j to each score; ||Q_j|| ||K_j|| over the last queries and the prompt's keys says
 * how much all scores lose without it, and the smallest go.  What remains is a narrower key (kv/narrow.h); values, the
 * prompt's last tokens and everything behind stay as they are, and any way of decoding reads the result.
 * DEVIATIONS: one choice for a KV head, by the sum over its query heads, where the released code chooses for each query
 * head and keeps keys once for each; widths are multiples of 8, so up to 7 channels fewer are dropped than asked for;
 * later prompts follow the first one's choice, as keys that lack a channel cannot get it back. */
#include <stdlib.h>
#include <string.h>

#include "kv/narrow.h"
#include "policy/decode_policy.h"

enum { OPT_LAMBDA, OPT_RECENT, OPT_UNIT, OPT_WHEN, OPT_FROM };
static const char *const units[] = {"channel", "pair", NULL};
static const char *const whens[] = {"prompt_end", "never", NULL};
static const crit_policy_option options[] = {
    {"lambda", "share of a key's channels to drop; what stays is rounded up to a multiple of 8", 0.4, 0, 0.9, false,
     NULL},
    {"recent", "last tokens of the prompt that keep all channels", 32, 0, 1 << 24, true, NULL},
    {"unit", "drop single channels, or pairs that rotate together", 0, 0, 1, true, units},
    {"when", "the dropped channels' memory is freed at the prompt's end, or never: later prompts read them then", 0, 0,
     1, true, whens},
    {"from", "shorter prompts keep all channels", 1024, 0, 1 << 24, true, NULL},
};
enum { N_QUERY = 32, SUM_KEYS = 1024, ROWS = 32 }; /* ROWS of keys widened at a time */

typedef struct think {
    double lambda;
    uint32_t recent, from;
    bool pairs, whole;
    crit_narrow_room *room; /* of the rows of all layers */
} think;

static uint32_t width(double lambda, uint32_t d) {
    uint32_t kept = d - (uint32_t)(lambda * d);
    return (kept + 7) / 8 * 8;
}

/* While a layer's keys move, they are there twice; the other layers' have shrunk already, or are as they were. */
static size_t state_bytes(const crit_decode_env *e, const crit_policy_values *o) {
    uint32_t dk = width(o->v[OPT_LAMBDA], e->d);
    if (dk == e->d) return sizeof(think);
    size_t rows = crit_narrow_map_bytes(o->v[OPT_WHEN] > 0 ? e->n_layer : 1, e->n_kv_head, dk, e->n_ctx),
           chan = (size_t)e->n_kv_head * dk * sizeof(uint16_t);
    return sizeof(think) + e->n_layer * (sizeof(crit_narrow) + chan) + rows;
}

static crit_status state_open(void **out, const crit_decode_env *e, const crit_policy_values *o, crit_error *err) {
    (void)e;
    think *t = crit_malloc(1, sizeof *t);
    if (!t) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    *t = (think){.lambda = o->v[OPT_LAMBDA],
                 .recent = (uint32_t)o->v[OPT_RECENT],
                 .from = (uint32_t)o->v[OPT_FROM],
                 .pairs = o->v[OPT_UNIT] > 0,
                 .whole = o->v[OPT_WHEN] > 0};
    *out = t;
    return CRIT_OK;
}

static void state_close(void *state) {
    think *t = state;
    if (t) crit_narrow_room_drop(t->room);
    crit_free(t);
}

/* ---- scores of channels ---- */

typedef struct sums_arg {
    const crit_kv *kv;
    uint32_t n;   /* keys */
    double *part; /* [items][d] sum of squares */
} sums_arg;

static void sums_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const sums_arg *a = arg;
    uint32_t head = (uint32_t)(item % a->kv->n_kv_head), from = (uint32_t)(item / a->kv->n_kv_head) * SUM_KEYS;
    uint32_t end = a->n - from < SUM_KEYS ? a->n : from + SUM_KEYS, d = a->kv->d;
    double *sum = a->part + item * d;
    float k[ROWS * CRIT_D_HEAD_MAX];
    memset(sum, 0, d * sizeof *sum);
    for (uint32_t pos = from; pos < end; pos += ROWS) {
        uint32_t n = end - pos < ROWS ? end - pos : ROWS;
        crit_kv_get(a->kv, head, pos, n, k, NULL);
        for (uint32_t t = 0; t < n; t++)
            for (uint32_t i = 0; i < d; i++) sum[i] += (double)k[t * d + i] * (double)k[t * d + i];
    }
}

/* score[head][i] = (||K_i|| ||Q_i||)^2, Q of all query heads of the KV head. */
static crit_status channel_scores(crit_decode_env *e, const crit_kv *kv, uint32_t n, const float *q, size_t q_stride,
                                  uint32_t n_q, double *score, crit_error *err) {
    size_t n_part = (n + SUM_KEYS - 1) / SUM_KEYS, d = e->d;
    sums_arg a = {kv, n, crit_malloc(n_part * e->n_kv_head * d, sizeof *a.part)};
    if (!a.part) return crit_fail(err, CRIT_E_NOMEM, "out of memory for the sums of %u keys", n);
    crit_pool_run(e->pool, n_part * e->n_kv_head, sums_item, &a);
    for (size_t h = 0; h < e->n_kv_head; h++)
        for (size_t i = 0; i < d; i++) {
            double k2 = 0, q2 = 0;
            for (size_t p = 0; p < n_part; p++) k2 += a.part[(p * e->n_kv_head + h) * d + i];
            for (size_t t = 0; t < n_q; t++)
                for (size_t g = 0; g < e->n_group; g++) {
                    double x = (double)q[t * q_stride + (h * e->n_group + g) * d + i];
                    q2 += x * x;
                }
            score[h * d + i] = k2 * q2;
        }
    crit_free(a.part);
    return CRIT_OK;
}

/* ---- choice ---- */

typedef struct unit {
    double score; /* mean of its channels */
    uint32_t first, second;
} unit;

static int by_score(const void *x, const void *y) {
    const unit *a = x, *b = y;
    if (a->score != b->score) return a->score < b->score ? -1 : 1;
    return a->first > b->first ? -1 : 1; /* of equals the later ones go */
}

static uint32_t units_of(const crit_decode_env *e, bool pairs, const double *score, unit *u) {
    uint32_t n = 0, n_rot = pairs ? e->n_rot : 0, half = n_rot / 2;
    for (uint32_t i = 0; i < half; i++) {
        uint32_t a = e->neox ? i : 2 * i, b = e->neox ? i + half : 2 * i + 1;
        u[n++] = (unit){(score[a] + score[b]) / 2, a, b};
    }
    for (uint32_t i = n_rot; i < e->d; i++) u[n++] = (unit){score[i], i, i};
    return n;
}

/* The dk channels of a head that stay. */
static void choose(const crit_decode_env *e, bool pairs, const double *score, uint32_t dk, uint16_t *chan) {
    unit u[CRIT_D_HEAD_MAX];
    bool gone[CRIT_D_HEAD_MAX] = {false};
    uint32_t n = units_of(e, pairs, score, u), left = e->d - dk;
    qsort(u, n, sizeof *u, by_score);
    for (uint32_t i = 0; i < n && left; i++) {
        uint32_t size = u[i].first == u[i].second ? 1 : 2;
        if (size > left) continue; /* an even number is to go: a single one is still to come */
        gone[u[i].first] = gone[u[i].second] = true;
        left -= size;
    }
    for (uint32_t i = 0, at = 0; i < e->d; i++)
        if (!gone[i]) chan[at++] = (uint16_t)i;
}

static crit_status store(void *state, crit_decode_env *e, uint32_t layer, crit_kv *kv, uint32_t first, const float *q,
                         size_t q_stride, uint32_t n_q, crit_error *err) {
    think *t = state;
    uint32_t dk = width(t->lambda, e->d), n_tok = kv->n_tok;
    uint32_t n = n_tok < t->recent ? 0 : (n_tok - t->recent) / CRIT_BLK_LEN * CRIT_BLK_LEN;
    bool begun = kv->narrow && kv->narrow->n_row;
    if (dk == e->d || !n_q || n == 0 || (begun ? n <= kv->narrow->n_row : n_tok < t->from)) return CRIT_OK;
    crit_status st = crit_narrow_reserve(kv, &t->room, layer, e->n_layer, dk, n, t->whole, err);
    if (!st && !begun) {
        double *score = crit_malloc((size_t)e->n_kv_head * e->d, sizeof *score);
        st = score ? channel_scores(e, kv, n, q, q_stride, n_q, score, err)
                   : crit_fail(err, CRIT_E_NOMEM, "out of memory for scores of channels");
        for (uint32_t h = 0; h < e->n_kv_head && !st; h++)
            choose(e, t->pairs, score + (size_t)h * e->d, dk, kv->narrow->chan + (size_t)h * dk);
        crit_free(score);
    }
    if (!st && !crit_narrow_move(kv, e->pool, n, first)) st = crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    return st;
}

/* Of the whole store, once all of it has moved. */
static double traffic(const void *state, const crit_decode_env *e, const crit_policy_values *o, uint32_t n_tok) {
    (void)state, (void)n_tok;
    return 0.5 + 0.5 * width(o->v[OPT_LAMBDA], e->d) / e->d;
}

const crit_policy crit_policy_think = {
    .name = "think",
    .summary = "keys of the prompt without the channels that matter least to its last queries",
    .source = "ThinK, arXiv 2407.21018",
    .combines = "any prefill; decode full, recycled, tokenselect; --n-samples",
    .place = CRIT_POLICY_KV,
    .options = options,
    .n_option = sizeof options / sizeof *options,
    .bytes = state_bytes,
    .open = state_open,
    .close = state_close,
    .n_query = N_QUERY,
    .store = store,
    .traffic = traffic,
};

const crit_policy crit_policy_full_kv = {
    .name = "full",
    .summary = "keys and values as they were computed",
    .source = "-",
    .combines = "anything",
    .place = CRIT_POLICY_KV,
    .exact = true,
};
