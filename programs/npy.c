/* SPDX-License-Identifier: MIT */
/* See npy.h.  The header has a fixed length, so that it can be written once more at the end with the number of rows. */
#include "npy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "term.h"

enum { HEADER = 192 }; /* a multiple of 64; long enough for four sizes of 20 digits */

static const struct {
    size_t bytes;
    char kind;
} type_of[] = {{4, 'f'}, {4, 'i'}, {8, 'i'}};

static int failed(npy *a) {
    const int why = errno;
    const int rc = fail("%s: %s", a->path, strerror(why));
    npy_drop(a);
    return rc;
}

static int put_header(npy *a) {
    char head[HEADER + 1], shape[NPY_MAX_DIM * 22 + 1] = "";
    size_t at = 0;
    for (size_t i = 0; i < a->n_dim; i++)
        at += (size_t)snprintf(shape + at, sizeof shape - at, i + 1 < a->n_dim || i == 0 ? "%zu, " : "%zu", a->dim[i]);
    const uint16_t one = 1;
    const char order = *(const unsigned char *)&one ? '<' : '>';
    memset(head, ' ', HEADER);
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = (char)((HEADER - 10) & 0xFF);
    head[9] = (char)((HEADER - 10) >> 8);
    const int n = snprintf(head + 10, HEADER - 10, "{'descr': '%c%c%zu', 'fortran_order': False, 'shape': (%s), }",
                           order, type_of[a->type].kind, type_of[a->type].bytes, shape);
    head[10 + n] = ' ';
    head[HEADER - 1] = '\n';
    return fwrite(head, 1, HEADER, a->f) == HEADER ? EXIT_OK : failed(a);
}

int npy_open(npy *a, const char *path, npy_type type, const size_t *dim, size_t n_dim) {
    *a = (npy){.type = type, .n_dim = n_dim, .path = strdup(path)};
    if (!a->path) return fail_memory();
    for (size_t i = 1; i < n_dim; i++) a->dim[i] = dim[i];
    a->f = fopen(path, "wb");
    return a->f ? put_header(a) : failed(a);
}

static size_t row_bytes(const npy *a) {
    size_t n = type_of[a->type].bytes;
    for (size_t i = 1; i < a->n_dim; i++) n *= a->dim[i];
    return n;
}

int npy_write(npy *a, const void *rows, size_t n) {
    const size_t bytes = row_bytes(a) * n;
    if (bytes && fwrite(rows, 1, bytes, a->f) != bytes) return failed(a);
    a->dim[0] += n;
    return EXIT_OK;
}

int npy_write_strided(npy *a, const void *rows, size_t n, size_t stride) {
    const char *p = rows;
    int rc = EXIT_OK;
    for (size_t i = 0; i < n && !rc; i++) rc = npy_write(a, p + i * stride * type_of[a->type].bytes, 1);
    return rc;
}

int npy_close(npy *a) {
    if (!a->f) return EXIT_OK;
    if (fseek(a->f, 0, SEEK_SET)) return failed(a);
    const int rc = put_header(a);
    if (rc) return rc;
    FILE *f = a->f;
    a->f = NULL;
    if (fclose(f)) {
        const int why = errno;
        unlink(a->path);
        errno = why;
        return failed(a);
    }
    npy_drop(a);
    return EXIT_OK;
}

void npy_drop(npy *a) {
    if (a->f) {
        fclose(a->f);
        unlink(a->path);
    }
    free(a->path);
    *a = (npy){0};
}
