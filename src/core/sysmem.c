/* SPDX-License-Identifier: MIT */
/* How much memory is left, from the kernel's own files. */
#include <stdio.h>
#include <string.h>

#include "core/core.h"

/* The number in a one-number file; false when it is absent or says "max". */
static bool read_number(const char *path, unsigned long long *out) {
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool ok = fscanf(f, "%llu", out) == 1;
    fclose(f);
    return ok;
}

size_t crit_memory_available(void) {
    unsigned long long avail = 0, kb, max, used;
    FILE *f = fopen("/proc/meminfo", "r");
    char line[128];
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kb) == 1) avail = kb * 1024;
    if (f) fclose(f);
    static const char *const groups[][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
    };
    for (size_t i = 0; i < 2; i++)
        if (read_number(groups[i][0], &max) && read_number(groups[i][1], &used)) {
            unsigned long long left = max > used ? max - used : 0;
            if (!avail || left < avail) avail = left;
            break;
        }
    return avail > SIZE_MAX ? SIZE_MAX : (size_t)avail;
}
