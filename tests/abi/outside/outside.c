/* SPDX-License-Identifier: MIT */
/* A program of somebody else's: includes both tiers, links the installed library, prints its version. */
#include <critiprefill/attention.h>
#include <critiprefill/critiprefill.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    crit_engine *engine = NULL;
    crit_error err;
    if (crit_engine_open(&engine, "c", 1, &err) != CRIT_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    crit_engine_close(&engine);
    puts(crit_version());
    return strcmp(crit_version(), CRIT_VERSION_STRING) != 0;
}
