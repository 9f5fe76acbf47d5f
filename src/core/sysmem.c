/* SPDX-License-Identifier: MIT */
/* How much memory is left, from the kernel's own files. */
#include <stdio.h>
#include <string.h>

#include "core/core.h"

enum { PATH_CAP = 4352 }; /* a group's folder, which has up to 4,096 bytes, and a file of it */

/* The number behind key at a line's start ("": the first word of the file); false when there is none, as in "max". */
static bool read_number(const char *dir, const char *file, const char *key, unsigned long long *out) {
    char path[PATH_CAP + 64], line[128];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool ok = false;
    const size_t n = strlen(key);
    while (!ok && fgets(line, sizeof line, f)) {
        ok = !strncmp(line, key, n) && sscanf(line + n, "%llu", out) == 1;
        if (!n) break;
    }
    fclose(f);
    return ok;
}

/* What a group leaves when that is less than *left.  Pages of files count as free, as they do in MemAvailable: the
 * system drops them when memory is wanted, and a model's weights are such pages. */
static void group_left(const char *dir, bool v2, unsigned long long *left) {
    unsigned long long max, used, file, cached = 0;
    if (!read_number(dir, v2 ? "memory.max" : "memory.limit_in_bytes", "", &max) ||
        !read_number(dir, v2 ? "memory.current" : "memory.usage_in_bytes", "", &used))
        return;
    if (read_number(dir, "memory.stat", v2 ? "inactive_file " : "total_inactive_file ", &file)) cached += file;
    if (read_number(dir, "memory.stat", v2 ? "active_file " : "total_active_file ", &file)) cached += file;
    used -= cached < used ? cached : used;
    const unsigned long long here = max > used ? max - used : 0;
    if (here < *left) *left = here;
}

/* In a container the path may be the host's, and the folders of the mount begin at the container's own group: those
 * that are not there are passed over. */
size_t crit_memory_group_left(const char *self, const char *mount) {
    char line[PATH_CAP], dir[PATH_CAP];
    unsigned long long left = SIZE_MAX;
    FILE *f = fopen(self, "r");
    while (f && fgets(line, sizeof line, f)) { /* id:controllers:path */
        line[strcspn(line, "\n")] = 0;
        const char *what = strchr(line, ':'), *path = what ? strchr(what + 1, ':') : NULL;
        const bool v2 = path && path == what + 1;
        if (!path || (!v2 && strncmp(what, ":memory:", 8) != 0)) continue;
        const size_t base = (size_t)snprintf(dir, sizeof dir, "%s%s", mount, v2 ? "" : "/memory");
        if (base + strlen(path) >= sizeof dir) continue;
        strcpy(dir + base, path + 1);
        for (size_t n = strlen(dir);; dir[n] = 0) { /* the group, and those it is in */
            group_left(dir, v2, &left);
            if (n <= base) break;
            do n--;
            while (n > base && dir[n] != '/');
        }
    }
    if (f) fclose(f);
    return (size_t)left;
}

size_t crit_memory_available(void) {
    unsigned long long kb;
    size_t left = crit_memory_group_left("/proc/self/cgroup", "/sys/fs/cgroup");
    if (read_number("/proc", "meminfo", "MemAvailable:", &kb) && kb < left / 1024) left = (size_t)kb * 1024;
    return left == SIZE_MAX ? 0 : left ? left : 1; /* 0 is for what is not known */
}
