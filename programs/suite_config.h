/* SPDX-License-Identifier: MIT */
/* The configuration of `eval suite`: policies and tasks, out of one JSON file (doc/QUALITY.md has its form).
 *
 * Everything in it is checked before a model is opened: unknown keys, tasks and policies, ranges, and every expression
 * at every length it will be computed for.  What is wrong is told in one line with the file and the place in it,
 * "suite.json: policies[1].decode: ...". */
#ifndef PROG_SUITE_CONFIG_H
#define PROG_SUITE_CONFIG_H

#include <jansson.h>

#include "options.h"
#include "tasks.h"
#include "variants.h"

enum { SUITE_MAX_POLICY = 64, SUITE_MAX_TASK = 32, SUITE_NAME_CAP = 64, SUITE_TEXT_CAP = 256, SUITE_MAX_CTX = 32 };

typedef struct suite_policy {
    char name[SUITE_NAME_CAP]; /* unlike all others; a file name */
    char place[32];            /* "policies[1]" */
    json_t *entry;             /* as it was written, with the one ratio of this policy */
    double ratio;              /* nominal; 0 = none */
    size_t family;             /* of one entry with several ratios */
} suite_policy;

typedef struct suite_task {
    char name[SUITE_NAME_CAP];
    char place[32];
    json_t *entry;
    const task *t; /* NULL: perplexity of a continuation */
    u32_list ctx, depth;
    uint32_t n_sample, question, n_digit;
    uint32_t n_score; /* perplexity: tokens of the continuation */
    char *path;       /* of the file; NULL = none */
    buf text;         /* perplexity: the file */
    json_t *bench;    /* longbench: its samples */
    uint64_t hash;    /* of the settings that a record depends on, with the file's bytes */
    uint64_t setup[SUITE_MAX_POLICY][SUITE_MAX_CTX]; /* of each policy at each length: its hash */
} suite_task;

typedef struct suite {
    const char *file; /* for messages */
    const options *o; /* what attentions are built on */
    char *model;      /* path; NULL = not named */
    bool chat, read_once, has_seed;
    uint64_t seed;
    json_t *root;
    suite_policy policy[SUITE_MAX_POLICY]; /* 0 is full attention behind a dense prompt */
    size_t n_policy;
    suite_task task[SUITE_MAX_TASK];
    size_t n_task;
} suite;

/* s: zeroed, and large, not for the stack.  EXIT_OK or the exit code after a line on stderr, as all of these; s is to
 * be freed either way. */
int suite_read(suite *s, const options *o);
void suite_free(suite *s);
size_t suite_n_depth(const suite_task *t); /* 1 where depths are not told apart */

/* A policy at one length: texts with their expressions computed. */
typedef struct suite_setup {
    variant attn;
    char decode[SUITE_TEXT_CAP], kv[SUITE_TEXT_CAP];
    uint64_t hash; /* of all three */
} suite_setup;
int suite_setup_of(const suite *s, const suite_policy *p, uint32_t ctx, suite_setup *out);
/* Session parameters of a setup, its storage among them. */
crit_session_params suite_session(const options *o, const suite_setup *u, uint32_t ctx);

/* ---- for the parts of the reader ---- */
int suite_wrong(const suite *s, const char *place, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Keys of an object at place beside those of the NULL-terminated list are refused. */
int suite_keys(const suite *s, const char *place, const json_t *obj, const char *const *known);
bool suite_name_good(const char *name);
int suite_u32(const suite *s, const char *place, const char *key, const json_t *obj, uint32_t lo, uint32_t hi,
              uint32_t *out);                               /* leaves *out as it is when the key is not there */
const char *suite_text(const json_t *obj, const char *key); /* "" when it is not there */
char *suite_path(const suite *s, const char *path);         /* relative to the configuration's folder; to be freed */
int suite_read_policies(suite *s);
int suite_read_tasks(suite *s);

#endif
