/* SPDX-License-Identifier: MIT */
/* Numbers that a suite's configuration computes: options of a policy from the length of the context and the ratio of
 * compression they are to give.
 *
 *     "recycled:K={N/r},S=50"     {EXPR}: a whole number, rounded down
 *     "think:lambda={2-2/r:3}"    {EXPR:D}: D decimals, 0 to 9, rounded to the nearest
 *
 * EXPR: whole numbers, N (tokens of the context), r or ratio, + - * / with their usual order, and parentheses.  It is
 * computed in doubles; N/r*r may therefore fall short of N by a rounding, and whole numbers forgive 1e-9 of it. */
#ifndef PROG_SUITE_EXPR_H
#define PROG_SUITE_EXPR_H

#include "buf.h"

typedef struct suite_env {
    double n_tok; /* N */
    double ratio; /* r; 0 = there is none: an expression that asks for it is refused */
} suite_env;

/* Appends text with every {...} replaced.  false: what is wrong stands in why [cap]. */
bool suite_expand(buf *out, const char *text, const suite_env *env, char *why, size_t cap);
bool suite_has_expr(const char *text); /* whether there is a { in it */

#endif
