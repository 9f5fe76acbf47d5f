/* SPDX-License-Identifier: MIT */
/* Peaks of multiplying and of reading, on one core and on all. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/measure_impl.h"

/* ---- the sizes of caches ---- */

/* A virtual machine's CPUID may tell the whole socket's cache; what the kernel says is what this core can use. */
static size_t cache_bytes(int level) {
    size_t best = 0;
    for (int i = 0; i < 8; i++) {
        char path[96], text[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) break;
        ssize_t n = read(fd, text, sizeof text - 1);
        close(fd);
        if (n <= 0 || text[0] - '0' != level) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        n = read(fd, text, sizeof text - 1);
        close(fd);
        size_t kib = 0;
        for (ssize_t k = 0; k < n && text[k] >= '0' && text[k] <= '9'; k++) kib = kib * 10 + (size_t)(text[k] - '0');
        if (kib << 10 > best) best = kib << 10;
    }
    return best ? best : (size_t)(level == 2 ? 1 : 32) << 20;
}

static size_t clamp_size(size_t x, size_t lo, size_t hi) {
    x = x < lo ? lo : x > hi ? hi : x;
    return x & ~(size_t)511;
}

size_t meas_big_bytes(const meas *m) {
    if (m->p.quick) return (size_t)4 << 20;
    size_t free_bytes = crit_memory_available(), most = free_bytes ? free_bytes / 4 : (size_t)1 << 30;
    return clamp_size(4 * cache_bytes(3), (size_t)64 << 20, most < (size_t)1 << 30 ? most : (size_t)1 << 30);
}

/* ---- one core ---- */

typedef struct peak_work {
    const crit_peak *p;
    void *buf;
} peak_work;

static void run_peak(void *arg) {
    peak_work *w = arg;
    w->p->run(w->buf);
}

typedef struct read_work {
    crit_read_fn fn;
    const char *p;
    size_t bytes, rounds;
} read_work;

static void run_read(void *arg) {
    read_work *w = arg;
    for (size_t i = 0; i < w->rounds; i++) w->fn(w->p, w->bytes);
}

static bool runs_here(const meas *m, const crit_peak *p) {
    return p->run && (p->need & m->kt.cpu) == p->need;
}

double meas_read_rate(meas *m, const void *p, size_t bytes) {
    const char *isa;
    read_work w = {crit_peak_reader(m->kt.cpu, &isa), p, bytes & ~(size_t)511, 1};
    return (double)w.bytes / meas_cpu_time(m, run_read, &w);
}

/* ---- all cores ---- */

typedef struct many {
    meas *m;
    const crit_peak *peak; /* or */
    crit_read_fn read;
    const char *mem; /* every thread's part of it is of part_bytes */
    size_t part_bytes, rounds;
    char *bufs; /* [n_thread][CRIT_PEAK_BYTES] */
} many;

static void many_item(void *arg, size_t item, unsigned worker) {
    (void)item;
    many *a = arg;
    if (a->peak) {
        a->peak->run(a->bufs + (size_t)worker * CRIT_PEAK_BYTES);
        return;
    }
    for (size_t i = 0; i < a->rounds; i++) a->read(a->mem + worker * a->part_bytes, a->part_bytes);
}

/* Work items per thread: enough that the end, when threads run out one by one, does not count. */
static size_t many_items(const meas *m) {
    return (size_t)crit_pool_size(m->pool) * (m->p.quick ? 1 : 32);
}

static void many_run(void *arg) {
    many *a = arg;
    crit_pool_run(a->m->pool, many_items(a->m), many_item, a);
}

/* Reads of one size, by one thread or by all; every thread reads its own part. */
static bool read_row(meas *m, const char *name, const char *mem, size_t bytes, many *all, bool at_end) {
    const char *isa;
    crit_read_fn fn = crit_peak_reader(m->kt.cpu, &isa);
    size_t n = all ? crit_pool_size(m->pool) : 1, part = bytes / n & ~(size_t)511;
    char shape[64];
    snprintf(shape, sizeof shape, "%zu KiB%s", part >> 10, n > 1 ? " each" : "");
    crit_measure_row r = {.group = "read",
                          .name = name,
                          .isa = isa,
                          .shape = shape,
                          .n_threads = (uint32_t)n,
                          .at_end = at_end,
                          .by_byte = true,
                          .share = MEAS_NEVER,
                          .efficiency = MEAS_NEVER};
    size_t rounds = part < (size_t)1 << 20 ? ((size_t)1 << 20) / part : 1;
    if (all) {
        all->peak = NULL;
        all->read = fn;
        all->mem = mem;
        all->part_bytes = part;
        all->rounds = rounds;
        r.seconds = meas_wall_time(m, many_run, all);
        r.bytes = (double)many_items(m) * (double)rounds * (double)part;
    } else {
        read_work w = {fn, mem, part, rounds};
        r.seconds = meas_cpu_time(m, run_read, &w);
        r.bytes = (double)rounds * (double)part;
        if (!strcmp(name, "memory")) m->read_bps = r.bytes / r.seconds;
    }
    return meas_row(m, r);
}

static bool peak_row(meas *m, const crit_peak *p, many *all, bool at_end) {
    crit_measure_row r = {.group = "peak",
                          .name = p->name,
                          .isa = p->isa,
                          .n_threads = all ? crit_pool_size(m->pool) : 1,
                          .at_end = at_end,
                          .seconds = MEAS_NEVER,
                          .share = MEAS_NEVER,
                          .efficiency = MEAS_NEVER};
    if (runs_here(m, p)) {
        r.flop = p->ops;
        if (all) {
            all->peak = p;
            r.flop *= (double)many_items(m);
            r.seconds = meas_wall_time(m, many_run, all);
        } else {
            peak_work w = {p, m->peak_buf};
            r.seconds = meas_cpu_time(m, run_peak, &w);
            m->flops[p->kind][meas_isa_slot(p->isa)] = r.flop / r.seconds;
        }
    }
    return meas_row(m, r);
}

void meas_peaks(meas *m, bool all, bool at_end) {
    const crit_peak *p;
    for (size_t i = 0; (p = crit_peak_at(i)) && !m->cancelled; i++)
        if (all || runs_here(m, p)) peak_row(m, p, NULL, at_end);
    size_t bytes = meas_big_bytes(m);
    char *mem = m->cancelled ? NULL : crit_map(bytes);
    if (!mem) {
        m->oom = !m->cancelled;
        return;
    }
    memset(mem, 1, bytes);
    if (all) {
        read_row(m, "L1", mem, 16 << 10, NULL, at_end);
        read_row(m, "L2", mem, cache_bytes(2) / 2, NULL, at_end);
        size_t l3 = clamp_size(cache_bytes(3) / 4, (size_t)1 << 20, bytes / 2);
        read_row(m, "L3", mem, l3, NULL, at_end);
    }
    read_row(m, "memory", mem, bytes, NULL, at_end);
    crit_unmap(mem, bytes);
}

static crit_status peaks_of_all(meas *m, crit_error *err) {
    size_t n = crit_pool_size(m->pool), bytes = meas_big_bytes(m), l2 = cache_bytes(2) / 2 * n;
    if (n < 2) return CRIT_OK;
    many a = {.m = m};
    if (l2 > bytes) bytes = l2;
    a.bufs = crit_malloc(n, CRIT_PEAK_BYTES);
    char *mem = crit_map(bytes);
    crit_status st = a.bufs && mem ? CRIT_OK : meas_no_memory(err);
    if (!st) {
        for (size_t i = 0; i < n; i++) crit_peak_fill(a.bufs + i * CRIT_PEAK_BYTES);
        memset(mem, 1, bytes);
        const crit_peak *p;
        for (size_t i = 0; (p = crit_peak_at(i)) && !m->cancelled; i++)
            if (runs_here(m, p)) peak_row(m, p, &a, false);
        if (!m->cancelled) read_row(m, "L2", mem, l2, &a, false);
        if (!m->cancelled) read_row(m, "memory", mem, bytes, &a, false);
    }
    crit_unmap(mem, bytes);
    crit_free(a.bufs);
    return st;
}

crit_status crit_measure_peaks(const crit_measure_params *params, crit_measure_fn fn, void *user, crit_error *err) {
    meas m;
    if (!fn) return crit_fail(err, CRIT_E_ARG, "crit_measure_peaks: fn is required");
    crit_status st = meas_open(&m, params, fn, user, err);
    if (!st) {
        meas_peaks(&m, true, false);
        if (!m.cancelled) st = peaks_of_all(&m, err);
        if (!st) st = meas_status(&m, err);
    }
    meas_close(&m);
    return st;
}
