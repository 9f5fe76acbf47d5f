/* SPDX-License-Identifier: MIT */
/* The page of inspect: the files of page/ around one JSON object.  Weights are a byte each on a log scale, grids two
 * bytes a cell, so that a hundred heads fit into a file that a browser opens at once. */
#include <math.h>
#include <stdlib.h>

#include "html.h"
#include "inspect_page.h"
#include "jsonout.h"
#include "page.h"
#include "pagecode.h"
#include "term.h"

static json_t *base64(const void *data, size_t n) {
    buf b = {0};
    html_base64(&b, data, n);
    if (b.oom) exit(fail_memory());
    json_t *j = json_stringn_nocheck(b.n ? b.s : "", b.n);
    buf_free(&b);
    return j;
}

/* Row by row the columns that are not wholly in the future: the weight's code, then the shares'. */
static json_t *cells_json(const collected *c, uint32_t layer, uint32_t head) {
    buf b = {0};
    const grid_cell *grid = collect_grid(c, layer, head);
    for (uint32_t r = 0; r < c->n_row; r++)
        for (uint32_t k = 0; k < collect_columns(c, r); k++) {
            const grid_cell *x = &grid[(size_t)r * c->n_col + k];
            const double w = (double)x->weight, missed = (double)x->missed;
            const unsigned char two[2] = {pagecode_weight(w), pagecode_shares((double)x->kept, w, missed)};
            buf_add(&b, two, sizeof two);
        }
    if (b.oom) exit(fail_memory());
    json_t *j = base64(b.s, b.n);
    buf_free(&b);
    return j;
}

/* Four bytes a token, the lowest first: 24 bits of position, the weight's code. */
static json_t *list_json(const key_list *l) {
    unsigned char b[COLLECT_TOP * 4];
    for (size_t i = 0; i < l->n; i++) {
        const uint32_t pos = l->at[i].pos;
        b[4 * i] = (unsigned char)(pos & 255);
        b[4 * i + 1] = (unsigned char)(pos >> 8 & 255);
        b[4 * i + 2] = (unsigned char)(pos >> 16 & 255);
        b[4 * i + 3] = pagecode_weight((double)l->at[i].weight);
    }
    return base64(b, 4 * l->n);
}

static json_t *numbers(const uint32_t *v, uint32_t n) {
    json_t *j = json_array();
    for (uint32_t i = 0; i < n; i++) json_array_append_new(j, json_integer(v[i]));
    return j;
}

/* Each token's text: a character cut across tokens stands with its last one. */
static int put_tokens(json_t *root, const crit_model *model, const prompt *text) {
    json_t *list = json_array();
    buf out = {0}, piece = {0};
    utf8 u = {0};
    for (size_t i = 0; i < text->n; i++) {
        const size_t n = crit_token_bytes(model, text->ids[i], true, NULL, 0);
        piece.n = 0;
        if (!buf_room(&piece, n)) break;
        crit_token_bytes(model, text->ids[i], true, piece.s, n);
        out.n = 0;
        utf8_feed(&u, piece.s, n, &out);
        if (i + 1 == text->n) utf8_end(&u, &out);
        json_array_append_new(list, json_stringn_nocheck(out.n ? out.s : "", out.n));
    }
    json_put(root, "tokens", list);
    const bool oom = out.oom || piece.oom;
    buf_free(&out);
    buf_free(&piece);
    return oom ? fail_memory() : EXIT_OK;
}

static json_t *rounded(double x) {
    return json_num(round(x * 1e4) / 1e4);
}

static void put_heads(json_t *root, const collected *c) {
    json_t *density = json_array(), *mass = json_array(), *cells = json_array(), *top = json_array(),
           *top_layer = json_array();
    for (uint32_t l = 0; l < c->n_layer; l++) {
        json_t *row = json_array();
        for (uint32_t h = 0; h < c->n_head; h++) json_array_append_new(row, rounded(collect_density(c, l, h)));
        json_array_append_new(density, row);
    }
    for (uint32_t l = 0; l < c->n_sel_layer; l++) {
        json_array_append_new(top_layer, list_json(&c->top_layer[l]));
        for (uint32_t h = 0; h < c->n_sel_head; h++) {
            const size_t s = (size_t)l * c->n_sel_head + h;
            json_array_append_new(mass, rounded(c->mass[s]));
            json_array_append_new(cells, cells_json(c, l, h));
            json_array_append_new(top, list_json(&c->top[s]));
        }
    }
    json_put(root, "density", density);
    json_put(root, "mass", mass);
    json_put(root, "cells", cells);
    json_put(root, "top", top);
    json_put(root, "topLayer", top_layer);
}

static void put_all(json_t *root, const collected *c) {
    unsigned char *code = malloc(c->n_tok);
    if (!code) exit(fail_memory());
    for (uint32_t i = 0; i < c->n_tok; i++) code[i] = pagecode_weight(c->all[i]);
    json_put(root, "all", base64(code, c->n_tok));
    free(code);
}

static int put_data(const collected *c, const crit_model *model, const char *model_name, const char *attn,
                    const prompt *text, buf *out) {
    json_t *root = json_object();
    json_put(root, "model", json_cstr(model_name));
    json_put(root, "attn", json_cstr(attn));
    json_put(root, "nTok", json_size(c->n_tok));
    json_put(root, "tile", json_size(CRIT_VIEW_TILE_LEN));
    json_put(root, "blk", json_size(CRIT_VIEW_BLK_LEN));
    json_put(root, "nLayer", json_size(c->n_layer));
    json_put(root, "nHead", json_size(c->n_head));
    json_put(root, "layers", numbers(c->layer, c->n_sel_layer));
    json_put(root, "heads", numbers(c->head, c->n_sel_head));
    json_put(root, "rows", json_size(c->n_row));
    json_put(root, "cols", json_size(c->n_col));
    json_put(root, "tilePool", json_size(c->tile_pool));
    json_put(root, "blkPool", json_size(c->blk_pool));
    json_put(root, "densityAll", rounded(c->density));
    put_heads(root, c);
    put_all(root, c);
    int rc = put_tokens(root, model, text);
    char *s = rc ? NULL : json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(root);
    if (!rc && !s) rc = fail("the page's data cannot be written as JSON");
    if (s) html_json(out, s);
    free(s);
    return rc;
}

int inspect_page(const collected *c, const crit_model *model, const char *model_name, const char *attn,
                 const prompt *text, buf *out) {
    buf_str(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                 "<meta http-equiv=\"Content-Security-Policy\" "
                 "content=\"default-src 'none';style-src 'unsafe-inline';script-src 'unsafe-inline'\">\n"
                 "<title>What was read: critiprefill inspect</title>\n<style>\n");
    buf_str(out, (const char *)page_inspect_css);
    buf_str(out, "</style>\n</head>\n<body>\n");
    buf_str(out, (const char *)page_inspect_html);
    buf_str(out, "<script type=\"application/json\" id=\"data\">");
    int rc = put_data(c, model, model_name, attn, text, out);
    buf_str(out, "</script>\n<script>\n");
    buf_str(out, (const char *)page_inspect_js);
    buf_str(out, "</script>\n</body>\n</html>\n");
    return rc ? rc : out->oom ? fail_memory() : EXIT_OK;
}
