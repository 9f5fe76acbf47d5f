/* SPDX-License-Identifier: MIT */
/* The AMX tile file and its intrinsics, for machines without them: include it behind the other emul headers and before
 * the kernel's source.
 *
 * One tile file a thread and including file.  What the processor answers with a fault is a trap here: a configuration
 * it would not take, a tile that is not configured, shapes that do not fit, an operand named twice, anything behind
 * _tile_release.  Loading a configuration zeroes all tiles, as it does there.
 *
 * tdpbf16ps as documented: even and odd elements of a pair are two chains of f32 FMAs that start from 0, their sum is
 * added to the accumulator; nearest even, subnormals are 0 on the way in and out, whatever MXCSR says. */
#ifndef CRIT_TESTS_EMUL_AMX_H
#define CRIT_TESTS_EMUL_AMX_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct emul_tiles {
    int ready;
    uint16_t colsb[8];
    uint8_t rows[8];
    _Alignas(64) uint8_t t[8][16][64];
} emul_tiles;
static _Thread_local emul_tiles emul_tf;

#define EMUL_TILE static __attribute__((noinline, unused))

EMUL_TILE void emul_tile_need(int ok) {
    if (!ok) __builtin_trap();
}
EMUL_TILE void emul_tile_used(int t) {
    emul_tile_need(emul_tf.ready && t >= 0 && t < 8 && emul_tf.rows[t]);
}

/* byte 0 palette, 1 start row, 2..15 reserved, 16.. bytes a row (16 bits a tile), 48.. rows; 8 tiles of 16 exist */
EMUL_TILE void emul_tile_config(const void *cfg) {
    uint8_t b[64];
    memcpy(b, cfg, 64);
    memset(&emul_tf, 0, sizeof emul_tf);
    if (b[0] == 0) return; /* palette 0: as released */
    emul_tile_need(b[0] == 1);
    emul_tile_need(b[1] == 0); /* a start row is legal and only ever left by an interrupted load */
    for (int i = 2; i < 16; i++) emul_tile_need(b[i] == 0);
    for (int i = 32; i < 48; i++) emul_tile_need(b[i] == 0);
    for (int i = 56; i < 64; i++) emul_tile_need(b[i] == 0);
    for (int i = 0; i < 8; i++) {
        const unsigned colsb = b[16 + 2 * i] | (unsigned)b[17 + 2 * i] << 8, rows = b[48 + i];
        emul_tile_need(colsb <= 64 && rows <= 16 && (colsb != 0) == (rows != 0));
        emul_tf.colsb[i] = (uint16_t)colsb;
        emul_tf.rows[i] = (uint8_t)rows;
    }
    emul_tf.ready = 1;
}
EMUL_TILE void emul_tile_free(void) {
    memset(&emul_tf, 0, sizeof emul_tf);
}
EMUL_TILE void emul_tile_clear(int t) {
    emul_tile_used(t);
    memset(emul_tf.t[t], 0, sizeof emul_tf.t[t]);
}
EMUL_TILE void emul_tile_load(int t, const void *base, ptrdiff_t stride) {
    emul_tile_used(t);
    memset(emul_tf.t[t], 0, sizeof emul_tf.t[t]);
    for (int r = 0; r < emul_tf.rows[t]; r++)
        memcpy(emul_tf.t[t][r], (const char *)base + r * stride, emul_tf.colsb[t]);
}
EMUL_TILE void emul_tile_store(int t, void *base, ptrdiff_t stride) {
    emul_tile_used(t);
    for (int r = 0; r < emul_tf.rows[t]; r++) memcpy((char *)base + r * stride, emul_tf.t[t][r], emul_tf.colsb[t]);
}

/* What every tile product asks of its operands: c [rows][cols] += a [rows][depth] b [depth][cols], 4 bytes an item. */
EMUL_TILE void emul_tile_shapes(int c, int a, int b) {
    emul_tile_used(a), emul_tile_used(b), emul_tile_used(c);
    emul_tile_need(a != b && a != c && b != c);
    emul_tile_need(emul_tf.colsb[a] % 4 == 0 && emul_tf.colsb[b] % 4 == 0 && emul_tf.colsb[c] % 4 == 0);
    emul_tile_need(emul_tf.rows[c] == emul_tf.rows[a] && emul_tf.colsb[c] == emul_tf.colsb[b] &&
                   emul_tf.colsb[a] / 4 == emul_tf.rows[b]);
}

/* Columns behind colsb hold zeros in all operands, so all 16 are computed. */
EMUL_TILE void emul_tile_bf16_rows(int c, int a, int b) {
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    for (int m = 0; m < emul_tf.rows[c]; m++) {
        __m256 even[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()}, odd[2] = {even[0], even[0]};
        for (int k = 0; k < emul_tf.colsb[a] / 4; k++) {
            int pair;
            memcpy(&pair, emul_tf.t[a][m] + 4 * k, 4);
            const __m256i w = _mm256_set1_epi32(pair);
            for (int h = 0; h < 2; h++) {
                const __m256i x = _mm256_load_si256((const __m256i *)(const void *)(emul_tf.t[b][k] + 32 * h));
                even[h] = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(w, 16)),
                                          _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)), even[h]);
                odd[h] = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(w, high)),
                                         _mm256_castsi256_ps(_mm256_and_si256(x, high)), odd[h]);
            }
        }
        for (int h = 0; h < 2; h++) {
            float *at = (float *)(void *)(emul_tf.t[c][m] + 32 * h);
            _mm256_store_ps(at, _mm256_add_ps(_mm256_load_ps(at), _mm256_add_ps(even[h], odd[h])));
        }
    }
}
EMUL_TILE void emul_tile_bf16(int c, int a, int b) {
    const unsigned csr = _mm_getcsr();
    emul_tile_shapes(c, a, b);
    _mm_setcsr(0x1f80 | 0x8040); /* nothing trapped, nearest even, FTZ and DAZ */
    emul_tile_bf16_rows(c, a, b);
    _mm_setcsr(csr);
}

/* Four products of bytes, signed where asked, added to an int32 that wraps. */
EMUL_TILE void emul_tile_int8(int c, int a, int b, int a_signed, int b_signed) {
    emul_tile_shapes(c, a, b);
    for (int m = 0; m < emul_tf.rows[c]; m++)
        for (int n = 0; n < emul_tf.colsb[c] / 4; n++) {
            uint32_t sum;
            memcpy(&sum, emul_tf.t[c][m] + 4 * n, 4);
            for (int k = 0; k < emul_tf.colsb[a]; k++) {
                const uint8_t x = emul_tf.t[a][m][k], y = emul_tf.t[b][k / 4][4 * n + k % 4];
                sum += (uint32_t)((a_signed ? (int8_t)x : (int)x) * (b_signed ? (int8_t)y : (int)y));
            }
            memcpy(emul_tf.t[c][m] + 4 * n, &sum, 4);
        }
}

/* Macros in one compiler's headers, functions in another's. */
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbusd
#undef _tile_dpbuud
#define _tile_loadconfig            emul_tile_config
#define _tile_release               emul_tile_free
#define _tile_zero(t)               emul_tile_clear(t)
#define _tile_loadd(t, p, stride)   emul_tile_load(t, p, (ptrdiff_t)(stride))
#define _tile_stream_loadd(t, p, s) emul_tile_load(t, p, (ptrdiff_t)(s))
#define _tile_stored(t, p, stride)  emul_tile_store(t, p, (ptrdiff_t)(stride))
#define _tile_dpbf16ps(c, a, b)     emul_tile_bf16(c, a, b)
#define _tile_dpbssd(c, a, b)       emul_tile_int8(c, a, b, 1, 1)
#define _tile_dpbsud(c, a, b)       emul_tile_int8(c, a, b, 1, 0)
#define _tile_dpbusd(c, a, b)       emul_tile_int8(c, a, b, 0, 1)
#define _tile_dpbuud(c, a, b)       emul_tile_int8(c, a, b, 0, 0)

#endif
