/* SPDX-License-Identifier: MIT */
/* The harness that runs every row of kernels.inc against its contract.
 *
 * main.c walks the list, looks up the row's family (the table field's name without index) in families.inc and calls
 * ck_test_<family>, with --bench ck_bench_<family>.  A row without a family fails the run.  A family's file asks the
 * harness for guarded buffers, compares against an oracle it computes in double, and reports by ck_fail.
 *
 * A test casts row->fn to the contract's type; row->index is the array index of the field (a crit_type for gemm);
 * s->table is the kernel table for the row's level (companions such as act_pack), s->ref the table for mask 0. */
#ifndef CRIT_CHECKASM_H
#define CRIT_CHECKASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

typedef void (*ck_anyfn)(void);

typedef struct ck_row {
    const char *field;  /* "gemm[CRIT_T_Q4_0]" */
    const char *family; /* "gemm" */
    const char *symbol;
    size_t index;
    unsigned need;
    bool emulated; /* AVX-512 source compiled against tests/emul */
    ck_anyfn fn;
} ck_row;

typedef struct ck {
    uint64_t rng;
    uint64_t seed;
    crit_kernels ref;   /* mask 0 */
    crit_kernels table; /* the row's level; emulated rows replaced where they exist */
    const ck_row *row;
    const char *note; /* what the test is doing now: printed with a failure or a trap */
    size_t n_fail;    /* of this row */
    size_t n_check;   /* comparisons made for this row: a test that compares nothing fails */
    double worst;     /* largest |err| / bound seen for this row */
    /* --bench */
    bool csv;
    double peak_flops; /* measured in this run: f32 FMA of the widest f32 level the row may use, FLOP/s */
    double read_bytes; /* measured in this run: one-core read bandwidth of memory, B/s */
} ck;

/* ---- randomness: everything a test draws comes from here, so that --seed repeats it ---- */
uint32_t ck_u32(ck *s);
float ck_uniform(ck *s, float lo, float hi);
float ck_normal(ck *s);
void ck_fill_normal(ck *s, float *x, size_t n, float sigma);

/* ---- memory ---- */

/* Where a buffer lies: against the PROT_NONE page behind it, right after the one before it, or 4 bytes off any
 * greater alignment with canaries on both sides.  END keeps only the alignment that bytes gives it. */
typedef enum ck_place { CK_END, CK_START, CK_MIS4, CK_PLACES } ck_place;

/* Buffer of exactly bytes; the rest of its pages is canary.  Contents: 0xFF bytes (NaN as f32 and f16). */
void *ck_alloc(ck *s, size_t bytes, ck_place place);
/* 64-byte aligned plain scratch (with PROT_NONE behind its last page). */
void *ck_scratch(ck *s, size_t bytes);
/* Checks every canary and unmaps all buffers of this case. */
void ck_release(ck *s);
void ck_poison(float *x, size_t n); /* NaN */

/* ---- verdicts ---- */
void ck_fail(ck *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* |got - want| <= tol; NaN wanted matches NaN only, infinity only itself.  Returns whether it held. */
bool ck_near(ck *s, const char *what, size_t i, size_t j, double got, double want, double tol);
bool ck_same_bits(ck *s, const char *what, const void *a, const void *b, size_t bytes);

/* ---- bench ---- */
typedef void (*ck_work)(void *arg);
/* Best-of-n seconds per call of work(arg). */
double ck_time(ck_work work, void *arg);
/* One line: label, rate and its share of the peak.  flop > 0: GFLOP/s against the FMA peak, otherwise bytes: GB/s. */
void ck_report(ck *s, const char *label, double seconds, double flop, double bytes);

#define FAMILY(name)                                                                                                   \
    void ck_test_##name(ck *s, const ck_row *row);                                                                     \
    void ck_bench_##name(ck *s, const ck_row *row);
#include "families.inc"
#undef FAMILY

#endif
