/* SPDX-License-Identifier: MIT */
/* A text of any length through a cache of a fixed size: what a token costs, and how much memory there is, as it goes.
 *     usage: stream MODEL.gguf FILE [POLICY [TOKENS [MARK]]]      POLICY: cascade:C=2048,stride=1024 when not given
 *
 * Prints a line every MARK tokens (100,000): wall and CPU time a token since the last line, peak memory of the process,
 * the model's pages included.  A file that is too short is read again from its start. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime under -std=c11 */
#include <critiprefill/critiprefill.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static double clock_ms(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    long size;
    if (!f) return NULL;
    if (!fseek(f, 0, SEEK_END) && (size = ftell(f)) > 0 && !fseek(f, 0, SEEK_SET) && (text = malloc((size_t)size)))
        *n = fread(text, 1, (size_t)size, f);
    fclose(f);
    return text;
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: stream MODEL.gguf FILE [POLICY [TOKENS [MARK]]]\n"), 2;
    size_t total = argc > 4 ? strtoul(argv[4], NULL, 10) : 1000000,
           mark = argc > 5 ? strtoul(argv[5], NULL, 10) : 100000;
    crit_model *model = NULL;
    crit_session *session = NULL;
    crit_session_params params;
    crit_error err = {.code = CRIT_E_IO, .message = "the file cannot be read, or is empty"};
    int32_t *ids = NULL;
    size_t len = 0, n = 0;
    int rc = 1;
    char *text = read_file(argv[2], &len);

    crit_session_params_init(&params);
    params.prefill = argc > 3 ? argv[3] : "cascade:C=2048,stride=1024";
    if (!text || !mark || crit_model_open(&model, argv[1], NULL, &err)) goto done;
    crit_tokenize(model, text, len, 0, NULL, 0, &n, NULL); /* how many? */
    ids = malloc((n + 1) * sizeof *ids);
    if (!ids || !n || crit_tokenize(model, text, len, 0, ids, n, &n, &err)) goto done;
    if (crit_session_open(&session, model, &params, &err)) goto done;
    printf("%10s %10s %10s %10s\n", "tokens", "wall ms", "CPU ms", "peak MB");
    for (size_t at = 0; at < total;) {
        double wall = clock_ms(CLOCK_MONOTONIC), cpu = clock_ms(CLOCK_PROCESS_CPUTIME_ID);
        size_t stop = at + mark < total ? at + mark : total, from = at;
        while (at < stop) { /* to the mark, or to the end of the file, where it begins again */
            size_t part = stop - at < n - at % n ? stop - at : n - at % n;
            if (crit_prefill(session, ids + at % n, part, NULL, &err)) goto done;
            at += part;
        }
        struct rusage use;
        double n_tok = (double)(at - from);
        getrusage(RUSAGE_SELF, &use);
        printf("%10zu %10.3f %10.3f %10.1f\n", at, (clock_ms(CLOCK_MONOTONIC) - wall) / n_tok,
               (clock_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu) / n_tok, (double)use.ru_maxrss / 1024);
        fflush(stdout);
    }
    rc = 0;
done:
    if (rc) fprintf(stderr, "stream: %s\n", err.message);
    free(text);
    free(ids);
    crit_session_close(&session);
    crit_model_close(&model);
    return rc;
}
