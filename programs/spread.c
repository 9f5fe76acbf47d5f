/* SPDX-License-Identifier: MIT */
/* See spread.h. */
#include "spread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct work {
    void (*one)(void *ctx, size_t item, unsigned worker);
    void *ctx;
    size_t n;
    atomic_size_t next;
} work;

typedef struct worker {
    work *w;
    unsigned id;
    pthread_t thread;
    bool started;
} worker;

static void *run(void *arg) {
    const worker *me = arg;
    for (size_t i; (i = atomic_fetch_add(&me->w->next, 1)) < me->w->n;) me->w->one(me->w->ctx, i, me->id);
    return NULL;
}

void spread(unsigned n_threads, size_t n, void (*one)(void *ctx, size_t item, unsigned worker), void *ctx) {
    work w = {.one = one, .ctx = ctx, .n = n};
    worker all[SPREAD_MAX];
    if (n_threads > SPREAD_MAX) n_threads = SPREAD_MAX;
    if (n_threads > n) n_threads = (unsigned)n;
    atomic_init(&w.next, 0);
    for (unsigned i = 0; i < n_threads; i++) {
        all[i] = (worker){.w = &w, .id = i};
        all[i].started = i && !pthread_create(&all[i].thread, NULL, run, &all[i]);
    }
    if (n_threads) run(&all[0]);
    for (unsigned i = 1; i < n_threads; i++)
        if (all[i].started) pthread_join(all[i].thread, NULL);
}
