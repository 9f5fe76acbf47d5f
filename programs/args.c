/* SPDX-License-Identifier: MIT */
/* See args.h. */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "term.h"

enum { HELP_COLUMN = 28 };

/* What a value is read for: the command and the option as they were typed, for the message. */
typedef struct place {
    const char *cmd, *opt;
} place;

/* Decimal integer in [lo, hi]; the bounds are exact in double (below 2^53). */
static bool read_int(const char *s, double lo, double hi, long long *out) {
    const char *d = s + (*s == '-');
    if (!*d || d[strspn(d, "0123456789")]) return false;
    errno = 0;
    long long v = strtoll(s, NULL, 10);
    if (errno || (double)v < lo || (double)v > hi) return false;
    *out = v;
    return true;
}

static bool read_float(const char *s, double lo, double hi, double *out) {
    if (!*s || s[strspn(s, "0123456789.eE+-")]) return false;
    char *end;
    double v = strtod(s, &end);
    if (end == s || *end || !isfinite(v) || v < lo || v > hi) return false;
    *out = v;
    return true;
}

static int bad_int(place at, const char *s, double lo, double hi) {
    return usage(at.cmd, "%s: '%s' is not a whole number from %.0f to %.0f", at.opt, s, lo, hi);
}

/* Index of s[0..n) in the choices, or -1. */
static int find_choice(const char *const *choices, const char *s, size_t n) {
    for (int i = 0; choices[i]; i++)
        if (strlen(choices[i]) == n && !memcmp(choices[i], s, n)) return i;
    return -1;
}

static int bad_choice(place at, const char *const *choices, const char *s, size_t n) {
    char list[128] = "";
    for (int i = 0; choices[i]; i++) {
        if (i) strncat(list, choices[i + 1] ? ", " : " or ", sizeof list - strlen(list) - 1);
        strncat(list, choices[i], sizeof list - strlen(list) - 1);
    }
    return usage(at.cmd, "%s: '%.*s' is not %s%s", at.opt, (int)n, s, choices[1] ? "one of " : "", list);
}

/* Calls one for each comma-separated part, copied and NUL-terminated. */
static int each_part(const opt *o, place at, const char *s, void *dst,
                     int (*one)(const opt *o, place at, const char *part, void *dst)) {
    for (;;) {
        char part[64];
        size_t n = strcspn(s, ",");
        if (n == 0 || n >= sizeof part) return usage(at.cmd, "%s: empty or overlong part in the list", at.opt);
        memcpy(part, s, n);
        part[n] = 0;
        int rc = one(o, at, part, dst);
        if (rc) return rc;
        if (!s[n]) return EXIT_OK;
        s += n + 1;
    }
}

static int push(place at, u32_list *l, uint32_t v) {
    if (l->n == sizeof l->v / sizeof *l->v) return usage(at.cmd, "%s: more than %zu values", at.opt, l->n);
    l->v[l->n++] = v;
    return EXIT_OK;
}

static int one_u32(const opt *o, place at, const char *part, void *dst) {
    long long v;
    return read_int(part, o->lo, o->hi, &v) ? push(at, dst, (uint32_t)v) : bad_int(at, part, o->lo, o->hi);
}

static int one_choice(const opt *o, place at, const char *part, void *dst) {
    u32_list *l = dst;
    int c = find_choice(o->choices, part, strlen(part));
    if (c < 0) return bad_choice(at, o->choices, part, strlen(part));
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i] == (uint32_t)c) return usage(at.cmd, "%s: '%s' is named twice", at.opt, part);
    return push(at, l, (uint32_t)c);
}

bool args_field(const field *fields, const char *part, void *base, char *why, size_t cap) {
    size_t n = strcspn(part, "=");
    if (!part[n]) return snprintf(why, cap, "'%s' is not KEY=VALUE", part), false;
    const char *s = part + n + 1;
    const field *f = fields;
    while (f->key && (strlen(f->key) != n || memcmp(f->key, part, n))) f++;
    if (!f->key) return snprintf(why, cap, "unknown key '%.*s'", (int)n, part), false;
    if (f->kind == OPT_F32) {
        double v;
        if (!read_float(s, f->lo, f->hi, &v))
            return snprintf(why, cap, "%s: '%s' is not a number from %g to %g", f->key, s, f->lo, f->hi), false;
        *(float *)((char *)base + f->at) = (float)v;
        return true;
    }
    long long v;
    if (!read_int(s, f->lo, f->hi, &v))
        return snprintf(why, cap, "%s: '%s' is not a whole number from %.0f to %.0f", f->key, s, f->lo, f->hi), false;
    if (f->multiple > 1 && v % f->multiple)
        return snprintf(why, cap, "%s: %s is not a multiple of %u", f->key, s, f->multiple), false;
    *(uint32_t *)((char *)base + f->at) = (uint32_t)v;
    return true;
}

static int one_field(const opt *o, place at, const char *part, void *dst) {
    char why[256];
    return args_field(o->fields, part, dst, why, sizeof why) ? EXIT_OK : usage(at.cmd, "%s: %s", at.opt, why);
}

static int set_value(const opt *o, place at, const char *s, void *dst) {
    long long i;
    double f;
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)dst = true;
        return EXIT_OK;
    case OPT_STR:
        *(const char **)dst = s;
        return EXIT_OK;
    case OPT_STRS: {
        str_list *l = dst;
        l->v[l->n++] = s;
        return EXIT_OK;
    }
    case OPT_I32:
        if (!read_int(s, o->lo, o->hi, &i)) return bad_int(at, s, o->lo, o->hi);
        *(int32_t *)dst = (int32_t)i;
        return EXIT_OK;
    case OPT_U32:
        if (!read_int(s, o->lo, o->hi, &i)) return bad_int(at, s, o->lo, o->hi);
        *(uint32_t *)dst = (uint32_t)i;
        return EXIT_OK;
    case OPT_U64:
        errno = 0;
        *(uint64_t *)dst = strtoull(s, NULL, 10);
        if (!*s || s[strspn(s, "0123456789")] || errno)
            return usage(at.cmd, "%s: '%s' is not a whole number from 0 to 18446744073709551615", at.opt, s);
        return EXIT_OK;
    case OPT_F32:
        if (!read_float(s, o->lo, o->hi, &f))
            return usage(at.cmd, "%s: '%s' is not a number from %g to %g", at.opt, s, o->lo, o->hi);
        *(float *)dst = (float)f;
        return EXIT_OK;
    case OPT_CHOICE: {
        int c = find_choice(o->choices, s, strlen(s));
        if (c < 0) return bad_choice(at, o->choices, s, strlen(s));
        *(uint32_t *)dst = (uint32_t)c;
        return EXIT_OK;
    }
    case OPT_U32S:
        ((u32_list *)dst)->n = 0;
        return each_part(o, at, s, dst, one_u32);
    case OPT_CHOICES:
        ((u32_list *)dst)->n = 0;
        return each_part(o, at, s, dst, one_choice);
    case OPT_FIELDS:
        return each_part(o, at, s, dst, one_field);
    }
    return EXIT_OK;
}

/* The row of cmd that has this name. */
static const opt *find_opt(const opt *table, unsigned cmd, const char *name, size_t n) {
    for (const opt *o = table; o->cmds; o++)
        for (int i = 0; (o->cmds & cmd) && i < 4 && o->name[i]; i++)
            if (strlen(o->name[i]) == n && !memcmp(o->name[i], name, n)) return o;
    return NULL;
}

int args_parse(const opt *table, unsigned cmd, const char *cmd_name, int argc, char **argv, void *base, bool *help) {
    for (const opt *o = table; o->cmds; o++) {
        if (!(o->cmds & cmd) || o->kind != OPT_STRS) continue;
        str_list *l = (str_list *)((char *)base + o->at);
        if (!l->v) l->v = calloc((size_t)argc + 1, sizeof *l->v); /* never more values than arguments */
        if (!l->v) return fail_memory();
    }
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i], *value = NULL;
        if (!strcmp(a, "-h") || !strcmp(a, "--help")) {
            *help = true;
            return EXIT_OK;
        }
        if (a[0] != '-' || !a[1]) {
            const opt *o = *a ? find_opt(table, cmd, "", 0) : NULL;
            const char **dst = o ? (const char **)((char *)base + o->at) : NULL;
            if (!dst || *dst) return usage(cmd_name, "unexpected argument '%s'", a);
            *dst = a;
            continue;
        }
        size_t n = a[1] == '-' ? strcspn(a, "=") : strlen(a);
        const opt *o = find_opt(table, cmd, a, n);
        if (!o) return usage(cmd_name, "unknown option '%.*s'", (int)n, a);
        if (o->kind == OPT_FLAG) {
            if (a[n]) return usage(cmd_name, "%.*s takes no value", (int)n, a);
        } else if (a[n]) {
            value = a + n + 1;
        } else if (i + 1 < argc) {
            value = argv[++i];
        } else {
            return usage(cmd_name, "%s needs a value (%s)", a, o->arg);
        }
        char typed[32];
        size_t keep = n < sizeof typed ? n : sizeof typed - 1;
        memcpy(typed, a, keep);
        typed[keep] = 0;
        int rc = set_value(o, (place){cmd_name, typed}, value, (char *)base + o->at);
        if (rc) return rc;
    }
    return EXIT_OK;
}

void args_help(const opt *table, unsigned cmd, buf *out) {
    for (const opt *o = table; o->cmds; o++) {
        if (!(o->cmds & cmd)) continue;
        size_t from = out->n;
        buf_str(out, "  ");
        for (int i = 0; i < 4 && o->name[i]; i++) buf_fmt(out, "%s%s", i ? ", " : "", o->name[i]);
        if (o->arg) buf_fmt(out, "%s%s", *o->name[0] ? " " : "", o->arg);
        if (out->n - from > HELP_COLUMN - 2) {
            buf_str(out, "\n");
            from = out->n;
        }
        for (const char *h = o->help; *h;) {
            size_t n = strcspn(h, "\n");
            buf_fmt(out, "%*s%.*s\n", HELP_COLUMN - (int)(out->n - from), "", (int)n, h);
            h += n + (h[n] == '\n');
            from = out->n;
        }
    }
}
