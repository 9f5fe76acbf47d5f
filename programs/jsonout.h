/* SPDX-License-Identifier: MIT */
/* Thin help over jansson: values that cannot be JSON become null or valid UTF-8.  After json_start an allocation that
 * fails ends the program with a message, so that no value needs a check. */
#ifndef PROG_JSONOUT_H
#define PROG_JSONOUT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

void json_start(void);
json_t *json_num(double x); /* null when not finite */
json_t *json_size(size_t n);
json_t *json_hex(uint64_t hash); /* "00c0ffee00c0ffee" */
json_t *json_text(const char *s, size_t n); /* invalid UTF-8 becomes U+FFFD */
json_t *json_cstr(const char *s);
void json_put(json_t *obj, const char *key, json_t *value); /* takes value */
int json_print(json_t *root);                               /* takes root; one line on stdout; an exit code */

#endif
