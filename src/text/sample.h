/* SPDX-License-Identifier: MIT */
/* The next token from a row of logits.  Deterministic for a seed; a NaN logit is never chosen. */
#ifndef CRIT_TEXT_SAMPLE_H
#define CRIT_TEXT_SAMPLE_H

#include "core/core.h"
#include "critiprefill/critiprefill.h"

crit_status crit_sampler_make(crit_sampler **out, uint32_t n_vocab, const crit_sampler_params *params, crit_error *err);

#endif
