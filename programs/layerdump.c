/* SPDX-License-Identifier: MIT */
/* See layerdump.h.  Files stay open while the chunks come; the first chunk of a layer opens its files. */
#include "layerdump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "files.h"
#include "jsonout.h"
#include "npy.h"
#include "probe.h"
#include "term.h"

enum { Q, K, V, OUT, OFFSETS, IDS, N_FILE };
static const char *const file_name[N_FILE] = {"q", "k", "v", "out", "plan-offsets", "plan-ids"};

typedef struct layer_files {
    npy file[N_FILE];
    int64_t n_id;
    bool open;
} layer_files;

struct layerdump {
    char *dir;
    layer_files *layer;
    uint32_t n_layer, n_tok, n_head, n_kv_head, d_head;
    double scale;
};

int layerdump_open(layerdump **out, const char *dir, uint32_t n_layer) {
    layerdump *d = calloc(1, sizeof *d);
    *out = d;
    if (!d) return fail_memory();
    d->n_layer = n_layer;
    d->dir = strdup(dir);
    d->layer = calloc(n_layer, sizeof *d->layer);
    if (!d->dir || !d->layer) return fail_memory();
    if (mkdir(dir, 0777) && errno != EEXIST) return fail("%s: %s", dir, strerror(errno));
    return EXIT_OK;
}

static int open_layer(layerdump *d, const crit_layer_view *v) {
    const size_t q_dim[] = {0, v->n_head, v->d_head}, kv_dim[] = {0, v->n_kv_head, v->d_head}, flat[] = {0};
    layer_files *l = &d->layer[v->layer];
    l->open = true;
    for (int i = 0; i < N_FILE; i++) {
        buf path = {0};
        buf_fmt(&path, "%s/layer%03u-%s.npy", d->dir, v->layer, file_name[i]);
        int rc = path.oom           ? fail_memory()
                 : i == OFFSETS     ? npy_open(&l->file[i], path.s, NPY_I64, flat, 1)
                 : i == IDS         ? npy_open(&l->file[i], path.s, NPY_I32, flat, 1)
                 : i == K || i == V ? npy_open(&l->file[i], path.s, NPY_F32, kv_dim, 3)
                                    : npy_open(&l->file[i], path.s, NPY_F32, q_dim, 3);
        buf_free(&path);
        if (rc) return rc;
    }
    return npy_write(&l->file[OFFSETS], &(int64_t){0}, 1);
}

static int add_kv(layer_files *l, const crit_layer_view *v) {
    const size_t d = v->d_head, n = v->n_tok, row = v->n_kv_head * d;
    float *one = malloc(2 * n * d * sizeof *one), *all = malloc(2 * n * row * sizeof *all);
    int rc = one && all ? EXIT_OK : fail_memory();
    for (uint32_t g = 0; g < v->n_kv_head && !rc; g++) {
        crit_error err = {0};
        if (crit_view_kv(v, g, v->pos0, v->n_tok, one, one + n * d, &err)) {
            rc = fail_with(&err);
            break;
        }
        for (size_t t = 0; t < 2 * n; t++) memcpy(all + t * row + g * d, one + t * d, d * sizeof *one);
    }
    if (!rc) rc = npy_write(&l->file[K], all, n);
    if (!rc) rc = npy_write(&l->file[V], all + n * row, n);
    free(one);
    free(all);
    return rc;
}

int layerdump_add(layerdump *d, const crit_layer_view *v) {
    layer_files *l = &d->layer[v->layer];
    d->n_head = v->n_head, d->n_kv_head = v->n_kv_head, d->d_head = v->d_head, d->scale = (double)v->scale;
    d->n_tok = v->pos0 + v->n_tok;
    int rc = l->open ? EXIT_OK : open_layer(d, v);
    if (!rc) rc = npy_write_strided(&l->file[Q], v->q, v->n_tok, v->q_stride);
    if (!rc) rc = npy_write_strided(&l->file[OUT], v->out, v->n_tok, v->out_stride);
    if (!rc) rc = add_kv(l, v);
    for (uint32_t t = 0; t < view_n_tile(v) && !rc; t++)
        for (uint32_t h = 0; h < v->n_head && !rc; h++) {
            const uint32_t *ids;
            const size_t n = crit_plan_row(v->plan, h, t, &ids);
            rc = npy_write(&l->file[IDS], ids, n); /* block ids are far below 2^31 */
            l->n_id += (int64_t)n;
            if (!rc) rc = npy_write(&l->file[OFFSETS], &l->n_id, 1);
        }
    return rc;
}

static int put_meta(const layerdump *d, json_t *meta) {
    json_t *layers = json_array();
    for (uint32_t i = 0; i < d->n_layer; i++)
        if (d->layer[i].open) json_array_append_new(layers, json_integer(i));
    json_put(meta, "layers", layers);
    json_put(meta, "n_tok", json_size(d->n_tok));
    json_put(meta, "n_head", json_size(d->n_head));
    json_put(meta, "n_kv_head", json_size(d->n_kv_head));
    json_put(meta, "d_head", json_size(d->d_head));
    json_put(meta, "softmax_scale", json_num(d->scale));
    json_put(meta, "blk_len", json_size(CRIT_VIEW_BLK_LEN));
    json_put(meta, "tile_len", json_size(CRIT_VIEW_TILE_LEN));
    json_put(meta, "sink_tok", json_size(CRIT_VIEW_SINK_TOK));
    char *text = json_dumps(meta, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    buf path = {0}, s = {0};
    buf_fmt(&path, "%s/meta.json", d->dir);
    if (text) buf_fmt(&s, "%s\n", text);
    free(text);
    int rc = !text || path.oom ? fail_memory() : file_write(path.s, &s);
    buf_free(&path);
    buf_free(&s);
    return rc;
}

int layerdump_close(layerdump **dump, json_t *meta, int rc) {
    layerdump *d = *dump;
    *dump = NULL;
    for (uint32_t i = 0; d && d->layer && i < d->n_layer; i++)
        for (int k = 0; k < N_FILE; k++)
            if (rc)
                npy_drop(&d->layer[i].file[k]);
            else
                rc = npy_close(&d->layer[i].file[k]);
    if (d && !rc) rc = put_meta(d, meta);
    json_decref(meta);
    if (d) {
        free(d->dir);
        free(d->layer);
        free(d);
    }
    return rc;
}
