/* SPDX-License-Identifier: MIT */
/* Whole files and the text a command reads. */
#ifndef PROG_FILES_H
#define PROG_FILES_H

#include "buf.h"
#include "options.h"

/* Appends a file ("-": stdin).  EXIT_OK, or the exit code after a line on stderr. */
int file_read(const char *path, buf *out);
/* The files in order as they are, then the prompt; a file that ends within a line is ended before the prompt. */
int text_read(const options *o, buf *out);
/* What errors call that text: its first file, stdin or -p. */
const char *text_name(const options *o);
/* No file that is written may be one that is read (the model, say): it would be replaced. */
int outputs_apart(const options *o);
/* critiprefill's own documents and sources, from the source tree or the installed copy. */
int text_own(buf *out);
/* Writes s to path; a file that is there is replaced when all is written, and stays as it is on failure. */
int file_write(const char *path, const buf *s);

#endif
