/* SPDX-License-Identifier: MIT */
/* Peak loops of AMX (kernels/peak.h): a 2 x 2 arrangement of 16 x 16 accumulators, tiles 0-3 sums, 4-5 rows, 6-7
 * columns; operands from registers, and loaded from L1 for every product.  The operands are not zero: zeros run faster.
 * The permission to use tiles is asked for where CRIT_CPU_AMX is detected. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "core/core.h"
#include "kernels/peak.h"

enum { ROUNDS = 20000, TILE = 1024, STEPS = 4 };

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} tile_config;
_Static_assert(sizeof(tile_config) == 64, "the form the CPU reads");

static void start(void) {
    tile_config c;
    memset(&c, 0, sizeof c);
    c.palette = 1;
    for (int i = 0; i < 8; i++) {
        c.colsb[i] = 64;
        c.rows[i] = 16;
    }
    /* gcc 12 drops stores to the struct before the load otherwise. */
    __asm__ volatile("" ::"r"(&c) : "memory");
    _tile_loadconfig(&c);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static void finish(void *buf) {
    _tile_stored(0, buf, 64);
    _tile_stored(1, buf, 64);
    _tile_stored(2, buf, 64);
    _tile_stored(3, buf, 64);
    _tile_release();
    crit_peak_fill(buf);
}

static void load(const char *at) {
    _tile_loadd(4, at, 64);
    _tile_loadd(5, at + TILE, 64);
    _tile_loadd(6, at + 2 * TILE, 64);
    _tile_loadd(7, at + 3 * TILE, 64);
}

#define FOUR(dp)                                                                                                       \
    dp(0, 4, 6);                                                                                                       \
    dp(1, 4, 7);                                                                                                       \
    dp(2, 5, 6);                                                                                                       \
    dp(3, 5, 7);

static void bf16_run(void *buf) {
    start();
    load(buf);
    for (int n = 0; n < ROUNDS; n++) {
        FOUR(_tile_dpbf16ps)
    }
    finish(buf);
}

static void bf16_l1_run(void *buf) {
    start();
    for (int n = 0; n < ROUNDS; n++) {
        load((const char *)buf + n % STEPS * 4 * TILE);
        FOUR(_tile_dpbf16ps)
    }
    finish(buf);
}

static void i8_run(void *buf) {
    start();
    load(buf);
    for (int n = 0; n < ROUNDS; n++) {
        FOUR(_tile_dpbusd)
    }
    finish(buf);
}

static void i8_l1_run(void *buf) {
    start();
    for (int n = 0; n < ROUNDS; n++) {
        load((const char *)buf + n % STEPS * 4 * TILE);
        FOUR(_tile_dpbusd)
    }
    finish(buf);
}

#define BF16_OPS (4.0 * ROUNDS * 16 * 16 * 32 * 2)
#define I8_OPS   (4.0 * ROUNDS * 16 * 16 * 64 * 2)
extern const crit_peak crit_peaks_amx[];
const crit_peak crit_peaks_amx[] = {
    {"bf16 tiles", "amx", CRIT_CPU_AMX, CRIT_PEAK_BF16, BF16_OPS, bf16_run},
    {"bf16 tiles from L1", "amx", CRIT_CPU_AMX, CRIT_PEAK_BF16_L1, BF16_OPS, bf16_l1_run},
    {"u8 x s8 tiles", "amx", CRIT_CPU_AMX, CRIT_PEAK_I8, I8_OPS, i8_run},
    {"u8 x s8 tiles from L1", "amx", CRIT_CPU_AMX, CRIT_PEAK_I8_L1, I8_OPS, i8_l1_run},
    {.name = NULL},
};
