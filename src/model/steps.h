/* SPDX-License-Identifier: MIT */
/* The steps of a layer as stages of one run of the thread pool: packing of rows, matrix products, whatever is added.
 *
 * A run holds what can follow without a decision of the calling thread, so that a layer costs one wake-up of the pool
 * (two with a plan to make), not one a step. */
#ifndef CRIT_STEPS_H
#define CRIT_STEPS_H

#include "model/model.h"

enum { CRIT_ROWS_PER_ITEM = 8 };

typedef struct crit_product {
    const crit_mat *m;
    const float *bias;
    float *out;
    size_t out_stride;
    bool accumulate;
    unsigned char *act; /* the packed rows it reads, all of the chunk's; NULL = f->act */
    const float *gate;  /* gated: rows as out's, which is NULL; the result goes to packed, all of the chunk's rows */
    size_t gate_stride;
    unsigned char *packed;
} crit_product;

/* A product's outputs as work items of nearly the same size: whole units, and item i begins at crit_cut_at(c, i). */
typedef struct crit_output_cut {
    size_t n_out, unit, n_unit, n_item;
} crit_output_cut;
crit_output_cut crit_cut_outputs(const crit_kernels *kt, unsigned n_thread, size_t n_out, size_t row_bytes,
                                 size_t n_row);
size_t crit_cut_at(const crit_output_cut *c, size_t item);

/* Rows into packed form. */
typedef struct crit_pack {
    const float *x, *up, *norm; /* norm: RMS norm with these weights first; up: silu(x) * up first */
    size_t x_stride, n, row0, n_row;
    unsigned kinds;
    crit_forward *f; /* filled in */
} crit_pack;

typedef struct crit_products {
    crit_forward *f;
    crit_product p[3];
    size_t n_p, row0, n_row, rows_per_item;
    size_t first[4]; /* first item of each product within one block of rows */
    crit_output_cut cut[3];
} crit_products;

enum { CRIT_STEPS_PACKS = 4, CRIT_STEPS_PRODUCTS = 6 };

typedef struct crit_steps {
    crit_forward *f;
    unsigned n, n_pack, n_products;
    crit_stage stage[CRIT_STAGES_MAX];
    uint64_t *timer[CRIT_STAGES_MAX]; /* grows by the stage's wall time; NULL = not timed */
    crit_pack pack[CRIT_STEPS_PACKS];
    crit_products products[CRIT_STEPS_PRODUCTS];
} crit_steps;

void crit_steps_begin(crit_steps *s, crit_forward *f);
void crit_steps_add(crit_steps *s, crit_stage stage, uint64_t *timer);
void crit_steps_pack(crit_steps *s, crit_pack pack);
/* Up to three products of packed rows [row0, row0 + n_row); out of each points at row row0. */
void crit_steps_products(crit_steps *s, const crit_product *p, size_t n_p, size_t row0, size_t n_row);
/* A layer's parts around attention: norm, Q (rows >= q_from only), K, V; then O, norm and feed-forward of rows [row0,
 * row0 + n_row). */
void crit_steps_qkv(crit_steps *s, const crit_layer *l, size_t n_row, size_t q_from);
void crit_steps_rest(crit_steps *s, const crit_layer *l, size_t row0, size_t n_row);
/* Runs what has been added and begins anew. */
void crit_steps_run(crit_steps *s);

/* The activation kinds that the products by these matrices read (b, c may be NULL), as bits. */
unsigned crit_kinds_of(const crit_forward *f, const crit_mat *a, const crit_mat *b, const crit_mat *c);

/* ---- what prefill and decoding share (forward.c) ---- */

typedef struct crit_rows_arg {
    crit_forward *f;
    const crit_chunk *chunk;
    const crit_layer *layer;
    crit_kv *kv;
    uint32_t q_from; /* first row of the chunk whose q exists */
} crit_rows_arg;

void crit_embed_item(void *arg, size_t item, unsigned worker); /* CRIT_ROWS_PER_ITEM rows: embedding, RoPE angles */
void crit_rope_item(void *arg, size_t item, unsigned worker);  /* one KV head and block: RoPE and KV append */
/* Logits of rows [row, row + n) of f->x; out [n][n_vocab]. */
crit_status crit_rows_logits(crit_forward *f, size_t row, size_t n, float *out, crit_error *err);
/* Logits of row `row` of f->x into f->logits, which keeps its contents until the new row is whole. */
crit_status crit_last_logits(crit_forward *f, size_t row, crit_error *err);

#endif
