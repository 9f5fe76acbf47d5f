/* SPDX-License-Identifier: MIT */
/* The page of inspect. */
#ifndef PROG_INSPECT_PAGE_H
#define PROG_INSPECT_PAGE_H

#include "buf.h"
#include "inspect_collect.h"
#include "prompt.h"

/* The whole page.  EXIT_OK or the exit code after a line on stderr. */
int inspect_page(const collected *c, const crit_model *model, const char *model_name, const char *attn,
                 const prompt *text, buf *out);

#endif
