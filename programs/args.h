/* SPDX-License-Identifier: MIT */
/* Command lines by table: one row an option, for the commands in its mask, stored at an offset of the caller's
 * struct.  The same rows print the help.  Numbers are read strictly: whole, in range, nothing behind them. */
#ifndef PROG_ARGS_H
#define PROG_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

typedef struct str_list {
    const char **v; /* allocated by args_parse, freed by the struct's owner */
    size_t n;
} str_list;

typedef struct u32_list {
    uint32_t v[32];
    size_t n;
} u32_list;

typedef enum opt_kind {
    OPT_FLAG,    /* bool, set to true */
    OPT_STR,     /* const char * */
    OPT_STRS,    /* str_list, may repeat */
    OPT_I32,     /* int32_t in [lo, hi] */
    OPT_U32,     /* uint32_t in [lo, hi] */
    OPT_U64,     /* uint64_t */
    OPT_F32,     /* float in [lo, hi] */
    OPT_U32S,    /* u32_list, comma separated, each in [lo, hi] */
    OPT_CHOICE,  /* uint32_t, index in choices */
    OPT_CHOICES, /* u32_list of them, comma separated, each once */
    OPT_FIELDS   /* key=value,... of the fields table, relative to the offset; may repeat */
} opt_kind;

/* A named number of a params struct, for OPT_FIELDS. */
typedef struct field {
    const char *key;
    opt_kind kind; /* OPT_U32 or OPT_F32 */
    size_t at;
    double lo, hi;
    uint32_t multiple; /* value must be one of it; 0, 1 = any */
    unsigned tag;      /* the table owner's */
    const char *help;
} field;

typedef struct opt {
    unsigned cmds;
    const char *name[4]; /* short first, then long; "": what stands alone, once (OPT_STR) */
    const char *arg;     /* what help calls the value; NULL for flags */
    const char *help;    /* lines separated by \n */
    opt_kind kind;
    size_t at;
    double lo, hi;
    const char *const *choices; /* NULL-terminated */
    const field *fields;        /* ended by key NULL */
} opt;

/* Reads argv[0..argc) into base by the rows of cmd (table ended by cmds 0).  EXIT_OK, or EXIT_USAGE after one line on
 * stderr.  *help is set, and reading stops, at -h or --help. */
int args_parse(const opt *table, unsigned cmd, const char *cmd_name, int argc, char **argv, void *base, bool *help);
/* One "key=value" into the struct at base.  false: what is wrong with it stands in why [cap]. */
bool args_field(const field *fields, const char *part, void *base, char *why, size_t cap);
/* The rows of cmd as an aligned list. */
void args_help(const opt *table, unsigned cmd, buf *out);

#endif
