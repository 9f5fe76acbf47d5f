/* SPDX-License-Identifier: MIT */
/* Every key: the rows of a call are the query heads of a KV head, so that its cache is read once for all of them. */
#include "policy/decode_policy.h"

static crit_status stages(const crit_decode_job *job, crit_pieces *p, crit_piece *piece, crit_stage stage[2],
                          crit_error *err) {
    crit_decode_env *e = job->env;
    uint32_t n_blk = (job->n_tok + CRIT_BLK_LEN - 1) / CRIT_BLK_LEN;
    *p = (crit_pieces){.env = e, .q = job->q, .n_row = e->n_group, .piece = piece, .out = job->out};
    p->n_piece = crit_pieces_cut_kv(piece, job->kv, e->all_blk, n_blk, job->n_tok, 0, e->n_group);
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

static double traffic(const void *state, const crit_decode_env *e, const crit_policy_values *o, uint32_t n_tok) {
    (void)state, (void)o, (void)n_tok;
    return (double)e->store_share;
}

const crit_policy crit_policy_full = {
    .name = "full",
    .summary = "every key of the timeline",
    .source = "-",
    .combines = "any prefill, any store",
    .place = CRIT_POLICY_DECODE,
    .exact = true,
    .any_store = true,
    .stages = stages,
    .kept = kept,
    .traffic = traffic,
};
