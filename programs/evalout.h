/* SPDX-License-Identifier: MIT */
/* Where an evaluation's records go: stdout as JSON lines (--json), DIR/results.jsonl (--out DIR), and memory, for the
 * table at the end.  With --out a run that was stopped goes on where it was: records that DIR holds already, of the
 * same settings, are not measured again.
 *
 *     evalout_open -> { evalout_want ? take it : measure, evalout_put } ... -> table from evalout_at -> evalout_close
 */
#ifndef PROG_EVALOUT_H
#define PROG_EVALOUT_H

#include <jansson.h>

#include "options.h"
#include "report.h"

typedef struct evalout evalout;

/* kind: "kl", "ruler"; config: what a record depends on besides its key (model, file sizes, options; takes it).  A DIR
 * of another kind or config is refused.  EXIT_OK or the exit code after a line on stderr (as all of these). */
int evalout_open(evalout **e, const options *o, const char *kind, json_t *config);
/* The finished record of this key ("kl 16384 criti"), borrowed, or NULL. */
const json_t *evalout_find(const evalout *e, const char *key);
/* Likewise, and it is one of this run's from now on. */
const json_t *evalout_want(evalout *e, const char *key);
/* Takes record, adds "key" to it, keeps it, writes it.  Flushed: a kill loses the one being measured at most. */
int evalout_put(evalout *e, const char *key, json_t *record);
/* This run's records, in the order of evalout_put and evalout_want: what else DIR holds, of another text or length, has
 * no place in its tables. */
size_t evalout_n(const evalout *e);
const json_t *evalout_at(const evalout *e, size_t i);
/* Progress with time left on stderr (bar on a terminal, else a line now and then): work in any unit, say tokens to
 * read; what evalout_find found must be counted as done by skip (or left out of total).  A step begins with
 * evalout_step, which ends the one before it; label is borrowed until then. */
void evalout_work(evalout *e, double total);
void evalout_skip(evalout *e, double work);
void evalout_step(evalout *e, double work, const char *label);
/* A crit_progress_fn within a step: user is the evalout. */
int evalout_tick(void *e, double done_tok, uint32_t total_tok);
/* A table or sentence for people: to stdout unless --json, and into the report of --html. Markdown. */
int evalout_text(evalout *e, const buf *markdown);
/* The report, to add pictures to; written by evalout_close when --html was given. */
report *evalout_report(evalout *e);
int evalout_close(evalout **e, int rc); /* rc: what happened so far; frees, accepts NULL */

#endif
