/* SPDX-License-Identifier: MIT */
/* Rotations by whole numbers of positions, for keys and queries that RoPE has rotated already. */
#ifndef CRIT_TURN_H
#define CRIT_TURN_H

#include "policy/decode_policy.h"

typedef struct crit_turn {
    uint32_t n; /* pairs */
    crit_rope_fn rope;
    uint32_t n_rot, d;
    double *table; /* [4][256][n][2] cos and sin of (digit << 8 * place) positions */
} crit_turn;

size_t crit_turn_bytes(const crit_decode_env *e);
crit_status crit_turn_init(crit_turn *t, const crit_decode_env *e, crit_error *err);
void crit_turn_clear(crit_turn *t);
/* cos and sin [n] of `by` positions, |by| < 2^32, right to the last bit or two of f32 however large it is. */
void crit_turn_angles(const crit_turn *t, int64_t by, float *cosv, float *sinv);
/* n rows x + i * stride turned in place. */
void crit_turn_rows(const crit_turn *t, const float *cosv, const float *sinv, float *x, size_t stride, uint32_t n);

#endif
