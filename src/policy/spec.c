/* SPDX-License-Identifier: MIT */
/* "name[:key=value,...]" -> a policy and the values of its options.  A colon may stand for the comma, for lists that
 * are cut at commas. */
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/decode_policy.h"

static const char *const place_flags[] = {"--decode", "a batch", "--attn", "--kv"};

static bool is(const char *name, const char *s, size_t n) {
    return strlen(name) == n && !memcmp(name, s, n);
}

static const crit_policy *find(crit_policy_place place, const char *s, size_t n) {
    const crit_policy *p;
    for (size_t i = 0; (p = crit_policy_at(i)); i++)
        if (p->place == place && is(p->name, s, n)) return p;
    return NULL;
}

static crit_status no_such(crit_policy_place place, const char *s, size_t n, crit_error *err) {
    char list[256];
    size_t at = 0;
    const crit_policy *p;
    list[0] = 0;
    for (size_t i = 0; (p = crit_policy_at(i)); i++) {
        size_t len = strlen(p->name);
        if (p->place != place || at + len + 3 > sizeof list) continue;
        if (at) memcpy(list + at, ", ", 2), at += 2;
        memcpy(list + at, p->name, len + 1);
        at += len;
    }
    return crit_fail(err, CRIT_E_ARG, "%s: '%.*s' is none of %s", place_flags[place], (int)(n < 40 ? n : 40), s, list);
}

/* A decimal number that is all of s (no blanks, no 0x10), whatever locale the host program has set. */
static bool number(const char *s, size_t n, double *out) {
    char text[40], *end = text;
    if (strspn(s, "0123456789.eE+-") < n) return false;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0) return false;
    if (n && n < sizeof text) {
        memcpy(text, s, n);
        text[n] = 0;
        *out = strtod_l(text, &end, c);
    }
    freelocale(c);
    return end > text && !*end && isfinite(*out);
}

static crit_status value(const crit_policy *p, const crit_policy_option *o, const char *s, size_t n, double *out,
                         crit_error *err) {
    if (o->choices) {
        for (int i = 0; o->choices[i]; i++)
            if (is(o->choices[i], s, n)) {
                *out = i;
                return CRIT_OK;
            }
        return crit_fail(err, CRIT_E_ARG, "%s: %s=%.*s: not one of its words, the first is %s", p->name, o->name,
                         (int)(n < 40 ? n : 40), s, o->choices[0]);
    }
    double x = 0;
    if (!number(s, n, &x) || (o->whole && x != floor(x)))
        return crit_fail(err, CRIT_E_ARG, "%s: %s=%.*s is not a %snumber", p->name, o->name, (int)(n < 40 ? n : 40), s,
                         o->whole ? "whole " : "");
    if (x < o->lo || x > o->hi)
        return crit_fail(err, CRIT_E_ARG, "%s: %s=%g is not in %g..%g", p->name, o->name, x, o->lo, o->hi);
    *out = x;
    return CRIT_OK;
}

crit_status crit_policy_parse(crit_policy_place place, const char *text, const crit_policy **out,
                              crit_policy_values *values, crit_error *err) {
    if (!text || !*text) text = "full";
    size_t n = strcspn(text, ":");
    const crit_policy *p = find(place, text, n);
    if (!p) return no_such(place, text, n, err);
    for (size_t i = 0; i < p->n_option; i++) values->v[i] = p->options[i].def;
    bool given[CRIT_OPTIONS_MAX] = {false};
    for (const char *s = text + n; *s;) {
        s++; /* the colon or comma */
        size_t len = strcspn(s, ",:"), key = strcspn(s, "=,:"), i = 0;
        while (i < p->n_option && !is(p->options[i].name, s, key)) i++;
        if (i == p->n_option || s[key] != '=')
            return crit_fail(err, CRIT_E_ARG, "%s has no option '%.*s'", p->name, (int)(len < 40 ? len : 40), s);
        if (given[i]) return crit_fail(err, CRIT_E_ARG, "%s: %s is given twice", p->name, p->options[i].name);
        given[i] = true;
        crit_status st = value(p, &p->options[i], s + key + 1, len - key - 1, &values->v[i], err);
        if (st) return st;
        s += len;
    }
    *out = p;
    return p->check ? p->check(values, err) : CRIT_OK;
}

crit_status crit_policy_check(crit_policy_place place, const char *text, crit_error *err) {
    const crit_policy *p;
    crit_policy_values v;
    if ((unsigned)place >= sizeof place_flags / sizeof *place_flags)
        return crit_fail(err, CRIT_E_ARG, "crit_policy_check: no such place");
    return crit_policy_parse(place, text, &p, &v, err);
}

uint32_t crit_policy_span(crit_policy_place place, const char *text) {
    const crit_policy *p;
    crit_policy_values v;
    if ((unsigned)place >= sizeof place_flags / sizeof *place_flags) return 0;
    return !crit_policy_parse(place, text, &p, &v, NULL) && p->span ? p->span(&v) : 0;
}

crit_status crit_policy_pair(const crit_policy *decode, const crit_policy *kv, crit_error *err) {
    if (!kv->store || decode->any_store) return CRIT_OK;
    return crit_fail(err, CRIT_E_ARG, "--decode %s reads keys at full width: it does not go with --kv %s", decode->name,
                     kv->name);
}
