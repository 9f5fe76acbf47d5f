/* SPDX-License-Identifier: MIT */
/* NumPy's .npy files, version 1.0, written row by row: numpy.load reads them. */
#ifndef PROG_NPY_H
#define PROG_NPY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum npy_type { NPY_F32, NPY_I32, NPY_I64 } npy_type;
enum { NPY_MAX_DIM = 4 };

typedef struct npy {
    FILE *f;
    char *path;
    npy_type type;
    size_t dim[NPY_MAX_DIM], n_dim; /* dim[0] counts what was written */
} npy;

/* dim[1..n_dim) is the shape of a row; dim[0] is ignored.  EXIT_OK or EXIT_FAIL after a line on stderr (as all of
 * these); on failure f is NULL. */
int npy_open(npy *a, const char *path, npy_type type, const size_t *dim, size_t n_dim);
/* n rows, one behind the other. */
int npy_write(npy *a, const void *rows, size_t n);
/* n rows of consecutive values that lie stride values apart. */
int npy_write_strided(npy *a, const void *rows, size_t n, size_t stride);
/* Writes the header with the number of rows.  Accepts one that was never opened. */
int npy_close(npy *a);
/* Gives up: closes and removes the file.  Likewise. */
void npy_drop(npy *a);

#endif
