/* SPDX-License-Identifier: MIT */
/* See tokenselect.h.  With compact positions keys are turned when they are copied, once a choice, in f32, and rounded
 * again as they are stored; turning queries instead would take a row for every run of neighbours at every step. */
#include <string.h>

#include "kv/narrow.h"
#include "policy/tokenselect.h"

enum { COPY_KEYS = CRIT_BLK_LEN }; /* of a work item */
enum { AHEAD = 4 };

typedef struct angles {
    float cosv[COPY_KEYS][CRIT_D_HEAD_MAX / 2], sinv[COPY_KEYS][CRIT_D_HEAD_MAX / 2];
} angles;

static uint32_t slot_of(const crit_copy *a, uint32_t i) {
    return a->slot ? a->slot[i] : i;
}

/* Keys [from, from + n) of one head, turned, into their slots. */
static void put_turned(const crit_copy *a, uint32_t head, uint32_t from, uint32_t n, const angles *by) {
    const crit_kernels *kt = a->env->kernels;
    const crit_type type = kt->kv_layout == CRIT_KV_BF16T ? CRIT_T_BF16 : CRIT_T_F16;
    uint16_t key[CRIT_BLK_LEN * CRIT_D_HEAD_MAX], unused[CRIT_BLK_LEN * CRIT_D_HEAD_MAX], room[CRIT_D_HEAD_MAX];
    float x[COPY_KEYS * CRIT_D_HEAD_MAX];
    size_t d = a->env->d;
    for (uint32_t i = 0; i < n; i++) {
        kt->dequant[type](crit_kv_key(a->kv, head, a->pos[from + i], room), x + i * d, d);
        crit_turn_rows(a->turn, by->cosv[i], by->sinv[i], x + i * d, d, 1);
    }
    kt->kv_put(x, d, x, d, 0, n, (uint32_t)d, key, unused);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(a->slab->k + head * crit_slab_head(a->slab) + slot_of(a, from + i) * d, key + i * d, d * sizeof *key);
    }
}

/* Places are far apart: each would wait for memory by itself. */
static void ask_for(const crit_slab *s, const uint16_t *k, const uint16_t *v, uint32_t at) {
    size_t d = s->d;
    k += at * d;
    for (size_t i = 0; i < d; i += 32) __builtin_prefetch(k + i);
    if (s->kernels->kv_layout == CRIT_KV_BF16T)
        for (size_t i = 0; i < d; i++) __builtin_prefetch(v + i * CRIT_BLK_LEN + at);
    else
        for (size_t i = 0; i < d; i += 32) __builtin_prefetch(v + at * d + i);
}

static void ask_for_both(const crit_copy *a, uint32_t head, uint32_t i) {
    const crit_slab *s = a->slab;
    size_t blk = CRIT_BLK_LEN * (size_t)s->d, from = a->pos[i] / CRIT_BLK_LEN * blk;
    size_t to = head * crit_slab_head(s) + slot_of(a, i) / CRIT_BLK_LEN * blk;
    ask_for(s, crit_kv_k(a->kv, head) + from, crit_kv_v(a->kv, head) + from, a->pos[i] % CRIT_BLK_LEN);
    ask_for(s, s->k + to, s->v + to, slot_of(a, i) % CRIT_BLK_LEN);
}

/* The first entry of the list whose slot is `slot` or behind it. */
static uint32_t fresh_from(const crit_copy *a, uint32_t slot) {
    uint32_t lo = 0, hi = a->fresh ? *a->n_fresh : a->n;
    if (!a->fresh) return slot < hi ? slot : hi;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (a->slot[a->fresh[mid]] < slot)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static uint32_t entry(const crit_copy *a, uint32_t at) {
    return a->fresh ? a->fresh[at] : at;
}

/* What comes into a block of the slab, of one head: values may lie across it, and two threads in one line would wait
 * for each other. */
static void copy_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const crit_copy *a = arg;
    uint32_t head = (uint32_t)(item % a->env->n_kv_head), blk = (uint32_t)(item / a->env->n_kv_head);
    uint32_t end = fresh_from(a, (blk + 1) * CRIT_BLK_LEN), last = a->fresh ? *a->n_fresh : a->n;
    for (uint32_t at = fresh_from(a, blk * CRIT_BLK_LEN); at < end; at++) {
        uint32_t i = entry(a, at);
        if (at + AHEAD < last) ask_for_both(a, head, entry(a, at + AHEAD));
        crit_slab_copy(a->slab, head, slot_of(a, i), a->kv, a->pos[i]);
    }
}

static void turn_item(void *arg, size_t item, unsigned worker) {
    (void)worker;
    const crit_copy *a = arg;
    uint32_t from = (uint32_t)item * COPY_KEYS, n = a->n - from < COPY_KEYS ? a->n - from : COPY_KEYS;
    angles by;
    for (uint32_t i = from; i < from + n; i++)
        crit_turn_angles(a->turn, (int64_t)a->first + i - a->pos[i], by.cosv[i - from], by.sinv[i - from]);
    for (uint32_t head = 0; head < a->env->n_kv_head; head++) put_turned(a, head, from, n, &by);
}

unsigned crit_copy_stages(crit_copy *a, crit_stage stage[CRIT_COPY_STAGES]) {
    size_t n = (a->n + COPY_KEYS - 1) / COPY_KEYS;
    stage[0] = (crit_stage){.n_item = n * a->env->n_kv_head, .task = copy_item, .arg = a};
    stage[1] = (crit_stage){.n_item = n, .task = turn_item, .arg = a};
    return a->turn ? 2 : 1;
}
