/* SPDX-License-Identifier: MIT */
/* Matrix products in bf16 on AMX tiles, every weight type: 32 rows x 32 outputs at a time in four accumulators.
 *
 * The weights of up to 128 outputs and 1,024 inputs are decoded to bf16 panels (256 KB, in L2) and then serve up to
 * 1,024 rows, 256 at a time; activations are packed as tiles of the A operand.  Two panels of 256 inputs stay in L1
 * while rows pass.  Between K blocks the sums rest in scratch, tile by tile, and from there finished ones go to out a
 * row at a time while others are multiplied: out is what a product moves most of.  Where it is large and not added to,
 * they go around the caches: it is long out of these when its reader comes.  A sum runs over K in steps of 32 from what
 * out holds (or the bias, or 0), whatever the shape around it, and a tile row meets no other: no cut shows in the bits.
 * A gated product's finished rows go through SiLU to packed activations instead, each when it would have left for out.
 * Rows that do not fill a packed tile get tiles of fewer rows, so nothing before the first or behind the last row is
 * read or written.  Tile products take subnormals for 0. */
#include "kernels/protos.h"
#include "kernels/x86/amx.h"
#include "kernels/x86/gemm_tile.h"
#include "kernels/x86/panel_bf16.h"
#include "kernels/x86/silu_avx512.h"

enum {
    KB = 256,    /* inputs a block: two panels of it (16 KB) stay in L1 while activations pass; 448 do not */
    BLOCKS = 4,  /* decoded at a time */
    PANELS = 8,  /* likewise: 256 KB, in L2 */
    GROUP = 256, /* rows that all these panels are multiplied by in turn: their activations are 512 KB of L2 */
    ROWS = 1024, /* a multiple of GROUP: sums of so many rows and PANELS panels are 512 KB */
    STEPS = KB / BF16_STEP,
    PANEL_LEN = BLOCKS * STEPS * BF16_STEP_LEN,
    TILE_LEN = AMX_ROWS * CRIT_GEMM_NR,
    PAIR = 2 * AMX_ROWS, /* rows of two tiles */
    ACT_STEP = AMX_ROWS * AMX_BYTES,
    GATES = 4, /* lines of what gates, a step: a pair of tiles wants 64, and 896 inputs are 24 steps that ask */
    LARGE_OUT = 512 << 10 /* floats: the L2 of a core */
};
_Static_assert(AMX_ROWS == CRIT_ACT_TILE, "a tile of packed activations is the A operand");

typedef struct scratch_amx {
    uint16_t w[PANELS][PANEL_LEN];
    float c[4][TILE_LEN];    /* of tile t, when out cannot be loaded or stored as it lies */
    float bias[2][TILE_LEN]; /* of two panels, in every row */
    panel p;
    float sum[PANELS / 2][ROWS / AMX_ROWS][2][TILE_LEN]; /* between K blocks; last: short products do not touch it */
} scratch_amx;
_Static_assert(sizeof(scratch_amx) <= 832 << 10, "crit_gemm_scratch_bytes");

/* Tiles 0-3 accumulate, 4 and 5 hold activations: n_row rows each; 6 and 7 hold weights. */
static void configure(size_t n_row) {
    struct {
        uint8_t palette, start_row, zero[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } cfg __attribute__((aligned(64))) = {.palette = 1};
    for (int t = 0; t < 8; t++) cfg.colsb[t] = AMX_BYTES, cfg.rows[t] = t < 6 ? (uint8_t)n_row : AMX_ROWS;
    __asm__ volatile("" ::"r"(&cfg) : "memory");
    _tile_loadconfig(&cfg);
}

/* Rows that are multiplied alike: n tiles, or pairs of tiles, of n_row rows each. */
typedef struct strip {
    size_t r, n, n_row; /* r: first row of the call */
    int pairs;
    const uint8_t *act; /* of row r, input 0 */
    size_t tile;        /* first one's index among the sums */
} strip;

/* Finished sums of two panels that go to out a row now and then: stored at once they stall all else, since out is far
 * larger than L2. */
typedef struct waiting {
    const float *sum;    /* first tile */
    float *out;          /* first cell */
    size_t row, n_row;   /* the next, all */
    size_t debt, due, n; /* each step adds due to debt; n of it are a row */
    int around;          /* past the caches */
    size_t r, col;       /* where out begins in the call; for gated ones, which leave packed */
} waiting;

/* Lines on their way into L2, of each row in turn: of the weights that are decoded next, of what gates. */
typedef struct ahead {
    const uint8_t *w;
    size_t row_bytes, n_row, row, at, bytes;
} ahead;

/* All but where in rows and outputs. */
typedef struct job {
    const crit_gemm_args *a;
    scratch_amx *s;
    size_t tile_bytes, configured;
    waiting wait;
    ahead next, gates;
} job;

/* Two panels, or the last one, of a K block. */
typedef struct spot {
    size_t n;     /* first output */
    size_t nv[2]; /* outputs of each panel */
    const uint16_t *w;
    size_t k, steps;         /* first input, steps of 32 */
    int first, last, staged; /* K block; sums of the last one wait */
} spot;

/* A row of a gated product: 32 values of a packed row are a line. */
static void send_gated(const waiting *w, const crit_gemm_args *a, const float *c) {
    const float *g = a->gate + (w->r + w->row) * a->gate_stride + w->col;
    const size_t place = a->gated_row + w->r + w->row;
    uint8_t *to = (uint8_t *)a->packed + place / AMX_ROWS * AMX_ROWS * a->n_out * sizeof(uint16_t) +
                  place % AMX_ROWS * AMX_BYTES - a->gated_row * AMX_BYTES + w->col / CRIT_ACT_STEP * ACT_STEP;
    const __m512 y0 = _mm512_mul_ps(silu(_mm512_loadu_ps(g)), _mm512_loadu_ps(c));
    const __m512 y1 = _mm512_mul_ps(silu(_mm512_loadu_ps(g + CRIT_GEMM_NR)), _mm512_loadu_ps(c + TILE_LEN));
    _mm512_storeu_si512(to, bf16_two(y1, y0));
}

CRIT_AI void send_row(waiting *w, const crit_gemm_args *a) {
    const float *c = w->sum + w->row / AMX_ROWS * 2 * TILE_LEN + w->row % AMX_ROWS * CRIT_GEMM_NR;
    float *o = w->out + w->row * a->out_stride;
    if (a->gate) {
        send_gated(w, a, c);
    } else if (w->around) {
        _mm512_stream_ps(o, _mm512_loadu_ps(c));
        _mm512_stream_ps(o + CRIT_GEMM_NR, _mm512_loadu_ps(c + TILE_LEN));
    } else {
        _mm512_storeu_ps(o, _mm512_loadu_ps(c));
        _mm512_storeu_ps(o + CRIT_GEMM_NR, _mm512_loadu_ps(c + TILE_LEN));
    }
    w->row++;
}
static void send_all(waiting *w, const crit_gemm_args *a) {
    while (w->row < w->n_row) send_row(w, a);
}

CRIT_AI void fetch_line(ahead *f) {
    if (f->at >= f->bytes) return;
    __builtin_prefetch(f->w + f->row * f->row_bytes + f->at, 0, 2);
    if (++f->row == f->n_row) f->row = 0, f->at += 64;
}

/* What a tile starts from: sums of the block before, 0, the bias, out, or what needs a detour. */
#define BEGIN(t, rt, pt)                                                                                               \
    if ((rt) < RT && (pt) < NP) {                                                                                      \
        if (!at->first)                                                                                                \
            _tile_loadd(t, sum + ((rt)*2 + (pt)) * TILE_LEN, AMX_BYTES);                                               \
        else if (!a->accumulate && !a->bias)                                                                           \
            _tile_zero(t);                                                                                             \
        else if (!a->accumulate)                                                                                       \
            _tile_loadd(t, s->bias[pt], AMX_BYTES);                                                                    \
        else if (at->nv[pt] == CRIT_GEMM_NR && !a->bias)                                                               \
            _tile_loadd(t, out + (rt)*AMX_ROWS * a->out_stride + (pt)*CRIT_GEMM_NR, stride);                           \
        else {                                                                                                         \
            tile_begin(a, s->c[t], r + (rt)*AMX_ROWS, p->n_row, at->n + (pt)*CRIT_GEMM_NR, at->nv[pt], 1);             \
            AMX_FENCE();                                                                                               \
            _tile_loadd(t, s->c[t], AMX_BYTES);                                                                        \
        }                                                                                                              \
    }
/* The tile of RT row tiles before. */
#define END(t, rt, pt)                                                                                                 \
    if ((rt) < RT && (pt) < NP) {                                                                                      \
        if (!at->last || at->staged)                                                                                   \
            _tile_stored(t, sum + (((rt)-RT) * 2 + (pt)) * TILE_LEN, AMX_BYTES);                                       \
        else if (at->nv[pt] == CRIT_GEMM_NR)                                                                           \
            _tile_stored(t, out + ((rt)-RT) * AMX_ROWS * (ptrdiff_t)a->out_stride + (pt)*CRIT_GEMM_NR, stride);        \
        else {                                                                                                         \
            _tile_stored(t, s->c[t], AMX_BYTES);                                                                       \
            AMX_FENCE();                                                                                               \
            tile_end(a, s->c[t], r + (rt)*AMX_ROWS - RT * AMX_ROWS, p->n_row, at->n + (pt)*CRIT_GEMM_NR, at->nv[pt]);  \
        }                                                                                                              \
    }
#define OPERANDS(k)                                                                                                    \
    _tile_loadd(4, act + (k)*ACT_STEP, AMX_BYTES);                                                                     \
    _tile_loadd(6, w + (k)*BF16_STEP_LEN, AMX_BYTES);                                                                  \
    if (NP > 1) _tile_loadd(7, w + (k)*BF16_STEP_LEN + PANEL_LEN, AMX_BYTES);                                          \
    if (RT > 1) _tile_loadd(5, act + tile_bytes + (k)*ACT_STEP, AMX_BYTES);

/* All of a strip, RT row tiles at a time, by a K block of NP panels.
 *
 * 64 lines of stores in a row hold up the loads behind them for 25 ns (a seventh of a block of 256).  So a tile is
 * stored when the next rows' operands are on their way, and its product follows before the next tile's stores. */
CRIT_AI void multiply(const int RT, const int NP, job *jb, const strip *p, const spot *at, float *sum) {
    const crit_gemm_args *a = jb->a;
    scratch_amx *s = jb->s;
    const size_t stride = a->out_stride * sizeof(float), tile_bytes = jb->tile_bytes, steps = at->steps;
    const uint16_t *w = at->w;
    const uint8_t *act = p->act + at->k / BF16_STEP * ACT_STEP;
    float *out = a->gate ? NULL : a->out + p->r * a->out_stride + at->n;
    size_t r = p->r;
    waiting wait = jb->wait;
    ahead next = jb->next, gates = jb->gates;
    for (size_t i = 0; i < p->n; i++) {
        OPERANDS(0)
        if (i > 0) {
            END(0, 0, 0)
        }
        BEGIN(0, 0, 0)
        _tile_dpbf16ps(0, 4, 6);
        if (i > 0) {
            END(1, 0, 1)
        }
        BEGIN(1, 0, 1)
        if (NP > 1) _tile_dpbf16ps(1, 4, 7);
        if (i > 0) {
            END(2, 1, 0)
        }
        BEGIN(2, 1, 0)
        if (RT > 1) _tile_dpbf16ps(2, 5, 6);
        if (i > 0) {
            END(3, 1, 1)
        }
        BEGIN(3, 1, 1)
        if (RT > 1 && NP > 1) _tile_dpbf16ps(3, 5, 7);
        for (size_t k = 1; k < steps; k++) {
            if (RT > 1) {
                fetch_line(&next);
                for (int j = 0; j < GATES && gates.at < gates.bytes; j++) fetch_line(&gates);
                if (wait.row < wait.n_row && (wait.debt += wait.due) >= wait.n) {
                    wait.debt -= wait.n;
                    send_row(&wait, a);
                }
            }
            OPERANDS(k)
            _tile_dpbf16ps(0, 4, 6);
            if (NP > 1) _tile_dpbf16ps(1, 4, 7);
            if (RT > 1) _tile_dpbf16ps(2, 5, 6);
            if (RT > 1 && NP > 1) _tile_dpbf16ps(3, 5, 7);
        }
        r += RT * AMX_ROWS, act += RT * tile_bytes, out += RT * AMX_ROWS * a->out_stride, sum += RT * 2 * TILE_LEN;
    }
    END(0, 0, 0)
    END(1, 0, 1)
    END(2, 1, 0)
    END(3, 1, 1)
    jb->wait = wait, jb->next = next, jb->gates = gates;
}

typedef void (*multiply_fn)(job *jb, const strip *p, const spot *at, float *sum);
#define MULTIPLY(rt, np)                                                                                               \
    static void multiply_##rt##_##np(job *jb, const strip *p, const spot *at, float *sum) {                            \
        multiply(rt, np, jb, p, at, sum);                                                                              \
    }
MULTIPLY(1, 1)
MULTIPLY(1, 2)
MULTIPLY(2, 1)
MULTIPLY(2, 2)

/* Cuts rows [r, r1) along the packed tiles: the rest of a tile that begins before r, pairs, a single one, a start; tile
 * is the first one's index among the sums.  Returns how many strips. */
static size_t cut(const crit_gemm_args *a, size_t r, size_t r1, size_t tile, strip p[4]) {
    const size_t row_bytes = crit_act_row_bytes(CRIT_ACT_BF16, a->n_in);
    size_t n = 0;
    for (; r < r1; n++) {
        const size_t place = a->act_row + r, in_tile = place % AMX_ROWS, left = r1 - r;
        p[n] = (strip){.r = r, .n = 1, .n_row = AMX_ROWS - in_tile < left ? AMX_ROWS - in_tile : left, .tile = tile};
        /* a->act is row 0's place */
        p[n].act = (const uint8_t *)a->act + place / AMX_ROWS * AMX_ROWS * row_bytes + in_tile * AMX_BYTES -
                   a->act_row * AMX_BYTES;
        if (p[n].n_row == AMX_ROWS && left >= PAIR) p[n].pairs = 1, p[n].n = left / PAIR;
        r += p[n].n * (p[n].pairs ? PAIR : p[n].n_row);
        tile += p[n].n << p[n].pairs;
    }
    return n;
}

/* A group of rows by the two panels (np 2) or the one at w, inputs [k0, k1): all steps of K that are decoded. */
CRIT_AI void blocks(job *jb, const strip *p, size_t n_strip, spot at, size_t np, size_t k0, size_t k1, float *sum) {
    static const multiply_fn fn[2][2] = {{multiply_1_1, multiply_1_2}, {multiply_2_1, multiply_2_2}};
    const crit_gemm_args *a = jb->a;
    const uint16_t *w = at.w;
    waiting done = {.sum = NULL};
    size_t pairs = 0;
    if (k0 == 0 && a->bias)
        for (size_t c = 0; c < 2 * TILE_LEN; c++) {
            const size_t o = c % CRIT_GEMM_NR, h = c / TILE_LEN;
            jb->s->bias[h][c % TILE_LEN] = o < at.nv[h] ? a->bias[at.n + h * CRIT_GEMM_NR + o] : 0.0f;
        }
    AMX_FENCE();
    for (size_t i = 0; i < n_strip; i++)
        if (p[i].pairs) pairs = p[i].n;
    const size_t n_blk = (k1 - k0 + KB - 1) / KB, n_step = (k1 - k0 + BF16_STEP - 1) / BF16_STEP;
    jb->gates.at = jb->gates.bytes = 0;
    for (size_t i = 0; i < n_strip && a->gate && k1 == a->n_in; i++)
        if (p[i].pairs)
            jb->gates = (ahead){.w = (const uint8_t *)(a->gate + p[i].r * a->gate_stride + at.n),
                                .row_bytes = a->gate_stride * sizeof(float),
                                .n_row = p[i].n * PAIR,
                                .bytes = CRIT_ACT_STEP * sizeof(float)};
    jb->wait.debt = 0, jb->wait.due = jb->wait.n_row - jb->wait.row, jb->wait.n = pairs * (n_step - n_blk);
    for (at.k = k0; at.k < k1; at.k += KB, w += STEPS * BF16_STEP_LEN) {
        const size_t nk = k1 - at.k < KB ? k1 - at.k : KB;
        at.steps = (nk + BF16_STEP - 1) / BF16_STEP, at.w = w;
        at.first = at.k == 0, at.last = at.k + nk == a->n_in;
        for (size_t i = 0; i < n_strip; i++) {
            float *c = sum + p[i].tile * 2 * TILE_LEN;
            at.staged = at.last && (p[i].pairs || a->gate) && at.nv[1] == CRIT_GEMM_NR;
            waiting sums = {.sum = c, .n_row = p[i].pairs ? p[i].n * PAIR : p[i].n_row, .r = p[i].r, .col = at.n};
            if (!a->gate) sums.out = a->out + p[i].r * a->out_stride + at.n;
            if (at.staged && p[i].pairs) done = sums;
            if (jb->configured != p[i].n_row) configure(jb->configured = p[i].n_row);
            fn[p[i].pairs][np > 1](jb, &p[i], &at, c);
            if (at.staged && !p[i].pairs) send_all(&sums, a);
        }
    }
    if (k1 < a->n_in) return;
    send_all(&jb->wait, a); /* the rest, if any: the next panels may use its place */
    jb->wait = done;
    jb->wait.around = !a->accumulate && a->n_row * a->out_stride >= LARGE_OUT && (uintptr_t)done.out % 64 == 0 &&
                      a->out_stride % CRIT_GEMM_NR == 0;
}

/* Rows of weights of outputs [m, n1), inputs [k, k + len). */
CRIT_AI void fetch_from(job *jb, size_t m, size_t n1, size_t k, size_t len, const bf16_kind *kind, size_t float_bytes) {
    const size_t n_in = jb->a->n_in, nk = k >= n_in ? 0 : n_in - k < len ? n_in - k : len;
    const size_t at = kind ? k / kind->blk_elems * kind->blk_bytes : k * float_bytes;
    jb->next = (ahead){.w = (const uint8_t *)jb->a->w + m * jb->a->w_row_bytes + at,
                       .row_bytes = jb->a->w_row_bytes,
                       .n_row = n1 - m,
                       .bytes = kind ? nk / kind->blk_elems * kind->blk_bytes : nk * float_bytes};
}

/* Rows [r0, r1), at most ROWS of whole tiles, of outputs [n, n1), at most PANELS, all of K.  kind is NULL for floats.
 */
CRIT_AI void rows_of_panels(const crit_gemm_args *a, scratch_amx *s, size_t r0, size_t r1, size_t n, size_t n1,
                            crit_type type, const bf16_kind *kind) {
    const size_t float_bytes = type == CRIT_T_F32 ? 4 : 2, len = BLOCKS * KB;
    const size_t first_tile = (a->act_row + r0) / AMX_ROWS;
    job jb = {.a = a, .s = s, .tile_bytes = AMX_ROWS * crit_act_row_bytes(CRIT_ACT_BF16, a->n_in)};
    for (size_t k = 0; k < a->n_in; k += len) {
        const size_t nk = a->n_in - k < len ? a->n_in - k : len;
        const size_t at = kind ? k / kind->blk_elems * kind->blk_bytes : k * float_bytes;
        for (size_t m = n, j = 0; m < n1; m += CRIT_GEMM_NR, j++) {
            const uint8_t *row[CRIT_GEMM_NR];
            panel_rows(a, m, n1 - m < CRIT_GEMM_NR ? n1 - m : CRIT_GEMM_NR, row);
            for (size_t i = 0; i < CRIT_GEMM_NR; i++) row[i] += at;
            /* This panel's weights, if it is the first, and the next one's: nobody else has asked for them. */
            if (k == 0) {
                const size_t from = m == n ? m : m + CRIT_GEMM_NR, to = m + 2 * CRIT_GEMM_NR;
                if (from < n1) fetch_from(&jb, from, to < n1 ? to : n1, 0, len, kind, float_bytes);
                while (jb.next.at < jb.next.bytes) fetch_line(&jb.next);
            }
            if (kind)
                bf16_panel_quant(row, nk, s->w[j], kind, &s->p);
            else
                bf16_panel_float(row, nk, s->w[j], type);
        }
        fetch_from(&jb, n, n1, k + len, len, kind, float_bytes);
        for (size_t r = r0, end, unit = 0; r < r1; r = end) {
            strip p[4];
            end = r + GROUP - (a->act_row + r) % AMX_ROWS;
            if (end > r1) end = r1;
            /* Sums that no later inputs are added to need two places only: one fills while the other empties. */
            const int once = a->n_in <= len;
            const size_t n_strip = cut(a, r, end, once ? 0 : (a->act_row + r) / AMX_ROWS - first_tile, p);
            for (size_t m = n, j = 0; m < n1; m += 2 * CRIT_GEMM_NR, j += 2, unit++) {
                const size_t left = n1 - m, np = left > CRIT_GEMM_NR ? 2 : 1;
                spot sp = {.n = m, .w = s->w[j], .nv = {left < CRIT_GEMM_NR ? left : CRIT_GEMM_NR}};
                if (np > 1) sp.nv[1] = left - CRIT_GEMM_NR < CRIT_GEMM_NR ? left - CRIT_GEMM_NR : CRIT_GEMM_NR;
                blocks(&jb, p, n_strip, sp, np, k, k + nk, s->sum[once ? unit % 2 : j / 2][0][0]);
            }
        }
    }
    send_all(&jb.wait, a);
}

CRIT_AI void gemm_bf16(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch, crit_type type,
                       const bf16_kind *kind) {
    if (n0 >= n1 || a->n_row == 0) return;
    for (size_t n = n0; n < n1; n += PANELS * CRIT_GEMM_NR) {
        const size_t stop = n1 - n < PANELS * CRIT_GEMM_NR ? n1 : n + PANELS * CRIT_GEMM_NR;
        /* cut where a packed tile begins */
        for (size_t r = 0, end; r < a->n_row; r = end) {
            end = r + ROWS - (a->act_row + r) % AMX_ROWS;
            if (end > a->n_row) end = a->n_row;
            rows_of_panels(a, scratch, r, end, n, stop, type, kind);
        }
    }
    amx_end();
    _mm_sfence(); /* what went around the caches */
}

#define FLOAT_TYPE(name, type)                                                                                         \
    void crit_gemm_##name##_amx(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                        \
        gemm_bf16(a, n0, n1, scratch, type, NULL);                                                                     \
    }
FLOAT_TYPE(f32, CRIT_T_F32)
FLOAT_TYPE(f16, CRIT_T_F16)
FLOAT_TYPE(bf16, CRIT_T_BF16)

static void gemm_quant(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch, const bf16_kind *kind) {
    gemm_bf16(a, n0, n1, scratch, a->type, kind);
}

#define QUANT_TYPE(name, ...)                                                                                          \
    void crit_gemm_##name##_amx(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                        \
        static const bf16_kind kind = {decode8_##name, __VA_ARGS__};                                                   \
        gemm_quant(a, n0, n1, scratch, &kind);                                                                         \
    }
/* block's values and bytes, SHIFT, minimum's inputs, scales per 16 */
QUANT_TYPE(q4_0, 32, 18, 3, 0, 0)
QUANT_TYPE(q4_1, 32, 20, 0, 32, 0)
QUANT_TYPE(q5_0, 32, 22, 4, 0, 0)
QUANT_TYPE(q5_1, 32, 24, 4, 32, 0)
QUANT_TYPE(q8_0, 32, 34, 7, 0, 0)
QUANT_TYPE(q2_k, 256, 84, 0, 16, 1)
QUANT_TYPE(q3_k, 256, 110, 2, 0, 1)
QUANT_TYPE(q4_k, 256, 144, 0, 32, 0)
QUANT_TYPE(q5_k, 256, 176, 4, 32, 0)
QUANT_TYPE(q6_k, 256, 210, 5, 0, 1)
QUANT_TYPE(iq4_nl, 32, 18, 7, 0, 0)
QUANT_TYPE(iq4_xs, 256, 136, 7, 0, 0)
