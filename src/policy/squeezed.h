/* SPDX-License-Identifier: MIT */
/* What the parts of the squeezed policy share: squeezed.c prepares, squeezed_pick.c chooses, squeezed_step.c
 * attends. */
#ifndef CRIT_SQUEEZED_H
#define CRIT_SQUEEZED_H

#include "kv/slab.h"
#include "policy/clusters.h"
#include "policy/decode_policy.h"

/* Blocks of a step's work item: heads read so differently much that larger ones leave threads idle. */
enum { CRIT_SQUEEZED_PART = 16 };

typedef struct crit_squeezed {
    uint32_t n_layer, n_kv_head, n_head, n_group, d;
    double quantile, share, share1; /* options q, c, c1 */
    float lose;                     /* option lose */
    uint32_t levels, window, least;

    uint32_t n_fix;          /* keys [0, n_fix) are in clusters, whole blocks; 0 = there are none */
    bool due;                /* this prompt's end makes them */
    float t_block;           /* a block is read when a key of it weighs more; -INFINITY = all are */
    crit_clusters *clusters; /* [n_layer][n_kv_head] */
    crit_slab *slab;         /* [n_layer] the keys and values in the order of the clusters */
    const crit_kv **kv;      /* [n_layer] while `due` */
    float *query;            /* [n_layer][window][n_head][d] of the prompt's end */
    uint32_t n_query;

    uint32_t n_fine_max, n_coarse_max; /* clusters of a head at most */
    unsigned char *map;                /* what steps read of the clusters, then scratch: a slice per thread */
    size_t map_bytes;
    unsigned char *scratch;
    size_t scratch_slice;
    uint32_t *blk;      /* [n_layer][n_kv_head][n_fix / 32] slab blocks of the last step, ascending */
    uint32_t *n_blk;    /* [n_layer][n_kv_head] */
    uint32_t *n_scored; /* [n_kv_head] centres looked at by the last step */
    float *part;        /* [n_kv_head][n_part][n_group][d + 1] results and their log-sum-exp */
    uint32_t n_part_cap;
} crit_squeezed;

static inline crit_clusters *crit_squeezed_at(const crit_squeezed *s, uint32_t layer, uint32_t kv_head) {
    return &s->clusters[(size_t)layer * s->n_kv_head + kv_head];
}
static inline uint32_t crit_squeezed_n_blk(const crit_squeezed *s) {
    return s->n_fix / CRIT_BLK_LEN;
}

/* Query rows of one KV head: row r at q + r / n_group * stride + r % n_group * d. */
typedef struct crit_squeezed_rows {
    const float *q;
    size_t stride;
    uint32_t n_pos, n_group, d;
    float scale;
} crit_squeezed_rows;

/* Memory of steps and chunks, once n_fix and the clusters are there. */
crit_status crit_squeezed_reserve(crit_squeezed *s, const crit_decode_env *env, crit_error *err);

/* What follows needs this much scratch, for at most so many clusters and blocks. */
size_t crit_squeezed_scratch_bytes(uint32_t n_fine, uint32_t n_coarse, uint32_t n_blk, uint32_t d);
/* Mean weight that queries give one key of each cluster, by the centres alone: score [level->n] out. */
void crit_squeezed_scores(const crit_cluster_level *level, const crit_kernels *kernels, const crit_squeezed_rows *q,
                          float *score, void *scratch);
/* The largest `score` of the clusters with a key in each block of the slab: blk, score [n_fix / 32] out; returns how
 * many blocks. */
uint32_t crit_squeezed_block_scores(const crit_cluster_level *fine, uint32_t *blk, float *score);
/* Blocks of the slab with a key that weighs more than the threshold for these queries, ascending into blk [n_fix / 32];
 * returns how many.  *n_scored: centres looked at. */
uint32_t crit_squeezed_pick(const crit_squeezed *s, const crit_kernels *kernels, const crit_clusters *c,
                            const crit_squeezed_rows *q, void *scratch, uint32_t *blk, uint32_t *n_scored);

crit_status crit_squeezed_decode(void *state, const crit_decode_job *job, crit_error *err);
crit_status crit_squeezed_chunk(void *state, crit_prefill_job *job, crit_error *err);
uint32_t crit_squeezed_kept(const void *state, uint32_t layer, uint32_t kv_head, uint32_t n_tok, uint32_t *pos);

#endif
