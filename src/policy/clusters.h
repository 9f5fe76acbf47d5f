/* SPDX-License-Identifier: MIT */
/* The first keys of one KV head in clusters by direction, at two levels, in an order that keeps what is alike together.
 *
 * A cluster is a run of that order; a coarse cluster is a run of fine ones.  Its centre is the true mean of its keys,
 * so that N exp(q.centre) never exceeds the sum of exp(q.k) over them (Jensen). */
#ifndef CRIT_CLUSTERS_H
#define CRIT_CLUSTERS_H

#include "core/blob.h"
#include "kv/kv.h"

typedef struct crit_cluster_level {
    uint32_t n;
    uint32_t *from; /* [n + 1] fine: first key of each in the order; coarse: first fine cluster */
    float *centre;  /* [n][d] mean of its keys */
    uint16_t *key;  /* [n][d] the same as the CPU level packs keys, which is what queries meet */
    float *size;    /* [n] keys */
    float *ln_size; /* [n] */
    float *score;   /* [n] fine: mean weight that the calibrating queries give one of its keys; else 0 */
    bool placed;    /* from, key, size and ln_size lie in the caller's memory */
} crit_cluster_level;

typedef struct crit_clusters {
    crit_cluster_level fine, coarse;
    uint32_t n_key, d;
    uint32_t *pos; /* [n_key] position of the key at each place of the order */
} crit_clusters;

/* Of keys [0, n_key) of a head, about n_fine and n_coarse clusters.  false = out of memory; c is empty then. */
bool crit_clusters_build(crit_clusters *c, const crit_kv *kv, uint32_t head, uint32_t n_key, uint32_t n_fine,
                         uint32_t n_coarse, uint64_t seed);
void crit_clusters_clear(crit_clusters *c);
size_t crit_clusters_bytes(uint32_t n_key, uint32_t d, uint32_t n_fine, uint32_t n_coarse);

/* Fills `key` of both levels from the centres. */
bool crit_clusters_pack(crit_clusters *c, const crit_kernels *kernels);
/* What steps read of packed clusters, moved to the start of mem, which outlives them; a multiple of CRIT_ALIGN.  mem
 * NULL: nothing moves.  Returns how many bytes: a step reads them once for each layer, between the layer's weights, so
 * they had better lie together in huge pages. */
size_t crit_clusters_place(crit_clusters *c, void *mem);

void crit_clusters_save(const crit_clusters *c, crit_blob *out);
/* Without `key`.  false when the bytes are none of n_key keys of d values, or out of memory (*nomem); c is empty then.
 */
bool crit_clusters_load(crit_clusters *c, uint32_t n_key, uint32_t d, crit_blob_view *in, bool *nomem);

#endif
