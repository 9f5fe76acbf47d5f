/* SPDX-License-Identifier: MIT */
/* key_scores and mix_values for AVX2 + FMA + F16C; K and V are KV_F16.  The algorithm is in keys_tmpl.h. */
#include "kernels/protos.h"
#include "kernels/x86/sums_avx2.h"

#include "kernels/keys_tmpl.h"

#define SCORES(nr) KEY_SCORES_ROWS(crit_load_f16, nr)
#define MIX(nr)    MIX_VALUES_ROWS(crit_load_f16, nr)
KEYS_EACH(SCORES)
KEYS_EACH(MIX)

void crit_key_scores_avx2(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, size_t n_key, uint32_t d,
                          float scale, float *s, size_t s_stride) {
    switch (n_row) { KEYS_EACH(KEY_SCORES_CASE) }
}

void crit_mix_values_avx2(const float *p, size_t p_stride, uint32_t n_row, const uint16_t *v, size_t n_key, uint32_t d,
                          float *o, size_t o_stride) {
    switch (n_row) { KEYS_EACH(MIX_VALUES_CASE) }
}
