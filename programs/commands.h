/* SPDX-License-Identifier: MIT */
/* The subcommands: each takes checked options and returns the exit code. */
#ifndef PROG_COMMANDS_H
#define PROG_COMMANDS_H

#include "options.h"

int run_main(const options *o);
int bench_main(const options *o);
int tokenize_main(const options *o);
int info_main(const options *o);
int policies_main(const options *o);
int cluster_main(const options *o);

#endif
