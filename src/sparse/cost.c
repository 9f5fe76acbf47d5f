/* SPDX-License-Identifier: MIT */
/* What a tile costs dense and sparse, and how long a chunk should be: every tuned number of the levels in one table.
 *
 * Measured with `critiprefill bench --tune` where the level has run on hardware, taken from prototypes where not (the
 * rows say which).  A tile's decision rests on these constants and the tile's shape only, so it is the same for any
 * number of threads and any chunking. */
#include "sparse/sparse.h"

/* clang-format off */
static const struct row {
    unsigned need;        /* CPU bits; the last row whose bits are there counts */
    crit_cost cost;
} table[] = {
    /*                     attend ns   estimate ns  efficiency  chunk
     *                     pair * d    block * d    of sparse   tokens */
    {0,                   {1.0f,       15.0f,       1.00f,       512}},  /* C reference: never tuned */
    {CRIT_CPU_NEON,       {.10f,       2.0f,        0.95f,       512}},  /* no hardware has run it: 40 GFLOP/s assumed */
    {CRIT_CPU_AVX2,       {.0465f,     0.60f,       0.99f,       512}},  /* Zen 3: 86 GFLOP/s, 18 + 20 ns at d = 64 */
    {CRIT_CPU_I16_DOT,    {.0350f,     0.40f,       0.99f,       512}},  /* Zen 3: 114 GFLOP/s */
    {CRIT_CPU_AVX512,     {.0200f,     0.60f,       0.97f,       512}},  /* prototypes on a Xeon: 200 GFLOP/s */
    {CRIT_CPU_BF16_DOT,   {.0198f,     0.17f,       0.95f,      1024}},  /* Zen 4: 205 GFLOP/s */
    {CRIT_CPU_AMX,        {.0120f,     0.54f,       0.95f,      1024}},  /* a loaded Xeon: 330 to 450 GFLOP/s */
};
/* clang-format on */

crit_cost crit_cost_of(unsigned cpu_mask) {
    size_t best = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if ((cpu_mask & table[i].need) == table[i].need) best = i;
    return table[best].cost;
}

/* Of the free blocks, what a plan must be expected to leave out for the estimate to be worth its price.  Measured
 * plans leave out 30 % and more from 1,024 positions on (SPEED.md). */
#define EXPECTED_SAVING 0.2f

bool crit_cost_estimate_pays(const crit_cost *c, uint32_t n_row) {
    /* Both sides grow with blocks and d.  Few rows still occupy a vector of them. */
    float rows = (float)(n_row < 16 ? 16 : n_row);
    return c->estimate_ns < EXPECTED_SAVING * c->attend_ns * CRIT_BLK_LEN * rows;
}

bool crit_cost_dense_wins(const crit_cost *c, size_t n_kept, size_t n_free) {
    return (float)n_kept >= c->efficiency * (float)n_free;
}

uint32_t crit_cost_chunk(const crit_cost *c, unsigned n_thread, uint32_t n_head) {
    /* Attention's items are (head, tile) pairs of unequal length: some per thread, or threads wait for the last ones.
     */
    enum { ITEMS_PER_THREAD = 6, LONGEST = 4096 };
    uint64_t tiles = ((uint64_t)n_thread * ITEMS_PER_THREAD + n_head - 1) / n_head, tok = tiles * CRIT_ATTEND_ROWS;
    if (tok > LONGEST) tok = LONGEST;
    return tok > c->chunk_tok ? (uint32_t)tok : c->chunk_tok;
}
