/* SPDX-License-Identifier: MIT */
/* Whether this machine's tiles compute what the kernels count on: asked once per kernel table, by crit_kernels_init,
 * after CPUID and the system have said that they exist.
 *
 * A virtual machine may report AMX and lose or forbid its state.  So a product of small integers, exact in f32, is
 * compared with integers before any kernel relies on it; when it differs the level falls back to AVX-512 instead of
 * giving wrong answers.  (An instruction that faults is not caught.) */
#include "kernels/x86/amx_check.h"

#include "kernels/x86/amx.h"

/* Integers of -7 .. 7, which bf16 holds exactly, without a period that a swapped row or column would keep. */
static int item(unsigned i, unsigned j, unsigned salt) {
    return (int)(((i * 2654435761u + j * 40503u + salt * 97u) >> 9) % 15u) - 7;
}

static uint16_t bf16_of(int x) {
    const float f = (float)x;
    uint32_t bits;
    __builtin_memcpy(&bits, &f, sizeof bits);
    return (uint16_t)(bits >> 16);
}

int crit_amx_works(void) {
    enum { STRIDE = 40 }; /* values: a tile inside a wider matrix */
    uint16_t a[AMX_ROWS * STRIDE], b[AMX_ROWS * AMX_DEPTH];
    float c[AMX_ROWS * 16], start[AMX_ROWS * 16];
    for (unsigned i = 0; i < AMX_ROWS; i++)
        for (unsigned k = 0; k < STRIDE; k++) a[i * STRIDE + k] = bf16_of(item(i, k, 1));
    for (unsigned k = 0; k < AMX_DEPTH; k++)
        for (unsigned j = 0; j < 16; j++) b[k / 2 * AMX_DEPTH + 2 * j + k % 2] = bf16_of(item(k, j, 2));
    for (unsigned i = 0; i < AMX_ROWS * 16; i++) start[i] = (float)item(i, 3, 5);
    amx_begin();
    AMX_FENCE();
    _tile_loadd(3, start, 64);
    _tile_loadd(4, a, STRIDE * 2);
    _tile_loadd(7, b, 64);
    _tile_dpbf16ps(3, 4, 7);
    _tile_dpbf16ps(3, 4, 7);
    _tile_stored(3, c, 64);
    amx_end();
    int bad = 0;
    for (unsigned i = 0; i < AMX_ROWS; i++)
        for (unsigned j = 0; j < 16; j++) {
            int sum = item(i * 16 + j, 3, 5);
            for (unsigned k = 0; k < AMX_DEPTH; k++) sum += 2 * item(i, k, 1) * item(k, j, 2);
            bad |= c[i * 16 + j] != (float)sum;
        }
    return !bad;
}
