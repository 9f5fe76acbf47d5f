/* SPDX-License-Identifier: MIT */
/* See suite_expr.h.  A descent: sum, product, value. */
#include "suite_expr.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_DECIMALS = 9 };
static const double largest = 1e15; /* whole numbers below are exact */

typedef struct reader {
    const suite_env *env;
    const char *s;
    unsigned depth;
    char *why;
    size_t cap;
} reader;

static bool sum(reader *r, double *x);

static bool wrong(const reader *r, const char *what) {
    snprintf(r->why, r->cap, "%s at '%.20s'", what, r->s);
    return false;
}

static void blanks(reader *r) {
    while (*r->s == ' ') r->s++;
}

static bool name(reader *r, double *x) {
    size_t n = 0;
    while ((r->s[n] | 32) >= 'a' && (r->s[n] | 32) <= 'z') n++;
    bool tok = n == 1 && *r->s == 'N', ratio = (n == 1 && *r->s == 'r') || (n == 5 && !memcmp(r->s, "ratio", 5));
    if (!tok && !ratio) return wrong(r, "a number, N, r or ( is wanted");
    *x = tok ? r->env->n_tok : r->env->ratio;
    if (ratio && !(*x > 0)) return wrong(r, "no \"ratio\" or \"ratios\" is given");
    r->s += n;
    return true;
}

static bool value(reader *r, double *x) {
    blanks(r);
    if (*r->s == '(') {
        if (++r->depth > MAX_DEPTH) return wrong(r, "too many parentheses");
        r->s++;
        if (!sum(r, x)) return false;
        if (*r->s != ')') return wrong(r, "a ) is missing");
        r->depth--;
        r->s++;
    } else if (*r->s >= '0' && *r->s <= '9') {
        for (*x = 0; *r->s >= '0' && *r->s <= '9'; r->s++) {
            *x = *x * 10 + (*r->s - '0');
            if (*x > largest) return wrong(r, "too large a number");
        }
    } else if (!name(r, x)) {
        return false;
    }
    blanks(r);
    return true;
}

static bool product(reader *r, double *x) {
    if (!value(r, x)) return false;
    while (*r->s == '*' || *r->s == '/') {
        const char op = *r->s++;
        double y;
        if (!value(r, &y)) return false;
        if (op == '/' && y == 0) return wrong(r, "division by zero");
        *x = op == '*' ? *x * y : *x / y;
    }
    return true;
}

static bool sum(reader *r, double *x) {
    if (!product(r, x)) return false;
    while (*r->s == '+' || *r->s == '-') {
        const char op = *r->s++;
        double y;
        if (!product(r, &y)) return false;
        *x = op == '+' ? *x + y : *x - y;
    }
    return true;
}

/* At the brace that opens one; leaves r behind the one that closes it. */
static bool expression(reader *r, buf *out) {
    double x;
    int decimals = 0;
    r->s++;
    r->depth = 0;
    if (!sum(r, &x)) return false;
    bool whole = *r->s != ':';
    if (!whole) {
        if (r->s[1] < '0' || r->s[1] > '0' + MAX_DECIMALS) return wrong(r, "a number of decimals, 0 to 9, is wanted");
        decimals = r->s[1] - '0';
        r->s += 2;
    }
    if (*r->s != '}') return wrong(r, *r->s ? "+ - * / or } is wanted" : "a } is missing");
    if (!isfinite(x) || fabs(x) > largest) return wrong(r, "too large a number");
    r->s++;
    if (whole) x = floor(x + 1e-9 * fmax(1, fabs(x)));
    buf_fmt(out, "%.*f", decimals, x + 0.0 == 0 ? 0.0 : x);
    return true;
}

bool suite_expand(buf *out, const char *text, const suite_env *env, char *why, size_t cap) {
    reader r = {.env = env, .s = text, .why = why, .cap = cap};
    buf_str(out, "");
    while (*r.s) {
        size_t n = strcspn(r.s, "{}");
        buf_add(out, r.s, n);
        r.s += n;
        if (*r.s == '}') return wrong(&r, "a } without its {");
        if (*r.s && !expression(&r, out)) return false;
    }
    return true;
}

bool suite_has_expr(const char *text) {
    return strchr(text, '{') != NULL;
}
