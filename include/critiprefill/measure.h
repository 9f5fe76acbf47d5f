/* SPDX-License-Identifier: MIT */
/* critiprefill's measuring instruments: what this machine can do at most, what the kernels make of it, and what a model
 * of a given shape would cost, without the model.
 *
 * Everything is measured on random, non-zero data, best of several; shares are of peaks measured in the same call.  One
 * core's figures use the calling thread's CPU time, so that neighbours on a shared machine count less; shapes use the
 * CPU time of all threads over their number, that is, perfect balance; peaks of all cores are wall clock.  Calls take
 * seconds and hold one to several hundred MB.  They may run in several threads at once, but disturb each other then.
 * Errors of all: CRIT_E_ARG, CRIT_E_CPU, CRIT_E_NOMEM; CRIT_E_CANCELLED when the callback returned non-zero. */
#ifndef CRITIPREFILL_MEASURE_H
#define CRITIPREFILL_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "critiprefill/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crit_measure_params {
    size_t struct_size;
    const char *cpu;    /* level, as in crit_model_params; NULL = auto */
    uint32_t n_threads; /* for what uses several; 0 = all cores (default) */
    bool pin;           /* as in crit_session_params */
    bool quick;         /* small buffers and single readings: the form of the result, not its figures */
} crit_measure_params;
CRIT_API void crit_measure_params_init(crit_measure_params *p);

/* One figure.  Strings are valid during the callback. */
typedef struct crit_measure_row {
    const char *group; /* "peak", "read"; "gemm", "gemv", "attend", "decode", "estimate", "layer"; "chunk", "cost" */
    const char *name;  /* "u8 x s8 vpmaddubsw", "Q4_K", "d=64" */
    const char *isa;   /* instruction set of the code measured: "avx2", "avx512vnni", "c" */
    const char *shape; /* "512 rows, 1024 x 2048"; "" when the name says it */
    uint32_t n_threads;
    bool here;    /* false: this CPU, or the level asked for, does not have it; seconds and rate are NaN */
    bool at_end;  /* a peak measured once more after everything else: how far the machine drifted */
    bool by_byte; /* the rate counts bytes, not operations */
    double seconds;
    double flop, bytes; /* of the work done in those seconds; operations are two for a multiply-add; 0 = not counted */
    double rate;        /* operations or bytes per second */
    double share;       /* of the peak or of the read bandwidth that bounds it, measured in this call; NaN = neither */
    double efficiency;  /* sparse attention: rate / rate of the dense one of that length; NaN elsewhere */
} crit_measure_row;
typedef int (*crit_measure_fn)(void *user, const crit_measure_row *row); /* non-zero ends the call */

/* Peaks of every instruction set this program knows, on one core and on all (groups peak, read). */
CRIT_API crit_status crit_measure_peaks(const crit_measure_params *params, crit_measure_fn fn, void *user,
                                        crit_error *err);
/* Every kernel of the level on one core, between two measurements of that level's peaks. */
CRIT_API crit_status crit_measure_kernels(const crit_measure_params *params, crit_measure_fn fn, void *user,
                                          crit_error *err);

/* ------------------------------------------------------------------------------------------------ shapes */

typedef struct crit_shape {
    uint32_t n_layer, n_embd, n_ff, n_head, n_kv_head, d_head, n_vocab; /* d_head: multiple of 8, 8..256 */
    const char *type; /* of all weight matrices, "Q4_K"; n_embd, n_ff, n_head * d_head are multiples of its block */
} crit_shape;

typedef struct crit_shape_params {
    size_t struct_size;
    crit_shape shape;
    uint32_t n_tok;   /* prompt length, [1, 2^20] */
    uint32_t n_batch; /* tokens per chunk, [0, 65536]; 0 (default) = as a session would choose */
    bool dense;       /* measure dense attention; default true */
    double density;   /* measure sparse attention of this planned density, (0, 1]; 0 (default) = do not.  Lists hold
                         the sink, local and own blocks and far ones at random, each tile the same share of its far
                         blocks; tiles before position 1,024 are dense, as in the rule */
    double budget_s;  /* attention is sampled when all of it would take longer; default 10 */
} crit_shape_params;
CRIT_API void crit_shape_params_init(crit_shape_params *p);

/* Attention of one layer over the whole prompt. */
typedef struct crit_shape_attn {
    bool measured;
    double density;    /* (query, key) pairs of the lists / causal pairs; a low density asked for may be out of reach */
    double flop;       /* 4 d_head a pair */
    double attend_s;   /* scaled up from the sample */
    double estimate_s; /* represent, score, calibrate, select; 0 for dense */
    double total_s;    /* projection of the whole prefill: all layers (the last one only as far as the last token
                          needs it), embedding, vocabulary */
    uint32_t n_item_measured;
} crit_shape_attn;

typedef struct crit_shape_times {
    size_t struct_size;
    uint32_t n_threads;
    uint32_t n_item;    /* (query head, span of 128 queries) pairs of one layer */
    double linear_s;    /* one layer, all tokens: the seven products with norms and packing */
    double linear_flop; /* likewise */
    double rest_s;      /* one layer, all tokens: RoPE and packing of K and V */
    double embed_s;     /* all tokens, once */
    double vocab_s;     /* one row, once */
    crit_shape_attn dense, sparse;
    double measured_s; /* what the call took */
} crit_shape_times;
/* out->struct_size must be set by the caller (sizeof). */
CRIT_API crit_status crit_measure_shape(const crit_measure_params *params, const crit_shape_params *shape,
                                        crit_shape_times *out, crit_error *err);

/* One decode step's attention of one layer for sequences that share a prefix of n_tok tokens and have tail_tok of their
 * own: the prefix read once for all of them, and once for each, in turn; wall clock, medians. */
typedef struct crit_batch_measure {
    size_t struct_size;
    crit_shape shape;         /* n_head, n_kv_head and d_head count */
    uint32_t n_seq;           /* 1..1024 */
    uint32_t n_tok, tail_tok; /* [1, 2^20] each; tail_tok default 64 */
    double shared_s, separate_s;     /* out: a step */
    double kv_bytes, separate_bytes; /* out: keys and values in all, and with the prefix in every sequence */
    double flop, share;              /* out: of a step; share of the f32 peak of all threads, measured in this call */
    double error;                    /* out: largest difference of the two results, against the largest result */
    uint32_t n_threads;              /* out */
} crit_batch_measure;
CRIT_API void crit_batch_measure_init(crit_batch_measure *b);
CRIT_API crit_status crit_measure_batch(const crit_measure_params *params, crit_batch_measure *b, crit_error *err);

/* Constants for choosing chunk lengths and for a cost model.  Group chunk: the layer's products at 128 to 2,048 rows
 * (name: rows, all threads).  Group cost, one core: seconds of one unit, named "attend pair d=64" (one query with one
 * key of a full tile), "attend sparse d=64" (the same on a sparse list, with its efficiency), "attend tile d=64" (what
 * a tile costs besides), "estimate block d=64", "estimate tile d=64", "calibrate block d=64" (8 heads). */
CRIT_API crit_status crit_measure_tune(const crit_measure_params *params, const crit_shape *shape, crit_measure_fn fn,
                                       void *user, crit_error *err);

#ifdef __cplusplus
}
#endif
#endif
