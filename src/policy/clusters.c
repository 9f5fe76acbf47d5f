/* SPDX-License-Identifier: MIT */
/* See clusters.h. */
#include "policy/clusters.h"

#include <math.h>
#include <string.h>

#include "policy/kmeans.h"

static void level_clear(crit_cluster_level *l) {
    if (!l->placed) {
        crit_free(l->from);
        crit_free(l->key);
        crit_free(l->size);
        crit_free(l->ln_size);
    }
    crit_free(l->centre);
    crit_free(l->score);
    memset(l, 0, sizeof *l);
}

static bool level_init(crit_cluster_level *l, uint32_t n, uint32_t d) {
    *l = (crit_cluster_level){.n = n,
                              .from = crit_malloc((size_t)n + 1, sizeof *l->from),
                              .centre = crit_malloc((size_t)n * d, sizeof *l->centre),
                              .size = crit_malloc(n, sizeof *l->size),
                              .ln_size = crit_malloc(n, sizeof *l->ln_size),
                              .score = crit_calloc(n, sizeof *l->score)};
    return l->from && l->centre && l->size && l->ln_size && l->score;
}

static size_t level_bytes(uint32_t n, uint32_t d) {
    return (size_t)n * (d * (sizeof(float) + sizeof(uint16_t)) + 4 * sizeof(float)) + sizeof(uint32_t);
}

void crit_clusters_clear(crit_clusters *c) {
    level_clear(&c->fine);
    level_clear(&c->coarse);
    crit_free(c->pos);
    memset(c, 0, sizeof *c);
}

size_t crit_clusters_bytes(uint32_t n_key, uint32_t d, uint32_t n_fine, uint32_t n_coarse) {
    return (size_t)n_key * sizeof(uint32_t) + level_bytes(n_fine, d) + level_bytes(n_coarse, d);
}

/* Values go where nobody looks. */
static bool pack(crit_cluster_level *l, uint32_t d, const crit_kernels *kt) {
    size_t n = ((size_t)l->n + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN * CRIT_BLK_LEN, blk = (size_t)CRIT_BLK_LEN * d;
    uint16_t *value = crit_malloc(blk, sizeof *value);
    crit_free(l->key);
    l->key = crit_malloc(n * d, sizeof *l->key);
    for (size_t j = 0; j < l->n && value && l->key; j += CRIT_BLK_LEN) {
        const float *x = l->centre + j * d;
        kt->kv_put(x, d, x, d, 0, l->n - j < CRIT_BLK_LEN ? l->n - j : CRIT_BLK_LEN, d, l->key + j * d, value);
    }
    bool ok = value && l->key;
    crit_free(value);
    return ok;
}

bool crit_clusters_pack(crit_clusters *c, const crit_kernels *kt) {
    return pack(&c->fine, c->d, kt) && pack(&c->coarse, c->d, kt);
}

static size_t place(void **array, size_t bytes, unsigned char *mem, size_t at) {
    if (mem) {
        memcpy(mem + at, *array, bytes);
        crit_free(*array);
        *array = mem + at;
    }
    return at + (bytes + CRIT_ALIGN - 1) / CRIT_ALIGN * CRIT_ALIGN;
}

static size_t level_place(crit_cluster_level *l, uint32_t d, unsigned char *mem, size_t at) {
    void *key = l->key, *from = l->from, *size = l->size, *ln_size = l->ln_size;
    at = place(&key, (size_t)l->n * d * sizeof *l->key, mem, at);
    at = place(&ln_size, l->n * sizeof *l->ln_size, mem, at);
    at = place(&size, l->n * sizeof *l->size, mem, at);
    at = place(&from, ((size_t)l->n + 1) * sizeof *l->from, mem, at);
    l->key = key;
    l->from = from;
    l->size = size;
    l->ln_size = ln_size;
    l->placed = mem != NULL;
    return at;
}

size_t crit_clusters_place(crit_clusters *c, void *mem) {
    return level_place(&c->coarse, c->d, mem, level_place(&c->fine, c->d, mem, 0));
}

/* ---- building ---- */

static void to_unit(float *x, uint32_t n, uint32_t d) {
    for (uint32_t i = 0; i < n; i++, x += d) {
        double s = 0;
        for (uint32_t e = 0; e < d; e++) s += (double)x[e] * (double)x[e];
        if (s <= 0) continue; /* a key without direction is as near to one as to another */
        float inv = (float)(1 / sqrt(s));
        for (uint32_t e = 0; e < d; e++) x[e] *= inv;
    }
}

/* Rows of x added up by label, in their order; sum [n_label][d], count [n_label]. */
static void add_rows(const float *x, uint32_t n, uint32_t d, const uint32_t *label, double *sum, double *count) {
    for (uint32_t i = 0; i < n; i++) {
        double *s = sum + (size_t)label[i] * d;
        for (uint32_t e = 0; e < d; e++) s[e] += (double)x[(size_t)i * d + e];
        count[label[i]]++;
    }
}

enum { PIECE = 256 };

typedef struct build {
    const crit_kv *kv;
    uint32_t head, n_key, d, n_fine, n_coarse;
    uint32_t *label;        /* [n_key] fine cluster of each key */
    uint32_t *up;           /* [n_fine] its coarse cluster */
    double *sum, *count;    /* [n_fine][d], [n_fine] */
    double *sum1, *count1;  /* [n_coarse] */
    float *unit;            /* [max(n_key, n_fine)][d] */
    uint32_t *order, *rank; /* [n_fine] fine clusters in order; place of each */
} build;

static void build_clear(build *b) {
    crit_free(b->label);
    crit_free(b->up);
    crit_free(b->sum);
    crit_free(b->count);
    crit_free(b->sum1);
    crit_free(b->count1);
    crit_free(b->unit);
    crit_free(b->order);
    crit_free(b->rank);
}

/* Means of the keys as they are, by label; fills sum and count. */
static bool fine_means(build *b) {
    float *piece = crit_malloc((size_t)PIECE * b->d, sizeof *piece);
    b->sum = crit_calloc((size_t)b->n_fine * b->d, sizeof *b->sum);
    b->count = crit_calloc(b->n_fine, sizeof *b->count);
    bool ok = piece && b->sum && b->count;
    for (uint32_t i = 0; i < b->n_key && ok; i += PIECE) {
        uint32_t n = b->n_key - i < PIECE ? b->n_key - i : PIECE;
        crit_kv_get(b->kv, b->head, i, n, piece, NULL);
        add_rows(piece, n, b->d, b->label + i, b->sum, b->count);
    }
    crit_free(piece);
    return ok;
}

static bool coarse_means(build *b) {
    b->sum1 = crit_calloc((size_t)b->n_coarse * b->d, sizeof *b->sum1);
    b->count1 = crit_calloc(b->n_coarse, sizeof *b->count1);
    if (!b->sum1 || !b->count1) return false;
    for (uint32_t j = 0; j < b->n_fine; j++) {
        double *s = b->sum1 + (size_t)b->up[j] * b->d;
        for (uint32_t e = 0; e < b->d; e++) s[e] += b->sum[(size_t)j * b->d + e];
        b->count1[b->up[j]] += b->count[j];
    }
    return true;
}

static void unit_means(const double *sum, const double *count, uint32_t n, uint32_t d, float *out) {
    for (uint32_t j = 0; j < n; j++)
        for (uint32_t e = 0; e < d; e++) out[(size_t)j * d + e] = (float)(sum[(size_t)j * d + e] / count[j]);
    to_unit(out, n, d);
}

static bool cluster(build *b, const crit_kernels *kt, uint64_t seed) {
    b->label = crit_malloc(b->n_key, sizeof *b->label);
    b->unit = crit_malloc((size_t)b->n_key * b->d, sizeof *b->unit);
    if (!b->label || !b->unit) return false;
    crit_kv_get(b->kv, b->head, 0, b->n_key, b->unit, NULL);
    to_unit(b->unit, b->n_key, b->d);
    crit_kmeans_job j = {kt, b->unit, b->n_key, b->d, b->n_fine, seed};
    b->n_fine = crit_kmeans(&j, b->label);
    if (!b->n_fine || !fine_means(b)) return false;
    unit_means(b->sum, b->count, b->n_fine, b->d, b->unit);
    b->up = crit_malloc(b->n_fine, sizeof *b->up);
    j.n = b->n_fine;
    j.k = b->n_coarse;
    j.seed = ~seed;
    b->n_coarse = b->up ? crit_kmeans(&j, b->up) : 0;
    return b->n_coarse && coarse_means(b);
}

/* The coarse clusters in a chain of neighbours, and the fine ones of each likewise: what a query wants lies in few
 * blocks then. */
static bool put_in_order(build *b, const crit_kernels *kt, crit_cluster_level *coarse) {
    uint32_t d = b->d, n = 0, at = 0;
    uint32_t *chain = crit_malloc(b->n_coarse, sizeof *chain), *in = crit_malloc(b->n_fine, sizeof *in),
             *sub = crit_malloc(b->n_fine, sizeof *sub);
    float *x = crit_malloc((size_t)(b->n_fine > b->n_coarse ? b->n_fine : b->n_coarse) * d, sizeof *x);
    b->order = crit_malloc(b->n_fine, sizeof *b->order);
    b->rank = crit_malloc(b->n_fine, sizeof *b->rank);
    bool ok = chain && in && sub && x && b->order && b->rank;
    if (ok) {
        unit_means(b->sum1, b->count1, b->n_coarse, d, x);
        ok = crit_chain_order(kt, x, b->n_coarse, d, chain);
    }
    for (uint32_t c = 0; c < b->n_coarse && ok; c++, at += n) {
        coarse->from[c] = at;
        n = 0;
        for (uint32_t j = 0; j < b->n_fine; j++)
            if (b->up[j] == chain[c]) {
                memcpy(x + (size_t)n * d, b->unit + (size_t)j * d, d * sizeof *x);
                in[n++] = j;
            }
        ok = crit_chain_order(kt, x, n, d, sub);
        for (uint32_t i = 0; i < n && ok; i++) {
            b->rank[in[sub[i]]] = at + i;
            b->order[at + i] = in[sub[i]];
        }
        double *s = b->sum1 + (size_t)chain[c] * d;
        for (uint32_t e = 0; e < d; e++) coarse->centre[(size_t)c * d + e] = (float)(s[e] / b->count1[chain[c]]);
        coarse->size[c] = (float)b->count1[chain[c]];
        coarse->ln_size[c] = logf(coarse->size[c]);
    }
    if (ok) coarse->from[b->n_coarse] = at;
    crit_free(chain);
    crit_free(in);
    crit_free(sub);
    crit_free(x);
    return ok;
}

static void fill_fine(build *b, crit_clusters *c) {
    crit_cluster_level *f = &c->fine;
    uint32_t at = 0;
    for (uint32_t i = 0; i < b->n_fine; i++) {
        uint32_t j = b->order[i];
        f->from[i] = at;
        at += (uint32_t)b->count[j];
        f->size[i] = (float)b->count[j];
        f->ln_size[i] = logf(f->size[i]);
        for (uint32_t e = 0; e < b->d; e++)
            f->centre[(size_t)i * b->d + e] = (float)(b->sum[(size_t)j * b->d + e] / b->count[j]);
    }
    for (uint32_t p = 0; p < b->n_key; p++) c->pos[f->from[b->rank[b->label[p]]]++] = p;
    memmove(f->from + 1, f->from, b->n_fine * sizeof *f->from); /* each stands at its end now */
    f->from[0] = 0;
}

bool crit_clusters_build(crit_clusters *c, const crit_kv *kv, uint32_t head, uint32_t n_key, uint32_t n_fine,
                         uint32_t n_coarse, uint64_t seed) {
    build b = {.kv = kv, .head = head, .n_key = n_key, .d = kv->d, .n_fine = n_fine, .n_coarse = n_coarse};
    memset(c, 0, sizeof *c);
    bool ok = cluster(&b, kv->kernels, seed) && level_init(&c->fine, b.n_fine, b.d) &&
              level_init(&c->coarse, b.n_coarse, b.d) && (c->pos = crit_malloc(n_key, sizeof *c->pos)) &&
              put_in_order(&b, kv->kernels, &c->coarse);
    if (ok) {
        c->n_key = n_key;
        c->d = b.d;
        fill_fine(&b, c);
    } else {
        crit_clusters_clear(c);
    }
    build_clear(&b);
    return ok;
}

/* ---- files ---- */

static void level_save(const crit_cluster_level *l, uint32_t d, crit_blob *out) {
    crit_blob_u32(out, l->n);
    crit_blob_put(out, l->from, ((size_t)l->n + 1) * sizeof *l->from);
    crit_blob_put(out, l->centre, (size_t)l->n * d * sizeof *l->centre);
    crit_blob_put(out, l->size, l->n * sizeof *l->size);
    crit_blob_put(out, l->score, l->n * sizeof *l->score);
}

void crit_clusters_save(const crit_clusters *c, crit_blob *out) {
    level_save(&c->fine, c->d, out);
    level_save(&c->coarse, c->d, out);
    crit_blob_put(out, c->pos, c->n_key * sizeof *c->pos);
}

/* A level over n things: runs that are not empty and end with the last. */
static bool level_load(crit_cluster_level *l, uint32_t n_of, uint32_t d, crit_blob_view *in, bool *nomem) {
    uint32_t n = crit_blob_get_u32(in);
    if (in->failed || n == 0 || n > n_of) return false;
    if (!level_init(l, n, d)) {
        *nomem = true;
        return false;
    }
    crit_blob_get(in, l->from, ((size_t)n + 1) * sizeof *l->from);
    crit_blob_get(in, l->centre, (size_t)n * d * sizeof *l->centre);
    crit_blob_get(in, l->size, n * sizeof *l->size);
    crit_blob_get(in, l->score, n * sizeof *l->score);
    bool ok = !in->failed && l->from[0] == 0 && l->from[n] == n_of;
    for (uint32_t j = 0; j < n && ok; j++) {
        ok = l->from[j] < l->from[j + 1] && l->size[j] >= 1 && isfinite(l->size[j]) && l->score[j] >= 0;
        l->ln_size[j] = logf(l->size[j]);
    }
    for (size_t i = 0; i < (size_t)n * d && ok; i++) ok = isfinite(l->centre[i]);
    return ok;
}

bool crit_clusters_load(crit_clusters *c, uint32_t n_key, uint32_t d, crit_blob_view *in, bool *nomem) {
    memset(c, 0, sizeof *c);
    c->n_key = n_key;
    c->d = d;
    bool *there = crit_calloc(n_key, sizeof *there);
    c->pos = crit_malloc(n_key, sizeof *c->pos);
    *nomem = !there || !c->pos;
    bool ok = !*nomem && level_load(&c->fine, n_key, d, in, nomem) && level_load(&c->coarse, c->fine.n, d, in, nomem);
    if (ok) {
        crit_blob_get(in, c->pos, n_key * sizeof *c->pos);
        ok = !in->failed;
    }
    for (uint32_t i = 0; i < n_key && ok; i++) { /* each key once */
        ok = c->pos[i] < n_key && !there[c->pos[i]];
        if (ok) there[c->pos[i]] = true;
    }
    crit_free(there);
    if (!ok) crit_clusters_clear(c);
    return ok;
}
