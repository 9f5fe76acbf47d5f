/* SPDX-License-Identifier: MIT */
/* THE contract of every kernel: what it computes, shapes, bounds.  It stands here and nowhere else.
 *
 * A crit_kernels is a plain table of function pointers, filled from kernels.inc for a CPU mask: the C reference
 * first, each better level overwrites.  The table belongs to the model; two models may run different levels.
 *
 * Rules for all: strides in elements unless a name ends in _bytes; pointers need no alignment unless said; no
 * read or write outside the shapes given; in and out must not overlap unless said; a size of 0 is a no-op;
 * outputs are written fully (prior contents, even NaN, are ignored) unless they are said to accumulate.
 * Results depend on the arguments only: never on alignment, thread or how the caller cut the work, where a cut
 * is offered (rows, outputs, tiles).  Element (i) of a result has the same bits whatever its neighbours are. */
#ifndef CRIT_KERNELS_H
#define CRIT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/qtype.h"

#define CRIT_BLK_LEN     32  /* B: keys in one KV block, the unit of selection and of the packed store */
#define CRIT_TILE_LEN    32  /* T: query positions of one head that share one list of blocks */
#define CRIT_ATTEND_ROWS 128 /* most query rows of an attend call: four tiles, the grid of prefill's calls */
#define CRIT_REP_LEN     16  /* consecutive queries behind one representative (2 representatives a tile) */
#define CRIT_REP_MAX     8   /* representatives a scoring call takes: those of four tiles */
#define CRIT_LSE_ROWS    32  /* query rows a call of block_lse takes */
#define CRIT_GEMM_NR     16  /* outputs of one weight panel: the unit by which callers cut a GEMM's outputs */
#define CRIT_D_HEAD_MAX  256

/* f32 below is IEEE binary32 float; f16 is binary16 in a uint16_t. */

/* ================================================================ attention over a plan          [alg:attend] */

/* Exact soft-max attention of up to CRIT_ATTEND_ROWS query rows of one head over a list of KV blocks.
 *
 *   out[r] = sum_j softmax_j( scale * q[r].k[j] ) v[j]       over keys j of the listed blocks that row r may see
 *
 *   q    [n_row][q_stride >= d]  f32  in
 *   k, v [.][CRIT_BLK_LEN][d]   16bit in   packed blocks of one KV head, block b at + b*32*d, as kv_put left them
 *   blk  [n_blk]                 u32  in   block ids, strictly ascending; the first n_far are visited last
 *   out  [n_row][out_stride >= d] f32 out
 *   lse  [n_row]                 f32  out  log(sum exp(scale*q.k)) (natural log), NULL when not wanted
 *
 * Visibility: with causal != 0, row r stands at position pos0 + r and sees keys at positions <= pos0 + r; with
 * causal == 0 every row sees all n_key keys.  Keys at positions >= n_key are never read as valid (the bytes of the
 * ragged last block behind them exist and may hold anything, even NaN).  A row that sees no key gives out 0, lse -inf.
 * d is a multiple of 8, 8..CRIT_D_HEAD_MAX; 1 <= n_row <= CRIT_ATTEND_ROWS.
 * Order: entries [n_far, n_blk) first, then [0, n_far), each part in groups of CRIT_ATTEND_GROUP entries counted from
 * its first.  Far entries lie wholly before pos0 (causal) and n_key: every row sees all of them; with n_far > 0 there
 * is a near entry, and every row sees a key of the first one. Row r's bits depend on its own q, its visible keys,
 * n_far, skip and the list up to its last visible block only: neither on n_row, nor on its place in the tile, nor on
 * later list entries, nor on where the list came from.
 * Want: with want != NULL the list is that of several tiles, and the rows of tile t (positions from
 * pos0 + t * CRIT_TILE_LEN on) read entry i only where bit t of want[i] is set; the other entries count for the groups
 * and for nothing else, and their keys must be finite all the same.  pos0 is a multiple of CRIT_TILE_LEN then, and
 * every row sees a key of the first near entry that its tile wants.  So tiles whose lists have most entries in common
 * share the work of reading K and V.
 *
 * Narrow keys: with dk != 0, a multiple of 8 below d, rows of q and of K have dk values, K is [.][CRIT_BLK_LEN][dk],
 * and all else stays: V and out have d, scale is the caller's.  The 64 bytes behind each listed block of K can be read
 * then, and like all of its keys, n_key or not, hold finite values.
 *
 * Skip [alg:skip]: with skip < INFINITY, a row gives weight 0 to every far block none of whose scores comes within skip
 * (nats, > 0) of the largest score the row has met in the groups before that block's: exp and P V of a (strip, group)
 * are left out where no row is left.  lse counts only what was kept.  *n_skip (NULL = not wanted) grows by the number
 * of (row, far block) pairs left out: the result of the rule, not of the strips, hence the same at any cut.  A score
 * within rounding of the edge may fall on either side at another level. |err| <= (d + 16) 2^-24 max_j sum|q||k_j| scale
 * in the exponent, f32 accumulation in the product; K and V exactly as packed.  A KV_BF16T level rounds q (scale and
 * log2 e in it) to bf16 as well: + 2^-8 max_j sum|q||k_j| scale in the exponent; and the weights: a factor 1 +- (2^-8
 * (1 + ln 2) + 2^-16) on each, in out and lse alike; a product of its tiles takes subnormals for 0.  Listed keys before
 * n_key must be finite: an infinite or NaN value may reach other rows of the tile. scratch:
 * crit_attend_scratch_bytes(d) bytes, 64-byte aligned, one per thread.
 *
 * A level whose attend_kind is CRIT_ACT_I16 multiplies 16-bit integers in causal calls, with u = CRIT_ATTEND_UNIT: each
 * value of q is off by u |q[r]| (Euclidean norm), each of k by u |k_j|, so the exponent by
 * u scale max_j (|k_j| sum_i |q_i| + |q[r]| sum_i |k_ji|) more; out by CRIT_ATTEND_PV_UNITS u sum_j w_j max_i |v_ji| /
 * sum_j w_j more, w the weights: met if 64 roundings all agree.  |q[r]| is below 2^63 there: its square is an f32.  A
 * row of a causal call and the same row of one that is not need not have the same bits there. */
#define CRIT_ATTEND_UNIT     (0.505 / 32767) /* half a unit, and what f32 loses on the way */
#define CRIT_ATTEND_PV_UNITS (CRIT_ATTEND_GROUP * CRIT_BLK_LEN + 1)
#define CRIT_ATTEND_GROUP 2
typedef struct crit_attend_args {
    const float *q;
    size_t q_stride;
    const uint16_t *k, *v;
    const uint32_t *blk;
    const uint8_t *want; /* [n_blk] or NULL */
    size_t n_blk;
    float *out;
    size_t out_stride;
    float *lse;
    size_t pos0, n_key;
    float scale;
    uint32_t n_row, d;
    int causal;
    size_t n_far;     /* <= n_blk; 0 = plain list order */
    float skip;       /* INFINITY (or 0, so that a zeroed struct is plain) = off */
    uint64_t *n_skip; /* in/out */
    uint32_t dk;      /* 0 = d */
    const void *ready; /* K and V by attend_ready, block 0 first, for causal calls with dk == 0; NULL: the same bits */
} crit_attend_args;
static inline uint32_t crit_attend_dk(const crit_attend_args *a) {
    return a->dk ? a->dk : a->d;
}
typedef void (*crit_attend_fn)(const crit_attend_args *a, void *scratch);
size_t crit_attend_scratch_bytes(uint32_t d); /* enough for every level */

/* Puts blocks of K and V into the form in which this level's attend and block_lse multiply them, which they otherwise
 * do in every call: for the calls of many heads and tiles.  NULL where attend reads the store in place, or makes too
 * little of it.
 *
 *   k, v as above, n_key keys from the first of a block on; ready [ceil(n_key/32)][CRIT_READY_BYTES(d)] out, 64-byte
 *   aligned.  Keys behind n_key are not read as valid: attend may be shown n_key as of here, or fewer. */
#define CRIT_READY_BYTES(d) ((size_t)CRIT_BLK_LEN * 4 * ((d) + 8))
typedef void (*crit_attend_ready_fn)(const uint16_t *k, const uint16_t *v, size_t n_key, uint32_t d, void *ready);

/* Per-block log-sum-exp and largest score of a few exact query rows.                  [alg:calibrate] [alg:check]
 *
 *   lse[r][b] = log( sum_{j in block b, j < n_key} exp(scale * q[r].k[j]) )      b = 0 .. ceil(n_key/32)-1
 *   top[r][b] = max_{j in block b, j < n_key} scale * q[r].k[j]
 *
 *   q [n_row <= CRIT_LSE_ROWS][q_stride] f32 in; k as above 16bit in; lse, top [n_row][stride >= ceil(n_key/32)] f32
 * out; ready: these blocks by attend_ready, NULL: the same bits.  Same d rule, scratch and error in the exponent as
 * attend in causal calls; the sum is in f32 at every level. */
typedef void (*crit_block_lse_fn)(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k,
                                  const void *ready, size_t n_key, uint32_t d, float scale, float *lse, float *top,
                                  size_t stride, void *scratch);

/* Scores of single keys for a few query rows.
 *
 *   s[r][j] = scale * q[r].k[j]        r < n_row, j < n_key
 *
 *   q [n_row <= CRIT_REP_MAX][q_stride >= d] f32 in;  s [n_row][s_stride >= n_key] f32 out
 *   k [n_key][d] 16bit in: f16, bf16 where the layout is KV_BF16T; row-major in both: any run of keys may be given
 *
 * d is a multiple of 8, 8..CRIT_D_HEAD_MAX: rows may be narrower than the model's head.  |err| <= (d + 2) 2^-24 scale
 * sum|q||k|, f32 accumulation at every level but C.  The bits of s[r][j] depend on q[r], k[j], d and scale only. */
typedef void (*crit_key_scores_fn)(const float *q, size_t q_stride, uint32_t n_row, const uint16_t *k, size_t n_key,
                                   uint32_t d, float scale, float *s, size_t s_stride);

/* Weighted sums of values, added to what is there.
 *
 *   o[r][i] += sum_{j < n_key} p[r][j] v[j][i]        one fma a key, j ascending: the bits are the same at every level
 *                                                     of one layout
 *   p [n_row <= CRIT_REP_MAX][p_stride >= n_key] f32 in;  o [n_row][o_stride >= d] f32 in/out
 *   v [.][CRIT_BLK_LEN][d] 16bit in: packed blocks as kv_put left them, from the first key of a block on
 *
 * Same d rule.  Places behind n_key exist up to the end of their block and may hold anything, even NaN.  So a call over
 * keys [0, a), a a multiple of CRIT_BLK_LEN, and one over the rest give the bits of one call. */
typedef void (*crit_mix_values_fn)(const float *p, size_t p_stride, uint32_t n_row, const uint16_t *v, size_t n_key,
                                   uint32_t d, float *o, size_t o_stride);

/* Soft-max weights before the division by their sum.
 *
 *   *top = max_j x[j];  x[j] = e^(x[j] - *top);  returns sum_j x[j]          x [n] f32 in/out: finite or -inf
 *
 * Each weight is off by a factor of 1 +- (4e-7 + 2^-24 |x[j] - *top|) at most, 0 below e^-87; the sum by 1e-5.
 * Without a finite x: *top is -inf, the weights and the sum 0. */
typedef double (*crit_soft_max_fn)(float *x, size_t n, float *top);

/* ================================================================ KV store                                     */

/* Packs keys and values [at, at + n) of one KV block into the layout this level's attend, block_lse and block_stats
 * read.
 *
 *   k v [n][stride] f32 in, d values a row;  kblk vblk: the block, CRIT_BLK_LEN * d 16-bit values each, out
 *
 * 0 <= at < at + n <= CRIT_BLK_LEN.  Nothing but these keys' places is written, whatever order keys come in.
 * Rounds to nearest even; overflow gives infinity; NaN stays NaN.  Two layouts exist, both 2 bytes a value:
 *   KV_F16   K and V row-major f16, key j at + j*d
 *   KV_BF16T K row-major bf16; V transposed bf16, value i of key j at + i*CRIT_BLK_LEN + j; AMX and avx512bf16 */
enum { CRIT_KV_F16, CRIT_KV_BF16T };
typedef void (*crit_kv_put_fn)(const float *k, size_t k_stride, const float *v, size_t v_stride, size_t at, size_t n,
                               uint32_t d, uint16_t *kblk, uint16_t *vblk);

/* Statistics of one key block, updated as n_new keys arrive.                                     [alg:represent]
 *
 *   kmax[i] = max(kmax[i], k[t][i])   kmin likewise   ksum[i] += k[t][i], t ascending, one addition a key
 *
 *   k [n_new][d] in, 16 bits of the level's K (rows are row-major in both layouts): what attention will read; kmax kmin
 * ksum [d] f32 in/out. n_old == 0: the statistics are initialised, prior contents ignored.  One call of n keys and n
 * calls of one key give the same bits. */
typedef void (*crit_block_stats_fn)(const uint16_t *k, size_t n_new, size_t n_old, uint32_t d, float *kmax, float *kmin,
                                    float *ksum);

/* ================================================================ estimation and selection                     */

/* Mean of CRIT_REP_LEN consecutive query rows.                                                   [alg:represent]
 *   rep[i] = (q[0][i] + ... + q[n-1][i]) / n         q [n_row][q_stride] f32 in, rep [d] f32 out; n_row >= 1 */
typedef void (*crit_mean_rows_fn)(const float *q, size_t q_stride, size_t n_row, uint32_t d, float *rep);

/* Representatives against block vectors.                                                             [alg:score]
 *   z[b][r] = scale * rep[r].kvec[b]     rep [n_rep <= 8][d] f32 in; kvec [n_blk][d] f32 in;
 *   z [n_blk][8] f32 out, columns >= n_rep are 0.  |err| <= (d + 2) 2^-24 scale sum|rep||kvec|. */
typedef void (*crit_score_fn)(const float *rep, uint32_t n_rep, const float *kvec, size_t n_blk, uint32_t d,
                              float scale, float *z);

/* Column soft-max over blocks, then the mean over the n_rep representatives of each of n_tile tiles.  [alg:score]
 *   share[t][b] = (1/n_rep) sum_{r < n_rep} softmax_b( z[b][t n_rep + r] )         n_tile n_rep <= 8
 *   z [n_blk][8] f32 in (overwritten: scratch); share [n_tile][stride >= n_blk] f32 out, a row sums to 1.
 * A column that is all -inf contributes 0. */
typedef void (*crit_share_fn)(float *z, size_t n_blk, uint32_t n_rep, uint32_t n_tile, float *share, size_t stride);

/* The published score of a group of heads.                                                     [alg:score] paper
 *   a[b] = qmid.kmid[b] + qabs.khalf[b],  kmid = (kmax+kmin)/2, khalf = (kmax-kmin)/2
 * where for one query head per call:  qmid = (qmax+qmin)/2 and the second term is |qmid.khalf|:
 *   a[b] (+)= w * ( qmid.kmid[b] + |qmid.khalf[b]| )         accumulate != 0 adds to a
 *   qmid [d] f32 in; kmax kmin [n_blk][d] f32 in; a [n_blk] f32 in/out. */
typedef void (*crit_minmax_score_fn)(const float *qmid, const float *kmax, const float *kmin, size_t n_blk, uint32_t d,
                                     float w, int accumulate, float *a);

/* Ids of the blocks whose share passes a threshold.                                                 [alg:select]
 *   writes b0 + b for every b with share[b] > thresh, ascending; returns how many.  share [n_blk] f32 in,
 *   out [>= n_blk] u32.  NaN is never selected. */
typedef size_t (*crit_select_above_fn)(const float *share, size_t n_blk, float thresh, uint32_t b0, uint32_t *out);

/* ================================================================ matrix products on quantised weights         */

/* Weights stay as the file has them: output n's row is w + n * w_row_bytes.  Activations are packed once per use
 * into the form the weight type wants at this level, by row, in an opaque buffer:
 *   CRIT_ACT_I8   int8 per group of 32 with an f32 scale (weights up to 6 bits, maddubs / VNNI)
 *   CRIT_ACT_I16  int16 holding 12 bits per group of 32 (8-bit weights on AVX2)
 *   CRIT_ACT_BF16 bf16 to nearest even, subnormals to 0, zeros up to a multiple of 32 values, in tiles of CRIT_ACT_TILE
 *                 rows: [tile][step of 32 values][row of the tile][32 values]; a gemm of this kind rounds the exact
 *                 weights to bf16 too (AMX)
 *   CRIT_ACT_F32  plain copy (float weights; the C reference for everything)                                    */
typedef enum crit_act_kind { CRIT_ACT_F32, CRIT_ACT_I8, CRIT_ACT_I16, CRIT_ACT_BF16, CRIT_ACT_KINDS } crit_act_kind;

#define CRIT_ACT_TILE 16
#define CRIT_ACT_STEP 32 /* values of a row that lie together, whatever the kind */

/* Bytes of the packed form of one row of n_in values: a multiple of 64.  Of n_row rows: CRIT_ACT_BF16 rounds up to
 * whole tiles.  Where row r's first byte is: r * crit_act_row_bytes, but for CRIT_ACT_BF16. */
size_t crit_act_row_bytes(crit_act_kind kind, size_t n_in);
size_t crit_act_bytes(crit_act_kind kind, size_t n_in, size_t n_row);
size_t crit_act_at(crit_act_kind kind, size_t n_in, size_t r);
/* Packs one row.  x [n_in] f32 in, dst out: base + crit_act_at(row).  A row of zeros packs to zeros; NaN or infinity in
 * x gives NaN products. Relative error of a product against f32 activations: I8 about 5e-3, I16 about 3e-4, BF16 with
 * its rounded weights 2.4e-3 (doc/KERNELS.md). */
typedef void (*crit_act_pack_fn)(const float *x, size_t n_in, void *dst);

/*   out[r][n] = sum_i w[n][i] x[r][i] (+ bias[n]) (+ out[r][n] when accumulate)      n in [n0, n1)
 *
 *   act [n_row] packed rows in, of the kind act_kind[type] (gemv: act_kind_one[type]), from the first one's place on;
 * act_row: that row's place in its tile, 0 but for CRIT_ACT_BF16; out [n_row][out_stride] f32 out; bias [n_out] f32 or
 * NULL. n_in is a multiple of the type's block.  n0 is a multiple of CRIT_GEMM_NR, n1 too unless it is n_out: cuts do
 * not change bits, nor does n_row.  scratch: crit_gemm_scratch_bytes(), 64-byte aligned, one per thread.
 *
 * Gated, gemm only and where the table says gemm_gated: with gate != NULL, silu(gate[r][n]) * out[r][n] takes the place
 * of out[r][n] and goes to `packed`, rows of n_out values as CRIT_ACT_BF16 from the first one's place on (gated_row:
 * its place in its tile); out is NULL and out_stride 0.  The bits are those of gemm, silu_mul and act_pack.  n_out, n0
 * and n1 are multiples of CRIT_ACT_STEP, accumulate is 0.  gate [n_row][gate_stride] f32 in. */
typedef struct crit_gemm_args {
    const void *w;
    size_t w_row_bytes;
    size_t n_out, n_in;
    const void *act;
    size_t act_row; /* < CRIT_ACT_TILE */
    size_t n_row;
    float *out;
    size_t out_stride;
    const float *bias;
    crit_type type;
    int accumulate;
    const float *gate;
    size_t gate_stride;
    void *packed;
    size_t gated_row; /* < CRIT_ACT_TILE */
} crit_gemm_args;
typedef void (*crit_gemm_fn)(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch);
size_t crit_gemm_scratch_bytes(void);

/* One row: the same product for n_row == 1, bound by memory, any cut [n0, n1).  Its bits may differ from gemm's. */
typedef void (*crit_gemv_fn)(const crit_gemm_args *a, size_t n0, size_t n1);

/* Exact decode of whole rows: n values (a multiple of the type's block) of src to f32. */
typedef void (*crit_dequant_fn)(const void *src, float *dst, size_t n);

/* ================================================================ the rest of a layer                          */

/* y = x / sqrt(mean(x^2) + eps) * w.   x y [n] f32, y may be x; w [n] f32. */
typedef void (*crit_rmsnorm_fn)(const float *x, const float *w, float *y, size_t n, float eps);
/* Rotates the first n_rot values of each head in place; cos sin [n_rot/2] f32.
 *   norm: pairs (2i, 2i+1);   neox: pairs (i, i + n_rot/2).    x [n_head][d] f32, n_rot even, <= d */
typedef void (*crit_rope_fn)(float *x, size_t n_head, uint32_t d, uint32_t n_rot, const float *cosv, const float *sinv);
/* y[i] = g[i] / (1 + exp(-g[i])) * u[i];  y may be g or u. */
typedef void (*crit_silu_mul_fn)(const float *g, const float *u, float *y, size_t n);
/* y += x */
typedef void (*crit_add_fn)(const float *x, float *y, size_t n);

typedef struct crit_kernels {
    unsigned cpu; /* the mask it was built for */

    crit_attend_fn attend;
    crit_attend_ready_fn attend_ready; /* may be NULL */
    crit_block_lse_fn block_lse;
    crit_key_scores_fn key_scores;
    crit_mix_values_fn mix_values;
    crit_soft_max_fn soft_max;

    unsigned char kv_layout;   /* CRIT_KV_F16 or CRIT_KV_BF16T: what kv_put writes */
    unsigned char attend_kind; /* what attend multiplies in causal calls: CRIT_ACT_F32, CRIT_ACT_I16 or CRIT_ACT_BF16 */
    crit_kv_put_fn kv_put;
    crit_block_stats_fn block_stats;

    crit_mean_rows_fn mean_rows;
    crit_score_fn score;
    crit_share_fn share;
    crit_minmax_score_fn minmax_score;
    crit_select_above_fn select_above;

    crit_act_pack_fn act_pack[CRIT_ACT_KINDS];
    unsigned char act_kind[CRIT_T_COUNT];     /* crit_act_kind that gemm wants for this type at this level */
    unsigned char act_kind_one[CRIT_T_COUNT]; /* the same for gemv */
    unsigned
        gemm_item; /* outputs of a work item that gemm likes best when there are enough: a multiple of CRIT_GEMM_NR */
    unsigned gemm_gated; /* gemm can end in SiLU, product and packing: for types whose act_kind is CRIT_ACT_BF16 */
    crit_gemm_fn gemm[CRIT_T_COUNT];
    crit_gemv_fn gemv[CRIT_T_COUNT];
    crit_dequant_fn dequant[CRIT_T_COUNT];

    crit_rmsnorm_fn rmsnorm;
    crit_rope_fn rope_norm, rope_neox;
    crit_silu_mul_fn silu_mul;
    crit_add_fn add;
} crit_kernels;

/* Fills *t with the best kernel of each kind for the CPU mask (bits of core.h); mask 0 is the C reference. */
void crit_kernels_init(crit_kernels *t, unsigned cpu_mask);

#endif
