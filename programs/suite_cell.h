/* SPDX-License-Identifier: MIT */
/* One sample of a task given to one policy: read, answered, measured.
 *
 * Policies whose prompts are read alike (the same attention and storage) share a session, which lives as long as a
 * length is measured.  With read_once such a session also keeps what it read: the next policy reads the prompt's last
 * AGAIN_TOK tokens anew, as every policy does then, the first one too, so that the order leaves no trace. */
#ifndef PROG_SUITE_CELL_H
#define PROG_SUITE_CELL_H

#include "evalout.h"
#include "suite_config.h"
#include "task_answer.h"

typedef struct suite_reader {
    crit_session *session;
    uint64_t held; /* number of the prompt it holds; 0 = none */
    crit_stats whole;
    double whole_ms;
} suite_reader;

typedef struct suite_bench {
    const options *o;
    const suite *s;
    crit_model *model;
    crit_model_info info;
    asker ask;
    evalout *out;
    uint32_t ctx; /* length under way, with the policies' setups for it */
    suite_setup setup[SUITE_MAX_POLICY];
    size_t group[SUITE_MAX_POLICY]; /* the first policy that is read like this one: the place of its reader */
    suite_reader reader[SUITE_MAX_POLICY];
    bool one_open; /* memory holds one session at a time */
    bool warm;
    prompt prompt;   /* the sample as the model reads it, */
    uint64_t serial; /* its number, */
    uint32_t n_next; /* and, for perplexity, how many tokens go on behind it */
} suite_bench;

/* Sets up all policies for a length; closes the sessions of the one before.  EXIT_OK or the exit code after a line on
 * stderr, as all of these. */
int suite_length(suite_bench *b, uint32_t ctx);
void suite_close(suite_bench *b); /* sessions */
/* b->prompt with one policy: what it scored and cost, added to record.  s: NULL for perplexity. */
int suite_cell(suite_bench *b, size_t i_policy, const sample *s, json_t *record);

#endif
