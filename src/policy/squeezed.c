/* SPDX-License-Identifier: MIT */
/* Squeezed attention (arXiv 2411.09688): the keys of a fixed prefix lie in clusters, and a query reads the blocks of 32
 * keys in whose best cluster a key weighs more than a threshold by its centre, which is one for the whole model.
 *
 * This file makes clusters and threshold at the end of a prompt, or takes them from a snapshot; the last W tokens of
 * the prefix and all that follow stay outside, in the KV store, and are always read.
 * DEVIATION: the official code has no groups of query heads; here clusters are those of a KV head and scores the mean
 * over its query heads.  It picks keys, of which the threshold is a quantile; here both are of blocks, so that the
 * quantile says how much is read.  With two levels it has a quantile for the coarse one, too, and loses fine clusters
 * that a coarse mean hides; here what is left out has little weight together.  k-means in two stages (kmeans.h).  Both
 * levels are always made; a coarse centre is the mean of its keys, not of fine centres. */
#include "policy/squeezed.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_Q, OPT_LEVELS, OPT_LOSE, OPT_C, OPT_C1, OPT_W, OPT_MIN };
enum { WINDOW_MAX = 128 };
static const crit_policy_option options[] = {
    {"q", "share of the prefix's blocks that fall below the threshold; 0 keeps all", 0.9, 0, 1, false, NULL},
    {"levels", "1 = look at all centres; 2 = not at those in coarse clusters that hardly weigh", 1, 1, 2, true, NULL},
    {"lose", "with levels=2: weight that all coarse clusters not looked at may have together", 0.05, 0, 1, false, NULL},
    {"c", "clusters, as a share of the keys", 0.05, 0.0001, 1, false, NULL},
    {"c1", "coarse clusters, likewise", 0.01, 0.0001, 1, false, NULL},
    {"W", "last tokens of the prefix: always read, and their queries set the threshold", 100, 1, WINDOW_MAX, true,
     NULL},
    {"min", "shorter prefixes are read in full", 1024, 64, 1 << 24, true, NULL},
};

static uint32_t at_least_1(double x) {
    return x < 1 ? 1 : (uint32_t)x;
}

static size_t state_bytes(const crit_decode_env *e, const crit_policy_values *o) {
    uint32_t n = e->n_ctx, n_fine = at_least_1(o->v[OPT_C] * n), n_coarse = at_least_1(o->v[OPT_C1] * n);
    size_t slab;
    if (n <= o->v[OPT_MIN]) return 0;
    if (!crit_slab_map_bytes(e->n_kv_head, e->d, n, &slab)) return SIZE_MAX / 2;
    return e->n_layer * (slab + e->n_kv_head * (crit_clusters_bytes(n, e->d, n_fine, n_coarse) + n / CRIT_BLK_LEN * 4) +
                         (size_t)o->v[OPT_W] * e->n_head * e->d * sizeof(float)) +
           (n / (CRIT_SQUEEZED_PART * CRIT_BLK_LEN) + 2) * (size_t)e->n_head * (e->d + 1) * sizeof(float);
}

static void forget(crit_squeezed *s) {
    for (uint32_t i = 0; s->clusters && i < s->n_layer * s->n_kv_head; i++) crit_clusters_clear(&s->clusters[i]);
    for (uint32_t i = 0; s->slab && i < s->n_layer; i++) crit_slab_clear(&s->slab[i]);
    crit_unmap(s->map, s->map_bytes);
    s->map = NULL;
    s->n_fix = 0;
}

static void state_close(void *state) {
    crit_squeezed *s = state;
    if (!s) return;
    forget(s);
    crit_free(s->clusters);
    crit_free(s->slab);
    crit_free(s->kv);
    crit_free(s->query);
    crit_free(s->blk);
    crit_free(s->n_blk);
    crit_free(s->n_scored);
    crit_free(s->part);
    crit_free(s);
}

static crit_status state_open(void **out, const crit_decode_env *e, const crit_policy_values *o, crit_error *err) {
    crit_squeezed *s = crit_calloc(1, sizeof *s);
    if (!s) return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    *s = (crit_squeezed){.n_layer = e->n_layer,
                         .n_kv_head = e->n_kv_head,
                         .n_head = e->n_head,
                         .n_group = e->n_group,
                         .d = e->d,
                         .quantile = o->v[OPT_Q],
                         .lose = (float)o->v[OPT_LOSE],
                         .share = o->v[OPT_C],
                         .share1 = o->v[OPT_C1],
                         .levels = (uint32_t)o->v[OPT_LEVELS],
                         .window = (uint32_t)o->v[OPT_W],
                         .least = (uint32_t)o->v[OPT_MIN]};
    s->clusters = crit_calloc((size_t)e->n_layer * e->n_kv_head, sizeof *s->clusters);
    s->slab = crit_calloc(e->n_layer, sizeof *s->slab);
    s->kv = crit_calloc(e->n_layer, sizeof(crit_kv *));
    s->n_scored = crit_calloc(e->n_kv_head, sizeof *s->n_scored);
    if (!s->clusters || !s->slab || !s->kv || !s->n_scored) {
        state_close(s);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory");
    }
    *out = s;
    return CRIT_OK;
}

/* ---- the threshold ---- */

static int by_value(const void *x, const void *y) {
    float a = *(const float *)x, b = *(const float *)y;
    return (a > b) - (a < b);
}

/* The score that a share `quantile` of all blocks of the model does not exceed. */
static crit_status set_threshold(crit_squeezed *s, crit_error *err) {
    size_t n = 0, n_head = (size_t)s->n_layer * s->n_kv_head, n_blk = crit_squeezed_n_blk(s);
    s->t_block = -INFINITY;
    if (s->quantile <= 0) return CRIT_OK;
    float *score = crit_malloc(n_head * n_blk, sizeof *score);
    uint32_t *blk = crit_malloc(n_blk, sizeof *blk);
    if (score && blk) {
        for (size_t h = 0; h < n_head; h++) n += crit_squeezed_block_scores(&s->clusters[h].fine, blk, score + n);
        qsort(score, n, sizeof *score, by_value);
        size_t at = (size_t)ceil(s->quantile * (double)n);
        s->t_block = score[at ? at - 1 : 0];
    }
    bool ok = score && blk;
    crit_free(score);
    crit_free(blk);
    return ok ? CRIT_OK : crit_fail(err, CRIT_E_NOMEM, "out of memory for a threshold");
}

/* ---- making clusters ---- */

typedef struct make {
    crit_squeezed *s;
    const crit_decode_env *e;
    const crit_kv *kv; /* [n_layer]; NULL = s->kv */
    bool cluster;      /* else only what follows from them */
    _Atomic bool failed;
} make;

static bool calibrate(const make *m, uint32_t layer, uint32_t head, crit_clusters *c) {
    const crit_squeezed *s = m->s;
    size_t row = (size_t)s->n_head * s->d;
    const crit_squeezed_rows q = {s->query + layer * s->window * row + (size_t)head * s->n_group * s->d,
                                  row,
                                  s->n_query,
                                  s->n_group,
                                  s->d,
                                  m->e->scale};
    void *scratch = crit_malloc(1, crit_squeezed_scratch_bytes(c->fine.n, 0, 0, s->d));
    if (scratch) crit_squeezed_scores(&c->fine, m->e->kernels, &q, c->fine.score, scratch);
    crit_free(scratch);
    return scratch;
}

static void make_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    make *m = arg;
    crit_squeezed *s = m->s;
    uint32_t layer = (uint32_t)(item / s->n_kv_head), head = (uint32_t)(item % s->n_kv_head);
    crit_clusters *c = &s->clusters[item];
    const crit_kv *kv = m->kv ? &m->kv[layer] : s->kv[layer];
    if (m->cluster) {
        if (!crit_clusters_build(c, kv, head, s->n_fix, at_least_1(s->share * s->n_fix),
                                 at_least_1(s->share1 * s->n_fix), item)) {
            m->failed = true;
            return;
        }
    }
    if (!crit_clusters_pack(c, m->e->kernels) || (m->cluster && !calibrate(m, layer, head, c))) {
        m->failed = true;
        return;
    }
    for (uint32_t i = 0; i < s->n_fix; i++) crit_slab_copy(&s->slab[layer], head, i, kv, c->pos[i]);
}

/* Clusters (or those that are there already), the slab in their order, thresholds, room for steps. */
static crit_status make_all(crit_squeezed *s, crit_decode_env *e, const crit_kv *kv, bool cluster, crit_error *err) {
    make m = {.s = s, .e = e, .kv = kv, .cluster = cluster};
    crit_status st = crit_slabs_init(s->slab, s->n_layer, e->kernels, s->n_kv_head, s->d, s->n_fix, err);
    if (!st) {
        crit_pool_run(e->pool, (size_t)s->n_layer * s->n_kv_head, make_item, &m);
        if (m.failed) st = crit_fail(err, CRIT_E_NOMEM, "out of memory for clusters of %u keys", s->n_fix);
        if (crit_pool_stopped(e->pool)) st = crit_fail(err, CRIT_E_CANCELLED, "cancelled");
    }
    if (!st) st = set_threshold(s, err);
    if (!st) st = crit_squeezed_reserve(s, e, err);
    if (st) forget(s);
    return st;
}

static crit_status prompt(void *state, crit_decode_env *e, uint32_t layer, const crit_kv *kv, const float *q,
                          size_t q_stride, uint32_t n_q, crit_error *err) {
    crit_squeezed *s = state;
    uint32_t n = kv->n_tok;
    size_t row = (size_t)s->n_head * s->d;
    /* Clusters stay until what stands behind them has outgrown them. */
    if (layer == 0) s->due = n > s->least && n >= s->window + CRIT_BLK_LEN && (!s->n_fix || n / 2 > s->n_fix);
    if (!s->due) return CRIT_OK;
    if (!s->query) s->query = crit_malloc((size_t)s->n_layer * s->window * row, sizeof *s->query);
    if (!s->query) return crit_fail(err, CRIT_E_NOMEM, "out of memory for queries");
    s->n_query = n_q < s->window ? n_q : s->window;
    s->kv[layer] = kv;
    for (uint32_t i = 0; i < s->n_query; i++)
        memcpy(s->query + (layer * s->window + i) * row, q + (size_t)(n_q - s->n_query + i) * q_stride,
               row * sizeof *q);
    if (layer + 1 < s->n_layer) return CRIT_OK;
    forget(s);
    s->n_fix = (n - s->window) / CRIT_BLK_LEN * CRIT_BLK_LEN;
    return make_all(s, e, NULL, true, err);
}

static bool takes(const void *state, uint32_t pos0) {
    const crit_squeezed *s = state;
    return s->n_fix && pos0 >= s->n_fix;
}

static void cut(void *state, uint32_t n_tok) {
    crit_squeezed *s = state;
    if (n_tok < s->n_fix) forget(s);
}

/* ---- snapshots ---- */

static crit_status save(const void *state, crit_blob *out, crit_error *err) {
    const crit_squeezed *s = state;
    if (!s->n_fix) return CRIT_OK;
    crit_blob_u32(out, s->n_fix);
    for (uint32_t i = 0; i < s->n_layer * s->n_kv_head; i++) crit_clusters_save(&s->clusters[i], out);
    return out->failed ? crit_fail(err, CRIT_E_NOMEM, "out of memory for clusters") : CRIT_OK;
}

static crit_status load(void *state, crit_decode_env *e, const crit_kv *kv, uint32_t n_tok, crit_blob_view *in,
                        crit_error *err) {
    crit_squeezed *s = state;
    bool nomem = false;
    forget(s);
    uint32_t n_fix = crit_blob_get_u32(in);
    bool ok = n_fix && n_fix % CRIT_BLK_LEN == 0 && n_fix <= n_tok;
    for (uint32_t i = 0; i < s->n_layer * s->n_kv_head && ok; i++)
        ok = crit_clusters_load(&s->clusters[i], n_fix, s->d, in, &nomem);
    if (!ok || in->at != in->n) {
        forget(s);
        return nomem ? crit_fail(err, CRIT_E_NOMEM, "out of memory for clusters")
                     : crit_fail(err, CRIT_E_FORMAT, "the clusters in it make no sense");
    }
    s->n_fix = n_fix;
    return make_all(s, e, kv, false, err);
}

/* The paper's figure: centres count as keys without values, and the quantile as what is kept. */
static double traffic(const void *state, const crit_decode_env *e, const crit_policy_values *o, uint32_t n_tok) {
    (void)state, (void)e;
    if (n_tok <= o->v[OPT_MIN] + o->v[OPT_W]) return 1;
    double fix = (n_tok - o->v[OPT_W]) / n_tok, kept = 1 - o->v[OPT_Q], centres = o->v[OPT_C] / 2;
    if (o->v[OPT_LEVELS] > 1) centres += o->v[OPT_C1] / 2; /* at worst */
    return fix * (centres + kept) + 1 - fix;
}

const crit_policy crit_policy_squeezed = {
    .name = "squeezed",
    .summary = "keys of a fixed prefix in clusters, of which a query reads the few that its threshold lets pass",
    .source = "Squeezed Attention, arXiv 2411.09688",
    .combines = "any prefill of the prefix; what follows a prefix in clusters is read through them",
    .place = CRIT_POLICY_DECODE,
    .options = options,
    .n_option = sizeof options / sizeof *options,
    .bytes = state_bytes,
    .open = state_open,
    .close = state_close,
    .n_query = WINDOW_MAX,
    .prompt = prompt,
    .takes = takes,
    .chunk = crit_squeezed_chunk,
    .decode = crit_squeezed_decode,
    .cut = cut,
    .save = save,
    .load = load,
    .kept = crit_squeezed_kept,
    .traffic = traffic,
};
