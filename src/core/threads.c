/* SPDX-License-Identifier: MIT */
/* A small thread pool: one job of some stages at a time, items handed out by an atomic counter.
 *
 * Between the stages of a job and between jobs a worker spins for some tens of microseconds, since what follows comes
 * at once; between stages it then yields, between jobs it sleeps on a condition variable, so an idle pool uses no CPU.
 * Which worker runs an item is not fixed; determinism is the caller's: results depend on the item only. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core/core.h"

#define SPIN_NS 50000u
#define POLL_NS 100000000u

typedef struct worker {
    struct crit_pool *pool;
    pthread_t thread;
    unsigned id;
} worker;

struct crit_pool {
    unsigned n_thread;
    unsigned n_started; /* worker threads running, besides the caller */
    worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
    bool stop; /* under lock */

    crit_stage *stage; /* the job: written before generation moves, read after */
    unsigned n_stage;
    size_t end[CRIT_STAGES_MAX]; /* items of this stage and the ones before it */
    crit_pool_count count;
    int (*poll)(void *arg); /* asked by the calling thread only */
    void *poll_arg;
    uint64_t polled_ns;
    atomic_bool stopped;
    _Alignas(64) atomic_uint generation;
    _Alignas(64) atomic_size_t next;
    _Alignas(64) atomic_size_t done; /* items that have ended */
    _Alignas(64) atomic_uint busy;   /* workers that have not finished the current job */
    atomic_uint sleepers, caller_sleeps;
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    sched_yield();
#endif
}

static void ask(crit_pool *p) {
    uint64_t now = crit_now_ns();
    if (now - p->polled_ns < POLL_NS) return;
    p->polled_ns = now;
    if (p->poll(p->poll_arg)) atomic_store(&p->stopped, true);
}

/* Until all items before `first` have ended: they are all begun, so it is the tail of a stage. */
static void wait_items(crit_pool *p, size_t first, bool asks) {
    uint64_t t0 = 0;
    for (unsigned n = 1; atomic_load_explicit(&p->done, memory_order_acquire) < first; n++) {
        relax();
        if (n & 63) continue;
        if (asks) ask(p);
        uint64_t now = crit_now_ns();
        if (!t0) t0 = now;
        if (now - t0 > SPIN_NS) sched_yield(); /* whoever works may be waiting for this core */
    }
}

static void work(crit_pool *p, unsigned id) {
    const bool asks = id == 0 && p->poll;
    unsigned s = 0;
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        while (s < p->n_stage && i >= p->end[s]) s++;
        if (s == p->n_stage) return;
        size_t first = s ? p->end[s - 1] : 0;
        if (first) wait_items(p, first, asks);
        if (!atomic_load_explicit(&p->stopped, memory_order_relaxed)) p->stage[s].task(p->stage[s].arg, i - first, id);
        /* Read before the item counts as done: afterwards the next stage may end before this thread goes on. */
        uint64_t now = crit_now_ns();
        if (atomic_fetch_add_explicit(&p->done, 1, memory_order_acq_rel) + 1 == p->end[s]) p->stage[s].end_ns = now;
        if (asks) ask(p);
    }
}

/* The generation after `seen`, or `seen` when the pool stops. */
static unsigned wait_job(crit_pool *p, unsigned seen) {
    uint64_t t0 = crit_now_ns();
    for (unsigned n = 0;; n++) {
        unsigned g = atomic_load_explicit(&p->generation, memory_order_acquire);
        if (g != seen) return g;
        relax();
        if ((n & 63) == 63 && crit_now_ns() - t0 > SPIN_NS) break;
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    unsigned g;
    while ((g = atomic_load(&p->generation)) == seen && !p->stop) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
    return g;
}

static void *worker_main(void *arg) {
    worker *w = arg;
    crit_pool *p = w->pool;
    unsigned seen = 0;
    for (;;) {
        unsigned g = wait_job(p, seen);
        if (g == seen) return NULL;
        seen = g;
        work(p, w->id);
        if (atomic_fetch_sub(&p->busy, 1) == 1 && atomic_load(&p->caller_sleeps)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->idle);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

static void run_all(crit_pool *p, size_t n_item) {
    if (p->n_started == 0 || n_item <= p->n_stage) { /* an item a stage: nothing to share out */
        work(p, 0);
        return;
    }
    atomic_store_explicit(&p->busy, p->n_started, memory_order_relaxed);
    atomic_fetch_add(&p->generation, 1); /* seq_cst: ordered against sleepers below */
    if (atomic_load(&p->sleepers)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    work(p, 0);

    uint64_t t0 = crit_now_ns();
    for (unsigned n = 0; atomic_load_explicit(&p->busy, memory_order_acquire); n++) {
        relax();
        if ((n & 63) != 63 || crit_now_ns() - t0 <= SPIN_NS) continue;
        pthread_mutex_lock(&p->lock);
        atomic_store(&p->caller_sleeps, 1);
        while (atomic_load(&p->busy)) pthread_cond_wait(&p->idle, &p->lock);
        atomic_store(&p->caller_sleeps, 0);
        pthread_mutex_unlock(&p->lock);
        break;
    }
}

void crit_pool_run_stages(crit_pool *p, crit_stage *stage, unsigned n_stage) {
    const uint64_t t0 = crit_now_ns();
    size_t n_item = 0;
    for (unsigned s = 0; s < n_stage; s++) {
        p->count.n_stage += stage[s].n_item != 0;
        p->end[s] = n_item += stage[s].n_item;
        stage[s].end_ns = 0;
    }
    p->stage = stage;
    p->n_stage = n_stage;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    if (n_item) run_all(p, n_item);
    for (unsigned s = 0; s < n_stage; s++)
        if (!stage[s].end_ns) stage[s].end_ns = s ? stage[s - 1].end_ns : t0;
    p->count.n_run++;
    p->count.n_item += n_item;
    p->count.run_ns += crit_now_ns() - t0;
}

void crit_pool_run(crit_pool *p, size_t n_item, crit_task task, void *arg) {
    crit_stage one = {.n_item = n_item, .task = task, .arg = arg};
    if (n_item) crit_pool_run_stages(p, &one, 1);
}

crit_pool_count crit_pool_counts(const crit_pool *p) {
    return p->count;
}

unsigned crit_cpu_count(void) {
    cpu_set_t set;
    long n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    const unsigned most = crit_cpu_group_limit("/proc/self/cgroup", "/sys/fs/cgroup");
    if (n > (long)most) n = most;
    return n < 1 ? 1 : n > CRIT_THREADS_MAX ? CRIT_THREADS_MAX : (unsigned)n;
}

/* The core of worker i: the i-th of those the process may use. */
static void pin_worker(pthread_t thread, unsigned i) {
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof all, &all) != 0 || (unsigned)CPU_COUNT(&all) <= i) return;
    for (int c = 0; c < CPU_SETSIZE; c++) {
        if (!CPU_ISSET(c, &all) || i--) continue;
        CPU_ZERO(&one);
        CPU_SET(c, &one);
        (void)pthread_setaffinity_np(thread, sizeof one, &one); /* speed only */
        return;
    }
}

crit_status crit_pool_open(crit_pool **out, unsigned n_thread, bool pin, crit_error *err) {
    *out = NULL;
    if (n_thread == 0) n_thread = crit_cpu_count();
    if (n_thread > CRIT_THREADS_MAX)
        return crit_fail(err, CRIT_E_ARG, "%u threads asked for, at most %d", n_thread, CRIT_THREADS_MAX);
    crit_pool *p = crit_calloc(1, sizeof *p);
    if (!p) return crit_fail(err, CRIT_E_NOMEM, "out of memory for the thread pool");
    p->workers = crit_calloc(n_thread, sizeof *p->workers);
    if (!p->workers) {
        crit_free(p);
        return crit_fail(err, CRIT_E_NOMEM, "out of memory for the thread pool");
    }
    p->n_thread = n_thread;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->idle, NULL);

    /* Signals belong to the application's own threads.  A fault is its thread's own: blocked, it would end the process
     * before the application's handler has seen it. */
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t all, old;
    sigfillset(&all);
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) sigdelset(&all, faults[k]);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    unsigned i = 1;
    for (; i < n_thread; i++) {
        p->workers[i] = (worker){.pool = p, .id = i};
        if (pthread_create(&p->workers[i].thread, NULL, worker_main, &p->workers[i]) != 0) break;
        p->n_started++;
        if (pin && n_thread <= crit_cpu_count()) pin_worker(p->workers[i].thread, i);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (i < n_thread) {
        crit_pool_close(&p);
        return crit_fail(err, CRIT_E_NOMEM, "cannot start %u threads", n_thread);
    }
    *out = p;
    return CRIT_OK;
}

void crit_pool_close(crit_pool **pp) {
    if (!pp || !*pp) return;
    crit_pool *p = *pp;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 1; i <= p->n_started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
    crit_free(p->workers);
    crit_free(p);
    *pp = NULL;
}

void crit_pool_set_poll(crit_pool *p, int (*poll)(void *arg), void *arg) {
    p->poll = poll;
    p->poll_arg = arg;
    p->polled_ns = crit_now_ns();
    atomic_store(&p->stopped, false);
}

bool crit_pool_stopped(const crit_pool *p) {
    return atomic_load(&p->stopped);
}

unsigned crit_pool_size(const crit_pool *p) {
    return p->n_thread;
}
