/* SPDX-License-Identifier: MIT */
/* See baselogits.h.  Little-endian, as every machine this runs on. */
#include "baselogits.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "part.h"
#include "term.h"

enum { HEAD_BYTES = 20, LEVELS = 65535, RANGE = 16 };
static const char magic[8] = {'_', 'l', 'o', 'g', 'i', 't', 's', '_'};

static size_t row_len(uint32_t n_vocab) {
    return 4 + ((size_t)n_vocab + 1) / 2 * 2;
}

static uint32_t n_row(const baselogits *b) {
    return b->n_ctx - 1 - b->n_ctx / 2;
}

static int bad(const baselogits *b, const char *why) {
    return fail("%s: %s", b->path, why);
}

static int read_head(baselogits *b) {
    unsigned char head[HEAD_BYTES];
    if (fread(head, 1, sizeof head, b->f) != sizeof head || memcmp(head, magic, sizeof magic))
        return bad(b, "not a file of saved logits");
    memcpy(&b->n_ctx, head + 8, 4);
    memcpy(&b->n_vocab, head + 12, 4);
    memcpy(&b->n_chunk, head + 16, 4);
    if (b->n_ctx < BASE_CTX_MIN || b->n_ctx > 1u << 30 || !b->n_vocab || b->n_vocab > 1u << 30 || !b->n_chunk ||
        b->n_chunk > 1u << 30)
        return bad(b, "not a file of saved logits");
    /* 2^60 tokens and 2^60 rows of 2^32 bytes fit no file: told from its size before anything is allocated. */
    struct stat st;
    if (fstat(fileno(b->f), &st)) return bad(b, strerror(errno));
    b->row_len = row_len(b->n_vocab);
    double need = HEAD_BYTES + (double)b->n_chunk * (4.0 * b->n_ctx + 2.0 * (double)b->row_len * n_row(b));
    if ((double)st.st_size < need) return bad(b, "truncated");
    size_t n_id = (size_t)b->n_chunk * b->n_ctx;
    b->at = HEAD_BYTES + 4ull * n_id;
    b->ids = malloc(n_id * sizeof *b->ids);
    b->row = malloc(b->row_len * sizeof *b->row);
    if (!b->ids || !b->row) return fail_memory();
    if (fread(b->ids, sizeof *b->ids, n_id, b->f) != n_id) return bad(b, "truncated");
    for (size_t i = 0; i < n_id; i++)
        if (b->ids[i] < 0 || (uint32_t)b->ids[i] >= b->n_vocab) return bad(b, "a token is outside its vocabulary");
    return EXIT_OK;
}

int base_open(baselogits *b, const char *path) {
    *b = (baselogits){.path = path, .f = fopen(path, "rbe")};
    return b->f ? read_head(b) : bad(b, strerror(errno));
}

int base_create(baselogits *b, const char *path, uint32_t n_ctx, uint32_t n_vocab, uint32_t n_chunk,
                const int32_t *ids) {
    *b = (baselogits){.path = path, .n_ctx = n_ctx, .n_vocab = n_vocab, .n_chunk = n_chunk};
    b->row_len = row_len(n_vocab);
    b->row = calloc(b->row_len, sizeof *b->row);
    if (!b->row) return fail_memory();
    b->writing = true;
    buf part = part_name(path);
    if (part.oom) return fail_memory();
    b->part = part.s;
    b->f = fopen(b->part ? b->part : path, "wbe");
    if (!b->f) return bad(b, strerror(errno));
    size_t n_id = (size_t)n_chunk * n_ctx;
    uint32_t head[3] = {n_ctx, n_vocab, n_chunk};
    bool ok = fwrite(magic, sizeof magic, 1, b->f) == 1 && fwrite(head, sizeof head, 1, b->f) == 1 &&
              fwrite(ids, sizeof *ids, n_id, b->f) == n_id;
    return ok ? EXIT_OK : bad(b, strerror(errno));
}

int base_write(baselogits *b, const float *x, const klrow *s) {
    float least = s->max;
    for (size_t i = 0; i < b->n_vocab; i++) least = x[i] < least ? x[i] : least;
    const float floor_at = least > s->max - RANGE ? least : s->max - RANGE, range = s->max - floor_at;
    const float scale = range / LEVELS, low = (float)((double)(floor_at - s->max) - s->log_sum);
    const float per_level = range > 0 ? LEVELS / range : 0;
    uint16_t *level = b->row + 4;
    for (size_t i = 0; i < b->n_vocab; i++) {
        float above = x[i] > floor_at ? x[i] - floor_at : 0;
        level[i] = (uint16_t)(int)(above * per_level + 0.5f);
    }
    memcpy(b->row, &scale, sizeof scale);
    memcpy(b->row + 2, &low, sizeof low);
    return fwrite(b->row, sizeof *b->row, b->row_len, b->f) == b->row_len ? EXIT_OK : bad(b, strerror(errno));
}

int base_read(baselogits *b, size_t chunk, uint32_t pos) {
    unsigned long long row = (unsigned long long)chunk * n_row(b) + (pos - b->n_ctx / 2);
    off_t at = (off_t)(b->at + row * b->row_len * sizeof *b->row);
    /* Rows come in order but for the start of another attention: most seeks stay where they are. */
    if (ftello(b->f) != at && fseeko(b->f, at, SEEK_SET)) return bad(b, strerror(errno));
    return fread(b->row, sizeof *b->row, b->row_len, b->f) == b->row_len ? EXIT_OK : bad(b, "truncated");
}

int base_close(baselogits *b, int rc) {
    const bool opened = b->f;
    if (opened && fclose(b->f) && b->writing && !rc) rc = bad(b, strerror(errno));
    if (opened && b->part) {
        if (!rc && rename(b->part, b->path)) rc = bad(b, strerror(errno));
        if (rc) unlink(b->part);
    }
    free(b->part);
    free(b->ids);
    free(b->row);
    *b = (baselogits){0};
    return rc;
}

/* ---- the row read last ---- */

typedef struct steps {
    float scale, low;
} steps;

static steps steps_of(const baselogits *b) {
    steps s;
    memcpy(&s.scale, b->row, sizeof s.scale);
    memcpy(&s.low, b->row + 2, sizeof s.low);
    return s;
}

double base_nll(const baselogits *b, uint32_t id) {
    steps s = steps_of(b);
    return -((double)s.scale * b->row[4 + id] + (double)s.low);
}

uint32_t base_best(const baselogits *b) {
    const uint16_t *level = b->row + 4;
    uint16_t top = 0;
    uint32_t at = 0;
    for (size_t i = 0; i < b->n_vocab; i++) top = level[i] > top ? level[i] : top;
    while (level[at] != top) at++;
    return at;
}

double base_kl(const baselogits *b, const float *q, const klrow *qs) {
    const steps s = steps_of(b);
    const uint16_t *level = b->row + 4;
    const float log_sum = (float)qs->log_sum;
    klrow_sum sum = {{0}};
    float p[KLROW_BLOCK], t[KLROW_BLOCK];
    for (size_t i = 0; i < b->n_vocab; i += KLROW_BLOCK) {
        size_t n = b->n_vocab - i < KLROW_BLOCK ? b->n_vocab - i : KLROW_BLOCK;
        for (size_t j = 0; j < n; j++) {
            p[j] = s.scale * level[i + j] + s.low;
            t[j] = p[j] - (q[i + j] - qs->max - log_sum);
        }
        for (size_t j = 0; j < n; j++) t[j] = p[j] > -RANGE ? t[j] : 0;
        for (size_t j = 0; j < n; j++) p[j] = p[j] > -RANGE ? p[j] : -RANGE;
        for (size_t j = n; j < KLROW_BLOCK; j++) p[j] = t[j] = 0;
        for (size_t j = 0; j < KLROW_BLOCK; j++) t[j] *= klrow_exp(p[j]); /* a loop of its own: see klrow.c */
        klrow_add(&sum, t);
    }
    return klrow_total(&sum);
}
