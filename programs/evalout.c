/* SPDX-License-Identifier: MIT */
/* See evalout.h.  DIR/results.jsonl begins with a line {"kind", "config"}; every other line is a record.  A line that
 * a kill cut short is dropped when the file is opened again.  The file is locked while a run writes to it. */
#include "evalout.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "files.h"
#include "jsonout.h"
#include "term.h"

enum { FIRST_MS = 1000, BAR_MS = 100, LINE_MS = 30000, MAX_BAR = 32 };

struct evalout {
    const options *o;
    const char *kind;
    json_t *records; /* array: all of the file */
    json_t *by_key;  /* key -> record */
    json_t *mine;    /* array: those that this run has asked for or made */
    json_t *is_mine; /* their keys */
    int rc;          /* of printing what was found */
    char *path;      /* of the records; NULL without --out */
    int fd;
    report report;
    /* progress */
    double total, done, found; /* work: all, finished steps (with those found), found by skip */
    double step, step_done;    /* of the step under way */
    const char *label;
    double start_ms, last_ms;
    bool shown;
};

/* ---- records ---- */

static char *line_of(const json_t *j) {
    return json_dumps(j, JSON_REAL_PRECISION(9) | JSON_COMPACT);
}

/* As it looks after having been written and read. */
static json_t *as_read(json_t *j) {
    char *s = line_of(j);
    json_t *back = s ? json_loads(s, 0, NULL) : NULL;
    free(s);
    json_decref(j);
    return back ? back : json_object();
}

static void keep(evalout *e, json_t *record) {
    const json_t *key = json_object_get(record, "key");
    if (json_is_string(key)) json_object_set(e->by_key, json_string_value(key), record);
    json_array_append_new(e->records, record);
}

static void claim(evalout *e, const char *key, json_t *record) {
    json_object_set_new(e->is_mine, key, json_true());
    json_array_append(e->mine, record);
}

static int append_line(const evalout *e, const json_t *j) {
    buf b = {0};
    char *s = line_of(j);
    if (s) buf_str(&b, s);
    buf_str(&b, "\n");
    free(s);
    int rc = s && !b.oom ? EXIT_OK : fail_memory();
    for (size_t at = 0; at < b.n && !rc;) {
        ssize_t w = write(e->fd, b.s + at, b.n - at);
        if (w > 0)
            at += (size_t)w;
        else if (w == 0 || errno != EINTR)
            rc = fail("%s: %s", e->path, strerror(errno));
    }
    buf_free(&b);
    return rc;
}

static int check_head(const evalout *e, const json_t *head, const json_t *config) {
    const char *key, *kind = json_string_value(json_object_get(head, "kind"));
    const json_t *theirs = json_object_get(head, "config");
    if (!kind || !json_is_object(theirs)) return fail("%s: not a file of records", e->path);
    if (strcmp(kind, e->kind)) return fail("%s: holds records of eval %s, not of %s", e->path, kind, e->kind);
    /* Both ways, so that the first difference can be named. */
    const json_t *from[2] = {config, theirs}, *in[2] = {theirs, config};
    for (int side = 0; side < 2; side++) {
        for (void *it = json_object_iter((json_t *)from[side]); it;
             it = json_object_iter_next((json_t *)from[side], it)) {
            key = json_object_iter_key(it);
            if (!json_equal(json_object_iter_value(it), json_object_get(in[side], key)))
                return fail("%s: its records were made with other settings (%s differs); name another --out", e->path,
                            key);
        }
    }
    return EXIT_OK;
}

/* Reads what is there and cuts off a last line that was not finished. */
static int load(evalout *e, const json_t *config) {
    buf text = {0};
    int rc = file_read(e->path, &text);
    size_t at = 0, n_line = 0;
    while (!rc && at < text.n) {
        const char *end = memchr(text.s + at, '\n', text.n - at);
        if (!end) break;
        json_t *j = json_loadb(text.s + at, (size_t)(end - text.s) - at, 0, NULL);
        n_line++;
        if (!json_is_object(j)) {
            json_decref(j);
            rc = fail("%s: line %zu is not a JSON object", e->path, n_line);
            break;
        }
        if (n_line == 1) {
            rc = check_head(e, j, config);
            json_decref(j);
        } else {
            keep(e, j);
        }
        at = (size_t)(end - text.s) + 1;
    }
    if (!rc && at < text.n && ftruncate(e->fd, (off_t)at)) rc = fail("%s: %s", e->path, strerror(errno));
    if (!rc && n_line == 0) {
        json_t *head = json_object();
        json_put(head, "kind", json_cstr(e->kind));
        json_put(head, "config", json_deep_copy(config));
        rc = append_line(e, head);
        json_decref(head);
    }
    buf_free(&text);
    return rc;
}

static int open_dir(evalout *e, const json_t *config) {
    const char *dir = e->o->out_dir;
    buf path = {0};
    buf_fmt(&path, "%s/results.jsonl", dir);
    if (path.oom) return fail_memory();
    e->path = path.s;
    if (mkdir(dir, 0777) && errno != EEXIST) return fail("%s: %s", dir, strerror(errno));
    e->fd = open(e->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (e->fd < 0) return fail("%s: %s", e->path, strerror(errno));
    if (flock(e->fd, LOCK_EX | LOCK_NB)) {
        if (errno == EWOULDBLOCK) return fail("%s: another run is writing to it", e->path);
        if (errno != ENOLCK && errno != EOPNOTSUPP) return fail("%s: %s", e->path, strerror(errno));
    }
    return load(e, config);
}

int evalout_open(evalout **out, const options *o, const char *kind, json_t *config) {
    evalout *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e) {
        json_decref(config);
        return fail_memory();
    }
    config = as_read(config);
    *e = (evalout){.o = o, .kind = kind, .fd = -1, .label = ""};
    e->records = json_array();
    e->by_key = json_object();
    e->mine = json_array();
    e->is_mine = json_object();
    e->start_ms = e->last_ms = now_ms();
    int rc = o->html ? bench_check_plot(o->html) : EXIT_OK;
    if (!rc && o->out_dir) rc = open_dir(e, config);
    json_decref(config);
    size_t n = json_array_size(e->records);
    if (!rc && n && !o->no_progress) note("%s: %zu record%s found", e->path, n, n > 1 ? "s" : "");
    if (rc) evalout_close(&e, rc);
    *out = e;
    return rc;
}

const json_t *evalout_find(const evalout *e, const char *key) {
    return json_object_get(e->by_key, key);
}

const json_t *evalout_want(evalout *e, const char *key) {
    json_t *record = json_object_get(e->by_key, key);
    if (!record || json_object_get(e->is_mine, key)) return record;
    claim(e, key, record);
    if (e->o->json && !e->rc) e->rc = json_print(json_incref(record));
    return record;
}

static void hide(evalout *e) {
    if (e->shown) fputs("\r\033[K", stderr);
    e->shown = false;
}

int evalout_put(evalout *e, const char *key, json_t *record) {
    json_put(record, "key", json_cstr(key));
    record = as_read(record); /* with the digits of the file, so that a table made of it later is the same */
    keep(e, record);
    claim(e, key, record);
    hide(e);
    int rc = e->fd >= 0 ? append_line(e, record) : EXIT_OK;
    return !rc && e->o->json ? json_print(json_incref(record)) : rc;
}

size_t evalout_n(const evalout *e) {
    return json_array_size(e->mine);
}

const json_t *evalout_at(const evalout *e, size_t i) {
    return json_array_get(e->mine, i);
}

/* ---- progress ---- */

void evalout_work(evalout *e, double total) {
    e->total = total;
}

void evalout_skip(evalout *e, double work) {
    e->done += work;
    e->found += work;
}

void evalout_step(evalout *e, double work, const char *label) {
    e->done += e->step;
    e->step = work;
    e->step_done = 0;
    e->label = label;
    evalout_tick(e, 0, 1);
}

/* "12 %  16384 criti  3 min 20 s left" */
static int say(const evalout *e, double t, char *text, size_t cap) {
    double at = e->done + e->step_done, total = fmax(e->total, at), new_work = at - e->found;
    double left = new_work > 0 ? (total - at) / new_work * (t - e->start_ms) / 1e3 : 0;
    int n = snprintf(text, cap, "eval %s %3.0f %%  %s", e->kind, total > 0 ? 100 * at / total : 0, e->label);
    if (n < 0 || (size_t)n >= cap || !(left > 0)) return n;
    if (left >= 3600)
        return n + snprintf(text + n, cap - (size_t)n, "  %.0f h %02.0f min left", floor(left / 3600),
                            floor(fmod(left, 3600) / 60));
    if (left >= 60)
        return n +
               snprintf(text + n, cap - (size_t)n, "  %.0f min %02.0f s left", floor(left / 60), floor(fmod(left, 60)));
    return n + snprintf(text + n, cap - (size_t)n, "  %.0f s left", ceil(left));
}

static void draw(evalout *e, double t) {
    char text[200], bar[MAX_BAR + 1];
    int n = say(e, t, text, sizeof text), room = (int)term_columns() - 1 - n - 3;
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = '?';
    if (room >= 8) {
        int width = room < MAX_BAR ? room : MAX_BAR;
        double share = e->total > 0 ? (e->done + e->step_done) / e->total : 0;
        int full = (int)(width * fmin(share, 1));
        memset(bar, ' ', (size_t)width);
        memset(bar, '=', (size_t)full);
        bar[width] = 0;
        fprintf(stderr, "\r\033[K[%s] %s", bar, text);
    } else {
        fprintf(stderr, "\r\033[K%.*s", (int)term_columns() - 1, text);
    }
    e->shown = true;
}

int evalout_tick(void *user, double done_tok, uint32_t total_tok) {
    evalout *e = user;
    if (term_interrupted()) return 1;
    if (total_tok) e->step_done = e->step * fmin(done_tok / total_tok, 1);
    double t = now_ms();
    bool bar = term_has_bar();
    if (e->o->no_progress || t - e->start_ms < FIRST_MS || t - e->last_ms < (bar ? BAR_MS : LINE_MS)) return 0;
    e->last_ms = t;
    if (bar) {
        draw(e, t);
    } else {
        char text[200];
        say(e, t, text, sizeof text);
        note("%s", text);
    }
    return 0;
}

/* ---- the end ---- */

int evalout_text(evalout *e, const buf *markdown) {
    if (markdown->oom) return fail_memory();
    if (!markdown->n) return EXIT_OK;
    hide(e);
    report_markdown(&e->report, markdown->s);
    return e->o->json ? EXIT_OK : out_write(markdown->s, markdown->n);
}

report *evalout_report(evalout *e) {
    return &e->report;
}

static int write_html(const evalout *e) {
    buf title = {0}, page = {0};
    buf_fmt(&title, "critiprefill eval %s, %s", e->kind, e->o->model);
    report_page(&e->report, title.oom ? "" : title.s, &page);
    int rc = e->report.body.oom ? fail_memory() : file_write(e->o->html, &page);
    buf_free(&title);
    buf_free(&page);
    return rc;
}

int evalout_close(evalout **out, int rc) {
    evalout *e = *out;
    *out = NULL;
    if (!e) return rc;
    hide(e);
    if (!rc) rc = e->rc;
    if (!rc && e->o->html) rc = write_html(e);
    if (e->fd >= 0 && close(e->fd) && !rc) rc = fail("%s: %s", e->path, strerror(errno));
    report_free(&e->report);
    json_decref(e->records);
    json_decref(e->by_key);
    json_decref(e->mine);
    json_decref(e->is_mine);
    free(e->path);
    free(e);
    return rc;
}
