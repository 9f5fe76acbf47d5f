/* SPDX-License-Identifier: MIT */
/* Aligned and page-backed memory, and size arithmetic that cannot wrap. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/core.h"

enum { HUGE_BYTES = 2 << 20 };

bool crit_mul_size(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
bool crit_add_size(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

void *crit_malloc(size_t n, size_t size) {
    size_t bytes;
    if (!crit_mul_size(n, size, &bytes) || bytes > SIZE_MAX - CRIT_ALIGN) return NULL;
    if (bytes == 0) bytes = 1;
    return aligned_alloc(CRIT_ALIGN, (bytes + CRIT_ALIGN - 1) & ~(size_t)(CRIT_ALIGN - 1));
}

void *crit_calloc(size_t n, size_t size) {
    void *p = crit_malloc(n, size);
    if (p) memset(p, 0, n * size);
    return p;
}

void crit_free(void *p) {
    free(p);
}

void *crit_map(size_t bytes) {
    if (bytes == 0) bytes = 1;
    if (bytes < (size_t)HUGE_BYTES) {
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return p == MAP_FAILED ? NULL : p;
    }
    /* Over-map, then give back both ends, so that the first page is a huge-page boundary. */
    size_t total;
    if (!crit_add_size(bytes, HUGE_BYTES, &total)) return NULL;
    char *p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t page = 4096, head = (size_t)(-(uintptr_t)p) & (HUGE_BYTES - 1);
    size_t keep = (bytes + page - 1) & ~(page - 1);
    if (head) munmap(p, head);
    if (total - head > keep) munmap(p + head + keep, total - head - keep);
    (void)madvise(p + head, keep, MADV_HUGEPAGE); /* advice only: may be refused */
    return p + head;
}

void crit_map_release(void *p, size_t bytes) {
    uintptr_t page = 4096, from = ((uintptr_t)p + page - 1) & ~(page - 1), to = ((uintptr_t)p + bytes) & ~(page - 1);
    if (from < to) (void)madvise((void *)from, to - from, MADV_DONTNEED); /* refused for locked memory only */
}

void crit_unmap(void *p, size_t bytes) {
    if (!p) return;
    size_t page = 4096;
    if (bytes == 0) bytes = 1;
    munmap(p, (bytes + page - 1) & ~(page - 1));
}
