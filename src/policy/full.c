/* SPDX-License-Identifier: MIT */
/* Every key: the rows of a call are the query heads of a KV head, so that its cache is read once for all of them. */
#include "policy/decode_policy.h"

static crit_status stages(const crit_decode_job *job, crit_pieces *p, crit_piece *piece, crit_stage stage[2],
                          crit_error *err) {
    crit_decode_env *e = job->env;
    uint32_t n_blk = (job->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    size_t head_stride = (size_t)job->kv->n_blk_cap * CRIT_BLK_LEN * e->d;
    *p = (crit_pieces){.env = e, .q = job->q, .n_row = e->n_group, .piece = piece, .out = job->out};
    p->n_piece = crit_pieces_cut(piece, crit_kv_k(job->kv, 0), crit_kv_v(job->kv, 0), head_stride, e->all_blk, n_blk,
                                 job->n_tok, 0, e->n_group);
    crit_status st = crit_pieces_prepare(p, err);
    if (!st) crit_pieces_stages(p, stage);
    return st;
}

crit_status crit_full_decode(const crit_decode_job *job, crit_error *err) {
    crit_pieces p;
    crit_stage stage[2];
    uint32_t n_blk = (job->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    crit_piece *piece = crit_malloc(crit_pieces_of(n_blk), sizeof *piece);
    if (!piece) return crit_fail(err, CRIT_E_NOMEM, "out of memory for attention");
    crit_status st = stages(job, &p, piece, stage, err);
    if (!st) crit_pool_run_stages(job->env->pool, stage, 2);
    crit_free(piece);
    return st;
}

static uint32_t kept(const void *state, uint32_t layer, uint32_t kv_head, uint32_t n_tok, uint32_t *pos) {
    (void)state, (void)layer, (void)kv_head;
    for (uint32_t i = 0; i < n_tok; i++) pos[i] = i;
    return n_tok;
}

const crit_policy crit_policy_full = {
    .name = "full",
    .summary = "every key of the timeline",
    .source = "-",
    .combines = "any prefill",
    .place = CRIT_POLICY_DECODE,
    .exact = true,
    .stages = stages,
    .kept = kept,
};
