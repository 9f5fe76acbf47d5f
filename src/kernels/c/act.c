/* SPDX-License-Identifier: MIT */
/* Reference packing of activations, and the sizes every level shares.  Layouts: kernels/act.h. */
#include "kernels/act.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/protos.h"

size_t crit_act_row_bytes(crit_act_kind kind, size_t n_in) {
    size_t n_grp = n_in / CRIT_ACT_LEN + (n_in % CRIT_ACT_LEN != 0), bytes;
    if (kind == CRIT_ACT_I8)
        bytes = n_grp * CRIT_ACT_I8_BYTES;
    else if (kind == CRIT_ACT_I16)
        bytes = n_grp * CRIT_ACT_I16_BYTES;
    else if (kind == CRIT_ACT_BF16)
        bytes = n_grp * CRIT_ACT_LEN * sizeof(uint16_t);
    else
        bytes = n_in * sizeof(float);
    if (kind == CRIT_ACT_BF16) return bytes;
    /* an odd number of lines: the rows of a tile must not meet in one cache set (4 KB apart they cost 15 %) */
    return ((bytes + 63) / 64 | 1) * 64;
}

size_t crit_act_bytes(crit_act_kind kind, size_t n_in, size_t n_row) {
    if (kind == CRIT_ACT_BF16) n_row = (n_row + CRIT_ACT_TILE - 1) / CRIT_ACT_TILE * CRIT_ACT_TILE;
    return n_row * crit_act_row_bytes(kind, n_in);
}

size_t crit_act_at(crit_act_kind kind, size_t n_in, size_t r) {
    const size_t in_tile = kind == CRIT_ACT_BF16 ? r % CRIT_ACT_TILE : 0;
    return (r - in_tile) * crit_act_row_bytes(kind, n_in) + in_tile * CRIT_ACT_STEP_BYTES;
}

/* Largest user: AMX, 1,024 inputs of 128 outputs in bf16 and the sums of 1,024 rows. */
size_t crit_gemm_scratch_bytes(void) {
    return (size_t)832 << 10;
}

void crit_act_pack_f32_c(const float *x, size_t n_in, void *dst) {
    size_t bytes = n_in * sizeof *x;
    memcpy(dst, (const void *)x, bytes);
    memset((char *)dst + bytes, 0, crit_act_row_bytes(CRIT_ACT_F32, n_in) - bytes);
}

/* Scale of one group for integers up to qmax; NaN when x holds a NaN or an infinity, 0 when all is (nearly) zero. */
static float group_scale(const float *x, size_t n, float qmax) {
    float amax = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return NAN;
        if (fabsf(x[i]) > amax) amax = fabsf(x[i]);
    }
    return amax < CRIT_ACT_TINY ? 0.0f : amax / qmax;
}

/* Reads group g, zero-extended behind n_in, and its integers (0 for a scale that is 0 or NaN). */
static float group_quantise(const float *x, size_t n_in, size_t g, float qmax, int32_t q[32]) {
    float v[CRIT_ACT_LEN] = {0};
    size_t k0 = g * CRIT_ACT_LEN, n = n_in - k0 < CRIT_ACT_LEN ? n_in - k0 : CRIT_ACT_LEN;
    memcpy(v, (const char *)x + k0 * sizeof *v, n * sizeof *v);
    float s = group_scale(v, CRIT_ACT_LEN, qmax);
    float inv = s > 0 ? 1.0f / s : 0.0f;
    for (size_t i = 0; i < CRIT_ACT_LEN; i++) q[i] = inv > 0 ? (int32_t)nearbyintf(v[i] * inv) : 0;
    return s;
}

void crit_act_pack_i8_c(const float *x, size_t n_in, void *dst) {
    size_t n_grp = 0;
    for (; n_grp * CRIT_ACT_LEN < n_in; n_grp++) {
        int32_t q[32], lane[2][2] = {{0, 0}, {0, 0}};
        crit_act_i8 a;
        memset(&a, 0, sizeof a);
        a.s = group_quantise(x, n_in, n_grp, 127.0f, q);
        for (size_t i = 0; i < 32; i++) {
            a.q[i] = (int8_t)q[i];
            lane[i / 16][i % 4 / 2] += q[i];
        }
        for (size_t h = 0; h < 2; h++) {
            a.start_half[h] = -128 * (lane[h][0] + lane[h][1]);
            for (size_t j = 0; j < 2; j++) a.lane_half[h][j] = (int16_t)lane[h][j];
            a.lane[h] = (int16_t)(lane[0][h] + lane[1][h]);
        }
        a.sum = a.s * (float)(a.lane[0] + a.lane[1]);
        a.start = a.start_half[0] + a.start_half[1];
        memcpy((char *)dst + n_grp * sizeof a, &a, sizeof a);
    }
    size_t bytes = n_grp * sizeof(crit_act_i8);
    memset((char *)dst + bytes, 0, crit_act_row_bytes(CRIT_ACT_I8, n_in) - bytes);
}

void crit_act_pack_i16_c(const float *x, size_t n_in, void *dst) {
    size_t n_grp = 0;
    for (; n_grp * CRIT_ACT_LEN < n_in; n_grp++) {
        int32_t q[32];
        crit_act_i16 a;
        a.s = group_quantise(x, n_in, n_grp, (float)CRIT_ACT_I16_MAX, q);
        for (size_t i = 0; i < 32; i++) a.q[i] = (int16_t)q[i];
        memcpy((char *)dst + n_grp * sizeof a, &a, sizeof a);
    }
    size_t bytes = n_grp * sizeof(crit_act_i16);
    memset((char *)dst + bytes, 0, crit_act_row_bytes(CRIT_ACT_I16, n_in) - bytes);
}

/* To nearest even as the conversion instructions do it: subnormals count as 0, NaN becomes quiet. */
static uint16_t to_bf16(float x) {
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    if ((b & 0x7f800000) == 0) return (uint16_t)(b >> 16 & 0x8000);
    if ((b & 0x7fffffff) > 0x7f800000) return (uint16_t)(b >> 16 | 0x40);
    return (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

void crit_act_pack_bf16_c(const float *x, size_t n_in, void *dst) {
    const size_t n = (n_in + CRIT_ACT_LEN - 1) / CRIT_ACT_LEN * CRIT_ACT_LEN;
    for (size_t i = 0; i < n; i++) {
        float v = 0;
        if (i < n_in) memcpy(&v, (const char *)x + i * sizeof v, sizeof v);
        uint16_t h = to_bf16(v);
        memcpy((char *)dst + i / CRIT_ACT_LEN * CRIT_ACT_TILE * CRIT_ACT_STEP_BYTES + i % CRIT_ACT_LEN * sizeof h, &h,
               sizeof h);
    }
}
