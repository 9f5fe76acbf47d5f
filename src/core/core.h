/* SPDX-License-Identifier: MIT */
/* What every room of the house may use: errors, aligned memory, the thread pool, CPU levels, clocks.
 *
 * Nothing here knows what a tensor means.  No function prints, exits, reads the environment or keeps global state. */
#ifndef CRIT_CORE_H
#define CRIT_CORE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "critiprefill/status.h"

/* ---- errors ---- */

/* Fills err (when not NULL) with a formatted one-line message and returns code, so that a failure is
 * `return crit_fail(err, CRIT_E_IO, "...", ...)`.  Control characters in the text become '?'. */
crit_status crit_fail(crit_error *err, crit_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As snprintf; numbers have a decimal point whatever locale the host program has set, in crit_fail's texts too. */
int crit_print(char *buf, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- memory ---- */

#define CRIT_ALIGN 64 /* one cache line, one zmm register */

/* 64-byte aligned; NULL when n * size overflows or memory is out.  n or size 0 gives a valid pointer.
 * calloc zeroes; large requests come from fresh pages, so untouched parts cost no memory. */
void *crit_malloc(size_t n, size_t size);
void *crit_calloc(size_t n, size_t size);
void crit_free(void *p); /* accepts NULL */

/* Page-backed, zeroed on first touch, 2 MB aligned with huge pages advised when bytes >= 2 MB. */
void *crit_map(size_t bytes);
void crit_unmap(void *p, size_t bytes);
/* Gives the whole pages of a part of a mapping back to the system; what they hold is 0 at the next touch. */
void crit_map_release(void *p, size_t bytes);

/* false on overflow, *out then untouched */
bool crit_mul_size(size_t a, size_t b, size_t *out);
bool crit_add_size(size_t a, size_t b, size_t *out);

/* Bytes this process may still use: what the system has available, or less when its control group says so.  0 =
 * unknown. */
size_t crit_memory_available(void);
/* The control groups' part of it, SIZE_MAX without a limit; self and mount are /proc/self/cgroup and /sys/fs/cgroup. */
size_t crit_memory_group_left(const char *self, const char *mount);

/* ---- thread pool ---- */

/* n_thread workers (the calling thread is worker 0).  Items are handed out one at a time in ascending order, so
 * which worker runs an item is not fixed: an item's result must depend on the item only.  Workers sleep between
 * calls (a bounded spin of tens of microseconds, then a condition variable). */
typedef struct crit_pool crit_pool;
enum { CRIT_THREADS_MAX = 1024 };
typedef void (*crit_task)(void *arg, size_t item, unsigned worker);

/* n_thread 0 = all cores available to the process.  pin: the pool's own threads stay on one core each, the first core
 * of the process being left to the calling thread, whose affinity is its own business; without effect when there are
 * fewer cores than threads. */
crit_status crit_pool_open(crit_pool **out, unsigned n_thread, bool pin, crit_error *err);
void crit_pool_close(crit_pool **p);
/* Cores this process may run on, and no more than its control groups give it time for (docker --cpus): more threads
 * would stand still together for the rest of each period.  At most CRIT_THREADS_MAX. */
unsigned crit_cpu_count(void);
/* The control groups' part of it, UINT_MAX without a limit; arguments as of crit_memory_group_left. */
unsigned crit_cpu_group_limit(const char *self, const char *mount);
unsigned crit_pool_size(const crit_pool *p);
/* Runs task(arg, i, worker) for i in [0, n_item); returns when all are done, or when the pool has been stopped.  Not
 * re-entrant. */
void crit_pool_run(crit_pool *p, size_t n_item, crit_task task, void *arg);
/* Stages in order within one run: an item begins when all items of the stages before its own have ended.  Workers go
 * from stage to stage by themselves, so a layer costs one wake-up.  end_ns is filled: when the stage's last item ended
 * (a stage without items: when the one before ended). */
typedef struct crit_stage {
    size_t n_item;
    crit_task task;
    void *arg;
    uint64_t end_ns;
} crit_stage;
enum { CRIT_STAGES_MAX = 16 };
void crit_pool_run_stages(crit_pool *p, crit_stage *stage, unsigned n_stage);

/* What a pool has been asked to do since it was opened: for the account of serial time and synchronisation. */
typedef struct crit_pool_count {
    uint64_t n_run, n_stage, n_item;
    uint64_t run_ns; /* wall time inside runs; the rest of the caller's time is serial */
} crit_pool_count;
crit_pool_count crit_pool_counts(const crit_pool *p);

/* While poll is set, the calling thread asks it between items, some times a second; non-zero stops the pool: items not
 * begun are skipped, in this run and the following ones, until poll is set again (NULL = none). */
void crit_pool_set_poll(crit_pool *p, int (*poll)(void *arg), void *arg);
bool crit_pool_stopped(const crit_pool *p);

/* ---- CPU ---- */

enum {
    CRIT_CPU_AVX2 = 1u << 0,   /* AVX2 + FMA + F16C + BMI2 */
    CRIT_CPU_AVX512 = 1u << 1, /* F + BW + DQ + VL */
    CRIT_CPU_AVX512_VNNI = 1u << 2,
    CRIT_CPU_AVX512_BF16 = 1u << 3, /* BF16 + VBMI */
    CRIT_CPU_AMX = 1u << 4, /* TILE + BF16 + INT8, and the OS grants the state */
    CRIT_CPU_NEON = 1u << 5,
    CRIT_CPU_BF16_DOT = 1u << 6, /* AVX512_BF16, and vdpbf16ps at twice the rate of f32 FMA */
    CRIT_CPU_I16_DOT = 1u << 7,  /* AVX2, and vpmaddwd at the rate of f32 FMA, hence twice the products */
    CRIT_CPU_ALL = 0xff
};

unsigned crit_cpu_detect(void); /* CPUID and XCR0 of this machine */
/* "auto", "c", "avx2", "avx2i16", "avx512", "avx512bf16", "amx", "neon" -> mask of everything up to that level that the
 * machine has; avx2i16 by name on any machine with AVX2.  CRIT_E_CPU when the level itself is not available, CRIT_E_ARG
 * when the name is unknown. */
crit_status crit_cpu_mask(const char *level, unsigned *mask, crit_error *err);
const char *crit_cpu_level_name(unsigned mask);    /* "avx512+vnni+bf16", "avx512bf16", "avx2i16", "c", ... */
const char *crit_cpu_brand(char *buf, size_t cap); /* "AMD EPYC 7763 ..." or "unknown" */

/* ---- clock ---- */
uint64_t crit_now_ns(void); /* monotonic */

#endif
