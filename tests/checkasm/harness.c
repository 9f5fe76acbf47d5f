/* SPDX-License-Identifier: MIT */
/* checkasm's tools: random numbers, guarded buffers with canaries, comparisons, timing.
 *
 * Owns the list of live buffers of the running case; knows no kernel. */
#include "checkasm.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MAX_BUF = 256, CANARY = 0xA5 };
#define MAX_SHOWN 5 /* failures printed per row; the rest are counted */

typedef struct buf {
    uint8_t *map, *lo, *hi, *p; /* mapping; usable range between the guards; the buffer */
    size_t map_bytes, bytes;
} buf;
static buf live[MAX_BUF];
static size_t n_live;

uint32_t ck_u32(ck *s) {
    uint64_t z = (s->rng += 0x9E3779B97F4A7C15u); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ (z >> 31)) >> 16);
}

float ck_uniform(ck *s, float lo, float hi) {
    return lo + (hi - lo) * ((float)(ck_u32(s) >> 8) * 0x1p-24f);
}

float ck_normal(ck *s) {
    double u = ((double)ck_u32(s) + 1.0) * 0x1p-32, v = (double)ck_u32(s) * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

void ck_fill_normal(ck *s, float *x, size_t n, float sigma) {
    for (size_t i = 0; i < n; i++) {
        float v = sigma * ck_normal(s);
        memcpy((char *)x + i * sizeof v, &v, sizeof v); /* x may be misaligned on purpose */
    }
}

static buf *map_new(ck *s, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = (bytes + 2 * 64 + page - 1) / page * page;
    if (n_live == MAX_BUF) {
        ck_fail(s, "checkasm: too many buffers in one case");
        abort();
    }
    buf *b = &live[n_live];
    b->map_bytes = body + 2 * page;
    b->map = mmap(NULL, b->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->map == MAP_FAILED) {
        perror("checkasm: mmap");
        abort();
    }
    b->lo = b->map + page;
    b->hi = b->lo + body;
    b->bytes = bytes;
    mprotect(b->map, page, PROT_NONE);
    mprotect(b->hi, page, PROT_NONE);
    n_live++;
    return b;
}

void *ck_alloc(ck *s, size_t bytes, ck_place place) {
    buf *b = map_new(s, bytes);
    if (place == CK_END)
        b->p = b->hi - bytes;
    else if (place == CK_START)
        b->p = b->lo;
    else
        b->p = b->lo + 4;
    memset(b->lo, CANARY, (size_t)(b->hi - b->lo));
    memset(b->p, 0xFF, bytes);
    return b->p;
}

void *ck_scratch(ck *s, size_t bytes) {
    buf *b = map_new(s, bytes);
    b->p = b->hi - (bytes + 63) / 64 * 64;
    memset(b->lo, CANARY, (size_t)(b->hi - b->lo));
    memset(b->p, 0xFF, bytes);
    return b->p;
}

void ck_release(ck *s) {
    for (size_t i = 0; i < n_live; i++) {
        buf *b = &live[i];
        for (const uint8_t *q = b->lo; q < b->hi; q++) {
            if (q == b->p) q += b->bytes;
            if (q >= b->hi) break;
            if (*q != CANARY) {
                ck_fail(s, "wrote %s a buffer of %zu bytes, at offset %td", q < b->p ? "before" : "behind", b->bytes,
                        q - b->p);
                break;
            }
        }
        munmap(b->map, b->map_bytes);
    }
    n_live = 0;
}

void ck_poison(float *x, size_t n) {
    memset((void *)x, 0xFF, n * sizeof *x);
}

void ck_fail(ck *s, const char *fmt, ...) {
    if (s->n_fail++ >= MAX_SHOWN) return;
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "FAIL %s [%s]: ", s->row ? s->row->symbol : "?", s->note ? s->note : "");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

bool ck_near(ck *s, const char *what, size_t i, size_t j, double got, double want, double tol) {
    s->n_check++;
    if (isnan(want) ? isnan(got) : isinf(want) ? got == want : fabs(got - want) <= tol) {
        if (tol > 0 && isfinite(want) && fabs(got - want) / tol > s->worst) s->worst = fabs(got - want) / tol;
        return true;
    }
    ck_fail(s, "%s[%zu][%zu] = %.9g, want %.9g +- %.3g", what, i, j, got, want, tol);
    return false;
}

bool ck_same_bits(ck *s, const char *what, const void *a, const void *b, size_t bytes) {
    s->n_check++;
    if (memcmp(a, b, bytes) == 0) return true;
    size_t k = 0;
    while (((const uint8_t *)a)[k] == ((const uint8_t *)b)[k]) k++;
    ck_fail(s, "%s: bits differ at byte %zu of %zu", what, k, bytes);
    return false;
}

/* The thread's own CPU time: kernels are single-threaded, and on a shared machine a 10 ms run never goes through
 * without being preempted (512 x 1024 x 2048 read 112-158 GFLOP/s by the wall clock at load 7, 200 by this one). */
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double ck_time(ck_work work, void *arg) {
    work(arg); /* warm caches and pages */
    size_t n = 1;
    double best = 1e30;
    for (;;) { /* a batch long enough for the clock */
        double t0 = now();
        for (size_t i = 0; i < n; i++) work(arg);
        double t = now() - t0;
        if (t / (double)n < best) best = t / (double)n;
        if (t > 2e-3) break;
        n *= 2;
    }
    double end = now() + 0.15;
    for (int r = 0; r < 5 || now() < end; r++) {
        double t0 = now();
        for (size_t i = 0; i < n; i++) work(arg);
        double t = (now() - t0) / (double)n;
        if (t < best) best = t;
    }
    return best;
}

void ck_report(ck *s, const char *label, double seconds, double flop, double bytes) {
    double rate = (flop > 0 ? flop : bytes) / seconds * 1e-9;
    double peak = (flop > 0 ? s->peak_flops : s->read_bytes) * 1e-9;
    const char *unit = flop > 0 ? "GFLOP/s" : "GB/s";
    if (s->csv)
        printf("%s,%s,%.1f,%s,%.1f\n", s->row->symbol, label, rate, unit, peak > 0 ? 100 * rate / peak : 0.0);
    else
        printf("  %-34s %-26s %8.1f %-8s %6.1f %% of %s\n", s->row->symbol, label, rate, unit,
               peak > 0 ? 100 * rate / peak : 0.0, flop > 0 ? "f32 peak" : "read bandwidth");
    fflush(stdout);
}
