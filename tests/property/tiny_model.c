/* SPDX-License-Identifier: MIT */
/* See tiny_model.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tiny_model.h"

crit_model *tiny_model(const tiny_params *p, const char *cpu) {
    char path[512];
    const char *dir = getenv("CRIT_TEST_TMP");
    crit_error err = {0};
    crit_model *m = NULL;
    crit_model_params mp;
    snprintf(path, sizeof path, "%s/tiny-%ld.gguf", dir ? dir : P_tmpdir, (long)getpid());
    crit_model_params_init(&mp);
    mp.cpu = cpu;
    assert_int_equal(tiny_write(path, p), 0);
    crit_status st = crit_model_open(&m, path, &mp, &err);
    unlink(path);
    if (st && st != CRIT_E_CPU) fail_msg("%s", err.message);
    return m;
}

crit_model *tiny_model_of(const char *cpu, uint32_t n_head, uint32_t n_kv_head, uint32_t d, const char *arch) {
    tiny_params p;
    tiny_params_init(&p);
    p.arch = arch;
    p.n_head = n_head;
    p.n_kv_head = n_kv_head;
    p.d_head = d;
    p.n_embd = 64;
    p.n_layer = 2;
    p.seed = 77;
    return tiny_model(&p, cpu);
}
