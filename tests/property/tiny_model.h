/* SPDX-License-Identifier: MIT */
/* A synthetic model, opened. */
#ifndef CRIT_TINY_MODEL_H
#define CRIT_TINY_MODEL_H

#include "critiprefill/critiprefill.h"
#include "tiny/tiny.h"

/* cpu as in crit_model_params; NULL when this machine lacks the level.  The file is gone again: an open model has it
 * mapped.  Any other failure fails the test. */
crit_model *tiny_model(const tiny_params *p, const char *cpu);
/* n_head on n_kv_head heads of d, two layers. */
crit_model *tiny_model_of(const char *cpu, uint32_t n_head, uint32_t n_kv_head, uint32_t d, const char *arch);

#endif
