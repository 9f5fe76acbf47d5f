/* SPDX-License-Identifier: MIT */
/* The process's edges: exit codes, signals, messages on stderr, results on stdout, the clock.
 *
 * The result goes to stdout, everything else to stderr.  The only mutable global of the program is the signal flag. */
#ifndef PROG_TERM_H
#define PROG_TERM_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "critiprefill/critiprefill.h"

enum { EXIT_OK = 0, EXIT_FAIL = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* Opens missing standard descriptors, ignores SIGPIPE, catches SIGINT and SIGTERM (once: the second one kills). */
void term_init(void);
bool term_interrupted(void);
bool term_has_bar(void);     /* stderr is a terminal that can redraw a line */
unsigned term_columns(void); /* of stderr; 80 when unknown */

/* One line on stderr, control characters replaced. */
int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* EXIT_FAIL; silent when interrupted: 130 */
int fail_with(const crit_error *err);                                 /* the library's message, likewise */
int fail_memory(void);
int usage(const char *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* EXIT_USAGE */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* To stdout, at once and completely.  EXIT_OK; EXIT_FAIL with a message (none for a closed pipe); 130. */
int out_write(const char *s, size_t n);
int out_buf(buf *b); /* writes and empties b */

double now_ms(void); /* monotonic */

#endif
