/* SPDX-License-Identifier: MIT */
/* See jsonout.h. */
#include "jsonout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "term.h"

static void *alloc_or_exit(size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) exit(fail_memory());
    return p;
}

void json_start(void) {
    json_set_alloc_funcs(alloc_or_exit, free);
}

json_t *json_num(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

json_t *json_hex(uint64_t hash) {
    return json_sprintf("%016llx", (unsigned long long)hash);
}

json_t *json_size(size_t n) {
    return json_integer((json_int_t)n);
}

json_t *json_text(const char *s, size_t n) {
    buf b = {0};
    utf8 u = {0};
    utf8_feed(&u, s, n, &b);
    utf8_end(&u, &b);
    if (b.oom) exit(fail_memory());
    json_t *j = json_stringn_nocheck(b.n ? b.s : "", b.n);
    buf_free(&b);
    return j;
}

json_t *json_cstr(const char *s) {
    return json_text(s, strlen(s));
}

void json_put(json_t *obj, const char *key, json_t *value) {
    (void)json_object_set_new_nocheck(obj, key, value);
}

int json_print(json_t *root) {
    char *s = json_dumps(root, JSON_REAL_PRECISION(9));
    json_decref(root);
    if (!s) return fail("the result cannot be written as JSON");
    buf b = {0};
    buf_str(&b, s);
    buf_str(&b, "\n");
    free(s);
    int rc = out_buf(&b);
    buf_free(&b);
    return rc;
}
