/* SPDX-License-Identifier: MIT */
/* The attentions an evaluation compares, from one list:
 *
 *     --attn dense,criti,paper,fast,careful,criti:theta=0.4:skip=8
 *
 * A name is a mode or a quality preset (which is criti), with keys of --attn-opt behind colons. */
#ifndef PROG_VARIANTS_H
#define PROG_VARIANTS_H

#include "options.h"

enum { VARIANT_MAX = 64 };

typedef struct variant {
    char name[96]; /* as it was written */
    crit_attn_params attn;
    bool policy;   /* the name is that of a policy of the prompt */
    bool streams;  /* which makes no prompt too long */
    uint32_t span; /* positions it keeps within, whatever the prompt; 0 = the prompt's */
} variant;

typedef struct variants {
    variant v[VARIANT_MAX];
    size_t n;
} variants;

/* name[:key=value]..., n bytes at s.  false: what is wrong stands in why [cap]. */
bool variant_parse(variant *v, const options *o, const char *s, size_t n, char *why, size_t cap);
/* Appends what list names, on top of o->attn (--attn-opt, --quality).  EXIT_OK or EXIT_USAGE after a line. */
int variants_parse(variants *out, const options *o, const char *cmd_name, const char *list);
/* Appends one variant a combination of "key=a,b;key=c,d" (a sweep of criti). */
int variants_sweep(variants *out, const options *o, const char *cmd_name, const char *sweep);
/* Do all of them stream? */
bool variants_stream(const variants *list);
crit_session_params variant_session(const options *o, const variant *v, uint32_t n_ctx);

#endif
