/* SPDX-License-Identifier: MIT */
/* One sample read and answered in a session, and what is kept of it. */
#ifndef PROG_TASK_ANSWER_H
#define PROG_TASK_ANSWER_H

#include "evalout.h"
#include "prompt.h"
#include "tasks.h"
#include "variants.h"

typedef struct asker {
    const options *o;
    const crit_model *model;
    uint32_t n_vocab;
    crit_sampler *sampler; /* greedy */
    evalout *out;          /* told of progress */
    bool common;           /* records say how much of the reference was there: of a passkey */
} asker;

/* The sample as the model reads it, in place of what p holds.  EXIT_OK or the exit code after a line on stderr, as
 * task_answer. */
int task_prompt(const options *o, const crit_model *model, const sample *s, prompt *p);
/* A session and the prompt it has read. */
typedef struct reader {
    crit_session *session;
    prompt held;
    crit_stats whole; /* of the last prompt read from its start */
} reader;

void reader_close(reader *r); /* accepts zeros, and leaves them */
/* Reads p in the session, answers, scores.  The record: see doc/QUALITY.md; depth, sizes and names of the sample are
 * the caller's to add.  A further question of a text (s->asked) goes on behind what the session holds of it, and the
 * record tells the reading of the whole (read_tok: what was read now); the bits are those of reading all anew. */
int task_answer(const asker *a, reader *r, const variant *v, const sample *s, const prompt *p, json_t **record);

/* Its second half, behind a prompt that the session has just read: answers, scores, adds to record.  *first_ms: until
 * the first token was chosen. */
int task_generate(const asker *a, crit_session *session, const sample *s, json_t *record, double *first_ms);
void task_put_hash(const prompt *p, json_t *record);
void task_put_stats(const crit_stats *st, json_t *record); /* of the prompt */

#endif
