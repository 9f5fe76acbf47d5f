/* SPDX-License-Identifier: MIT */
/* Version of the headers; compare crit_version() to find a mismatched shared library. */
#ifndef CRITIPREFILL_VERSION_H
#define CRITIPREFILL_VERSION_H

#define CRIT_VERSION_MAJOR  0
#define CRIT_VERSION_MINOR  1
#define CRIT_VERSION_PATCH  0
#define CRIT_VERSION_STRING "0.1.0"

#endif
