/* SPDX-License-Identifier: MIT */
/* The sampler behind crit_sampler: logits to a token.
 *
 * Greedy takes the largest logit, the lower id of equals.  Otherwise, in this order: repeat penalty, top_k, softmax,
 * top_p, min_p, temperature, draw.  A NaN logit is never chosen.  Same seed, same logits: same tokens on any machine
 * whose expf agrees.  params, close, sample: critiprefill.h. */
#ifndef CRIT_TEXT_SAMPLE_H
#define CRIT_TEXT_SAMPLE_H

#include "core/core.h"
#include "critiprefill/critiprefill.h"

/* params NULL = defaults.  CRIT_E_ARG on values out of range. */
crit_status crit_sampler_make(crit_sampler **out, uint32_t n_vocab, const crit_sampler_params *params, crit_error *err);

#endif
