/* SPDX-License-Identifier: MIT */
/* Tables, heat maps and curves of a suite, from its records, to stdout and into the report. */
#ifndef PROG_SUITE_REPORT_H
#define PROG_SUITE_REPORT_H

#include "suite_figures.h"

/* subject: what was measured, for the heading ("model, cpu, n threads").  EXIT_OK or the exit code after a line. */
int suite_report(const suite *s, evalout *e, const char *subject);

#endif
