/* SPDX-License-Identifier: MIT */
/* Files are written beside their names and renamed when they are whole. */
#ifndef PROG_PART_H
#define PROG_PART_H

#include "buf.h"

/* Where path is written until then, by a name of this run's own.  Empty: to path itself, which is there and no regular
 * file (a device, a pipe, a link).  oom is the caller's to look at. */
buf part_name(const char *path);

#endif
