/* SPDX-License-Identifier: MIT */
/* What comes from the system around: control groups' limits on memory and cores, and the host program's locale. */
#include <limits.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "critiprefill/policy.h"
#include "core/core.h"
#include "tiny/tiny.h"

static const char *tmp(void) {
    const char *dir = getenv("CRIT_TEST_TMP");
    return dir ? dir : P_tmpdir;
}

/* A folder of this process, emptied by forget(). */
static const char *place(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/system-%ld%s", tmp(), (long)getpid(), name);
    return path;
}

static void forget(void) {
    char command[1200];
    snprintf(command, sizeof command, "rm -rf '%s'", place(""));
    assert_int_equal(system(command), 0);
}

static void put(const char *name, const char *text) {
    FILE *f = fopen(place(name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* The process's groups are as self says; returns where they are mounted. */
static const char *member_of(const char *self) {
    static char mount[1024];
    put("/self", self);
    snprintf(mount, sizeof mount, "%s", place("/sys"));
    return mount;
}

static void make_folders(void) {
    static const char *const folders[] = {"",            "/sys",            "/sys/one", "/sys/one/two",
                                          "/sys/memory", "/sys/memory/old", "/sys/cpu", "/sys/cpu/old"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        assert_int_equal(mkdir(place(folders[i]), 0700), 0);
}

static size_t group_left(const char *self) {
    const char *mount = member_of(self);
    return crit_memory_group_left(place("/self"), mount);
}

static void groups(void **state) {
    (void)state;
    make_folders();
    /* The second version: a group without a limit in one that has one; pages of files can be had back. */
    put("/sys/one/two/memory.max", "max\n");
    put("/sys/one/two/memory.current", "5000\n");
    put("/sys/one/memory.max", "1000000\n");
    put("/sys/one/memory.current", "900000\n");
    put("/sys/one/memory.stat", "anon 500000\nactive_file 100000\ninactive_file 300000\n");
    assert_int_equal(group_left("0::/one/two\n"), 500000);
    assert_int_equal(group_left("0::/one\n"), 500000);
    assert_int_equal(group_left("0::/\n"), SIZE_MAX);
    assert_int_equal(group_left("0::/one/gone\n"), 500000);
    put("/sys/one/two/memory.max", "4000\n"); /* more in use than allowed, which can be for a moment */
    assert_int_equal(group_left("0::/one/two\n"), 0);
    /* The first version, beside other controllers; in a container the mount begins at its own group. */
    put("/sys/memory/old/memory.limit_in_bytes", "70000\n");
    put("/sys/memory/old/memory.usage_in_bytes", "20000\n");
    put("/sys/memory/old/memory.stat", "inactive_file 1\ntotal_inactive_file 5000\n");
    put("/sys/memory/memory.limit_in_bytes", "90000\n");
    put("/sys/memory/memory.usage_in_bytes", "10000\n");
    assert_int_equal(group_left("5:cpu,cpuacct:/one\n4:memory:/old\n0::/\n"), 55000);
    assert_int_equal(group_left("4:memory:/docker/0123\n"), 80000);
    assert_int_equal(group_left("9:pids:/old\n"), SIZE_MAX);
    assert_int_equal(crit_memory_group_left("/nonexistent/self", place("/sys")), SIZE_MAX);
    forget();
}

static unsigned cores(const char *self) {
    const char *mount = member_of(self);
    return crit_cpu_group_limit(place("/self"), mount);
}

/* Quotas of time: the smallest of the groups around, rounded up. */
static void quotas(void **state) {
    (void)state;
    make_folders();
    put("/sys/one/two/cpu.max", "max 100000\n");
    assert_int_equal(cores("0::/one/two\n"), UINT_MAX);
    put("/sys/one/cpu.max", "250000 100000\n");
    assert_int_equal(cores("0::/one/two\n"), 3);
    put("/sys/one/two/cpu.max", "200000 100000\n");
    assert_int_equal(cores("0::/one/two\n"), 2);
    put("/sys/one/two/cpu.max", "1000 100000\n");
    assert_int_equal(cores("0::/one/two\n"), 1);
    put("/sys/cpu/old/cpu.cfs_quota_us", "-1\n");
    put("/sys/cpu/old/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cores("4:memory:/old\n3:cpu,cpuacct:/old\n"), UINT_MAX);
    put("/sys/cpu/old/cpu.cfs_quota_us", "400000\n");
    assert_int_equal(cores("4:memory:/old\n3:cpu,cpuacct:/old\n"), 4);
    assert_int_equal(cores("3:cpuacct,cpuset:/old\n"), UINT_MAX);
    assert_in_range(crit_cpu_count(), 1, CRIT_THREADS_MAX);
    forget();
}

/* A locale that writes 1,5: one of the system's, or one made here. */
static bool comma(void) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (setlocale(LC_NUMERIC, names[i])) return true;
    char command[1200];
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 '%s/comma.UTF-8' >/dev/null 2>&1", place(""));
    return system(command) == 0 && setenv("LOCPATH", place(""), 1) == 0 && setlocale(LC_NUMERIC, "comma.UTF-8");
}

static void numbers(void **state) {
    (void)state;
    char text[32], path[1024];
    assert_int_equal(mkdir(place(""), 0700), 0);
    if (!comma()) {
        forget();
        skip();
    }
    snprintf(text, sizeof text, "%g", 1.5);
    assert_string_equal(text, "1,5");
    crit_error err;
    assert_int_equal(crit_policy_check(CRIT_POLICY_DECODE, "squeezed:q=0.5", &err), CRIT_OK);
    assert_int_equal(crit_policy_check(CRIT_POLICY_DECODE, "squeezed:q=1.5", &err), CRIT_E_ARG);
    assert_non_null(strstr(err.message, "q=1.5 is not in 0..1"));
    tiny_params p;
    tiny_params_init(&p);
    p.rope = TINY_ROPE_LINEAR;
    p.rope_factor = 2.5f;
    snprintf(path, sizeof path, "%s", place("/m.gguf"));
    assert_int_equal(tiny_write(path, &p), 0);
    crit_model *m = NULL;
    crit_model_info info = {.struct_size = sizeof info};
    assert_int_equal(crit_model_open(&m, path, NULL, &err), CRIT_OK);
    assert_int_equal(crit_model_get_info(m, &info), CRIT_OK);
    assert_string_equal(info.rope, "norm linear x2.5");
    crit_model_close(&m);
    forget();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(groups), cmocka_unit_test(quotas), cmocka_unit_test(numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
