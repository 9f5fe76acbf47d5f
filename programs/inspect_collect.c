/* SPDX-License-Identifier: MIT */
/* See inspect_collect.h. */
#include "inspect_collect.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "probe.h"
#include "term.h"

enum { TILE = CRIT_VIEW_TILE_LEN, BLK = CRIT_VIEW_BLK_LEN, TILE_BLK = TILE / BLK };

/* ---- sizes ---- */

uint32_t collect_columns(const collected *c, uint32_t row) {
    const uint64_t seen = (uint64_t)(row + 1) * c->tile_pool * TILE_BLK, n = seen < c->n_blk ? seen : c->n_blk;
    return (uint32_t)((n + c->blk_pool - 1) / c->blk_pool);
}

static size_t causal_cells(const collected *c) {
    size_t n = 0;
    for (uint32_t r = 0; r < c->n_row; r++) n += collect_columns(c, r);
    return n;
}

/* The finest pooling that keeps to the limits; the side that has more cells is pooled first. */
static void choose_pools(collected *c) {
    const size_t n_sel = (size_t)c->n_sel_layer * c->n_sel_head;
    c->tile_pool = c->blk_pool = 1;
    for (;;) {
        c->n_row = (c->n_tile + c->tile_pool - 1) / c->tile_pool;
        c->n_col = (c->n_blk + c->blk_pool - 1) / c->blk_pool;
        const bool fits = c->n_row <= c->p.side && c->n_col <= c->p.side && causal_cells(c) * n_sel <= c->p.cells;
        if (fits || (c->n_row <= 8 && c->n_col <= 8)) return;
        if (c->n_col >= c->n_row)
            c->blk_pool++;
        else
            c->tile_pool++;
    }
}

static bool choose(const uint32_t *list, size_t n_list, uint32_t n, uint32_t **chosen, uint32_t *n_chosen,
                   uint32_t **at) {
    *chosen = malloc(n * sizeof **chosen);
    *at = malloc(n * sizeof **at);
    if (!*chosen || !*at) return false;
    for (uint32_t i = 0; i < n; i++) {
        bool in = n_list == 0;
        for (size_t k = 0; k < n_list; k++) in = in || list[k] == i;
        (*at)[i] = in ? *n_chosen : UINT32_MAX;
        if (in) (*chosen)[(*n_chosen)++] = i;
    }
    return true;
}

int collect_open(collected *c, const collect_params *p, uint32_t n_layer, uint32_t n_head, uint32_t n_tok) {
    *c = (collected){.p = *p,
                     .n_layer = n_layer,
                     .n_head = n_head,
                     .n_tok = n_tok,
                     .n_tile = (n_tok - 1) / TILE + 1,
                     .n_blk = (n_tok - 1) / BLK + 1};
    if (!choose(p->layers, p->n_layers, n_layer, &c->layer, &c->n_sel_layer, &c->layer_at) ||
        !choose(p->heads, p->n_heads, n_head, &c->head, &c->n_sel_head, &c->head_at))
        return fail_memory();
    const size_t all = (size_t)n_layer * n_head, n_sel = (size_t)c->n_sel_layer * c->n_sel_head;
    c->planned = calloc(all, sizeof *c->planned);
    c->causal = calloc(all, sizeof *c->causal);
    if (!c->planned || !c->causal) return fail_memory();
    if (p->cells) {
        choose_pools(c);
        c->cell = calloc(n_sel * c->n_row * c->n_col, sizeof *c->cell);
        c->mass = calloc(n_sel, sizeof *c->mass);
        c->n_query = calloc(n_sel, sizeof *c->n_query);
        if (!c->cell || !c->mass || !c->n_query) return fail_memory();
    }
    if (p->tokens) {
        c->top = calloc(n_sel, sizeof *c->top);
        c->top_layer = calloc(c->n_sel_layer, sizeof *c->top_layer);
        c->all = calloc(n_tok, sizeof *c->all);
        if (!c->top || !c->top_layer || !c->all) return fail_memory();
    }
    return EXIT_OK;
}

void collect_free(collected *c) {
    free(c->planned);
    free(c->causal);
    free(c->layer);
    free(c->head);
    free(c->layer_at);
    free(c->head_at);
    free(c->cell);
    free(c->mass);
    free(c->n_query);
    free(c->top);
    free(c->top_layer);
    free(c->all);
    *c = (collected){0};
}

double collect_density(const collected *c, uint32_t layer, uint32_t head) {
    const size_t i = (size_t)layer * c->n_head + head;
    return c->causal[i] > 0 ? c->planned[i] / c->causal[i] : (double)NAN;
}

const grid_cell *collect_grid(const collected *c, uint32_t layer_index, uint32_t head_index) {
    return c->cell + ((size_t)layer_index * c->n_sel_head + head_index) * c->n_row * c->n_col;
}

/* ---- tiles ---- */

static void add_density(collected *c, const crit_layer_view *v, const view_tile *t, unsigned char *kept) {
    for (uint32_t h = 0; h < v->n_head; h++) {
        const size_t i = (size_t)v->layer * c->n_head + h;
        probe_kept(v, t, h, kept);
        for (uint32_t b = 0; b < t->n_blk; b++)
            if (kept[b]) c->planned[i] += probe_block_pairs(t, b);
        c->causal[i] += probe_pairs(t);
    }
}

/* One tile of one chosen head: mass [n_pos][n_blk]. */
static void add_grid(collected *c, const view_tile *t, const unsigned char *kept, const float *mass, uint32_t n_pos,
                     size_t n_blk, size_t sel) {
    grid_cell *row = c->cell + (sel * c->n_row + t->pos / TILE / c->tile_pool) * c->n_col;
    for (uint32_t b = 0; b < t->n_blk; b++) {
        double w = 0;
        for (uint32_t r = 0; r < n_pos; r++) w += (double)mass[r * n_blk + b];
        grid_cell *x = &row[b / c->blk_pool];
        x->weight += (float)(w / n_pos);
        if (kept[b]) {
            x->kept++; /* a count until the end */
            c->mass[sel] += w;
        } else {
            x->missed += (float)(w / n_pos);
        }
    }
    c->n_query[sel] += n_pos;
}

static int add_tiles(collected *c, const crit_layer_view *v) {
    crit_error err = {0};
    const size_t n_blk = crit_view_n_blk(v);
    const bool grids = c->cell && c->layer_at[v->layer] != UINT32_MAX;
    unsigned char *kept = malloc(n_blk);
    float *mass = grids ? malloc((size_t)v->n_head * c->p.n_probe * n_blk * sizeof *mass) : NULL;
    int rc = kept && (mass || !grids) ? EXIT_OK : fail_memory();
    for (uint32_t i = 0; i < view_n_tile(v) && !rc; i++) {
        const view_tile t = view_tile_at(v, i);
        uint32_t pos[TILE];
        add_density(c, v, &t, kept);
        if (!grids) continue;
        const uint32_t n_pos = probe_positions(&t, c->p.n_probe, c->p.seed, pos);
        if (crit_view_weights(v, pos, n_pos, mass, NULL, &err)) {
            rc = fail_with(&err);
            break;
        }
        for (uint32_t k = 0; k < c->n_sel_head; k++) {
            const uint32_t h = c->head[k];
            probe_kept(v, &t, h, kept);
            add_grid(c, &t, kept, mass + (size_t)h * n_pos * n_blk, n_pos, n_blk,
                     (size_t)c->layer_at[v->layer] * c->n_sel_head + k);
        }
    }
    free(kept);
    free(mass);
    return rc;
}

/* ---- the last position ---- */

static int by_weight(const void *a, const void *b) {
    const key_weight *x = a, *y = b;
    if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
    return x->pos < y->pos ? -1 : x->pos > y->pos;
}

static int by_pos(const void *a, const void *b) {
    const key_weight *x = a, *y = b;
    return x->pos < y->pos ? -1 : x->pos > y->pos;
}

/* The heaviest of w [n]; what is a ten-thousandth of the largest or less is left out.  all [n]: scratch. */
static void take_top(const double *w, uint32_t n, key_weight *all, key_list *out) {
    double most = 0;
    size_t k = 0;
    for (uint32_t j = 0; j < n; j++) most = fmax(most, w[j]);
    for (uint32_t j = 0; j < n; j++)
        if (w[j] > most * 1e-4) all[k++] = (key_weight){j, (float)w[j]};
    qsort(all, k, sizeof *all, by_weight);
    out->n = k < COLLECT_TOP ? k : COLLECT_TOP;
    qsort(all, out->n, sizeof *all, by_pos);
    if (out->n) memcpy(out->at, all, out->n * sizeof *all);
}

/* Soft-max of the scores of one query. */
static void weights_of(const float *q, const float *k, uint32_t n, uint32_t d, float scale, double *w) {
    double top = -(double)INFINITY, sum = 0;
    for (uint32_t j = 0; j < n; j++) {
        double s = 0;
        for (uint32_t i = 0; i < d; i++) s += (double)q[i] * (double)k[(size_t)j * d + i];
        w[j] = s * (double)scale;
        top = fmax(top, w[j]);
    }
    for (uint32_t j = 0; j < n; j++) sum += w[j] = exp(w[j] - top);
    for (uint32_t j = 0; j < n; j++) w[j] /= sum;
}

static int add_last(collected *c, const crit_layer_view *v) {
    crit_error err = {0};
    const uint32_t n = c->n_tok, d = v->d_head, n_group = v->n_head / v->n_kv_head, at = c->layer_at[v->layer];
    const float *q = v->q + (size_t)(v->n_tok - 1) * v->q_stride;
    float *k = malloc((size_t)n * d * sizeof *k);
    double *w = malloc(n * sizeof *w), *mean = calloc(n, sizeof *mean);
    key_weight *scratch = malloc(n * sizeof *scratch);
    int rc = k && w && mean && scratch ? EXIT_OK : fail_memory();
    for (uint32_t h = 0; h < v->n_head && !rc; h++) {
        if (h % n_group == 0 && crit_view_kv(v, h / n_group, 0, n, k, NULL, &err)) {
            rc = fail_with(&err);
            break;
        }
        weights_of(q + (size_t)h * d, k, n, d, v->scale, w);
        for (uint32_t j = 0; j < n; j++) mean[j] += w[j] / v->n_head;
        if (at != UINT32_MAX && c->head_at[h] != UINT32_MAX)
            take_top(w, n, scratch, &c->top[(size_t)at * c->n_sel_head + c->head_at[h]]);
    }
    for (uint32_t j = 0; j < n && !rc; j++) c->all[j] += mean[j] / v->n_layer;
    if (!rc && at != UINT32_MAX) take_top(mean, n, scratch, &c->top_layer[at]);
    free(k);
    free(w);
    free(mean);
    free(scratch);
    return rc;
}

int collect_layer(void *user, const crit_layer_view *v) {
    collected *c = user;
    c->rc = add_tiles(c, v);
    if (!c->rc && c->all && v->pos0 + v->n_tok == c->n_tok) c->rc = add_last(c, v);
    return c->rc;
}

/* ---- means ---- */

void collect_end(collected *c) {
    const size_t n_sel = (size_t)c->n_sel_layer * c->n_sel_head;
    for (size_t s = 0; c->cell && s < n_sel; s++) {
        if (c->n_query[s] > 0) c->mass[s] /= c->n_query[s];
        for (uint32_t r = 0; r < c->n_row; r++) {
            const uint32_t t0 = r * c->tile_pool, t1 = t0 + c->tile_pool < c->n_tile ? t0 + c->tile_pool : c->n_tile;
            for (uint32_t k = 0; k < c->n_col; k++) {
                grid_cell *x = &c->cell[(s * c->n_row + r) * c->n_col + k];
                uint32_t seen = 0; /* pairs (tile, block) of the cell */
                for (uint32_t t = t0; t < t1; t++) {
                    const uint32_t b0 = k * c->blk_pool,
                                   end = (t + 1) * TILE_BLK < c->n_blk ? (t + 1) * TILE_BLK : c->n_blk;
                    if (end > b0) seen += end - b0 < c->blk_pool ? end - b0 : c->blk_pool;
                }
                x->kept = seen ? x->kept / (float)seen : NAN;
                x->weight /= (float)(t1 - t0);
                x->missed /= (float)(t1 - t0);
            }
        }
    }
}
