/* SPDX-License-Identifier: MIT */
/* The list of policies, in the order in which they are shown. */
#include "policy/decode_policy.h"

static const crit_policy *const policies[] = {
    &crit_policy_full,
    &crit_policy_recycled,
    &crit_policy_tokenselect,
    &crit_policy_squeezed,
    &crit_policy_tokenselect_prefill,
    &crit_policy_cascade,
    &crit_policy_bifurcated,
    &crit_policy_subgen,
    &crit_policy_full_kv,
    &crit_policy_think,
};
enum { N_POLICY = sizeof policies / sizeof *policies };

const crit_policy *crit_policy_at(size_t i) {
    return i < N_POLICY ? policies[i] : NULL;
}

size_t crit_policy_count(void) {
    return N_POLICY;
}

crit_status crit_policy_get(size_t i, crit_policy_info *info) {
    const crit_policy *p = crit_policy_at(i);
    if (!p || !info || info->struct_size != sizeof *info) return CRIT_E_ARG;
    *info = (crit_policy_info){
        .struct_size = sizeof *info,
        .name = p->name,
        .summary = p->summary,
        .place = p->place,
        .source = p->source,
        .exact = p->exact,
        .streams = p->stream,
        .options = p->options,
        .n_option = p->n_option,
        .combines = p->combines,
    };
    return CRIT_OK;
}
