/* SPDX-License-Identifier: MIT */
/* How much memory is left, and how many cores' time, from the kernel's own files. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

enum { PATH_CAP = 4352 }; /* a group's folder, which has up to 4,096 bytes, and a file of it */

/* What stands behind key at a line's start ("": on the first line); false when there is none. */
static bool read_line(const char *dir, const char *file, const char *key, char *out, int cap) {
    char path[PATH_CAP + 64];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool ok = false;
    const size_t n = strlen(key);
    while (!ok && fgets(out, cap, f)) {
        ok = !strncmp(out, key, n);
        if (!n) break;
    }
    fclose(f);
    if (ok) memmove(out, out + n, strlen(out + n) + 1);
    return ok;
}

/* The number there; false when there is none, as in "max" and "-1". */
static bool read_number(const char *dir, const char *file, const char *key, unsigned long long *out) {
    char text[128];
    return read_line(dir, file, key, text, sizeof text) && !strchr(text, '-') && sscanf(text, "%llu", out) == 1;
}

typedef void look_fn(const char *dir, bool v2, void *arg);

/* Looks at the process's control group of a controller and at those it is in.  self and mount: /proc/self/cgroup and
 * /sys/fs/cgroup.  In a container the path may be the host's, and the folders of the mount begin at the container's own
 * group: those that are not there have nothing to say. */
static void each_group(const char *self, const char *mount, const char *controller, look_fn *look, void *arg) {
    char line[PATH_CAP], dir[PATH_CAP];
    FILE *f = fopen(self, "r");
    while (f && fgets(line, sizeof line, f)) { /* id:controllers:path */
        line[strcspn(line, "\n")] = 0;
        char *what = strchr(line, ':'), *path = what ? strchr(what + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        const bool v2 = !*++what;
        bool ours = v2;
        char *rest;
        for (const char *name = strtok_r(what, ",", &rest); name && !ours; name = strtok_r(NULL, ",", &rest))
            ours = !strcmp(name, controller);
        if (!ours) continue;
        const size_t base = (size_t)snprintf(dir, sizeof dir, "%s%s%s", mount, v2 ? "" : "/", v2 ? "" : controller);
        if (base + strlen(path) >= sizeof dir) continue;
        strcpy(dir + base, path);
        for (size_t n = strlen(dir);; dir[n] = 0) {
            look(dir, v2, arg);
            if (n <= base) break;
            do n--;
            while (n > base && dir[n] != '/');
        }
    }
    if (f) fclose(f);
}

/* What a group leaves when that is less than *left.  Pages of files count as free, as they do in MemAvailable: the
 * system drops them when memory is wanted, and a model's weights are such pages. */
static void look_at_memory(const char *dir, bool v2, void *arg) {
    unsigned long long max, used, file, cached = 0, *left = arg;
    if (!read_number(dir, v2 ? "memory.max" : "memory.limit_in_bytes", "", &max) ||
        !read_number(dir, v2 ? "memory.current" : "memory.usage_in_bytes", "", &used))
        return;
    if (read_number(dir, "memory.stat", v2 ? "inactive_file " : "total_inactive_file ", &file)) cached += file;
    if (read_number(dir, "memory.stat", v2 ? "active_file " : "total_active_file ", &file)) cached += file;
    used -= cached < used ? cached : used;
    const unsigned long long here = max > used ? max - used : 0;
    if (here < *left) *left = here;
}

/* Cores' worth of time that a group gets, rounded up. */
static void look_at_cores(const char *dir, bool v2, void *arg) {
    char text[128];
    unsigned long long quota, period;
    unsigned *cores = arg;
    if (v2) {
        if (!read_line(dir, "cpu.max", "", text, sizeof text) || sscanf(text, "%llu %llu", &quota, &period) != 2)
            return;
    } else if (!read_number(dir, "cpu.cfs_quota_us", "", &quota) ||
               !read_number(dir, "cpu.cfs_period_us", "", &period))
        return;
    if (!quota || !period) return;
    const unsigned long long n = (quota - 1) / period + 1;
    if (n < *cores) *cores = (unsigned)n;
}

size_t crit_memory_group_left(const char *self, const char *mount) {
    unsigned long long left = SIZE_MAX;
    each_group(self, mount, "memory", look_at_memory, &left);
    return (size_t)left;
}

size_t crit_memory_available(void) {
    unsigned long long kb;
    size_t left = crit_memory_group_left("/proc/self/cgroup", "/sys/fs/cgroup");
    if (read_number("/proc", "meminfo", "MemAvailable:", &kb) && kb < left / 1024) left = (size_t)kb * 1024;
    return left == SIZE_MAX ? 0 : left ? left : 1; /* 0 is for what is not known */
}

unsigned crit_cpu_group_limit(const char *self, const char *mount) {
    unsigned cores = UINT_MAX;
    each_group(self, mount, "cpu", look_at_cores, &cores);
    return cores;
}
